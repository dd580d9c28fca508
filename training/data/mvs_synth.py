# SPDX-License-Identifier: Apache-2.0
"""Reader of MVS-Synth (Huang et al., "DeepMVS", CVPR 2018), as its authors distribute it.

GTAV_{1080,720,540}/SSSS/images/NNNN.png, depths/NNNN.exr and poses/NNNN.json. Depth is float32, channel Y,
along the optical axis, in units of about 0.1 m; the sky is +inf. For research use only: it is read where the
user has it, and nothing of it ships.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_sr_ros.config import check_choice
from depth_sr_ros.depth_io import read_exr_channel, read_rgb
from depth_sr_ros.errors import DataError
from training.data.rgbd_folder import check_same_size

UNIT_M = 0.1
CLIP = 300.0  # in these units: the published range
VALIDATION_SAMPLES = 100  # the last in sorted order, which is sequence 0119 of the whole set
SPLITS = ("train", "val")
PATTERNS = ("images/[0-9][0-9][0-9][0-9].png", "depths/[0-9][0-9][0-9][0-9].exr")
RESOLUTIONS = ("GTAV_1080", "GTAV_720", "GTAV_540")


@dataclass(frozen=True)
class Sample:
    """One frame: its picture and its depth."""

    image: Path
    depth: Path


def list_samples(root: str | Path, split: str) -> list[Sample]:
    """Samples of one split, sorted by sequence and frame; `root` is one resolution's folder, or its parent.

    Raises DataError where there is no such folder, two resolutions to choose from, a sequence or file that is
    missing before the last one (a half-downloaded set), or too few samples to split.
    """
    check_choice("split", split, SPLITS)
    folder = _resolution_folder(Path(root))
    sequences = {p.name for p in folder.iterdir() if p.is_dir() and re.fullmatch("[0-9]{4}", p.name)}
    samples, missing = [], []
    for sequence in (folder / name for name in _counted(sequences)):
        if not sequence.is_dir():
            missing.append(sequence)
        # by their whole names, without what a download leaves beside them: 0001.exr.part, "0000 (1).png"
        names = {p.stem for pattern in PATTERNS for p in sequence.glob(pattern)}
        for name in _counted(names):
            sample = Sample(sequence / "images" / f"{name}.png", sequence / "depths" / f"{name}.exr")
            missing += [path for path in (sample.image, sample.depth) if not path.is_file()]
            samples.append(sample)
    if missing:
        raise DataError(
            f"MVS-Synth at {folder} is incomplete: {missing[0].relative_to(folder)} and {len(missing) - 1} "
            "others are missing; download it again"
        )
    if len(samples) <= VALIDATION_SAMPLES:
        raise DataError(
            f"MVS-Synth at {folder} has {len(samples)} samples, but the last {VALIDATION_SAMPLES} are for "
            "validation; download it again, or give the folder that holds the sequences 0000, 0001, ..."
        )
    return samples[:-VALIDATION_SAMPLES] if split == "train" else samples[-VALIDATION_SAMPLES:]


def read_sample(sample: Sample, clip: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """(rgb uint8 HxWx3, depth float32 HxW metres).

    `clip`: as published, what is beyond 300 units, the sky too, is 300 units (30 m); else the sky is NaN.
    Raises DataError on a damaged file, or two of different sizes.
    """
    rgb = read_rgb(sample.image)
    units = read_exr_channel(sample.depth)
    check_same_size(sample.depth, rgb, units)
    if clip:
        units = np.minimum(units, CLIP)
    valid = np.isfinite(units) & (units > 0)
    return rgb, np.where(valid, units * UNIT_M, np.nan).astype(np.float32)


def _counted(names: set[str]) -> list[str]:
    """0000, 0001, ... up to the last of `names`: sequences and frames are numbered without gaps."""
    return [f"{number:04d}" for number in range(1 + max(map(int, names), default=-1))]


def _resolution_folder(root: Path) -> Path:
    if not root.is_dir():
        raise DataError(f"no MVS-Synth at {root}: the folder does not exist")
    found = [root / name for name in RESOLUTIONS if (root / name).is_dir()]
    if len(found) > 1:
        raise DataError(
            f"{root} holds {', '.join(p.name for p in found)}: give one of them, such as {found[-1]}"
        )
    return found[0] if found else root
