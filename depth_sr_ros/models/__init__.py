# SPDX-License-Identifier: Apache-2.0
"""The networks (torch): NAFNet blocks, AdaIN fusion, fusion U-Net, Depth Anything guide, checkpoints."""
