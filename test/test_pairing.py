# SPDX-License-Identifier: Apache-2.0
"""Pairing: cases worked out by hand, and properties against a slow reference that forgets nothing."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_sr_ros.errors import ConfigError
from depth_sr_ros.pairing import AUTO_SLOP, FramePairer, Pair, PairingCounts

MS = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A pairer on a clock that the test moves; stamps in milliseconds, messages named after them."""

    def __init__(self, **options: object) -> None:
        self.clock = Clock()
        self.pairer = FramePairer(clock=self.clock, **options)  # type: ignore[arg-type]

    def rgb(self, *stamps_ms: float) -> list[tuple[str, str]]:
        return [pair for s in stamps_ms for pair in names(self.pairer.push_rgb(round(s * MS), f"rgb {s:g}"))]

    def depth(self, *stamps_ms: float) -> list[tuple[str, str]]:
        return [
            pair for s in stamps_ms for pair in names(self.pairer.push_depth(round(s * MS), f"depth {s:g}"))
        ]

    def wait(self, seconds: float) -> list[tuple[str, str]]:
        self.clock.now += seconds
        return names(self.pairer.poll())


def names(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.rgb, pair.depth) for pair in pairs]


def check_accounts(counts: PairingCounts, queue_size: int) -> None:
    for stream in (counts.rgb, counts.depth):
        assert stream.received == stream.paired + stream.unpaired + stream.evicted + stream.queued
        assert 0 <= stream.queued <= queue_size
    assert counts.rgb.paired == counts.pairs
    assert counts.depth.paired == counts.pairs - counts.reused


# Key "depth".


def test_equal_stamps_pair_at_once_in_either_order() -> None:
    bench = Bench()
    assert bench.rgb(0) == []
    assert bench.depth(0) == [("rgb 0", "depth 0")]
    assert bench.depth(33) == []
    assert bench.rgb(33) == [("rgb 33", "depth 33")]


def test_the_nearer_of_two_neighbours_is_taken() -> None:
    bench = Bench()
    bench.rgb(0, 100)
    assert bench.depth(160) == []
    assert bench.rgb(200) == [("rgb 200", "depth 160")]
    assert bench.depth(230) == []  # rgb 200 is taken and rgb 300 farther: nobody's
    assert bench.rgb(300) == []
    assert bench.pairer.counts().depth.unpaired == 1


def test_a_depth_just_after_its_rgb_does_not_wait_for_the_next_rgb() -> None:
    bench = Bench()
    bench.rgb(0, 33, 66)
    assert bench.depth(70) == [("rgb 66", "depth 70")]
    assert bench.rgb(99) == []
    assert bench.depth(114) == [("rgb 99", "depth 114")]  # 15 is below half of 33
    assert bench.rgb(132) == []
    assert bench.depth(149) == []  # 17 is not: the next RGB, at 165, may be nearer
    assert bench.rgb(165) == [("rgb 165", "depth 149")]


def test_a_tie_goes_to_the_earlier_rgb() -> None:
    bench = Bench(slop=1.0)
    bench.rgb(0, 20)
    assert bench.depth(10) == [("rgb 0", "depth 10")]


def test_one_rgb_serves_one_depth_and_the_other_is_counted() -> None:
    bench = Bench(slop=0.05)
    bench.rgb(0, 100)
    assert bench.depth(98, 102) == [("rgb 100", "depth 98")]
    assert bench.rgb(200) == []
    assert bench.pairer.counts().depth.unpaired == 1
    assert bench.depth(199) == [("rgb 200", "depth 199")]


def test_of_the_depth_frames_that_are_there_the_nearest_gets_the_rgb() -> None:
    bench = Bench(slop=0.05)
    bench.rgb(0)
    assert bench.depth(60, 90, 101) == []
    assert bench.rgb(100) == [("rgb 100", "depth 101")]
    assert bench.pairer.counts().depth.unpaired == 2


