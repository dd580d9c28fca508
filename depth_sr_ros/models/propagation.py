# SPDX-License-Identifier: Apache-2.0
"""Depth spreads among pixels of like colour: what is soft at an edge is drawn to one of its sides."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.models.kernel_head import INITIAL_COLOUR_SHARPNESS, LOGIT_RANGE, NEIGHBOURS
from depth_sr_ros.models.nafnet import Pointwise
from depth_sr_ros.models.portable import bordered


class Propagation(nn.Module):
    """Spatial propagation (Cheng et al., ECCV 2018) at full resolution, its affinities learned and of colour.

    In a step of dilation d each pixel takes a mean of itself and its eight neighbours, d pixels away: a
    softmax of a learned term, the same in all steps, minus a learned sharpness times the squared colour
    distance. A gate, zero at the start, says how much of that mean is taken. Term and gate are set for each
    pixel, sharpness for each cell.
    """

    def __init__(self, channels: int, unshuffle: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.dilations = dilations
        self.gate = Pointwise(channels, len(dilations) * unshuffle**2)
        self.logits = Pointwise(channels, len(NEIGHBOURS) * unshuffle**2)
        self.sharpness = Pointwise(channels, len(dilations))
        for layer in (self.gate, self.logits, self.sharpness):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, rgb: Tensor, depth: Tensor) -> Tensor:
        """depth (B, 1, H, W) in metres after all steps.

        features (B, C, h, w) of the cells, padded at the right and the bottom; rgb (B, 3, H, W) in [0, 1].
        """
        height, width = depth.shape[-2:]
        gates = F.pixel_shuffle(self.gate(features), self.unshuffle)[..., :height, :width]
        logits = F.pixel_shuffle(self.logits(features), self.unshuffle)[..., :height, :width]
        sharpness = F.softplus(self.sharpness(features) + INITIAL_COLOUR_SHARPNESS)
        sharpness = F.interpolate(sharpness, scale_factor=float(self.unshuffle), mode="nearest")
        sharpness = sharpness[..., :height, :width]
        # Not slices: the gradient of each would be an image of nine planes.
        terms = logits.split(1, 1)
        for step, dilation in enumerate(self.dilations):
            strength = sharpness[:, step : step + 1]
            mean = _mean_around(depth, terms, _colour_distances(rgb, dilation), strength, dilation)
            depth = torch.lerp(depth, mean, gates[:, step : step + 1])
        return depth


def _around(image: Tensor, dilation: int) -> Iterator[Tensor]:
    """The image as each of NEIGHBOURS sees it, its border repeated."""
    height, width = image.shape[-2:]
    padded = bordered(image, dilation)
    for dy, dx in NEIGHBOURS:
        top, left = (1 + dy) * dilation, (1 + dx) * dilation
        yield padded[..., top : top + height, left : left + width]


@torch.no_grad()
def _colour_distances(rgb: Tensor, dilation: int) -> list[Tensor]:
    """Squared distances to the colours of NEIGHBOURS, (B, 1, H, W) each. Pictures need no gradient."""
    return [(near - rgb).square_().sum(1, keepdim=True) for near in _around(rgb, dilation)]


def _mean_around(
    depth: Tensor, terms: tuple[Tensor, ...], distances: list[Tensor], sharpness: Tensor, dilation: int
) -> Tensor:
    """One step's mean, (B, 1, H, W). A neighbour at a time: a plane stays in the cache, nine do not."""
    total, weights = torch.zeros_like(depth), torch.zeros_like(depth)
    for term, distance, near in zip(terms, distances, _around(depth, dilation), strict=True):
        weight = torch.addcmul(term, distance, sharpness, value=-1).clamp(*LOGIT_RANGE).exp()
        total, weights = torch.addcmul(total, weight, near), weights + weight
    return total / weights
