# SPDX-License-Identifier: Apache-2.0
"""What a scene is made of: convex primitives, materials, masks, lights and a camera, on the host in NumPy.

World frame: x right, y DOWN, z forward, metres; the floor of a scene is y = 0. A primitive is the set of
points inside up to three slabs and one quadric, all given in its local frame: this covers boxes, cards,
ellipsoids, (elliptic) cylinders, paraboloids, domes, prisms, and, seen from inside, rooms and tunnels.
"""

from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray
LUT_SIZE = 16  # colours of a material's palette
RADII = 64  # samples of a mask's outline

NO_QUADRIC = (0.0, 0.0, 0.0, 0.0, -1.0)


@dataclass
class Material:
    """How a surface looks: a palette indexed by one texture, a second texture, gloss and relief."""

    palette: Array  # (LUT_SIZE, 3) linear albedo
    texture: int = 0
    tile: float = 1.0  # metres a tile of the first texture
    angle: float = 0.0  # radians
    offset: tuple[float, float] = (0.0, 0.0)  # tiles
    detail: int = 0
    detail_ratio: float = 5.0  # tiles of the second texture in one of the first
    detail_weight: float = 0.0
    gloss: float = 0.0
    relief: int = 0
    relief_ratio: float = 1.0
    relief_depth: float = 0.0  # share of the depth by which texture value 1 stands out
    glow: float = 0.0  # light of its own, in units of its albedo


@dataclass
class Mask:
    """Which part of a card exists, in units of its half extent: an AND of outline, ring, texture and bars."""

    outline: Array | None = None  # (RADII,) radius over angle
    ring: float = 0.0  # inner radius as a share of the outline
    spokes: tuple[int, float] = (0, 0.0)  # count, width as a share of the gap; seen inside the ring's hole
    texture: int = -1
    texture_scale: float = 1.0  # tiles over the half extent
    texture_offset: tuple[float, float] = (0.0, 0.0)
    threshold: float = 0.5
    skyline: float = 0.0  # > 0: exists below the curve v = -1 + skyline * texture(u)
    bars: tuple[float, float, float] = (0.0, 0.0, 0.0)  # bars a half extent along u and v (0: none), width


@dataclass
class Primitive:
    """A convex solid; see the module's text. Local coordinates p = rotation @ (x - center)."""

    center: Array  # (3,)
    rotation: Array  # (3, 3) rows are the local axes
    half: Array  # (3,) half widths of the slabs; inf: no slab
    bound: Array  # (3,) half extents of a local box around it; inf: everywhere
    quadric: tuple[float, float, float, float, float] = (
        NO_QUADRIC  # q0 x^2 + q1 y^2 + q2 z^2 + 2 l z + c <= 0
    )
    normals: Array = field(default_factory=lambda: np.eye(3))  # (3, 3) rows: slab normals, local
    material: Material | None = None
    mask: Mask | None = None
    inside: bool = False  # seen from within: the far side is the surface
    shadow: bool = True


@dataclass
class Light:
    """One directional or point light."""

    direction: Array  # (3,) unit, towards the light, world
    color: Array  # (3,)
    ambient: Array  # (3,) from above
    bounce: Array  # (3,) from below
    point: bool = False
    position: Array = field(default_factory=lambda: np.zeros(3))
    shadows: bool = True
    softness: float = 0.0  # share of light left in a shadow
    blur: float = 0.01  # spread of the light's direction: width of the half shadow
    occlusion: float = 0.5  # strength of the darkening where things stand close
    gobo: int = -1  # texture that darkens the light as leaves or window bars do; -1: none
    gobo_tile: float = 1.0
    gobo_threshold: float = 0.5
    gobo_soft: float = 0.1


@dataclass
class Camera:
    """A pinhole: focal length, and principal point from the middle, in units of the image's longer side."""

    position: Array
    rotation: Array  # (3, 3) rows: camera axes (right, down, forward) in world
    focal: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass
class Scene:
    """All of one sample. The backdrop is the one primitive seen from inside: a room, a tunnel, the air."""

    backdrop: Primitive
    primitives: list[Primitive]
    light: Light
    camera: Camera
    unit: float = 1.0  # metres a world unit: depth is multiplied by it
    far: float = 300.0  # world units; beyond: no surface
    fog: float = 0.0  # 1 / world unit
    sky: Array = field(default_factory=lambda: np.ones((2, 3)))  # (2, 3) horizon, zenith
    clouds: float = 0.0
    cloud_texture: int = 0


