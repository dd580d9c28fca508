# SPDX-License-Identifier: Apache-2.0
"""How far an answer may be off: a scale for each pixel, and the chance that is published of it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.models.nafnet import Pointwise

HIDDEN = 32
INITIAL_SCALE = 0.02  # of the depth
LOG_SCALE_RANGE = (-9.0, 2.0)
TOLERANCE = 0.05  # of the depth


class ConfidenceHead(nn.Module):
    """The scale of a Laplace distribution around the answer, for each pixel: log(b / depth).

    It reads the features behind the answer; the answer does not depend on it.
    """

    def __init__(self, channels: int, unshuffle: int) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.hidden = Pointwise(channels, HIDDEN)
        self.log_scale = Pointwise(HIDDEN, unshuffle**2)
        nn.init.zeros_(self.log_scale.weight)
        nn.init.constant_(self.log_scale.bias, math.log(INITIAL_SCALE))

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """features (B, C, h, w) of cells -> (B, 1, H, W); `size` is the image's (H, W)."""
        scale = F.pixel_shuffle(self.log_scale(F.relu(self.hidden(features))), self.unshuffle)
        return scale[..., : size[0], : size[1]].clamp(*LOG_SCALE_RANGE)


def confidence_of(log_scale: Tensor) -> Tensor:
    """The chance, 0 to 1, that the answer is within TOLERANCE of the depth: 1 - exp(-TOLERANCE depth / b)."""
    return -torch.expm1(-TOLERANCE * torch.exp(-log_scale))
