# SPDX-License-Identifier: Apache-2.0
"""Streets and fields: ground, sky, skylines, houses, trees, vehicles."""

import numpy as np

from .procedural_cutouts import Things
from .procedural_materials import Materials, color
from .procedural_objects import OUTDOOR, thing
from .procedural_primitives import Mask, Primitive, Scene, box, prism, rotation_from
from .procedural_stage import EVERYWHERE, Mix, camouflage, light, look

DEEP = 2e4  # metres: half the thickness of the air above the ground, which is seen from inside


def ground(m: Materials, tilt: float) -> Primitive:
    """A plane through the origin, level but for `tilt` (radians, deviation)."""
    frame = rotation_from(0, m.rng.normal(0, tilt), m.rng.normal(0, tilt))
    material = m.draw(5.0, "fractal", "cells", "bricks", "leaves", "marble", "fractal", plain=0.1, wild=0.03)
    if m.rng.chance(0.35):
        material.palette = np.clip(material.palette * np.array([0.7, 1.0, 0.4]), 0.01, 1)
    return Primitive(
        -DEEP * frame[1],
        frame,
        np.array([np.inf, DEEP, np.inf]),
        EVERYWHERE,
        material=material,
        inside=True,
        shadow=False,
    )


def _skyline(m: Materials) -> Primitive:
    """A far sheet with a ragged upper edge: hills, a tree line, roofs."""
    rng = m.rng
    away, tall = rng.log(20, 250), rng.log(0.04, 0.35)
    half = np.array([away * 2, away * tall, 0.0])
    mask = Mask(
        texture=m.texture("fractal", "fractal", "bricks"),
        texture_scale=rng.log(0.3, 8),
        skyline=rng.uniform(0.3, 1.6),
        texture_offset=(rng.uniform(), rng.uniform()),
    )
    return box(
        np.array([rng.normal(0, 0.3) * away, -half[1] * 0.9, away]),
        half,
        rotation_from(rng.normal(0, 0.2), rng.uniform(-0.5, 0)),
        m.draw(away / 4, "fractal", "leaves", "bricks", "cells"),
        mask=mask,
    )


def _houses(m: Materials) -> Things:
    """Boxes with roofs along the sides of a street."""
    rng, out = m.rng, []
    for _ in range(rng.integer(0, 5)):
        away = rng.log(6, 80)
        half = np.array([rng.uniform(2.5, 9), rng.uniform(1.5, 6), rng.uniform(2.5, 9)]) * rng.log(0.4, 1.2)
        side = rng.sign() * (half[0] + rng.uniform(1.5, 4) + 0.3 * away * rng.uniform())
        yaw = rng.normal(0, 0.35)
        center = np.array([side, -half[1], away])
        out.append(
            box(
                center,
                half,
                rotation_from(yaw),
                m.draw(rng.uniform(2, 8), "bricks", "pattern", "wood", "fractal", "cells", plain=0.1),
            )
        )
        if rng.chance(0.5):
            roof = np.array([half[0] * 0.75, 1.0, half[2] * 1.05])
            out.append(
                prism(
                    center - [0, half[1], 0],
                    roof,
                    yaw,
                    m.draw(3.0, "bricks", "fractal"),
                    rng.uniform(0.8, 1.6),
                )
            )
    return out


def outdoor(m: Materials, mix: Mix) -> Scene:
    """Ground under a sky with things on it."""
    rng = m.rng
    base = ground(m, 0.04)
    height = rng.log(0.5, 6.0)
    target = np.array([rng.normal(0, 3), -height + rng.normal(0.3, 2.3), 15.0])
    camera = look(rng, np.array([0, -height, 0]), target, rng.normal(0, 0.05))
    things: Things = [_skyline(m) for _ in range(rng.integer(0, 3))] + _houses(m)
    for _ in range(rng.integer(4, 11)):
        away = rng.log(2.5, 50)
        spot = np.array([rng.normal(0, 0.4) * away, 0, away])
        spot[1] = -(spot[0] * base.rotation[1, 0] + away * base.rotation[1, 2]) / base.rotation[1, 1]
        new = thing(m, OUTDOOR, spot)
        if rng.chance(mix.camouflage):
            camouflage(new, base.material or m.draw(1.0))
        things += new
    scene = Scene(base, things, light(m, mix, False, 6.0), camera, unit=np.exp(rng.normal(0, 0.4)))
    scene.far = rng.log(80, 400)
    scene.fog = 1 / rng.log(20, 400) if rng.chance(0.6) else 0.0
    blue = np.array([0.35, 0.55, 1.0]) if rng.chance(0.7) else color(rng)
    scene.sky = np.stack([0.6 + 0.4 * blue, blue * rng.uniform(0.4, 1)]) * rng.uniform(0.7, 2.0)
    scene.cloud_texture = m.texture("fractal", "marble")
    scene.clouds = rng.uniform(0, 1.0) if rng.chance(0.6) else 0.0
    return scene
