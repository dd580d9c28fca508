# SPDX-License-Identifier: Apache-2.0
"""What the checks look at: stamps, a few pictures, endpoints of an RGB and a depth stream; bounded memory.

A bag and live topics fill the same object, so both get the same checks. Nothing here imports ROS: messages
are anything with the fields of an Image, a CompressedImage or a CameraInfo.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from depth_sr_ros.bag_pairs import depth_metres, rgb_pixels, stamp_ns, stored_as
from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.errors import FrameError
from depth_sr_ros.pairing import FramePairer
from depth_sr_ros.shared_memory import SharedMemory

T = TypeVar("T")

PICTURES = 6  # kept of each stream, twice as many at most: enough for a median, and bounded memory
DIGEST_BYTES = 1 << 18  # of a larger image every n-th byte: noise of a sensor changes those too

Stamps = npt.NDArray[np.int64]
Picture = npt.NDArray[Any]


class Thinned(Generic[T]):
    """At most 2 * `target` items of a stream of unknown length, evenly spread over it."""

    def __init__(self, target: int = PICTURES) -> None:
        self.items: list[T] = []
        self._target = target
        self._stride = 1
        self._seen = 0

    def add(self, item: T) -> None:
        """Offer the next item."""
        if self._seen % self._stride == 0:
            if len(self.items) == 2 * self._target:
                del self.items[1::2]
                self._stride *= 2
            if self._seen % self._stride == 0:
                self.items.append(item)
        self._seen += 1


class Arrival(NamedTuple):
    """One image: its stamp, when it came (log time, or this machine's clock), and what tells it from others.

    `segment` numbers the stretch of the source that it is from: between two stretches nothing was read.
    """

    stamp_ns: int
    arrival_ns: int
    digest: int
    segment: int


class Decoded(NamedTuple):
    """The sampled pictures (uint8 HxWx3, or float32 hxw metres), and why others cannot be decoded."""

    pictures: list[Picture]
    faults: Counter[str]


class Endpoint(NamedTuple):
    """A publisher or subscriber, with its QoS in lower case; `node` is empty where a bag does not tell."""

    node: str
    reliability: str
    durability: str


@dataclass
class Stream:
    """One of the two image streams. `info` is the first CameraInfo that came on `info_topic`."""

    kind: str
    """rgb or depth"""
    topic: str
    candidates: list[str] = field(default_factory=list)
    """All topics that it was chosen from."""
    arrivals: list[Arrival] = field(default_factory=list)
    pictures: Thinned[Any] = field(default_factory=Thinned)
    encodings: Counter[str] = field(default_factory=Counter)
    """By encoding, or by the format of a CompressedImage."""
    frame_ids: Counter[str] = field(default_factory=Counter)
    largest_bytes: int = 0
    info_topic: str = ""
    info: Any = None
    publishers: list[Endpoint] = field(default_factory=list)
    subscribers: list[Endpoint] = field(default_factory=list)
    damaged: int = 0
    """Messages on the topic, or on its CameraInfo's, whose bytes are none of their type."""
    damage: str = ""
    """What was wrong with the first of those."""
    lost: int | None = None
    """Messages that the middleware says it lost; None where it does not say."""

    @property
    def name(self) -> str:
        """As the sentences have it."""
        return "RGB" if self.kind == "rgb" else "depth"

    @property
    def frame_id(self) -> str:
        """The usual one; empty where there is none."""
        return self.frame_ids.most_common(1)[0][0] if self.frame_ids else ""

    @cached_property
    def decoded(self) -> Decoded:
        """The pictures kept, decoded once; look at it when all have been added."""
        decode: Callable[[Any], Picture] = rgb_pixels if self.kind == "rgb" else depth_metres
        out = Decoded([], Counter())
        for message in self.pictures.items:
            try:
                out.pictures.append(decode(message))
            except FrameError as error:
                out.faults[str(error)] += 1
        return out

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the first picture; None where there is none."""
        pictures = self.decoded.pictures
        return (pictures[0].shape[1], pictures[0].shape[0]) if pictures else None

    @property
    def camera(self) -> PinholeCamera | None:
        """That of the images; None where there is no CameraInfo with intrinsics."""
        if self.info is None:
            return None
        try:
            return PinholeCamera.from_camera_info(self.info, self.size)
        except FrameError:
            return None

    def segments(self) -> dict[int, tuple[Stamps, Stamps]]:
        """By segment the stamps and the arrivals, in the order of arrival, int64 nanoseconds."""
        table = np.array([(a.segment, a.stamp_ns, a.arrival_ns) for a in self.arrivals], np.int64)
        table = table.reshape(-1, 3)
        parts = {int(number): table[table[:, 0] == number] for number in np.unique(table[:, 0])}
        return {number: (part[:, 1], part[:, 2]) for number, part in parts.items()}

    def steps(self, of_arrivals: bool = False) -> Stamps:
        """Differences of stamps (or arrivals) that follow each other in a segment, nanoseconds."""
        steps = [np.diff(times[of_arrivals]) for times in self.segments().values()]
        return np.concatenate(steps) if steps else np.empty(0, np.int64)

    def intervals(self) -> Stamps:
        """Those steps of the stamps that go forward, nanoseconds."""
        steps = self.steps()
        return steps[steps > 0]

    @property
    def period_ns(self) -> float | None:
        """Median interval of the stamps; None with fewer than three frames."""
        intervals = self.intervals()
        return float(np.median(intervals)) if len(intervals) > 1 else None


class Transport(NamedTuple):
    """What the shell that started the doctor has set for the middleware."""

    middleware: str
    profile: str
    """The Fast DDS profile that the user set; empty: none."""
    is_switched_off: bool
    """By DEPTH_SR_DDS_PROFILE=off."""
    memory: SharedMemory | None = None
    """Of this machine or container; None where it has none."""


@dataclass
class Samples:
    """Everything that the checks get. A stream that was not found is None.

    `pairs` holds (RGB, depth) messages as the node's own pairer made them. `paired` of `possible` depth
    frames found a partner; where the RGB stream has fewer frames, those are the possible ones.
    """

    source: str
    rgb: Stream | None = None
    depth: Stream | None = None
    topics: dict[str, str] = field(default_factory=dict)
    """All topics of the source with their types."""
    pairs: Thinned[tuple[Any, Any]] = field(default_factory=Thinned)
    paired: int = 0
    possible: int = 0
    transport: Transport | None = None
    """None for a bag."""
    register: bool = False
    """Whether the node runs with `register: true`, so that the two views may differ."""
    damage: str = ""
    """Why reading ended early; empty: it did not."""

    @property
    def streams(self) -> list[Stream]:
        """Those that were found."""
        return [stream for stream in (self.rgb, self.depth) if stream is not None]

    @property
    def is_live(self) -> bool:
        """Live topics, not a bag."""
        return self.transport is not None


class Collector:
    """Fills `samples` from messages in the order in which they arrived."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self._segment = 0
        self._now_ns = 0
        self._pairer = self._new_pairer()

    def add_image(self, stream: Stream, arrival_ns: int, message: Any) -> None:
        """Take one image of `stream`; the message is kept only where it is one of the few pictures."""
        self._now_ns = arrival_ns
        stamp = stamp_ns(message)
        data = np.frombuffer(message.data, np.uint8) if len(message.data) else np.empty(0, np.uint8)
        digest = zlib.crc32(np.ascontiguousarray(data[:: max(1, data.size // DIGEST_BYTES)]).data)
        stream.arrivals.append(Arrival(stamp, arrival_ns, digest, self._segment))
        stream.pictures.add(message)
        stream.encodings[stored_as(message)] += 1
        stream.frame_ids[message.header.frame_id] += 1
        stream.largest_bytes = max(stream.largest_bytes, data.size)
        push = self._pairer.push_rgb if stream.kind == "rgb" else self._pairer.push_depth
        for pair in (*self._pairer.poll(), *push(stamp, message)):
            self.samples.pairs.add((pair.rgb, pair.depth))

    def add_info(self, stream: Stream, message: Any) -> None:
        """Take a CameraInfo of `stream`."""
        if stream.info is None:
            stream.info = message

    def end_segment(self) -> None:
        """Say that messages between the last one and the next were not read, or that none follows."""
        self._now_ns += 10**18  # what waits takes the best within slop
        for pair in self._pairer.poll():
            self.samples.pairs.add((pair.rgb, pair.depth))
        counts = self._pairer.counts()
        self.samples.paired += counts.pairs
        self.samples.possible += min(counts.rgb.received, counts.depth.received)
        self._segment += 1
        self._pairer = self._new_pairer()

    def _new_pairer(self) -> FramePairer:
        return FramePairer(clock=lambda: self._now_ns * 1e-9)
