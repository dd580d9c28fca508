# SPDX-License-Identifier: Apache-2.0
"""Where a game track can be driven, from quads.xml: each quad a place and a way to look."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from depth_sr_ros.errors import DataError

CORNERS = ("p0", "p1", "p2", "p3")


def read_quads(path: Path) -> npt.NDArray[np.float64]:
    """(N, 4, 3) corners in the game's frame: p0 and p1 are the near side, p2 and p3 the far one; metres.

    A corner is "x y z", or "i:j", which repeats corner j of quad i. DataError where a quad has neither.
    """
    quads: list[list[npt.NDArray[np.float64]]] = []
    try:
        for node in ElementTree.parse(path).getroot().iter("quad"):
            quads.append([_corner(node.attrib[name], quads) for name in CORNERS])
    except (ElementTree.ParseError, OSError, KeyError, ValueError, IndexError) as error:
        raise DataError(f"{path}: quad {len(quads)} cannot be read ({error})") from None
    if not quads:
        raise DataError(f"{path}: has no quad")
    return np.array(quads)


def _corner(text: str, quads: list[list[npt.NDArray[np.float64]]]) -> npt.NDArray[np.float64]:
    if ":" in text:
        quad, corner = (int(part) for part in text.split(":"))
        return quads[quad][corner]
    x, y, z = (float(part) for part in text.split())
    return np.array([x, y, z])


def spot(
    quads: npt.NDArray[np.float64], index: int, along: float, across: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A point on quad `index` and its unit forward direction; along and across are shares in [0, 1]."""
    p0, p1, p2, p3 = quads[index]
    near, far = p0 + (p1 - p0) * across, p3 + (p2 - p3) * across
    forward = (p2 + p3 - p0 - p1) / 2
    length = np.linalg.norm(forward)
    return near + (far - near) * along, forward / length if length > 0 else np.array([0.0, 0.0, 1.0])
