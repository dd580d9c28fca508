# SPDX-License-Identifier: Apache-2.0
"""The fixed validation set of a run: MVS-Synth's own, rendered frames or procedural, under the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from depth_sr_ros.degradation import crop_to_multiple, degrade
from depth_sr_ros.metrics import depth_metrics
from depth_sr_ros.models.normalization import fill_holes, valid_mask
from training.config import SourceConfig
from training.data.mvs_synth import list_samples, read_sample
from training.data.procedural import SceneGenerator
from training.data.rendered import list_frames, read_frame
from training.data.root import data_root

CASES = (("clean", 4), ("clean", 8), ("noisy", 4), ("noisy", 8))
PROCEDURAL_SEED = 20240617  # far from any run's seeds, which are hashes


View = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class ValidationItem:
    """One frame under one degradation; depth in metres, NaN = invalid."""

    case: str
    rgb: npt.NDArray[np.uint8]
    depth_lr: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float32]
    start_rmse: float  # of the hole-filled, bilinearly upsampled LR depth: what an untrained network answers


def validation_items(frames: int, sources: Sequence[SourceConfig] = ()) -> list[ValidationItem]:
    """`frames` evenly spaced frames under each case.

    Of MVS-Synth's last 100 samples where it is among the run's `sources`, as published; else of rendered/val
    under DEPTH_SR_DATA, by which runs can be compared; else of `val` in the folder of a rendered source;
    procedural ones where all are missing.
    """
    items = []
    for number, (rgb, depth) in enumerate(_views(frames, sources)):
        rgb, depth = crop_to_multiple(rgb), crop_to_multiple(depth)
        for profile, scale in CASES:
            lr = degrade(depth, scale, profile, np.random.default_rng(number))
            start = depth_metrics(_bilinear(lr, depth.shape), depth)["rmse"]
            items.append(ValidationItem(f"{profile}_x{scale}", rgb, lr, depth, start))
    return items


def _views(frames: int, sources: Sequence[SourceConfig]) -> list[View]:
    def spaced(listed: Sequence[Any]) -> list[Any]:
        return [listed[i] for i in np.linspace(0, len(listed) - 1, frames).astype(int)]

    for source in sources:
        if source.kind == "mvs_synth" and source.path is not None:
            return [read_sample(each, clip=source.clip) for each in spaced(list_samples(source.path, "val"))]
    own = [Path(source.path) for source in sources if source.kind == "rendered" and source.path is not None]
    for root in (data_root() / "rendered", *own):
        if (root / "val" / "index.jsonl").is_file() and (held_out := list_frames(root, "val")):
            return [read_frame(each) for each in spaced(held_out)]
    return _procedural_views(frames)


def _bilinear(lr: npt.NDArray[np.float32], size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    depth = torch.from_numpy(lr)[None, None]
    filled = fill_holes(depth, valid_mask(depth))
    return F.interpolate(filled, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def _procedural_views(frames: int) -> list[View]:
    generator = torch.Generator().manual_seed(PROCEDURAL_SEED)
    rgb, depth = SceneGenerator()(frames, 256, 320, generator)
    images = (rgb * 255).round().byte().permute(0, 2, 3, 1).numpy()
    metres = torch.where(torch.isfinite(depth), depth, torch.nan)[:, 0].numpy()
    return list(zip(images, metres, strict=True))