def rotation_from(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Array:
    """Return the rows of a frame turned by angles in radians.

    Yaw turns forward (+z) towards right (+x), pitch turns it towards down (+y), roll leans right down.
    """
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    lean = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return lean @ tilt @ turn


def frame_along(axis: Array) -> Array:
    """Return a frame (3, 3) whose third row is `axis`, normalised."""
    third = axis / np.linalg.norm(axis)
    other = np.array([1.0, 0, 0]) if abs(third[0]) < 0.8 else np.array([0, 1.0, 0])
    first = np.cross(other, third)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(third, first), third])


def box(center: Array, half: Array, rotation: Array, material: Material, **extra: object) -> Primitive:
    """A box; with a zero in `half`, a card."""
    half = np.asarray(half, float)
    return Primitive(np.asarray(center, float), rotation, half, half.copy(), material=material, **extra)  # type: ignore[arg-type]


def ellipsoid(
    center: Array, radii: Array, rotation: Array, material: Material, cut: float = 1.0
) -> Primitive:
    """An ellipsoid; `cut` < 1 takes its caps off along the local third axis."""
    radii = np.asarray(radii, float)
    half = np.array([np.inf, np.inf, cut * radii[2] if cut < 1 else np.inf])
    q = 1 / radii**2
    return Primitive(
        np.asarray(center, float),
        rotation,
        half,
        radii.copy(),
        (q[0], q[1], q[2], 0.0, -1.0),
        material=material,
    )


def cylinder(start: Array, end: Array, radius: float, material: Material, flat: float = 1.0) -> Primitive:
    """A capped cylinder between two points; `flat` scales its second radius."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    half = np.linalg.norm(end - start) / 2
    return Primitive(
        (start + end) / 2,
        frame_along(end - start),
        np.array([np.inf, np.inf, half]),
        np.array([radius, radius * flat, half]),
        (radius**-2, (radius * flat) ** -2, 0.0, 0.0, -1.0),
        material=material,
    )


def bowl(base: Array, height: float, radius: float, material: Material, up: bool = True) -> Primitive:
    """A paraboloid standing on `base`: a dome or cone-like crown (up), or a bowl, vase or lampshade."""
    base = np.asarray(base, float)
    axis = np.array([0, 1.0, 0]) if up else np.array([0, -1.0, 0])
    # local z runs from the middle to the wide end: x^2 + y^2 <= r^2 (z + h/2) / h
    k = radius**2 / height
    return Primitive(
        base + np.array([0, -height / 2, 0]),
        frame_along(axis),
        np.array([np.inf, np.inf, height / 2]),
        np.array([radius, radius, height / 2]),
        (1.0, 1.0, 0.0, -k / 2, -k * height / 2),
        material=material,
    )


def prism(center: Array, half: Array, yaw: float, material: Material, slope: float = 1.0) -> Primitive:
    """A block of three oblique slabs: roofs, rocks, leaning crates. `slope` skews two of the faces."""
    half = np.asarray(half, float)
    normals = np.array([[1.0, slope, 0], [1.0, -slope, 0], [0, 0, 1.0]])
    normals[:2] /= np.sqrt(1 + slope**2)
    reach = np.array([1.0, 1 / max(slope, 0.1), 1.0]) * half[0] * np.sqrt(1 + slope**2)
    reach[2] = half[2]
    widths = np.array([half[0], half[0], half[2]])
    return Primitive(
        np.asarray(center, float), rotation_from(yaw), widths, reach, normals=normals, material=material
    )


def curved_card(
    center: Array,
    half: tuple[float, float],
    rotation: Array,
    radius: float,
    material: Material,
    mask: Mask | None,
    both: bool = False,
) -> Primitive:
    """A sheet that bulges along local -z with this radius of curvature: cylinder, or sphere if `both`."""
    depth = max(half) ** 2 / radius
    return Primitive(
        np.asarray(center, float),
        rotation,
        np.array([half[0], half[1], 1.01 * depth]),
        np.array([half[0], half[1], depth]),
        (1.0, 1.0 if both else 0.0, 1.0, -radius, 0.0),
        material=material,
        mask=mask or Mask(),
    )
