# SPDX-License-Identifier: Apache-2.0
"""Depth Anything (through `transformers`) as a relative-depth guide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.config import GUIDE_SIDE
from depth_sr_ros.errors import CheckpointError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PATCH = 14


def normalize_guide(relative_depth: Tensor) -> Tensor:
    """Zero mean and unit spread per sample, (B, 1, H, W) float32: relative depth has no scale of its own.

    A constant map becomes zeros, which is also what "no guide" looks like.
    """
    value = relative_depth.float()
    mean = value.mean(dim=(1, 2, 3), keepdim=True)
    std = value.std(dim=(1, 2, 3), keepdim=True, unbiased=False)
    return (value - mean) / std.clamp_min(1e-6)


def guide_input_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) with the short side near `short_side` and both sides multiples of the patch, 14."""
    scale = short_side / min(height, width)
    new_height, new_width = (max(PATCH, round(side * scale / PATCH) * PATCH) for side in (height, width))
    return new_height, new_width


class DepthAnythingGuide(nn.Module):
    """RGB (B, 3, H, W) in [0, 1] -> relative inverse depth (B, 1, H, W), larger = nearer.

    Published setting: GUIDE_SIDE pixels on the short side. A smaller `short_side` is faster and coarser.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, short_side: int = GUIDE_SIDE) -> None:
        super().__init__()
        self.model = model
        self.short_side = short_side
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def from_folder(cls, path: str | Path, short_side: int = GUIDE_SIDE) -> DepthAnythingGuide:
        """Load from a local folder in the hub's layout (config.json, model.safetensors); never downloads.

        Raises CheckpointError where the folder or its files are missing or cannot be read.
        """
        folder = Path(path)
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise CheckpointError(
                    f"guide.path {str(folder)!r} has no {name}; it must be a folder with Depth Anything's "
                    "config.json and model.safetensors"
                )
        from transformers import DepthAnythingForDepthEstimation

        try:
            loaded: Any = DepthAnythingForDepthEstimation.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            model, report = loaded
        except Exception as error:  # over a value of another type transformers raises whatever it stumbles on
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(f"the guide in {str(folder)!r} cannot be loaded: {reason}") from error
        # transformers fills what is missing with random weights and only logs it.
        lacking = sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])])
        if lacking:
            raise CheckpointError(
                f"the guide in {str(folder)!r} lacks {len(lacking)} tensors of Depth Anything, {lacking[0]} "
                "for one; fetch its model.safetensors again"
            )
        return cls(model, short_side)

    @classmethod
    def from_config(cls, short_side: int = GUIDE_SIDE, **overrides: Any) -> DepthAnythingGuide:
        """An untrained Depth Anything (default: V1-Small, 24,785,089 parameters), for training and tests."""
        from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

        # transformers 5 refuses the default max_depth=None; 1 is what relative-depth models use.
        config = DepthAnythingConfig(**{"max_depth": 1, **overrides})
        return cls(DepthAnythingForDepthEstimation(config), short_side)

    def forward(self, rgb: Tensor) -> Tensor:
        size = guide_input_size(rgb.shape[-2], rgb.shape[-1], self.short_side)
        x = F.interpolate(rgb, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        depth = self.model(pixel_values=(x - self.mean) / self.std).predicted_depth
        return F.interpolate(depth[:, None].float(), rgb.shape[-2:], mode="bilinear", align_corners=False)


def guide_text(kind: str, guide: DepthAnythingGuide | None) -> str:
    """What guides the network, in words; `kind`: ModelConfig.guide."""
    if kind == "none":
        return "none: this variant takes none"
    return "none: guide.path is empty" if guide is None else f"Depth Anything, {guide.short_side} pixels"
