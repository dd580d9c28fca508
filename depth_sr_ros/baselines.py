# SPDX-License-Identifier: Apache-2.0
"""Classical depth upsampling to compare with: bicubic, bilateral, guided, FGS, joint bilateral.

Every baseline gets the same input: the low-resolution depth with its holes filled from the nearest
measurement. The parameters lie in `baseline_params.json`, tuned for each scale and each kind of input
(see its "command").
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.config import check_choice
from depth_sr_ros.errors import ConfigError, FrameError
from depth_sr_ros.metrics import valid_mask

PARAMS_PATH = Path(__file__).with_name("baseline_params.json")
GROUPS = ("clean", "noisy")

Depth = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
Method = Callable[..., Depth]

_INTERPOLATIONS = {"cubic": cv2.INTER_CUBIC, "linear": cv2.INTER_LINEAR}


def fill_holes(lr: Depth) -> Depth:
    """Give every invalid pixel (NaN, infinite, not above 0) the value of the nearest valid one.

    `lr` is hxw float32 metres; a new array comes back, all NaN when no pixel is valid.
    """
    valid = valid_mask(lr)
    out = np.where(valid, lr, np.nan).astype(np.float32)
    if valid.all() or not valid.any():
        return out
    _, labels = cv2.distanceTransformWithLabels(
        (~valid).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value_of = np.zeros(labels.max() + 1, np.float32)
    value_of[labels[valid]] = lr[valid]
    return value_of[labels]


def despeckle(filled: Depth, threshold: float) -> Depth:
    """Drop pixels further than `threshold` times their 3x3 median from it, and fill them as holes.

    `filled` is hxw float32 metres without holes.
    """
    median = np.asarray(cv2.medianBlur(filled, 3), np.float32)
    far = np.abs(filled - median) > threshold * median
    return fill_holes(np.where(far, np.float32(np.nan), filled))


def bicubic(filled: Depth, rgb: Image) -> Depth:
    """OpenCV's bicubic upsampling, half-pixel centres."""
    return _upsample(filled, rgb, "cubic")


def bilateral(
    filled: Depth, rgb: Image, *, sigma_depth: float, sigma_px: float, domain: str, up: str
) -> Depth:
    """Upsampling, then a bilateral filter of the depth alone.

    `sigma_depth` is relative: to the depth itself (`domain` "log") or to the frame's median ("depth").
    `sigma_px` is in LR pixels. The window is +-1.5 sigma, at most 15 px to a side.
    """
    up_depth = _upsample(filled, rgb, up)
    floor = float(filled.min())
    sigma = sigma_px * _scale(filled, rgb)
    window = 2 * int(np.clip(np.ceil(1.5 * sigma), 1, 15)) + 1
    if domain == "log":
        # cubic overshoot can pass below zero at a depth edge, where there is no logarithm
        logarithm = np.log(np.maximum(up_depth, floor))
        return np.exp(cv2.bilateralFilter(logarithm, window, sigma_depth, sigma)).astype(np.float32)
    sigma_m = sigma_depth * float(np.median(filled))
    return np.asarray(cv2.bilateralFilter(up_depth, window, sigma_m, sigma), np.float32)


def guided(filled: Depth, rgb: Image, *, radius: float, eps: float, up: str) -> Depth:
    """Upsampling, then the colour guided filter: `radius` in LR pixels, `eps` for colours in [0, 1]."""
    pixels = max(1, round(radius * _scale(filled, rgb)))
    return _ximgproc("guided").guidedFilter(rgb, _upsample(filled, rgb, up), pixels, eps * 255.0**2)


def median_guided(filled: Depth, rgb: Image, *, ksize: int, radius: float, eps: float, up: str) -> Depth:
    """A `ksize` x `ksize` median of the LR depth (3 or 5), then `guided`."""
    median = np.asarray(cv2.medianBlur(filled, ksize), np.float32)
    return guided(median, rgb, radius=radius, eps=eps, up=up)


def fgs(filled: Depth, rgb: Image, *, lambda_lr: float, sigma_color: float, up: str) -> Depth:
    """Upsampling, then the fast global smoother: `lambda_lr` in squared LR pixels, colours in 0..255."""
    strength = lambda_lr * _scale(filled, rgb) ** 2
    smoother = _ximgproc("fgs").fastGlobalSmootherFilter
    return smoother(rgb, _upsample(filled, rgb, up), strength, sigma_color)


def despeckle_fgs(
    filled: Depth, rgb: Image, *, threshold: float, lambda_lr: float, sigma_color: float, up: str
) -> Depth:
    """`despeckle`, then `fgs`."""
    return fgs(despeckle(filled, threshold), rgb, lambda_lr=lambda_lr, sigma_color=sigma_color, up=up)


