# SPDX-License-Identifier: Apache-2.0
"""The evaluation protocol's degradations: high-resolution depth becomes a sensor's low-resolution one."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.config import check_choice
from depth_sr_ros.errors import ConfigError, FrameError
from depth_sr_ros.metrics import valid_mask
from depth_sr_ros.sensor_profiles import SENSORS, Picture, cell_mean

PROFILES = ("clean", "bicubic", "noisy", *SENSORS)
SEEDED = tuple(name for name in PROFILES if name not in ("clean", "bicubic", "codec"))  # they draw
CROP_MULTIPLE = 16
SCALES = (2, 4, 8, 16)  # of a recording that is degraded
OUTLIER_SHARE = 0.02
QUANTISATION_STEPS = 2**10 - 1
QUADRATIC_CAP_M = 5.0

Depth = npt.NDArray[np.float32]


def crop_to_multiple(array: npt.NDArray, multiple: int = CROP_MULTIPLE) -> npt.NDArray:
    """Crop the first two axes at the bottom and right to multiples of `multiple`; a view, no copy."""
    height, width = (size - size % multiple for size in array.shape[:2])
    return array[:height, :width]


def noise_sigma(depth: npt.NDArray) -> npt.NDArray:
    """Standard deviation (metres) of the `noisy` profile's sensor at `depth` (metres)."""
    return 0.0012 + 0.0019 * np.square(np.minimum(depth, QUADRATIC_CAP_M) - 0.4) + 0.01 * depth


def degrade(
    depth_hr: Depth, scale: int, profile: str, rng: np.random.Generator, rgb: Picture | None = None
) -> Depth:
    """Make the low-resolution depth (H/scale x W/scale, float32 metres, NaN = invalid) of the protocol.

    `depth_hr` is HxW metres, invalid where NaN, infinite or not above 0, with H and W multiples of
    `scale` (see `crop_to_multiple`). Profiles: `clean` averages the valid pixels of each cell; `bicubic`
    resamples as PIL does; `noisy` adds the depth-dependent noise, the outliers and the 10-bit
    quantisation to `clean`; the others are sensors, see sensor_profiles.py, for which `rgb`, the picture of
    the view, says what is dark. The SEEDED ones draw from `rng`, and always the same number of draws for a
    size, so a seed gives one noise pattern.

    Raises ConfigError on an unknown profile or a size that the scale does not divide.
    """
    check_choice("degradation profile", profile, PROFILES)
    if scale < 1 or any(size % scale for size in depth_hr.shape):
        raise ConfigError(
            f"scale {scale} must be at least 1 and divide the size {depth_hr.shape}: crop the depth first"
        )
    if profile == "bicubic":
        return _bicubic(depth_hr, scale)
    if profile in SENSORS:
        measured = np.where(valid_mask(depth_hr), depth_hr, np.float32(np.nan))
        return SENSORS[profile](measured, scale, rgb, rng, 1.0)
    clean = cell_mean(depth_hr, scale)
    return _sensor(clean, rng) if profile == "noisy" else clean


def check_scale(scale: int) -> None:
    """ConfigError unless `scale` is one of SCALES."""
    if scale not in SCALES:
        raise ConfigError(f"scale is {scale}, but must be 2, 4, 8 or 16")


def check_seed(seed: int) -> None:
    """ConfigError on a seed that NumPy does not take."""
    if seed < 0:
        raise ConfigError(f"seed is {seed}, but must be at least 0")


def degrade_recorded(
    depth: Depth, rgb: Picture | None, scale: int, profile: str, seed: tuple[int, ...]
) -> tuple[Depth, Picture | None]:
    """`degrade` for a frame of a recording: (low-resolution depth, the picture at the size of `depth`).

    `seed` is that of the recording and the frame's number. Raises FrameError where the frame is too small.
    """
    if min(depth.shape) < 2 * scale:
        raise FrameError(f"the depth image is {depth.shape[1]}x{depth.shape[0]}: too small to be shrunk")
    if rgb is not None:
        rgb = cv2.resize(rgb, depth.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
    return degrade(depth, scale, profile, np.random.default_rng(seed), rgb), rgb


def _sensor(clean: Depth, rng: np.random.Generator) -> Depth:
    normal = rng.standard_normal(clean.shape)
    is_outlier = rng.random(clean.shape) < OUTLIER_SHARE
    position = rng.random(clean.shape)
    valid = valid_mask(clean)
    if not valid.any():
        return clean
    noisy = clean + noise_sigma(clean) * normal
    low, high = np.percentile(noisy[valid], (10, 90))
    noisy = np.where(is_outlier & valid, low + (high - low) * position, noisy)
    start, stop = noisy[valid].min(), noisy[valid].max()
    step = (stop - start) / QUANTISATION_STEPS
    if step > 0:
        noisy = start + step * np.round((noisy - start) / step)
    return noisy.astype(np.float32)


def _bicubic(depth: Depth, scale: int) -> Depth:
    """PIL's antialiased bicubic (a = -0.5); invalid pixels weigh nothing, the others make up for them.

    A pixel is NaN where the valid weights sum to less than half, and where overshoot at a depth edge
    left no positive depth.
    """
    valid = valid_mask(depth)
    rows, columns = (_bicubic_weights(size, scale) for size in depth.shape)
    total = rows @ np.where(valid, depth, 0).astype(np.float64) @ columns.T
    weight = rows @ valid.astype(np.float64) @ columns.T
    out = total / np.maximum(weight, 0.5)
    return np.where((weight >= 0.5) & (out > 0), out, np.nan).astype(np.float32)


def _bicubic_weights(size: int, scale: int) -> npt.NDArray[np.float64]:
    """(size/scale, size) matrix of the Keys kernel, widened by `scale`, cut at the border and normalised."""
    centres = (np.arange(size // scale) + 0.5) * scale
    x = np.abs(np.arange(size)[None] + 0.5 - centres[:, None]) / scale
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)
