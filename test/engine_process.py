# SPDX-License-Identifier: Apache-2.0
"""The node without torch: `slow SECONDS`, `breaks FRAMES` or `loads SECONDS`, then ROS arguments."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_sr_ros.answer import Answer, Wanted
from depth_sr_ros.ros.main import main


class Repeater:
    """Repeats depth pixels up to the RGB's size; slow with each frame or at the start, or breaks as a GPU."""

    device = "cpu"

    def __init__(self, kind: str, amount: float) -> None:
        self.description = f"{kind} {amount:g}"
        self._kind = kind
        self._amount = amount
        self._frames = 0
        if kind == "loads":
            time.sleep(amount)

    def answer(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any],
        wanted: Wanted,
        *,
        channel_order: str,
        depth_unit_m: float,
        output_size: tuple[int, int] | None = None,
        **options: Any,
    ) -> Answer:
        self._frames += 1
        if self._kind == "slow":
            time.sleep(self._amount)
        elif self._kind == "breaks" and self._frames > self._amount:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        width, height = output_size or (rgb.shape[1], rgb.shape[0])
        rows = np.arange(height) * depth.shape[0] // height
        columns = np.arange(width) * depth.shape[1] // width
        metres = depth[rows][:, columns].astype(np.float32) * np.float32(depth_unit_m)
        return Answer(wanted, {"metres": metres})

    def forget(self) -> None:
        """There is nothing that it keeps from frame to frame."""


if __name__ == "__main__":
    # A new one with each configure.
    sys.exit(main(sys.argv[2:], lambda parameters: Repeater(sys.argv[1], float(sys.argv[2]))))
