# SPDX-License-Identifier: Apache-2.0
"""What a real camera does to a rendered frame: defocus by depth, motion blur, then `procedural_sensor`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from training.data.procedural_random import Draw
from training.data.procedural_sensor import draw_sensor, expose

Array = npt.NDArray[np.float32]
RADII = (0.0, 1.0, 2.0, 3.5, 5.0)  # pixels at a width of 640, of the blur discs that defocus mixes
RGB_NOISE = 0.08  # largest deviation of a pixel's noise at full brightness
BRIGHTEST = 8.0  # times the mean: lamps do not smear over the whole picture


@dataclass(frozen=True)
class Blur:
    """In pixels of a picture 640 wide.

    aperture: pixels times metres, that of `defocus`; focus: metres; streak: the camera's motion along x and y
    while the shutter was open.
    """

    aperture: float
    focus: float
    streak: tuple[float, float]


def draw_blur(draw: Draw, depth: Array) -> Blur:
    """Sharp in about half of the frames; else focused at one depth of (H, W) metres, moved, or both."""
    known = depth[np.isfinite(depth)]
    nearest, farthest = np.percentile(known, [20, 80]) if known.size else (1.0, 10.0)
    focus = draw.log(float(nearest), float(farthest) * 1.001)
    aperture = focus * draw.log(0.3, 4.0) if draw.chance(0.3) else 0.0
    length = draw.log(0.7, 7.0) if draw.chance(0.25) else 0.0
    angle = draw.turn()
    return Blur(aperture, focus, (length * math.cos(angle), length * math.sin(angle)))


def defocus(radiance: Array, depth: Array, blur: Blur) -> Array:
    """Each pixel blurred by a disc of radius aperture * |1/z - 1/focus|; NaN depth is at infinity."""
    if not blur.aperture:
        return radiance
    scale = radiance.shape[1] / 640
    inverse = np.nan_to_num(1 / depth, nan=0.0)
    radius = np.minimum(blur.aperture * np.abs(inverse - 1 / blur.focus), RADII[-1])
    stack = [radiance] + [cv2.filter2D(radiance, -1, disc(r * scale)) for r in RADII[1:]]
    level = np.interp(radius, RADII, np.arange(len(RADII)))
    low = np.minimum(level.astype(int), len(RADII) - 2)
    share = (level - low)[..., None]
    result = np.zeros_like(radiance)
    for number in range(len(RADII) - 1):
        here = (low == number)[..., None]
        result += here * (stack[number] * (1 - share) + stack[number + 1] * share)
    return result.astype(np.float32)


def disc(radius: float) -> Array:
    """A blur kernel (K, K) that sums to one: a disc with a soft rim."""
    reach = math.ceil(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def smear(radiance: Array, streak: tuple[float, float]) -> Array:
    """Blur along a straight line, as a small turn of the camera does to all of the picture alike."""
    scale = radiance.shape[1] / 640
    x, y = streak[0] * scale, streak[1] * scale
    reach = math.ceil(max(abs(x), abs(y)) / 2)
    if not reach:
        return radiance
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    steps = np.linspace(-0.5, 0.5, 8 * reach + 1)
    np.add.at(kernel, (np.rint(reach + y * steps).astype(int), np.rint(reach + x * steps).astype(int)), 1)
    return cv2.filter2D(radiance, -1, kernel / kernel.sum()).astype(np.float32)


def photograph(radiance: Array, depth: Array, seed: int) -> npt.NDArray[np.uint8]:
    """The photograph (H, W, 3) uint8 of linear radiance (H, W, 3); depth (H, W) metres stays as it is.

    By the seed: focus, motion, exposure, white balance, vignette, noise, tone curve and compression.
    """
    draw = Draw(seed)
    blur = draw_blur(draw, depth)
    seen = np.minimum(radiance, BRIGHTEST * float(radiance.mean()) + 1e-6)
    seen = smear(defocus(seen, depth, blur), blur.streak)
    device = torch.device("cpu")
    pixels = torch.from_numpy(np.ascontiguousarray(seen)).permute(2, 0, 1)[None]
    generator = torch.Generator().manual_seed(seed % 2**63)
    image = expose(pixels, draw_sensor([draw], RGB_NOISE, device), [generator])
    return (image[0].permute(1, 2, 0) * 255 + 0.5).byte().numpy()
