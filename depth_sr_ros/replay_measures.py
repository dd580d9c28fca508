# SPDX-License-Identifier: Apache-2.0
"""What a replay measures besides the protocol's errors; most of it needs no truth.

What is a mean over the picture is taken of every second pixel and line (`thinned`): it says the same, and a
replay should cost what the network costs.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.metrics import SQUARE, depth_edges, valid_mask

STRIDE = 2
STATIC_CHANGE = 6  # of 255: a pixel whose colour changed by less did not move, most likely
MIN_STATIC_SHARE = 0.01
RANGE_BINS_M = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0, 300.0)
STRONG_SHARE = 0.1  # of the pixels, those with the strongest colour gradients, are a picture's edges
NEAR = 1  # thinned pixels

Depth = npt.NDArray[np.float32]
Rgb = npt.NDArray[np.uint8]


def squares_by_range(answer: Depth, truth: Depth) -> npt.NDArray[np.float64]:
    """(2, bins of RANGE_BINS_M): squared errors summed, m^2, and pixels counted, by the true distance."""
    known = valid_mask(truth) & np.isfinite(answer)
    distance = truth[known]
    square = np.square(answer[known] - distance, dtype=np.float64)
    # Of the distance's own type: searchsorted would convert the pixels instead.
    bins = np.searchsorted(np.array(RANGE_BINS_M, distance.dtype), distance, side="right") - 1
    inside = bins < len(RANGE_BINS_M) - 1
    count = len(RANGE_BINS_M) - 1
    sums = np.bincount(bins[inside], square[inside], count)
    return np.stack([sums, np.bincount(bins[inside], minlength=count).astype(np.float64)])


def lr_error(answer: Depth, depth: Depth) -> float:
    """Median relative difference of the answer's mean over an LR pixel from what was measured there.

    answer HxW, depth hxw, metres. NaN where no LR pixel was measured and answered all over.
    """
    means = cv2.resize(answer, depth.shape[::-1], interpolation=cv2.INTER_AREA)
    known = valid_mask(depth) & np.isfinite(means)
    if not known.any():
        return float("nan")
    measured = depth[known]
    return float(np.median(np.abs(means[known] - measured) / measured))


def thinned(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Every STRIDE-th pixel and line."""
    return image[::STRIDE, ::STRIDE]


def thinned_grey(rgb: Rgb) -> npt.NDArray[np.uint8]:
    """Grey, thinned; the picture that `static_mask` and `picture_edges` look at."""
    return np.ascontiguousarray(thinned(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)))


def static_mask(grey: npt.NDArray[np.uint8], earlier: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_] | None:
    """Where the picture stood still, thinned; None where that is next to nowhere, or the sizes differ."""
    if grey.shape != earlier.shape:
        return None
    # The noise of a camera passes, a motion of half a pixel at an edge does not.
    still = cv2.blur(cv2.absdiff(grey, earlier), (3, 3)) < STATIC_CHANGE
    return still if still.mean() >= MIN_STATIC_SHARE else None


def flicker(answer: Depth, earlier: Depth, still: npt.NDArray[np.bool_]) -> float:
    """Mean relative change of the depth, HxW both, where nothing moved; NaN where no pixel has both."""
    now, before = thinned(answer), thinned(earlier)
    known = still & valid_mask(now) & valid_mask(before)
    if not known.any():
        return float("nan")
    return float(np.mean(np.abs(now[known] - before[known]) / now[known]))


def picture_edges(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """At and beside the strongest gradients of the thinned picture."""
    gradient = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    # Of every 16th pixel: the quantile of all takes longer than the rest of this function.
    strong = gradient > max(float(np.quantile(gradient[::4, ::4], 1 - STRONG_SHARE)), 1.0)
    return cv2.dilate(strong.astype(np.uint8), SQUARE, iterations=NEAR) > 0


def edge_alignment(answer: Depth, edges: npt.NDArray[np.bool_]) -> float:
    """Share of the depth's edges that lie at an edge of the picture (`picture_edges`), over chance.

    answer HxW. 1: no better than anywhere. A picture has edges where depth has none, so the other way says
    nothing. NaN where the depth, or the picture, has no edge.
    """
    steps, chance = depth_edges(thinned(answer)), float(edges.mean())
    if not steps.any() or chance == 0:
        return float("nan")
    return float(edges[steps].mean()) / chance
