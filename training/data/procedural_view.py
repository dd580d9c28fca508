# SPDX-License-Identifier: Apache-2.0
"""The primitives of one scene that its camera sees, in the camera's frame, as arrays on the host."""

from dataclasses import dataclass

import numpy as np

from .procedural_primitives import Array, Camera, Material, Primitive, Scene

HUGE = 1e6  # half width of a slab that is not there, metres
NEAR = 0.02  # metres; a primitive that reaches closer may fill the image

# columns of the surface table
FRAME, OFFSET, QUADRIC, LINEAR, WRAP = slice(0, 9), slice(9, 12), slice(12, 15), 15, 16
UV = slice(17, 21)  # cos / tile, sin / tile, offsets
TEXTURES, DETAIL, GLOSS, RELIEF, GLOW = slice(21, 23), slice(23, 25), 25, slice(26, 29), 29
COLUMNS = 30
FACES = 4  # surfaces of a primitive: the quadric, then a slab each
SIGNS = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], float)
# local axes that serve as texture u and v and as normal, by face; v runs along y (down) where it can
AXES = np.array([[0, 1, 2], [2, 1, 0], [2, 0, 1], [0, 1, 2]])


@dataclass
class View:
    """The K primitives of a scene that are in view, in the camera's frame: p = rows @ x + offset."""

    primitives: list[Primitive]
    rows: Array  # (K, 3, 3)
    offset: Array  # (K, 3)
    windows: Array  # (K, 4) y0, y1, x0, x1
    half: Array  # (K, 3)
    bound: Array  # (K, 3)
    quadric: Array  # (K, 5)
    normals: Array  # (K, 3, 3)


