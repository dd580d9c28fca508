# SPDX-License-Identifier: Apache-2.0
"""The folder of frames that `training/data/rendered.py` reads, written frame by frame.

DIR/SPLIT/NAME.jpg and NAME.png, index.jsonl (one line a finished frame), assets.jsonl (one line a scene).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.errors import DataError

NEAREST, DECADES, STEPS = 0.1, 5, 65534  # metres, range and resolution of the depth code
JPEG_QUALITY = 95


def encode_depth(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Metres -> code, 1 at 0.1 m to 65535 at 10 km by the logarithm, 0 for NaN: undoes `decode_depth`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        code = np.rint(np.log10(depth.astype(np.float64) / NEAREST) * (STEPS / DECADES)) + 1
    return np.where(np.isfinite(depth), np.clip(np.nan_to_num(code), 1, STEPS + 1), 0).astype(np.uint16)


class FrameStore:
    """One split of a set. A frame is finished when its line stands in the index and its files exist."""

    def __init__(self, root: Path, split: str, size: tuple[int, int], tidy: bool = True) -> None:
        """DataError where the folder holds frames of another size: one set must have one.

        `tidy`: write the index again without the lines of frames that were deleted or cut off. Not while
        another process adds lines: one of them could be lost.
        """
        self.folder, self._split, self._size = root / split, split, size
        self.folder.mkdir(parents=True, exist_ok=True)
        self._index, self._assets = self.folder / "index.jsonl", self.folder / "assets.jsonl"
        self.rows = {row["name"]: row for row in read_lines(self._index) if self._has_files(row["name"])}
        other = [row for row in self.rows.values() if row["size"] != list(size)]
        if other:
            height, width = other[0]["size"]
            raise DataError(
                f"{self.folder} holds frames of {height}x{width}: give this --size, or another --out"
            )
        if tidy:
            _replace(self._index, "".join(json.dumps(row) + "\n" for row in self.rows.values()).encode())
        self._credited = {row["scene"] for row in read_lines(self._assets)}

    def _has_files(self, name: str) -> bool:
        return all((self.folder / f"{name}{ending}").is_file() for ending in (".jpg", ".png"))

    def write(
        self, name: str, rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32], **facts: Any
    ) -> None:
        """Write a frame, and then its line: `facts` beside name, split and size."""
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        jpg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        png = cv2.imencode(".png", encode_depth(depth))[1]
        _replace(self.folder / f"{name}.jpg", jpg.tobytes())
        _replace(self.folder / f"{name}.png", png.tobytes())
        row = {"name": name, "split": self._split, **facts, "size": list(self._size)}
        _append(self._index, row)
        self.rows[name] = row

    def credit(self, scene: str, assets: list[str]) -> None:
        """Note what a scene is made of, once."""
        if scene not in self._credited:
            _append(self._assets, {"scene": scene, "assets": assets})
            self._credited.add(scene)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a .jsonl file, without a last line that was cut off; none where there is no file."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _append(path: Path, row: dict[str, Any]) -> None:
    # one write of a whole line, so that the lines of several processes do not mix
    with path.open("ab", buffering=0) as file:
        file.write((json.dumps(row) + "\n").encode())


def _replace(path: Path, data: bytes) -> None:
    """A file is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)
