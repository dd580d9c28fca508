# SPDX-License-Identifier: Apache-2.0
"""Sharp depth edges as a choice: each pixel mixes the depths of the nine coarse cells around it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.models.nafnet import Pointwise, pointwise

NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
# Where training starts from: a colour difference of 0.1 and a distance of 0.7 cells are one sigma.
INITIAL_COLOUR_SHARPNESS = 50.0
INITIAL_SIGMA_CELLS = 0.7
# Of the logits: their exponentials and the sum of nine of them stay far inside float32.
LOGIT_RANGE = (-30.0, 15.0)
BLOCK_CELLS = 1280  # 0.7 MB of logits


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
        self.logits = Pointwise(channels, unshuffle**2 * len(NEIGHBOURS))
        self.cell = Pointwise(channels, 2)  # a correction of the cell's depth, and its colour sharpness
        for layer in (self.gate, self.logits, self.cell):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.logits.bias.copy_(_spatial_prior(unshuffle))

    def forward(self, features: Tensor, rgb: Tensor, depth: Tensor, correction: float) -> Tensor:
        """New depth in the layout of `depth`, float32.

        features (B, C, h, w), rgb (B, 3 s^2, h, w) in [0, 1] and depth (B, s^2, h, w): the subpixels of each
        cell (see `to_cells`), depth in the network's unit, in which a typical correction is `correction`.
        """
        shift, sharpness, gate = self._per_cell(features)
        cells = depth.mean(1, keepdim=True) + correction * shift
        around = _surrounded(torch.cat([cells, _colour_terms(rgb)], 1))
        weight, bias = self.logit_layer()
        height, width = depth.shape[-2:]
        # On a CPU in blocks whose nine logits a pixel stay in its cache: twice as fast as all at once.
        if torch.is_grad_enabled() or not depth.is_cpu or torch.onnx.is_in_onnx_export():
            return _mix(features, rgb, sharpness, depth, gate, around, weight, bias)
        rows = max(1, BLOCK_CELLS // width)
        out = []
        for start in range(0, height, rows):
            part = slice(start, start + rows)
            out.append(
                _mix(
                    features[:, :, part],
                    rgb[:, :, part],
                    sharpness[:, :, part],
                    depth[:, :, part],
                    gate[:, :, part],
                    around[:, start : start + rows + 2],
                    weight,
                    bias,
                )
            )
        return torch.cat(out, 2)

    def _per_cell(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shift (B, 1, h, w), sharpness (B, 1, h, w) and gate (B, s^2, h, w), by one product."""
        weight = torch.cat([self.cell.weight, self.gate.weight])
        bias = torch.cat([self.cell.bias, self.gate.bias])
        shift, sharpness, gate = pointwise(features, weight, bias).split([1, 1, self.unshuffle**2], 1)
        return shift, F.softplus(sharpness + INITIAL_COLOUR_SHARPNESS), gate

    def logit_layer(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the learned term, a neighbour's subpixels beside each other."""
        order = (self.unshuffle**2, len(NEIGHBOURS), -1)
        weight, bias = (p.view(order).transpose(0, 1) for p in (self.logits.weight, self.logits.bias))
        return weight.reshape(-1, self.logits.weight.shape[1]), bias.flatten()


def _mix(
    features: Tensor,
    rgb: Tensor,
    sharpness: Tensor,
    depth: Tensor,
    gate: Tensor,
    around: Tensor,
    weight: Tensor,
    bias: Tensor,
) -> Tensor:
    """`forward` for some rows; `around` (B, rows + 2, w + 2, 6) has their cells' depth and colour terms."""
    batch, subpixels, height, width = depth.shape
    near = _neighbours(around)
    # Their product is -sharpness |pixel - cell|^2. The pixel's own cell says how sharp.
    means = near[..., 1:] * sharpness.permute(0, 2, 3, 1).reshape(-1, 1, 1)
    pixels = rgb.permute(0, 2, 3, 1).reshape(-1, 3, subpixels)
    squares = pixels.square().sum(1, keepdim=True)
    pixels = torch.cat([pixels, squares, torch.ones_like(squares)], 1)
    logits = pointwise(features, weight, bias).permute(0, 2, 3, 1).reshape(-1, len(NEIGHBOURS), subpixels)
    logits = torch.baddbmm(logits, means, pixels)
    # The sums of a softmax as a matrix product: torch's own, over nine values, is ten times slower.
    weights = logits.clamp(*LOGIT_RANGE).exp()
    one = torch.ones_like(near[..., 0])
    # The third row is idle: with two torch does not take its batched GEMM, which is four times faster.
    sums = torch.bmm(torch.stack([near[..., 0], one, one], 1), weights)
    mixture = (sums[:, 0] / sums[:, 1]).view(batch, height, width, subpixels).permute(0, 3, 1, 2)
    return torch.lerp(depth, mixture, gate)


def _colour_terms(rgb: Tensor) -> Tensor:
    """(2 m, -1, -|m|^2) of the cells' mean colours m, (B, 5, h, w): |p - m|^2 = |p|^2 - 2 p m + |m|^2."""
    mean = rgb.reshape(rgb.shape[0], 3, -1, *rgb.shape[2:]).mean(2)
    return torch.cat([2 * mean, -torch.ones_like(mean[:, :1]), -mean.square().sum(1, keepdim=True)], 1)


def _surrounded(x: Tensor) -> Tensor:
    """With its border cells repeated on all sides: (B, C, h, w) -> (B, h + 2, w + 2, C)."""
    return F.pad(x, (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1)


def _neighbours(x: Tensor) -> Tensor:
    """The 3x3 surroundings of each inner cell: (B, h + 2, w + 2, C) -> (B h w, 9, C)."""
    height, width = x.shape[1] - 2, x.shape[2] - 2
    parts = [x[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in NEIGHBOURS]
    return torch.stack(parts, 3).flatten(0, 2)


def _spatial_prior(unshuffle: int) -> Tensor:
    """Log-weights of a Gaussian of the distance, in cells, of each subpixel to the nine centres: (s^2 9,)."""
    centre = (torch.arange(unshuffle) + 0.5) / unshuffle - 0.5
    squares = [(centre[:, None] - dy) ** 2 + (centre[None] - dx) ** 2 for dy, dx in NEIGHBOURS]
    return -torch.stack(squares, -1).flatten() / (2 * INITIAL_SIGMA_CELLS**2)
