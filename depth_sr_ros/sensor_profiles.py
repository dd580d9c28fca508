# SPDX-License-Identifier: Apache-2.0
"""Models of real depth sensors and codecs: what each would make of exact, high-resolution depth.

Each takes float32 HxW metres (NaN = invalid), a whole `scale` that divides H and W, the picture of the view
(uint8 HxWx3, or None), a random generator and a `strength`, by which its noise, its steps and what JPEG
loses are multiplied, and returns float32 H/scale x W/scale metres, NaN = invalid. Strength 1 is ours, in the
range that the sensors' data sheets and users report; docs/degradation.md shows each.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.metrics import valid_mask

Depth = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]
Sensor = Callable[[Depth, int, "Picture | None", np.random.Generator, float], Depth]

DARK = 40.0  # of 255: luminance at which half of a time-of-flight camera's pixels are lost
STEREO_FOCAL = 0.9  # of the image's width
STEREO_BASELINE_M = 0.05
STEREO_STEP_PX = 1 / 8  # of disparity
STEREO_NOISE_PX = 0.08
ZONE_BINS = 48  # of a dToF histogram, from 0.1 to 300 m in equal ratios
LIDAR_LINE_STEP = 4  # one line of LR pixels in so many is measured
CODEC_LOSS = 25  # quality 75


def cells(array: npt.NDArray, scale: int) -> npt.NDArray:
    """HxW -> (H/scale, W/scale, scale^2): the pixels of each cell."""
    height, width = array.shape
    blocks = array.reshape(height // scale, scale, width // scale, scale).swapaxes(1, 2)
    return blocks.reshape(height // scale, width // scale, scale * scale)


def half_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Cells, of (h, w, pixels), of which at least half is set: (h, w)."""
    return 2 * mask.sum(axis=2) >= mask.shape[2]


def cell_mean(depth: Depth, scale: int) -> Depth:
    """Mean of the valid pixels of each cell; NaN where fewer than half of them are valid."""
    pixels = cells(depth, scale)
    valid = valid_mask(pixels)
    total = np.where(valid, pixels, 0).sum(axis=2, dtype=np.float64)
    mean = total / np.maximum(valid.sum(axis=2), 1)
    return np.where(half_of(valid), mean, np.nan).astype(np.float32)


def challenge(
    depth: Depth, scale: int, rgb: Picture | None, rng: np.random.Generator, strength: float = 1.0
) -> Depth:
    """Downsampled, additive noise of one 8-bit step, 8 bits over the frame's range.

    The write-up names noise and a low bit depth, no figures: these are ours.
    """
    lr = cell_mean(depth, scale)
    noise = rng.standard_normal(lr.shape)
    valid = valid_mask(lr)
    if not valid.any():
        return lr
    low, high = lr[valid].min(), lr[valid].max()
    step = max(strength * (high - low) / 255, 1e-6)
    noisy = low + step * np.round((lr + step * noise - low) / step)
    return np.where(valid, np.clip(noisy, max(low, step), high), np.nan).astype(np.float32)


def tof(
    depth: Depth, scale: int, rgb: Picture | None, rng: np.random.Generator, strength: float = 1.0
) -> Depth:
    """A continuous-wave time-of-flight camera: noise grows with z^2 and with darkness.

    Flying pixels at edges lie anywhere between the two surfaces; pixels of dark surfaces are lost.
    """
    pixels = cells(depth, scale)
    mean = cell_mean(depth, scale)
    normal = rng.standard_normal(mean.shape)
    between, chance = rng.random((2, *mean.shape))
    valid = valid_mask(pixels)
    near = np.where(valid, pixels, np.float32(1e9)).min(axis=2)
    far = np.where(valid, pixels, np.float32(0)).max(axis=2)
    is_edge = far > 1.08 * near
    flown = np.where(is_edge, near + between * (far - near), mean)
    light = _luminance(rgb, depth.shape, scale)
    # Reflected light falls with z^2: so does the signal, by which the phase's noise is divided.
    sigma = (0.002 + 0.0015 * np.square(np.minimum(flown, 20.0))) * np.sqrt(110.0 / np.maximum(light, 10.0))
    lost = chance < np.clip(0.5 * DARK / np.maximum(light, 1.0) - 0.25, 0.004, 0.98)
    out = flown + strength * sigma * normal
    return np.where(valid_mask(mean) & ~lost & (out > 0), out, np.nan).astype(np.float32)


def stereo(
    depth: Depth, scale: int, rgb: Picture | None, rng: np.random.Generator, strength: float = 1.0
) -> Depth:
    """A stereo camera: noise and steps of disparity, so errors grow with z^2.

    There is no depth where the right camera does not see, left of near things.
    """
    lr = cell_mean(depth, scale)
    normal = rng.standard_normal(lr.shape)
    # Matched at the full resolution, as such cameras do, whatever is sent on.
    focal = STEREO_FOCAL * depth.shape[1] * STEREO_BASELINE_M
    valid = valid_mask(lr)
    exact = np.where(valid, focal / np.where(valid, lr, 1.0), 0.0)
    hidden = half_of(cells(_hidden_from_the_right(depth, focal), scale))
    step = strength * STEREO_STEP_PX
    disparity = step * np.round((exact + strength * STEREO_NOISE_PX * normal) / step)
    seen = valid & ~hidden & (disparity >= step)
    return np.where(seen, focal / np.where(seen, disparity, 1.0), np.nan).astype(np.float32)


