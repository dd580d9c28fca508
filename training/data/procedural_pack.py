# SPDX-License-Identifier: Apache-2.0
"""Turns scenes into padded tensors in the camera's frame: what the ray caster and shader read."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .procedural_primitives import LUT_SIZE, RADII, Array, Mask, Primitive, Scene
from .procedural_view import (
    COLUMNS,
    FACES,
    HUGE,
    NOTHING,
    View,
    camera_rays,
    geometry,
    surface_table,
    view_of,
)

MASK_VALUES = 12


@dataclass
class PackedMask:
    """The masks of one slot. A scene whose primitive has none gets one that lets all through."""

    masked: Tensor  # (B, 1, 1) bool
    face: Tensor  # (B, 1, 1) the one face that carries the mask
    frame: Tensor  # (B, 8): rows of u and v and their offsets, in half extents
    outline: Tensor  # (B, RADII)
    values: Tensor  # (B, MASK_VALUES, 1, 1), in the order of `_mask_values`
    uses: frozenset[str]  # which of outline, spokes, texture, bars occur


@dataclass
class Slot:
    """One primitive a scene, over the scenes of a batch."""

    quadric: Tensor | None  # (B, 10): xx yy zz xy xz yz, bx by bz, c; None where no scene has one
    faces: tuple[int, ...]  # which slabs any scene has; their values follow in this order
    normals: Tensor  # (B, P, 3)
    middles: Tensor  # (B, P, 1, 1)
    halves: Tensor  # (B, P, 1, 1)
    bound: Tensor  # (B, 12): rows and offsets of a frame in which the solid is about the unit ball
    window: tuple[int, int, int, int]  # y0, y1, x0, x1 pixels
    inside: bool
    casts: tuple[bool, ...]  # whether each scene's own primitive throws a shadow: cards with holes do not
    mask: PackedMask | None


@dataclass
class Packed:
    """A batch of scenes as tensors."""

    slots: list[Slot]
    surfaces: Tensor  # (B, COLUMNS, S)
    palettes: Tensor  # (B, 3, S * LUT_SIZE)
    rays: tuple[Tensor, Tensor]  # x (B, 1, W) and y (B, H, 1) of the ray directions (x, y, 1)
    focal: Tensor  # (B,) pixels
    scenes: list[Scene]
    host: Array  # the surface table on the host (B, COLUMNS, S): which columns are used at all


def _mask_values(mask: Mask) -> list[float]:
    return [
        mask.ring,
        *mask.spokes,
        mask.texture,
        mask.texture_scale,
        *mask.texture_offset,
        mask.threshold,
        mask.skyline,
        *mask.bars,
    ]


def _pack_mask(views: list[View], k: int, device: torch.device) -> PackedMask | None:
    """Pack the masks of slot k, None where no scene has one there."""
    masks = [v.primitives[k].mask if k < len(v.primitives) else None for v in views]
    real = [m for m in masks if m is not None]
    if not real:
        return None
    rows = np.zeros((len(views), 10 + RADII + MASK_VALUES), np.float32)
    for row, view, mask in zip(rows, views, masks, strict=True):
        row[10 : 10 + RADII] = 1e6 if mask is None or mask.outline is None else mask.outline
        row[10 + RADII :] = _mask_values(mask or Mask())
        if mask is not None:
            frame = view.rows[k, :2] / view.bound[k, :2, None]
            row[0], row[1] = 1.0, 0.0 if view.quadric[k, :3].any() else 3.0
            row[2:8], row[8:10] = frame.ravel(), view.offset[k, :2] / view.bound[k, :2]
    uses = {
        name
        for name, used in (
            ("outline", any(m.outline is not None or m.ring for m in real)),
            ("spokes", any(m.spokes[0] for m in real)),
            ("texture", any(m.texture >= 0 for m in real)),
            ("bars", any(m.bars[2] for m in real)),
        )
        if used
    }
    t = torch.as_tensor(rows, device=device)
    return PackedMask(
        t[:, 0, None, None] > 0,
        t[:, 1, None, None],
        t[:, 2:10],
        t[:, 10 : 10 + RADII],
        t[:, 10 + RADII :, None, None],
        frozenset(uses),
    )


def _casts(primitive: Primitive) -> bool:
    return primitive.shadow and primitive.mask is None and not primitive.inside


def _slots(views: list[View], device: torch.device) -> list[Slot]:
    count = max(len(v.primitives) for v in views)
    values = np.tile(NOTHING.astype(np.float32), (len(views), count, 1))
    for row, view in zip(values, views, strict=True):
        row[: len(view.primitives)] = geometry(view)
    moved, slots = torch.as_tensor(values, device=device), []
    for k in range(count):
        having = [v for v in views if k < len(v.primitives)]
        here = [v.primitives[k] for v in having]
        lacking = len(having) < len(views)
        finite = [f for f in range(3) if any(v.half[k, f] < HUGE for v in having)]
        faces = range(finite[0], finite[-1] + 1) if finite else range(0)
        windows = np.stack([v.windows[k] for v in having])
        low, high = windows.min(0), windows.max(0)
        g, part = moved[:, k], slice(faces.start, faces.stop)
        slots.append(
            Slot(
                g[:, :10] if lacking or any(p.quadric[0] for p in here) else None,
                tuple(f + 1 for f in faces),
                g[:, 10:19].view(-1, 3, 3)[:, part],
                g[:, 19:22][:, part, None, None],
                g[:, 22:25][:, part, None, None],
                g[:, 25:37],
                (int(low[0]), int(high[1]), int(low[2]), int(high[3])),
                here[0].inside,
                tuple(k < len(v.primitives) and _casts(v.primitives[k]) for v in views),
                _pack_mask(views, k, device),
            )
        )
    return slots


def pack(
    scenes: list[Scene],
    height: int,
    width: int,
    device: torch.device,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Packed:
    """Pack scenes for (height, width) images whose pixel centres are moved by `shift` pixels."""
    rays = [camera_rays(scene.camera, height, width, shift) for scene in scenes]
    views = [view_of(scene, x, y) for scene, (x, y, _) in zip(scenes, rays, strict=True)]
    count = max(len(v.primitives) for v in views) * FACES
    surfaces = np.zeros((len(scenes), COLUMNS, count), np.float32)
    palettes = np.zeros((len(scenes), 3, count, LUT_SIZE), np.float32)
    for i, view in enumerate(views):
        n = len(view.primitives) * FACES
        surfaces[i, :, :n] = surface_table(view)
        colors = np.stack([p.material.palette.T for p in view.primitives if p.material is not None], 1)
        palettes[i, :, :n] = colors.repeat(FACES, 1)

    def move(array: Array) -> Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=device)

    return Packed(
        _slots(views, device),
        move(surfaces),
        move(palettes.reshape(len(scenes), 3, -1)),
        (move(np.stack([r[0] for r in rays]))[:, None], move(np.stack([r[1] for r in rays]))[:, :, None]),
        move(np.array([r[2] for r in rays])),
        scenes,
        surfaces,
    )
