# SPDX-License-Identifier: Apache-2.0
"""What a camera does to radiance: exposure, colour cast, vignette, blur, noise, tone curve, compression."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.draws import normal_each

from .procedural_random import Draw

BLOCK = 8  # pixels: the side of a compressed block


@dataclass
class SensorDraw:
    """Values of each sample's sensor, (B, 1, 1, 1) but `cast`, which is (B, 3, 1, 1)."""

    exposure: Tensor  # mean brightness aimed at, linear
    gamma: Tensor
    contrast: Tensor  # 0: none, 1: a full S curve
    cast: Tensor
    vignette: Tensor  # share of light lost in the corners
    blur: Tensor  # weight of the neighbours, 0 to 2
    read_noise: Tensor
    shot_noise: Tensor
    soften: Tensor  # how far noise spreads to neighbours, as demosaicing makes it
    compression: Tensor  # quantisation step of the lowest frequencies, 0: none


def draw_sensor(draws: list[Draw], noise: float, device: torch.device) -> SensorDraw:
    """Draw a sensor for each sample; `noise` is the largest deviation of RGB noise at full brightness."""
    rows = []
    for r in draws:
        tint = [min(max(1 + r.normal(0, 0.06), 0.7), 1.4) for _ in range(3)]
        rows.append(
            [
                r.log(0.12, 0.5),
                r.uniform(0.4, 0.6),
                r.uniform(0, 0.5),
                *tint,
                r.uniform(0, 0.5) * r.chance(0.5),
                r.uniform(0.2, 1.0) if r.chance(0.75) else r.uniform(1.0, 2.0),
                noise * r.uniform() ** 3 * 0.5,
                noise * r.uniform() ** 3,
                r.uniform(),
                r.log(0.005, 0.06) * r.chance(0.4),
            ]
        )
    t = torch.tensor(rows, dtype=torch.float32, device=device)[:, :, None, None]
    exposure, gamma, contrast, cast, vignette, blur, read, shot, soften, step = t.split(
        [1, 1, 1, 3] + [1] * 6, dim=1
    )
    return SensorDraw(exposure, gamma, contrast, cast, vignette, blur, read, shot, soften, step)


def blur3(image: Tensor, weight: Tensor) -> Tensor:
    """Blur (B, C, H, W) with [w/4, 1 - w/2, w/4] along both axes; weight (B, 1, 1, 1); borders stay."""
    for axis in (2, 3):
        count = image.shape[axis] - 2
        if count > 0:
            beside = image.narrow(axis, 0, count).add(image.narrow(axis, 2, count)).mul_(0.5)
            image = image.clone()
            image.narrow(axis, 1, count).lerp_(beside, 0.5 * weight)
    return image


def compress(image: Tensor, step: Tensor) -> Tensor:
    """Quantise 8 x 8 cosine blocks of the brightness (B, 3, H, W) and halve the colour's resolution, as JPEG.

    step (B, 1, 1, 1) is that of the mean; the highest frequencies have eight times it; 0 leaves a sample.
    """
    height, width = image.shape[2:]
    gray = image.mean(1, keepdim=True)
    colour = F.avg_pool2d(image - gray, 2, ceil_mode=True)
    colour = F.interpolate(colour, size=(height, width), mode="bilinear", align_corners=False)
    k = torch.arange(BLOCK, device=image.device, dtype=torch.float32)
    basis = torch.cos((2 * k[None] + 1) * k[:, None] * (math.pi / (2 * BLOCK))) * math.sqrt(2 / BLOCK)
    basis[0] *= math.sqrt(0.5)
    padded = F.pad(gray, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    batch, _, rows, columns = padded.shape
    blocks = padded.view(batch, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).transpose(2, 3)
    quantum = (step[..., None] * (1 + 0.5 * (k[:, None] + k[None]))).clamp(min=1e-6)
    coefficients = torch.round((basis @ blocks @ basis.T) / quantum) * quantum
    coarse = (basis.T @ coefficients @ basis).transpose(2, 3).reshape(batch, 1, rows, columns)
    return torch.where(step > 0, coarse[:, :, :height, :width] + colour, image)


def expose(radiance: Tensor, draw: SensorDraw, generators: Sequence[torch.Generator]) -> Tensor:
    """Return the photograph (B, 3, H, W) in [0, 1] of linear radiance (B, 3, H, W); a generator a sample."""
    height, width = radiance.shape[2:]
    device = radiance.device
    mean = radiance[:, :, ::4, ::4].clamp(max=4.0).mean((1, 2, 3), keepdim=True).clamp_(min=1e-4)
    y = torch.linspace(-1, 1, height, device=device)[:, None]
    x = torch.linspace(-1, 1, width, device=device)[None]
    image = radiance * (draw.cast * draw.exposure / mean) * (1 - draw.vignette * (0.5 * (x * x + y * y)))
    image = blur3(image.clamp_(0, 1.5), draw.blur.clamp(max=1))
    if bool((draw.blur > 1).any()):
        image = blur3(image, (draw.blur - 1).clamp_(min=0))
    noise = normal_each(radiance.shape, radiance, generators)
    noise = torch.lerp(noise, 2 * blur3(noise, torch.ones_like(draw.soften)), draw.soften)
    image = image + noise * torch.sqrt(draw.read_noise**2 + draw.shot_noise**2 * image)
    image = image.clamp_(1e-5, 1).pow_(draw.gamma)
    image = torch.lerp(image, image * image * (3 - 2 * image), draw.contrast)
    if bool((draw.compression > 0).any()):
        image = compress(image, draw.compression)
    return image.clamp_(0, 1)
