# SPDX-License-Identifier: Apache-2.0
"""Builds a planned room: shell with textures of our own, furniture, lamps and windows, and cameras in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from training.data import procedural_textures as textures
from training.data.procedural_materials import color
from training.data.procedural_random import Draw
from training.render.daylight import draw_daylight
from training.render.furniture import Model, Piece, load_model
from training.render.geometry import (
    BLEND,
    OPAQUE,
    Array,
    Camera,
    Lighting,
    Material,
    Panel,
    SceneBuilder,
    camera_at,
    prepare_texture,
)
from training.render.obj import MtlMaterial
from training.render.rooms import Opening, Placed, RoomPlan, at_wall, plan_room, wall_yaw

LARGEST_TEXTURE = 512  # pixels
REVEAL = 0.15  # metres: how deep windows lie in the wall
FLOORS = (textures.wood, textures.wood, textures.bricks, textures.pattern, textures.fractal, textures.cells)
WALLS = (textures.fractal, textures.fractal, textures.pattern, textures.bricks, textures.marble)


class RoomScene:
    """One furnished room. `pieces` are those that stand in it, for the credits."""

    name = "room"

    def __init__(self, pieces: list[Piece], seed: int) -> None:
        draw = Draw(seed)
        self._plan = plan_room(draw, pieces)
        self.scene = SceneBuilder()
        self.pieces = [placed.piece for placed in self._plan.placed]
        _add_shell(self.scene, self._plan, draw, torch.Generator().manual_seed(seed % 2**63))
        models: dict[Piece, Model] = {}
        for placed in self._plan.placed:
            if placed.piece not in models:
                models[placed.piece] = load_model(placed.piece)
            _add_furniture(self.scene, placed, models[placed.piece])
        self.lighting = _light(self.scene, self._plan, draw)

    def camera(self, seed: int) -> Camera:
        """A view from within the room, at a toy robot's to a man's height, mostly at a piece of furniture."""
        draw, plan = Draw(seed), self._plan
        eye = np.array(
            [draw.uniform(-1, 1) * (side - 0.25) for side in plan.half]
            + [min(draw.log(0.35, 1.9), plan.height - 0.3)]
        )[[0, 2, 1]]
        target = np.array([draw.uniform(-1, 1) * plan.half[0], 0.8, draw.uniform(-1, 1) * plan.half[1]])
        if plan.placed and draw.chance(0.7):
            at = draw.pick(plan.placed)
            target = np.array([at.x, at.y + at.piece.size[1] / 2, at.z])
        towards = target - eye
        yaw = math.atan2(-towards[0], -towards[2]) + draw.normal(0, 0.2)
        pitch = math.atan2(towards[1], math.hypot(towards[0], towards[2])) + draw.normal(0, 0.1)
        limited = min(1.2, max(-1.2, pitch))
        return camera_at(list(eye), yaw, limited, draw.normal(0, 0.04), draw.uniform(50, 90))


def _paint(scene: SceneBuilder, draw: Draw, make: Callable, rng: torch.Generator, material: Material) -> int:
    """A material of two tones of one colour, or now and then of two colours, mixed by a grey texture."""
    share = make(rng).numpy()[..., None]
    light = color(draw)
    dark = color(draw) if draw.chance(0.15) else light * draw.uniform(0.4, 0.95)
    linear = dark + (light - dark) * share
    image = np.full((*share.shape[:2], 4), 255, np.uint8)
    image[..., :3] = np.clip(linear, 0, 1) ** (1 / 2.2) * 255 + 0.5
    return scene.material(replace(material, texture=scene.texture(image)))


def _add_shell(scene: SceneBuilder, plan: RoomPlan, draw: Draw, rng: torch.Generator) -> None:
    shiny = Material(reflectance=0.04, roughness=draw.uniform(0.03, 0.5))
    floor = _paint(scene, draw, draw.pick(FLOORS), rng, shiny if draw.chance(0.6) else Material())
    walls = _paint(scene, draw, draw.pick(WALLS), rng, Material())
    ceiling = scene.material(Material(color=(draw.uniform(0.6, 0.85),) * 3))
    tile = draw.log(0.5, 2.5)
    x, z = plan.half
    for height, row in ((0.0, floor), (plan.height, ceiling)):
        _rectangle(
            scene, np.array([-x, height, -z]), np.array([2 * x, 0, 0]), np.array([0, 0, 2 * z]), row, tile
        )
    for wall in range(4):
        openings = [window for window in plan.windows if window.wall == wall]
        _add_wall(scene, plan, wall, openings[0] if openings else None, walls, draw.log(0.5, 2.0))


def _rectangle(
    scene: SceneBuilder, corner: Array, first: Array, second: Array, row: int, tile: float
) -> None:
    vertices = np.array([corner, corner + first, corner + first + second, corner + second], np.float32)
    across, along = np.linalg.norm(first) / tile, np.linalg.norm(second) / tile
    uv = np.array([[0, 0], [across, 0], [across, along], [0, along]], np.float32)
    scene.add(vertices, np.array([[0, 1, 2], [0, 2, 3]]), row, uv=uv)


def _add_wall(
    scene: SceneBuilder, plan: RoomPlan, wall: int, window: Opening | None, row: int, tile: float
) -> None:
    """A wall, or the four strips about its window and the window's reveal."""
    reach, top = plan.half[wall % 2], plan.height

    def point(middle: float, height: float, inward: float = 0.0) -> Array:
        x, z = at_wall(wall, plan.half, middle, inward)
        return np.array([x, height, z], np.float32)

    def strip(left: float, right: float, low: float, high: float) -> None:
        corner = point(left, low)
        _rectangle(scene, corner, point(right, low) - corner, point(left, high) - corner, row, tile)

    if window is None:
        strip(-reach, reach, 0, top)
        return
    left, right = window.middle - window.width / 2, window.middle + window.width / 2
    strip(-reach, left, 0, top)
    strip(right, reach, 0, top)
    strip(left, right, 0, window.sill)
    strip(left, right, window.lintel, top)
    frame = scene.material(Material(color=(0.7, 0.7, 0.7), reflectance=0.04, roughness=0.3))
    out = point(left, 0, -REVEAL) - point(left, 0)
    corners = [point(a, b) for a in (left, right) for b in (window.sill, window.lintel)]
    for a, b in ((0, 1), (2, 3), (0, 2), (1, 3)):
        _rectangle(scene, corners[a], corners[b] - corners[a], out, frame, 1.0)


