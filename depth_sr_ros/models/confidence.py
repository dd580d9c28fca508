# SPDX-License-Identifier: Apache-2.0
"""How far an answer may be off: a scale for each pixel, and the chance that is published of it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.models.nafnet import Pointwise, to_cells

HIDDEN = 32
INITIAL_SCALE = 0.02  # of the depth
LOG_SCALE_RANGE = (-9.0, 2.0)
TOLERANCE = 0.05  # of the depth
STEEP = 0.05  # a change of the depth's logarithm between neighbours that is an edge


class ConfidenceHead(nn.Module):
    """The scale of a Laplace distribution around the answer, for each pixel: log(b / depth).

    It reads the features behind the answer, and of the answer what they do not hold: how far away the surface
    is (in the network's unit that is lost, and with the distance a sensor's noise grows) and how steep the
    depth is around a pixel. The answer does not depend on it.
    """

    def __init__(self, channels: int, unshuffle: int) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.hidden = Pointwise(channels + 2 * unshuffle**2, HIDDEN)
        self.log_scale = Pointwise(HIDDEN, unshuffle**2)
        nn.init.zeros_(self.log_scale.weight)
        nn.init.constant_(self.log_scale.bias, math.log(INITIAL_SCALE))

    def forward(self, features: Tensor, depth: Tensor) -> Tensor:
        """features (B, C, h, w) of cells and the answer (B, 1, H, W), metres -> (B, 1, H, W)."""
        log_depth = depth.detach().clamp_min(1e-3).log()
        steepness = F.max_pool2d(log_depth, 3, 1, 1) + F.max_pool2d(-log_depth, 3, 1, 1)
        seen = torch.cat([log_depth, (steepness / STEEP).clamp_max(2)], 1)
        height, width = depth.shape[-2:]
        padding = (
            0,
            features.shape[3] * self.unshuffle - width,
            0,
            features.shape[2] * self.unshuffle - height,
        )
        cells = to_cells(F.pad(seen, padding, mode="replicate"), self.unshuffle)
        hidden = F.relu(self.hidden(torch.cat([features, cells], 1)))
        scale = F.pixel_shuffle(self.log_scale(hidden), self.unshuffle)
        return scale[..., :height, :width].clamp(*LOG_SCALE_RANGE)


def confidence_of(log_scale: Tensor) -> Tensor:
    """The chance, 0 to 1, that the answer is within TOLERANCE of the depth: 1 - exp(-TOLERANCE depth / b)."""
    return -torch.expm1(-TOLERANCE * torch.exp(-log_scale))
