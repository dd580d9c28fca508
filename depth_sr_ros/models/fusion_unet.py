# SPDX-License-Identifier: Apache-2.0
"""The two-path fusion U-Net: relative-depth features are fused into LR-depth features at every level."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from depth_sr_ros.config import ModelConfig
from depth_sr_ros.models.adain import fuse
from depth_sr_ros.models.nafnet import NAFStage, downsample, to_cells, upsample
from depth_sr_ros.models.portable import extended

LR_CHANNELS = 3  # upsampled LR depth, its local detail, its validity mask
LEVELS_MULTIPLE = 16  # of cells: four times halved


class Encoder(nn.Module):
    """One path: stem, then four stages with a 2x downsampling after each."""

    def __init__(self, in_channels: int, config: ModelConfig, blocks: tuple[int, ...]) -> None:
        super().__init__()
        c = config.channels
        self.stem = nn.Conv2d(in_channels * config.unshuffle**2, c[0], 3, padding=1)
        self.stages = nn.ModuleList(NAFStage(c[i], n) for i, n in enumerate(blocks))
        self.downs = nn.ModuleList(downsample(c[i], c[i + 1]) for i in range(4))

    def forward(self, x: Tensor, sizes: list[tuple[int, int]]) -> list[Tensor]:
        """Features of the five levels, finest first: (B, channels[i], H / 2^i, W / 2^i).

        The stem runs in float32 under autocast too: bfloat16 would round depth to 0.4 % before it is seen.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = self.stem(x.float())
        features = []
        for stage, down, size in zip(self.stages, self.downs, sizes, strict=False):
            x = stage(x, size)
            features.append(x)
            x = down(x)
        return [*features, x]


class FusionUNet(nn.Module):
    """[D_rel, I] and [D_LR, detail, mask] at image resolution -> a residual for the normalised depth.

    AdaIN keeps only the mean and spread of the LR features, so the decoder is given `fused + lr`: the
    spatial LR detail reaches it by the skips. The head starts at zero: an untrained network adds nothing.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.channels
        self.config = config
        rel_blocks = config.rel_encoder_blocks or config.encoder_blocks
        self.rel_encoder = Encoder(config.guide_channels, config, rel_blocks)
        self.lr_encoder = Encoder(LR_CHANNELS, config, config.encoder_blocks)
        self.middle = NAFStage(c[4], config.middle_blocks)
        self.ups = nn.ModuleList(upsample(c[i + 1], c[i]) for i in range(4))
        self.decoder = nn.ModuleList(NAFStage(c[i], n) for i, n in enumerate(config.decoder_blocks))
        self.head = nn.Conv2d(c[0], config.unshuffle**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, rel: Tensor, lr: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Cells (see `cells`) of [D_rel, I] and of [D_LR, detail, mask]; `size` is the image's (H, W).

        Returns the residual (B, s^2, h, w), subpixels of cells, float32, and the features (B, C, h, w) behind
        it.
        """
        unshuffle = self.config.unshuffle
        scales = [unshuffle << i for i in range(5)]
        sizes = [((size[0] + s - 1) // s, (size[1] + s - 1) // s) for s in scales]
        # AdaIN takes the scale of these features away, so training does not keep it small: in the weights of
        # `edge` it reaches 1e7, and float16 ends at 65504.
        device = rel.device.type
        with torch.autocast(device, enabled=False) if in_float16(device) else contextlib.nullcontext():
            rel_features = self.rel_encoder(rel, sizes)
        lr_features = self.lr_encoder(lr, sizes)
        x = self._fused(rel_features, lr_features, sizes, 4)
        x = self.middle(x, sizes[4])
        for level in reversed(range(4)):
            # The first of a sum sets the layout, and pixel_shuffle leaves channels_last on CUDA.
            x = self._fused(rel_features, lr_features, sizes, level) + self.ups[level](x)
            x = self.decoder[level](x, sizes[level])
        # The head and what follows it run in float32: bf16 costs 7e-3 on a unit range there.
        with torch.autocast(x.device.type, enabled=False):
            return self.head(x.float()), x

    def _fused(self, rel: list[Tensor], lr: list[Tensor], sizes: list[tuple[int, int]], level: int) -> Tensor:
        return fuse(rel[level], lr[level], sizes[level], self.config.fusion) + lr[level]

    def cells(self, x: Tensor) -> Tensor:
        """An image (B, C, H, W), its pixels as channels of cells: (B, C s^2, h, w), padded, channels_last.

        uint8 becomes float32 of a 255th here, after the copy into cells: a quarter of the bytes.
        """
        x = to_cells(pad_to_multiple(x, self.config.unshuffle), self.config.unshuffle)
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        return pad_to_multiple(x, LEVELS_MULTIPLE)


def in_float16(device: str) -> bool:
    """Whether autocast computes in float16 now on that type of device."""
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of x (B, C, H, W), of any type, until both sides are multiples."""
    for axis in (-2, -1):
        x = extended(x, axis, multiple)
    return x
