# SPDX-License-Identifier: Apache-2.0
"""The fixed validation set of a run: rendered/val under the evaluation protocol, or procedural scenes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from depth_sr_ros.degradation import crop_to_multiple, degrade
from depth_sr_ros.metrics import depth_metrics
from depth_sr_ros.models.normalization import fill_holes, valid_mask
from training.data.procedural import SceneGenerator
from training.data.rendered import list_frames, read_frame
from training.data.root import data_root

CASES = (("clean", 4), ("clean", 8), ("noisy", 4), ("noisy", 8))
PROCEDURAL_SEED = 20240617  # far from any run's seeds, which are hashes


@dataclass(frozen=True)
class ValidationItem:
    """One frame under one degradation; depth in metres, NaN = invalid."""

    case: str
    rgb: npt.NDArray[np.uint8]
    depth_lr: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float32]
    start_rmse: float  # of the hole-filled, bilinearly upsampled LR depth: what an untrained network answers


def validation_items(frames: int) -> list[ValidationItem]:
    """`frames` evenly spaced frames of rendered/val under each case; procedural ones where it is missing."""
    root = data_root() / "rendered"
    if (root / "val" / "index.jsonl").is_file():
        listed = list_frames(root, "val")
        chosen = [listed[i] for i in np.linspace(0, len(listed) - 1, frames).astype(int)]
        views = [read_frame(frame) for frame in chosen]
    else:
        views = _procedural_views(frames)
    items = []
    for number, (rgb, depth) in enumerate(views):
        rgb, depth = crop_to_multiple(rgb), crop_to_multiple(depth)
        for profile, scale in CASES:
            lr = degrade(depth, scale, profile, np.random.default_rng(number))
            start = depth_metrics(_bilinear(lr, depth.shape), depth)["rmse"]
            items.append(ValidationItem(f"{profile}_x{scale}", rgb, lr, depth, start))
    return items


def _bilinear(lr: npt.NDArray[np.float32], size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    depth = torch.from_numpy(lr)[None, None]
    filled = fill_holes(depth, valid_mask(depth))
    return F.interpolate(filled, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def _procedural_views(frames: int) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
    generator = torch.Generator().manual_seed(PROCEDURAL_SEED)
    rgb, depth = SceneGenerator()(frames, 256, 320, generator)
    images = (rgb * 255).round().byte().permute(0, 2, 3, 1).numpy()
    metres = torch.where(torch.isfinite(depth), depth, torch.nan)[:, 0].numpy()
    return list(zip(images, metres, strict=True))
