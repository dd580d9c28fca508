# SPDX-License-Identifier: Apache-2.0
"""NAFNet building blocks (Chen et al., "Simple Baselines for Image Restoration", ECCV 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def spatial_mean(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean over the upper left `size` = (height, width) of x (B, C, H, W): (B, C, 1, 1), float32.

    Images are padded at the right and the bottom, so this is the mean over real pixels. Sums of many
    half-precision values lose digits, hence float32.
    """
    return x[..., : size[0], : size[1]].mean(dim=(2, 3), keepdim=True, dtype=torch.float32)


ONEDNN = torch.backends.mkldnn.is_available()


def _plain_inference() -> bool:
    if torch.compiler.is_compiling():
        return False  # the compiler chooses kernels itself, and cannot look into oneDNN's
    return torch.is_inference_mode_enabled() and not torch.is_autocast_enabled("cpu")


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of each pixel, (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # In channels_last memory both permutes are views, and F.layer_norm is one fused pass.
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class Pointwise(nn.Linear):
    """A 1x1 convolution, (B, C, H, W) -> (B, C', H, W), as one matrix product over the NHWC view.

    In channels_last memory that is a plain GEMM with its bias, for which nn.Conv2d takes a slow path on one
    CPU thread.
    """

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight, self.bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`Pointwise` with the weight (C', C) and bias (C',) given."""
    if ONEDNN and x.is_cpu and x.dtype == torch.float32 and _plain_inference():
        # oneDNN's kernel takes the bias along; on one thread torch's own dispatch chooses BLAS and a
        # second pass for it, which is slower.
        return torch.ops.aten.mkldnn_convolution(x, weight[:, :, None, None], bias, [0, 0], [1, 1], [1, 1], 1)
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def to_cells(x: Tensor, side: int) -> Tensor:
    """F.pixel_unshuffle to channels_last by one copy: (B, C, H, W) -> (B, C side^2, H/side, W/side)."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // side, side, width // side, side).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(batch, height // side, width // side, -1).permute(0, 3, 1, 2)


def simple_gate(x: Tensor) -> Tensor:
    """Product of the two channel halves: (B, 2C, H, W) -> (B, C, H, W)."""
    a, b = x.chunk(2, dim=1)
    return a * b


class NAFBlock(nn.Module):
    """One NAFNet block; `size` is the part of the map that is image and not padding.

    Both residual scales start at zero, so a new block is the identity. 7 c^2 + 33 c parameters.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.norm1 = LayerNorm2d(c)
        self.expand = Pointwise(c, 2 * c)
        self.depthwise = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.attention = Pointwise(c, c)
        self.project = Pointwise(c, c)
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.norm2 = LayerNorm2d(c)
        self.expand2 = Pointwise(c, 2 * c)
        self.project2 = Pointwise(c, c)
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        y = simple_gate(self.depthwise(self.expand(self.norm1(x))))
        y = y * self.attention(spatial_mean(y, size).to(y.dtype))
        x = torch.addcmul(x, self.project(y), self.beta)
        y = simple_gate(self.expand2(self.norm2(x)))
        return torch.addcmul(x, self.project2(y), self.gamma)


class NAFStage(nn.Module):
    """Some NAFNet blocks in a row at one resolution."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(NAFBlock(channels) for _ in range(blocks))

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        for block in self.blocks:
            x = block(x, size)
        return x


def downsample(channels: int, out_channels: int) -> nn.Module:
    """2x2 convolution of stride 2: (B, C, H, W) -> (B, C', H/2, W/2)."""
    return nn.Conv2d(channels, out_channels, 2, stride=2)


def upsample(channels: int, out_channels: int) -> nn.Module:
    """1x1 convolution without bias and pixel shuffle: (B, C, H, W) -> (B, C', 2H, 2W)."""
    return nn.Sequential(Pointwise(channels, 4 * out_channels, bias=False), nn.PixelShuffle(2))
