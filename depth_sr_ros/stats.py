# SPDX-License-Identifier: Apache-2.0
"""Rolling rate, latency percentiles and how often to say the same thing: small, bounded, thread-safe."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WINDOW = 256
RECENT = 30
# A number by itself, not one that is part of a name: /camera/2, depth_2, 640x480, 16UC1.
_NUMBER = re.compile(r"(?<![\w/.-])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w/])")


class Rate:
    """Events per second over the last `window_s` seconds of the steady clock."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._window = window_s
        # 1024 events in the window: above 200 Hz the rate is taken over fewer seconds.
        self._times: deque[float] = deque(maxlen=1024)
        self._lock = threading.Lock()

    def tick(self, now: float | None = None) -> None:
        """Count one event at `now` (seconds)."""
        with self._lock:
            self._times.append(time.monotonic() if now is None else now)

    def hz(self, now: float | None = None) -> float:
        """The rate at `now`; 0 with fewer than two events in the window."""
        now = time.monotonic() if now is None else now
        with self._lock:
            while self._times and now - self._times[0] > self._window:
                self._times.popleft()
            if len(self._times) < 2:
                return 0.0
            # The time since the last event counts once it is longer than the mean interval: a stopped
            # stream decays.
            span, events = self._times[-1] - self._times[0], len(self._times) - 1
        if span <= 0:
            return 0.0
        return min(events / span, (events + 1) / max(now - self._times[0], 1e-9))


def p50_p95(values: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile of at least one value."""
    p50, p95 = np.percentile(values, (50, 95))
    return float(p50), float(p95)


class Percentiles(NamedTuple):
    """Of the last values, in their unit; NaN where there is none."""

    number: int
    p50: float
    p95: float
    max: float


class Window:
    """The last `size` values of a quantity."""

    def __init__(self, size: int = WINDOW) -> None:
        self._values: deque[float] = deque(maxlen=size)
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """Add one value."""
        with self._lock:
            self._values.append(value)

    def percentiles(self) -> Percentiles:
        """Median, 95th percentile and maximum of the values held."""
        with self._lock:
            values = list(self._values)
        if not values:
            return Percentiles(0, float("nan"), float("nan"), float("nan"))
        return Percentiles(len(values), *p50_p95(values), max(values))


class Occurrences:
    """How often something was so: in all, and of the last RECENT times that it could have been."""

    def __init__(self) -> None:
        self._total = 0
        self._last: deque[bool] = deque(maxlen=RECENT)
        self._lock = threading.Lock()

    def add(self, is_so: bool) -> None:
        """Count one time."""
        with self._lock:
            self._total += is_so
            self._last.append(is_so)

    def forget_last(self) -> None:
        """The last times say nothing about those to come."""
        with self._lock:
            self._last.clear()

    def counts(self) -> tuple[int, int]:
        """In all, and of the last RECENT times."""
        with self._lock:
            return self._total, sum(self._last)


class Throttle:
    """Says whether a message is worth logging: a new text at once, a known one every `period_s` seconds.

    Texts that differ only in their numbers are one. So that texts that change in other ways cannot flood the
    log either, at most `max_texts` different ones are logged in a period; what is new beyond them stays
    silent until the oldest of them is that long ago.
    """

    def __init__(self, period_s: float = 30.0, max_texts: int = 64) -> None:
        self._period = period_s
        self._max = max_texts
        self._seen: dict[str, tuple[float, int]] = {}  # when logged and held back since; the oldest first
        self._lock = threading.Lock()

    def admit(self, text: str, now: float | None = None) -> int:
        """0 = stay silent; n > 0 = log it, it stands for n occurrences since it was last logged."""
        now = time.monotonic() if now is None else now
        key = _NUMBER.sub("#", text)
        with self._lock:
            known = key if key in self._seen or len(self._seen) < self._max else next(iter(self._seen))
            last, held_back = self._seen.get(known, (-float("inf"), 0))
            if now - last < self._period:
                if known == key:
                    self._seen[key] = (last, held_back + 1)
                return 0
            self._seen.pop(known, None)
            self._seen[key] = (now, 0)
            return held_back + 1 if known == key else 1
