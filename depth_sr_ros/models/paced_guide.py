# SPDX-License-Identifier: Apache-2.0
"""The guide at its own pace: relative depth is computed for every n-th frame and used again in between."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor


class PacedGuide:
    """Keeps the relative depth of one frame for the `every_n - 1` frames after it.

    Depth Anything takes far longer than the fusion U-Net, and what it says (where things end, and which is
    nearer) changes slowly; docs/guide_pace.md has what a map of an earlier frame costs.
    """

    def __init__(self, every_n: int) -> None:
        self.every_n = every_n
        self._kept: Tensor | None = None
        self._view: Hashable = None
        self._uses = 0

    def __call__(self, view: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """The relative depth (1, 1, H, W) for the next frame: that of an earlier one, or `compute`'s.

        `view` says what the frame shows, its sizes for one: a map of another view is never used.
        """
        if self._kept is None or view != self._view or self._uses >= self.every_n:
            self._kept = None  # not both in memory; and none is left where `compute` raises
            self._kept, self._view, self._uses = compute(), view, 0
        self._uses += 1
        return self._kept

    def forget(self) -> None:
        """The next frame does not follow on the last: it gets a relative depth of its own."""
        self._kept = None
