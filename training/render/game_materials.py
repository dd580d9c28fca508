# SPDX-License-Identifier: Apache-2.0
"""How the game's surfaces look, by materials.xml: textures with holes, see-through ones, and mere light."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from depth_sr_ros.errors import DataError
from training.data.procedural_random import Draw
from training.render.geometry import BLEND, CUTOUT, OPAQUE, Material, SceneBuilder, prepare_texture

LARGEST_TEXTURE = 1024  # pixels
MODES = {"alphatest": CUTOUT, "grass": CUTOUT, "alphablend": BLEND}
NO_SURFACE = ("additive", "displace")  # glow and shimmering air
WATER = ("water", "sea", "ice", "lake", "river")


@dataclass(frozen=True)
class Look:
    """What materials.xml says of a texture: the shader, and the file that holds its alpha ("" none)."""

    shader: str = "solid"
    mask: str = ""


def read_looks(path: Path) -> dict[str, Look]:
    """Looks by the texture's name in lower case; nothing where there is no such file."""
    if not path.is_file():
        return {}
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    return {
        node.get("name", "").lower(): Look(node.get("shader", "solid"), node.get("mask", ""))
        for node in root.iter("material")
    }


class GameMaterials:
    """Materials of one track, each texture loaded once; gloss is drawn by the scene's seed."""

    def __init__(self, scene: SceneBuilder, data: Path, track: str, draw: Draw) -> None:
        self._scene, self._data, self._draw = scene, data, draw
        self._track = data / "tracks" / track
        self._shared = read_looks(data / "textures" / "materials.xml")
        self._own = read_looks(self._track / "materials.xml")
        self._rows: dict[tuple[Path, str], int | None] = {}
        self._wet = draw.chance(0.25)
        self.files: set[Path] = set()

    def row(self, folder: Path, texture: str) -> int | None:
        """Row of the material of a texture that a model in `folder` names; None: it is no surface."""
        key = (folder, texture)
        if key not in self._rows:
            self._rows[key] = self._make(folder, texture)
        return self._rows[key]

    def _make(self, folder: Path, texture: str) -> int | None:
        name = texture.lower()
        look = self._own.get(name) or read_looks(folder / "materials.xml").get(name) or self._shared.get(name)
        look = look or Look()
        if look.shader in NO_SURFACE:
            return None
        image = self._image(folder, texture)
        if image is None:
            return self._scene.material(Material(color=(0.4, 0.4, 0.4)))
        if look.mask and (mask := self._image(folder, look.mask)) is not None:
            size = (image.shape[1], image.shape[0])
            image[..., 3] = cv2.resize(mask[..., 1], size, interpolation=cv2.INTER_AREA)
        mode = MODES.get(look.shader, CUTOUT if look.mask else OPAQUE)
        row = self._scene.texture(prepare_texture(image, mode, LARGEST_TEXTURE))
        return self._scene.material(self._material(row, name, look))

    def _material(self, row: int, name: str, look: Look) -> Material:
        draw = self._draw
        glow = 1.0 if look.shader == "unlit" else 0.0
        if any(word in name for word in WATER) or look.shader == "spheremap":
            return Material(
                row, reflectance=draw.uniform(0.03, 0.3), roughness=draw.uniform(0.02, 0.3), glow=glow
            )
        shiny = draw.chance(0.6 if self._wet else 0.2) and MODES.get(look.shader) != CUTOUT
        reflectance, roughness = draw.uniform(0.02, 0.12), draw.uniform(0.05, 0.5)
        return Material(row, reflectance=reflectance if shiny else 0.0, roughness=roughness, glow=glow)

    def _image(self, folder: Path, texture: str) -> npt.NDArray[np.uint8] | None:
        for place in (folder, self._track, self._data / "textures"):
            path = place / texture
            if path.is_file():
                self.files.add(path)
                return read_rgba(path.read_bytes())
        return None


def read_rgba(data: bytes) -> npt.NDArray[np.uint8] | None:
    """(H, W, 4) uint8 of an encoded image; None where it is not one that Pillow reads."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGBA"))
    except (OSError, ValueError):
        return None
