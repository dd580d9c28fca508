# SPDX-License-Identifier: Apache-2.0
"""What a camera does to radiance: exposure, colour cast, vignette, blur, noise, tone curve."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class SensorDraw:
    """Per-sample sensor values, each (B, 1, 1, 1) but `cast` (B, 3, 1, 1)."""

    exposure: Tensor  # mean brightness aimed at, linear
    gamma: Tensor
    contrast: Tensor  # 0: none, 1: a full S curve
    cast: Tensor
    vignette: Tensor  # share of light lost in the corners
    blur: Tensor  # weight of the neighbours, 0 to 1
    read_noise: Tensor
    shot_noise: Tensor
    soften: Tensor  # whether noise is blurred with the picture


def blur3(image: Tensor, weight: Tensor) -> Tensor:
    """Blur (B, C, H, W) with [w/4, 1 - w/2, w/4] along both axes; weight (B, 1, 1, 1); borders stay."""
    for axis in (2, 3):
        count = image.shape[axis] - 2
        if count > 0:
            beside = image.narrow(axis, 0, count).add(image.narrow(axis, 2, count)).mul_(0.5)
            image = image.clone()
            image.narrow(axis, 1, count).lerp_(beside, 0.5 * weight)
    return image


def expose(radiance: Tensor, draw: SensorDraw, generator: torch.Generator) -> Tensor:
    """Return the photograph (B, 3, H, W) in [0, 1] of linear radiance (B, 3, H, W)."""
    batch, _, height, width = radiance.shape
    device = radiance.device
    mean = radiance[:, :, ::4, ::4].clamp(max=4.0).mean((1, 2, 3), keepdim=True).clamp_(min=1e-4)
    image = radiance * (draw.cast * draw.exposure / mean)
    y = torch.linspace(-1, 1, height, device=device)[:, None]
    x = torch.linspace(-1, 1, width, device=device)[None]
    image = image * (1 - draw.vignette * (0.5 * (x * x + y * y)))
    image = blur3(image.clamp_(0, 1.5), draw.blur)
    noise = torch.randn((batch, 3, height, width), generator=generator, device=device)
    noise = torch.lerp(noise, 2 * blur3(noise, torch.ones_like(draw.soften)), draw.soften)
    image = image + noise * torch.sqrt(draw.read_noise**2 + draw.shot_noise**2 * image)
    image = image.clamp_(1e-5, 1).pow_(draw.gamma)
    image = torch.lerp(image, image * image * (3 - 2 * image), draw.contrast)
    return image.clamp_(0, 1)