def _hidden_from_the_right(depth: Depth, focal: float) -> npt.NDArray[np.bool_]:
    """What a camera to the right does not see: a pixel further right falls at its place or left of it."""
    valid = valid_mask(depth)
    column = np.arange(depth.shape[1]) - np.where(valid, focal / np.where(valid, depth, 1.0), 0.0)
    leftmost = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    hidden = np.zeros_like(valid)
    hidden[:, :-1] = valid[:, :-1] & (column[:, :-1] >= leftmost[:, 1:])
    return hidden


def dtof(
    depth: Depth, scale: int, rgb: Picture | None, rng: np.random.Generator, strength: float = 1.0
) -> Depth:
    """A direct time-of-flight sensor with few zones: each answers with its strongest surface.

    Light that falls with z^2 decides which that is. A zone never answers with a mean of two surfaces.
    """
    pixels = cells(depth, scale).astype(np.float64)
    normal = rng.standard_normal(pixels.shape[:2])
    valid = valid_mask(pixels)
    signal = np.where(valid, 1 / np.square(np.where(valid, pixels, 1.0)), 0.0)
    place = np.log(np.where(valid, pixels, 1.0) / 0.1) / np.log(3000.0) * ZONE_BINS
    index = np.clip(place.astype(int), 0, ZONE_BINS - 1)
    zones = np.arange(index.shape[0] * index.shape[1]).reshape(*index.shape[:2], 1) * ZONE_BINS
    histogram, weighted = (
        np.bincount((zones + index).ravel(), values.ravel(), zones.size * ZONE_BINS).reshape(-1, ZONE_BINS)
        for values in (signal, signal * np.where(valid, pixels, 0.0))
    )
    peak = histogram.argmax(axis=1)
    rows = np.arange(len(peak))
    strongest = histogram[rows, peak]
    mean = (weighted[rows, peak] / np.maximum(strongest, 1e-12)).reshape(normal.shape)
    out = mean + strength * (0.004 * mean + 0.002) * normal
    return np.where(half_of(valid) & (out > 0), out, np.nan).astype(np.float32)


def lidar(
    depth: Depth, scale: int, rgb: Picture | None, rng: np.random.Generator, strength: float = 1.0
) -> Depth:
    """A spinning LiDAR projected into the image: one line of pixels in four, returns lost, 2 cm of noise."""
    # A beam hits one place and does not average.
    middle = scale // 2
    beams = depth[middle::scale, middle::scale]
    normal, chance = rng.standard_normal(beams.shape), rng.random(beams.shape)
    line = np.arange(beams.shape[0]) % LIDAR_LINE_STEP == LIDAR_LINE_STEP // 2
    seen = valid_mask(beams) & line[:, None] & (chance > 0.05)
    out = beams + strength * 0.02 * normal
    return np.where(seen & (out > 0), out, np.nan).astype(np.float32)


def codec(
    depth: Depth, scale: int, rgb: Picture | None, rng: np.random.Generator, strength: float = 1.0
) -> Depth:
    """Depth sent as a picture: inverse depth in 8 bits over the frame's range, then JPEG."""
    lr = cell_mean(depth, scale)
    valid = valid_mask(lr)
    if not valid.any():
        return lr
    inverse = np.where(valid, 1 / np.where(valid, lr, 1.0), 0.0)
    low, high = inverse[valid].min(), inverse[valid].max()
    step = max((high - low) / 254, 1e-9)
    # 0 says that there is no depth; JPEG blurs that border too, as it does in practice.
    code = np.where(valid, 1 + np.round((inverse - low) / step), 0).astype(np.uint8)
    quality = int(np.clip(100 - strength * CODEC_LOSS, 10, 100))
    _, stream = cv2.imencode(".jpg", code, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(stream, cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    sent = low + (decoded.astype(np.float64) - 1) * step
    return np.where(valid & (sent > 0), 1 / np.maximum(sent, 1e-9), np.nan).astype(np.float32)


def _luminance(rgb: Picture | None, size: tuple[int, int], scale: int) -> npt.NDArray[np.float64]:
    """Mean of 0 to 255 in each cell; without a picture a middle grey."""
    if rgb is None:
        return np.full((size[0] // scale, size[1] // scale), 110.0)
    grey = rgb[: size[0], : size[1]] @ np.array([0.299, 0.587, 0.114])
    return cells(grey, scale).mean(axis=2)


SENSORS: dict[str, Sensor] = {
    "challenge": challenge,
    "tof": tof,
    "stereo": stereo,
    "dtof": dtof,
    "lidar": lidar,
    "codec": codec,
}
