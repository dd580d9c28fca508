# SPDX-License-Identifier: Apache-2.0
"""Pairs an RGB and a depth stream by their stamps: the nearest frame, as early as it is certain.

With `key="depth"` each depth frame takes the nearest RGB frame within slop. It leaves as soon as no RGB
frame still to come can be nearer: one with a later stamp is there, or the nearest so far is closer than
half the RGB period. One RGB frame serves one depth frame; a further depth frame whose nearest it is counts
as unpaired. Of those that are there the nearest gets it; where the depth rate is the higher one, it also
waits for the next depth frame if that will be nearer.

With `key="rgb"` each RGB frame takes the latest depth frame, if that is within slop, and the next takes it
again: a 10 Hz LiDAR beside a 30 Hz camera gives 30 Hz. Older depth frames are not kept.

With both, pairs leave in the order of their RGB stamps: a frame that comes after a later one has left is
unpaired.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from depth_sr_ros.config import check_choice
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.stamped_queue import StampedQueue, StreamCounts, Waiting

KEYS = ("depth", "rgb")
AUTO_SLOP = -1.0
# In "rgb" mode the latest depth is up to one depth period old when an RGB frame comes; half a period more
# for its transport.
RGB_KEY_PERIODS = 1.5
# Depth periods below this share of the RGB period leave depth frames over, so a nearer one is worth a wait.
# At about equal rates it is not: jitter would cost a period each time that it makes the next frame nearer.
FAST_DEPTH_PERIODS = 0.75


class Pair(NamedTuple):
    """Two messages that belong together, with their stamps in nanoseconds."""

    rgb: Any
    depth: Any
    rgb_stamp: int
    depth_stamp: int


class PairingCounts(NamedTuple):
    """`pairs` left, `reused` of them with a depth frame that had left before; `resets`: jumps back."""

    rgb: StreamCounts
    depth: StreamCounts
    pairs: int
    reused: int
    resets: int


def _check_limits(slop: float, max_wait: float) -> None:
    if slop != AUTO_SLOP and not slop >= 0:
        raise ConfigError(f"sync.slop is {slop} s, but must be at least 0, or -1 for automatic")
    if not max_wait >= 0:
        raise ConfigError(f"sync.max_wait is {max_wait} s, but must be at least 0")


class FramePairer:
    """Push messages with their stamps, get pairs.

    Args:
        key: the stream that sets the output rate, `depth` or `rgb`.
        slop: the largest difference of stamps in a pair, in seconds; 0 = equal stamps; -1 = half the RGB
            period (key `depth`) or one and a half depth periods (key `rgb`), by the median of recent
            intervals. Until a period is known only equal stamps pair.
        queue_size: frames kept per stream; the oldest is evicted.
        max_wait: seconds of `clock` that a key frame waits before it takes the best within slop.
        clock: seconds, monotonic; stamps never meet it.

    Every method may be called from any thread. Messages are kept, never copied or looked into.

    Raises ConfigError on an argument out of range.
    """

    def __init__(
        self,
        key: str = "depth",
        slop: float = AUTO_SLOP,
        queue_size: int = 10,
        max_wait: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_choice("sync.key", key, KEYS)
        _check_limits(slop, max_wait)
        if queue_size < 1:
            raise ConfigError(f"sync.queue_size is {queue_size}, but must be at least 1")
        self._slop = slop
        self._max_wait = max_wait
        self._clock = clock
        self._rgb = StampedQueue(queue_size)
        self._depth = StampedQueue(queue_size)
        self._pairs = self._reused = self._resets = 0
        self._key = key
        self._decide = self._decide_depth if key == "depth" else self._decide_rgb
        # The largest RGB stamp that is no longer available; queued ones are above it. With key "depth" it
        # suffices, beside the queue, to know the nearest of all RGB frames received.
        self._spent: int | None = None
        # Key "rgb": the latest depth frame, once used; until then it is in the queue.
        self._held: Waiting | None = None
        self._lock = threading.Lock()

    def push_rgb(self, stamp: int, message: Any) -> list[Pair]:
        """Give an RGB frame (stamp in nanoseconds); returns the pairs now complete, oldest first."""
        return self._push(self._rgb, stamp, message)

    def push_depth(self, stamp: int, message: Any) -> list[Pair]:
        """Give a depth frame (stamp in nanoseconds); returns the pairs now complete, oldest first."""
        return self._push(self._depth, stamp, message)

    def poll(self) -> list[Pair]:
        """The pairs of key frames that have now waited `max_wait`; call it a few times per `max_wait`."""
        with self._lock:
            return self._decide(self._clock())

    def set_limits(self, slop: float, max_wait: float) -> None:
        """Change both, in seconds, from the next message on; ConfigError on a value out of range."""
        _check_limits(slop, max_wait)
        with self._lock:
            self._slop, self._max_wait = slop, max_wait

    def clear(self) -> None:
        """Evict all that waits and forget the rhythm of the streams."""
        with self._lock:
            self._clear()

    def counts(self) -> PairingCounts:
        """The counters, of one moment."""
        with self._lock:
            return PairingCounts(
                self._rgb.counts(), self._depth.counts(), self._pairs, self._reused, self._resets
            )

    def _push(self, stream: StampedQueue, stamp: int, message: Any) -> list[Pair]:
        with self._lock:
            if stream.jumped_back(stamp):
                self._resets += 1
                self._clear()
            now = self._clock()
            stream.push(stamp, message, now)
            # Before the eviction: what can leave now need not be evicted.
            pairs = self._decide(now)
            evicted = stream.evict_overflow()
            if evicted is not None and stream is self._rgb and self._key == "depth":
                self._spend(evicted.stamp)
            return pairs

    def _clear(self) -> None:
        self._rgb.clear()
        self._depth.clear()
        self._spent = self._held = None

    def _limit(self, period: float | None, periods: float) -> float:
        """The slop in nanoseconds."""
        if self._slop != AUTO_SLOP:
            # Half a nanosecond more, since 65e-6 * 1e9 is below 65000; stamps are whole.
            return self._slop * 1e9 + 0.5
        return 0.0 if period is None else period * periods

    def _pair(self, rgb: Waiting, depth: Waiting) -> Pair:
        self._pairs += 1
        return Pair(rgb.message, depth.message, rgb.stamp, depth.stamp)

    # Key "depth".

    def _decide_depth(self, now: float) -> list[Pair]:
        self._release_rgb()
        pairs, waiting = [], []
        for index, depth in enumerate(self._depth.queue):
            nearest, is_final = self._choose(depth, now)
            if not is_final or self._waits_for_nearer(depth, nearest, now):
                waiting.append(depth)
                continue
            rgb = None
            if not self._has_nearer(nearest, index, now):
                rgb = self._take_rgb(depth.stamp, nearest)
            if rgb is None:
                self._depth.unpaired += 1
            else:
                self._depth.paired += 1
                pairs.append(self._pair(rgb, depth))
        self._depth.queue = waiting
        return pairs

    def _choose(self, depth: Waiting, now: float) -> tuple[int | None, bool]:
        """The stamp of the nearest RGB frame received, spent ones too, and whether that is final."""
        before, after = self._neighbours(depth.stamp)
        nearest = self._nearest(depth.stamp, before, after)
        return nearest, self._is_final(depth, nearest, after is not None, now)

    def _has_nearer(self, nearest: int | None, index: int, now: float) -> bool:
        """Whether a later depth frame in the queue takes the same RGB frame now, and is nearer to it."""
        queue = self._depth.queue
        stamp = queue[index].stamp
        if nearest is None or nearest <= stamp:
            return False
        later = bisect.bisect_left(queue, (stamp + 1,), index)
        # Where a later one is nearer, the next is.
        if later == len(queue) or abs(queue[later].stamp - nearest) >= nearest - stamp:
            return False
        return self._choose(queue[later], now) == (nearest, True)

    def _waits_for_nearer(self, depth: Waiting, nearest: int | None, now: float) -> bool:
        """Whether the next depth frame will be nearer to that RGB frame, by the rhythms of the streams."""
        if nearest is None or nearest <= depth.stamp or nearest == self._spent:
            return False
        if now - depth.arrival >= self._max_wait or not self._depth.is_newest(depth.stamp):
            return False
        period, rgb_period = self._depth.period, self._rgb.period
        if period is None or rgb_period is None or period >= FAST_DEPTH_PERIODS * rgb_period:
            return False
        return period < 2 * (nearest - depth.stamp)

    def _neighbours(self, stamp: int) -> tuple[int | None, int | None]:
        """The stamps of RGB frames received, spent ones too, that are next to `stamp`: below, at or above."""
        queue = self._rgb.queue
        index = bisect.bisect_left(queue, (stamp,))
        after = queue[index].stamp if index < len(queue) else None
        before = queue[index - 1].stamp if index else self._spent
        if before is not None and before >= stamp:  # spent ones only: nothing above them can be nearer
            after = before
        return before, after

    def _nearest(self, stamp: int, before: int | None, after: int | None) -> int | None:
        if before is None or after is None:
            return after if before is None else before
        return before if abs(stamp - before) <= abs(after - stamp) else after

    def _is_final(self, depth: Waiting, nearest: int | None, later_is_there: bool, now: float) -> bool:
        """Whether `depth` leaves now: no RGB frame still to come can be nearer, or it waited `max_wait`."""
        if now - depth.arrival >= self._max_wait:
            return True
        if nearest is None:
            return False
        # The second: RGB stamps of pairs never go back, so nothing that comes can be taken any more.
        if nearest == depth.stamp or (self._spent is not None and self._spent >= depth.stamp):
            return True
        if self._slop == AUTO_SLOP and self._rgb.period is None:
            return False
        shortest = self._rgb.shortest_period
        return later_is_there or (shortest is not None and 2 * (depth.stamp - nearest) < shortest)

    def _take_rgb(self, stamp: int, nearest: int | None) -> Waiting | None:
        """The RGB frame `nearest` where it is within slop and not spent; frames before it are released."""
        if nearest is None or nearest == self._spent:
            return None
        if abs(stamp - nearest) > self._limit(self._rgb.period, 0.5):
            return None
        queue = self._rgb.queue
        index = bisect.bisect_left(queue, (nearest,))
        rgb = queue.pop(index)
        self._rgb.paired += 1
        self._spend(rgb.stamp)
        return rgb

    def _spend(self, stamp: int) -> None:
        self._spent = stamp if self._spent is None else max(stamp, self._spent)
        self._release_rgb()

    def _release_rgb(self) -> None:
        """Drop RGB frames at or below the newest spent one, so that no output goes back in time."""
        if self._spent is None:
            return
        index = bisect.bisect_left(self._rgb.queue, (self._spent + 1,))
        self._rgb.unpaired += index
        del self._rgb.queue[:index]

    # Key "rgb".

    def _decide_rgb(self, now: float) -> list[Pair]:
        self._keep_latest_depth()
        self._release_rgb()
        limit = self._limit(self._depth.period, RGB_KEY_PERIODS)
        pairs, waiting = [], []
        for rgb in self._rgb.queue:
            depth = self._held or (self._depth.queue[0] if self._depth.queue else None)
            if depth is not None and abs(rgb.stamp - depth.stamp) <= limit:
                self._rgb.paired += 1
                self._use_depth(depth)
                pairs.append(self._pair(rgb, depth))
            elif now - rgb.arrival >= self._max_wait:
                self._rgb.unpaired += 1
            else:
                waiting.append(rgb)
        self._rgb.queue = waiting
        if pairs:
            # Not the stamp itself: a camera that sets none sends 0 each time, and no time goes back.
            self._spend(pairs[-1].rgb_stamp - 1)
        return pairs

    def _keep_latest_depth(self) -> None:
        """Of the queued depth frames and the held one only the latest stays."""
        queue = self._depth.queue
        if not queue:
            return
        if self._held is not None and queue[-1].stamp < self._held.stamp:
            self._depth.unpaired += len(queue)
            queue.clear()
            return
        self._depth.unpaired += len(queue) - 1
        del queue[:-1]
        self._held = None

    def _use_depth(self, depth: Waiting) -> None:
        if self._held is None:
            self._held = depth
            self._depth.queue.clear()
            self._depth.paired += 1
        else:
            self._reused += 1
