# SPDX-License-Identifier: Apache-2.0
"""Reader of a plain RGB-D folder: rgb/NAME.png or .jpg; depth/NAME.png (16 bit, mm), .exr or .npy (m)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_sr_ros.depth_io import DEPTH_SUFFIXES, read_depth, read_rgb
from depth_sr_ros.errors import DataError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class RgbdPair:
    """One frame: its picture and its depth, of the same view and size."""

    rgb: Path
    depth: Path


def list_pairs(root: str | Path) -> list[RgbdPair]:
    """The pairs of a folder in the order of their names.

    Raises DataError where rgb/ or depth/ is missing or empty, or a file has no partner or two.
    """
    pictures = _by_name(Path(root) / "rgb", PICTURE_SUFFIXES)
    depths = _by_name(Path(root) / "depth", DEPTH_SUFFIXES)
    alone = sorted(pictures.keys() ^ depths.keys())
    if alone:
        kind = "depth" if alone[0] in pictures else "rgb"
        raise DataError(
            f"{root}: {alone[0]!r} has no file in {kind}/ (one of {len(alone)} without a partner): a picture "
            "and its depth share their name"
        )
    return [RgbdPair(pictures[name], depths[name]) for name in sorted(pictures)]


def read_pair(pair: RgbdPair) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """(rgb uint8 HxWx3, depth float32 HxW metres, NaN = invalid); DataError on damage or two sizes."""
    rgb, depth = read_rgb(pair.rgb), read_depth(pair.depth)
    check_same_size(pair.depth, rgb, depth)
    return rgb, depth


def check_same_size(path: Path, rgb: npt.NDArray[np.uint8], depth: npt.NDArray) -> None:
    """DataError, naming the depth's file, unless both have the same size."""
    if rgb.shape[:2] != depth.shape:
        raise DataError(f"{path}: its size {depth.shape} is not its picture's, {rgb.shape[:2]}")


def _by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"no RGB-D folder at {folder.parent}: {folder} is missing")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            raise DataError(f"{folder}: both {found[path.stem].name} and {path.name}: which is meant?")
        found[path.stem] = path
    if not found:
        raise DataError(f"{folder} holds no {', '.join(suffixes)} file")
    return found
