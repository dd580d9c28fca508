# SPDX-License-Identifier: Apache-2.0
"""Sweet Home 3D's furniture: what the catalogues (*.sh3f) hold, and the model of a piece in its real size."""

from __future__ import annotations

import posixpath
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_sr_ros.errors import ConfigError, DataError
from training.render.game_materials import read_rgba
from training.render.obj import MtlMaterial, ObjPart, read_mtl, read_obj
from training.render.splits import furniture_split

APT_HINT = "apt install sweethome3d-furniture"
CATALOGUE = "PluginFurnitureCatalog.properties"
OUTDOORS = ("Exterior", "Vehicles", "Doors and windows", "Staircases")
LARGEST = 3.0  # metres: what is longer or higher does not go into a room
MOST_BYTES = 12_000_000  # of an OBJ file: a few models of a million triangles would take most of the time


@dataclass(frozen=True)
class Piece:
    """A piece of a catalogue. size: width (x), height (y), depth (z), metres; its front looks along +z.

    elevation: of its foot over the floor; shelf: height at which things stand on it, 0 for none.
    """

    catalogue: Path
    name: str
    category: str
    model: str
    size: tuple[float, float, float]
    elevation: float
    shelf: float
    rotation: tuple[float, ...]
    creator: str
    license: str


@dataclass(frozen=True)
class Model:
    """Parts in metres, standing on y = 0 about the origin; materials by name; textures by file name, RGBA."""

    parts: list[ObjPart]
    materials: dict[str, MtlMaterial]
    textures: dict[str, npt.NDArray[np.uint8]]


def list_furniture(folder: Path, split: str) -> list[Piece]:
    """Pieces for rooms that the split may show, in a fixed order; ConfigError where the folder has none."""
    pieces = [piece for path in sorted(folder.glob("*.sh3f")) for piece in read_catalogue(path)]
    if not pieces:
        raise ConfigError(
            f"no furniture catalogue (*.sh3f) in {folder}: {APT_HINT}, or give --assets-furniture the folder"
        )
    fitting = [piece for piece in pieces if piece.category not in OUTDOORS and max(piece.size) <= LARGEST]
    found = [piece for piece in fitting if furniture_split(piece.name) == split]
    if not found:
        raise ConfigError(f"none of the {len(pieces)} pieces in {folder} belongs to the split {split!r}")
    return found


def read_catalogue(path: Path) -> list[Piece]:
    """All pieces of a catalogue, as it lists them; DataError where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(CATALOGUE).decode("latin-1")
            sizes = {info.filename: info.file_size for info in archive.infolist()}
        text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
        fields = dict(re.findall(r"^([\w#]+)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
        numbers = sorted(int(key[3:]) for key in fields if key.startswith("id#"))
        pieces = [_piece(path, fields, number) for number in numbers]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a furniture catalogue of Sweet Home 3D ({error})") from None
    return [piece for piece in pieces if 0 < sizes.get(piece.model, 0) <= MOST_BYTES]


def _piece(path: Path, fields: dict[str, str], number: int) -> Piece:
    def field(key: str, default: str | None = None) -> str:
        return fields[f"{key}#{number}"] if default is None else fields.get(f"{key}#{number}", default)

    metres = 0.01
    width, height, depth = (float(field(key)) * metres for key in ("width", "height", "depth"))
    return Piece(
        catalogue=path,
        name=field("name"),
        category=field("category"),
        model=field("model").lstrip("/"),
        size=(width, height, depth),
        elevation=float(field("elevation", "0")) * metres,
        shelf=max(0.0, float(field("dropOnTopElevation", "0")) * metres),
        rotation=tuple(float(value) for value in field("modelRotation", "").split()),
        creator=field("creator", "unknown"),
        license=field("license", fields.get("license", "see the catalogue")),
    )


def load_model(piece: Piece) -> Model:
    """The model of a piece, scaled to its size; DataError where it cannot be read."""
    folder = posixpath.dirname(piece.model)
    try:
        with zipfile.ZipFile(piece.catalogue) as archive:
            parts, libraries = read_obj(archive.read(piece.model).decode("latin-1").splitlines())
            names = {name.lower(): name for name in archive.namelist()}
            materials: dict[str, MtlMaterial] = {}
            for library in libraries:
                name = names.get(posixpath.join(folder, library).lower())
                if name:
                    materials |= read_mtl(archive.read(name).decode("latin-1").splitlines())
            textures = {}
            for file in {material.texture for material in materials.values() if material.texture}:
                name = names.get(posixpath.normpath(posixpath.join(folder, file.replace("\\", "/"))).lower())
                image = read_rgba(archive.read(name)) if name else None
                if image is not None:
                    textures[file] = image
    except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise DataError(f"{piece.catalogue}: the model {piece.model} cannot be read ({error})") from None
    if not parts:
        raise DataError(f"{piece.catalogue}: the model {piece.model} has no face")
    return Model(_fit(parts, piece), materials, textures)


def _fit(parts: list[ObjPart], piece: Piece) -> list[ObjPart]:
    """Turn as the catalogue says, then stretch to the piece's size, as Sweet Home 3D does."""
    turn = np.array(piece.rotation, np.float32).reshape(3, 3) if len(piece.rotation) == 9 else np.eye(3)
    points = [part.vertices @ turn.T for part in parts]
    low = np.min([group.min(0) for group in points], axis=0)
    high = np.max([group.max(0) for group in points], axis=0)
    scale = np.array(piece.size) / np.maximum(high - low, 1e-6)
    foot = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    fitted = []
    for part, group in zip(parts, points, strict=True):
        normals = part.normals @ turn.T / scale
        length = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        vertices = ((group - foot) * scale).astype(np.float32)
        fitted.append(replace(part, vertices=vertices, normals=(normals / length).astype(np.float32)))
    return fitted
