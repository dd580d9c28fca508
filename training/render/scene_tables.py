# SPDX-License-Identifier: Apache-2.0
"""A scene as arrays on Mitsuba's side: finds the surface that a ray meets, and reads its material there."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from training.render import backend
from training.render.geometry import SceneBuilder

MAX_LAYERS = 48  # transparent surfaces that one ray goes through; it is stopped by the next
STEP = 2e-5  # how far behind a surface a ray goes on, as a share of its distance, and
MIN_STEP = 2e-5  # at least, metres


class Hit(NamedTuple):
    """Where rays meet surfaces: distance, triangle, barycentric weights of its second and third corner."""

    valid: Any
    t: Any
    face: Any
    uv: Any


class Surface(NamedTuple):
    """Material and normals at hits; both normals have unit length and face the ray's origin."""

    albedo: Any
    normal: Any
    face_normal: Any
    reflectance: Any
    roughness: Any
    glow: Any


class Tables:
    """Triangles, materials and texels of a scene, to gather from, and its ray caster."""

    def __init__(self, scene: SceneBuilder) -> None:
        self._mi, self._dr = mi, _ = backend.start()
        triangles = scene.triangles()
        self._faces = mi.UInt32(triangles.faces.ravel())
        self._vertices = mi.Float(triangles.vertices.ravel())
        self._normals = mi.Float(triangles.normals.ravel())
        self._uv = mi.Float(triangles.uv.ravel())
        packed = (triangles.colors.astype(np.uint32) << np.array([0, 8, 16], np.uint32)).sum(1)
        self._colors = mi.UInt32(packed.astype(np.uint32))
        self._material = mi.UInt32(triangles.materials)
        self._fill_materials(scene)
        self._scene = self._caster(len(triangles.vertices), len(triangles.faces))

    def _fill_materials(self, scene: SceneBuilder) -> None:
        mi = self._mi
        texels = [np.ascontiguousarray(image).view(np.uint32).ravel() for image in scene.textures]
        begins = np.cumsum([0] + [len(part) for part in texels[:-1]])
        self._texels = mi.UInt32(np.concatenate(texels))
        rows = [[begins[m.texture], *scene.textures[m.texture].shape[1::-1]] for m in scene.materials]
        self._extent = mi.UInt32(np.array(rows, np.uint32).ravel())
        looks = [[*m.color, m.opacity, m.reflectance, m.roughness, m.glow, 0.0] for m in scene.materials]
        self._looks = mi.Float(np.array(looks, np.float32).ravel())

    def _caster(self, vertices: int, faces: int) -> Any:
        mi = self._mi
        mesh = mi.Mesh("scene", vertices, faces)
        parameters = mi.traverse(mesh)
        parameters["vertex_positions"] = self._vertices
        parameters["faces"] = self._faces
        parameters.update()
        return mi.load_dict({"type": "scene", "mesh": mesh})

    def nearest(self, origin: Any, direction: Any, limit: Any, generator: Any, active: Any = True) -> Hit:
        """The first surface within `limit` metres that stops the ray.

        A surface of opacity a stops a share a of the rays, drawn by `generator`; without one it stops all
        where a is at least a half.
        """
        mi, dr = self._mi, self._dr
        active = mi.Bool(active)
        random = generator is not None

        def march(active: Any, start: Any, face: Any, uv: Any, found: Any, layer: Any, generator: Any) -> Any:
            ray = mi.Ray3f(origin + direction * start, direction)
            near = self._scene.ray_intersect_preliminary(ray, coherent=False, active=active)
            met = active & near.is_valid() & (start + near.t < limit)
            threshold = generator.next_float32(active) if random else 0.5 - 1e-6
            opacity = self._opacity(near.prim_index, near.prim_uv, met)
            stops = met & ((opacity > threshold) | (layer >= MAX_LAYERS))
            at = start + near.t
            face = dr.select(stops, near.prim_index, face)
            uv = dr.select(stops, near.prim_uv, uv)
            found |= stops
            on = met & ~stops
            start = dr.select(stops, at, dr.select(on, at + dr.maximum(MIN_STEP, at * STEP), start))
            return on, start, face, uv, found, layer + 1, generator

        count = dr.width(direction)
        zeros = dr.zeros(mi.Float, count)
        state = (
            mi.Bool(active & dr.full(mi.Bool, True, count)),
            zeros,
            dr.zeros(mi.UInt32, count),
            dr.zeros(mi.Point2f, count),
            dr.full(mi.Bool, False, count),
            dr.zeros(mi.UInt32, count),
            generator if random else mi.UInt32(0),
        )
        _, t, face, uv, found, _, used = dr.while_loop(state, lambda active, *_: active, march)
        if random:
            generator.state = used.state  # the loop works on a copy: else its numbers would be drawn again
        return Hit(found, dr.select(found, t, math.inf), face, uv)

    def _corners(self, face: Any, active: Any) -> tuple[Any, Any, Any]:
        corners = self._dr.gather(self._mi.Vector3u, self._faces, face, active)
        return corners.x, corners.y, corners.z

    def _blend(self, table: Any, kind: Any, corners: tuple[Any, Any, Any], uv: Any, active: Any) -> Any:
        a, b, c = (self._dr.gather(kind, table, corner, active) for corner in corners)
        return a * (1 - uv.x - uv.y) + b * uv.x + c * uv.y

    def _texel(self, row: Any, uv: Any, active: Any) -> Any:
        mi, dr = self._mi, self._dr
        extent = dr.gather(mi.Vector3u, self._extent, row, active)
        wrapped = uv - dr.floor(uv)
        x = dr.minimum(mi.UInt32(wrapped.x * mi.Float(extent.y)), extent.y - 1)
        y = dr.minimum(mi.UInt32(wrapped.y * mi.Float(extent.z)), extent.z - 1)
        return dr.gather(mi.UInt32, self._texels, extent.x + y * extent.y + x, active)

    def _opacity(self, face: Any, uv: Any, active: Any) -> Any:
        mi, dr = self._mi, self._dr
        row = dr.gather(mi.UInt32, self._material, face, active)
        at = self._blend(self._uv, mi.Point2f, self._corners(face, active), uv, active)
        alpha = mi.Float(self._texel(row, at, active) >> 24) / 255
        return alpha * dr.gather(mi.Float, self._looks, row * 8 + 3, active)

    def surface(self, hit: Hit, direction: Any) -> Surface:
        """Material and normals at hits of rays along `direction`."""
        mi, dr = self._mi, self._dr
        face, uv, active = hit.face, hit.uv, hit.valid
        corners = self._corners(face, active)
        a, b, c = (dr.gather(mi.Point3f, self._vertices, corner, active) for corner in corners)
        face_normal = _towards(dr, _unit(dr, dr.cross(b - a, c - a)), direction)
        normal = _unit(dr, self._blend(self._normals, mi.Vector3f, corners, uv, active))
        # of a mesh with normals of both signs, the side that the triangle shows
        normal = dr.select(dr.dot(normal, face_normal) < 0, -normal, normal)
        normal = dr.select(dr.dot(normal, direction) < -0.02, normal, face_normal)
        row = dr.gather(mi.UInt32, self._material, face, active)
        texel = self._texel(row, self._blend(self._uv, mi.Point2f, corners, uv, active), active)
        tint = self._color(corners, uv, active)
        looks = [dr.gather(mi.Float, self._looks, row * 8 + k, active) for k in range(7)]
        albedo = self._linear(texel) * tint * mi.Color3f(*looks[:3])
        return Surface(dr.minimum(albedo, 0.95), normal, face_normal, *looks[4:7])

    def _color(self, corners: tuple[Any, Any, Any], uv: Any, active: Any) -> Any:
        a, b, c = (
            self._bytes(self._dr.gather(self._mi.UInt32, self._colors, corner, active)) for corner in corners
        )
        return a * (1 - uv.x - uv.y) + b * uv.x + c * uv.y

    def _bytes(self, packed: Any) -> Any:
        mi = self._mi
        return mi.Color3f(*(mi.Float((packed >> shift) & 255) / 255 for shift in (0, 8, 16)))

    def _linear(self, packed: Any) -> Any:
        """Linear RGB of an sRGB texel, by a cubic that is within 0.002 of the standard's curve."""
        x = self._bytes(packed)
        return x * (x * (x * 0.305306011 + 0.682171111) + 0.012522878)


def _unit(dr: Any, vector: Any) -> Any:
    return vector * dr.rsqrt(dr.maximum(dr.squared_norm(vector), 1e-20))


def _towards(dr: Any, normal: Any, direction: Any) -> Any:
    return dr.select(dr.dot(normal, direction) > 0, -normal, normal)
