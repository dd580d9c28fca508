# SPDX-License-Identifier: Apache-2.0
"""Light at each visible point: sun or lamp, cast shadows, patterned light, ambient light, occlusion."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.draws import normal

from .procedural_pack import Packed, Slot
from .procedural_textures import TextureBank
from .procedural_view import FACES

EPSILON = 2e-3  # share of the depth by which shadow rays start in front of their surface
SHININESS = 5  # squarings of the cosine: a power of 32


def per_scene(packed: Packed, values: list) -> Tensor:
    """Return host values of each scene as (B, n, 1, 1) on the device."""
    array = np.asarray(values, np.float32).reshape(len(values), -1, 1, 1)
    return torch.as_tensor(array, device=packed.surfaces.device)


def unit(vector: Tensor) -> Tensor:
    """Return (B, 3, H, W) vectors of length 1."""
    return vector * torch.rsqrt((vector * vector).sum(1, keepdim=True).clamp_(min=1e-20))


def _dot(normal: Tensor, vector: Tensor) -> Tensor:
    """Return (B, 3) . (B, 3, h, w)."""
    n = normal[:, :, None, None]
    return torch.addcmul(torch.addcmul(n[:, 0] * vector[:, 0], n[:, 1], vector[:, 1]), n[:, 2], vector[:, 2])


class Lighting:
    """The light of a batch of scenes; shadows of a scene's first `casters` solids that throw one.

    They are traced at 1/stride of the resolution.
    """

    def __init__(
        self,
        packed: Packed,
        bank: TextureBank,
        generators: Sequence[torch.Generator],
        stride: int = 2,
        casters: int = 14,
    ):
        self.packed, self.bank, self.generators, self.stride = packed, bank, generators, stride
        self.lights = [s.light for s in packed.scenes]
        self.turns = [s.camera.rotation for s in packed.scenes]
        # Each scene decides by itself: what shares its slots in the batch must not change its light.
        casts = np.array([slot.casts for slot in packed.slots])  # (slots, B)
        casts &= casts.cumsum(0) <= casters
        self.shaded = [bool(column.any()) for column in casts.T]  # scenes with any shadow
        of_scene = torch.as_tensor(casts, device=packed.surfaces.device)[:, :, None, None]
        self.casters = [(k, packed.slots[k], of_scene[k]) for k in np.flatnonzero(casts.any(1))]

    def __call__(
        self, rays: Tensor, points: Tensor, normals: Tensor, depth: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return irradiance and gleam (to be multiplied with a surface's gloss), each (B, 3, H, W)."""
        packed, lights = self.packed, self.lights
        down = per_scene(packed, [turn[:, 1] for turn in self.turns])
        sun = per_scene(packed, [s.camera.rotation @ s.light.direction for s in packed.scenes])
        way = sun * 1e3
        if any(light.point for light in lights):
            place = per_scene(
                packed,
                [s.camera.rotation @ (s.light.position - s.camera.position) for s in packed.scenes],
            )
            way = torch.where(per_scene(packed, [light.point for light in lights]) > 0, place - points, way)
            incoming = unit(way)
        else:
            incoming = sun
        arrives = (normals * incoming).sum(1).clamp_(min=0)
        open_sky = None
        if self.casters:
            lit, open_sky = self._trace(points, normals, depth, way, ids)
            arrives = arrives * lit
        if any(light.gobo >= 0 for light in lights):
            arrives = arrives * self._gobo(points)
        color, ambient, bounce = (
            per_scene(packed, [getattr(light, name) for light in lights])
            for name in ("color", "ambient", "bounce")
        )
        above = (normals * down).sum(1, keepdim=True).mul_(-0.5).add_(0.5)
        around = torch.lerp(bounce.expand_as(rays), ambient.expand_as(rays), above.expand_as(rays))
        if open_sky is not None:
            around = around * open_sky[:, None]
        half = unit(incoming - unit(rays))
        shine = (normals * half).sum(1).clamp_(min=0)
        for _ in range(SHININESS):
            shine = shine * shine
        return torch.addcmul(around, color, arrives[:, None]), color * (shine * (arrives > 0))[:, None]

    def _trace(
        self, points: Tensor, normals: Tensor, depth: Tensor, way: Tensor, ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the share of direct light and of ambient light that arrives, each (B, H, W)."""
        step, packed = self.stride, self.packed
        start = (points + normals * (EPSILON * depth[:, None]))[:, :, ::step, ::step].contiguous()
        way = way[:, :, ::step, ::step] if way.shape[-1] > 1 else way
        spread = per_scene(packed, [light.blur for light in self.lights])
        # A scene without casters draws nothing, as when it is alone.
        jitter = torch.cat(
            [
                normal((1, *start.shape[1:]), start, each) if shaded else torch.zeros_like(start[:1])
                for shaded, each in zip(self.shaded, self.generators, strict=True)
            ]
        )
        way = torch.addcmul(
            way.expand_as(start), jitter, spread * torch.sqrt((way * way).sum(1, keepdim=True))
        )
        own = ids.view(depth.shape)[:, ::step, ::step] % packed.surfaces.shape[2] // FACES
        lit, open_sky = torch.ones_like(start[:, 0]), torch.ones_like(start[:, 0])
        traced = any(light.shadows for light in self.lights)
        for k, slot, of_scene in self.casters:
            if traced:
                lit *= ~(blocked(slot, start, way) & of_scene)
            open_sky *= torch.where((own == k) | ~of_scene, 1.0, _closeness(slot, start))
        soft = per_scene(packed, [light.softness if light.shadows else 1.0 for light in self.lights])
        strength = per_scene(packed, [light.occlusion for light in self.lights])
        both = torch.stack([soft[:, 0] + (1 - soft[:, 0]) * lit, 1 - strength[:, 0] * (1 - open_sky)], 1)
        both = F.avg_pool2d(F.pad(both, (1, 1, 1, 1), mode="replicate"), 3, 1)
        full = F.interpolate(both, size=depth.shape[1:], mode="bilinear", align_corners=False)
        return full[:, 0], full[:, 1]

    def _gobo(self, points: Tensor) -> Tensor:
        """Return the share of light (B, H, W) left by a pattern projected along the light's direction."""
        packed, rows, values = self.packed, [], []
        for turn, light, scene in zip(self.turns, self.lights, packed.scenes, strict=True):
            side = np.cross(light.direction, [0.3, 0.2, 0.93])
            side /= np.linalg.norm(side)
            frame = np.stack([side, np.cross(light.direction, side)]) / light.gobo_tile
            rows.append(np.concatenate([(frame @ turn.T).ravel(), frame @ scene.camera.position]))
            values.append(
                [max(light.gobo, 0), light.gobo_threshold if light.gobo >= 0 else -9.0, light.gobo_soft]
            )
        m, value = per_scene(packed, rows), per_scene(packed, values)
        u = _dot(m[:, 0:3, 0, 0], points) + m[:, 6]
        v = _dot(m[:, 3:6, 0, 0], points) + m[:, 7]
        pattern = self.bank.sample(value[:, 0].expand_as(u), u, v, torch.ones_like(u))
        return ((pattern - value[:, 1]) / value[:, 2]).clamp_(0, 1).mul_(0.85).add_(0.15)


def _closeness(slot: Slot, points: Tensor) -> Tensor:
    """Return how open the sky is beside the solid (B, h, w): 1 far from its bounding ellipsoid, else less."""
    rows, offset = slot.bound[:, :9], slot.bound[:, 9:]
    square = sum((_dot(rows[:, 3 * i : 3 * i + 3], points) + offset[:, i, None, None]) ** 2 for i in range(3))
    return 1 - torch.exp(square.mul_(-1.2).clamp_(min=-20))  # type: ignore[union-attr]  # exp is slow where it underflows


def blocked(slot: Slot, points: Tensor, way: Tensor) -> Tensor:
    """Return whether the solid lies between the points and points + way (B, h, w) bool."""
    entry, leave = points.new_full((), -math.inf), points.new_full((), math.inf)
    for i in range(len(slot.faces)):
        normal = slot.normals[:, i]
        inverse = (_dot(normal, way) + 1e-12).reciprocal_()
        centre = (slot.middles[:, i] - _dot(normal, points)).mul_(inverse)
        span = inverse.abs_() * slot.halves[:, i]
        entry, leave = torch.maximum(entry, centre - span), torch.minimum(leave, centre + span)
    if slot.quadric is not None:
        k = slot.quadric[:, :, None, None]

        def times(a: Tensor) -> list[Tensor]:
            x, y, z = a.unbind(1)
            return [
                k[:, 0] * x + k[:, 3] * y + k[:, 4] * z,
                k[:, 3] * x + k[:, 1] * y + k[:, 5] * z,
                k[:, 4] * x + k[:, 5] * y + k[:, 2] * z,
            ]

        def total(a: list[Tensor], b: Tensor) -> Tensor:
            return torch.addcmul(torch.addcmul(a[0] * b[:, 0], a[1], b[:, 1]), a[2], b[:, 2])

        of_points, linear = times(points), slot.quadric[:, 6:9]
        a = total(times(way), way).clamp_(min=1e-12)
        b = total(of_points, way) + _dot(linear, way)
        c = total(of_points, points) + 2 * _dot(linear, points) + k[:, 9]
        square = b * b - a * c
        root = torch.rsqrt(square).mul_(square)  # NaN: a miss
        entry, leave = torch.maximum(entry, (-b - root) / a), torch.minimum(leave, (root - b) / a)
    return (entry <= leave) & (leave > 0) & (entry < 1)
