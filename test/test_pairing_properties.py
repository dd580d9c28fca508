# SPDX-License-Identifier: Apache-2.0
"""Properties of the pairer on any two streams: what leaves, when, what is kept and how much work it is.

A witness remembers every frame since the last jump and decides each step by a search through all of them.
By weak references it knows which messages the pairer still holds.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_sr_ros import pairing
from depth_sr_ros.pairing import AUTO_SLOP, FramePairer, Pair
from depth_sr_ros.stamped_queue import StreamCounts

MS = 1_000_000


class Message:
    """Something that can be referred to weakly."""

    def __init__(self, serial: int) -> None:
        self.serial = serial


@dataclass(eq=False)
class Seen:
    """A frame that the pairer was given; stamp in ms, arrival in s. Keeps no message alive."""

    stamp: int
    serial: int
    arrival: float
    message: weakref.ref[Message]
    used: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return self.stamp, self.serial


@dataclass
class Side:
    """One stream: its frames since the last jump, those of them that should be queued, the counters."""

    frames: list[Seen] = field(default_factory=list)
    queue: list[Seen] = field(default_factory=list)
    intervals: list[int] = field(default_factory=list)
    behind: int = 0
    received: int = 0
    paired: int = 0
    unpaired: int = 0
    evicted: int = 0

    def is_jump(self, stamp: int) -> bool:
        back = max((seen.stamp for seen in self.frames), default=stamp) - stamp
        if back:
            self.behind = self.behind + 1 if back > 0 else 0
        return back > 1000 or self.behind == 5

    def take(self, seen: Seen) -> None:
        newest = max((other.stamp for other in self.frames), default=seen.stamp)
        if seen.stamp > newest:
            self.intervals.append(seen.stamp - newest)
        self.frames.append(seen)
        self.queue.append(seen)
        self.received += 1

    def evict(self, queue_size: int) -> Seen | None:
        if len(self.queue) <= queue_size:
            return None
        oldest = min(self.queue, key=lambda seen: seen.order)
        self.queue.remove(oldest)
        self.evicted += 1
        return oldest

    def forget(self) -> None:
        self.evicted += len(self.queue)
        self.frames, self.queue, self.intervals, self.behind = [], [], [], 0

    def limit(self, slop: int | None, periods: float) -> float:
        """The largest difference in a pair, in ms."""
        if slop is not None:
            return slop
        return statistics.median(self.intervals[-15:]) * periods if self.intervals else 0.0

    def counts(self) -> StreamCounts:
        return StreamCounts(self.received, self.paired, self.unpaired, self.evicted, len(self.queue))


class Witness:
    """Drives a pairer and judges each step; slop in ms, None = automatic, other options as the pairer's."""

    def __init__(self, key: str, slop: int | None, queue_size: int, max_wait: float) -> None:
        self.now = 0.0
        self.slop, self.queue_size, self.max_wait = slop, queue_size, max_wait
        seconds = AUTO_SLOP if slop is None else slop / 1000
        self.pairer = FramePairer(key, seconds, queue_size, max_wait, lambda: self.now)
        self.expect = self.expect_depth if key == "depth" else self.expect_rgb
        self.rgb, self.depth = Side(), Side()
        self.everything: list[Seen] = []
        # The largest RGB stamp, in ms, that left, and with the key depth also of those evicted.
        self.spent: int | None = None
        self.pairs = self.reused = self.resets = 0

    def push(self, name: str, stamp: int) -> None:
        side, push = (
            (self.rgb, self.pairer.push_rgb) if name == "rgb" else (self.depth, self.pairer.push_depth)
        )
        if side.is_jump(stamp):
            self.resets += 1
            self.forget()
        message = Message(len(self.everything))
        seen = Seen(stamp, message.serial, self.now, weakref.ref(message))
        self.everything.append(seen)
        side.take(seen)
        left = serials(push(stamp * MS, message))
        del message
        self.judge(left)

    def poll(self) -> None:
        self.judge(serials(self.pairer.poll()))

    def clear(self) -> None:
        self.forget()
        self.pairer.clear()
        self.judge([])

    def forget(self) -> None:
        self.rgb.forget()
        self.depth.forget()
        self.spent = None

    def judge(self, left: list[tuple[int, int]]) -> None:
        assert left == self.expect()
        self.pairs += len(left)
        counts = self.pairer.counts()
        assert (counts.rgb, counts.depth) == (self.rgb.counts(), self.depth.counts())
        assert (counts.pairs, counts.reused, counts.resets) == (self.pairs, self.reused, self.resets)
        assert max(counts.rgb.queued, counts.depth.queued) <= self.queue_size
        kept = {seen for seen in self.everything if seen.message() is not None}
        assert kept == {*self.rgb.queue, *self.depth.queue, *self.reusable()}

    def reusable(self) -> list[Seen]:
        """With the key rgb: the latest depth frame."""
        latest = max(self.depth.frames, key=lambda seen: seen.order, default=None)
        return [latest] if latest is not None and self.expect == self.expect_rgb else []

    # Key "depth".

    def expect_depth(self) -> list[tuple[int, int]]:
        """The pairs that leave now, (RGB serial, depth serial); moves queues and counters along."""
        left = []
        for depth in sorted(self.depth.queue, key=lambda seen: seen.order):
            nearest = self.nearest(depth)
            if not self.is_certain(depth, nearest) or self.waits_for_nearer(depth, nearest):
                continue
            self.depth.queue.remove(depth)
            if (
                nearest is None
                or self.is_gone(nearest)
                or not self.is_within(nearest, depth)
                or self.has_nearer(nearest, depth)
            ):
                self.depth.unpaired += 1
                continue
            assert not nearest.used
            nearest.used = True
            self.rgb.queue.remove(nearest)
            self.rgb.paired += 1
            self.depth.paired += 1
            self.spend(nearest)
            left.append((nearest.serial, depth.serial))
        self.release()
        self.depth.evict(self.queue_size)
        evicted = self.rgb.evict(self.queue_size)
        if evicted is not None:
            self.spend(evicted)
            self.release()
        return left

    def nearest(self, depth: Seen) -> Seen | None:
        return min(self.rgb.frames, key=lambda rgb: (abs(rgb.stamp - depth.stamp), rgb.order), default=None)

    def has_nearer(self, rgb: Seen, depth: Seen) -> bool:
        """Whether the next depth frame that waits is nearer, and certain of the same RGB frame."""
        later = [other for other in self.depth.queue if other.stamp > depth.stamp]
        following = min(later, key=lambda other: other.order, default=None)
        if following is None or abs(following.stamp - rgb.stamp) >= abs(depth.stamp - rgb.stamp):
            return False
        return self.nearest(following) is rgb and self.is_certain(following, rgb)

    def waits_for_nearer(self, depth: Seen, nearest: Seen | None) -> bool:
        """Whether the next depth frame to come will be nearer, where depth is much faster than RGB."""
        if nearest is None or self.is_gone(nearest) or self.now - depth.arrival >= self.max_wait:
            return False
        if any(other.stamp > depth.stamp for other in self.depth.frames):
            return False
        if not (self.depth.intervals and self.rgb.intervals):
            return False
        period = statistics.median(self.depth.intervals[-15:])
        if period >= 0.75 * statistics.median(self.rgb.intervals[-15:]):
            return False
        return abs(depth.stamp + period - nearest.stamp) < nearest.stamp - depth.stamp

    def is_certain(self, depth: Seen, nearest: Seen | None) -> bool:
        """Whether no RGB frame still to come can be nearer, or `depth` has waited long enough."""
        if self.now - depth.arrival >= self.max_wait:
            return True
        if nearest is None:
            return False
        intervals = self.rgb.intervals[-15:]
        if self.slop is None and not intervals:  # the slop is not known: only equal stamps are certain
            available = {rgb.stamp for rgb in self.rgb.queue if not self.is_gone(rgb)}
            return depth.stamp in available or (self.spent is not None and self.spent >= depth.stamp)
        if any(rgb.stamp >= depth.stamp for rgb in self.rgb.frames):
            return True
        return bool(intervals) and depth.stamp - nearest.stamp < min(intervals) / 2

    def is_within(self, rgb: Seen, depth: Seen) -> bool:
        return abs(rgb.stamp - depth.stamp) <= self.rgb.limit(self.slop, 0.5)

    def is_gone(self, rgb: Seen) -> bool:
        """Pairs leave in the order of RGB stamps: none goes back behind one that left or was evicted."""
        return self.spent is not None and rgb.stamp <= self.spent

    def spend(self, rgb: Seen) -> None:
        self.spent = rgb.stamp if self.spent is None else max(self.spent, rgb.stamp)

    def release(self) -> None:
        gone = [rgb for rgb in self.rgb.queue if self.is_gone(rgb)]
        self.rgb.unpaired += len(gone)
        self.rgb.queue = [rgb for rgb in self.rgb.queue if rgb not in gone]

    # Key "rgb".

    def expect_rgb(self) -> list[tuple[int, int]]:
        """The pairs that leave now, (RGB serial, depth serial); moves queues and counters along."""
        left = []
        latest = max(self.depth.frames, key=lambda seen: seen.order, default=None)
        superseded = [depth for depth in self.depth.queue if depth is not latest]
        self.depth.unpaired += len(superseded)
        self.depth.queue = [depth for depth in self.depth.queue if depth is latest]
        limit = self.depth.limit(self.slop, 1.5)
        self.release_behind()
        for rgb in sorted(self.rgb.queue, key=lambda seen: seen.order):
            if latest is not None and abs(rgb.stamp - latest.stamp) <= limit:
                self.rgb.queue.remove(rgb)
                self.rgb.paired += 1
                self.reused += latest.used
                self.depth.paired += not latest.used
                latest.used, self.depth.queue = True, []
                self.spend(rgb)
                left.append((rgb.serial, latest.serial))
            elif self.now - rgb.arrival >= self.max_wait:
                self.rgb.queue.remove(rgb)
                self.rgb.unpaired += 1
        self.release_behind()
        self.rgb.evict(self.queue_size)
        return left

    def release_behind(self) -> None:
        """An RGB frame whose pair would go back in time finds no partner; one of an equal stamp may."""
        behind = [rgb for rgb in self.rgb.queue if self.spent is not None and rgb.stamp < self.spent]
        self.rgb.unpaired += len(behind)
        self.rgb.queue = [rgb for rgb in self.rgb.queue if rgb not in behind]


