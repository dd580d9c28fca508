# SPDX-License-Identifier: Apache-2.0
"""A furnished room seen by a smoothly moving camera: frames, exact depth, intrinsics and poses."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .procedural_cutouts import Things, plant, rosette
from .procedural_furniture import bottle, chair, clutter, lamp, shelf, sofa, stack, table
from .procedural_light import Lighting
from .procedural_materials import Materials
from .procedural_objects import machine
from .procedural_pack import pack
from .procedural_primitives import (
    Array,
    Camera,
    Light,
    Material,
    Scene,
    box,
    cylinder,
    ellipsoid,
    rotation_from,
)
from .procedural_random import Draw
from .procedural_raycast import cast
from .procedural_sensor import blur3
from .procedural_shading import Shader
from .procedural_stage import hollow
from .procedural_textures import TextureBank, texture_bank
from .procedural_view import camera_rays

FOCAL = 0.82  # of the longer side: 63 degrees
SUBPIXELS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
HALF = np.array([2.6, 1.3, 2.4])  # of the room, metres
# linear albedo of paints, cloths and woods that go together
COLORS = np.array(
    [
        [0.72, 0.68, 0.60],
        [0.55, 0.32, 0.16],
        [0.28, 0.14, 0.07],
        [0.10, 0.22, 0.30],
        [0.60, 0.16, 0.09],
        [0.16, 0.28, 0.15],
        [0.75, 0.50, 0.15],
        [0.05, 0.06, 0.07],
        [0.35, 0.40, 0.44],
        [0.80, 0.78, 0.74],
    ]
)

# maker, x and z on the floor, size (metres), yaw
FURNITURE: tuple[
    tuple[Callable[[Materials, Array, float, float], Things], float, float, float, float], ...
] = (
    (table, 0.3, 0.35, 1.15, 0.15),
    (chair, -0.55, 0.0, 0.95, -1.2),
    (chair, 1.15, 0.75, 0.95, 1.9),
    (shelf, -1.35, 2.05, 1.45, 0.0),
    (sofa, 1.75, 1.75, 1.25, 0.35),
    (lamp, 0.3, 2.0, 1.55, 0.0),
    (plant, -2.1, 1.2, 1.1, 0.5),
    (machine, -1.7, -0.3, 1.0, 0.9),
    (stack, 1.9, 0.2, 0.6, 0.4),
    (rosette, 2.2, -0.5, 0.6, 0.0),
)


class Decor(Materials):
    """Materials of a few colours that go together, with little contrast."""

    def color(self) -> Array:
        """Return one of COLORS, varied a little."""
        return np.clip(
            COLORS[self.rng.integer(0, len(COLORS) - 1)] * (1 + self.rng.normals(3, 0.06)), 0.02, 0.9
        )

    def palette(self, contrast: float, wild: bool = False) -> Array:
        """Return a palette as Materials do, of less contrast."""
        return super().palette(contrast if wild else 0.5 * contrast, wild)

    def of(self, base: list[float], kind: str, tile: float, contrast: float) -> Material:
        """Return a material of a given colour."""
        material = self.draw(1.0, kind, plain=0.0, wild=0.0)
        ramp = np.linspace(1 - contrast, 1 + contrast, len(material.palette))[:, None]
        material.palette, material.tile, material.gloss = (
            np.clip(np.array(base) * ramp, 0.01, 0.95),
            tile,
            0.0,
        )
        material.angle, material.detail_weight = 0.0, 0.3 * contrast
        return material


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole in pixels, whole at pixel centres: u = fx * x / z + cx, as in sensor_msgs/CameraInfo."""

    fx: float
    fy: float
    cx: float
    cy: float


def _furnish(m: Decor) -> Things:
    rng = m.rng
    floor = m.of([0.42, 0.25, 0.13], "wood", 1.1, 0.5)
    rug = m.of([0.45, 0.12, 0.09], "pattern", 0.8, 0.6)
    things = [
        box(np.array([0, -0.001, 0]), np.array([HALF[0], 0.001, HALF[2]]), np.eye(3), floor),
        box(np.array([0.1, -0.008, 0.3]), np.array([1.1, 0.006, 0.8]), rotation_from(0.1), rug),
    ]
    for p in things:
        p.shadow = False
    for make, x, z, size, yaw in FURNITURE:
        base = np.array([x + rng.normal(0, 0.04), -0.003, z + rng.normal(0, 0.04)])
        new = make(m, base, size, yaw + rng.normal(0, 0.1))
        things += new
        if make is table:
            top = new[0].center - [0, new[0].half[1], 0]
            for x, z in ((-0.25, 0.05), (0.05, 0.15), (0.3, -0.08)):
                spot = top + np.array([x, 0, z])
                things += rng.pick((clutter, bottle, stack))(m, spot, rng.uniform(0.2, 0.35), rng.turn())
    for _ in range(4):
        things += rng.pick((clutter, bottle, stack))(
            m, np.array([rng.uniform(-1.5, 1.8), -0.003, rng.uniform(-0.6, 1.6)]), 0.3, rng.turn()
        )
    return things + _ball_and_rods(m)


def _ball_and_rods(m: Decor) -> Things:
    ball = np.array([-0.75, -0.16, 1.15])
    things: Things = [
        ellipsoid(
            ball, np.full(3, 0.16), rotation_from(0.3, 0.8), m.of([0.7, 0.2, 0.08], "pattern", 0.3, 0.7)
        )
    ]
    for k in range(3):  # rods that lean on the wall
        foot = np.array([0.95 + 0.13 * k, 0.0, 2.05])
        things.append(
            cylinder(
                foot, foot + np.array([0.1, -1.5 - 0.12 * k, 0.33]), 0.008 + 0.003 * k, m.draw(1.0, plain=1.0)
            )
        )
    return things


