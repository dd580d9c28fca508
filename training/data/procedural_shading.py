# SPDX-License-Identifier: Apache-2.0
"""Colours of the visible surfaces: textures, relief, light, fog and sky."""

import numpy as np
import torch
from torch import Tensor

from .procedural_light import Lighting, per_scene, unit
from .procedural_pack import Packed
from .procedural_primitives import LUT_SIZE
from .procedural_textures import SIZE, TextureBank
from .procedural_view import (
    COLUMNS,
    DETAIL,
    FRAME,
    GLOSS,
    GLOW,
    LINEAR,
    OFFSET,
    QUADRIC,
    RELIEF,
    TEXTURES,
    UV,
    WRAP,
)


class Shader:
    """Shades what `cast` found: holds the maps of one batch, each (B, H, W) or (B, 3, H, W), camera frame."""

    def __init__(self, packed: Packed, depth: Tensor, surface: Tensor, bank: TextureBank):
        self.packed, self.bank, self.shape = packed, bank, depth.shape
        self.hit = torch.isfinite(depth)
        self.all_hit = bool(self.hit.all())
        self.depth = depth if self.all_hit else torch.where(self.hit, depth, 1.0)
        count = packed.surfaces.shape[2]
        first = torch.arange(depth.shape[0], device=depth.device)[:, None, None] * count
        self.ids = (surface + first).flatten()
        self.table = packed.surfaces.transpose(0, 1).reshape(COLUMNS, -1)
        self.rays = torch.stack(
            [packed.rays[0].expand_as(depth), packed.rays[1].expand_as(depth), torch.ones_like(depth)], 1
        )
        self.points = self.rays * self.depth[:, None]
        self.columns: dict[int, Tensor] = {}
        self._locate()

    def column(self, index: int) -> Tensor:
        """Return one column of the surface table at every pixel."""
        if index not in self.columns:
            self.columns[index] = self.table[index].index_select(0, self.ids).view(self.shape)
        return self.columns[index]

    def _group(self, part: slice) -> list[Tensor]:
        return [self.column(i) for i in range(part.start, part.stop)]

    def _used(self, index: int) -> bool:
        """Return whether any surface, seen or not, has a value other than 0 in this column."""
        return bool((self.packed.host[:, index] != 0).any())

    def _locate(self) -> None:
        """Set normals that face the camera, texture coordinates and level of detail."""
        f, off, q = self._group(FRAME), self._group(OFFSET), self._group(QUADRIC)
        x, y, z = self.points.unbind(1)
        local = [
            torch.addcmul(torch.addcmul(torch.addcmul(off[i], f[3 * i], x), f[3 * i + 1], y), f[3 * i + 2], z)
            for i in range(3)
        ]
        g = [q[0] * local[0], q[1] * local[1], torch.addcmul(self.column(LINEAR), q[2], local[2])]
        normal = unit(
            torch.stack(
                [torch.addcmul(torch.addcmul(f[j] * g[0], f[3 + j], g[1]), f[6 + j], g[2]) for j in range(3)],
                1,
            )
        )
        facing = (normal * self.rays).sum(1, keepdim=True)
        self.normals = normal * -torch.sign(facing)
        u, v = local[0], local[1]
        if self._used(WRAP):
            wrap = self.column(WRAP)
            u = torch.where(wrap > 0, torch.atan2(local[0], local[1]) * wrap, u)
            v = torch.where(wrap > 0, local[2], v)
        c, s, du, dv = self._group(UV)
        self.u, self.v = torch.addcmul(du + c * u, s, v, value=-1), torch.addcmul(dv + s * u, c, v)
        length = torch.sqrt((self.rays * self.rays).sum(1))
        cosine = (facing[:, 0].abs_() / length).clamp_(min=0.05)
        texels = self.depth * torch.sqrt(c * c + s * s) * (SIZE / self.packed.focal[:, None, None])
        self.lod = torch.log2(texels.mul_(torch.rsqrt(cosine)))

    def relief(self) -> Tensor:
        """Push the depth by the surfaces' relief, tilt the normals with it and return the depth (B, H, W)."""
        if not self._used(RELIEF.stop - 1):
            return self.depth
        index, ratio, amount = self._group(RELIEF)
        u, v, lod = self.u * ratio, self.v * ratio, self.lod + torch.log2(ratio)
        height = self.bank.sample(index, u, v, lod)
        self.depth = self.depth * (1 - amount * height)
        step = torch.exp2(lod.clamp(0, 7)) / SIZE
        slope_u = (self.bank.sample(index, u + step, v, lod) - height) / step
        slope_v = (self.bank.sample(index, u, v + step, lod) - height) / step
        c, s = self.column(UV.start), self.column(UV.start + 1)
        gain = amount * ratio * self.depth
        gu, gv = gain * (c * slope_u + s * slope_v), gain * (c * slope_v - s * slope_u)
        f = self._group(FRAME)
        tilt = torch.stack([f[j] * gu + f[3 + j] * gv for j in range(3)], 1)
        self.normals = unit(self.normals - tilt.clamp_(-2, 2))
        self.points = self.rays * self.depth[:, None]
        return self.depth

    def albedo(self) -> Tensor:
        """Return linear albedo (B, 3, H, W)."""
        (first, second), (ratio, weight) = self._group(TEXTURES), self._group(DETAIL)
        value = self.bank.sample(first, self.u, self.v, self.lod)
        fine = self.bank.sample(second, self.u * ratio, self.v * ratio, self.lod + torch.log2(ratio))
        value = torch.addcmul(value, weight, fine - 0.5).clamp_(0, 1).mul_(LUT_SIZE - 1)
        low = value.floor().clamp_(max=LUT_SIZE - 2)
        share = value.sub_(low).flatten()
        index = self.ids * LUT_SIZE + low.long().flatten()
        palettes = self.packed.palettes.transpose(0, 1).reshape(3, -1)
        return torch.stack(
            [
                torch.lerp(p.index_select(0, index), p[1:].index_select(0, index), share).view(self.shape)
                for p in palettes
            ],
            1,
        )

    def _sky(self) -> Tensor:
        """Return the colour behind everything (B, 3, H, W)."""
        packed, scenes = self.packed, self.packed.scenes
        up = per_scene(packed, [s.camera.rotation @ np.array([0, -1.0, 0]) for s in scenes])
        height = (unit(self.rays) * up).sum(1, keepdim=True).clamp_(0, 1)
        sky = torch.lerp(
            per_scene(packed, [s.sky[0] for s in scenes]),
            per_scene(packed, [s.sky[1] for s in scenes]),
            height.sqrt(),
        )
        if any(s.clouds for s in scenes):
            index = per_scene(packed, [s.cloud_texture for s in scenes])[:, 0].expand(self.shape)
            value = self.bank.sample(
                index, self.rays[:, 0] * 0.3, self.rays[:, 1] * 0.5, torch.zeros_like(self.depth)
            )
            sky = sky + per_scene(packed, [s.clouds for s in scenes]) * (value[:, None] - 0.3)
        return sky

    def image(self, lighting: Lighting) -> Tensor:
        """Return linear radiance (B, 3, H, W), not yet exposed."""
        irradiance, gleam = lighting(self.rays, self.points, self.normals, self.depth, self.ids)
        color = self.albedo()
        if self._used(GLOW):
            irradiance = irradiance + self.column(GLOW)[:, None]
        color = color.mul_(irradiance)
        if self._used(GLOSS):
            color = color + gleam * self.column(GLOSS)[:, None]
        scenes = self.packed.scenes
        if any(s.fog for s in scenes):
            haze = per_scene(self.packed, [s.sky[0] for s in scenes])
            share = torch.exp(-per_scene(self.packed, [s.fog for s in scenes]) * self.depth[:, None])
            color = torch.lerp(haze.expand_as(color), color, share.expand_as(color))
        return color if self.all_hit else torch.where(self.hit[:, None], color, self._sky())
