# SPDX-License-Identifier: Apache-2.0
"""A depth image as a colour picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.metrics import valid_mask


def depth_range(depth: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Depths, metres, from which and to which several images beside `depth` are coloured alike."""
    if not np.isfinite(depth).any():
        return 0.0, 1.0
    low, high = np.nanpercentile(depth, (1, 99))
    return float(low), float(high)


def colorize(
    depth: npt.NDArray[np.floating], lo: float | None = None, hi: float | None = None
) -> npt.NDArray[np.uint8]:
    """Colour a depth image (HxW metres): uint8 HxWx3 RGB, turbo, near = warm, invalid = black.

    `lo` and `hi` (metres) are the depths of the warmest and of the coldest colour; by default the 2nd
    and the 98th percentile of the valid pixels. Give them to colour several images alike.
    """
    valid = valid_mask(depth)
    if not valid.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    measured = depth[valid]
    near = float(np.percentile(measured, 2)) if lo is None else lo
    far = float(np.percentile(measured, 98)) if hi is None else hi
    span = max(far - near, 1e-9)
    warmth = np.clip((far - np.where(valid, depth, far)) / span, 0, 1)
    bgr = cv2.applyColorMap(np.round(255 * warmth).astype(np.uint8), cv2.COLORMAP_TURBO)
    out = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8)
    out[~valid] = 0
    return out
