# SPDX-License-Identifier: Apache-2.0
"""What a replay measures besides the protocol's errors; most of it needs no truth."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.metrics import depth_edges, valid_mask
from depth_sr_ros.sensor_profiles import cell_mean

STATIC_CHANGE = 6  # of 255: a pixel whose colour changed by less did not move, most likely
MIN_STATIC_SHARE = 0.01
RANGE_BINS_M = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0, 300.0)
STRONG_SHARE = 0.1  # of the pixels, those with the strongest colour gradients, are a picture's edges
NEAR_PX = 2

Depth = npt.NDArray[np.float32]
Rgb = npt.NDArray[np.uint8]


def squares_by_range(answer: Depth, truth: Depth) -> npt.NDArray[np.float64]:
    """(2, bins of RANGE_BINS_M): squared errors summed, m^2, and pixels counted, by the true distance."""
    known = valid_mask(truth) & np.isfinite(answer)
    distance = truth[known]
    square = np.square(answer[known] - distance, dtype=np.float64)
    bins = np.searchsorted(RANGE_BINS_M, distance, side="right") - 1
    inside = bins < len(RANGE_BINS_M) - 1
    count = len(RANGE_BINS_M) - 1
    sums = np.bincount(bins[inside], square[inside], count)
    return np.stack([sums, np.bincount(bins[inside], minlength=count).astype(np.float64)])


def lr_error(answer: Depth, depth: Depth) -> float:
    """Median relative difference of the answer's mean over an LR pixel from what was measured there.

    answer HxW, depth hxw, metres. NaN where the sizes do not divide.
    """
    scale = answer.shape[0] // depth.shape[0]
    if scale < 1 or answer.shape != (depth.shape[0] * scale, depth.shape[1] * scale):
        return float("nan")
    means, known = cell_mean(answer, scale), valid_mask(depth)
    with np.errstate(invalid="ignore"):
        return float(np.nanmedian(np.abs(means - depth)[known] / depth[known]))


def static_mask(rgb: Rgb, earlier: Rgb) -> npt.NDArray[np.bool_] | None:
    """HxW: where the picture did not change; None where that is next to nowhere, or the sizes differ."""
    if rgb.shape != earlier.shape:
        return None
    change = cv2.transform(cv2.absdiff(rgb, earlier), np.full((1, 3), 1 / 3, np.float32))
    # The noise of a camera passes, a motion of half a pixel at an edge does not.
    still = cv2.blur(change, (5, 5)) < STATIC_CHANGE
    return still if still.mean() >= MIN_STATIC_SHARE else None


def flicker(answer: Depth, earlier: Depth, still: npt.NDArray[np.bool_]) -> float:
    """Mean relative change of the depth where nothing moved; NaN where no pixel has depth in both."""
    known = still & valid_mask(answer) & valid_mask(earlier)
    if not known.any():
        return float("nan")
    now = answer[known]
    return float(np.mean(np.abs(now - earlier[known]) / now))


def picture_edges(rgb: Rgb) -> npt.NDArray[np.bool_]:
    """HxW: within NEAR_PX of the strongest colour gradients."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    gradient = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    # Of every 16th pixel: the quantile of all takes longer than the rest of this function.
    strong = gradient > max(float(np.quantile(gradient[::4, ::4], 1 - STRONG_SHARE)), 1.0)
    reach = 2 * NEAR_PX + 1
    return cv2.dilate(strong.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0


def edge_alignment(answer: Depth, edges: npt.NDArray[np.bool_]) -> float:
    """Share of the depth's edges that lie at an edge of the picture (`picture_edges`), over chance.

    1: no better than anywhere. A picture has edges where depth has none, so the other way says nothing.
    NaN where the depth, or the picture, has no edge.
    """
    steps, chance = depth_edges(answer), float(edges.mean())
    if not steps.any() or chance == 0:
        return float("nan")
    return float(edges[steps].mean()) / chance
