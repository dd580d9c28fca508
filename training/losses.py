# SPDX-License-Identifier: Apache-2.0
"""The published loss, masked: L1(D_SR, D_GT) + L1(Sobel(D_SR), Sobel(D_GT)); and two terms of ours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from depth_sr_ros.config import check_choice
from depth_sr_ros.errors import ConfigError
from training.degradation import quantiles

UNITS = ("network", "scene")
RMSE_FLOOR = 1e-6
# Divided by 8, so that the response is the slope per pixel: the two terms of the loss then have one unit.
SOBEL_X = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms, and the unit in which depths are compared.

    `unit`: `network`, as the network normalises depth (published: a fixed range); `scene`, metres over the
    span of the true depth. The published loss is l1 1, sobel 1, rmse 0. `laplace`, ours, is for a network
    with confidence: the negative log-likelihood of its scale.
    """

    l1: float = 1.0
    sobel: float = 1.0
    rmse: float = 0.0
    laplace: float = 0.0
    unit: str = "network"

    def __post_init__(self) -> None:
        check_choice("loss.unit", self.unit, UNITS)
        weights = {name: getattr(self, name) for name in ("l1", "sobel", "rmse", "laplace")}
        if min(weights.values()) < 0 or not sum(weights.values()) > 0:
            raise ConfigError(f"the weights in loss are {weights}, but must be at least 0 and not all 0")


def sobel(x: Tensor) -> Tensor:
    """Horizontal and vertical slope per pixel, (B, 1, H, W) -> (B, 2, H-2, W-2)."""
    kernel = torch.stack([SOBEL_X, SOBEL_X.T])[:, None].to(x)
    return F.conv2d(x, kernel)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x where mask (broadcastable, bool) holds; 0 where it holds nowhere."""
    weight = mask.to(x).expand_as(x)
    return (x * weight).sum() / weight.sum().clamp_min(1)


def scene_span(depth: Tensor, valid: Tensor) -> Tensor:
    """Metres from the 2nd to the 98th percentile of the valid pixels of (B, 1, H, W), as (B, 1, 1, 1).

    At least a tenth of the far one: in a flat view the unit does not shrink to the sensor's noise. 1 m where
    nothing is valid.
    """
    near, far = quantiles(torch.where(valid, depth, torch.nan), (0.02, 0.98))
    return torch.maximum(far - near, 0.1 * far).nan_to_num(1.0)


def laplace_loss(depth: Tensor, log_scale: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean negative log-likelihood of `target` under a Laplace distribution around `depth`, less a constant.

    Its scale b is exp(log_scale) of the depth: |target - depth| / b + log(b / depth). All (B, 1, H, W),
    metres; the answer itself gets no gradient: it is not to be worse where being unsure is cheap.
    """
    depth = depth.detach()
    error = (torch.where(valid, target, depth) - depth).abs() / depth
    return masked_mean(error * torch.exp(-log_scale) + log_scale, valid)


def depth_loss(pred: Tensor, target: Tensor, valid: Tensor, weights: LossConfig) -> dict[str, Tensor]:
    """Loss terms over (B, 1, H, W) maps in one unit; `target` may hold anything where not `valid`.

    The published write-up does not say whether Sobel means its components or their magnitude: components
    are ours, since a magnitude cannot tell a slope from its opposite. A slope counts where all nine of
    its pixels are valid. The term `rmse`, the mean over samples of the root mean square error, is ours too.
    """
    # Where the target is not valid both maps are zero: NaN would survive a multiplication with the mask.
    pred = torch.where(valid, pred, 0.0)
    target = torch.where(valid, target, 0.0)
    whole = F.max_pool2d((~valid).to(pred), 3, stride=1) == 0
    error = pred - target
    square = error.square().sum((1, 2, 3)) / valid.sum((1, 2, 3)).clamp_min(1)
    terms = {
        "l1": masked_mean(error.abs(), valid),
        "sobel": masked_mean((sobel(pred) - sobel(target)).abs(), whole),
        # The gradient of a root is infinite at zero.
        "rmse": (square + RMSE_FLOOR**2).sqrt().mean(),
    }
    loss = weights.l1 * terms["l1"] + weights.sobel * terms["sobel"] + weights.rmse * terms["rmse"]
    return {"loss": loss, **terms}
