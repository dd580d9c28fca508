# SPDX-License-Identifier: Apache-2.0
"""The node with an engine that is slow or breaks: `slow SECONDS` or `breaks FRAMES`, then ROS arguments."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_sr_ros.ros.main import main


class Repeater:
    """Repeats depth pixels up to the RGB's size; sleeps before, or raises after some frames, as a GPU may."""

    device = "cpu"

    def __init__(self, kind: str, amount: float) -> None:
        self.description = f"{kind} {amount:g}"
        self._kind = kind
        self._amount = amount
        self._frames = 0

    def __call__(
        self, rgb: npt.NDArray[np.uint8], depth: npt.NDArray[Any], *, channel_order: str, depth_unit_m: float, **options: Any
    ) -> npt.NDArray[np.float32]:
        self._frames += 1
        if self._kind == "slow":
            time.sleep(self._amount)
        elif self._frames > self._amount:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        scale = rgb.shape[0] // depth.shape[0]
        return np.kron(depth.astype(np.float32) * depth_unit_m, np.ones((scale, scale), np.float32))


if __name__ == "__main__":
    chosen = Repeater(sys.argv[1], float(sys.argv[2]))
    sys.exit(main(sys.argv[2:], lambda parameters: chosen))
