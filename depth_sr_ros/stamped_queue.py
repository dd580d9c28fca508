# SPDX-License-Identifier: Apache-2.0
"""One side of the pairing: what waits, in the order of stamps, the rhythm of the stamps, and the counters."""

from __future__ import annotations

import bisect
import statistics
from collections import deque
from typing import Any, NamedTuple

JUMP_NS = 1_000_000_000
# So many frames in a row before the newest are no late ones: time has gone back by less than JUMP_NS, in a
# short recording that starts again. Every further RGB frame would count as late until time has caught up.
RESTART_FRAMES = 5
INTERVALS = 15  # recent ones, of which the rhythm is told


class StreamCounts(NamedTuple):
    """At every moment: received = paired + unpaired + evicted + queued."""

    received: int = 0
    paired: int = 0
    unpaired: int = 0
    evicted: int = 0
    queued: int = 0


class Waiting(NamedTuple):
    """A queued message. The serial keeps equal stamps in order of arrival and messages out of comparisons."""

    stamp: int
    serial: int
    arrival: float
    message: Any


class StampedQueue:
    """One side: a bounded queue in the order of stamps, the rhythm of the stamps, and the counters."""

    def __init__(self, capacity: int) -> None:
        self.queue: list[Waiting] = []
        self.received = self.paired = self.unpaired = self.evicted = 0
        self._capacity = capacity
        self._intervals: deque[int] = deque(maxlen=INTERVALS)
        self._newest: int | None = None
        self._behind = 0

    def jumped_back(self, stamp: int) -> bool:
        """Whether time has gone back with this stamp, which is the next; call it once for each."""
        if self._newest is None or stamp == self._newest:
            return False
        self._behind = self._behind + 1 if stamp < self._newest else 0
        return self._newest - stamp > JUMP_NS or self._behind == RESTART_FRAMES

    def push(self, stamp: int, message: Any, arrival: float) -> None:
        if self._newest is not None and stamp > self._newest:
            self._intervals.append(stamp - self._newest)
        self._newest = stamp if self._newest is None else max(stamp, self._newest)
        bisect.insort(self.queue, Waiting(stamp, self.received, arrival, message))
        self.received += 1

    def evict_overflow(self) -> Waiting | None:
        if len(self.queue) <= self._capacity:
            return None
        self.evicted += 1
        return self.queue.pop(0)

    def clear(self) -> None:
        self.evicted += len(self.queue)
        self.queue.clear()
        self._intervals.clear()
        self._newest = None
        self._behind = 0

    def is_newest(self, stamp: int) -> bool:
        return self._newest is None or stamp >= self._newest

    @property
    def shortest_period(self) -> int | None:
        return min(self._intervals, default=None)

    @property
    def period(self) -> float | None:
        return statistics.median(self._intervals) if self._intervals else None

    def counts(self) -> StreamCounts:
        return StreamCounts(self.received, self.paired, self.unpaired, self.evicted, len(self.queue))
