# SPDX-License-Identifier: Apache-2.0
"""Reader of SuperTuxKart's meshes: SPM version 1, little-endian, a triangle list for each material."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_sr_ros.errors import DataError

VERSION = 1
SKINNED, PLAIN = 1, 2  # the kinds that the game ships; 0 was reserved for meshes cut into sectors
WHITE = 128  # a vertex colour of one byte; any other marker is followed by r, g, b


@dataclass(frozen=True)
class SpmPart:
    """The triangles of one material, in the game's frame: x right, y up, z forward (left-handed), metres.

    vertices (V, 3) float32; normals (V, 3) float32, zero where the file has none; uv (V, 2) float32, v
    downwards; colors (V, 3) uint8; faces (F, 3) uint32; texture: name of the file, "" for none.
    """

    texture: str
    vertices: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]
    uv: npt.NDArray[np.float32]
    colors: npt.NDArray[np.uint8]
    faces: npt.NDArray[np.uint32]


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def text(self) -> str:
        (length,) = self.take("B")
        (raw,) = self.take(f"{length}s")
        return raw.decode("utf-8", "replace")

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values


def read_spm(path: Path) -> list[SpmPart]:
    """The parts of a mesh; DataError where the file is not an SPM of version 1 or ends too early.

    A skinned mesh comes in its rest pose; joints, weights, animations and tangents are left out.
    """
    data = path.read_bytes()
    try:
        return _parse(_Cursor(data))
    except (struct.error, ValueError, IndexError) as error:
        raise DataError(f"{path}: not an SPM mesh of version {VERSION}, or damaged ({error})") from None


def _parse(cursor: _Cursor) -> list[SpmPart]:
    magic, kind, flags = cursor.take("2sBB")
    if magic != b"SP" or kind >> 3 != VERSION or kind & 7 not in (SKINNED, PLAIN):
        raise ValueError(f"header {magic!r} {kind}")
    cursor.take("6f")  # bounding box
    (materials,) = cursor.take("H")
    textures = [(cursor.text(), cursor.text()) for _ in range(materials)]
    (sectors,) = cursor.take("H")
    parts = []
    for _ in range(sectors):
        (buffers,) = cursor.take("H")
        for _ in range(buffers):
            vertices, indices, material = cursor.take("IIH")
            layout = _VertexLayout(flags, textures[material], skinned=kind & 7 == SKINNED)
            parts.append(_read_part(cursor, layout, textures[material][0], vertices, indices))
    return parts


class _VertexLayout:
    """Where the fields of a vertex lie: before and after its colour, which has one byte or four."""

    def __init__(self, flags: int, textures: tuple[str, str], skinned: bool) -> None:
        self.normals, self.colored, tangents = bool(flags & 1), bool(flags & 2), flags & 4
        self.textured = bool(textures[0])
        self.head = 12 + (4 if self.normals else 0)
        uv_bytes = 4 + (4 if textures[1] else 0) + (4 if tangents else 0)
        self.tail = (uv_bytes if self.textured else 0) + (16 if skinned else 0)

    def offsets(self, data: bytes, at: int, count: int) -> npt.NDArray[np.int64]:
        """Where each vertex begins, and where the last ends: (count + 1,) bytes from the file's start."""
        if not self.colored:
            return at + np.arange(count + 1) * (self.head + self.tail)
        starts = np.empty(count + 1, np.int64)
        for index in range(count):
            starts[index] = at
            at += self.head + self.tail + (1 if data[at + self.head] == WHITE else 4)
        starts[count] = at
        return starts


def _read_part(cursor: _Cursor, layout: _VertexLayout, texture: str, count: int, index_count: int) -> SpmPart:
    raw = np.frombuffer(cursor.data, np.uint8)
    starts = layout.offsets(cursor.data, cursor.at, count)
    cursor.at = int(starts[-1])
    first, last = starts[:-1], starts[1:]
    vertices = raw[first[:, None] + np.arange(12)].view("<f4")
    normals = np.zeros((count, 3), np.float32)
    if layout.normals:
        normals = _unpack(raw[first[:, None] + 12 + np.arange(4)].view("<u4")[:, 0])
    colors = np.full((count, 3), 255, np.uint8)
    if layout.colored:
        own = raw[first + layout.head] != WHITE
        colors[own] = raw[first[own, None] + layout.head + 1 + np.arange(3)]
    uv = np.zeros((count, 2), np.float32)
    if layout.textured:
        uv = raw[last[:, None] - layout.tail + np.arange(4)].view("<f2").astype(np.float32)
    # indices have one byte where that is enough
    faces = cursor.array("<u2" if count > 255 else "u1", index_count).reshape(-1, 3).astype(np.uint32)
    if index_count and int(faces.max()) >= count:
        raise ValueError(f"vertex {int(faces.max())} of {count}")
    return SpmPart(texture, vertices, normals, uv, colors, faces)


def _unpack(packed: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    """Three signed numbers of ten bits each, in units of 1 / 511."""
    fields = (packed[:, None] >> np.array([0, 10, 20], np.uint32)) & 1023
    return np.asarray(((fields.astype(np.float32) + 512) % 1024 - 512) / 511, np.float32)
