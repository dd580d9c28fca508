# SPDX-License-Identifier: Apache-2.0
"""What all kinds of scenes share: shares of what is drawn, backdrops, camera poses, light, camouflage."""

from dataclasses import dataclass

import numpy as np

from .procedural_cutouts import Things
from .procedural_materials import Materials
from .procedural_primitives import Array, Camera, Light, Material, Primitive, rotation_from
from .procedural_random import Draw

EVERYWHERE = np.full(3, np.inf)


@dataclass(frozen=True)
class Mix:
    """Shares of what is drawn: of scenes for shadows and gobo, of things for camouflage."""

    camouflage: float
    shadows: float
    gobo: float


def hollow(center: Array, half: Array, rotation: Array, material: Material) -> Primitive:
    """A box seen from within; infinite half widths leave its sides away."""
    return Primitive(
        np.asarray(center, float),
        rotation,
        np.asarray(half, float),
        EVERYWHERE,
        material=material,
        inside=True,
        shadow=False,
    )


def look(rng: Draw, position: Array, target: Array, roll: float) -> Camera:
    """Return a camera at `position` that looks at `target`, its field of view 35 to 85 degrees."""
    d = target - position
    yaw, pitch = np.arctan2(d[0], d[2]), np.arctan2(d[1], np.hypot(d[0], d[2]))
    shift = (rng.normal(0, 0.02), rng.normal(0, 0.02))
    return Camera(np.asarray(position, float), rotation_from(yaw, pitch, roll), rng.log(0.55, 1.6), shift)


def light(m: Materials, mix: Mix, indoors: bool, size: float) -> Light:
    """Return a sun or lamp with ambient light for a scene of about `size` metres."""
    rng = m.rng
    direction = np.array([rng.normal(0, 1), -abs(rng.normal(0.8, 0.6)) - 0.2, rng.normal(-0.4, 0.7)])
    direction /= np.linalg.norm(direction)
    warm = np.clip(1 + rng.normal(0, 0.12) * np.array([1, 0.15, -1]), 0.2, 2)
    cool = np.clip((2 - warm) * (1 + rng.normals(3, 0.04)), 0.2, 2)
    flat = rng.chance(0.15)  # no sun to speak of: an overcast sky, a lit hall
    point = indoors and rng.chance(0.5)
    return Light(
        direction,
        warm * (0.05 if flat else rng.log(0.3, 4.0)),
        cool * rng.uniform(0.4, 0.8),
        cool * warm * rng.uniform(0.2, 0.7),
        point,
        position=direction * size * rng.uniform(0.6, 1.5) + rng.normals(3, 0.2) * size,
        shadows=rng.chance(mix.shadows),
        softness=rng.uniform(0, 0.4),
        blur=rng.log(0.002, 0.12),
        occlusion=rng.uniform(0.2, 0.9),
        gobo=m.texture("dead_leaves", "leaves", "fractal", "pattern") if rng.chance(mix.gobo) else -1,
        gobo_tile=size * rng.log(0.25, 2.5),
        gobo_threshold=rng.uniform(0.2, 0.6),
        gobo_soft=rng.log(0.02, 0.6),
    )


def camouflage(things: Things, behind: Material) -> None:
    """Give things the look of what is behind them: a depth edge without a colour edge."""
    for p in things:
        p.material = behind
