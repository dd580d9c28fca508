# SPDX-License-Identifier: Apache-2.0
"""The policies of pairing behind one interface; those of message_filters only where it is installed."""

from __future__ import annotations

import gc
import importlib.util
import sys
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="no ROS 2 is installed")

from std_msgs.msg import Header

from depth_sr_ros.errors import ConfigError
from depth_sr_ros.pairing import Pair, PairingCounts
from depth_sr_ros.ros import sync
from depth_sr_ros.ros.messages import header, to_nanoseconds

MS = 1_000_000
OPTIONS: dict[str, Any] = {"key": "depth", "slop": -1.0, "queue_size": 10, "max_wait": 0.2}
NEEDED = pytest.mark.skipif(sync.message_filters is None, reason="message_filters is not installed")
THEIRS = [pytest.param("approximate", marks=NEEDED), pytest.param("exact", marks=NEEDED)]
every_policy = pytest.mark.parametrize("policy", ["nearest", *THEIRS])
policies_of_message_filters = pytest.mark.parametrize("policy", THEIRS)


class Frame:
    """All that the synchronizers look at in an Image; unlike one it can be referred to weakly."""

    def __init__(self, stamp: int, name: str = "") -> None:
        self.header: Header = header(stamp, name)


class Bench:
    """A synchronizer behind two input filters, and what it gave; stamps in milliseconds."""

    def __init__(
        self,
        policy: str,
        on_pairs: Callable[[list[Pair]], None] | None = None,
        wrap: Callable[[Any], Any] = lambda source: source,
        module: ModuleType = sync,
        **options: Any,
    ) -> None:
        self.rgb_input, self.depth_input = module.InputFilter(), module.InputFilter()
        self.pairs: list[tuple[float, float]] = []
        self.synchronizer: sync.Synchronizer = module.make_synchronizer(
            policy, wrap(self.rgb_input), wrap(self.depth_input), on_pairs or self.take, **OPTIONS | options
        )

    def take(self, pairs: list[Pair]) -> None:
        assert pairs
        for pair in pairs:
            for frame, stamp in ((pair.rgb, pair.rgb_stamp), (pair.depth, pair.depth_stamp)):
                assert to_nanoseconds(frame.header.stamp) == stamp
            assert (pair.rgb.header.frame_id, pair.depth.header.frame_id) == ("rgb", "depth")
        self.pairs += [(pair.rgb_stamp / MS, pair.depth_stamp / MS) for pair in pairs]

    def rgb(self, *stamps_ms: float) -> None:
        for stamp in stamps_ms:
            self.rgb_input.signalMessage(Frame(round(stamp * MS), "rgb"))

    def depth(self, *stamps_ms: float) -> None:
        for stamp in stamps_ms:
            self.depth_input.signalMessage(Frame(round(stamp * MS), "depth"))

    def counts(self) -> PairingCounts:
        counts = self.synchronizer.counts()
        for stream in (counts.rgb, counts.depth):
            assert stream.received == stream.paired + stream.unpaired + stream.evicted + stream.queued
            assert min(stream) >= 0
        assert counts.rgb.paired == counts.pairs
        assert counts.depth.paired == counts.pairs - counts.reused
        return counts


# Every policy.


@every_policy
def test_equal_stamps_pair_at_once_in_either_order(policy: str) -> None:
    bench = Bench(policy)
    bench.rgb(1000)
    assert bench.pairs == []
    bench.depth(1000)
    assert bench.pairs == [(1000, 1000)]
    bench.depth(1033)
    bench.rgb(1033)
    assert bench.pairs == [(1000, 1000), (1033, 1033)]
    assert bench.counts().pairs == 2


@every_policy
def test_an_exception_in_the_callback_reaches_the_sender_and_pairing_goes_on(policy: str) -> None:
    taken: list[Pair] = []

    def fail_once(pairs: list[Pair]) -> None:
        taken.extend(pairs)
        if len(taken) == 1:
            raise RuntimeError("the first time")

    bench = Bench(policy, fail_once)
    bench.rgb(1000)
    with pytest.raises(RuntimeError, match="the first time"):
        bench.depth(1000)

    def send() -> None:
        bench.rgb(1033)
        bench.depth(1033)

    later = threading.Thread(target=send, daemon=True)  # a lock left held would block it for ever
    later.start()
    later.join(timeout=10)
    assert not later.is_alive()
    assert [pair.rgb_stamp for pair in taken] == [1000 * MS, 1033 * MS]
    assert bench.counts().pairs == 2


