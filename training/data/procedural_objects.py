# SPDX-License-Identifier: Apache-2.0
"""Wires, machines, vehicles, figures, and the lists of things that stand indoors, on tables and outdoors."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .procedural_cutouts import Things, fence, plant, rosette, tree, wheel
from .procedural_furniture import block, chair, clutter, lamp, place, shelf, sofa, table
from .procedural_materials import Materials
from .procedural_primitives import Array, box, cylinder, ellipsoid, prism, rotation_from


def wires(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """Poles or wires in any direction."""
    rng = m.rng
    metal, radius = m.draw(size, plain=0.8), size * rng.log(0.002, 0.02)
    step, along = rng.normals(3, 0.25) * size, rng.normals(3) * np.array([1, 0.5, 0.6]) * size
    if rng.chance(0.4):
        along = np.array([0, size * rng.uniform(0.5, 2.0), 0])
    start = base - [0, size * rng.uniform(), 0] - along / 2
    return [
        cylinder(start + k * step, start + k * step + along, radius, metal) for k in range(rng.integer(1, 5))
    ]


def machine(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """Wheels, pipes and bodies in one heap, as of a bicycle, a motor or a rack of tools."""
    rng = m.rng
    middle = base - [0, size * 0.4, 0]
    side = np.array([1.0, 0, 0]) @ rotation_from(yaw)
    things: Things = []
    for s in (-1, 1)[: rng.integer(1, 2)]:
        things += wheel(m, base + side * s * size * 0.5 - [0, size * 0.25, 0], size * 0.5, yaw)
    joints = [
        middle + (side * rng.normal(0, 0.4) + rng.normals(3, 0.13)) * size for _ in range(rng.integer(4, 7))
    ]
    pipe = m.draw(size, plain=0.7)
    for a, b in pairwise(joints):
        things.append(
            cylinder(a, b, size * rng.log(0.006, 0.04), pipe if rng.chance(0.6) else m.draw(size, plain=0.5))
        )
    for _ in range(rng.integer(1, 4)):
        center = rng.pick(joints)
        frame = rotation_from(yaw + rng.normal(0, 0.3), rng.normal(0, 0.4), rng.normal(0, 0.4))
        half = size * np.array([rng.log(0.05, 0.25), rng.log(0.04, 0.15), rng.log(0.03, 0.1)])
        make = ellipsoid if rng.chance(0.5) else box
        things.append(make(center, half, frame, m.draw(size * 0.4)))
    return things


def figure(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """A body of ellipsoids and limbs of cylinders."""
    rng, s = m.rng, size / 1.75
    skin, cloth, other = (m.draw(size * 0.3, "fractal", "pattern", plain=0.6) for _ in range(3))
    hip, neck = base - [0, 0.85 * s, 0], base - [0, 1.45 * s, 0]
    side = np.array([1.0, 0, 0]) @ rotation_from(yaw)
    things = [
        ellipsoid(base - [0, 1.15 * s, 0], np.array([0.22, 0.38, 0.15]) * s, rotation_from(yaw), cloth),
        ellipsoid(base - [0, 1.62 * s, 0], np.array([0.1, 0.14, 0.11]) * s, np.eye(3), skin),
    ]
    for sign in (-1, 1):
        foot = base + side * sign * 0.12 * s + rng.normals(3, 0.1) * [s, 0, s]
        things.append(cylinder(foot, hip + side * sign * 0.09 * s, 0.075 * s, other))
        hand = (
            neck
            + side * sign * rng.uniform(0.2, 0.6) * s
            + np.array([0, rng.uniform(-0.2, 0.6), rng.normal(0, 0.2)]) * s
        )
        things.append(cylinder(neck + side * sign * 0.18 * s, hand, 0.05 * s, cloth))
    return things


def vehicle(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """A body, a cabin and four wheels."""
    rng, s = m.rng, size / 4
    frame, paint = rotation_from(yaw), m.draw(size, plain=0.8)
    things = [
        box(place(base, 0, 0.7 * s, 0, yaw), np.array([2.0, 0.38, 0.85]) * s, frame, paint),
        prism(
            place(base, rng.normal(0, 0.3) * s, 1.2 * s, 0, yaw),
            np.array([0.8, 1, 0.75]) * s,
            yaw,
            m.draw(size, plain=0.9),
            0.9,
        ),
    ]
    for sx in (-1.3, 1.3):
        for sz in (-0.9, 0.7):
            start = place(base, sx * s, 0.33 * s, sz * s, yaw)
            things.append(cylinder(start, start + frame[2] * 0.2 * s, 0.33 * s, m.draw(size, plain=0.9)))
    return things


def floating(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """A solid in any pose, not standing on anything."""
    rng = m.rng
    frame = rotation_from(yaw, rng.uniform(-1.5, 1.5), rng.uniform(-1.5, 1.5))
    half = size / 2 * np.array([math.exp(rng.normal(-0.4, 0.5)) for _ in range(3)])
    center = base - [0, size * rng.uniform(0.2, 1.5), 0]
    if rng.chance(0.5):
        return [box(center, half, frame, m.draw(size))]
    return [ellipsoid(center, half, frame, m.draw(size), 1.0 if rng.chance(0.7) else rng.uniform(0.3, 0.9))]


# maker, weight, smallest and largest size in metres
Kinds = tuple[tuple[Callable[[Materials, Array, float, float], Things], float, float, float], ...]

INDOOR: Kinds = (
    (block, 2.0, 0.25, 1.2),
    (clutter, 2.0, 0.15, 0.6),
    (table, 2.2, 0.7, 1.7),
    (chair, 2.0, 0.8, 1.1),
    (shelf, 1.5, 1.0, 2.2),
    (sofa, 1.5, 0.9, 1.9),
    (lamp, 1.2, 0.5, 1.9),
    (wires, 0.6, 0.4, 2.0),
    (plant, 1.2, 0.4, 1.6),
    (rosette, 0.5, 0.3, 1.0),
    (figure, 0.6, 1.5, 1.9),
    (machine, 0.8, 0.5, 1.8),
    (floating, 0.4, 0.15, 0.6),
)
SMALL: Kinds = (
    (clutter, 6.0, 0.1, 0.4),
    (block, 2.0, 0.06, 0.4),
    (lamp, 0.5, 0.25, 0.5),
    (plant, 0.6, 0.2, 0.5),
    (rosette, 0.8, 0.2, 0.5),
    (machine, 0.8, 0.2, 0.5),
    (wires, 0.5, 0.2, 0.8),
    (figure, 0.2, 0.15, 0.4),
    (chair, 0.2, 0.2, 0.4),
)
OUTDOOR: Kinds = (
    (block, 2.0, 0.5, 4.0),
    (lamp, 1.5, 2.0, 7.0),
    (wires, 0.8, 2.0, 8.0),
    (plant, 1.0, 0.5, 2.0),
    (tree, 4.0, 2.5, 12.0),
    (rosette, 0.6, 0.5, 3.0),
    (figure, 1.5, 1.5, 1.9),
    (fence, 1.5, 0.8, 2.0),
    (vehicle, 2.0, 3.5, 6.0),
    (machine, 0.7, 1.0, 2.2),
)


def thing(m: Materials, kinds: Kinds, base: Array, scale: float = 1.0, yaw: float | None = None) -> Things:
    """One random thing of `kinds` (INDOOR, SMALL or OUTDOOR) on `base`, its usual size times `scale`."""
    make, _, low, high = m.rng.pick(kinds, [k[1] for k in kinds])
    return make(
        m, np.asarray(base, float), scale * m.rng.log(low, high), m.rng.turn() if yaw is None else yaw
    )
