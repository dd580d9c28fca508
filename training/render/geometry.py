# SPDX-License-Identifier: Apache-2.0
"""A scene for the integrator: one triangle soup with materials and textures, lights, and the credits it owes.

World frame: x right, y up, z backward (right-handed), metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
OPAQUE, CUTOUT, BLEND = "opaque", "cutout", "blend"  # what a texture's alpha means
WHITE_TEXEL = np.full((1, 1, 4), 255, np.uint8)


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    texture: row of `SceneBuilder.textures`, sRGB and alpha, which `color` (linear RGB) multiplies; opacity:
    times the texture's alpha; reflectance: of light from the front that is mirrored, 0 to 1; roughness: 0
    mirrors, 1 is dull;
    glow: light of its own, in units of its colour.
    """

    texture: int = 0
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    opacity: float = 1.0
    reflectance: float = 0.0
    roughness: float = 0.5
    glow: float = 0.0


@dataclass(frozen=True)
class Panel:
    """A rectangle that shines to one side: a lamp or a window. Corner, two edges (metres), radiance RGB."""

    corner: Array
    edges: Array  # (2, 3); their cross product points to the lit side
    radiance: Array


@dataclass(frozen=True)
class Lighting:
    """Sun and sky in linear RGB, panels, and the light that has bounced too often to be followed.

    sky: (3, 3) radiance at the zenith, at the horizon and below it. sun: irradiance (3,) of a surface that
    faces it; zero is none. inside: the sky reaches surfaces by the panels alone.
    """

    sun_direction: Array  # (3,) unit, towards the sun
    sun: Array
    sun_size: float  # radians, of its radius
    sky: Array
    ambient: Array
    panels: tuple[Panel, ...] = ()
    clouds: float = 0.0  # share of the sky that they cover, about
    cloud_seed: float = 0.0

    @property
    def inside(self) -> bool:
        return bool(self.panels)


@dataclass(frozen=True)
class Camera:
    """A pinhole: eye (3,), rotation (3, 3) whose columns are right, down and forward in the world."""

    eye: Array
    rotation: Array
    fov_x_deg: float


def camera_at(eye: Sequence[float], yaw: float, pitch: float, roll: float, fov_x_deg: float) -> Camera:
    """Looks along -z at yaw 0, to the left with positive yaw, up with positive pitch; radians."""
    forward = np.array([-np.sin(yaw) * np.cos(pitch), np.sin(pitch), -np.cos(yaw) * np.cos(pitch)])
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    turned = np.cos(roll) * right + np.sin(roll) * down
    axes = np.stack([turned, np.cross(forward, turned), forward], axis=1)
    return Camera(np.asarray(eye, np.float32), axes.astype(np.float32), fov_x_deg)


@dataclass(frozen=True)
class Triangles:
    """vertices, normals (V, 3), uv (V, 2), colors (V, 3) uint8, faces (F, 3), materials (F,) rows."""

    vertices: Array
    normals: Array
    uv: Array
    colors: npt.NDArray[np.uint8]
    faces: npt.NDArray[np.uint32]
    materials: npt.NDArray[np.uint32]


@dataclass
class SceneBuilder:
    """Collects triangles, materials and textures; row 0 of both tables is plain white."""

    materials: list[Material] = field(default_factory=lambda: [Material()])
    textures: list[npt.NDArray[np.uint8]] = field(default_factory=lambda: [WHITE_TEXEL])
    credits: set[str] = field(default_factory=set)
    _parts: list[Triangles] = field(default_factory=list)

    def texture(self, rgba: npt.NDArray[np.uint8]) -> int:
        """Row of a new texture, (H, W, 4) uint8."""
        self.textures.append(rgba)
        return len(self.textures) - 1

    def material(self, material: Material) -> int:
        """Row of a new material."""
        self.materials.append(material)
        return len(self.materials) - 1

    def add(self, vertices: Array, faces: npt.NDArray, material: int, **attributes: npt.NDArray) -> None:
        """Add the triangles of one material; normals that are zero or not given become those of the faces."""
        count = len(vertices)
        normals = attributes.get("normals", np.zeros((count, 3), np.float32))
        uv = attributes.get("uv", np.zeros((count, 2), np.float32))
        colors = attributes.get("colors", np.full((count, 3), 255, np.uint8))
        if not normals.any():
            normals = smooth_normals(vertices, faces)
        rows = np.full(len(faces), material, np.uint32)
        self._parts.append(
            Triangles(
                vertices.astype(np.float32),
                normals.astype(np.float32),
                uv.astype(np.float32),
                colors,
                faces.astype(np.uint32),
                rows,
            )
        )

    def triangles(self) -> Triangles:
        """All that was added, as one."""
        shifts = np.cumsum([0] + [len(part.vertices) for part in self._parts[:-1]])
        faces = [part.faces + np.uint32(shift) for part, shift in zip(self._parts, shifts, strict=True)]
        return Triangles(
            np.concatenate([part.vertices for part in self._parts]),
            np.concatenate([part.normals for part in self._parts]),
            np.concatenate([part.uv for part in self._parts]),
            np.concatenate([part.colors for part in self._parts]),
            np.concatenate(faces),
            np.concatenate([part.materials for part in self._parts]),
        )


def smooth_normals(vertices: Array, faces: npt.NDArray) -> Array:
    """(V, 3) unit normals: the mean of the faces at a vertex, by their area."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(total, faces[:, corner], across)
    return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def prepare_texture(image: npt.NDArray[np.uint8], mode: str, largest: int) -> npt.NDArray[np.uint8]:
    """RGBA (H, W, 4) of at most `largest` pixels a side; alpha is 0 or 255 in a cutout, 255 where opaque."""
    import cv2

    scale = largest / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    image = image.copy()
    if mode == OPAQUE:
        image[..., 3] = 255
    elif mode == CUTOUT:
        image[..., 3] = np.where(image[..., 3] >= 128, 255, 0)
    return image
