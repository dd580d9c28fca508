# SPDX-License-Identifier: Apache-2.0
"""The time of a played recording: its rate, its pauses, and rates that cannot be."""

from __future__ import annotations

import math

import pytest

from depth_sr_ros.errors import ConfigError
from depth_sr_ros.playback_clock import PlaybackClock

S = 1_000_000_000


class Steady:
    """A steady clock that is set by hand, seconds."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_it_runs_at_its_rate_from_where_it_was_started() -> None:
    steady = Steady()
    clock = PlaybackClock(4.0, steady=steady)
    clock.start(1_700_000_000 * S + 7)
    assert clock.now_ns == 1_700_000_000 * S + 7
    steady.now_s += 0.5
    assert clock.now_ns == 1_700_000_002 * S + 7
    assert clock.seconds_until(1_700_000_004 * S + 7) == pytest.approx(0.5)
    assert clock.seconds_until(1_700_000_001 * S + 7) == pytest.approx(-0.25)
    clock.start(5 * S)
    assert clock.now_ns == 5 * S


def test_a_pause_takes_no_time_of_the_recording() -> None:
    steady = Steady()
    clock = PlaybackClock(2.0, steady=steady)
    clock.start(0)
    steady.now_s += 1
    clock.toggle()
    steady.now_s += 60
    assert clock.is_paused and clock.now_ns == 2 * S and clock.seconds_until(0) == math.inf
    clock.toggle()
    steady.now_s += 1
    assert not clock.is_paused and clock.now_ns == 4 * S


def test_it_can_start_paused() -> None:
    steady = Steady()
    clock = PlaybackClock(is_paused=True, steady=steady)
    clock.start(3 * S)
    steady.now_s += 9
    assert clock.now_ns == 3 * S
    clock.toggle()
    steady.now_s += 1
    assert clock.now_ns == 4 * S


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_cannot_be_is_named(rate: float) -> None:
    with pytest.raises(ConfigError, match=f"rate is {rate:g}, but must be above 0"):
        PlaybackClock(rate)
