# SPDX-License-Identifier: Apache-2.0
"""Samples of a rosbag2 recording: a few stretches of it, so that the work does not grow with its length."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from depth_sr_ros.bag import BagMessage, BagReader
from depth_sr_ros.bag_pairs import CAMERA_INFO, camera_info_topic, stored_as
from depth_sr_ros.doctor.samples import Collector, Endpoint, Samples, Stream
from depth_sr_ros.doctor.topics import IMAGE_TYPES, Candidate, choose
from depth_sr_ros.errors import ConfigError, DataError

# Of a long recording: its start, its middle and its end, so that a drift of the clocks shows.
STRETCHES = 3
DEFAULT_FRAMES = 300  # of each stream: 10 s at 30 Hz; 1080p rgb8 is read in a few seconds
MIN_FRAMES = 10  # fewer tell no rate
FIRST_MESSAGES = 10  # of a topic, until one tells what is stored there


def sample_bag(
    path: Path,
    rgb: str | None = None,
    depth: str | None = None,
    frames: int = DEFAULT_FRAMES,
    on_frame: Callable[[], None] = lambda: None,
) -> Samples:
    """Read at most about `frames` images of each of the two streams; `rgb` and `depth` name the topics.

    A recording that breaks off gives what came before, with `Samples.damage`.

    Raises DataError where there is no readable bag, or no such topic; ConfigError on too few `frames`.
    """
    if frames < MIN_FRAMES:
        raise ConfigError(f"frames is {frames}, but must be at least {MIN_FRAMES}: fewer tell no rate")
    with BagReader(path) as bag:
        samples = Samples(str(path), topics=bag.topics)
        try:
            _find_streams(bag, samples, rgb, depth)
            _read(bag, samples, frames, on_frame)
        except DataError as error:
            if not samples.streams:
                raise
            samples.damage = str(error)
        return samples


def _find_streams(bag: BagReader, samples: Samples, rgb: str | None, depth: str | None) -> None:
    candidates = []
    for topic, msgtype in bag.topics.items():
        first = _first_readable(bag, topic) if msgtype in IMAGE_TYPES else None
        if first is not None:
            candidates.append(Candidate(topic, stored_as(first)))
    for kind, named in (("rgb", rgb), ("depth", depth)):
        chosen, bases = choose(str(bag.path), kind, candidates, named)
        if chosen is None:
            continue
        stream = Stream(kind, chosen.topic, bases)
        info = camera_info_topic(chosen.topic)
        stream.info_topic = info if bag.topics.get(info) == CAMERA_INFO else ""
        stream.publishers = [Endpoint("", **qos) for qos in bag.offered_qos(chosen.topic)]
        setattr(samples, kind, stream)


def _first_readable(bag: BagReader, topic: str) -> Any:
    """The first message on `topic`; the next where that is damaged, or None where the first ones all are."""
    for message in itertools.islice(bag.messages([topic]), FIRST_MESSAGES):
        try:
            return bag.deserialize(message)
        except DataError:
            continue
    return None


def _read(bag: BagReader, samples: Samples, frames: int, on_frame: Callable[[], None]) -> None:
    images = {stream.topic: stream for stream in samples.streams}
    infos = {stream.info_topic: stream for stream in samples.streams if stream.info_topic}
    if not images:
        return
    collector = Collector(samples)
    longest = max(bag.count(topic) for topic in images)
    try:
        for start, stop, most in _stretches(bag, longest, frames):
            for message in _limited(bag.messages([*images, *infos], start, stop), images, most):
                is_image = message.topic in images
                stream = images[message.topic] if is_image else infos[message.topic]
                try:
                    content = bag.deserialize(message)
                except DataError as error:
                    stream.damaged += 1
                    stream.damage = stream.damage or f"{error} (at {message.time_ns / 1e9:.3f} s)"
                    continue
                if is_image:
                    collector.add_image(stream, message.time_ns, content)
                    on_frame()
                else:
                    collector.add_info(stream, content)
            collector.end_segment()
    except DataError:
        collector.end_segment()
        raise


def _stretches(bag: BagReader, longest: int, frames: int) -> Iterator[tuple[int | None, int | None, int]]:
    """(start, stop, most frames of a stream) of each stretch that is read, in nanoseconds of the log."""
    if longest <= frames:
        yield None, None, longest
        return
    duration = int(bag.duration_s * 1e9)
    length = duration * frames // longest // STRETCHES
    for index in range(STRETCHES):
        start = bag.start_ns + (duration - length) * index // (STRETCHES - 1)
        # Bursts: a stretch of the mean rate may hold far more frames than its share.
        yield start, start + length + 1, 2 * frames // STRETCHES


def _limited(messages: Iterator[BagMessage], images: dict[str, Stream], most: int) -> Iterator[BagMessage]:
    """Until one of the image topics has given more than `most`."""
    counts: Counter[str] = Counter()
    for message in messages:
        counts[message.topic] += message.topic in images
        if counts[message.topic] > most:
            return
        yield message
