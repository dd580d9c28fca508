# SPDX-License-Identifier: Apache-2.0
"""What stands where in a game track: the models of scene.xml and of the library objects that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from depth_sr_ros.errors import DataError

Element = ElementTree.Element
Matrix = npt.NDArray[np.float64]
UNSEEN = ("physics-only", "physicsonly")
MODELS = ("static-object", "object", "track", "library")
# Models of the sky would give it a depth; effects are light without a surface.
SKY_AND_EFFECTS = ("sky", "cloud", "gfx_", "beam", "halo", "godray", "fog", "bound", "aurora", "stars")


@dataclass(frozen=True)
class Placement:
    """A model file, its 4x4 matrix into the game's world, and the asset ("" the track) it belongs to."""

    model: Path
    matrix: Matrix
    asset: str


def matrix_of(element: Element) -> Matrix:
    """4x4 of the attributes xyz, hpr (degrees about x, then y, then z) and scale, or x, y, z alone."""
    place = _numbers(element.get("xyz") or " ".join(element.get(axis, "0") for axis in "xyz"))
    turns, scale = _numbers(element.get("hpr", "0 0 0")), _numbers(element.get("scale", "1 1 1"))
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(turns)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[i, i] = about[j, j] = np.cos(angle)
        about[j, i], about[i, j] = np.sin(angle), -np.sin(angle)
        turn = about @ turn
    matrix = np.eye(4)
    matrix[:3, :3] = turn * (scale if len(scale) == 3 else np.repeat(scale, 3))
    matrix[:3, 3] = place
    return matrix


def _numbers(text: str) -> npt.NDArray[np.float64]:
    return np.array([float(part) for part in text.replace(",", " ").split()])


def read_placements(data: Path, track: str, shows: Callable[[str], bool]) -> list[Placement]:
    """All models of a track that can be seen, of the finest level of detail.

    data: the game's data folder. shows: whether the library object of a name may be used.
    """
    return list(_walk(data, data / "tracks" / track, "scene.xml", np.eye(4), "", shows))


def _walk(
    data: Path, folder: Path, name: str, above: Matrix, asset: str, shows: Callable[[str], bool]
) -> Iterator[Placement]:
    try:
        root = ElementTree.parse(folder / name).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise DataError(f"{folder / name}: cannot be read ({error})") from None
    finest = _finest_models(root)
    for element in _placed(root):
        if element.get("interaction") in UNSEEN or not _in_the_usual_race(element.get("if", "")):
            continue
        matrix = above @ matrix_of(element)
        if element.tag == "library":
            library = element.get("name", "")
            below = data / "library" / library
            # an object that names itself would go on for ever
            if shows(library) and not _is_sky(library) and library != asset and below.is_dir():
                yield from _walk(data, below, "node.xml", matrix, library, shows)
            continue
        model = element.get("model") or finest.get(element.get("lod_group", ""), "")
        path = folder / model
        if model.endswith(".spm") and not _is_sky(path.name) and path.is_file():
            yield Placement(path, matrix, asset)


def _placed(root: Element) -> Iterator[Element]:
    """Elements that place something: children of the scene and of its track, not those that define a LOD."""
    for element in root:
        if element.tag in MODELS:
            yield element
        if element.tag == "track":
            yield from _placed(element)


def _finest_models(root: Element) -> dict[str, str]:
    """Model of the nearest level of each group of levels of detail."""
    models = {}
    for group in root.iter("group"):
        levels = sorted(group, key=lambda level: float(level.get("lod_distance", "0")))
        if levels:
            models[group.get("name", "")] = levels[0].get("model", "")
    return models


def _in_the_usual_race(condition: str) -> bool:
    """Whether an object with this condition stands there in a race forwards that nothing is hidden from."""
    return not condition or "Not" in condition or condition == "hasNoFlooding"


def _is_sky(name: str) -> bool:
    return any(word in name.lower() for word in SKY_AND_EFFECTS)
