# SPDX-License-Identifier: Apache-2.0
"""The node with an engine that only repeats depth pixels: what is left is the cost of the node itself."""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.answer import METRES, Answer, Wanted
from depth_sr_ros.ros.main import main


class PassThrough:
    """Repeats each depth pixel up to the size of the RGB image; takes an engine's place in the node."""

    device = "cpu"
    description = "pass-through (repeats pixels)"

    def answer(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any],
        wanted: Wanted = METRES,
        *,
        depth_unit_m: float,
        output_size: tuple[int, int] | None = None,
        **options: Any,
    ) -> Answer:
        """Metres of `output_size` (width, height) or the RGB's; invalid pixels are NaN."""
        size = output_size or (rgb.shape[1], rgb.shape[0])
        metres = depth.astype(np.float32) * np.float32(depth_unit_m)
        metres[metres == 0] = np.nan
        repeated = np.asarray(cv2.resize(metres, size, interpolation=cv2.INTER_NEAREST), np.float32)
        return Answer(wanted, {"metres": repeated})

    def forget(self) -> None:
        """There is nothing that it keeps from frame to frame."""


if __name__ == "__main__":
    sys.exit(main(make_engine=lambda parameters: PassThrough()))