@every_policy
def test_the_callback_may_call_the_synchronizer(policy: str) -> None:
    seen: list[int] = []

    def call_back(pairs: list[Pair]) -> None:
        seen.append(bench.synchronizer.counts().pairs)
        bench.synchronizer.poll()
        bench.synchronizer.clear()

    bench = Bench(policy, call_back)
    bench.rgb(1000)
    bench.depth(1000)
    assert seen == [1]


@every_policy
def test_a_jump_back_of_more_than_a_second_clears_both_sides_and_pairing_goes_on(policy: str) -> None:
    bench = Bench(policy)
    bench.rgb(*range(5000, 5330, 33))
    bench.depth(9000)
    assert bench.counts().resets == 0
    bench.depth(10)  # a bag starts again
    counts = bench.counts()
    assert counts.resets == 1
    assert (counts.rgb.evicted, counts.depth.evicted, counts.depth.queued) == (10, 1, 1)
    bench.rgb(10, 43)
    bench.depth(43)
    assert bench.pairs == [(10, 10), (43, 43)]
    assert bench.counts().resets == 1


@every_policy
def test_a_looped_bag_keeps_pairing(policy: str) -> None:
    bench = Bench(policy)
    for _ in range(3):
        for index in range(60):
            bench.rgb(index * 33)
            bench.depth(index * 33)
    assert len(bench.pairs) == 3 * 60
    assert bench.counts().resets == 2


@every_policy
def test_clear_evicts_what_waits(policy: str) -> None:
    bench = Bench(policy)
    bench.rgb(1000, 1033)
    bench.synchronizer.clear()
    bench.depth(1000, 1033)
    counts = bench.counts()
    assert bench.pairs == []
    assert (counts.rgb.evicted, counts.rgb.queued) == (2, 0)


@every_policy
def test_once_closed_it_takes_no_message_and_keeps_its_counters(policy: str) -> None:
    bench = Bench(policy)
    bench.rgb(1000, 1033)
    bench.depth(1000)
    bench.synchronizer.close()
    before = bench.counts()
    assert before.rgb.evicted == 1
    bench.depth(1033)
    bench.rgb(1066)
    bench.synchronizer.poll()
    bench.synchronizer.close()
    assert bench.pairs == [(1000, 1000)]
    assert bench.counts() == before


@every_policy
def test_a_users_own_filters_can_feed_it(policy: str) -> None:
    class EverySecond(sync.PlainFilter):
        def __init__(self, source: sync.Filter) -> None:
            super().__init__()
            self.count = 0
            source.registerCallback(self.add, 2)

        def add(self, message: Any, every: int) -> None:
            self.count += 1
            if self.count % every == 0:
                self.signalMessage(message)

    bench = Bench(policy, wrap=EverySecond)
    for stamp in range(1000, 1200, 33):
        bench.rgb(stamp)
        bench.depth(stamp)
    assert bench.pairs == [(1033, 1033), (1099, 1099), (1165, 1165)]
    assert bench.counts().rgb.received == 3


@NEEDED
@every_policy
def test_a_cache_of_message_filters_can_feed_it(policy: str) -> None:
    bench = Bench(policy, wrap=lambda source: sync.message_filters.Cache(source, 5))
    assert isinstance(bench.rgb_input, sync.message_filters.SimpleFilter)
    bench.rgb(1000)
    bench.depth(1000)
    assert bench.pairs == [(1000, 1000)]


@every_policy
def test_messages_are_released_once_they_have_left(policy: str) -> None:
    bench = Bench(policy, on_pairs=lambda pairs: None, queue_size=4)
    frames: list[weakref.ref[Frame]] = []
    for index in range(100):
        for source in (bench.rgb_input, bench.depth_input):
            frame = Frame((1000 + 33 * index + (index % 7 == 0) * 5) * MS)
            frames.append(weakref.ref(frame))
            if index % 5 or source is bench.rgb_input:
                source.signalMessage(frame)
            del frame
    gc.collect()
    counts = bench.counts()
    assert sum(frame() is not None for frame in frames) == counts.rgb.queued + counts.depth.queued <= 8
    bench.synchronizer.close()
    gc.collect()
    assert not any(frame() for frame in frames)


