# SPDX-License-Identifier: Apache-2.0
"""The frames that a replay evaluates: pairs of a recording, decoded, with what they are scored against."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.bag import BagReader
from depth_sr_ros.bag_pairs import (
    BagPair,
    PairReader,
    RgbdTopics,
    choose_topic,
    decode_depth,
    decode_rgb,
    image_kinds,
    stamp_ns,
)
from depth_sr_ros.config import check_choice
from depth_sr_ros.degradation import PROFILES, check_scale, check_seed, crop_to_multiple, degrade_recorded
from depth_sr_ros.errors import ConfigError, FrameError

LOOKAHEAD = 16  # pairs: more than ever are missing one after the other, fewer than a round has

Depth = npt.NDArray[np.float32]
Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ReplaySettings:
    """What is evaluated.

    `simulate`: a degradation profile; the bag's depth, shrunk by `scale` and degraded, is the input and the
    depth as it was recorded the truth. `reference_topic`: depth to score against, at the RGB's size or
    smaller. With neither there is no truth. `answer_topic`: what a node answered, recorded beside its
    input; it is scored instead of an engine's answer. `baselines`: also run the filters. `seed` draws the
    noise.
    """

    bag: Path
    rgb_topic: str | None = None
    depth_topic: str | None = None
    reference_topic: str | None = None
    answer_topic: str | None = None
    simulate: str | None = None
    scale: int = 4
    baselines: bool = True
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.simulate is not None:
            check_choice("simulate", self.simulate, PROFILES)
            if self.reference_topic is not None:
                raise ConfigError("simulate and a reference topic are two truths: choose one")
            if self.answer_topic is not None:
                raise ConfigError("simulate changes the input, so recorded answers do not belong to it")
            check_scale(self.scale)
            check_seed(self.seed)
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}, but must be at least 1")


@dataclass(frozen=True)
class Answer:
    """What a node answered: `depth` HxW, received at `arrival_ns`, `latency_ms` after the RGB image."""

    depth: Depth
    arrival_ns: int
    latency_ms: float


@dataclass(frozen=True)
class Frame:
    """One pair, decoded. `truth` is HxW at the RGB's size, or None.

    `lost`: depth frames since the pair before that found no RGB image.
    """

    stamp_ns: int
    offset_ms: float
    lost: int
    rgb: Rgb
    depth: Depth
    truth: Depth | None
    answer: Answer | None


class ReplayFrames:
    """Decodes the pairs of a recording one after the other.

    Raises DataError where there is no such bag or topic.
    """

    def __init__(self, bag: BagReader, settings: ReplaySettings) -> None:
        self._bag, self._settings = bag, settings
        kinds = image_kinds(bag)
        sides = [t for t in (settings.reference_topic, settings.answer_topic) if t is not None]
        self.topics = RgbdTopics(
            choose_topic(bag, kinds, "rgb", settings.rgb_topic, sides),
            choose_topic(bag, kinds, "depth", settings.depth_topic, sides),
        )
        for topic in sides:
            choose_topic(bag, kinds, "depth", topic)
        self._reader = PairReader(bag, self.topics)
        self._lost = 0

    @property
    def left_out(self) -> dict[str, int]:
        """Why messages of the two topics could not be paired at all, and how many."""
        unstamped, undecodable = self._reader.unstamped, self._reader.undecodable
        return {
            f"the stamp of a message on {topic} is 0: its driver sets none": count
            for topic, count in unstamped.items()
        } | {
            f"a message on {topic} is damaged: it is not a {self._bag.topics[topic]}": count
            for topic, count in undecodable.items()
        }

    def __iter__(self) -> Iterator[tuple[BagPair, BagPair | None, BagPair | None]]:
        """Pairs; with the reference's and the answer's that have the same RGB frame, where there are any.

        Raises DataError on a damaged file.
        """
        with ExitStack() as opened:
            references = self._side(opened, self._settings.reference_topic)
            # A node's answer has its RGB image's own stamp.
            answers = self._side(opened, self._settings.answer_topic, slop=0.0)
            for pair in self._reader:
                yield pair, references.of(pair), answers.of(pair)

    def decode(self, pair: BagPair, reference: BagPair | None, answer: BagPair | None, number: int) -> Frame:
        """What `__iter__` gave; `number` draws the noise. FrameError on an image that cannot be used."""
        settings = self._settings
        rgb, depth = decode_rgb(self._bag, pair.rgb), decode_depth(self._bag, pair.depth)
        offset = (stamp_ns(self._bag.deserialize(pair.depth)) - pair.stamp_ns) / 1e6
        given = None
        if settings.answer_topic is not None:
            given = self._answer(pair, answer)
            rgb = _resized(rgb, given.depth.shape)
        truth = None
        if settings.simulate is not None:
            # Resized before the crop, which takes the same rows and columns off both: one view.
            seen_rgb = crop_to_multiple(_resized(rgb, depth.shape))
            truth, seed = crop_to_multiple(depth), (settings.seed, number)
            depth, view = degrade_recorded(truth, seen_rgb, settings.scale, settings.simulate, seed)
            assert view is not None
            rgb = view
        elif settings.reference_topic is not None:
            if reference is None:
                raise FrameError(f"no frame of {settings.reference_topic} belongs to an RGB image")
            seen = decode_depth(self._bag, reference.depth)
            truth = cv2.resize(seen, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(np.float32)
        lost = self._reader.lost_depth
        lost, self._lost = lost - self._lost, lost
        return Frame(pair.stamp_ns, offset, lost, rgb, depth, truth, given)

    def _side(self, opened: ExitStack, topic: str | None, slop: float | None = None) -> _Side:
        if topic is None:
            return _Side(iter(()))
        # A reader of its own: both go forward together, and nothing is kept.
        other = opened.enter_context(BagReader(self._settings.bag))
        return _Side(iter(PairReader(other, RgbdTopics(self.topics.rgb, topic), slop)))

    def _answer(self, pair: BagPair, answer: BagPair | None) -> Answer:
        if answer is None:
            raise FrameError(f"no answer on {self._settings.answer_topic} belongs to a pair")
        latency = (answer.depth.time_ns - pair.rgb.time_ns) / 1e6
        return Answer(decode_depth(self._bag, answer.depth), answer.depth.time_ns, latency)


class _Side:
    """Pairs of another topic with the same RGB stream, looked up in about the order of their RGB stamps.

    Some may be missing on either side, and in a recording of several rounds the stamps start again.
    """

    def __init__(self, pairs: Iterator[BagPair]) -> None:
        self._pairs = pairs
        self._ahead: deque[BagPair] = deque()

    def of(self, pair: BagPair) -> BagPair | None:
        """The one with the RGB frame of `pair`; those before it are not looked at again."""
        while len(self._ahead) < LOOKAHEAD and (following := next(self._pairs, None)) is not None:
            self._ahead.append(following)
        for index, each in enumerate(self._ahead):
            if each.stamp_ns == pair.stamp_ns:
                for _ in range(index + 1):
                    self._ahead.popleft()
                return each
        return None


def _resized(rgb: Rgb, size: tuple[int, ...]) -> Rgb:
    """As HxW `size`."""
    if rgb.shape[:2] == size:
        return rgb
    return cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
