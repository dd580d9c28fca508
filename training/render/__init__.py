# SPDX-License-Identifier: Apache-2.0
"""Renders RGB-D training frames from freely licensed game tracks and furniture; see docs/rendering.md."""
