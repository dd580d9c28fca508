# SPDX-License-Identifier: Apache-2.0
"""Reader of Wavefront OBJ and MTL: triangles of each material, and colours, textures and opacity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ObjPart:
    """Triangles of one material: vertices (V, 3), normals (V, 3) zero where none, uv (V, 2), faces (F, 3)."""

    material: str
    vertices: Array
    normals: Array
    uv: Array
    faces: npt.NDArray[np.uint32]


@dataclass(frozen=True)
class MtlMaterial:
    """color, specular: RGB as the file has them; opacity; shininess 0 to 1000; texture: file, "" none."""

    color: tuple[float, ...] = (0.8, 0.8, 0.8)
    specular: tuple[float, ...] = (0.0, 0.0, 0.0)
    opacity: float = 1.0
    shininess: float = 0.0
    texture: str = ""


@dataclass
class _Corners:
    """Distinct corners (vertex, uv, normal) of one material and the triangles between them."""

    index: dict[tuple[int, int, int], int] = field(default_factory=dict)
    faces: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, corners: list[tuple[int, int, int]]) -> None:
        """Add a polygon as a fan."""
        rows = [self.index.setdefault(corner, len(self.index)) for corner in corners]
        self.faces += [(rows[0], rows[k], rows[k + 1]) for k in range(1, len(rows) - 1)]


def read_obj(lines: Iterable[str]) -> tuple[list[ObjPart], list[str]]:
    """(parts, names of the MTL files). Raises ValueError or IndexError where a line is damaged."""
    tables: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    groups: dict[str, _Corners] = {}
    libraries: list[str] = []
    group = groups.setdefault("", _Corners())
    for line in lines:
        keyword, _, rest = line.strip().partition(" ")
        if keyword in tables:
            tables[keyword].append([float(number) for number in rest.split()[:3]])
        elif keyword == "f":
            group.add([_corner(text, tables) for text in rest.split()])
        elif keyword == "usemtl":
            group = groups.setdefault(rest.strip(), _Corners())
        elif keyword == "mtllib":
            libraries.append(rest.strip())
    vertices = np.array(tables["v"], np.float32).reshape(-1, 3)
    uv = np.array([row[:2] for row in tables["vt"]] + [[0, 0]], np.float32)
    normals = np.array(tables["vn"] + [[0, 0, 0]], np.float32)
    parts = [_part(name, group, vertices, uv, normals) for name, group in groups.items() if group.faces]
    return parts, libraries


def _corner(text: str, tables: dict[str, list[list[float]]]) -> tuple[int, int, int]:
    """Rows of "v", "v/vt", "v//vn" or "v/vt/vn"; -1, the row of zeros at the end, where there is none."""
    numbers = (text.split("/") + ["", ""])[:3]
    rows = []
    for number, table in zip(numbers, tables.values(), strict=True):
        value = int(number) if number else 0
        rows.append(value - 1 if value >= 0 else len(table) + value)
    return rows[0], rows[1], rows[2]


def _part(name: str, group: _Corners, vertices: Array, uv: Array, normals: Array) -> ObjPart:
    corners = np.array(list(group.index), np.int64)
    return ObjPart(
        name,
        vertices[corners[:, 0]],
        normals[corners[:, 2]],
        uv[corners[:, 1]],
        np.array(group.faces, np.uint32),
    )


def read_mtl(lines: Iterable[str]) -> dict[str, MtlMaterial]:
    """Materials by name. Raises ValueError where a number is damaged."""
    found: dict[str, dict] = {}
    current: dict = {}
    for line in lines:
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "newmtl":
            current = found.setdefault(rest.strip(), {})
        elif keyword == "Kd":
            current["color"] = tuple(float(number) for number in rest.split()[:3])
        elif keyword == "Ks":
            current["specular"] = tuple(float(number) for number in rest.split()[:3])
        elif keyword == "Ns":
            current["shininess"] = float(rest)
        elif keyword == "d":
            current["opacity"] = float(rest.split()[-1])
        elif keyword == "map_Kd":
            current["texture"] = rest.strip()
    return {name: MtlMaterial(**fields) for name, fields in found.items()}