def _walls(m: Decor) -> Things:
    pictures: Things = []
    for x, y, w, h in ((0.45, -1.55, 0.36, 0.27), (1.55, -1.6, 0.24, 0.32), (-0.35, -1.75, 0.2, 0.2)):
        art = m.draw(0.6, "dead_leaves", "marble", "writing", plain=0.0, wild=0.8)
        pictures.append(box(np.array([x, y, HALF[2] - 0.015]), np.array([w, h, 0.015]), np.eye(3), art))
        frame = m.draw(0.3, plain=1.0)
        pictures.append(
            box(np.array([x, y, HALF[2] - 0.01]), np.array([w + 0.03, h + 0.03, 0.01]), np.eye(3), frame)
        )
    window = m.of([0.85, 0.92, 1.0], "bricks", 0.9, 0.15)
    window.glow = 1.6
    pictures.append(
        box(np.array([-HALF[0] + 0.02, -1.45, 0.6]), np.array([0.02, 0.6, 0.5]), np.eye(3), window)
    )
    return pictures


def demo_scene(bank: TextureBank, seed: int) -> Scene:
    """Return a furnished room lit by a lamp near its ceiling; the camera is set for each frame."""
    m = Decor(Draw(seed), bank.groups, relief=0.0)
    wall = m.of([0.68, 0.62, 0.52], "fractal", 1.5, 0.12)
    light = Light(
        direction=np.array([0, -1.0, 0]),
        color=np.array([1.9, 1.75, 1.5]),
        ambient=np.array([0.34, 0.36, 0.40]),
        bounce=np.array([0.24, 0.20, 0.16]),
        point=True,
        position=np.array([-1.7, -2.3, 0.3]),
        softness=0.08,
        blur=0.03,
        occlusion=0.6,
    )
    backdrop = hollow(np.array([0, -HALF[1], 0]), HALF, np.eye(3), wall)
    return Scene(backdrop, _furnish(m) + _walls(m), light, Camera(np.zeros(3), np.eye(3), FOCAL))


def camera_path(frames: int) -> list[Camera]:
    """Return the poses: a slow sway through the room that ends near where it began."""
    path = []
    for k in range(frames):
        t = 2 * math.pi * k / max(frames, 1)
        eye = np.array([-0.35 + 0.5 * math.sin(t), -1.35 + 0.12 * math.sin(2 * t), -1.75 + 0.3 * math.cos(t)])
        aim = np.array([0.15 + 0.35 * math.sin(t + 0.6), -0.75 + 0.08 * math.cos(t), 1.2])
        d = aim - eye
        turn = rotation_from(
            math.atan2(d[0], d[2]), math.atan2(d[1], math.hypot(d[0], d[2])), 0.02 * math.sin(t)
        )
        path.append(Camera(eye, turn, FOCAL))
    return path


class Sequence:
    """A sequence of frames; iterate it for (rgb uint8 (H, W, 3), depth float32 (H, W) metres).

    `intrinsics` hold for all frames; `poses[k]` is (rotation (3, 3), position (3,)) with
    x_camera = rotation @ (x_world - position). Depth is along the optical axis, at the pixel's centre; the
    colour is a mean of 2 x 2 rays.
    """

    def __init__(self, seed: int, frames: int, height: int, width: int):
        self.frames, self.height, self.width = frames, height, width
        self.bank = texture_bank(seed, torch.device("cpu"))
        self.scene = demo_scene(self.bank, seed)
        self.path = camera_path(frames)
        self.poses = [(camera.rotation, camera.position) for camera in self.path]
        _, _, focal = camera_rays(self.path[0], height, width)
        self.intrinsics = Intrinsics(focal, focal, width / 2 - 0.5, height / 2 - 0.5)
        self._gain: float | None = None

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        for k in range(self.frames):
            yield self.color(k), self.depth(k)

    def depth(self, k: int) -> Array:
        """Return the depth of frame k alone; a hundredth of the time of its colours."""
        self.scene.camera = self.path[k]
        packed = pack([self.scene], self.height, self.width, torch.device("cpu"))
        return cast(packed, self.bank)[0][0].numpy()

    @torch.no_grad()
    def color(self, k: int) -> Array:
        """Return the colours of frame k alone; the first that is asked for sets the exposure of all."""
        self.scene.camera = self.path[k]
        total = torch.zeros(1, 3, self.height, self.width)
        for number, shift in enumerate(SUBPIXELS):
            packed = pack([self.scene], self.height, self.width, torch.device("cpu"), shift)
            depth, surface = cast(packed, self.bank)
            # one seed for all frames: the grain of the soft shadows stands still
            grain = torch.Generator().manual_seed(number)
            lighting = Lighting(packed, self.bank, [grain], stride=1, casters=60)
            total += Shader(packed, depth, surface, self.bank).image(lighting).clamp_(0, 3)
        image = blur3(total / len(SUBPIXELS), torch.full((1, 1, 1, 1), 0.25))
        if self._gain is None:  # one exposure for the whole sequence
            self._gain = 0.3 / float(image.mean())
        image = (image * self._gain).clamp_(1e-5, 8)
        image = (image * (1 + image / 4) / (1 + image)) ** (1 / 2.2)  # soft shoulder, white at 2 stops over
        return (image[0].permute(1, 2, 0).clamp_(0, 1) * 255 + 0.5).byte().numpy()


def render_sequence(seed: int, frames: int, height: int, width: int) -> Iterator[tuple[Array, Array]]:
    """Yield (rgb uint8 (H, W, 3), depth float32 (H, W) metres); `Sequence` has the poses and intrinsics."""
    return iter(Sequence(seed, frames, height, width))