@pytest.mark.parametrize("offset_ms", [0, 5, -5, 12])
@pytest.mark.parametrize("lead_ms", [-40, 1, 40])
def test_of_a_fast_depth_stream_each_rgb_gets_its_nearest(offset_ms: int, lead_ms: int) -> None:
    """A D435 in dim light: 30 Hz of depth, 15 Hz of RGB; whichever stream arrives first."""
    bench = Bench(max_wait=1e9)
    depth = [(33 * i + offset_ms + lead_ms, bench.depth, 33 * i + offset_ms) for i in range(60)]
    rgb = [(66 * i, bench.rgb, 66 * i) for i in range(30)]
    pairs = []
    for _, push, stamp in sorted(rgb + depth, key=lambda arrival: arrival[0]):
        pairs += push(stamp)
    expected = [(f"rgb {66 * i}", f"depth {66 * i + offset_ms}") for i in range(30)]
    assert len(pairs) >= 28
    assert set(pairs[2:]) <= set(expected)  # the first come before the rhythms are known


def test_a_depth_waits_for_a_nearer_one_no_longer_than_max_wait() -> None:
    bench = Bench()
    bench.rgb(0, 66)
    bench.depth(5, 38, 71)
    assert bench.depth(104) == []
    assert bench.rgb(132) == []  # depth 137 will be nearer, but does not come
    assert bench.wait(0.21) == [("rgb 132", "depth 104")]


def test_at_equal_rates_no_depth_waits_for_the_next() -> None:
    bench = Bench()
    for index in range(10):
        bench.depth(33 * index - 16)
        pairs = bench.rgb(33 * index)
    assert pairs == [("rgb 297", "depth 281")]


def test_a_fast_rgb_stream_pairs_with_the_nearest_and_not_one_off() -> None:
    bench = Bench()
    pairs = []
    for index in range(30):
        pairs += bench.rgb(index * 10)
        if index % 10 == 5:
            pairs += bench.depth(index * 10 - 1)
    assert pairs == [("rgb 50", "depth 49"), ("rgb 150", "depth 149"), ("rgb 250", "depth 249")]
    assert bench.pairer.counts().rgb.evicted == 0


def test_slop_zero_pairs_equal_stamps_only() -> None:
    bench = Bench(slop=0.0)
    bench.rgb(0, 33)
    assert bench.depth(0.000001, 33) == [("rgb 33", "depth 33")]
    assert bench.pairer.counts().depth.unpaired == 1


def test_slop_bounds_the_difference_inclusively() -> None:
    bench = Bench(slop=0.005)
    bench.rgb(0, 100)
    assert bench.depth(95) == [("rgb 100", "depth 95")]
    bench.rgb(200)
    assert bench.depth(194.999) == []
    assert bench.pairer.counts().depth.unpaired == 1


def test_automatic_slop_is_half_the_rgb_period() -> None:
    bench = Bench()
    bench.rgb(0, 40, 80, 120, 160, 200)
    assert bench.depth(220) == []
    assert bench.rgb(280) == [("rgb 200", "depth 220")]  # 20: exactly half of 40; a frame is missing
    assert bench.depth(301) == []
    assert bench.rgb(360) == []  # 21 is beyond
    assert bench.pairer.counts().depth.unpaired == 1


def test_before_the_period_is_known_the_first_depth_waits_for_the_second_rgb() -> None:
    bench = Bench()
    assert bench.rgb(10) == []
    assert bench.depth(0) == []
    assert bench.rgb(43) == [("rgb 10", "depth 0")]


def test_after_max_wait_the_best_within_slop_is_taken() -> None:
    bench = Bench(slop=0.05, max_wait=0.2)
    bench.rgb(0, 60)
    assert bench.depth(95) == []  # the next RGB, at 120, would be nearer
    assert bench.wait(0.19) == []
    assert bench.wait(0.02) == [("rgb 60", "depth 95")]


def test_after_max_wait_a_depth_without_a_partner_is_counted_unpaired() -> None:
    bench = Bench(max_wait=0.2)
    assert bench.depth(0) == []
    assert bench.wait(0.21) == []
    counts = bench.pairer.counts().depth
    assert (counts.unpaired, counts.queued) == (1, 0)
    assert bench.rgb(0) == []


def test_full_queues_evict_the_oldest() -> None:
    bench = Bench(queue_size=3, slop=0.001)
    bench.rgb(0, 10, 20, 30, 40)
    counts = bench.pairer.counts().rgb
    assert (counts.evicted, counts.queued) == (2, 3)
    # Its own RGB, at 10, is gone, and no other may stand in for it.
    assert bench.depth(10) == []
    assert bench.depth(40) == [("rgb 40", "depth 40")]


