# SPDX-License-Identifier: Apache-2.0
"""RGB-D pairs of a rosbag2 recording, without ROS: which topics, paired as the node pairs them, decoded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_sr_ros import compressed_codec, image_codec
from depth_sr_ros.bag import BagMessage, BagReader
from depth_sr_ros.errors import DataError
from depth_sr_ros.metrics import valid_mask
from depth_sr_ros.pairing import AUTO_SLOP, FramePairer

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TRANSPORTS = re.compile(r"/(compressed|compressedDepth|theora|ffmpeg|zstd)$")


@dataclass(frozen=True)
class RgbdTopics:
    """The two topics of a recording that are paired."""

    rgb: str
    depth: str


@dataclass(frozen=True)
class BagPair:
    """A pair as it was recorded; `stamp_ns` is the RGB frame's."""

    stamp_ns: int
    rgb: BagMessage
    depth: BagMessage


def find_topics(
    bag: BagReader, rgb: str | None = None, depth: str | None = None, besides: Collection[str] = ()
) -> RgbdTopics:
    """The topics named, or, for one that is not, the only topic with images of that kind `besides` those.

    Raises DataError where there is none, more than one, or one with messages of another type.
    """
    kinds = image_kinds(bag)
    return RgbdTopics(
        choose_topic(bag, kinds, "rgb", rgb, besides), choose_topic(bag, kinds, "depth", depth, besides)
    )


def choose_topic(
    bag: BagReader, kinds: dict[str, str], kind: str, name: str | None = None, besides: Collection[str] = ()
) -> str:
    """The topic named, or the only one of `kind` ("rgb" or "depth"); `kinds` is what `image_kinds` told.

    Raises DataError as `find_topics`.
    """
    if name is not None:
        if name not in kinds:
            known = ", ".join(f"{topic} ({what})" for topic, what in sorted(kinds.items())) or "none"
            raise DataError(f"{bag.path} has no images on {name!r}; its image topics: {known}")
        return name
    fitting = sorted(topic for topic, what in kinds.items() if what == kind and topic not in besides)
    if not fitting:
        held = ", ".join(f"{topic} ({what})" for topic, what in sorted(bag.topics.items())) or "nothing"
        raise DataError(f"{bag.path} holds no {kind} images that this package can read; it holds {held}")
    if len(fitting) > 1:
        raise DataError(
            f"{bag.path}: which topic has the {kind} images? {', '.join(fitting)} all might; name one"
        )
    return fitting[0]


def raw_topic(image_topic: str) -> str:
    """The name of an image topic without that of its transport."""
    return TRANSPORTS.sub("", image_topic)


def camera_info_topic(image_topic: str) -> str:
    """Where REP 144 has the CameraInfo of an image topic, of any transport: beside the raw one."""
    return f"{raw_topic(image_topic).rpartition('/')[0]}/camera_info"


def image_kinds(bag: BagReader) -> dict[str, str]:
    """`rgb` or `depth` of each topic with images, as its first message says that can be decoded."""
    wanted = [topic for topic, kind in bag.topics.items() if kind in (IMAGE, COMPRESSED)]
    kinds: dict[str, str] = {}
    failures: dict[str, DataError] = {}
    for message in bag.messages(wanted) if wanted else ():
        if message.topic not in kinds:
            try:
                kinds[message.topic] = "depth" if is_depth(stored_as(bag.deserialize(message))) else "rgb"
            except DataError as error:  # one message may be damaged
                failures.setdefault(message.topic, error)
        if len(kinds) == sum(bag.count(topic) > 0 for topic in wanted):
            break
    for topic, failure in failures.items():
        if topic not in kinds:
            raise failure
    return kinds


def stored_as(image: Any) -> str:
    """The encoding of an Image, or the format of a CompressedImage."""
    return str(image.format if is_compressed(image) else image.encoding)


def is_depth(stored: str) -> bool:
    """Whether an encoding or a format (`stored_as`) is one of depth."""
    return stored.partition(";")[0].strip() in image_codec.DEPTH_ENCODINGS or "compressedDepth" in stored


class PairReader:
    """Pairs of two topics in the order in which the node would have made them.

    `slop` in seconds, None as the node's. Iterate once; DataError on a damaged file. Left out
    are, counted by topic, the messages that have the stamp 0 as one before them had (`unstamped`), and those
    that are none of their type (`undecodable`).
    """

    def __init__(self, bag: BagReader, topics: RgbdTopics, slop: float | None = None) -> None:
        self._bag, self._topics = bag, topics
        self._now = 0.0
        self._pairer = FramePairer(slop=AUTO_SLOP if slop is None else slop, clock=lambda: self._now)
        self.unstamped: Counter[str] = Counter()
        self.undecodable: Counter[str] = Counter()
        self._zero: set[str] = set()  # topics that had a stamp of 0; once, it may be the start of a recording

    @property
    def lost_depth(self) -> int:
        """Depth frames that found no RGB frame until now."""
        counts = self._pairer.counts().depth
        return counts.unpaired + counts.evicted

    def __iter__(self) -> Iterator[BagPair]:
        topics, pairer = self._topics, self._pairer
        for message in self._bag.messages([topics.rgb, topics.depth]):
            self._now = message.time_ns * 1e-9
            try:
                stamp = stamp_ns(self._bag.deserialize(message))
            except DataError:
                self.undecodable[message.topic] += 1
                continue
            if stamp == 0 and message.topic in self._zero:
                self.unstamped[message.topic] += 1
                continue
            if stamp == 0:
                self._zero.add(message.topic)
            push = pairer.push_rgb if message.topic == topics.rgb else pairer.push_depth
            for pair in (*pairer.poll(), *push(stamp, message)):
                yield BagPair(pair.rgb_stamp, pair.rgb, pair.depth)
        self._now = float("inf")  # nothing more will come: what waits takes the best within slop
        for pair in pairer.poll():
            yield BagPair(pair.rgb_stamp, pair.rgb, pair.depth)


def stamp_ns(message: Any) -> int:
    """The time in a message's header, in nanoseconds."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def decode_rgb(bag: BagReader, message: BagMessage) -> npt.NDArray[np.uint8]:
    """uint8 HxWx3, red first; FrameError where it is no such image."""
    return rgb_pixels(bag.deserialize(message))


def decode_depth(bag: BagReader, message: BagMessage) -> npt.NDArray[np.float32]:
    """float32 hxw metres, NaN = invalid; FrameError where it is no such image."""
    return depth_metres(bag.deserialize(message))


def rgb_pixels(image: Any) -> npt.NDArray[np.uint8]:
    """uint8 HxWx3, red first, of anything with the fields of an Image or a CompressedImage.

    Raises FrameError where it is no such image.
    """
    pixels, order = (
        compressed_codec.decode_rgb(image) if is_compressed(image) else image_codec.rgb_view(image)
    )
    if order == "mono":
        return np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, list(image_codec.CHANNEL_ORDERS[order])])


def depth_metres(image: Any) -> npt.NDArray[np.float32]:
    """float32 hxw metres, NaN = invalid, of anything with the fields of an Image or a CompressedImage.

    Raises FrameError where it is no such image.
    """
    view = compressed_codec.decode_depth if is_compressed(image) else image_codec.depth_view
    pixels, unit = view(image)
    metres = pixels.astype(np.float32) * np.float32(unit)
    return np.where(valid_mask(metres), metres, np.float32(np.nan))


def is_compressed(image: Any) -> bool:
    """Whether it is a CompressedImage, which has a `format` where an Image has an `encoding`."""
    return hasattr(image, "format")
