# SPDX-License-Identifier: Apache-2.0
"""The whole model: RGB and low-resolution depth in, depth at the RGB's resolution out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.config import ModelConfig
from depth_sr_ros.models.back_projection import BackProjection
from depth_sr_ros.models.confidence import ConfidenceHead, confidence_of
from depth_sr_ros.models.fusion_unet import FusionUNet
from depth_sr_ros.models.guide import DepthAnythingGuide, normalize_guide
from depth_sr_ros.models.guide_check import checked_guide
from depth_sr_ros.models.kernel_head import KernelHead
from depth_sr_ros.models.normalization import DepthNormalizer, fill_holes, local_detail, valid_mask
from depth_sr_ros.models.portable import nearest
from depth_sr_ros.models.propagation import Propagation


@dataclass(frozen=True)
class DepthPrediction:
    """What the network says: `depth` (B, 1, H, W) float32 in metres; `normalizer` has the network's unit.

    `features` (B, C, h, w) of the cells are what it was made from. `log_scale` (B, 1, H, W), where it was
    asked for: see ConfidenceHead. `guide_share` (B, 1, 1, 1), where a guide was checked: how much of it was
    taken, see checked_guide.
    """

    depth: Tensor
    normalizer: DepthNormalizer
    features: Tensor
    log_scale: Tensor | None = None
    guide_share: Tensor | None = None

    @property
    def normalized(self) -> Tensor:
        """In the network's unit, (B, 1, H, W) float32."""
        return self.normalizer.normalize(self.depth)


class Estimate(NamedTuple):
    """`depth` (B, 1, H, W) float32, metres; `confidence`, as large, 0 to 1, where it was asked for;
    `guide_share` (B, 1, 1, 1), 0 to 1, where a guide was checked: how much of it was taken.
    """

    depth: Tensor
    confidence: Tensor | None = None
    guide_share: Tensor | None = None


@dataclass(frozen=True)
class LRInput:
    """What the network sees of the LR depth, each (B, 1, h, w).

    `filled`: metres, without holes; `detail`: what it holds beyond its local mean, in units of a correction;
    `mask`: 1 where it was measured.
    """

    filled: Tensor
    detail: Tensor
    mask: Tensor
    normalizer: DepthNormalizer

    @classmethod
    def from_depth(cls, depth_lr: Tensor, config: ModelConfig) -> LRInput:
        """From metres (B, 1, h, w), holes and all."""
        valid = valid_mask(depth_lr)
        filled = fill_holes(depth_lr, valid)
        normalizer = DepthNormalizer.from_frame(filled, config)
        # asinh: linear for noise, logarithmic for the jump at an object's edge, which is 20 corrections.
        detail = torch.asinh(local_detail(normalizer.normalize(filled)) / normalizer.correction)
        return cls(filled, detail, valid.float(), normalizer)


