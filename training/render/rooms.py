# SPDX-License-Identifier: Apache-2.0
"""Plans of random rooms: size, what furniture stands where, lamps, windows and cameras, from a seed alone.

A room's floor is y = 0; it reaches from -half to +half along x and z. Metres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.data.procedural_random import Draw
from training.render.furniture import Piece

GAP = 0.04  # between pieces, and of what hangs from the ceiling
SMALL = 0.6  # metres: what is no longer stands on tables rather than on the floor
TRIES = 12


@dataclass(frozen=True)
class Placed:
    """A piece with the middle of its foot at (x, y, z); yaw turns its front from +z towards +x."""

    piece: Piece
    x: float
    y: float
    z: float
    yaw: float


@dataclass(frozen=True)
class Opening:
    """A window: wall 0 to 3 (-z, +x, +z, -x), middle along the wall and heights of sill and lintel."""

    wall: int
    middle: float
    width: float
    sill: float
    lintel: float


@dataclass(frozen=True)
class RoomPlan:
    """half: of the floor along x and z; lamps: (x, z, side) of square panels under the ceiling."""

    half: tuple[float, float]
    height: float
    placed: tuple[Placed, ...]
    windows: tuple[Opening, ...]
    lamps: tuple[tuple[float, float, float], ...]


def plan_room(draw: Draw, pieces: Sequence[Piece]) -> RoomPlan:
    """Furnish a room with some of the pieces, none through another or through a wall."""
    half = (draw.uniform(1.4, 3.5), draw.uniform(1.4, 3.5))
    height = draw.uniform(2.3, 3.0)
    floor = _Floor(half)
    placed: list[Placed] = []
    standing = [piece for piece in pieces if piece.elevation < 0.1 and max(piece.size) > SMALL]
    hanging = [
        piece for piece in pieces if piece.elevation >= 0.1 and piece.elevation + piece.size[1] < height
    ]
    small = [piece for piece in pieces if piece.elevation < 0.1 and max(piece.size) <= SMALL]
    area = 4 * half[0] * half[1]
    for _ in range(round(area * draw.uniform(0.4, 1.1)) + 2):
        _stand(draw, floor, _pick(draw, standing, height), placed)
    for _ in range(draw.integer(1, 5)):
        _hang(draw, half, height, _pick(draw, hanging, height), placed)
    _stand_on_top(draw, small, placed)
    for _ in range(draw.integer(0, 6)):
        _stand(draw, floor, _pick(draw, small, height), placed)
    lamps = tuple(
        (draw.uniform(-0.6, 0.6) * half[0], draw.uniform(-0.6, 0.6) * half[1], draw.uniform(0.2, 0.7))
        for _ in range(draw.integer(1, 3))
    )
    return RoomPlan(half, height, tuple(placed), _windows(draw, half, height), lamps)


def _pick(draw: Draw, pieces: Sequence[Piece], height: float) -> Piece | None:
    fitting = [piece for piece in pieces if piece.size[1] < height - GAP]
    return draw.pick(fitting) if fitting else None


class _Floor:
    """Which rectangles of the floor are taken."""

    def __init__(self, half: tuple[float, float]) -> None:
        self.half = half
        self._taken: list[tuple[float, float, float, float]] = []

    def take(self, x: float, z: float, across: float, along: float) -> bool:
        """Take a rectangle about (x, z) of the given half sides, if it is free and inside."""
        if abs(x) + across > self.half[0] or abs(z) + along > self.half[1]:
            return False
        for left, far, other_across, other_along in self._taken:
            if abs(x - left) < across + other_across + GAP and abs(z - far) < along + other_along + GAP:
                return False
        self._taken.append((x, z, across, along))
        return True


def _footprint(piece: Piece, yaw: float) -> tuple[float, float]:
    """Half sides along x and z of the box about a turned piece."""
    c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
    return (piece.size[0] * c + piece.size[2] * s) / 2, (piece.size[0] * s + piece.size[2] * c) / 2


def wall_yaw(wall: int) -> float:
    """The yaw of a piece whose back is to the wall: 0 looks along +z from the wall at -z, and so on round."""
    return -wall * math.pi / 2


def at_wall(wall: int, half: tuple[float, float], middle: float, inward: float) -> tuple[float, float]:
    """(x, z) of a point `middle` along the wall (by +x or +z) and `inward` metres from it."""
    x, z = half
    return ((middle, inward - z), (x - inward, middle), (middle, z - inward), (inward - x, middle))[wall]


def _stand(draw: Draw, floor: _Floor, piece: Piece | None, placed: list[Placed]) -> None:
    """Put a piece on the floor, with its back to a wall more often than not, if a free place is found."""
    for _ in range(TRIES if piece else 0):
        assert piece is not None
        if draw.chance(0.65):
            wall = draw.integer(0, 3)
            yaw = wall_yaw(wall)
            room = floor.half[wall % 2]
            x, z = at_wall(wall, floor.half, draw.uniform(-room, room), piece.size[2] / 2 + 0.01)
        else:
            yaw = draw.turn()
            x, z = (draw.uniform(-side, side) for side in floor.half)
        if floor.take(x, z, *_footprint(piece, yaw)):
            placed.append(Placed(piece, x, 0.0, z, yaw))
            return


def _hang(
    draw: Draw, half: tuple[float, float], height: float, piece: Piece | None, placed: list[Placed]
) -> None:
    """Hang a piece on a wall; what reaches the ceiling's height hangs in the middle."""
    if piece is None:
        return
    if piece.elevation + piece.size[1] > height - 0.5 and piece.elevation > 1.5:
        x, z = (draw.uniform(-0.5, 0.5) * side for side in half)
        placed.append(Placed(piece, x, height - piece.size[1] - GAP / 4, z, draw.turn()))
        return
    wall = draw.integer(0, 3)
    room = half[wall % 2] - piece.size[0] / 2
    if room > 0:
        x, z = at_wall(wall, half, draw.uniform(-room, room), piece.size[2] / 2 + 0.005)
        placed.append(Placed(piece, x, piece.elevation, z, wall_yaw(wall)))


def _stand_on_top(draw: Draw, small: Sequence[Piece], placed: list[Placed]) -> None:
    """Stand small pieces on tables, sideboards and shelves."""
    for below in [item for item in placed if item.y == 0 and item.piece.shelf > 0.2]:
        for _ in range(draw.integer(0, 3) if small else 0):
            piece = draw.pick(small)
            across, along = (
                (below.piece.size[axis] - max(piece.size[0], piece.size[2])) / 2 for axis in (0, 2)
            )
            if min(across, along) > 0:
                u, w = draw.uniform(-across, across), draw.uniform(-along, along)
                c, s = math.cos(below.yaw), math.sin(below.yaw)
                x, z = below.x + c * u + s * w, below.z - s * u + c * w
                placed.append(Placed(piece, x, below.piece.shelf, z, draw.turn()))


def _windows(draw: Draw, half: tuple[float, float], height: float) -> tuple[Opening, ...]:
    """None to two windows, each in a wall of its own."""
    found: list[Opening] = []
    for wall in range(4):
        if len(found) < 2 and draw.chance(0.35):
            width = draw.uniform(0.6, 1.8)
            room = half[wall % 2] - width / 2 - 0.1
            sill = draw.uniform(0.3, 1.1)
            found.append(
                Opening(wall, draw.uniform(-room, room), width, sill, draw.uniform(sill + 0.7, height - 0.15))
            )
    return tuple(found)
