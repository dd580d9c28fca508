# SPDX-License-Identifier: Apache-2.0
"""Random scenes of every kind: rooms, table tops, outdoors, stacks of cut-outs, bare surfaces."""

import numpy as np

from .procedural_cutouts import Things, card
from .procedural_materials import Materials
from .procedural_objects import SMALL, thing
from .procedural_outdoor import outdoor
from .procedural_primitives import Camera, Primitive, Scene, rotation_from
from .procedural_rooms import room, tabletop
from .procedural_stage import EVERYWHERE, Mix, camouflage, hollow, light


def _sheet_or_shell(m: Materials, away: float) -> Primitive:
    """A slanted plane, a corner or a curved shell behind everything, about `away` metres off."""
    rng = m.rng
    material, kind = m.draw(away / 2), rng.uniform()
    tilt = rotation_from(rng.normal(0, 0.5), rng.normal(0, 0.5), rng.turn())
    if kind < 0.4:
        return hollow(np.zeros(3), np.array([np.inf, np.inf, away]), tilt, material)
    if kind < 0.6:
        return hollow(np.zeros(3), np.array([away * rng.uniform(0.4, 1.5), np.inf, away]), tilt, material)
    radius = away * rng.uniform(0.8, 3)
    q = np.array([1.0, rng.pick((0.0, 1.0)), 1.0]) / radius**2
    center = np.array([rng.normal(0, 0.3), rng.normal(0, 0.3), away - radius])
    return Primitive(
        center,
        tilt,
        EVERYWHERE,
        EVERYWHERE,
        (q[0], q[1], q[2], 0.0, -1.0),
        material=material,
        inside=True,
        shadow=False,
    )


def layered(m: Materials, mix: Mix) -> Scene:
    """Cut-outs and solids at random depths before a slanted or curved background."""
    rng = m.rng
    away = rng.uniform(2.0, 6.0)
    backdrop = _sheet_or_shell(m, away)
    things: Things = []
    near, spread = rng.uniform(0.25, 0.8), rng.uniform(0.4, 0.75)
    for _ in range(rng.integer(4, 20)):
        z = rng.log(near, 0.97) * away
        center = np.array([rng.uniform(-spread, spread), rng.uniform(-spread, spread), 1.0]) * z
        size = z * rng.log(0.1, 0.8)
        new = [card(m, center, size, np.eye(3))] if rng.chance(0.75) else thing(m, SMALL, center, 3 * size)
        if rng.chance(mix.camouflage):
            camouflage(new, backdrop.material or m.draw(size))
        things += new
    camera = Camera(np.zeros(3), rotation_from(roll=rng.normal(0, 0.3)), rng.log(0.6, 1.6))
    return Scene(backdrop, things, light(m, mix, True, away), camera, unit=rng.log(0.15, 6.0))


def surface(m: Materials, mix: Mix) -> Scene:
    """One slanted, cornered or curved surface, near-constant depth at times, with little before it."""
    scene, rng = layered(m, mix), m.rng
    scene.primitives = scene.primitives[: rng.integer(0, 2)]
    if rng.chance(0.4):
        scene.backdrop = hollow(
            np.zeros(3),
            np.array([np.inf, np.inf, rng.uniform(0.5, 4)]),
            rotation_from(rng.normal(0, 0.02), rng.normal(0, 0.02)),
            m.draw(1.0),
        )
    return scene


def draw_scene(m: Materials, mix: Mix, shares: dict[str, float]) -> Scene:
    """Return one random scene; `shares` names how often each kind comes."""
    makers = {"room": room, "tabletop": tabletop, "outdoor": outdoor, "layered": layered, "surface": surface}
    kind = m.rng.pick(list(shares), list(shares.values()))
    scene = makers[kind](m, mix)
    if m.rng.chance(0.15):
        scene.unit = max(0.1, scene.unit * np.exp(m.rng.normal(0, 0.8)))
    return scene
