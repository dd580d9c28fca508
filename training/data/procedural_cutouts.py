# SPDX-License-Identifier: Apache-2.0
"""Cut-out sheets: polygons, blobs, sheets with holes, foliage, grids, wheels, leaves."""

import math

import numpy as np

from .procedural_materials import Materials
from .procedural_primitives import (
    RADII,
    Array,
    Mask,
    Primitive,
    bowl,
    box,
    curved_card,
    cylinder,
    rotation_from,
)
from .procedural_random import Draw

Things = list[Primitive]
ANGLES = np.linspace(0, 2 * np.pi, RADII, endpoint=False)


def outline(rng: Draw) -> Array:
    """Return a random outline (RADII,): polygon, star, blob or circle, at most 1."""
    kind = rng.integer(0, 4)
    if kind == 0:
        sector = 2 * np.pi / rng.integer(3, 8)
        radius = 1 / np.cos((ANGLES + rng.turn()) % sector - sector / 2)
    elif kind == 1:
        count = rng.integer(5, 13)
        radius = np.interp(
            ANGLES, np.sort(rng.uniforms(count, 0, 6.28)), rng.uniforms(count, 0.35, 1.0), period=2 * np.pi
        )
    elif kind in (2, 3):
        order = np.arange(1, 7)[:, None]
        waves = (
            rng.normals(6)[:, None] / order**1.2 * np.sin(order * ANGLES + rng.uniforms(6, 0, 6.28)[:, None])
        )
        radius = np.exp(0.35 * waves.sum(0))
    else:
        radius = np.ones(RADII)
    return radius / radius.max()


def foliage(m: Materials, low: float = 0.35, high: float = 0.65) -> Mask:
    """Return a clump of leaves: slender shapes of the bank, thresholded, within a blob."""
    rng = m.rng
    return Mask(
        outline=outline(rng),
        texture=m.texture("leaves"),
        texture_scale=rng.log(0.2, 1.3),
        texture_offset=(rng.uniform(), rng.uniform()),
        threshold=rng.uniform(low, high),
    )


def cutout(m: Materials) -> Mask:
    """Return a random cut-out."""
    rng = m.rng
    kind = rng.pick(
        ("shape", "holes", "foliage", "grid", "wheel", "ring"), (0.45, 0.13, 0.18, 0.1, 0.07, 0.07)
    )
    if kind == "shape":
        return Mask(outline=outline(rng))
    if kind == "foliage":
        return foliage(m)
    if kind == "holes":
        return Mask(
            outline=outline(rng),
            texture=m.texture("fractal", "marble", "cells", "dead_leaves"),
            texture_scale=rng.log(0.15, 1.2),
            texture_offset=(rng.uniform(), rng.uniform()),
            threshold=rng.uniform(0.2, 0.6),
        )
    if kind == "grid":
        bars = rng.uniform(1, 9), rng.uniform(1, 9) * rng.integer(0, 1)
        return Mask(outline=outline(rng) if rng.chance(0.3) else None, bars=(*bars, rng.uniform(0.03, 0.2)))
    if kind == "wheel":
        return Mask(
            outline=np.ones(RADII),
            ring=rng.uniform(0.7, 0.95),
            spokes=(rng.integer(3, 24), rng.log(0.004, 0.04)),
        )
    return Mask(outline=outline(rng), ring=rng.uniform(0.5, 0.9))


def card(m: Materials, center: Array, size: float, facing: Array, mask: Mask | None = None) -> Primitive:
    """Return a flat or bent cut-out of about `size` metres, turned a little out of the frame `facing`."""
    rng = m.rng
    half = size / 2 * math.exp(rng.normal(0, 0.35)), size / 2 * math.exp(rng.normal(0, 0.35))
    frame = rotation_from(rng.normal(0, 0.5), rng.normal(0, 0.4), rng.normal(0, 0.5)) @ facing
    material, mask = m.draw(size), mask or cutout(m)
    if rng.chance(0.45):
        return curved_card(
            center, half, frame, max(half) * rng.log(1.1, 7.0), material, mask, rng.chance(0.5)
        )
    return box(center, np.array([half[0], half[1], 0.0]), frame, material, mask=mask)


def greens(m: Materials, size: float) -> Array:
    """Return a leaf-like palette."""
    palette = m.draw(size, "leaves", plain=0.0).palette
    return np.clip(palette * np.array([0.6, 1.0, 0.35]), 0.01, 1) if m.rng.chance(0.8) else palette