def _add_furniture(scene: SceneBuilder, placed: Placed, model: Model) -> None:
    c, s = math.cos(placed.yaw), math.sin(placed.yaw)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
    rows: dict[str, int] = {}
    for part in model.parts:
        if part.material not in rows:
            rows[part.material] = _furniture_material(scene, model, part.material)
        scene.add(
            part.vertices @ turn.T + np.array([placed.x, placed.y, placed.z], np.float32),
            part.faces,
            rows[part.material],
            normals=part.normals @ turn.T,
            uv=part.uv * np.array([1, -1], np.float32),  # an OBJ's v points up
        )


def _furniture_material(scene: SceneBuilder, model: Model, name: str) -> int:
    source = model.materials.get(name, MtlMaterial())
    specular = sum(source.specular) / 3
    # 0 to 1000, on a logarithmic scale
    roughness = min(0.9, max(0.05, 1 - math.log10(source.shininess + 1) / 3))
    look = Material(opacity=source.opacity, reflectance=min(0.3, 0.12 * specular), roughness=roughness)
    image = model.textures.get(source.texture)
    if image is None:
        red, green, blue = (min(1.0, max(0.0, value)) ** 2.2 for value in source.color)
        return scene.material(replace(look, color=(red, green, blue)))
    mode = BLEND if (image[..., 3] < 250).any() else OPAQUE
    return scene.material(replace(look, texture=scene.texture(prepare_texture(image, mode, LARGEST_TEXTURE))))


def _light(scene: SceneBuilder, plan: RoomPlan, draw: Draw) -> Lighting:
    """Lamps under the ceiling, windows to a drawn sky, and a grey for the light of many bounces."""
    day = draw_daylight(draw)
    warm = np.array([1.0, draw.uniform(0.75, 0.95), draw.uniform(0.5, 0.9)], np.float32)
    lamps_on = not plan.windows or draw.chance(0.6)
    brightness = draw.log(6, 30) if lamps_on else 0.0
    panels = [_lamp(scene, plan, lamp, warm * brightness) for lamp in plan.lamps]
    panels += [_window_panel(plan, window, day.sky[1]) for window in plan.windows]
    lit = [panel for panel in panels if panel.radiance.any()]
    flux = sum(np.linalg.norm(np.cross(*panel.edges)) * panel.radiance for panel in lit)
    surface = 8 * plan.half[0] * plan.half[1] + 4 * sum(plan.half) * plan.height
    return replace(day, ambient=np.asarray(0.5 * flux / surface, np.float32), panels=tuple(lit))


def _lamp(scene: SceneBuilder, plan: RoomPlan, lamp: tuple[float, float, float], radiance: Array) -> Panel:
    x, z, side = lamp
    height = plan.height - 0.02
    corner = np.array([x - side / 2, height, z - side / 2], np.float32)
    first, second = np.array([side, 0, 0], np.float32), np.array([0, 0, side], np.float32)
    glow = float(radiance.max())
    tint = tuple(float(value) for value in (radiance / glow if glow else np.full(3, 0.8)))
    row = scene.material(Material(color=(tint[0], tint[1], tint[2]), glow=glow))
    _rectangle(scene, corner, first, second, row, 1.0)
    return Panel(corner, np.stack([first, second]), radiance)


def _window_panel(plan: RoomPlan, window: Opening, radiance: Array) -> Panel:
    x, z = at_wall(window.wall, plan.half, window.middle - window.width / 2, -REVEAL)
    end_x, end_z = at_wall(window.wall, plan.half, window.middle + window.width / 2, -REVEAL)
    along = np.array([end_x - x, 0, end_z - z], np.float32)
    up = np.array([0, window.lintel - window.sill, 0], np.float32)
    yaw = wall_yaw(window.wall)
    inward = np.array([math.sin(yaw), 0, math.cos(yaw)])
    edges = [along, up] if np.dot(np.cross(along, up), inward) > 0 else [up, along]
    return Panel(np.array([x, window.sill, z], np.float32), np.stack(edges), np.asarray(radiance, np.float32))
