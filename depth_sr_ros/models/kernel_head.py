# SPDX-License-Identifier: Apache-2.0
"""Sharp depth edges as a choice: each pixel mixes the depths of the nine coarse cells around it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.models.nafnet import Pointwise

NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
# Where training starts from: a colour difference of 0.1 and a distance of 0.7 cells are one sigma.
INITIAL_COLOUR_SHARPNESS = 50.0
INITIAL_SIGMA_CELLS = 0.7
# Of the logits: their exponentials and the sum of nine of them stay far inside float32.
LOGIT_RANGE = (-30.0, 15.0)


class KernelHead(nn.Module):
    """Joint bilateral upsampling (Kopf et al., SIGGRAPH 2007) whose weights a network sets.

    A residual that sharpens an edge must be as large as the edge is high, and right to the pixel. Here the
    network says which of the neighbouring cells a pixel belongs to, whatever their depths are: the weights
    are a softmax over the 3x3 cells of a learned term minus a learned sharpness times the squared colour
    distance of pixel and cell. A gate, zero at the start, says how much of the mixture is taken.
    """

    def __init__(self, channels: int, unshuffle: int) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.gate = Pointwise(channels, unshuffle**2)
        # A subpixel's nine logits lie beside each other: the products below need no transposition.
        self.logits = Pointwise(channels, unshuffle**2 * len(NEIGHBOURS))
        self.cell = Pointwise(channels, 2)  # a correction of the cell's depth, and its colour sharpness
        for layer in (self.gate, self.logits, self.cell):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.logits.bias.copy_(_spatial_prior(unshuffle))

    def forward(self, features: Tensor, rgb: Tensor, depth: Tensor, correction: float) -> Tensor:
        """New depth in the layout of `depth`, float32.

        features (B, C, h, w), rgb (B, 3, h s, w s) in [0, 1], depth (B, s^2, h, w): the subpixels of each
        cell, in the network's unit, in which a typical correction is `correction`.
        """
        batch, subpixels, height, width = depth.shape
        shift, sharpness = self.cell(features).split(1, dim=1)
        cells = depth.mean(1, keepdim=True) + correction * shift
        pixels, means = self._colours(rgb, F.softplus(sharpness + INITIAL_COLOUR_SHARPNESS))
        logits = self.logits(features).permute(0, 2, 3, 1).reshape(-1, subpixels, len(NEIGHBOURS))
        logits = torch.baddbmm(logits, pixels, means.transpose(1, 2))
        # The sums of a softmax as a matrix product: torch's own, over rows of nine, is ten times slower.
        weights = logits.clamp(*LOGIT_RANGE).exp()
        sums = torch.bmm(weights, _around(torch.cat([cells, torch.ones_like(cells)], 1)))
        mixture = (sums[..., 0] / sums[..., 1]).view(batch, height, width, subpixels).permute(0, 3, 1, 2)
        return torch.lerp(depth, mixture, self.gate(features))

    def _colours(self, rgb: Tensor, sharpness: Tensor) -> tuple[Tensor, Tensor]:
        """Two factors, (n, s^2, 5) and (n, 9, 5), n cells: their product is -sharpness |pixel - cell|^2."""
        pixels = F.pixel_unshuffle(rgb, self.unshuffle).unflatten(1, (3, -1))
        mean = pixels.mean(2)
        # |p - m|^2 = |p|^2 - 2 p m + |m|^2
        squares = pixels.square().sum(1, keepdim=True)
        left = torch.cat([pixels, squares, torch.ones_like(squares)], 1).permute(0, 3, 4, 2, 1)
        one = torch.ones_like(mean[:, :1])
        right = _around(torch.cat([2 * mean, -one, -mean.square().sum(1, keepdim=True)], 1))
        # The pixel's own cell says how sharp; it stands in the middle of every row.
        return left.flatten(0, 2).contiguous(), right * sharpness.permute(0, 2, 3, 1).reshape(-1, 1, 1)


def _around(x: Tensor) -> Tensor:
    """The 3x3 surroundings of each cell, repeated at the border: (B, C, h, w) -> (B h w, 9, C)."""
    height, width = x.shape[-2:]
    x = F.pad(x, (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1)
    parts = [x[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in NEIGHBOURS]
    return torch.stack(parts, 3).flatten(0, 2)


def _spatial_prior(unshuffle: int) -> Tensor:
    """Log-weights of a Gaussian of the distance, in cells, of each subpixel to the nine centres: (s^2 9,)."""
    centre = (torch.arange(unshuffle) + 0.5) / unshuffle - 0.5
    squares = [(centre[:, None] - dy) ** 2 + (centre[None] - dx) ** 2 for dy, dx in NEIGHBOURS]
    return -torch.stack(squares, -1).flatten() / (2 * INITIAL_SIGMA_CELLS**2)