STEPS_MS = st.one_of(
    st.just(33), st.integers(0, 60), st.integers(-50, 0), st.sampled_from([-5000, -999, 2000])
)


@every_policy
@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(st.tuples(st.sampled_from(["rgb", "depth", "poll"]), STEPS_MS), max_size=60),
    slop_ms=st.sampled_from([-1000, 0, 5, 30]),
    queue_size=st.sampled_from([1, 2, 5]),
)
def test_in_any_interleaving_all_is_accounted_for_and_no_frame_pairs_twice(
    policy: str, events: list[tuple[str, int]], slop_ms: int, queue_size: int
) -> None:
    pairs: list[Pair] = []
    bench = Bench(policy, pairs.extend, slop=slop_ms / 1000, queue_size=queue_size)
    stamps = {"rgb": 3000, "depth": 3000}  # -5000 makes a stamp negative
    received = {"rgb": 0, "depth": 0}
    for name, step in events:
        if name == "poll":
            bench.synchronizer.poll()
        else:
            stamps[name] += step
            received[name] += 1
            (bench.rgb if name == "rgb" else bench.depth)(stamps[name])
        counts = bench.counts()
        assert (counts.rgb.received, counts.depth.received) == (received["rgb"], received["depth"])
        assert counts.pairs == len(pairs)
        assert max(counts.rgb.queued, counts.depth.queued) <= queue_size
    for frames in ([pair.rgb for pair in pairs], [pair.depth for pair in pairs]):
        assert len(frames) == len({id(frame) for frame in frames})
    if slop_ms >= 0 or policy != "nearest":
        limit = {"exact": 0, "approximate": 20 if slop_ms < 0 else slop_ms}.get(policy, slop_ms)
        assert all(abs(pair.rgb_stamp - pair.depth_stamp) <= limit * MS for pair in pairs)


# The policies of message_filters.


@policies_of_message_filters
@settings(max_examples=60, deadline=None)
@given(events=st.lists(st.tuples(st.booleans(), st.integers(-50, 60)), max_size=60))
def test_without_jumps_the_pairs_are_those_of_message_filters_itself(
    policy: str, events: list[tuple[bool, int]]
) -> None:
    inputs = [sync.message_filters.SimpleFilter() for _ in range(2)]
    bare = (
        sync.message_filters.TimeSynchronizer(inputs, 5)
        if policy == "exact"
        else sync.message_filters.ApproximateTimeSynchronizer(inputs, 5, 0.0150000015)
    )
    expected: list[tuple[Frame, Frame]] = []
    bare.registerCallback(lambda rgb, depth: expected.append((rgb, depth)))
    got: list[Pair] = []
    bench = Bench(policy, got.extend, slop=0.015, queue_size=5)
    stamps = [100_000, 100_000]
    for is_depth, step in events:
        stamps[is_depth] += step
        frame = Frame(stamps[is_depth] * MS)
        inputs[is_depth].signalMessage(frame)
        (bench.depth_input if is_depth else bench.rgb_input).signalMessage(frame)
    assert bench.counts().resets == 0
    assert [(pair.rgb, pair.depth) for pair in got] == expected


@policies_of_message_filters
def test_a_negative_stamp_is_unpaired_and_blocks_nothing(policy: str) -> None:
    bench = Bench(policy)
    bench.rgb(-500)
    bench.depth(-500)
    assert (bench.counts().rgb.unpaired, bench.counts().depth.unpaired) == (1, 1)
    bench.rgb(0)
    bench.depth(0)
    assert bench.pairs == [(0, 0)]


@policies_of_message_filters
def test_the_oldest_of_a_full_queue_is_evicted_and_one_of_equal_stamp_replaced(policy: str) -> None:
    bench = Bench(policy, queue_size=2)
    bench.rgb(1000, 1100, 1200, 1200)
    counts = bench.counts().rgb
    assert (counts.evicted, counts.unpaired, counts.queued) == (1, 1, 2)
    bench.rgb(500)  # older than all that wait: it is itself the oldest
    assert (bench.counts().rgb.evicted, bench.counts().rgb.queued) == (2, 2)


@policies_of_message_filters
def test_the_key_rgb_is_refused_with_the_way_out(policy: str) -> None:
    with pytest.raises(ConfigError, match="use sync.policy 'nearest' or sync.key 'depth'"):
        Bench(policy, key="rgb")


