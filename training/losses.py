# SPDX-License-Identifier: Apache-2.0
"""The published loss, masked: L1(D_SR, D_GT) + L1(Sobel(D_SR), Sobel(D_GT))."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Divided by 8, so that the response is the slope per pixel: the two terms of the loss then have one unit.
SOBEL_X = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8


def sobel(x: Tensor) -> Tensor:
    """Horizontal and vertical slope per pixel, (B, 1, H, W) -> (B, 2, H-2, W-2)."""
    kernel = torch.stack([SOBEL_X, SOBEL_X.T])[:, None].to(x)
    return F.conv2d(x, kernel)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x where mask (broadcastable, bool) holds; 0 where it holds nowhere."""
    weight = mask.to(x).expand_as(x)
    return (x * weight).sum() / weight.sum().clamp_min(1)


def depth_loss(pred: Tensor, target: Tensor, valid: Tensor, sobel_weight: float = 1.0) -> dict[str, Tensor]:
    """Loss terms over (B, 1, H, W) maps in the network's unit; `target` may hold anything where not `valid`.

    The published write-up does not say whether Sobel means its components or their magnitude: components
    are ours, since a magnitude cannot tell a slope from its opposite. A slope counts where all nine of
    its pixels are valid.
    """
    # Where the target is not valid both maps are zero: NaN would survive a multiplication with the mask.
    pred = torch.where(valid, pred, 0.0)
    target = torch.where(valid, target, 0.0)
    whole = F.max_pool2d((~valid).to(pred), 3, stride=1) == 0
    l1 = masked_mean((pred - target).abs(), valid)
    edges = masked_mean((sobel(pred) - sobel(target)).abs(), whole)
    return {"loss": l1 + sobel_weight * edges, "l1": l1, "sobel": edges}
