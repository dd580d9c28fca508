# SPDX-License-Identifier: Apache-2.0
"""Depth error measures of the evaluation protocol: RMSE, MAE, AbsRel, edge and flat RMSE, delta_1.05."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

EDGE_RANGE = 0.04
EDGE_RADIUS_PX = 5
BORDER_PX = 6
SQUARE = np.ones((3, 3), np.uint8)
METRICS = ("rmse", "mae", "absrel", "edge_rmse", "flat_rmse", "delta_105", "missing")

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]


def valid_mask(depth: FloatArray) -> BoolArray:
    """True where a depth (metres, any shape) is a measurement: finite and above zero."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(depth) & (depth > 0)


def depth_edges(depth: FloatArray, relative_range: float = EDGE_RANGE) -> BoolArray:
    """True at valid pixels whose 3x3 neighbourhood spans more than `relative_range` times their own depth.

    `depth` is HxW metres. Invalid neighbours are left out, so the rim of a hole is not an edge by
    itself.
    """
    valid = valid_mask(depth)
    high = cv2.dilate(np.where(valid, depth, -np.inf).astype(depth.dtype, copy=False), SQUARE)
    low = cv2.erode(np.where(valid, depth, np.inf).astype(depth.dtype, copy=False), SQUARE)
    reference = np.where(valid, depth, 0)
    span = np.where(valid, high, 0) - np.where(valid, low, 0)
    return valid & (span > relative_range * reference)


def dilate(mask: BoolArray, radius: int) -> BoolArray:
    """True within `radius` pixels (Euclidean, centre to centre) of a True pixel of the HxW `mask`."""
    height, width = mask.shape
    counts = np.zeros((height, width + 1), np.int32)
    np.cumsum(mask, axis=1, out=counts[:, 1:])
    columns = np.arange(width)
    out = np.zeros_like(mask)
    reach = min(radius, height - 1)
    for dy in range(-reach, reach + 1):
        half = int(np.sqrt(radius * radius - dy * dy))
        right = np.minimum(columns + half + 1, width)
        left = np.maximum(columns - half, 0)
        rows = counts[max(dy, 0) : height + min(dy, 0)]
        out[max(-dy, 0) : height + min(-dy, 0)] |= rows[:, right] > rows[:, left]
    return out


def near_edge_mask(truth: FloatArray, radius: int = EDGE_RADIUS_PX) -> BoolArray:
    """True within `radius` pixels of a depth edge of `truth` (HxW metres): the set behind `edge_rmse`."""
    return dilate(depth_edges(truth), radius)


def depth_metrics(
    pred: FloatArray, truth: FloatArray, *, border: int = BORDER_PX, edge_mask: BoolArray | None = None
) -> dict[str, float]:
    """Score one depth image; the keys are METRICS, in metres or shares, NaN where a set of pixels is empty.

    `pred` and `truth` are HxW metres. Pixels whose truth is not a measurement (NaN, 0, negative,
    infinite) and the outer `border` pixels are left out. `edge_mask` (HxW, see `near_edge_mask`) splits
    `edge_rmse` from `flat_rmse`; it is computed from the truth when it is not given.

    A prediction that is not finite at a scored pixel is an answer that was owed: it counts in `missing`
    (a share) and is scored as a prediction of 0 m, so its error is the whole depth, its relative error
    1, and it fails delta_1.05. Leaving hard pixels out therefore costs more than any usable guess. Who
    wants the error of the answered pixels alone masks the truth.

    Raises ValueError when the shapes differ or are not HxW.
    """
    if pred.shape != truth.shape or truth.ndim != 2:
        raise ValueError(f"prediction {pred.shape} and truth {truth.shape} must be the same HxW shape")
    scored = valid_mask(truth)
    near = near_edge_mask(truth) if edge_mask is None else edge_mask
    height, width = truth.shape
    inner = (slice(border, max(height - border, border)), slice(border, max(width - border, border)))
    scored, near = scored[inner], near[inner][scored[inner]]
    target = truth[inner][scored].astype(np.float64)
    answer = pred[inner][scored].astype(np.float64)
    absent = ~np.isfinite(answer)
    answer[absent] = 0.0
    error = np.abs(answer - target)
    close = (answer < 1.05 * target) & (answer * 1.05 > target)
    return {
        "rmse": _rms(error),
        "mae": _mean(error),
        "absrel": _mean(error / target),
        "edge_rmse": _rms(error[near]),
        "flat_rmse": _rms(error[~near]),
        "delta_105": _mean(close),
        "missing": _mean(absent),
    }


def mean_metrics(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Average each metric over images, leaving out of a metric the images where it is NaN (an empty set)."""
    out: dict[str, float] = {}
    for key in dict.fromkeys(key for score in scores for key in score):
        values = np.array([score[key] for score in scores if key in score], np.float64)
        out[key] = _mean(values[~np.isnan(values)])
    return out


def _mean(values: npt.NDArray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _rms(error: npt.NDArray) -> float:
    return float(np.sqrt(_mean(np.square(error)))) if error.size else float("nan")
