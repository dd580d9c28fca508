# SPDX-License-Identifier: Apache-2.0
"""The answer to a frame that was begun: on a GPU it is computed while the host does something else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from depth_sr_ros.transfer import Wait


class PendingAnswer:
    """A frame that was begun; see `DepthSuperResolver.submit`."""

    def __init__(self, slot: int, wait: Wait, under_way: list[PendingAnswer]) -> None:
        self.slot = slot
        self._wait: Wait | None = wait
        self._maps: tuple[npt.NDArray[np.float32], ...] = ()
        self._under_way = under_way
        under_way.append(self)

    def result(self) -> tuple[npt.NDArray[np.float32], ...]:
        """Wait for it: the depth, and the confidence where it was asked for, float32 HxW."""
        if self._wait is not None:
            self._maps, self._wait = self._wait(), None
            self._under_way.remove(self)
        return self._maps