def serials(pairs: list[Pair]) -> list[tuple[int, int]]:
    """The pairs by the serials of their messages, (RGB, depth); keeps no message alive."""
    return [(pair.rgb.serial, pair.depth.serial) for pair in pairs]


# Two streams.


class Event(NamedTuple):
    at: int  # ms
    name: str
    stamp: int  # ms


FATES = st.sampled_from(["ok"] * 6 + ["dropped", "twice", "late"])


@st.composite
def arrivals(draw: st.DrawFn, name: str) -> list[Event]:
    """The frames of one camera in no order: a rhythm with jitter, drops, duplicates and late ones."""
    period = draw(st.sampled_from([10, 16, 33, 40, 40, 100]))
    phase = draw(st.sampled_from([0, period // 2]) | st.integers(0, period))
    latency = draw(st.sampled_from([0, 5, 50, 150]))
    jitter = draw(st.sampled_from([0, 0, 2, 20]))
    frame = st.tuples(FATES, st.integers(-jitter, jitter))
    frames = draw(st.lists(frame, min_size=draw(st.sampled_from([0, 20])), max_size=30))
    cut = draw(st.sampled_from([None, None, 5, 12]))  # a bag that starts again
    back = period + draw(st.sampled_from([999, 1000, 1001, 20_000]))
    events = []
    for index, (fate, shake) in enumerate(frames):
        time = 10_000 + phase + index * period
        stamp = time + shake - (back if cut is not None and index >= cut else 0)
        delay = latency + (3 * period if fate == "late" else 0)
        events += [Event(time + delay, name, stamp)] * {"dropped": 0, "twice": 2}.get(fate, 1)
    return events


@st.composite
def two_streams(draw: st.DrawFn) -> list[Event]:
    """The frames of both cameras as they arrive, with polls and a few calls of clear between them."""
    other = st.tuples(st.integers(10_000, 11_000), st.sampled_from(["poll"] * 9 + ["clear"]))
    others = [Event(at, name, 0) for at, name in draw(st.lists(other, max_size=10))]
    events = draw(arrivals("rgb")) + draw(arrivals("depth")) + others
    return sorted(events, key=lambda event: event.at)


def watch(key: str, events: list[Event], slop: int | None, queue_size: int, max_wait: float) -> None:
    witness = Witness(key, slop, queue_size, max_wait)
    for event in events:
        witness.now = event.at / 1000
        if event.name == "poll":
            witness.poll()
        elif event.name == "clear":
            witness.clear()
        else:
            witness.push(event.name, event.stamp)
    witness.clear()
    assert not any(seen.message() for seen in witness.everything)


OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "events": two_streams(),
    "slop": st.sampled_from([None, 0, 4, 16, 60]),
    "queue_size": st.sampled_from([1, 2, 3, 10]),
    "max_wait": st.sampled_from([0.0, 0.06, 0.2, 1e9]),
}
both_keys = pytest.mark.parametrize("key", ["depth", "rgb"])


@both_keys
@settings(max_examples=200, deadline=None)
@given(**OPTIONS)
def test_two_streams_leave_as_a_search_through_everything_says_and_nothing_else_is_kept(
    key: str, events: list[Event], slop: int | None, queue_size: int, max_wait: float
) -> None:
    watch(key, events, slop, queue_size, max_wait)


@pytest.mark.long
@pytest.mark.timeout(600)
@both_keys
@settings(max_examples=2000, deadline=None)
@given(**OPTIONS)
def test_two_streams_leave_as_a_search_through_everything_says_in_many_examples(
    key: str, events: list[Event], slop: int | None, queue_size: int, max_wait: float
) -> None:
    watch(key, events, slop, queue_size, max_wait)


@both_keys
@settings(max_examples=100, deadline=None)
@given(slop_us=st.integers(0, 2_000_000), earlier=st.booleans())
def test_a_difference_of_just_the_slop_is_within_and_one_nanosecond_more_is_not(
    key: str, slop_us: int, earlier: bool
) -> None:
    for beyond in (0, 1):
        pairer = FramePairer(key, slop_us / 1e6, max_wait=0.0)
        difference = slop_us * 1000 + beyond
        rgb, depth = (0, difference) if earlier else (difference, 0)
        if key == "depth":
            pairs = pairer.push_rgb(rgb, "rgb") + pairer.push_depth(depth, "depth")
        else:
            pairs = pairer.push_depth(depth, "depth") + pairer.push_rgb(rgb, "rgb")
        assert len(pairs) == 1 - beyond


# Work.


class Counted(int):
    """Counts the comparisons that stamps and their differences take part in, those of bisect and sort too."""

    total = 0

    def __sub__(self, other: int) -> Counted:
        return Counted(int(self) - int(other))

    def __lt__(self, other: int) -> bool:
        Counted.total += 1
        return int(self) < int(other)

    def __gt__(self, other: int) -> bool:
        Counted.total += 1
        return int(self) > int(other)

    def __eq__(self, other: object) -> bool:
        Counted.total += 1
        return isinstance(other, int) and int(self) == int(other)

    __hash__ = int.__hash__


def work(call: Callable[[], Any]) -> int:
    """Lines of pairing.py that `call` runs and comparisons of stamps that it makes."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace if frame.f_code.co_filename == pairing.__file__ else None

    before, comparisons = sys.gettrace(), Counted.total
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines + Counted.total - comparisons


# Names of streams, in turn. The clock stands still: nothing leaves by waiting.
RHYTHMS = {
    "both": ["rgb", "depth"],
    "rgb only": ["rgb"],
    "depth only": ["depth"],
    "fast rgb": ["rgb"] * 9 + ["depth"],
}


@both_keys
@pytest.mark.parametrize("rhythm", RHYTHMS)
@pytest.mark.parametrize("offset_ms", [0, 4, 400])
def test_the_work_for_a_message_does_not_grow_with_the_number_of_messages(
    key: str, rhythm: str, offset_ms: int
) -> None:
    pairer = FramePairer(key, clock=lambda: 0.0)
    costs = []
    names = itertools.cycle(RHYTHMS[rhythm])
    for index in range(4000):
        name = next(names)
        push = pairer.push_rgb if name == "rgb" else pairer.push_depth
        stamp = Counted((index * 33 + (name == "depth") * offset_ms) * MS)
        costs.append(work(lambda push=push, stamp=stamp: push(stamp, None)))  # type: ignore[misc]
    assert max(costs[3000:]) <= max(costs[100:500])
    assert min(costs) > 0 and max(costs) < 1000
