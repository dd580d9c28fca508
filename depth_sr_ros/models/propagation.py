# SPDX-License-Identifier: Apache-2.0
"""Depth spreads among pixels of like colour: what is soft at an edge is drawn to one of its sides."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.models.kernel_head import INITIAL_COLOUR_SHARPNESS, LOGIT_RANGE, NEIGHBOURS
from depth_sr_ros.models.nafnet import Pointwise


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
        for step, dilation in enumerate(self.dilations):
            mean = _mean_around(rgb, depth, logits, sharpness[:, step : step + 1], dilation)
            depth = torch.lerp(depth, mean, gates[:, step : step + 1])
        return depth


def _mean_around(rgb: Tensor, depth: Tensor, logits: Tensor, sharpness: Tensor, dilation: int) -> Tensor:
    """One step's mean, (B, 1, H, W). A neighbour at a time: all nine at once would be 9 x 4 planes."""
    height, width = depth.shape[-2:]
    around = F.pad(torch.cat([rgb, depth], 1), (dilation,) * 4, mode="replicate")
    total, weights = torch.zeros_like(depth), torch.zeros_like(depth)
    for k, (dy, dx) in enumerate(NEIGHBOURS):
        top, left = (1 + dy) * dilation, (1 + dx) * dilation
        near = around[..., top : top + height, left : left + width]
        logit = logits[:, k : k + 1] - sharpness * (near[:, :3] - rgb).square().sum(1, keepdim=True)
        weight = logit.clamp(*LOGIT_RANGE).exp()
        total, weights = total + weight * near[:, 3:], weights + weight
    return total / weights
