# SPDX-License-Identifier: Apache-2.0
"""Rooms with furniture, and table tops with clutter."""

import numpy as np

from .procedural_cutouts import Things
from .procedural_materials import Materials
from .procedural_objects import INDOOR, SMALL, thing
from .procedural_primitives import Array, Scene, box, curved_card, rotation_from
from .procedural_random import Draw
from .procedural_stage import Mix, camouflage, hollow, light, look

NORTH = np.eye(3)
WALL_YAWS = (0.0, np.pi / 2, np.pi, -np.pi / 2)  # of a thing whose back (+z) is at the +z, +x, -z, -x wall


def _view(rng: Draw, half: Array) -> tuple[Array, Array]:
    """Return a camera's place near a wall or corner of the room and the point it looks at."""
    eye = half * np.array([rng.sign() * rng.uniform(0.1, 0.9), 0, rng.sign() * rng.uniform(0.1, 0.9)])
    eye[1] = -min(max(rng.normal(1.25, 0.35), 0.25), 2 * half[1] - 0.2)
    across = -np.sign(eye) * rng.uniform(0.0, 0.9) * half
    return eye, np.array([across[0], -rng.uniform(0.1, 1.2), across[2]])


def _furniture(m: Materials, half: Array, eye: Array, target: Array, count: int) -> list[Things]:
    """Things on the floor, most of them in view, half of them with their backs at a wall."""
    rng, out = m.rng, []
    forward = (target - eye)[[0, 2]]
    forward /= np.hypot(*forward) + 1e-6
    across, limit = np.array([-forward[1], forward[0]]), half[[0, 2]]
    for _ in range(count):
        reach = rng.uniform(0.7, 1.4 * limit.max())
        spot = eye[[0, 2]] + reach * (forward + rng.normal(0, 0.4) * across)
        size = rng.pick((1.0, rng.uniform(0.5, 1.0)))
        yaw = rng.turn()
        if rng.chance(0.5):
            wall = rng.integer(0, 3)
            axis, sign = (1, 1) if wall == 0 else (0, 1) if wall == 1 else (1, -1) if wall == 2 else (0, -1)
            yaw = WALL_YAWS[wall]
            spot[axis] = sign * (limit[axis] - rng.uniform(0.12, 0.5))
        spot = np.clip(spot, -limit + 0.1, limit - 0.1)
        if np.hypot(*(spot - eye[[0, 2]])) > 0.6:
            out.append(thing(m, INDOOR, np.array([spot[0], -0.002, spot[1]]), size, yaw))
    return out


def _curtain(m: Materials, start: Array, axis: int, sign: int) -> Things:
    """Half columns of cloth in a row, before the wall that `sign` gives on `axis`."""
    rng = m.rng
    cloth, fold = m.draw(0.8, "fractal", "pattern"), rng.uniform(0.04, 0.12)
    along, out_of = np.eye(3)[2 - axis], np.eye(3)[axis] * sign
    frame = np.stack([along, [0, 1, 0], out_of])
    places = [start - out_of * fold + along * 2 * fold * k for k in range(rng.integer(2, 7))]
    return [curved_card(place, (fold, 1.1), frame, fold * 1.05, cloth, None) for place in places]


def _on_walls(m: Materials, half: Array) -> Things:
    """Posters (next to no depth), doors, windows, cupboards, beams and curtains on the four walls."""
    rng = m.rng
    out: Things = []
    for _ in range(rng.integer(1, 8)):
        axis, sign = rng.pick((0, 2)), rng.sign()
        center = np.array(
            [rng.uniform(-0.8, 0.8) * half[0], -rng.uniform(0.5, 2.0), rng.uniform(-0.8, 0.8) * half[2]]
        )
        thick = rng.pick((0.002, 0.015, rng.uniform(0.05, 0.3)))
        center[axis] = sign * (half[axis] - thick)
        size = rng.uniforms(3, 0.15, 0.8)
        size[axis] = thick
        kind = rng.uniform()
        if kind < 0.15:
            material = m.light(0.8)
        elif kind < 0.7:
            material = m.draw(
                0.8, "dead_leaves", "writing", "pattern", "bricks", "leaves", plain=0.05, wild=0.6
            )
        else:
            material = m.draw(0.8, "wood", "fractal")
        out.append(box(center, size, NORTH, material))
        if kind > 0.85:  # a frame or sill that stands out
            rim = size * 1.06
            rim[axis] = thick * 0.7
            out.append(box(center, rim, NORTH, m.draw(0.8, plain=0.8)))
        elif kind > 0.75:
            out += _curtain(m, np.array([center[0], -1.2, center[2]]), axis, sign)
    return out


