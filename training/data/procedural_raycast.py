# SPDX-License-Identifier: Apache-2.0
"""Which surface each pixel sees, at which depth, and which pixels the light reaches."""

import math

import torch
from torch import Tensor

from .procedural_pack import Packed, PackedMask, Slot
from .procedural_primitives import RADII
from .procedural_textures import TextureBank
from .procedural_view import FACES, NEAR

Rays = tuple[Tensor, Tensor]


def _linear(normal: Tensor, rays: Rays) -> Tensor:
    """Return normal . (x, y, 1) over the pixels; normal (B, 3)."""
    n = normal[:, :, None, None]
    return n[:, 0] * rays[0] + (n[:, 1] * rays[1] + n[:, 2])


def _quadric_interval(q: Tensor, rays: Rays) -> tuple[Tensor, Tensor]:
    """Return where the rays from the origin enter and leave the quadric; NaN where they miss."""
    k = q[:, :, None, None]
    x, y = rays
    a = (k[:, 0] * x + 2 * k[:, 4]) * x + ((k[:, 1] * y + 2 * k[:, 5]) * y + k[:, 2])
    a = torch.addcmul(a, 2 * k[:, 3] * x, y).clamp_(min=1e-12)
    b = _linear(q[:, 6:9], rays)
    square = torch.addcmul(-k[:, 9] * a, b, b)
    scale = a.reciprocal_()
    # a miss is NaN; sqrt is ten times slower than rsqrt on negative values
    middle, reach = (b * scale).neg_(), torch.rsqrt(square).mul_(square).mul_(scale)
    return middle - reach, reach.add_(middle)


def intervals(slot: Slot, rays: Rays) -> tuple[Tensor, Tensor, Tensor]:
    """Return entry, exit (in z) and the face seen (entered, or left for a backdrop), each (B, h, w)."""
    shape = (slot.normals.shape[0], rays[1].shape[1], rays[0].shape[2])
    if slot.quadric is not None:
        entry, leave = _quadric_interval(slot.quadric, rays)
    else:
        entry, leave = rays[0].new_full((), -math.inf), rays[0].new_full((), math.inf)
    face = torch.zeros(shape, device=rays[0].device)
    if slot.faces:
        n = slot.normals[..., None, None]
        inverse = (
            torch.addcmul(n[:, :, 1] * rays[1][:, None] + n[:, :, 2], n[:, :, 0], rays[0][:, None])
            .add_(1e-12)
            .reciprocal_()
        )
        centre = inverse * slot.middles
        reach = inverse.abs_().mul_(slot.halves)
        near, far = (centre - reach).unbind(1), centre.add_(reach).unbind(1)
        for i, index in enumerate(slot.faces):
            face.masked_fill_(far[i] < leave if slot.inside else near[i] > entry, float(index))
            entry, leave = torch.maximum(entry, near[i]), torch.minimum(leave, far[i])
    return entry, leave, face


def mask_of(mask: PackedMask, rays: Rays, depth: Tensor, face: Tensor, bank: TextureBank) -> Tensor:
    """Return where the masked card exists (B, h, w) bool."""
    f = mask.frame
    # NaN and inf stand where the plane is missed
    depth = depth.nan_to_num(0.0, 0.0, 0.0)
    u = _linear(f[:, 0:3], rays).mul_(depth).add_(f[:, 6, None, None])
    v = _linear(f[:, 3:6], rays).mul_(depth).add_(f[:, 7, None, None])
    ring, spokes, spoke_width, texture, scale, du, dv, threshold, skyline, bars_u, bars_v, bar_width = (
        mask.values.unbind(1)
    )
    there = torch.ones_like(face, dtype=torch.bool)
    if "outline" in mask.uses or "spokes" in mask.uses:
        turn = torch.atan2(v, u).mul_(0.5 / math.pi).add_(0.5)
        position = turn * RADII
        index = position.floor().clamp_(0, RADII - 1).long()
        flat = index.flatten(1)
        low = mask.outline.gather(1, flat)
        high = mask.outline.gather(1, (flat + 1) % RADII)
        limit = torch.lerp(low, high, (position - index).flatten(1)).view_as(u)
        radius = torch.sqrt(u * u + v * v)
        there = (radius < limit) & (radius >= ring * limit)
        if "spokes" in mask.uses:
            # a bar of constant width: the angular width shrinks with the radius
            phase = ((turn * spokes).frac() - 0.5).abs() * radius * 2 * math.pi
            there |= (radius < limit) & (phase < spoke_width * spokes) & (spokes > 0)
    if "bars" in mask.uses:
        on = ((u * bars_u).frac().abs() - 0.5).abs() > 0.5 - bar_width
        on &= bars_u > 0
        other = ((v * bars_v).frac().abs() - 0.5).abs() > 0.5 - bar_width
        on |= other & (bars_v > 0)
        there &= on | (bar_width == 0)
    if "texture" in mask.uses:
        index = texture.clamp(min=0).expand(u.shape)
        is_skyline = skyline > 0
        row = torch.where(is_skyline, torch.zeros_like(v), v)
        value = bank.sample(index, u * scale + du, row * scale + dv, torch.zeros_like(u))
        cut = torch.where(is_skyline, v > skyline * value - 1, value > threshold)
        there &= cut | (texture < 0)
    return (there & (face == mask.face)) | ~mask.masked


def cast(packed: Packed, bank: TextureBank, near: float | Tensor = NEAR) -> tuple[Tensor, Tensor]:
    """Return z (B, H, W), inf where nothing is hit, and the index of the surface hit (B, H, W) int64.

    Surfaces closer than `near`, a number or (B, 1, 1), are not seen.
    """
    x, y = packed.rays
    shape = (x.shape[0], y.shape[1], x.shape[2])
    depth = x.new_full(shape, math.inf)
    surface = torch.zeros(shape, dtype=torch.float32, device=x.device)
    for k, slot in enumerate(packed.slots):
        y0, y1, x0, x1 = slot.window
        rays = x[..., x0:x1], y[:, y0:y1]
        entry, leave, face = intervals(slot, rays)
        seen = depth[:, y0:y1, x0:x1]
        hit = leave if slot.inside else entry
        closer = (entry <= leave) & (hit > near) & (hit < seen)
        if slot.mask is not None:
            closer &= mask_of(slot.mask, rays, entry, face, bank)
        torch.where(closer, hit, seen, out=seen)
        ids = surface[:, y0:y1, x0:x1]
        torch.where(closer, face.add_(k * FACES), ids, out=ids)
    return depth, surface.long()
