# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Depth Anything in training: relative depth made from the true one, with a network's errors.

Depth Anything's weights are not needed to train the fusion U-Net. It has to learn what relative depth is
good for (where things end, and which is nearer) and not to trust it; both can be taught with maps that are
as wrong as such a network's, in many ways. All choices are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from depth_sr_ros.errors import ConfigError
from training.draws import normal, uniform
from training.filters import gaussian_blur

FIELD = (4, 5)  # nodes of a smooth random field, down and across
OPENING_SIZES = (1, 3, 5, 9)  # pixels: what is thinner is lost; 1 loses nothing


@dataclass(frozen=True)
class GuideErrors:
    """How wrong a simulated guide is, at most; each sample draws from nothing to this.

    `gamma`: the exponent of inverse depth is between 1 / gamma and gamma; `tilt`: a smooth field that is
    added, in units of the map's spread; `shift`: pixels by which edges are misplaced, smoothly; `blur`:
    pixels of one standard deviation; `thin_share`: samples that lose thin structures; `region`: share of the
    picture in which the map shows something else; `wrong_share`: samples with the guide of another picture,
    which whoever makes the samples draws.
    """

    gamma: float = 2.0
    tilt: float = 0.5
    shift: float = 2.0
    blur: float = 3.0
    thin_share: float = 0.5
    region: float = 0.2
    wrong_share: float = 0.1

    def __post_init__(self) -> None:
        if not self.gamma >= 1:
            raise ConfigError(f"guide.errors.gamma is {self.gamma}, but must be at least 1")
        for name in ("tilt", "shift", "blur"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"guide.errors.{name} is {getattr(self, name)}, but must be at least 0")
        for name in ("thin_share", "region", "wrong_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"guide.errors.{name} is {getattr(self, name)}, but must be between 0 and 1"
                )


def perfect_guide(depth: Tensor) -> Tensor:
    """Inverse depth (B, 1, H, W) in [0, 1], larger = nearer; what has no depth, as the sky, gets 0."""
    near = torch.where(torch.isfinite(depth) & (depth > 0), 1 / depth.clamp_min(1e-6), 0.0)
    return near / near.amax((1, 2, 3), keepdim=True).clamp_min(1e-12)


def simulated_guide(depth: Tensor, errors: GuideErrors, generator: Generator) -> Tensor:
    """Relative depth (B, 1, H, W), larger = nearer, of true depth (B, 1, H, W), metres, NaN = no surface."""
    guide = perfect_guide(depth)
    rows = (len(guide), 1, 1, 1)
    guide = _without_thin(guide, errors.thin_share, generator)
    exponent = errors.gamma ** (2 * uniform(rows, guide, generator) - 1)
    guide = guide**exponent
    guide = _displaced(guide, errors.shift * uniform(rows, guide, generator), generator)
    guide = _with_other_regions(guide, errors.region * uniform(rows, guide, generator), generator)
    guide = gaussian_blur(guide, errors.blur * uniform(rows, guide, generator))
    spread = guide.std((1, 2, 3), keepdim=True, unbiased=False)
    return guide + errors.tilt * uniform(rows, guide, generator) * spread * _field(guide, 1, generator)


def _without_thin(guide: Tensor, share: float, generator: Generator) -> Tensor:
    """An opening (minimum, then maximum) by one of OPENING_SIZES: near things that are thinner vanish."""
    lost = uniform((len(guide), 1, 1, 1), guide, generator) < share
    index = int(torch.randint(1, len(OPENING_SIZES), (), generator=generator, device=guide.device))
    side = OPENING_SIZES[index]
    worn = -F.max_pool2d(-guide, side, stride=1, padding=side // 2)
    return torch.where(lost, F.max_pool2d(worn, side, stride=1, padding=side // 2), guide)


def _displaced(guide: Tensor, pixels: Tensor, generator: Generator) -> Tensor:
    """Read beside where it should be, by a smooth field of up to about `pixels` (B, 1, 1, 1)."""
    height, width = guide.shape[-2:]
    offset = _field(guide, 2, generator) * pixels / 2
    y, x = torch.meshgrid(
        torch.arange(height, device=guide.device, dtype=guide.dtype),
        torch.arange(width, device=guide.device, dtype=guide.dtype),
        indexing="ij",
    )
    where = torch.stack([(x + offset[:, 0]) / width, (y + offset[:, 1]) / height], -1) * 2 - 1
    # A pixel's centre is half a pixel from its corner: with align_corners=False its coordinate is x + 0.5.
    where = where + torch.tensor([1 / width, 1 / height], device=guide.device)
    return F.grid_sample(guide, where, mode="bilinear", padding_mode="border", align_corners=False)


def _with_other_regions(guide: Tensor, area: Tensor, generator: Generator) -> Tensor:
    """Blobs of about `area` (B, 1, 1, 1) of the picture show a slope of their own."""
    inside = _field(guide, 1, generator, (5, 6)) < torch.special.ndtri(area)
    level = guide.mean((1, 2, 3), keepdim=True)
    spread = guide.std((1, 2, 3), keepdim=True, unbiased=False)
    return torch.where(inside, level + spread * _field(guide, 1, generator), guide)


def _field(like: Tensor, channels: int, generator: Generator, nodes: tuple[int, int] = FIELD) -> Tensor:
    """A smooth random field (B, channels, H, W) with a spread of about 1."""
    coarse = normal((len(like), channels, *nodes), like, generator)
    return F.interpolate(coarse, like.shape[-2:], mode="bicubic", align_corners=True)
