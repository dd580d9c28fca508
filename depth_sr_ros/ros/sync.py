# SPDX-License-Identifier: Apache-2.0
"""Pairs RGB and depth messages by one of three policies, all fed through message_filters' filter interface.

`nearest` is our own (depth_sr_ros.pairing) and needs nothing. `approximate` and `exact` are message_filters'
ApproximateTimeSynchronizer and TimeSynchronizer, where that package is installed.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rclpy.duration import Duration

from depth_sr_ros.config import check_choice
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.pairing import AUTO_SLOP, FramePairer, Pair, PairingCounts
from depth_sr_ros.parameters import POLICIES
from depth_sr_ros.ros.messages import to_nanoseconds
from depth_sr_ros.stamped_queue import JUMP_NS, StreamCounts

try:
    message_filters: Any = importlib.import_module("message_filters")
except ImportError as error:
    message_filters, _import_error = None, str(error)

# Half the period of a 30 Hz camera is 16.7 ms, and stamps jitter. Pairing is greedy: a wider slop would let
# a depth frame take an RGB frame that is not its neighbour.
APPROXIMATE_SLOP_S = 0.02

OnPairs = Callable[[list[Pair]], None]


class PlainFilter:
    """What message_filters.SimpleFilter is, for a machine without it."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def registerCallback(self, callback: Callable[..., None], *args: Any) -> int:
        """Have `callback(message, *args)` called for each message; returns the number of the connection."""
        connection = len(self.callbacks)
        self.callbacks[connection] = (callback, args)
        return connection

    def signalMessage(self, *messages: Any) -> None:
        """Give a message to all callbacks, in the order of their registration."""
        for callback, args in self.callbacks.values():
            callback(*messages, *args)


# The end of a chain of filters that a node pushes its messages into, by signalMessage.
InputFilter: type[PlainFilter] = getattr(message_filters, "SimpleFilter", PlainFilter)


class Filter(Protocol):
    """Anything that passes messages on: an InputFilter, a message_filters.Cache, a user's own filter."""

    def registerCallback(self, callback: Callable[..., None], /, *args: Any) -> Any:
        """Have `callback(message, *args)` called for each message."""


class Synchronizer(Protocol):
    """Takes messages from two filters and gives each pair to `on_pairs` once, in lists that are never empty.

    `on_pairs` runs on the thread that brought the last message, with no lock held: it may raise, and it may
    call the synchronizer. Every method may be called from any thread.
    """

    def poll(self) -> None:
        """Hand over what has waited long enough; call it a few times per `max_wait`."""

    def set_limits(self, slop: float, max_wait: float) -> None:
        """Change `sync.slop` and `sync.max_wait` from the next message on, as far as the policy has them."""

    def clear(self) -> None:
        """Evict all that waits."""

    def counts(self) -> PairingCounts:
        """The counters, of one moment: received = paired + unpaired + evicted + queued for each stream."""

    def close(self) -> None:
        """Evict all that waits and take no further message; safe to call again. The counters stay."""


def make_synchronizer(
    policy: str,
    rgb_input: Filter,
    depth_input: Filter,
    on_pairs: OnPairs,
    *,
    key: str,
    slop: float,
    queue_size: int,
    max_wait: float,
) -> Synchronizer:
    """The synchronizer for `sync.policy`, connected to both inputs.

    Args:
        policy: `nearest`, `approximate` or `exact`.
        key: the stream that sets the output rate, `depth` or `rgb`; `rgb` only with `nearest`, for the
            others use each depth frame once.
        slop: the largest difference of stamps in a pair, in seconds, itself included. -1 is automatic:
            `nearest` measures the period, `approximate` takes 0.02 s. `exact` ignores it.
        queue_size: frames kept per stream; the oldest is evicted.
        max_wait: seconds that a frame waits with `nearest`. With the others it waits until it is evicted.

    Raises ConfigError on a value out of range, and where message_filters is needed and not installed.
    """
    check_choice("sync.policy", policy, POLICIES)
    pairer = FramePairer(key, slop, queue_size, max_wait)  # checks the values, for every policy
    if policy == "nearest":
        return NearestSynchronizer(rgb_input, depth_input, on_pairs, pairer)
    _check_installed(policy)
    if key == "rgb":
        raise ConfigError(
            f"sync.key 'rgb' re-uses depth frames, which sync.policy {policy!r} cannot: "
            "use sync.policy 'nearest' or sync.key 'depth'"
        )
    if policy == "exact":
        return MessageFiltersSynchronizer(rgb_input, depth_input, on_pairs, queue_size)
    return MessageFiltersSynchronizer(rgb_input, depth_input, on_pairs, queue_size, _seconds(slop))


def _seconds(slop: float) -> float:
    return APPROXIMATE_SLOP_S if slop == AUTO_SLOP else slop


def _check_installed(policy: str) -> None:
    if message_filters is None:
        package = os.path.expandvars("ros-$ROS_DISTRO-message-filters")
        raise ConfigError(
            f"sync.policy {policy!r} needs message_filters, which cannot be imported ({_import_error}): "
            f"apt install {package}, or use the default sync.policy 'nearest'"
        )


