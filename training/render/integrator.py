# SPDX-License-Identifier: Apache-2.0
"""Traces a scene with Mitsuba's ray caster: exact depth, and light with one bounce that sees through cutouts.

Mitsuba's own path integrator turns alpha-masked leaves black. Here a ray goes on through every surface whose
opacity lets it, for the eye, for shadows and for bounces alike. Kernels depend on no scene: they gather from
tables of triangles, materials and texels, so that they are compiled once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.render import backend
from training.render.geometry import Camera, Lighting, SceneBuilder
from training.render.scene_tables import Tables
from training.render.shading import Shader

SAMPLES_A_PASS = 4  # so that memory does not grow with the number of samples


@dataclass(frozen=True)
class Picture:
    """radiance, albedo (H, W, 3) linear; normal (H, W, 3) in the world, zero where the sky is."""

    radiance: npt.NDArray[np.float32]
    albedo: npt.NDArray[np.float32]
    normal: npt.NDArray[np.float32]


class Integrator:
    """One scene, ready to be seen from many cameras."""

    def __init__(self, scene: SceneBuilder, lighting: Lighting) -> None:
        self._mi, self._dr = backend.start()
        self._tables = Tables(scene)
        self._shader = Shader(self._tables, lighting)

    def depth(self, camera: Camera, size: tuple[int, int]) -> npt.NDArray[np.float32]:
        """(H, W) metres along the optical axis at the pixels' centres; NaN where no surface is.

        A surface counts where it is at least half opaque.
        """
        mi, dr = self._mi, self._dr
        pixel = dr.arange(mi.UInt32, size[0] * size[1])
        ray, cosine = self._rays(camera, size, pixel, mi.Point2f(0.5))
        hit = self._tables.nearest(ray.o, ray.d, mi.Float(math.inf), None)
        depth = dr.select(hit.valid, hit.t * cosine, math.nan)
        return np.array(depth, np.float32).reshape(size)

    def picture(self, camera: Camera, size: tuple[int, int], samples: int, seed: int) -> Picture:
        """The scene with `samples` rays a pixel, a multiple of 4, not yet denoised; box filter."""
        total = np.zeros((*size, 9), np.float32)
        passes = samples // SAMPLES_A_PASS
        for number in range(passes):
            total += self._pass(camera, size, (seed + number) % 2**32)
        mean = (total / passes).astype(np.float32)
        return Picture(mean[..., :3], mean[..., 3:6], mean[..., 6:])

    def _pass(self, camera: Camera, size: tuple[int, int], seed: int) -> npt.NDArray[np.float32]:
        mi, dr = self._mi, self._dr
        lanes = dr.arange(mi.UInt32, size[0] * size[1] * SAMPLES_A_PASS)
        # an opaque number stays out of the kernel's code, which would else be compiled anew for each seed
        generator = mi.PCG32(
            initstate=mi.UInt64(dr.opaque(mi.UInt32, seed)) + mi.UInt64(lanes), initseq=lanes
        )
        jitter = mi.Point2f(generator.next_float32(), generator.next_float32())
        ray, _ = self._rays(camera, size, lanes // SAMPLES_A_PASS, jitter)
        radiance, albedo, normal = self._shader.look(ray.o, ray.d, generator)
        channels = [dr.block_sum(x, SAMPLES_A_PASS) for triple in (radiance, albedo, normal) for x in triple]
        dr.eval(channels)
        stacked = np.stack([np.array(channel) for channel in channels], axis=-1)
        return (stacked.reshape(*size, 9) / SAMPLES_A_PASS).astype(np.float32)

    def _rays(self, camera: Camera, size: tuple[int, int], pixel: Any, jitter: Any) -> tuple[Any, Any]:
        """Rays through the pixels, and the cosine of their angle with the optical axis."""
        mi, dr = self._mi, self._dr
        height, width = size
        focal = dr.opaque(mi.Float, width / 2 / math.tan(math.radians(camera.fov_x_deg) / 2))
        x = (mi.Float(pixel % width) + jitter.x - width / 2) / focal
        y = (mi.Float(pixel // width) + jitter.y - height / 2) / focal
        right, down, forward = (
            mi.Vector3f(*(dr.opaque(mi.Float, float(v)) for v in column)) for column in camera.rotation.T
        )
        cosine = dr.rsqrt(1 + x * x + y * y)
        eye = mi.Point3f(*(dr.opaque(mi.Float, float(v)) for v in camera.eye))
        return mi.Ray3f(eye, (right * x + down * y + forward) * cosine), cosine


def denoise(picture: Picture) -> npt.NDArray[np.float32]:
    """Radiance (H, W, 3) without the noise of few samples, by Open Image Denoise."""
    import pyoidn

    radiance, albedo, normal = (
        np.ascontiguousarray(part, np.float32)
        for part in (picture.radiance, np.clip(picture.albedo, 0, 1), picture.normal)
    )
    return np.maximum(pyoidn.denoise(radiance, albedo=albedo, normal=normal, hdr=True), 0)
