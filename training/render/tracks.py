# SPDX-License-Identifier: Apache-2.0
"""Scenes of SuperTuxKart's tracks: all of a track, a drawn hour of the day, cameras along its road."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from depth_sr_ros.errors import ConfigError, DataError
from training.data.procedural_random import Draw
from training.render.daylight import draw_daylight
from training.render.game_materials import GameMaterials
from training.render.geometry import Camera, Lighting, SceneBuilder, camera_at
from training.render.placements import Placement, read_placements
from training.render.quads import read_quads, spot
from training.render.splits import track_split, tracks_of
from training.render.spm import SpmPart, read_spm

APT_HINT = "apt install supertuxkart-data"
MIRROR = np.array([1.0, 1.0, -1.0], np.float32)  # from the game's left-handed frame to ours


def list_tracks(data: Path, split: str) -> list[str]:
    """Tracks with a road that the split may show, sorted; ConfigError where `data` is not the game's."""
    names = [path.parent.name for path in (data / "tracks").glob("*/quads.xml")]
    if not names:
        raise ConfigError(
            f"no track at {data}: {APT_HINT}, or give --assets-tracks the data folder of SuperTuxKart"
        )
    found = tracks_of(names, split)
    if not found:
        raise ConfigError(f"none of the {len(names)} tracks at {data} belongs to the split {split!r}")
    return found


class TrackScene:
    """One track under one sky. `files` are the asset files that it uses, for the credits."""

    def __init__(self, data: Path, name: str, split: str, seed: int) -> None:
        draw = Draw(seed)
        self.name = name
        self.scene = SceneBuilder()
        self.lighting: Lighting = draw_daylight(draw)
        self._quads = read_quads(data / "tracks" / name / "quads.xml")
        materials = GameMaterials(self.scene, data, name, draw)
        placements = read_placements(data, name, lambda library: track_split(library) == split)
        self.files = _add_models(self.scene, placements, materials) | materials.files

    def camera(self, seed: int) -> Camera:
        """A view from the road or beside it, mostly ahead, at a walker's to a truck driver's height."""
        draw = Draw(seed)
        index = draw.integer(0, len(self._quads) - 1)
        point, forward = spot(self._quads, index, draw.uniform(), draw.uniform(-0.1, 1.1))
        eye = point * MIRROR + [0, draw.log(0.5, 3.5), 0]
        ahead = math.atan2(-forward[0], forward[2])  # after the mirror, of the direction (x, y, -z)
        yaw = ahead + (draw.turn() if draw.chance(0.25) else draw.normal(0, 0.5))
        slope = math.asin(min(1, max(-1, forward[1]))) * math.cos(yaw - ahead)
        return camera_at(
            list(eye), yaw, slope + draw.normal(-0.03, 0.12), draw.normal(0, 0.04), draw.uniform(50, 95)
        )


def _add_models(scene: SceneBuilder, placements: list[Placement], materials: GameMaterials) -> set[Path]:
    meshes: dict[Path, list[SpmPart]] = {}
    for placement in placements:
        if placement.model not in meshes:
            meshes[placement.model] = read_spm(placement.model)
        for part in meshes[placement.model]:
            row = materials.row(placement.model.parent, part.texture) if part.texture else 0
            if row is not None and len(part.faces):
                _add_part(scene, part, placement, row)
    if not meshes:
        raise DataError("the track has no model that can be seen")
    return set(meshes)


def _add_part(scene: SceneBuilder, part: SpmPart, placement: Placement, row: int) -> None:
    turn, shift = placement.matrix[:3, :3], placement.matrix[:3, 3]
    vertices = (part.vertices @ turn.T + shift) * MIRROR
    # normals go with the inverse transpose, so that uneven scales keep them upright
    normals = part.normals @ np.linalg.pinv(turn) * MIRROR
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    scene.add(
        vertices.astype(np.float32),
        part.faces,
        row,
        normals=(normals / np.maximum(length, 1e-9)).astype(np.float32),
        uv=part.uv,
        colors=part.colors,
    )
