# SPDX-License-Identifier: Apache-2.0
"""The answer to a frame that was begun: on a GPU it is computed while the host does something else."""

from __future__ import annotations

from collections.abc import Callable

from depth_sr_ros.answer import Answer


class PendingAnswer:
    """A frame that was begun; see `DepthSuperResolver.submit`. `wait` waits for its answer and gives it."""

    def __init__(self, slot: int, wait: Callable[[], Answer], under_way: list[PendingAnswer]) -> None:
        self.slot = slot
        self._wait: Callable[[], Answer] | None = wait
        self._answer: Answer | None = None
        self._under_way = under_way
        under_way.append(self)

    def result(self) -> Answer:
        """Wait for it: the maps that were wanted of the frame."""
        if self._wait is not None:
            self._answer, self._wait = self._wait(), None
            self._under_way.remove(self)
        assert self._answer is not None
        return self._answer