def test_an_rgb_that_comes_after_its_neighbour_was_taken_is_unpaired() -> None:
    bench = Bench(slop=0.05)
    bench.rgb(100)
    assert bench.depth(98) == [("rgb 100", "depth 98")]
    assert bench.rgb(97) == []
    counts = bench.pairer.counts().rgb
    assert bench.depth(97) == []
    assert bench.pairer.counts().rgb.unpaired == 1
    assert counts.received == 2


def test_a_jump_back_of_more_than_a_second_clears_both_sides_and_pairing_goes_on() -> None:
    bench = Bench()
    bench.rgb(5000, 5033)
    bench.depth(5050)
    assert bench.depth(10) == []  # a bag starts again
    counts = bench.pairer.counts()
    assert counts.resets == 1
    assert (counts.rgb.evicted, counts.depth.evicted) == (2, 1)
    assert bench.rgb(10) == [("rgb 10", "depth 10")]
    assert bench.depth(43) == []
    assert bench.rgb(43) == [("rgb 43", "depth 43")]


def test_a_looped_bag_keeps_pairing() -> None:
    bench = Bench()
    pairs = []
    for _ in range(3):
        for index in range(60):
            pairs += bench.rgb(index * 33.3)
            pairs += bench.depth(index * 33.3 + 4)
    assert len(pairs) >= 3 * 60 - 5
    assert bench.pairer.counts().resets == 2  # the stream that jumps first clears both


@pytest.mark.parametrize("frames", [3, 15])
@pytest.mark.parametrize("key", ["depth", "rgb"])
def test_a_looped_bag_of_less_than_a_second_keeps_pairing(key: str, frames: int) -> None:
    bench = Bench(key=key)
    pairs = []
    for _ in range(20):
        for index in range(frames):
            bench.clock.now += 0.033
            pairs += bench.rgb(33 * index) + bench.depth(33 * index)
    counts = bench.pairer.counts()
    assert counts.resets >= 5
    assert len(pairs) >= 20 * frames // 3
    check_accounts(counts, 10)


def test_four_late_frames_in_a_row_are_no_restart() -> None:
    bench = Bench()
    bench.rgb(0, 33, 66, 99, 132, 330)
    bench.rgb(165, 198, 231, 264)
    bench.depth(330)
    bench.rgb(297, 363)
    assert bench.pairer.counts().resets == 1  # the fifth is one
    bench = Bench()
    bench.rgb(0, 33, 66, 99, 132, 297)
    bench.rgb(165, 198, 231, 264, 330)
    assert bench.depth(330) == [("rgb 330", "depth 330")]
    assert bench.pairer.counts().resets == 0


def test_a_small_step_back_is_no_jump() -> None:
    bench = Bench(slop=0.01)
    bench.rgb(1000, 100)
    assert bench.pairer.counts().resets == 0
    assert bench.depth(100) == [("rgb 100", "depth 100")]


# Key "rgb".


def test_the_latest_depth_is_reused_for_each_rgb() -> None:
    bench = Bench(key="rgb", slop=0.15)
    bench.depth(0)
    assert bench.rgb(0, 33, 66) == [("rgb 0", "depth 0"), ("rgb 33", "depth 0"), ("rgb 66", "depth 0")]
    bench.depth(100)
    assert bench.rgb(100) == [("rgb 100", "depth 100")]
    counts = bench.pairer.counts()
    assert (counts.pairs, counts.reused, counts.depth.paired) == (4, 2, 2)


def test_a_slow_depth_stream_gives_every_rgb_a_partner_with_automatic_slop() -> None:
    bench = Bench(key="rgb")
    pairs = []
    for index in range(90):
        if index % 3 == 0:
            pairs += bench.depth(index * 33.3 - 5)
        pairs += bench.rgb(index * 33.3)
        bench.clock.now += 0.0333
    assert len(pairs) == 90
    counts = bench.pairer.counts()
    assert (
        counts.depth.paired == 29
    )  # the first comes before a depth period is known, the second serves for it
    assert counts.rgb.unpaired == 0