@NEEDED
def test_the_slop_of_approximate_is_20_ms_unless_given_and_bounds_inclusively() -> None:
    bench = Bench("approximate")
    bench.rgb(1000, 2000)
    bench.depth(1020, 2020.000001)
    assert bench.pairs == [(1000, 1020)]
    for slop_ms in (0, 0.000001, 0.3, 7, 16.7, 33.1, 500):
        bench = Bench("approximate", slop=slop_ms / 1000)
        bench.rgb(1000)
        bench.depth(1000 + slop_ms + 0.000001)
        assert bench.pairs == []
        bench.depth(1000 + slop_ms)
        assert len(bench.pairs) == 1


@NEEDED
def test_exact_ignores_the_slop() -> None:
    bench = Bench("exact", slop=0.5)
    bench.rgb(1000)
    bench.depth(1001, 1000)
    assert bench.pairs == [(1000, 1000)]


# The nearest policy, and what is refused.


def test_poll_hands_over_the_best_pair_of_a_frame_that_waited_long_enough() -> None:
    bench = Bench("nearest", slop=0.05, max_wait=0.0)
    bench.rgb(1000)
    bench.depth(1040)
    assert bench.pairs == [(1000, 1040)]
    bench = Bench("nearest", slop=0.05, max_wait=0.01)
    bench.rgb(1000)
    bench.depth(1040)
    assert bench.pairs == []
    threading.Event().wait(0.02)
    bench.synchronizer.poll()
    assert bench.pairs == [(1000, 1040)]


def test_nearest_with_the_key_rgb_reuses_the_latest_depth() -> None:
    bench = Bench("nearest", key="rgb", slop=0.1)
    bench.depth(1000)
    bench.rgb(1000, 1033, 1066)
    assert bench.pairs == [(1000, 1000), (1033, 1000), (1066, 1000)]
    assert bench.counts().reused == 2


def test_a_policy_that_is_none_is_refused_naming_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="sync.policy is 'aproximate'.*did you mean 'approximate'"):
        Bench("aproximate")


@every_policy
@pytest.mark.parametrize(("name", "value"), [("slop", -0.5), ("queue_size", 0), ("max_wait", -1.0)])
def test_a_value_out_of_range_is_refused(policy: str, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"sync.{name} is {value}"):
        Bench(policy, **{name: value})


# Without message_filters.


@pytest.fixture
def bare_sync(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, loaded anew where message_filters cannot be imported."""
    monkeypatch.setitem(sys.modules, "message_filters", None)
    spec = importlib.util.spec_from_file_location("bare_sync", sync.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bare_sync", module)
    spec.loader.exec_module(module)
    return module


def test_without_message_filters_nearest_works_through_a_filter_of_our_own(bare_sync: ModuleType) -> None:
    assert bare_sync.InputFilter is bare_sync.PlainFilter
    bench = Bench("nearest", module=bare_sync)
    bench.rgb(1000)
    bench.depth(1000)
    assert bench.pairs == [(1000, 1000)]


@pytest.mark.parametrize("policy", ["approximate", "exact"])
@pytest.mark.parametrize("distribution", ["jazzy", None])
def test_without_message_filters_its_policies_name_the_package_and_the_default(
    bare_sync: ModuleType, monkeypatch: pytest.MonkeyPatch, policy: str, distribution: str | None
) -> None:
    if distribution is None:
        monkeypatch.delenv("ROS_DISTRO", raising=False)
    else:
        monkeypatch.setenv("ROS_DISTRO", distribution)
    with pytest.raises(bare_sync.ConfigError) as caught:
        Bench(policy, module=bare_sync)
    said = str(caught.value)
    assert said.startswith(f"sync.policy '{policy}' needs message_filters, which cannot be imported (")
    assert f"apt install ros-{distribution or '$ROS_DISTRO'}-message-filters, or use" in said
    assert said.endswith("the default sync.policy 'nearest'")


def test_a_filter_of_our_own_passes_messages_on_in_the_order_of_registration() -> None:
    source, seen = sync.PlainFilter(), []
    assert source.registerCallback(lambda message, tag: seen.append((message, tag)), "a") == 0
    assert source.registerCallback(lambda message: seen.append((message, "b"))) == 1
    source.signalMessage("m")
    assert seen == [("m", "a"), ("m", "b")]
