# SPDX-License-Identifier: Apache-2.0
"""Whether depth edges lie on RGB edges: the shift at which their gradients fit best, where that is clear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from depth_sr_ros.bag_pairs import depth_metres, rgb_pixels
from depth_sr_ros.doctor.findings import Finding, Severity
from depth_sr_ros.doctor.samples import Picture, Samples
from depth_sr_ros.errors import FrameError
from depth_sr_ros.metrics import depth_edges

WORK_WIDTH = 160  # both gradients are compared at this width at most
MIN_WIDTH = 32  # fewer columns have no edges to compare
LARGEST_SHIFT = 12  # pixels of that image, each way
# Most RGB edges are no depth edges: aligned images correlate at 0.1 to 0.4, images of two scenes at 0.08 or
# less at their best shift, which stands 3.7 standard deviations or less out of the others; that of aligned
# images 5.5 or more. (The demo's sequence and two Middlebury scenes, at x4 through the sensors of
# sensor_profiles.py.)
MIN_CORRELATION = 0.1
MIN_PROMINENCE = 5.0
# A step of the depth, of itself, that is the outline of something.
EDGE_RANGE = 0.08
# Strong edges would outweigh all others: gradients above this percentile count as this much.
CLIP_PERCENTILE = 95
# Pixels: without what varies more slowly, texture here and none there, edges alone are left.
HIGH_PASS_SIGMA = 4.0
# Pixels of the compared image. Below, the interpolation of coarse depth explains it.
SOME_SHIFT, LARGE_SHIFT = 2.0, 4.0


class Shift(NamedTuple):
    """RGB edges lie `x`, `y` pixels right of and below the depth's, in pixels of the depth image."""

    x: float
    y: float
    work_pixels: float
    """Its length in pixels of the images that were compared."""
    correlation: float
    prominence: float

    @property
    def is_conclusive(self) -> bool:
        """Whether the images have enough edges in common to say so."""
        return self.correlation >= MIN_CORRELATION and self.prominence >= MIN_PROMINENCE


def check_alignment(samples: Samples) -> Iterator[Finding]:
    """The shift between the edges of RGB and depth, over all sampled pairs."""
    if samples.rgb is None or samples.depth is None or samples.register:
        return
    shift = estimate_shift(_pictures(samples))
    if shift is None:
        reason = "no pair has enough pixels and edges" if samples.pairs.items else "nothing pairs"
        text = f"the edges of RGB and depth were not compared: {reason}"
        yield Finding("alignment", Severity.NOTE, text)
        return
    values = {
        "shift_x": round(shift.x, 2),
        "shift_y": round(shift.y, 2),
        "correlation": round(shift.correlation, 3),
        "prominence": round(shift.prominence, 2),
    }
    where = f"by {shift.x:+.1f}, {shift.y:+.1f} depth pixels (right, down)"
    if not shift.is_conclusive:
        yield Finding(
            "alignment",
            Severity.NOTE,
            f"not conclusive: the edges of RGB and depth have too little in common (correlation "
            f"{shift.correlation:.2f})",
            "point the camera at things with clear outlines and run it again",
            values,
        )
    elif shift.work_pixels < SOME_SHIFT:
        text = f"depth edges lie on RGB edges (correlation {shift.correlation:.2f})"
        yield Finding("alignment", Severity.OK, text, values=values)
    else:
        yield Finding(
            "alignment",
            Severity.PROBLEM if shift.work_pixels >= LARGE_SHIFT else Severity.WARNING,
            f"RGB edges lie beside the depth's {where} (correlation {shift.correlation:.2f})",
            "have the driver align the depth with the RGB, or set register to true; where both are done, "
            "calibrate the cameras anew; where it shows in motion only, look at clocks",
            values,
        )


def estimate_shift(pairs: list[tuple[Picture, Picture]]) -> Shift | None:
    """The shift of (uint8 HxWx3, float32 hxw metres) pairs of one size; None where they are too small."""
    total: Picture | None = None
    number, scale = 0, 1.0
    for rgb, depth in pairs:
        width = min(depth.shape[1], rgb.shape[1], WORK_WIDTH)
        height = round(depth.shape[0] * width / depth.shape[1])
        if min(width, height) < MIN_WIDTH:
            continue
        scores = _scores(rgb, depth, (width, height))
        if scores is not None and (total is None or total.shape == scores.shape):
            total = scores if total is None else total + scores
            number, scale = number + 1, depth.shape[1] / width
    if total is None:
        return None
    mean = total / number
    row, column = np.unravel_index(int(mean.argmax()), mean.shape)
    x, y = int(column) - mean.shape[1] // 2, int(row) - mean.shape[0] // 2
    best = float(mean[row, column])
    prominence = (best - float(np.median(mean))) / max(float(mean.std()), 1e-9)
    return Shift(x * scale, y * scale, float(np.hypot(x, y)), best, prominence)


def _scores(rgb: Picture, depth: Picture, size: tuple[int, int]) -> Picture | None:
    """Normalised correlation at every shift up to LARGEST_SHIFT; None where one image has no edge."""
    margin = min(LARGEST_SHIFT, min(size) // 4)
    edges = _high_pass(_rgb_gradient(rgb, size))
    template = _high_pass(_depth_outlines(depth, size))[margin:-margin, margin:-margin]
    if edges.std() < 1e-6 or template.std() < 1e-6:
        return None
    return np.asarray(cv2.matchTemplate(edges, np.ascontiguousarray(template), cv2.TM_CCOEFF_NORMED))


def _rgb_gradient(rgb: Picture, size: tuple[int, int]) -> Picture:
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    gradient = np.hypot(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1)).max(axis=2)
    return np.minimum(gradient, np.percentile(gradient, CLIP_PERCENTILE))


def _depth_outlines(depth: Picture, size: tuple[int, int]) -> Picture:
    """1 beside a step of the depth, 0 elsewhere, the rims of holes included."""
    small = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)
    # Single outliers of a noisy sensor would be taken for edges.
    smooth = cv2.medianBlur(np.nan_to_num(small, nan=0.0), 3).astype(np.float32)
    return depth_edges(smooth, EDGE_RANGE).astype(np.float32)


def _high_pass(image: Picture) -> Picture:
    return (image - cv2.GaussianBlur(image, (0, 0), HIGH_PASS_SIGMA)).astype(np.float32)


def _pictures(samples: Samples) -> list[tuple[Picture, Picture]]:
    found = []
    for rgb, depth in samples.pairs.items:
        try:
            found.append((rgb_pixels(rgb), depth_metres(depth)))
        except FrameError:
            continue  # the check of the encodings says why
    return found