def test_an_rgb_without_depth_within_slop_waits_and_is_counted() -> None:
    bench = Bench(key="rgb", slop=0.1, max_wait=0.2)
    bench.depth(0)
    assert bench.rgb(150) == []
    assert bench.depth(160) == [("rgb 150", "depth 160")]
    assert bench.rgb(500) == []
    assert bench.wait(0.25) == []
    assert bench.pairer.counts().rgb.unpaired == 1


def test_with_the_key_rgb_a_frame_that_comes_after_a_later_one_has_left_is_unpaired() -> None:
    bench = Bench(key="rgb", slop=0.1)
    bench.depth(0)
    assert bench.rgb(33, 0) == [("rgb 33", "depth 0")]  # the second was late
    counts = bench.pairer.counts().rgb
    assert (counts.received, counts.paired, counts.unpaired, counts.queued) == (2, 1, 1, 0)
    assert bench.rgb(66) == [("rgb 66", "depth 0")]
    assert bench.rgb(66) == [("rgb 66", "depth 0")]  # an equal stamp does not go back


def test_with_the_key_rgb_a_frame_that_waits_while_a_later_one_leaves_is_unpaired() -> None:
    bench = Bench(key="rgb", slop=0.05)
    assert bench.rgb(0, 100) == []
    assert bench.depth(120) == [("rgb 100", "depth 120")]
    assert bench.pairer.counts().rgb.unpaired == 1
    bench.pairer.set_limits(1.0, 0.2)
    assert bench.wait(0.1) == []


def test_with_the_key_rgb_pairs_begin_anew_after_a_jump_back() -> None:
    bench = Bench(key="rgb", slop=0.1)
    bench.depth(5000)
    assert bench.rgb(5000) == [("rgb 5000", "depth 5000")]
    assert bench.rgb(10) == []  # a bag starts again
    assert bench.depth(0) == [("rgb 10", "depth 0")]
    counts = bench.pairer.counts()
    assert (counts.resets, counts.rgb.unpaired) == (1, 0)


def test_depth_frames_that_no_rgb_took_are_unpaired_when_a_later_one_comes() -> None:
    bench = Bench(key="rgb", slop=0.1)
    bench.depth(0, 100, 200)
    counts = bench.pairer.counts().depth
    assert (counts.received, counts.unpaired, counts.queued) == (3, 2, 1)


# Properties.