def camera_rays(
    camera: Camera, height: int, width: int, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[Array, Array, float]:
    """Return the rays' x (W,) and y (H,) at pixel centres moved by `shift` pixels, and f in pixels."""
    longer = max(height, width)
    focal = camera.focal * longer
    x = (np.arange(width) + 0.5 + shift[0] - width / 2 - camera.shift[0] * longer) / focal
    y = (np.arange(height) + 0.5 + shift[1] - height / 2 - camera.shift[1] * longer) / focal
    return x, y, focal


def _windows(rows: Array, offset: Array, bound: Array, x: Array, y: Array) -> Array:
    """Return the pixel windows (K, 4) that hold the bounding boxes; empty where out of view."""
    finite = np.where(np.isfinite(bound), bound, HUGE)
    local = SIGNS * finite[:, None] - offset[:, None]
    corners = np.einsum("kij,kci->kcj", rows, local)  # rows are orthonormal: the inverse is the transpose
    z = corners[..., 2]
    safe = np.maximum(z, NEAR)
    px, py = corners[..., 0] / safe, corners[..., 1] / safe
    out = np.stack(
        [
            np.searchsorted(y, py.min(1)),
            np.searchsorted(y, py.max(1), side="right"),
            np.searchsorted(x, px.min(1)),
            np.searchsorted(x, px.max(1), side="right"),
        ],
        1,
    )
    out[z.min(1) <= NEAR] = 0, len(y), 0, len(x)
    out[z.max(1) <= NEAR] = 0
    return out


def view_of(scene: Scene, x: Array, y: Array) -> View:
    """Return what is in view of the scene's camera, the backdrop first, then by size, masks last."""
    primitives = [scene.backdrop, *scene.primitives]
    camera = scene.camera
    rows = np.stack([p.rotation for p in primitives]) @ camera.rotation.T
    away = np.stack([p.center for p in primitives]) - camera.position
    offset = -np.einsum("kij,kj->ki", rows, away @ camera.rotation.T)
    bound = np.stack([p.bound for p in primitives])
    windows = _windows(rows, offset, bound, x, y)
    windows[0] = 0, len(y), 0, len(x)
    area = (windows[:, 1] - windows[:, 0]) * (windows[:, 3] - windows[:, 2])
    area[0] = len(x) * len(y) + 1
    # large windows first, masks last, so that the slots of a batch are alike
    masked = np.array([p.mask is not None for p in primitives])
    order = [k for k in np.lexsort((-area, masked)) if area[k] > 0]
    primitives = [primitives[k] for k in order]
    return View(
        primitives,
        rows[order],
        offset[order],
        windows[order],
        np.minimum(np.stack([p.half for p in primitives]), HUGE),
        bound[order],
        np.array([p.quadric for p in primitives]),
        np.stack([p.normals for p in primitives]),
    )


def _material_rows(materials: list[Material]) -> Array:
    """Return the columns from UV on (K, COLUMNS - UV.start)."""
    return np.array(
        [
            [
                np.cos(m.angle) / m.tile,
                np.sin(m.angle) / m.tile,
                *m.offset,
                m.texture,
                m.detail,
                m.detail_ratio,
                m.detail_weight,
                m.gloss,
                m.relief,
                m.relief_ratio,
                m.relief_depth,
                m.glow,
            ]
            for m in materials
        ]
    )


def surface_table(view: View) -> Array:
    """Return the surface table (COLUMNS, K * FACES)."""
    count = len(view.primitives)
    table = np.zeros((count, FACES, COLUMNS), np.float32)
    axes = np.eye(3)[AXES].repeat(count, 0).reshape(FACES, count, 3, 3).swapaxes(0, 1)
    axes[:, 1:, 2] = view.normals
    table[:, :, FRAME] = (axes @ view.rows[:, None]).reshape(count, FACES, 9)
    table[:, :, OFFSET] = np.einsum("kfij,kj->kfi", axes, view.offset)
    table[:, 0, QUADRIC], table[:, 0, LINEAR] = view.quadric[:, :3], view.quadric[:, 3]
    table[:, 1:, LINEAR] = 1.0
    flat = np.array([p.mask is not None for p in view.primitives])
    table[:, 0, WRAP] = np.where(flat, 0.0, np.minimum(view.bound[:, :2].max(1), 1e3))
    materials = [p.material for p in view.primitives if p.material is not None]
    table[:, :, UV.start :] = _material_rows(materials)[:, None]
    return table.reshape(-1, COLUMNS).T


def _quadrics(view: View) -> Array:
    """Return the quadrics in the camera's frame (K, 10): xx yy zz xy xz yz, bx by bz, c."""
    q, linear, constant = view.quadric[:, :3], view.quadric[:, 3], view.quadric[:, 4]
    q = np.where(q.any(1, keepdims=True), q, HUGE**-2)
    a = np.einsum("kli,kl,klj->kij", view.rows, q, view.rows)
    b = np.einsum("kli,kl->ki", view.rows, q * view.offset) + linear[:, None] * view.rows[:, 2]
    c = (q * view.offset**2).sum(1) + 2 * linear * view.offset[:, 2] + constant
    out = np.stack([a[:, 0, 0], a[:, 1, 1], a[:, 2, 2], a[:, 0, 1], a[:, 0, 2], a[:, 1, 2], *b.T, c], 1)
    return out / np.maximum(np.abs(c), 1e-9)[:, None]  # the surface is the same; float32 stays in range


def geometry(view: View) -> Array:
    """Return (K, 10 + 15 + 12): quadric; slab normals, middles and halves; bounding ellipsoid."""
    count = len(view.primitives)
    normals = view.normals @ view.rows
    middles = -np.einsum("kij,kj->ki", view.normals, view.offset)
    solid = np.isfinite(view.bound).all(1)
    scale = np.where(solid[:, None], 1 / (1.2 * np.where(solid[:, None], view.bound, 1.0) + 0.05), 0.0)
    ball = np.where(solid[:, None], view.offset * scale, 9.0)
    return np.concatenate(
        [
            _quadrics(view),
            normals.reshape(count, 9),
            middles,
            view.half,
            (view.rows * scale[:, :, None]).reshape(count, 9),
            ball,
        ],
        1,
    )


# what stands for a primitive that a scene lacks: a quadric with no inside, slabs that are not there
NOTHING = np.concatenate(
    [np.eye(10)[9], np.tile([0, 0, 1.0], 3), np.zeros(3), np.full(3, HUGE), np.zeros(9), np.full(3, 9.0)]
)
