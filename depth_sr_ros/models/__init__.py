# SPDX-License-Identifier: Apache-2.0
"""The networks (torch): NAFNet blocks, AdaIN fusion, the fusion U-Net, the Depth Anything guide, checkpoints."""
