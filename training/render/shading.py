# SPDX-License-Identifier: Apache-2.0
"""What light a ray sees: sun, panels and sky, one bounce (diffuse or mirrored), then a constant ambient."""

from __future__ import annotations

import math
from typing import Any

from training.render import backend
from training.render.geometry import Lighting
from training.render.scene_tables import Surface, Tables

LIFT = 1e-4  # of the distance, along the normal, so that a surface does not shade itself
MIRROR_EXPONENT = 2000.0  # of the highlight of a surface of roughness 0


class Shader:
    """Radiance along rays through one scene under its lighting."""

    def __init__(self, tables: Tables, lighting: Lighting) -> None:
        self._mi, self._dr = mi, dr = backend.start()
        self._tables, self._inside = tables, lighting.inside
        self._sunny = bool(lighting.sun.any())
        self._sun_direction = self._vector(lighting.sun_direction)
        self._sun = self._color(lighting.sun)
        self._sun_size = dr.opaque(mi.Float, float(lighting.sun_size))
        self._sky = [self._color(row) for row in lighting.sky]
        self._ambient = self._color(lighting.ambient)
        self._clouds = dr.opaque(mi.Float, float(lighting.clouds))
        self._cloud_seed = dr.opaque(mi.Float, float(lighting.cloud_seed))
        rows = [
            [*panel.corner, *panel.edges[0], *panel.edges[1], *panel.radiance] for panel in lighting.panels
        ]
        self._panels = mi.Float([float(value) for row in rows for value in row])
        self._panel_count = dr.opaque(mi.UInt32, len(rows))

    def _vector(self, values: Any) -> Any:
        return self._mi.Vector3f(*(self._dr.opaque(self._mi.Float, float(v)) for v in values))

    def _color(self, values: Any) -> Any:
        return self._mi.Color3f(*(self._dr.opaque(self._mi.Float, float(v)) for v in values))

    def look(self, origin: Any, direction: Any, generator: Any) -> tuple[Any, Any, Any]:
        """Radiance, albedo (that of the sky is its colour) and normal (zero in the sky) along rays."""
        mi, dr = self._mi, self._dr
        hit = self._tables.nearest(origin, direction, mi.Float(math.inf), generator)
        surface = self._tables.surface(hit, direction)
        point = _lift(origin + direction * hit.t, surface, hit.t)
        mirrored = self._fresnel(surface, direction)
        own = surface.albedo * (surface.glow + self._ambient * self._inside_share())
        lit = own + self._direct(point, direction, surface, generator, hit.valid)
        mirrors = generator.next_float32() < mirrored
        onward = self._bounce(direction, surface, mirrors, generator)
        arriving = self._arriving(point, onward, mirrors, generator, hit.valid)
        lit += dr.select(mirrors, arriving, surface.albedo * arriving)
        sky = self.sky(direction)
        return (
            dr.select(hit.valid, lit, sky),
            dr.select(hit.valid, surface.albedo, dr.minimum(sky, 1)),
            dr.select(hit.valid, surface.normal, mi.Normal3f(0)),
        )

    def _inside_share(self) -> float:
        # the light of three bounces and more; indoors much of a surface's light, outdoors little
        return 0.5 if self._inside else 0.0

    def _fresnel(self, surface: Surface, direction: Any) -> Any:
        """Share of the light that is mirrored, by Schlick; rough surfaces mirror less at a grazing angle."""
        dr = self._dr
        grazing = dr.maximum(1 + dr.dot(surface.normal, direction), 0)
        rise = dr.square(dr.square(grazing)) * grazing
        f0 = surface.reflectance
        # nothing of a surface that mirrors nothing from the front: leaves, cloth and soil
        return f0 + (1 - f0) * rise * dr.square(1 - surface.roughness) * dr.minimum(f0 * 25, 1)

    def _bounce(self, direction: Any, surface: Surface, mirrors: Any, generator: Any) -> Any:
        """Directions of the bounce: about the mirrored ray, else by the cosine about the normal."""
        mi, dr = self._mi, self._dr
        ball = mi.warp.square_to_uniform_sphere(
            mi.Point2f(generator.next_float32(), generator.next_float32())
        )
        normal = surface.normal
        reflected = direction - normal * (2 * dr.dot(direction, normal))
        rough = reflected + ball * (dr.square(surface.roughness) * 0.7)
        onward = dr.normalize(dr.select(mirrors, rough, normal + ball * 0.999))
        # not into the surface
        below = dr.dot(onward, surface.face_normal)
        return dr.select(below < 0, onward - surface.face_normal * (2 * below), onward)

    def _arriving(self, point: Any, direction: Any, mirrors: Any, generator: Any, active: Any) -> Any:
        """Radiance that arrives at the first surface: of the sky or of a second surface."""
        mi, dr = self._mi, self._dr
        hit = self._tables.nearest(point, direction, mi.Float(math.inf), generator, active)
        surface = self._tables.surface(hit, direction)
        second = _lift(point + direction * hit.t, surface, hit.t)
        glow, sky = surface.glow, self.sky(direction)
        if self._inside:
            # lamps and windows show in mirrors alone: their panels have lit the diffuse surfaces already
            glow, sky = dr.select(mirrors, glow, 0), dr.select(mirrors, sky, 0)
        lit = surface.albedo * (glow + self._ambient)
        lit += self._direct(second, direction, surface, generator, hit.valid)
        return dr.select(active, dr.select(hit.valid, lit, sky), 0)

    def _direct(self, point: Any, direction: Any, surface: Surface, generator: Any, active: Any) -> Any:
        total = self._mi.Color3f(0)
        if self._sunny:
            total += self._from_sun(point, direction, surface, generator, active)
        if self._inside:
            total += self._from_panel(point, direction, surface, generator, active)
        return total

    def _from_sun(self, point: Any, direction: Any, surface: Surface, generator: Any, active: Any) -> Any:
        mi, dr = self._mi, self._dr
        ball = mi.warp.square_to_uniform_sphere(
            mi.Point2f(generator.next_float32(), generator.next_float32())
        )
        towards = dr.normalize(self._sun_direction + ball * self._sun_size)
        cosine = dr.maximum(dr.dot(surface.normal, towards), 0)
        lit = active & (cosine > 0) & (dr.dot(surface.face_normal, towards) > 0)
        shaded = self._tables.nearest(point, towards, mi.Float(math.inf), generator, lit).valid
        response = self._response(surface, direction, towards)
        return dr.select(lit & ~shaded, self._sun * response * cosine, 0)

    def _from_panel(self, point: Any, direction: Any, surface: Surface, generator: Any, active: Any) -> Any:
        """Light of one panel, drawn at random, times their number."""
        mi, dr = self._mi, self._dr
        count = self._panel_count
        row = dr.minimum(mi.UInt32(generator.next_float32() * mi.Float(count)), count - 1)
        values = [dr.gather(mi.Vector3f, self._panels, row * 4 + k, active) for k in range(4)]
        corner, first, second, radiance = values
        spot = corner + first * generator.next_float32() + second * generator.next_float32()
        across = dr.cross(first, second)
        away = spot - point
        squared = dr.maximum(dr.squared_norm(away), 1e-3)
        towards = away * dr.rsqrt(squared)
        cosine = dr.maximum(dr.dot(surface.normal, towards), 0)
        # the cross product is as long as the area
        facing = dr.maximum(-dr.dot(across, towards), 0) / squared
        lit = active & (cosine > 0) & (facing > 0) & (dr.dot(surface.face_normal, towards) > 0)
        limit = dr.sqrt(squared) * 0.998
        shaded = self._tables.nearest(point, towards, limit, generator, lit).valid
        strength = dr.minimum(cosine * facing, 10) * mi.Float(count)
        response = self._response(surface, direction, towards)
        return dr.select(lit & ~shaded, mi.Color3f(radiance) * response * strength, 0)

    def _response(self, surface: Surface, direction: Any, towards: Any) -> Any:
        """Diffuse part and highlight (Blinn's, normalised), without the cosine."""
        dr = self._dr
        halfway = dr.normalize(towards - direction)
        exponent = MIRROR_EXPONENT * dr.square(dr.square(1 - surface.roughness)) + 4
        lobe = dr.power(dr.maximum(dr.dot(surface.normal, halfway), 1e-4), exponent)
        highlight = surface.reflectance * (exponent + 8) / (8 * math.pi) * lobe
        return surface.albedo * ((1 - surface.reflectance) / math.pi) + dr.minimum(highlight, 20)

    def sky(self, direction: Any) -> Any:
        """Radiance of the sky: from the zenith to the horizon and below, with soft clouds."""
        dr = self._dr
        zenith, horizon, ground = self._sky
        up = direction.y
        above = dr.lerp(horizon, zenith, dr.sqrt(dr.maximum(up, 0)))
        below = dr.lerp(horizon, ground, dr.minimum(-up * 6, 1))
        # waves over a flat layer of air
        x = direction.x / (dr.abs(up) + 0.15) + self._cloud_seed
        z = direction.z / (dr.abs(up) + 0.15) - self._cloud_seed
        wave = self._mi.Float(0)
        for scale, weight in ((0.7, 0.5), (1.7, 0.28), (3.9, 0.14), (8.3, 0.08)):
            bend = dr.sin(scale * 1.3 * z + 2 * dr.sin(scale * 0.8 * x))
            wave += weight * dr.sin(scale * x + 1.7 * bend)
        cover = dr.clip((wave * 0.5 + self._clouds - 0.3) * 2.5, 0, 1) * dr.clip(up * 5, 0, 1)
        return dr.select(up > 0, dr.lerp(above, zenith * 0.3 + horizon, cover * 0.6), below)


def _lift(point: Any, surface: Surface, distance: Any) -> Any:
    return point + surface.face_normal * (LIFT * (distance + 0.1))