def plant(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """A pot or trunk with cards of foliage about it."""
    rng = m.rng
    things = [
        cylinder(base, base - [0, size * 0.6, 0], size * rng.log(0.01, 0.05), m.draw(size, "fractal", "wood"))
    ]
    if rng.chance(0.6):
        things.append(bowl(base, size * 0.25, size * 0.14, m.draw(size), False))
    palette = greens(m, size)
    for _ in range(rng.integer(2, 5)):
        center = base - np.array([rng.normal(0, 0.13), rng.uniform(0.45, 0.95), rng.normal(0, 0.13)]) * size
        leaf = card(m, center, size * rng.uniform(0.4, 0.9), rotation_from(rng.normal(0, 0.6)), foliage(m))
        leaf.material = m.draw(size * 0.4, "leaves", "fractal", plain=0.1)
        leaf.material.palette = palette * rng.uniform(0.7, 1.3)
        things.append(leaf)
    return things


def rosette(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """Long bent leaves that spring from one point, as of an agave or a palm."""
    rng = m.rng
    palette, count = greens(m, size), rng.integer(5, 14)
    slender = rng.uniform(0.08, 0.22)
    shape = np.minimum(1.0, 0.9 * slender / np.maximum(np.abs(np.sin(ANGLES)), 1e-3)) / max(slender, 0.1)
    radius = np.minimum(np.hypot(np.cos(ANGLES), np.sin(ANGLES)), shape)
    things: Things = []
    for k in range(count):
        azimuth, lift = yaw + 2 * np.pi * k / count + rng.normal(0, 0.2), rng.uniform(0.1, 1.3)
        along = np.array(
            [math.cos(azimuth) * math.cos(lift), -math.sin(lift), math.sin(azimuth) * math.cos(lift)]
        )
        flat = np.cross(along, [-math.sin(azimuth), 0, math.cos(azimuth)])
        frame = np.stack([along, np.cross(flat, along), flat])
        half = size * rng.uniform(0.3, 0.6)
        material = m.draw(size * 0.3, "leaves", "fractal", plain=0.5)
        material.palette = palette * rng.uniform(0.6, 1.4)
        things.append(
            curved_card(
                base + along * half,
                (half, half * slender),
                frame * rng.sign(),
                half * rng.uniform(1.5, 5),
                material,
                Mask(outline=radius / radius.max()),
            )
        )
    return things


def tree(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """A trunk, a few branches and clumps of leaves."""
    rng = m.rng
    bark = m.draw(size * 0.3, "wood", "fractal", "cells")
    top = base - np.array([rng.normal(0, 0.06), rng.uniform(0.4, 0.7), rng.normal(0, 0.06)]) * size
    things = [cylinder(base, top, size * rng.uniform(0.015, 0.05), bark)]
    palette = greens(m, size)
    for _ in range(rng.integer(2, 5)):
        tip = top + np.array([rng.normal(0, 0.22), -abs(rng.normal(0.15, 0.15)), rng.normal(0, 0.22)]) * size
        things.append(
            cylinder(top + (base - top) * rng.uniform(0, 0.4), tip, size * rng.uniform(0.006, 0.02), bark)
        )
        crown = card(
            m, tip, size * rng.uniform(0.35, 0.7), rotation_from(rng.normal(0, 0.5)), foliage(m, 0.3, 0.6)
        )
        crown.material = m.draw(size * 0.2, "leaves", "fractal", plain=0.0)
        crown.material.palette = palette * rng.uniform(0.6, 1.4)
        things.append(crown)
    return things


def fence(m: Materials, base: Array, size: float, yaw: float) -> Things:
    """A long grid or row of bars standing on the ground."""
    rng = m.rng
    mask = Mask(bars=(rng.uniform(3, 14), rng.uniform(1, 6) * rng.integer(0, 1), rng.uniform(0.04, 0.2)))
    half = np.array([size * rng.uniform(0.8, 2.5), size / 2, 0.0])
    return [box(base - [0, size / 2, 0], half, rotation_from(yaw), m.draw(size, plain=0.6), mask=mask)]


def wheel(m: Materials, center: Array, size: float, yaw: float) -> Things:
    """A spoked wheel upright about `center`, with a hub."""
    rng = m.rng
    mask = Mask(
        outline=np.ones(RADII),
        ring=rng.uniform(0.75, 0.95),
        spokes=(rng.integer(4, 24), rng.log(0.004, 0.03)),
    )
    frame = rotation_from(yaw)
    rim = box(center, np.array([size / 2, size / 2, 0.0]), frame, m.draw(size, plain=0.8), mask=mask)
    axle = frame[2] * size * 0.08
    return [
        rim,
        cylinder(center - axle, center + axle, size * rng.uniform(0.04, 0.12), m.draw(size, plain=0.8)),
    ]
