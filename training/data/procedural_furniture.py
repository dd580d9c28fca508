# SPDX-License-Identifier: Apache-2.0
"""Small things and furniture made of primitives: boxes, stacks, vessels, tables, chairs, shelves, lamps."""

import numpy as np

from .procedural_cutouts import Things, rosette
from .procedural_materials import Materials
from .procedural_primitives import Array, bowl, box, cylinder, ellipsoid, prism, rotation_from


def place(base: Array, x: float, y: float, z: float, yaw: float) -> Array:
    """Return the point (x right, y UP, z forward) of a thing that stands on `base`, turned by `yaw`."""
    return base + np.array([x, -y, z]) @ rotation_from(yaw)


def block(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """One box, prism, cylinder, ellipsoid or bowl standing on its base."""
    rng = m.rng
    kind = rng.integer(0, 8)
    w, h, d = size * np.exp(np.array([rng.normal(-0.4, 0.45) for _ in range(3)]))
    material = m.draw(size)
    if kind <= 3:
        return [box(base - [0, h / 2, 0], np.array([w / 2, h / 2, d / 2]), rotation_from(yaw), material)]
    if kind <= 5:
        return [
            cylinder(base, base - [0, h, 0], w / 2, material, 1.0 if rng.chance(0.7) else rng.uniform(0.5, 1))
        ]
    if kind == 6:
        return [
            ellipsoid(base - [0, h / 2, 0], np.array([w / 2, h / 2, d / 2]), rotation_from(yaw), material)
        ]
    if kind == 7:
        return [bowl(base, h, w / 2, material, rng.chance(0.4))]
    return [
        prism(base - [0, h / 2, 0], np.array([w / 2, h / 2, d / 2]), yaw, material, rng.uniform(0.4, 1.6))
    ]


def stack(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """Boxes on each other: books, crates, steps."""
    rng, things = m.rng, []
    w, d = size * rng.uniform(0.25, 0.5), size * rng.uniform(0.2, 0.4)
    for _ in range(rng.integer(2, 6)):
        h = size * rng.uniform(0.03, 0.15)
        w, d = w * rng.uniform(0.8, 1.03), d * rng.uniform(0.8, 1.03)
        things.append(
            box(base - [0, h, 0], np.array([w, h, d]), rotation_from(yaw + rng.normal(0, 0.2)), m.draw(size))
        )
        base = base - [rng.normal(0, 0.02) * size, 2 * h, 0]
    return things


def bottle(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """A body of revolution: bottle, vase, cup, lamp, pot."""
    rng = m.rng
    r, h = size * rng.uniform(0.12, 0.3), size * rng.uniform(0.4, 0.8)
    material = m.draw(size * 0.7, "fractal", "writing", "pattern", "dead_leaves")
    if rng.chance(0.5):
        neck = base - [0, h, 0]
        return [
            cylinder(base, neck, r, material),
            ellipsoid(neck, np.array([r, r * rng.uniform(0.4, 1.5), r]), np.eye(3), material),
            cylinder(neck, neck - [0, size * 0.3, 0], r * rng.uniform(0.25, 0.5), m.draw(size, plain=0.8)),
        ]
    return [
        bowl(base, h, r, material, False),
        cylinder(base, base - [0, h * rng.uniform(0.02, 0.4), 0], r * 0.8, material),
    ]


def clutter(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """One small thing, as lies on tables and floors."""
    return m.rng.pick((block, stack, bottle, block, rosette), (4, 2, 3, 3, 0.5))(m, base, size, yaw)


def table(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """A top on four legs with small things on it."""
    rng = m.rng
    w, d, h, t = (
        size * rng.uniform(0.7, 1.3),
        size * rng.uniform(0.45, 0.8),
        size * rng.uniform(0.4, 0.75),
        size * 0.025,
    )
    leg = m.draw(size, plain=0.8)
    things = [
        box(
            place(base, 0, h, 0, yaw),
            np.array([w / 2, t, d / 2]),
            rotation_from(yaw),
            m.draw(size, "wood", "fractal", "marble", "pattern"),
        )
    ]
    r = size * rng.uniform(0.012, 0.04)
    for sx in (-1, 1):
        for sz in (-1, 1):
            foot = place(base, sx * (w / 2 - 1.2 * r), 0, sz * (d / 2 - 1.2 * r), yaw)
            things.append(
                cylinder(foot, foot - [0, h, 0], r, leg)
                if r < 0.02 * size
                else box(foot - [0, h / 2, 0], np.array([r, h / 2, r]), rotation_from(yaw), leg)
            )
    for _ in range(rng.integer(0, 5)):
        spot = place(base, rng.uniform(-0.4, 0.4) * w, h + t, rng.uniform(-0.4, 0.4) * d, yaw)
        things += clutter(m, spot, size * rng.uniform(0.1, 0.35), rng.turn())
    return things


def chair(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """A seat, four legs, and a back of slats, bars or one board."""
    rng = m.rng
    s, h, r = size * 0.25, size * 0.45, size * rng.uniform(0.012, 0.03)
    wood = m.draw(size, "wood", "fractal")
    things = [box(place(base, 0, h, 0, yaw), np.array([s, size * 0.03, s]), rotation_from(yaw), m.draw(size))]
    for sx in (-1, 1):
        for sz in (-1, 1):
            foot = place(base, sx * (s - 1.2 * r), 0, sz * (s - 1.2 * r), yaw)
            things.append(cylinder(foot, foot - [0, size * (1.0 if sz > 0 else 0.45), 0], r, wood))
    slats = [(0.8, 0.17)] if rng.chance(0.5) else [(0.95 - 0.13 * k, 0.03) for k in range(rng.integer(2, 4))]
    for height, half in slats:
        things.append(
            box(
                place(base, 0, size * height, s - r, yaw),
                np.array([s, size * half, r * 0.7]),
                rotation_from(yaw),
                wood,
            )
        )
    return things


def sofa(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """A seat or bed with a back, arms and cushions."""
    rng = m.rng
    w, d, h = size * rng.uniform(0.4, 0.9), size * rng.uniform(0.35, 0.5), size * 0.2
    cloth, frame = m.draw(size * 0.5, "fractal", "pattern", "fractal"), rotation_from(yaw)
    things = [
        box(place(base, 0, h, 0, yaw), np.array([w, h, d]), frame, cloth),
        box(place(base, 0, 2 * h, d, yaw), np.array([w, 2 * h, d * 0.25]), frame, cloth),
    ]
    if rng.chance(0.6):
        things += [
            box(place(base, s * w, 1.5 * h, 0, yaw), np.array([w * 0.12, 1.5 * h, d]), frame, cloth)
            for s in (-1, 1)
        ]
    for _ in range(rng.integer(0, 3)):
        radii = np.array([size * 0.18, size * 0.13, size * 0.07])
        center = place(base, rng.uniform(-0.7, 0.7) * w, 2 * h + size * 0.1, rng.uniform(0, 0.6) * d, yaw)
        things.append(
            ellipsoid(
                center, radii, rotation_from(yaw + rng.normal(0, 0.5), rng.normal(0, 0.5)), m.draw(size * 0.3)
            )
        )
    return things


def shelf(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """Boards between two sides, a back, and rows of things."""
    rng = m.rng
    w, h, d, t = size * rng.uniform(0.25, 0.5), size * rng.uniform(0.6, 1.3), size * 0.12, size * 0.012
    frame, wood = rotation_from(yaw), m.draw(size, "wood", "fractal", plain=0.5)
    things = [box(place(base, sx * w, h / 2, 0, yaw), np.array([t, h / 2, d]), frame, wood) for sx in (-1, 1)]
    things.append(box(place(base, 0, h / 2, d, yaw), np.array([w, h / 2, t]), frame, m.draw(size)))
    count = rng.integer(2, 4)
    gap = (h - 2 * t) / count
    for k in range(count + 1):
        things.append(box(place(base, 0, t + gap * k, 0, yaw), np.array([w, t, d]), frame, wood))
        if k == count or rng.chance(0.2):
            continue
        if rng.chance(0.6):
            books = m.draw(size * rng.uniform(0.3, 0.6), "bricks", "pattern", "dead_leaves", wild=0.8)
            tall, share = gap * rng.uniform(0.5, 0.85), rng.uniform(0.3, 0.95)
            things.append(
                box(
                    place(base, (share - 1) * w * 0.95, gap * k + 2 * t + tall / 2, d * 0.2, yaw),
                    np.array([w * 0.95 * share, tall / 2, d * 0.7]),
                    frame,
                    books,
                )
            )
        else:
            for x in (-0.5, 0.1, 0.6):
                things += clutter(
                    m, place(base, x * w, gap * k + 2 * t, 0, yaw), gap * rng.uniform(0.4, 1.0), yaw
                )
    return things


def lamp(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """A thin pole on a foot, with a shade, a globe or a sign on top."""
    rng = m.rng
    r = size * rng.log(0.005, 0.02)
    top, metal = base - [0, size, 0], m.draw(size, plain=0.9)
    things = [cylinder(base, top, r, metal), cylinder(base, base - [0, size * 0.02, 0], size * 0.12, metal)]
    kind = rng.integer(0, 2)
    if kind == 0:
        things.append(
            bowl(
                top + [0, size * 0.05, 0],
                size * 0.2,
                size * 0.16,
                m.draw(size) if rng.chance(0.6) else m.light(size),
            )
        )
    elif kind == 1:
        things.append(ellipsoid(top, np.full(3, size * 0.1), np.eye(3), m.light(size)))
    else:
        things.append(
            box(top, size * np.array([0.16, 0.12, 0.005]), rotation_from(yaw), m.draw(size * 0.3, wild=0.8))
        )
    return things
