# SPDX-License-Identifier: Apache-2.0
"""LR depth in metres -> hole-filled, upsampled, normalised network input, and back to metres."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from depth_sr_ros.config import ModelConfig
from depth_sr_ros.models.portable import cell_mean, halved, halvings, median

# A frame flatter than this share of its depth is not stretched further: that would stretch its noise.
MIN_RELATIVE_RANGE = 0.1
# How large a correction is in each unit: a sensor errs by percents, which are thousandths of a 30 m range.
# The residual is given, and the detail taken, in these: without it the first layers see a noise of 1 % under
# a signal of 100 %, and Adam's steps overshoot it.
CORRECTION = {"fixed": 0.005, "frame": 0.05, "log": 0.05}
DETAIL_CELL = 8  # LR pixels over which the local mean is taken that detail is measured from
# Nearer than any depth camera measures; keeps logarithms finite.
MIN_DEPTH_M = 1e-3
# No sensor measures further: what is beyond is a driver's code for "nothing seen", such as 1e6 or the largest
# number, and a single one of those would bend the whole frame.
MAX_DEPTH_M = 1e5


def valid_mask(depth: Tensor) -> Tensor:
    """True where `depth` is a measurement: above 0, up to MAX_DEPTH_M (REP 117: NaN and +-inf are none)."""
    return (depth > 0) & (depth <= MAX_DEPTH_M)


def fill_holes(depth: Tensor, valid: Tensor) -> Tensor:
    """Fill invalid pixels from their surroundings by a push-pull pyramid; valid pixels stay as they are.

    depth and valid (bool) are (B, 1, h, w). Each level averages the valid pixels of 2x2 cells; going back,
    a hole takes the bilinearly upsampled coarser level. Where nothing is valid the result is 1. No value
    is read back by the host, so the pass does not synchronise a GPU.
    """
    weight = valid.float()
    levels = [(torch.where(valid, depth, 0.0), weight)]
    for _ in range(halvings(depth.shape)):
        value, weight = levels[-1]
        total = halved(weight)
        mean = halved(value * weight) / total.clamp_min(1e-12)
        levels.append((mean, (total > 0).float()))
    value, weight = levels.pop()
    value = torch.where(weight > 0, value, 1.0)
    for finer, weight in reversed(levels):
        coarse = F.interpolate(value, finer.shape[-2:], mode="bilinear", align_corners=False)
        value = torch.where(weight > 0, finer, coarse)
    return value


def local_detail(value: Tensor) -> Tensor:
    """What (B, 1, h, w) holds beyond its local mean, over cells of DETAIL_CELL pixels, blended bilinearly."""
    mean = cell_mean(value, DETAIL_CELL)
    return value - F.interpolate(mean, value.shape[-2:], mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class DepthNormalizer:
    """Per-sample map between metres and the network's unit, chosen by `ModelConfig.normalization`.

    `shift` and `scale` are (B, 1, 1, 1) in metres (for `log`: the median, and unused).
    """

    kind: str
    shift: Tensor
    scale: Tensor

    @property
    def correction(self) -> float:
        """A typical correction in the network's unit."""
        return CORRECTION[self.kind]

    @classmethod
    def from_frame(cls, filled: Tensor, config: ModelConfig) -> DepthNormalizer:
        """Take what is per frame from the filled LR depth (B, 1, h, w), in metres."""
        flat = filled.flatten(1)
        if config.normalization == "log":
            shift = median(flat).clamp_min(MIN_DEPTH_M)
            scale = torch.ones_like(shift)
        elif config.normalization == "frame":
            shift, high = flat.min(dim=1).values, flat.max(dim=1).values
            scale = torch.maximum(high - shift, MIN_RELATIVE_RANGE * high).clamp_min(MIN_DEPTH_M)
        else:
            shift = torch.zeros_like(flat[:, 0])
            scale = torch.full_like(shift, config.depth_clip * config.unit_m)
        return cls(config.normalization, shift.view(-1, 1, 1, 1), scale.view(-1, 1, 1, 1))

    def normalize(self, depth: Tensor) -> Tensor:
        """Metres (B, 1, H, W) -> network unit."""
        if self.kind == "log":
            return torch.log(depth.clamp_min(MIN_DEPTH_M) / self.shift)
        return (depth - self.shift) / self.scale

    def denormalize(self, value: Tensor) -> Tensor:
        """Network unit (B, 1, H, W) -> metres, never below MIN_DEPTH_M."""
        if self.kind == "log":
            return (torch.exp(value) * self.shift).clamp_min(MIN_DEPTH_M)
        return (value * self.scale + self.shift).clamp_min(MIN_DEPTH_M)