def joint_bilateral(filled: Depth, rgb: Image, *, sigma_px: float, sigma_color: float) -> Depth:
    """Joint bilateral upsampling (Kopf et al. 2007) over the 5x5 nearest LR pixels.

    Weights: a Gaussian of the distance (`sigma_px`, LR pixels) times one of the colour difference
    (`sigma_color`, 0..255) between the pixel and the mean colour of the LR pixel's cell.
    """
    height, width = rgb.shape[:2]
    rows, columns = filled.shape
    pad = 2
    depth = cv2.copyMakeBorder(filled, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    means = cv2.resize(rgb, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    colour = cv2.copyMakeBorder(means, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    guide = rgb.astype(np.float32)
    y = ((np.arange(height) + 0.5) * rows / height - 0.5).astype(np.float32)
    x = ((np.arange(width) + 0.5) * columns / width - 0.5).astype(np.float32)
    cell_y, cell_x = np.rint(y).clip(0, rows - 1).astype(int), np.rint(x).clip(0, columns - 1).astype(int)
    total, weight = np.zeros((2, height, width), np.float32)
    for dy in range(-2, 3):
        distance_y = ((cell_y + dy - y) ** 2)[:, None]
        for dx in range(-2, 3):
            exponent = (distance_y + ((cell_x + dx - x) ** 2)[None]) * np.float32(-0.5 / sigma_px**2)
            at = np.ix_(cell_y + dy + pad, cell_x + dx + pad)
            difference = guide - colour[at]
            exponent += np.einsum("ijk,ijk->ij", difference, difference) * np.float32(-0.5 / sigma_color**2)
            # the floor keeps the weights of a pixel unlike all its neighbours above zero
            share = cv2.exp(np.maximum(exponent, -60.0))
            total += share * depth[at]
            weight += share
    return total / weight


METHODS: dict[str, Method] = {
    "bicubic": bicubic,
    "bilateral": bilateral,
    "guided": guided,
    "median_guided": median_guided,
    "fgs": fgs,
    "despeckle_fgs": despeckle_fgs,
    "jbu": joint_bilateral,
}


def run_baseline(name: str, lr: Depth, rgb: Image, group: str = "noisy") -> Depth:
    """Upsample `lr` (float32 hxw metres, NaN = invalid) to the size of `rgb` (uint8 HxWx3).

    `name` is a key of METHODS. `group` picks the parameters tuned for clean or for noisy input, at the
    tuned scale nearest to H/h. Returns float32 HxW metres; all NaN when no pixel of `lr` is valid.

    Raises ConfigError on an unknown name or group, or when the method needs OpenCV's contrib modules and they
    are missing; FrameError on a wrong shape.
    """
    check_choice("baseline", name, METHODS)
    if lr.ndim != 2 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise FrameError(f"a baseline needs depth hxw and RGB HxWx3, got {lr.shape} and {rgb.shape}")
    filled = fill_holes(lr)
    if np.isnan(filled).any():
        return np.full(rgb.shape[:2], np.nan, np.float32)
    return METHODS[name](filled, rgb, **baseline_params(name, _scale(filled, rgb), group))


def _named(name: str) -> Callable[[Depth, Image], Depth]:
    return lambda lr, rgb: run_baseline(name, lr, rgb)


BASELINES: dict[str, Callable[[Depth, Image], Depth]] = {name: _named(name) for name in METHODS}


def baseline_params(name: str, scale: float, group: str) -> dict[str, Any]:
    """The tuned keyword arguments of baseline `name` at the tuned scale nearest to `scale` (as a ratio)."""
    check_choice("baseline group", group, GROUPS)
    if name == "bicubic":
        return {}
    tuned = _tuned()[group][name]
    return dict(tuned[min(tuned, key=lambda key: abs(np.log(float(key) / scale)))])


@lru_cache(maxsize=1)
def _tuned() -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    return json.loads(PARAMS_PATH.read_text())["params"]


def _scale(filled: Depth, rgb: Image) -> float:
    return rgb.shape[0] / filled.shape[0]


def _upsample(filled: Depth, rgb: Image, up: str) -> Depth:
    size = (rgb.shape[1], rgb.shape[0])
    return np.asarray(cv2.resize(filled, size, interpolation=_INTERPOLATIONS[up]), np.float32)


def _ximgproc(name: str) -> Any:
    module = getattr(cv2, "ximgproc", None)
    if module is None or not hasattr(module, "fastGlobalSmootherFilter"):
        raise ConfigError(
            f"baseline {name!r} needs cv2.ximgproc, which this OpenCV {cv2.__version__} lacks: "
            "install opencv-contrib-python-headless<5 in place of the other opencv wheel"
        )
    return module
