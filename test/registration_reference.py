# SPDX-License-Identifier: Apache-2.0
"""Depth registration as a loop over the pixels in float64, and random scenes, for test_registration.py."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from depth_sr_ros.camera import PinholeCamera, transform_matrix
from depth_sr_ros.models.registration import FOOTPRINT

Array = npt.NDArray[np.float64]

INVALID = (np.nan, 0.0, -1.0, np.inf, -np.inf)


def image_point(
    u: float, v: float, z: float, depth_camera: PinholeCamera, out: PinholeCamera, rgb_from_depth: Array
) -> tuple[float, float, float]:
    """Column, row and depth at which a sample appears, or NaN behind the camera."""
    x, y = (u - depth_camera.cx) / depth_camera.fx, (v - depth_camera.cy) / depth_camera.fy
    point = rgb_from_depth @ (x * z, y * z, z, 1)
    if point[2] < 1e-3:
        return math.nan, math.nan, math.nan
    return (
        out.fx * point[0] / point[2] + out.cx,
        out.fy * point[1] / point[2] + out.cy,
        float(point[2]),
    )


class Reference:
    """The warp as its docstring states it, pixel after pixel.

    A result in float32 may differ where a border falls on a pixel centre, so footprints are made smaller
    or larger by `slack` pixels: the two depths enclose the right one, and agree nearly everywhere.
    """

    def __init__(
        self, depth: Array, depth_camera: PinholeCamera, out: PinholeCamera, rgb_from_depth: Array
    ) -> None:
        self.depth, self.cameras, self.pose = depth, (depth_camera, out), rgb_from_depth

    def project(self, u: float, v: float, z: float) -> tuple[float, float, float]:
        return image_point(u, v, z, *self.cameras, self.pose)

    def is_valid(self, u: int, v: int) -> bool:
        height, width = self.depth.shape
        return 0 <= u < width and 0 <= v < height and math.isfinite(self.depth[v, u]) and self.depth[v, u] > 0

    def side(self, u: int, v: int, axis: int, slack: float) -> float:
        """The cell's side along `axis` (0: x, 1: y) before slack."""
        z = float(self.depth[v, u])
        centre = self.project(u, v, z)[axis]
        total = 0.0
        for du, dv in ((1, 0), (0, 1)):
            ahead = self.project(u + 1e-5 * du, v + 1e-5 * dv, z)[axis]
            behind = self.project(u - 1e-5 * du, v - 1e-5 * dv, z)[axis]
            longest = abs(ahead - behind) / 2e-5
            for sign in (1, -1):
                neighbour = (u + sign * du, v + sign * dv)
                if self.is_valid(*neighbour):
                    depth = float(self.depth[neighbour[1], neighbour[0]])
                    step = abs(self.project(*neighbour, depth)[axis] - centre)
                    if step <= FOOTPRINT + slack:
                        longest = max(longest, step)
            total += longest
        return min(max(total, 1.0), FOOTPRINT)

    def image(self, slack: float) -> Array:
        out = self.cameras[1]
        image = np.full((out.height, out.width), np.inf)
        for v, u in np.ndindex(self.depth.shape):
            if not self.is_valid(u, v):
                continue
            x, y, z = self.project(u, v, float(self.depth[v, u]))
            if math.isnan(z):
                continue
            half_x, half_y = (self.side(u, v, axis, slack) / 2 + slack for axis in (0, 1))
            for row in range(max(0, math.ceil(y - half_y)), min(out.height, math.ceil(y + half_y))):
                for column in range(max(0, math.ceil(x - half_x)), min(out.width, math.ceil(x + half_x))):
                    image[row, column] = min(image[row, column], z)
        return image


def random_scene(seed: int) -> tuple[Array, PinholeCamera, PinholeCamera, Array]:
    """A slanted plane with a box before it, noise and invalid pixels; two cameras; a pose."""
    rng = np.random.default_rng(seed)
    width, height = int(rng.integers(8, 24)), int(rng.integers(8, 20))
    focal = rng.uniform(0.7, 1.3) * width
    depth_camera = PinholeCamera(
        width,
        height,
        focal,
        focal * rng.uniform(0.8, 1.25),
        width * rng.uniform(0.4, 0.6),
        height * rng.uniform(0.4, 0.6),
    )
    zoom = rng.uniform(0.7, 3)
    rgb_camera = PinholeCamera(40, 30, 20 * zoom, 21 * zoom, 40 * rng.uniform(0.4, 0.6), 14.2)
    v, u = np.indices((height, width))
    depth = rng.uniform(1, 3) + u * rng.uniform(-0.04, 0.04) + v * rng.uniform(-0.04, 0.04)
    depth[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] *= rng.uniform(0.4, 0.8)
    depth *= 1 + rng.normal(0, 0.01, depth.shape)
    depth = np.where(rng.random(depth.shape) < 0.15, rng.choice(INVALID, depth.shape), depth)
    roll = math.radians(rng.choice([0, 0, 0, 45, 90, 180]))
    tilt = rng.normal(0, 0.08, 2)
    quaternion = (*tilt, math.sin(roll / 2), math.cos(roll / 2))
    return depth, depth_camera, rgb_camera, transform_matrix(rng.uniform(-0.15, 0.15, 3).tolist(), quaternion)