class DepthSRNet(nn.Module):
    """Guide (where the variant has one) and fusion U-Net behind one call.

    The output is the bilinearly upsampled, hole-filled LR depth plus the U-Net's residual. `guide` may
    be None although the variant has one: the U-Net was then told "no guide" (a map of zeros).
    """

    def __init__(self, config: ModelConfig, guide: DepthAnythingGuide | None = None) -> None:
        super().__init__()
        self.config = config
        self.guide = guide
        self.unet = FusionUNet(config)
        kernel = config.head == "kernel"
        finest = (config.channels[0], config.unshuffle)
        self.kernel_head = KernelHead(*finest) if kernel else None
        self.propagation = Propagation(*finest, config.propagation) if config.propagation else None
        self.back_projection = BackProjection(*finest) if config.back_projection else None
        self.confidence_head = ConfidenceHead(*finest) if config.confidence else None

    def forward(
        self,
        rgb: Tensor,
        depth_lr: Tensor,
        relative_depth: Tensor | None = None,
        *,
        confidence: bool = False,
    ) -> DepthPrediction:
        """rgb (B, 3, H, W) float in [0, 1] or uint8; depth_lr (B, 1, h, w) float32 metres.

        Invalid depth is NaN, <= 0 or infinite.

        relative_depth (B, 1, H, W): larger = nearer, any affine scale; replaces the guide's own answer.
        confidence: also give `log_scale`; only of a network with that head.
        """
        if relative_depth is None and self.guide is not None:
            relative_depth = self.guide(rgb.float() / 255 if rgb.dtype == torch.uint8 else rgb)
        size = (rgb.shape[-2], rgb.shape[-1])
        seen = LRInput.from_depth(depth_lr, self.config)
        normalizer = seen.normalizer
        # Interpolated in metres, as a depth image would be, then brought to the network's unit.
        base = normalizer.normalize(F.interpolate(seen.filled, size, mode="bilinear", align_corners=False))
        pixels = self.unet.cells(rgb)
        guide_map, guide_share = self.guide_map(relative_depth, seen)
        rel = self._rel_cells(pixels, guide_map)
        detail = F.interpolate(seen.detail, size, mode="bilinear", align_corners=False)
        mask = nearest(seen.mask, size)
        # The published range clips at depth_clip; the base keeps what lies beyond it.
        clipped = base.clamp(0, 1) if self.config.normalization == "fixed" else base
        lr = self.unet.cells(torch.cat([clipped, detail, mask], 1))
        residual, features = self.unet(rel, lr, size)
        # float32 from here on: bf16 costs 7e-3 on a unit range.
        with torch.autocast(base.device.type, enabled=False):
            depth = self.unet.cells(base) + normalizer.correction * residual
            if self.kernel_head is not None:
                depth = self.kernel_head(features.float(), pixels.float(), depth, normalizer.correction)
            depth = F.pixel_shuffle(depth, self.config.unshuffle)
            metres = normalizer.denormalize(depth[..., : size[0], : size[1]])
            if self.propagation is not None:
                # In planes, as propagation reads it: the upload has its colours pixel by pixel.
                planes = rgb.contiguous() if rgb.is_cuda else rgb
                image = planes.float() / 255 if rgb.dtype == torch.uint8 else planes.float()
                metres = self.propagation(features.float(), image, metres)
            if self.back_projection is not None:
                metres = self.back_projection(features.float(), metres, seen.filled, seen.mask, normalizer)
        log_scale = self._log_scale(metres, features) if confidence else None
        return DepthPrediction(metres, normalizer, features, log_scale, guide_share)

    def _log_scale(self, metres: Tensor, features: Tensor) -> Tensor | None:
        if self.confidence_head is None:
            return None
        with torch.autocast(metres.device.type, enabled=False):
            # Detached: how sure an answer is must not make the answer another.
            return self.confidence_head(features.detach().float(), metres)

    def guide_map(self, relative_depth: Tensor | None, seen: LRInput) -> tuple[Tensor | None, Tensor | None]:
        """D_rel (B, 1, H, W) as the U-Net takes it: zero mean, unit spread, and checked where configured;
        then also how much of it is left, see checked_guide.
        """
        if relative_depth is None or self.config.guide == "none":
            return None, None
        normal = normalize_guide(relative_depth)
        return checked_guide(normal, seen.filled, seen.mask) if self.config.guide_check else (normal, None)

    def _rel_cells(self, pixels: Tensor, guide_map: Tensor | None) -> Tensor:
        """[D_rel, I] as cells; `pixels` are I's. Zeros say that there is no guide."""
        if self.config.guide == "none":
            return pixels
        if guide_map is None:
            return torch.cat([torch.zeros_like(pixels[:, : pixels.shape[1] // 3]), pixels], 1)
        return torch.cat([self.unet.cells(guide_map.to(pixels.dtype)), pixels], 1)

    @torch.inference_mode()
    def estimate(
        self,
        rgb: Tensor,
        depth_lr: Tensor,
        relative_depth: Tensor | None = None,
        *,
        confidence: bool = False,
    ) -> Estimate:
        """uint8 rgb (B, 3, H, W) and metres (B, 1, h, w) -> metres, and what is known of them.

        A sample without any valid LR pixel comes back all NaN: there is no scale to answer with.
        `confidence`: of a network with that head alone.
        """
        said = self(rgb, depth_lr.float(), relative_depth)
        return self.estimate_of(said.depth, said.features, said.guide_share, depth_lr, confidence=confidence)

    def estimate_of(
        self,
        metres: Tensor,
        features: Tensor,
        guide_share: Tensor | None,
        depth_lr: Tensor,
        *,
        confidence: bool,
    ) -> Estimate:
        """What a way to run the network answers, of its depth (B, 1, H, W) and the features behind it."""
        log_scale = self._log_scale(metres, features) if confidence else None
        chance = None if log_scale is None else known_depth(confidence_of(log_scale), depth_lr)
        return Estimate(known_depth(metres, depth_lr), chance, guide_share)

    def upsample(self, rgb: Tensor, depth_lr: Tensor, relative_depth: Tensor | None = None) -> Tensor:
        """The depth of `estimate`."""
        return self.estimate(rgb, depth_lr, relative_depth).depth


def known_depth(depth: Tensor, depth_lr: Tensor) -> Tensor:
    """`depth` (B, 1, H, W), or what is said of it; all NaN where `depth_lr` has no valid pixel at all."""
    known = valid_mask(depth_lr).flatten(1).any(dim=1).view(-1, 1, 1, 1)
    return torch.where(known, depth, torch.nan)
