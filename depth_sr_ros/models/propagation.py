# SPDX-License-Identifier: Apache-2.0
"""Depth spreads among pixels of like colour: what is soft at an edge is drawn to one of its sides."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.models.nafnet import Pointwise

INITIAL_COLOUR_SHARPNESS = 50.0
AROUND = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


class Propagation(nn.Module):
    """Steps of a bilateral filter at full resolution whose strength the network sets.

    In a step of dilation d each pixel takes the mean of itself and its eight neighbours, d pixels away,
    weighted by exp(-sharpness |colour difference|^2); a gate, zero at the start, says how much of that mean
    is taken. Sharpness is set for each cell and step, the gate for each pixel and step. (Convolutional
    spatial propagation, Cheng et al., ECCV 2018, learns the weights themselves; here colour gives them.)
    """

    def __init__(self, channels: int, unshuffle: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.dilations = dilations
        self.gate = Pointwise(channels, len(dilations) * unshuffle**2)
        self.sharpness = Pointwise(channels, len(dilations))
        for layer in (self.gate, self.sharpness):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, rgb: Tensor, depth: Tensor) -> Tensor:
        """depth (B, 1, H, W), in any unit, after all steps.

        features (B, C, h, w) of the cells; rgb (B, 3, H, W) in [0, 1]; H and W are those of all cells.
        """
        gates = F.pixel_shuffle(self.gate(features), self.unshuffle)
        sharpness = F.softplus(self.sharpness(features) + INITIAL_COLOUR_SHARPNESS)
        sharpness = F.interpolate(sharpness, scale_factor=float(self.unshuffle), mode="nearest")
        for step, dilation in enumerate(self.dilations):
            mean = _bilateral_mean(rgb, depth, sharpness[:, step : step + 1], dilation)
            depth = torch.lerp(depth, mean, gates[:, step : step + 1])
        return depth


def _bilateral_mean(rgb: Tensor, depth: Tensor, sharpness: Tensor, dilation: int) -> Tensor:
    height, width = depth.shape[-2:]
    around = F.pad(torch.cat([rgb, depth], 1), (dilation,) * 4, mode="replicate")
    total, weights = depth, torch.ones_like(depth)
    for dy, dx in AROUND:
        top, left = (1 + dy) * dilation, (1 + dx) * dilation
        near = around[..., top : top + height, left : left + width]
        weight = torch.exp(-sharpness * (near[:, :3] - rgb).square().sum(1, keepdim=True))
        total, weights = total + weight * near[:, 3:], weights + weight
    return total / weights
