# SPDX-License-Identifier: Apache-2.0
"""Filters of batches whose strength differs from sample to sample."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(x: Tensor, sigma: Tensor) -> Tensor:
    """x (B, C, H, W), blurred by a Gaussian of `sigma` (B, 1, 1, 1) pixels; 0: not at all."""
    widest = float(sigma.max())
    if not widest:
        return x
    batch, channels = x.shape[:2]
    reach = int(3 * widest + 1)
    offset = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    taps = torch.exp(-0.5 * (offset / sigma.clamp_min(0.05).view(-1, 1)) ** 2)
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    # Each sample has its own taps: samples and channels become the groups of one convolution.
    planes = x.reshape(1, batch * channels, *x.shape[2:])
    for pad, shape in (
        ((reach, reach, 0, 0), (-1, 1, 1, taps.shape[1])),
        ((0, 0, reach, reach), (-1, 1, taps.shape[1], 1)),
    ):
        planes = F.conv2d(F.pad(planes, pad, mode="replicate"), taps.view(shape), groups=batch * channels)
    return planes.view_as(x)
