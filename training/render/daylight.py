# SPDX-License-Identifier: Apache-2.0
"""Draws weather and hour: sun, sky and clouds in linear RGB, an overcast noon or a night included."""

from __future__ import annotations

import math

import numpy as np

from training.data.procedural_random import Draw
from training.render.geometry import Array, Lighting

CLEAR, OVERCAST, LOW_SUN, NIGHT = "clear", "overcast", "low sun", "night"


def _rgb(*values: float) -> Array:
    return np.array(values, np.float32)


def draw_daylight(draw: Draw) -> Lighting:
    """Lighting of an open scene."""
    kind = draw.pick((CLEAR, OVERCAST, LOW_SUN, NIGHT), (0.5, 0.25, 0.17, 0.08))
    height = {CLEAR: (25, 75), OVERCAST: (30, 80), LOW_SUN: (4, 18), NIGHT: (20, 60)}[kind]
    elevation, around = math.radians(draw.uniform(*height)), draw.turn()
    direction = _rgb(
        math.cos(elevation) * math.sin(around), math.sin(elevation), math.cos(elevation) * math.cos(around)
    )
    blue = draw.uniform(0.6, 1.0)
    zenith, horizon = _rgb(0.25, 0.45, 0.45 + 0.55 * blue), _rgb(0.75, 0.85, 0.95)
    sun, size, clouds = _rgb(6.0, 5.6, 5.0) * draw.uniform(0.6, 1.2), 0.005, draw.uniform(0.0, 0.8)
    if kind == OVERCAST:
        zenith = horizon = _rgb(0.8, 0.85, 0.9) * draw.uniform(0.6, 1.1)
        sun, size = sun * draw.uniform(0.0, 0.15), 0.15
    elif kind == LOW_SUN:
        horizon = _rgb(1.0, draw.uniform(0.5, 0.8), draw.uniform(0.3, 0.6))
        zenith, sun = zenith * 0.5, sun * _rgb(1.0, 0.7, 0.4)
    elif kind == NIGHT:
        zenith, horizon, sun = zenith * 0.15, horizon * 0.15, sun * _rgb(0.10, 0.13, 0.2)
    sky = np.stack([zenith, horizon, horizon * 0.35])
    return Lighting(direction, sun, size, sky, horizon * 0.15, (), clouds, draw.uniform(0, 100))
