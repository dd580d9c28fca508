# SPDX-License-Identifier: Apache-2.0
"""Whether a relative-depth guide shows what the depth sensor measured; else it is left out. Ours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from depth_sr_ros.models.normalization import MIN_DEPTH_M
from depth_sr_ros.models.portable import area_mean

WINDOW = 5  # LR pixels a side, of the mean from which contrast is measured
# Contrast below these is noise, above them an edge, whose height then counts little: of the depth, and of the
# guide's spread.
DEPTH_CONTRAST, GUIDE_CONTRAST = 0.02, 0.05
# Correlations, from rendered/val. Other pictures' guides stay below the first in 9 of 10 frames. Simulated
# guides between the two gain 1 to 5 % of RMSE where they are right, and cost 10 to 30 % where they lie beside
# the picture.
DISTRUSTED, TRUSTED = 0.15, 0.3


def checked_guide(relative_depth: Tensor, filled: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """`relative_depth` (B, 1, H, W), zero mean, faded to zeros where it disagrees with the LR depth.

    Also how much of it is left, (B, 1, 1, 1): 1 all, 0 nothing. Both stay on the device: nobody waits for
    the decision.

    `filled` (B, 1, h, w): metres, without holes; `mask`: 1 where it was measured. A right guide is near where
    the depth is small: their contrasts against their own surroundings correlate. Large shapes do not count,
    since many rooms have the floor below and the wall behind.
    """
    size = (filled.shape[2], filled.shape[3])
    here = -_contrast(filled.clamp_min(MIN_DEPTH_M).log(), DEPTH_CONTRAST)
    there = _contrast(area_mean(relative_depth, size), GUIDE_CONTRAST)
    correlation = _correlation(here, there, mask)
    share = ((correlation - DISTRUSTED) / (TRUSTED - DISTRUSTED)).clamp(0, 1)
    return relative_depth * share, share


def _contrast(value: Tensor, step: float) -> Tensor:
    """What (B, 1, h, w) differs from its surroundings by, in steps, large ones compressed."""
    margin = WINDOW // 2
    mean = F.avg_pool2d(F.pad(value, (margin,) * 4, mode="replicate"), WINDOW, stride=1)
    return torch.asinh((value - mean) / step)


def _correlation(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Pearson's, over the masked pixels of each sample (B, 1, h, w): (B, 1, 1, 1); 0 where one is flat."""
    dims = (1, 2, 3)
    count = mask.sum(dims, keepdim=True).clamp_min(1)
    a = (a - (a * mask).sum(dims, keepdim=True) / count) * mask
    b = (b - (b * mask).sum(dims, keepdim=True) / count) * mask
    spread = (a.square().sum(dims, keepdim=True) * b.square().sum(dims, keepdim=True)).sqrt()
    return (a * b).sum(dims, keepdim=True) / spread.clamp_min(1e-6)
