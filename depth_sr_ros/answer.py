# SPDX-License-Identifier: Apache-2.0
"""What is wanted of a frame and what is answered: metres, millimetres, confidence, a colour picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_sr_ros.colorize import colorize
from depth_sr_ros.image_codec import to_millimetres

MAPS = ("metres", "millimetres", "confidence", "picture")


@dataclass(frozen=True)
class Wanted:
    """The maps that an answer is to have; a GPU makes and downloads these alone.

    `metres`: float32 HxW. `millimetres`: uint16 HxW, the pixels of a 16UC1 image. `confidence`: float32 HxW.
    `picture`: uint8 HxWx3 RGB, warm at the first depth of `color_range` (metres), cold at the second; None:
    by each frame's own depths.
    """

    metres: bool = True
    millimetres: bool = False
    confidence: bool = False
    picture: bool = False
    color_range: tuple[float, float] | None = None

    @property
    def maps(self) -> tuple[str, ...]:
        """The names of what is wanted, in the order of MAPS."""
        return tuple(name for name in MAPS if getattr(self, name))


METRES = Wanted()  # all that a caller wants who says nothing else


@dataclass(frozen=True)
class Answer:
    """The maps of one frame, which are the caller's own. To read one that was not wanted is a KeyError.

    `made` has them by their names. Millimetres and picture that are not there are made of the metres, when
    they are read: a CPU has no faster place for that, and what is published first does not wait for it.
    """

    wanted: Wanted
    made: Mapping[str, npt.NDArray[Any]]

    @property
    def metres(self) -> npt.NDArray[np.float32]:
        """Depth, float32 HxW, NaN where it is unknown."""
        return self._found("metres", "metres")

    @property
    def millimetres(self) -> npt.NDArray[np.uint16]:
        """Depth as `image_codec.to_millimetres` has it, uint16 HxW, 0 where it is unknown."""
        found = self._found("millimetres", "metres")
        return found if found.dtype == np.uint16 else to_millimetres(found)

    @property
    def confidence(self) -> npt.NDArray[np.float32]:
        """The chance that a pixel is within 5 % of the truth, float32 HxW, NaN where depth is."""
        return self._found("confidence", "confidence")

    @property
    def picture(self) -> npt.NDArray[np.uint8]:
        """Depth as `colorize` has it, uint8 HxWx3 RGB, black where it is unknown."""
        found = self._found("picture", "metres")
        if found.dtype == np.uint8:
            return found
        return colorize(found, *(self.wanted.color_range or (None, None)))

    def depth_for(self, encoding: str) -> npt.NDArray[Any]:
        """What `image_codec.encode_depth` needs for an image of this encoding: millimetres or metres."""
        return self._found("millimetres" if encoding == "16UC1" else "metres", "metres")

    def _found(self, name: str, source: str) -> npt.NDArray[Any]:
        """The map, or the one that it can be made of."""
        # Before all else: who forgot to want it is told on every device, not on a GPU alone.
        if name not in self.wanted.maps:
            raise KeyError(name)
        return self.made[name] if name in self.made else self.made[source]