def room(m: Materials, mix: Mix) -> Scene:
    """A box seen from within, furniture on its floor, things on its walls."""
    rng = m.rng
    half = np.array([rng.uniform(1.3, 4.0), rng.uniform(1.15, 1.7), rng.uniform(1.3, 4.0)])
    wall = m.draw(2.0, "fractal", "fractal", "bricks", "pattern", "cells", "marble", plain=0.5, wild=0.03)
    floor = m.draw(2.0, "wood", "bricks", "fractal", "pattern", "cells", "marble", plain=0.1, wild=0.05)
    things: Things = [box(np.array([0, -0.001, 0]), np.array([half[0], 0.001, half[2]]), NORTH, floor)]
    if rng.chance(0.6):
        white = m.draw(2.0, plain=1.0)
        white.palette = 0.6 + 0.4 * white.palette
        things.append(
            box(np.array([0, 0.001 - 2 * half[1], 0]), np.array([half[0], 0.001, half[2]]), NORTH, white)
        )
    if rng.chance(0.4):  # a rug
        rug = m.draw(1.0, "pattern", "dead_leaves", "fractal", "leaves", plain=0.1, wild=0.5)
        things.append(
            box(
                np.array([rng.normal(0, 0.5), -0.004, rng.normal(0, 0.5)]),
                np.array([rng.uniform(0.5, 1.4), 0.003, rng.uniform(0.5, 1.4)]),
                rotation_from(rng.turn()),
                rug,
            )
        )
    eye, target = _view(rng, half)
    for flat in things:
        flat.shadow = False
    for new in _furniture(m, half, eye, target, rng.integer(5, 12)):
        if rng.chance(mix.camouflage):
            camouflage(new, wall if rng.chance(0.6) else floor)
        things += new
    things += _on_walls(m, half)
    scene = Scene(
        hollow(np.array([0, -half[1], 0]), half, NORTH, wall),
        things,
        light(m, mix, True, 2.0),
        look(rng, eye, target, rng.normal(0, 0.06)),
    )
    if scene.light.point:
        scene.light.position = half * np.array([rng.uniform(-0.8, 0.8), 0, rng.uniform(-0.8, 0.8)])
        scene.light.position[1] = -2 * half[1] * rng.uniform(0.6, 0.95)
    return scene


def tabletop(m: Materials, mix: Mix) -> Scene:
    """A near plane with many small things, seen from above or along it."""
    rng = m.rng
    top = m.draw(0.8, "wood", "fractal", "marble", "pattern", "bricks", "cells", "dead_leaves", plain=0.15)
    backdrop = hollow(
        np.array([0, -4.0, 0]),
        np.array([6, 4.0, rng.log(0.5, 4.0)]),
        rotation_from(rng.normal(0, 0.4)),
        m.draw(1.5, plain=0.1),
    )
    reach = np.array([rng.log(0.4, 6), 0.02, rng.log(0.4, 6)])
    things: Things = [box(np.array([0, 0.02, 0]), reach, rotation_from(rng.turn()), top)]
    tilt, distance = rng.uniform(0.12, 1.4), rng.uniform(0.5, 1.3)
    eye = np.array([0, -np.sin(tilt), -np.cos(tilt)]) * distance
    for _ in range(rng.integer(5, 16)):
        spot = rng.normals(2, 0.3) * distance
        new = thing(m, SMALL, np.array([spot[0], 0, spot[1]]), distance)
        if rng.chance(mix.camouflage):
            camouflage(new, top)
        things += new
    scene = Scene(
        backdrop, things, light(m, mix, True, 1.0), look(rng, eye, rng.normals(3, 0.1), rng.normal(0, 0.15))
    )
    scene.unit = rng.log(0.5, 2.5)
    return scene
