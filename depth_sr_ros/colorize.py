# SPDX-License-Identifier: Apache-2.0
"""A depth image as a colour picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.metrics import valid_mask

# uint8 (256, 3) RGB, cold first.
COLORS: npt.NDArray[np.uint8] = np.ascontiguousarray(
    cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_TURBO).reshape(256, 3)[:, ::-1]
)
TAIL_PERCENT = 2  # of the valid pixels: so many are nearer than an automatic range, and as many farther
MIN_SPAN_M = 1e-9  # of a range, which a frame of one depth would not have


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

    `lo` and `hi` (metres) are the depths of the warmest and of the coldest colour. Give them to colour
    several images alike. By default they are those of the n valid pixels, in order, that have
    floor((n - 1) * TAIL_PERCENT / 100) others before or after them. A pixel's colour is row
    rint(clip((hi - depth) * (255 / (hi - lo)), 0, 255)) of COLORS, each step in float32:
    models/output_maps.py does the same on a GPU, bit for bit.
    """
    depth = np.asarray(depth, np.float32)
    valid = valid_mask(depth)
    measured = depth[valid]
    if not measured.size:
        return np.zeros((*depth.shape, 3), np.uint8)
    if lo is None or hi is None:
        last = measured.size - 1
        tail = last * TAIL_PERCENT // 100
        measured.partition((tail, last - tail))
        lo = measured[tail] if lo is None else lo
        hi = measured[last - tail] if hi is None else hi
    near, far = np.float32(lo), np.float32(hi)
    scale = np.float32(255) / max(far - near, np.float32(MIN_SPAN_M))
    with np.errstate(over="ignore"):  # what float32 cannot hold is far beyond the range
        level = (far - np.where(valid, depth, far)) * scale
    np.rint(np.clip(level, 0, 255, out=level), out=level)
    out = np.asarray(cv2.applyColorMap(level.astype(np.uint8), COLORS[:, None]), np.uint8)
    out[~valid] = 0
    return out
