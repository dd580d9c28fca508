# SPDX-License-Identifier: Apache-2.0
"""Reader of the rendered RGB-D set: NAME.jpg, NAME.png (logarithmic 16-bit depth code) and index.jsonl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.config import check_choice
from depth_sr_ros.errors import DataError

SPLITS = ("train", "val")


@dataclass(frozen=True)
class RenderedFrame:
    """One frame of the set: its name, the scene it shows and the folder it lies in."""

    name: str
    scene: str
    folder: Path


def decode_depth(code: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Depth code c -> metres: z = 0.1 m * 10^(5 (c - 1) / 65534); 0 (sky or nothing) -> NaN."""
    depth = 0.1 * np.power(10.0, (code.astype(np.float64) - 1) * (5 / 65534))
    return np.where(code == 0, np.nan, depth).astype(np.float32)


def list_frames(root: str | Path, split: str) -> list[RenderedFrame]:
    """Frames of one split of the set at `root`, in the index's order; DataError when it is not there.

    A last line that was cut off is no frame yet, as for a render that goes on; another damaged one is a
    DataError.
    """
    check_choice("split", split, SPLITS)
    folder = Path(root) / split
    index = folder / "index.jsonl"
    if not index.is_file():
        raise DataError(
            f"no rendered set at {root}: {index} is missing; set DEPTH_SR_DATA to the folder above it"
        )
    frames = []
    lines = index.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line) if line.strip() else None
            if row is not None:
                frames.append(RenderedFrame(row["name"], row["scene"], folder))
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines) or line.endswith("\n"):
                raise DataError(f"{index}: line {number} is damaged, or no frame's: delete it") from error
    return frames


def read_frames(
    frames: Sequence[RenderedFrame],
) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
    """As `read_frame`, of all of them; DataError where their sizes differ."""
    read = [read_frame(frame) for frame in frames]
    height, width = read[0][1].shape if read else (0, 0)
    for frame, (_, depth) in zip(frames, read, strict=True):
        if depth.shape != (height, width):
            raise DataError(
                f"{frame.folder / frame.name} has {depth.shape[1]}x{depth.shape[0]} pixels, but "
                f"{frames[0].name} has {width}x{height}: all frames of a split must have one size"
            )
    return read


def read_frame(frame: RenderedFrame) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """(rgb uint8 HxWx3, depth float32 HxW metres, NaN = invalid); DataError on a missing or odd file."""
    bgr = cv2.imread(str(frame.folder / f"{frame.name}.jpg"), cv2.IMREAD_COLOR)
    code = cv2.imread(str(frame.folder / f"{frame.name}.png"), cv2.IMREAD_UNCHANGED)
    if bgr is None or code is None or code.dtype != np.uint16 or code.shape != bgr.shape[:2]:
        raise DataError(
            f"{frame.folder / frame.name}: needs a .jpg and a 16-bit single-channel .png of the same size"
        )
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8), decode_depth(code.astype(np.uint16))
