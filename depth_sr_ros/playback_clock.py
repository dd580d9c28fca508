# SPDX-License-Identifier: Apache-2.0
"""The time of a recording that is played: it runs at a rate beside the steady clock, and can stand still."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from depth_sr_ros.errors import ConfigError

NS_PER_S = 1_000_000_000


class PlaybackClock:
    """Says what time it is in the recording, and how long it is until another.

    Args:
        rate: seconds of the recording in a second.
        is_paused: whether it stands still until `toggle`.
        steady: seconds of a clock that never jumps.

    Raises:
        ConfigError: the rate is not a finite number above 0.
    """

    def __init__(
        self, rate: float = 1.0, is_paused: bool = False, steady: Callable[[], float] = time.monotonic
    ) -> None:
        if not (math.isfinite(rate) and rate > 0):
            raise ConfigError(f"rate is {rate:g}, but must be above 0; 1 is the recording's own speed")
        self.rate = rate
        self.is_paused = is_paused
        self._steady = steady
        self.start(0)

    def start(self, time_ns: int) -> None:
        """From now on it is `time_ns`."""
        self._base_ns, self._base_s = time_ns, self._steady()

    def toggle(self) -> None:
        """Stand still, or go on from there."""
        self.start(self.now_ns)
        self.is_paused = not self.is_paused

    @property
    def now_ns(self) -> int:
        """The recording's time, in nanoseconds."""
        if self.is_paused:
            return self._base_ns
        return self._base_ns + round((self._steady() - self._base_s) * self.rate * NS_PER_S)

    def seconds_until(self, time_ns: int) -> float:
        """How long until it is `time_ns`, by the steady clock; 0 or less when it has come, inf in a pause."""
        return math.inf if self.is_paused else (time_ns - self.now_ns) / NS_PER_S / self.rate
