# SPDX-License-Identifier: Apache-2.0
"""Rates, percentiles and the throttle, on a clock that the test moves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_sr_ros.stats import RECENT, Occurrences, Rate, Throttle, Window


@pytest.mark.parametrize("hz", [0.5, 10.0, 30.0, 90.0])
def test_a_steady_stream_has_its_rate(hz: float) -> None:
    rate = Rate(window_s=5.0)
    for index in range(int(8 * hz)):
        rate.tick(index / hz)
    assert rate.hz(int(8 * hz - 1) / hz) == pytest.approx(hz, rel=1e-6)


def test_two_events_have_a_rate_however_close_they_are() -> None:
    rate = Rate()
    rate.tick(1.0)
    rate.tick(1.02)
    assert rate.hz(1.02) == pytest.approx(50)


def test_a_stream_that_stops_decays_to_zero() -> None:
    rate = Rate(window_s=5.0)
    for index in range(100):
        rate.tick(index / 20)
    rates = [rate.hz(4.95 + quiet) for quiet in (0.0, 1.0, 3.0, 4.9, 5.1)]
    assert rates[0] == pytest.approx(20)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0


def test_one_event_has_no_rate() -> None:
    rate = Rate()
    assert rate.hz(0.0) == 0
    rate.tick(1.0)
    assert rate.hz(1.0) == 0
    rate.tick(1.0)
    assert rate.hz(1.0) == 0  # two events at once neither


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_percentiles_are_those_of_the_last_values(values: list[float]) -> None:
    window = Window(size=20)
    for value in values:
        window.add(value)
    last = values[-20:]
    out = window.percentiles()
    assert out.number == len(last)
    assert out.p50 == pytest.approx(float(np.median(last)))
    assert out.p95 == pytest.approx(float(np.percentile(last, 95)))
    assert out.max == max(last)


def test_an_empty_window_has_no_percentiles() -> None:
    out = Window().percentiles()
    assert out.number == 0
    assert math.isnan(out.p50) and math.isnan(out.p95) and math.isnan(out.max)


def test_the_throttle_says_a_new_text_at_once_and_a_known_one_once_a_period() -> None:
    throttle = Throttle(period_s=30.0)
    assert throttle.admit("step too small", 0.0) == 1
    assert [throttle.admit("step too small", t) for t in (1.0, 2.0, 29.9)] == [0, 0, 0]
    assert throttle.admit("wrong encoding", 3.0) == 1
    assert throttle.admit("step too small", 30.0) == 4  # itself and the three that were held back
    assert throttle.admit("step too small", 60.0) == 1


def test_texts_that_differ_in_their_numbers_alone_are_one_sentence() -> None:
    throttle = Throttle(period_s=30.0)
    admitted = [
        throttle.admit(f"data has {index} bytes, {index / 7:g} s", index * 0.01) for index in range(1000)
    ]
    assert admitted == [1] + 999 * [0]
    assert throttle.admit("data has 7000000 bytes, -1e-05 s", 100.0) == 1000
    for name in (
        "/camera/1/image",
        "/camera/2/image",
        "depth_1",
        "depth_2",
        "640x480",
        "640x360",
        "16UC1",
        "32FC1",
    ):
        assert throttle.admit(f"wrong: {name}", 100.0) == 1


def test_a_new_sentence_is_said_at_once_however_many_there_were_before() -> None:
    throttle = Throttle(period_s=30.0, max_texts=8)
    assert all(throttle.admit(f"wrong: depth_{index}", 4.0 * index) == 1 for index in range(100))


def test_each_sentence_has_its_own_count() -> None:
    throttle = Throttle(period_s=30.0, max_texts=8)
    for index in range(8):
        assert [throttle.admit(f"wrong: depth_{index}", 0.0) for _ in range(index + 1)] == [1] + index * [0]
    for index in range(5):
        throttle.admit(f"odd: depth_{index}", 1.0)
    assert throttle.admit("a new one", 31.0) == 1
    assert [throttle.admit(f"wrong: depth_{index}", 31.0) for index in range(1, 8)] == [2, 3, 4, 5, 6, 7, 8]


def test_occurrences_are_counted_in_all_and_of_the_last() -> None:
    seen = Occurrences()
    for i in range(2 * RECENT):
        seen.add(i % 3 == 0)
    assert seen.counts() == (2 * RECENT // 3, RECENT // 3)
    seen.forget_last()
    seen.add(True)
    assert seen.counts() == (2 * RECENT // 3 + 1, 1)


def test_texts_that_always_change_cannot_flood_the_log() -> None:
    throttle = Throttle(period_s=30.0, max_texts=8)
    admitted = [throttle.admit(f"data start with {index:x}f", index * 0.05) for index in range(2000)]
    assert sum(map(bool, admitted)) == 8 * math.ceil(2000 * 0.05 / 30)
