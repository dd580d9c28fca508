# SPDX-License-Identifier: Apache-2.0
"""Depth spreads among pixels of like colour: what is soft at an edge is drawn to one of its sides."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.models.back_projection import LEAST_SHARE
from depth_sr_ros.models.kernel_head import INITIAL_COLOUR_SHARPNESS, LOGIT_RANGE, NEIGHBOURS
from depth_sr_ros.models.nafnet import Pointwise
from depth_sr_ros.models.portable import bordered

BLOCK_PIXELS = 77_000  # 0.3 MB a plane


class Propagation(nn.Module):
    """Spatial propagation (Cheng et al., ECCV 2018) at full resolution, its affinities learned and of colour.

    In a step of dilation d each pixel takes a mean of itself and its eight neighbours, d pixels away: a
    softmax of a learned term, the same in all steps, minus a learned sharpness times the squared colour
    distance. A gate, zero at the start, says how much of that mean is taken: above 1 or below 0 too, but
    at least LEAST_SHARE of the depth is left. Term and gate are set for each pixel, sharpness for each cell.
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
        # In planes: of pixels beside each other torch takes four times as long to repeat them.
        sharpness = F.interpolate(sharpness.contiguous(), scale_factor=float(self.unshuffle), mode="nearest")
        sharpness = sharpness[..., :height, :width]
        # Not slices: the gradient of each would be an image of nine planes.
        terms = logits.split(1, 1)
        for step, dilation in enumerate(self.dilations):
            strength = sharpness[:, step : step + 1]
            mean = _mean_around(depth, terms, _colour_distances(rgb, dilation), strength, dilation)
            moved = torch.lerp(depth, mean, gates[:, step : step + 1])
            depth = torch.maximum(moved, LEAST_SHARE * depth)
        return depth


def _around(image: Tensor, dilation: int) -> list[Tensor]:
    """The image as each of NEIGHBOURS sees it, its border repeated."""
    height, width = image.shape[-2:]
    padded = bordered(image, dilation)
    corners = [((1 + dy) * dilation, (1 + dx) * dilation) for dy, dx in NEIGHBOURS]
    return [padded[..., top : top + height, left : left + width] for top, left in corners]


@torch.no_grad()
def _colour_distances(rgb: Tensor, dilation: int) -> list[Tensor]:
    """Squared distances to the colours of NEIGHBOURS, (B, 1, H, W) each. Pictures need no gradient.

    Of two pixels it is the same both ways. So those to the neighbours above and left are computed, for all
    pixels and those that lie one step below or right of them, to which they are the opposite neighbours.
    """
    height, width = rgb.shape[-2:]
    padded = bordered(rgb, dilation)
    first, opposite = [], []
    for dy, dx in NEIGHBOURS[: len(NEIGHBOURS) // 2]:
        down, right = -dy * dilation, -dx * dilation  # to the pixel whose neighbour this one is; down >= 0
        left = dilation + min(0, right)
        here = padded[..., dilation : dilation + height + down, left : left + width + abs(right)]
        top, left = dilation - down, left - right
        near = padded[..., top : top + height + down, left : left + width + abs(right)]
        distance = (near - here).square_().sum(1, keepdim=True)
        left = max(0, -right)
        first.append(distance[..., :height, left : left + width])
        opposite.append(distance[..., down : down + height, left + right : left + right + width])
    return [*first, torch.zeros_like(rgb[:, :1]), *reversed(opposite)]


def _mean_around(
    depth: Tensor, terms: tuple[Tensor, ...], distances: list[Tensor], sharpness: Tensor, dilation: int
) -> Tensor:
    """One step's mean, (B, 1, H, W). A neighbour at a time: a plane stays in the cache, nine do not."""
    near = _around(depth, dilation)
    plain = torch.is_grad_enabled() or torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()
    if plain or not depth.is_cpu:
        total, weights = torch.zeros_like(depth), torch.zeros_like(depth)
        for term, distance, each in zip(terms, distances, near, strict=True):
            weight = torch.addcmul(term, distance, sharpness, value=-1).clamp(*LOGIT_RANGE).exp()
            total, weights = torch.addcmul(total, weight, each), weights + weight
        return total / weights
    # On a CPU where they lie, and in blocks of rows that stay nearer than a plane does: half the time.
    mean = torch.empty_like(depth)
    rows = max(1, BLOCK_PIXELS // depth.shape[-1])
    for start in range(0, depth.shape[-2], rows):
        part = (..., slice(start, start + rows), slice(None))
        total, weights = torch.zeros_like(depth[part]), torch.zeros_like(depth[part])
        for term, distance, each in zip(terms, distances, near, strict=True):
            weight = torch.addcmul(term[part], distance[part], sharpness[part], value=-1)
            weight.clamp_(*LOGIT_RANGE).exp_()
            total.addcmul_(weight, each[part])
            weights.add_(weight)
        torch.div(total, weights, out=mean[part])
    return mean