class NearestSynchronizer:
    """`pairer` between two filters and `on_pairs`; a Synchronizer."""

    def __init__(
        self, rgb_input: Filter, depth_input: Filter, on_pairs: OnPairs, pairer: FramePairer
    ) -> None:
        self._pairer = pairer
        self._on_pairs = on_pairs
        self._closed = False
        rgb_input.registerCallback(self._on_message, pairer.push_rgb)
        depth_input.registerCallback(self._on_message, pairer.push_depth)

    def poll(self) -> None:
        self._hand_over(self._pairer.poll())

    def set_limits(self, slop: float, max_wait: float) -> None:
        self._pairer.set_limits(slop, max_wait)

    def clear(self) -> None:
        self._pairer.clear()

    def counts(self) -> PairingCounts:
        return self._pairer.counts()

    def close(self) -> None:
        # A flag, since message_filters has no way to unregister before 2026.
        self._closed = True
        self._pairer.clear()

    def _on_message(self, message: Any, push: Callable[[int, Any], list[Pair]]) -> None:
        if not self._closed:
            self._hand_over(push(to_nanoseconds(message.header.stamp), message))

    def _hand_over(self, pairs: list[Pair]) -> None:
        if pairs:
            self._on_pairs(pairs)


def _inclusive(slop: float) -> float:
    """What message_filters must get to pair a difference of `slop` seconds too: it compares with <."""
    # Half a nanosecond against the rounding down of seconds to nanoseconds.
    return (round(slop * 1e9) + 1.5) / 1e9


@dataclass
class _Tally:
    """The counters of one stream, and its newest stamp in nanoseconds."""

    received: int = 0
    paired: int = 0
    unpaired: int = 0
    evicted: int = 0
    newest: int | None = None


class MessageFiltersSynchronizer:
    """message_filters' TimeSynchronizer, or with a slop its approximate one, with its traps fenced off.

    - An exception in its callback would leave its lock held for ever: pairs are collected, and handed over
      when it has returned. So would, with `exact`, a negative stamp: such a frame is counted unpaired.
    - After a jump back in time old frames would fill its queues: a stamp that goes back by more than a
      second clears both sides and counts as a reset.
    - It pairs differences below its slop only, none with slop 0: it gets one nanosecond more.

    What cannot be fenced off: pairing is greedy, so a fast RGB stream can pair one frame off; of two frames
    with equal stamps in one stream the later replaces the earlier (unpaired). Needs message_filters.

    Args:
        slop: seconds, the difference itself included; None = equal stamps, by TimeSynchronizer.
    """

    def __init__(
        self,
        rgb_input: Filter,
        depth_input: Filter,
        on_pairs: OnPairs,
        queue_size: int,
        slop: float | None = None,
    ) -> None:
        # Filters of its own: nothing reaches it but under the lock and between two looks at its queues.
        self._gates = [InputFilter(), InputFilter()]
        if slop is None:
            self._filter = message_filters.TimeSynchronizer(self._gates, queue_size)
        else:
            self._filter = message_filters.ApproximateTimeSynchronizer(
                self._gates, queue_size, _inclusive(slop)
            )
        self._filter.registerCallback(self._collect)
        self._queue_size = queue_size
        self._on_pairs = on_pairs
        self._tallies = [_Tally(), _Tally()]
        self._collected: list[Pair] = []
        self._resets = 0
        self._closed = False
        self._lock = threading.Lock()
        rgb_input.registerCallback(self._on_message, 0)
        depth_input.registerCallback(self._on_message, 1)

    def poll(self) -> None:
        """Nothing to do: it pairs as messages come, and lets none leave by age."""

    def set_limits(self, slop: float, max_wait: float) -> None:
        with self._lock:
            if hasattr(self._filter, "slop"):
                self._filter.slop = Duration(seconds=_inclusive(_seconds(slop)))

    def clear(self) -> None:
        with self._lock:
            self._clear()

    def counts(self) -> PairingCounts:
        with self._lock:
            rgb, depth = (
                StreamCounts(tally.received, tally.paired, tally.unpaired, tally.evicted, len(queue))
                for tally, queue in zip(self._tallies, self._filter.queues, strict=True)
            )
            return PairingCounts(rgb, depth, pairs=rgb.paired, reused=0, resets=self._resets)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._clear()

    def _on_message(self, message: Any, side: int) -> None:
        with self._lock:
            pairs = [] if self._closed else self._add(message, side)
        if pairs:
            self._on_pairs(pairs)

    def _add(self, message: Any, side: int) -> list[Pair]:
        stamp = to_nanoseconds(message.header.stamp)
        tally, queues = self._tallies[side], self._filter.queues
        if tally.newest is not None and tally.newest - stamp > JUMP_NS:
            self._resets += 1
            self._clear()
        tally.newest = stamp if tally.newest is None else max(stamp, tally.newest)
        tally.received += 1
        if stamp < 0:
            tally.unpaired += 1
            return []
        expected = [len(queue) for queue in queues]
        expected[side] += 1
        evicted = max(0, expected[side] - (stamp in queues[side]) - self._queue_size)
        tally.evicted += evicted
        expected[side] -= evicted
        self._gates[side].signalMessage(message)
        pairs, self._collected = self._collected, []
        # What is gone and neither left in a pair nor was evicted: replaced by one of the same stamp, or
        # dropped as older than a pair, which `exact` does since 2026.
        for other, queue, length in zip(self._tallies, queues, expected, strict=True):
            other.paired += len(pairs)
            other.unpaired += length - len(queue) - len(pairs)
        return pairs

    def _collect(self, rgb: Any, depth: Any) -> None:
        stamps = (to_nanoseconds(rgb.header.stamp), to_nanoseconds(depth.header.stamp))
        self._collected.append(Pair(rgb, depth, *stamps))

    def _clear(self) -> None:
        for tally, queue in zip(self._tallies, self._filter.queues, strict=True):
            tally.evicted += len(queue)
            tally.newest = None
            queue.clear()
