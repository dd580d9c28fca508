# SPDX-License-Identifier: Apache-2.0
"""Fusion of relative-depth and LR-depth features: adaptive instance normalisation, or a plain sum."""

from __future__ import annotations

import torch
from torch import Tensor

from depth_sr_ros.models.nafnet import spatial_mean

EPS = 1e-5


def _mean_and_variance(x: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    # Not E[x^2] - E[x]^2, which cancels for maps whose mean is large beside their spread. On CUDA torch's
    # kernel is Welford's: one pass.
    if x.is_cuda:
        real = x[..., : size[0], : size[1]].float()
        variance, mean = torch.var_mean(real, (2, 3), correction=0, keepdim=True)
        return mean, variance
    mean = spatial_mean(x, size)
    return mean, spatial_mean((x.float() - mean).square(), size)


def adain(rel: Tensor, lr: Tensor, size: tuple[int, int]) -> Tensor:
    """Give `rel` the per-channel mean and spread of `lr` (Huang & Belongie, ICCV 2017).

    sigma_lr * (rel - mu_rel) / sigma_rel + mu_lr, with sigma = sqrt(variance + 1e-5), per sample and
    channel over the real pixels `size` = (height, width). Maps are (B, C, H, W). No parameters.
    """
    mean_rel, var_rel = _mean_and_variance(rel, size)
    mean_lr, var_lr = _mean_and_variance(lr, size)
    scale = torch.sqrt((var_lr + EPS) / (var_rel + EPS))
    # One multiply-add over the map, in float32: where `rel` is flat the scale is large, and product and shift
    # are large and cancel.
    shift = mean_lr - mean_rel * scale
    return torch.addcmul(shift, rel.float(), scale).to(rel.dtype)


def fuse(rel: Tensor, lr: Tensor, size: tuple[int, int], kind: str) -> Tensor:
    """Fused features by `kind`: "adain", or "add" (the ablation)."""
    return adain(rel, lr, size) if kind == "adain" else rel + lr