@dataclass
class Reference:
    """The policy with key "depth", remembering every RGB frame since the last jump."""

    slop_ns: float | None
    queue_size: int
    max_wait: float
    rgb: list[int] = field(default_factory=list)
    available: Counter = field(default_factory=Counter)
    spent: int = -(10**15)
    intervals: list[int] = field(default_factory=list)
    depth_intervals: list[int] = field(default_factory=list)
    waiting: list[tuple[int, int, float]] = field(default_factory=list)
    newest: dict[str, int | None] = field(default_factory=lambda: {"rgb": None, "depth": None})
    behind: Counter = field(default_factory=Counter)
    serial: int = 0

    def push(self, stream: str, stamp: int, now: float) -> list[tuple[int, int]]:
        newest = self.newest[stream]
        if newest is not None and stamp != newest:
            self.behind[stream] = self.behind[stream] + 1 if stamp < newest else 0
        if newest is not None and (newest - stamp > 1_000_000_000 or self.behind[stream] == 5):
            self.behind = Counter()
            self.rgb, self.intervals, self.depth_intervals, self.waiting = [], [], [], []
            self.available, self.spent = Counter(), -(10**15)
            self.newest = {"rgb": None, "depth": None}
            newest = None
        if stream == "rgb":
            if newest is not None and stamp > newest:
                self.intervals = [*self.intervals, stamp - newest][-15:]
            self.rgb.append(stamp)
            if stamp > self.spent:
                self.available[stamp] += 1
        else:
            self.serial += 1
            if newest is not None and stamp > newest:
                self.depth_intervals = [*self.depth_intervals, stamp - newest][-15:]
            self.waiting.append((stamp, self.serial, now))
        self.newest[stream] = stamp if newest is None else max(stamp, newest)
        pairs = self.decide(now)
        if stream == "rgb" and self.available.total() > self.queue_size:
            self.spend(min(self.available))
        if stream == "depth" and len(self.waiting) > self.queue_size:
            self.waiting.remove(min(self.waiting))
        return pairs

    def spend(self, stamp: int) -> None:
        """No RGB frame up to `stamp` is available any more; they stay candidates, which nothing replaces."""
        self.available = Counter({s: n for s, n in self.available.items() if s > stamp})
        self.spent = max(stamp, self.spent)

    def decide(self, now: float) -> list[tuple[int, int]]:
        pairs = []
        for depth in sorted(self.waiting):
            stamp, _, arrival = depth
            nearest, is_final = self.choice(depth, now)
            if not is_final or (now - arrival < self.max_wait and self.waits_for_nearer(stamp, nearest)):
                continue
            later = [other for other in self.waiting if other[0] > stamp]
            self.waiting.remove(depth)
            if nearest is None or nearest not in self.available or abs(nearest - stamp) > self.slop():
                continue
            rivals = [other for other in later if abs(other[0] - nearest) < abs(stamp - nearest)]
            if rivals and self.choice(min(rivals), now) == (nearest, True):
                continue
            self.spend(nearest)
            pairs.append((nearest, stamp))
        return pairs

    def choice(self, depth: tuple[int, int, float], now: float) -> tuple[int | None, bool]:
        """The nearest RGB frame, and whether it stays that."""
        stamp, _, arrival = depth
        nearest = min(self.rgb, key=lambda s: (abs(s - stamp), s), default=None)
        return nearest, self.is_final(stamp, nearest, now - arrival)

    def waits_for_nearer(self, stamp: int, nearest: int | None) -> bool:
        """Whether depth comes so much faster than RGB that the next one is worth a wait, and nearer."""
        newest = self.newest["depth"]
        if nearest is None or nearest not in self.available or newest is None or stamp < newest:
            return False
        if not (self.intervals and self.depth_intervals):
            return False
        period = statistics.median(self.depth_intervals)
        is_faster = period < 0.75 * statistics.median(self.intervals)
        return is_faster and abs(stamp + period - nearest) < nearest - stamp

    def slop(self) -> float:
        if self.slop_ns is not None:
            return self.slop_ns
        return statistics.median(self.intervals) / 2 if self.intervals else 0.0

    def is_final(self, stamp: int, nearest: int | None, age: float) -> bool:
        if age >= self.max_wait or nearest == stamp or stamp <= self.spent:
            return True
        if nearest is None or (self.slop_ns is None and not self.intervals):
            return False
        if max(self.rgb) >= stamp:
            return True
        return bool(self.intervals) and 2 * (stamp - nearest) < min(self.intervals)


STEPS_MS = st.one_of(
    st.integers(0, 60),  # any rhythm, duplicates too
    st.just(33),
    st.integers(-50, 0),  # out of order
    st.sampled_from([-5000, -1001, -1000, -999, 1000, 60_000]),  # jumps
)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["rgb", "depth", "poll"]), STEPS_MS, st.sampled_from([0.0, 0.005, 0.03, 0.3])),
    max_size=60,
)
OPTIONS = {
    "slop_ms": st.sampled_from([None, 0, 5, 16, 100]),
    "queue_size": st.sampled_from([1, 2, 5, 10]),
    "max_wait": st.sampled_from([0.0, 0.05, 0.2]),
}


@settings(max_examples=300, deadline=None)
@given(events=EVENTS, **OPTIONS)
def test_any_interleaving_pairs_as_the_reference_that_remembers_everything(
    events: list[tuple[str, int, float]], slop_ms: int | None, queue_size: int, max_wait: float
) -> None:
    clock = Clock()
    pairer = FramePairer(
        slop=AUTO_SLOP if slop_ms is None else slop_ms / 1000,
        queue_size=queue_size,
        max_wait=max_wait,
        clock=clock,
    )
    reference = Reference(None if slop_ms is None else slop_ms * MS, queue_size, max_wait)
    stamps = {"rgb": 10_000 * MS, "depth": 10_000 * MS}
    used: list[int] = []
    for index, (stream, step, wait) in enumerate(events):
        clock.now += wait
        if stream == "poll":
            pairs, expected = pairer.poll(), reference.decide(clock.now)
        else:
            stamps[stream] += step * MS
            push = pairer.push_rgb if stream == "rgb" else pairer.push_depth
            pairs = push(stamps[stream], index)
            expected = reference.push(stream, stamps[stream], clock.now)
        assert [(pair.rgb_stamp, pair.depth_stamp) for pair in pairs] == expected
        counts = pairer.counts()
        check_accounts(counts, queue_size)
        assert counts.depth.queued == len(reference.waiting)  # nobody waits longer than needed
        used += [pair.rgb for pair in pairs]
    assert len(used) == len(set(used))  # no RGB frame serves two outputs


