# SPDX-License-Identifier: Apache-2.0
"""Random materials: palettes over textures of the bank."""

import colorsys
import math

import numpy as np

from .procedural_primitives import LUT_SIZE, Array, Material
from .procedural_random import Draw

# what stands out from a surface; finer textures than these have no depth that a sensor would see
RELIEFS = ("smooth", "smooth", "cells", "bricks", "dead_leaves")
RAMP = np.linspace(0, 1, LUT_SIZE)[:, None]
UPRIGHT = math.pi / 2


def color(draw: Draw) -> Array:
    """Return a linear albedo (3,): mostly dull and warm as in rooms and streets, now and then vivid."""
    hue = draw.normal(0.09, 0.05) % 1.0 if draw.chance(0.5) else draw.uniform()
    saturation = draw.uniform(0.4, 1.0) if draw.chance(0.22) else draw.beta(1.2, 4.0)
    value = min(max(draw.beta(1.7, 1.4) * 0.95 + 0.04, 0.04), 0.97)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value)) ** 1.8


class Materials:
    """Draws materials; `groups` names the bank's textures by kind, `relief` is the share that has relief."""

    def __init__(self, draw: Draw, groups: dict[str, list[int]], relief: float):
        self.rng, self.groups, self.relief_share = draw, groups, relief
        self.kinds = [kind for kind in groups if kind != "smooth"]
        self.in_relief = {i for kind in RELIEFS for i in groups[kind]}

    def texture(self, *kinds: str) -> int:
        """Return a texture of one of the kinds (any kind if none is named)."""
        return self.rng.pick(self.groups[self.rng.pick(kinds or self.kinds)])

    def color(self) -> Array:
        """Return a linear albedo (3,)."""
        return color(self.rng)

    def palette(self, contrast: float, wild: bool = False) -> Array:
        """Return a palette (LUT_SIZE, 3): a ramp about one colour, or (wild) unrelated colours."""
        rng = self.rng
        if wild:
            colors = np.stack([self.color() for _ in range(rng.integer(2, 7))])
            steps = np.minimum((RAMP[:, 0] * len(colors)).astype(int), len(colors) - 1)
            return colors[steps]
        base = self.color()
        dark = base * (1 - contrast)
        light = self.color() if rng.chance(0.2) else base * (1 + contrast * (1 + rng.normals(3, 0.25)))
        mix = RAMP ** rng.log(0.5, 2.0)
        return np.clip(dark * (1 - mix) + light * mix, 0.01, 0.97)

    def draw(self, size: float, *kinds: str, plain: float = 0.25, wild: float = 0.12) -> Material:
        """Return a material for a surface of about `size` metres.

        `plain` is the share with next to no texture, `wild` the share with a palette of unrelated colours.
        """
        rng = self.rng
        contrast = rng.beta(1.4, 2.2)
        if rng.chance(plain):
            contrast, kinds, wild = rng.uniform(0.0, 0.15), ("fractal",), 0.0
        texture = self.texture(*kinds)
        has_relief = rng.chance(self.relief_share)
        return Material(
            palette=self.palette(contrast, rng.chance(wild)),
            texture=texture,
            tile=size * rng.log(0.2, 2.0),
            angle=rng.pick((0.0, UPRIGHT, rng.turn()), (0.45, 0.35, 0.2)),
            offset=(rng.uniform(), rng.uniform()),
            detail=self.texture("fractal", "fractal", "marble", "leaves"),
            detail_ratio=rng.log(0.3, 9.0),
            detail_weight=rng.uniform(0, 0.6) * (0.3 + contrast) if rng.chance(0.85) else 0.0,
            gloss=rng.uniform(0, 0.8) if rng.chance(0.3) else 0.0,
            relief=texture if texture in self.in_relief else self.texture(*RELIEFS),
            relief_ratio=1.0 if rng.chance(0.6) else rng.log(0.3, 3.0),
            relief_depth=rng.log(0.001, 0.02) * has_relief,
        )

    def light(self, size: float) -> Material:
        """Return a bright, glowing surface: a window, a lamp, a screen."""
        material = self.draw(size, "bricks", "pattern", "fractal", "dead_leaves", plain=0.5)
        material.glow = self.rng.log(0.5, 6.0)
        return material
