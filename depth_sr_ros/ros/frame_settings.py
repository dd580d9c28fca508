# SPDX-License-Identifier: Apache-2.0
"""How the node answers a frame, as its parameters have it at that moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FrameSettings:
    """The dynamic parameters that a frame is made with; replaced as a whole, so a frame sees one set."""

    encoding: str
    max_side: int
    max_fill_distance: int | None
    color_range: tuple[float, float] | None

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> FrameSettings:
        """From the table's values."""
        low, high = values["color.min"], values["color.max"]
        return cls(
            encoding=values["output.encoding"],
            max_side=values["output.max_side"],
            max_fill_distance=values["output.max_fill_distance"]
            if values["output.unknown"] == "nan"
            else None,
            color_range=(low, high) if high else None,
        )