@settings(max_examples=300, deadline=None)
@given(events=EVENTS, **OPTIONS)
def test_with_the_key_rgb_each_rgb_leaves_once_within_slop_and_all_is_accounted_for(
    events: list[tuple[str, int, float]], slop_ms: int | None, queue_size: int, max_wait: float
) -> None:
    clock = Clock()
    slop = AUTO_SLOP if slop_ms is None else slop_ms / 1000
    pairer = FramePairer("rgb", slop, queue_size, max_wait, clock)
    stamps = {"rgb": 10_000 * MS, "depth": 10_000 * MS}
    used: list[int] = []
    latest: int | None = None
    last_rgb = -(10**15)
    for index, (stream, step, wait) in enumerate(events):
        clock.now += wait
        resets = pairer.counts().resets
        if stream == "poll":
            pairs = pairer.poll()
        else:
            stamps[stream] += step * MS
            pairs = (pairer.push_rgb if stream == "rgb" else pairer.push_depth)(stamps[stream], index)
        counts = pairer.counts()
        check_accounts(counts, queue_size)
        if counts.resets > resets:
            latest, last_rgb = None, -(10**15)
        if stream == "depth":
            latest = stamps["depth"] if latest is None else max(latest, stamps["depth"])
        for pair in pairs:
            assert pair.depth_stamp == latest
            assert pair.rgb_stamp >= last_rgb  # the output never goes back in time
            last_rgb = pair.rgb_stamp
            if slop_ms is not None:
                assert abs(pair.rgb_stamp - pair.depth_stamp) <= slop_ms * MS
        used += [pair.rgb for pair in pairs]
    assert len(used) == len(set(used))


@settings(max_examples=100, deadline=None)
@given(
    rgb_hz=st.sampled_from([15, 30, 60]),
    depth_hz=st.sampled_from([5, 10, 15, 30]),
    phase_ms=st.floats(0, 100),
    jitter_ms=st.floats(0, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_two_cameras_of_any_rate_and_phase_pair_nearly_every_depth_with_its_nearest_rgb(
    rgb_hz: int, depth_hz: int, phase_ms: float, jitter_ms: float, seed: int
) -> None:
    """Messages arrive in the order of their stamps; the slop has room for the jitter."""
    rng = np.random.default_rng(seed)

    def stamps(hz: int, phase: float) -> np.ndarray:
        regular = phase * MS + np.arange(3 * hz) * 1e9 / hz
        return np.sort(regular + rng.uniform(-jitter_ms, jitter_ms, regular.size) * MS + 1e9).astype(np.int64)

    rgb, depth = stamps(rgb_hz, 0.0), stamps(depth_hz, phase_ms)
    pairer = FramePairer(slop=0.5 / rgb_hz + 0.003, max_wait=1e9)
    pairs: list[Pair] = []
    for stamp, is_rgb in sorted([(int(s), True) for s in rgb] + [(int(s), False) for s in depth]):
        pairs += (pairer.push_rgb if is_rgb else pairer.push_depth)(stamp, stamp)
    for pair in pairs:
        distance, nearest = abs(pair.rgb_stamp - pair.depth_stamp), np.abs(rgb - pair.depth_stamp).min()
        # A pair that leaves early trusts the shortest interval seen; jitter can bring a shorter one.
        assert distance <= nearest + 4 * jitter_ms * MS
    if depth_hz < rgb_hz:  # at equal rates jitter may give one RGB to two depth frames
        inside = (depth > rgb[0]) & (depth < rgb[-1])
        assert len(pairs) >= inside.sum()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "both"}, "sync.key is 'both', but must be one of depth, rgb"),
        ({"slop": -0.5}, "sync.slop is -0.5 s"),
        ({"slop": float("nan")}, "sync.slop is nan s"),
        ({"queue_size": 0}, "sync.queue_size is 0"),
        ({"max_wait": -1.0}, "sync.max_wait is -1.0 s"),
    ],
)
def test_an_argument_out_of_range_is_refused(options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FramePairer(**options)
