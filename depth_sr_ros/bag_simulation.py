# SPDX-License-Identifier: Apache-2.0
"""A recording with high-resolution depth becomes one as a low-resolution, noisy sensor would have made it."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_sr_ros import compressed_codec, image_codec
from depth_sr_ros.bag import BagMessage, BagReader, BagWriter
from depth_sr_ros.bag_pairs import (
    CAMERA_INFO,
    IMAGE,
    PairReader,
    RgbdTopics,
    camera_info_topic,
    choose_topic,
    decode_depth,
    decode_rgb,
    image_kinds,
)
from depth_sr_ros.camera import resized_camera_info
from depth_sr_ros.config import check_choice
from depth_sr_ros.degradation import PROFILES, SCALES, check_scale, check_seed, degrade_recorded
from depth_sr_ros.errors import ConfigError, DataError, FrameError

REFERENCE_SUFFIX = "_reference"

Depth = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class SimulationSettings:
    """What is made of what.

    `profile` and `scale` as those of `degrade`; `depth_topic` and `rgb_topic` where there is more than one;
    `keep_original`: the depth as it was recorded stays beside, on its topic with `_reference`.
    """

    bag: Path
    out: Path
    profile: str
    scale: int
    depth_topic: str | None = None
    rgb_topic: str | None = None
    seed: int = 0
    keep_original: bool = False
    storage: str = "mcap"
    compression: str = "none"

    def __post_init__(self) -> None:
        check_choice("profile", self.profile, PROFILES)
        check_scale(self.scale)
        check_seed(self.seed)


@dataclasses.dataclass
class Simulation:
    """What was done. `info_topic`: whose CameraInfo was resized; None where the depth has none for itself."""

    depth_topic: str
    info_topic: str | None
    size: tuple[int, int]
    """Width and height of the depth that was written."""
    frames: int = 0
    problems: Counter[str] = dataclasses.field(default_factory=Counter)
    """Why depth frames were left out, and how many."""


def simulate_bag(settings: SimulationSettings, on_message: Callable[[], object] = lambda: None) -> Simulation:
    """Write the new recording; all other topics are copied byte for byte, and every message keeps its time.

    A depth frame that cannot be decoded is left out and counted. `on_message` is told of each message read.

    Raises:
        DataError: no such bag or topic, a damaged bag, no usable depth, or the output exists.
        ConfigError: the scale does not divide the depth images' size.
    """
    with BagReader(settings.bag) as bag:
        bag.check_not_empty()
        kinds = image_kinds(bag)
        depth = choose_topic(bag, kinds, "depth", settings.depth_topic)
        if kinds[depth] != "depth":
            raise DataError(f"{depth} in {settings.bag} has colour images: name the topic of the depth")
        rgb = None
        if settings.rgb_topic is not None or "rgb" in kinds.values():
            rgb = choose_topic(bag, kinds, "rgb", settings.rgb_topic)
        size = _low_size(bag, depth, settings.scale)
        result = Simulation(depth, _info_topic(bag, kinds, depth), size)
        target = BagWriter(settings.out, settings.storage, settings.compression)
        try:
            with target:
                _copy(bag, target, settings, result, rgb, on_message)
        except BaseException:
            # Half a recording looks like a whole one to whoever finds it.
            shutil.rmtree(settings.out, ignore_errors=True)
            raise
    return result


def _low_size(bag: BagReader, topic: str, scale: int) -> tuple[int, int]:
    """Width and height of the depth to be made, by the first frame that can be decoded."""
    reason = ""
    for message in bag.messages([topic]):
        try:
            height, width = decode_depth(bag, message).shape
        except (FrameError, DataError) as error:
            reason = reason or str(error)
            continue
        if width % scale or height % scale:
            fitting = [str(s) for s in SCALES if width % s == 0 and height % s == 0]
            raise ConfigError(
                f"scale {scale} does not divide the {width}x{height} images of {topic}: "
                + (f"use {' or '.join(fitting)}" if fitting else "no scale does, record another size")
            )
        return width // scale, height // scale
    raise DataError(f"{bag.path} holds no usable depth on {topic}" + (f": {reason}" if reason else ""))


def _info_topic(bag: BagReader, kinds: dict[str, str], depth: str) -> str | None:
    """The CameraInfo of the depth images alone; None where there is none, or colour images share it."""
    name = camera_info_topic(depth)
    shared = any(camera_info_topic(topic) == name for topic in kinds if topic != depth)
    return name if bag.topics.get(name) == CAMERA_INFO and not shared else None


def _copy(
    bag: BagReader,
    target: BagWriter,
    settings: SimulationSettings,
    result: Simulation,
    rgb: str | None,
    on_message: Callable[[], object],
) -> None:
    reference = result.depth_topic + REFERENCE_SUFFIX
    for topic in bag.recorded:
        target.add(topic)
        if topic.name == result.depth_topic and settings.keep_original:
            target.add(dataclasses.replace(topic, name=reference))
    frames = _Degrader(bag, settings, result, rgb)
    for message in bag.messages():
        changed: Any = message.raw
        if message.topic == result.depth_topic:
            if settings.keep_original:
                target.write(reference, message.msgtype, message.time_ns, message.raw)
            try:
                changed = frames.degrade(message)
                result.frames += 1
            except (FrameError, DataError) as error:
                result.problems[str(error)] += 1
                changed = None
        elif message.topic == result.info_topic:
            changed = _resized_info(bag.deserialize(message), result.size, settings.scale)
        if changed is not None:
            target.write(message.topic, message.msgtype, message.time_ns, changed)
        on_message()
    if not result.frames:
        reason, count = result.problems.most_common(1)[0]
        raise DataError(f"no depth frame of {bag.path} can be used: {reason} ({count} times)")


class _Degrader:
    """Makes the depth messages; each is degraded with the RGB image that `evaluate` would pair it with.

    The number of the pair goes into the seed, so that `evaluate --simulate` of the first recording sees the
    same depth. A frame without an RGB image gets a seed of its own, and the light of a grey scene.
    """

    def __init__(
        self, bag: BagReader, settings: SimulationSettings, result: Simulation, rgb: str | None
    ) -> None:
        self._bag, self._settings, self._result = bag, settings, result
        self._alone = 0
        self._pairs: Any = iter(())
        self._paired: set[int] = set()
        self._waiting: dict[int, tuple[int, BagMessage]] = {}
        if rgb is not None:
            topics = RgbdTopics(rgb, result.depth_topic)
            self._paired = {pair.depth.time_ns for pair in PairReader(bag, topics)}
            # Goes through the recording a second time, beside the copying: no image is kept for long.
            self._pairs = enumerate(PairReader(bag, topics))

    def degrade(self, message: BagMessage) -> Any:
        """The message with low-resolution depth; FrameError or DataError where it cannot be made."""
        settings, bag = self._settings, self._bag
        depth = decode_depth(bag, message)
        width, height = (side * settings.scale for side in self._result.size)
        if depth.shape != (height, width):
            raise FrameError(
                f"a depth image is {depth.shape[1]}x{depth.shape[0]}, but the first is {width}x{height}"
            )
        partner = self._partner_of(message)
        if partner is None:
            seed: tuple[int, ...] = (settings.seed, self._alone, 1)
            picture = None
            self._alone += 1
        else:
            seed = (settings.seed, partner[0])
            picture = decode_rgb(bag, partner[1])
        low, _ = degrade_recorded(depth, picture, settings.scale, settings.profile, seed)
        return _with_depth(bag.deserialize(message), message.msgtype, low)

    def _partner_of(self, message: BagMessage) -> tuple[int, BagMessage] | None:
        if message.time_ns in self._paired:
            while message.time_ns not in self._waiting:
                number, pair = next(self._pairs)
                self._waiting[pair.depth.time_ns] = number, pair.rgb
            self._paired.remove(message.time_ns)
            return self._waiting.pop(message.time_ns)
        return None


def _with_depth(message: Any, msgtype: str, metres: Depth) -> Any:
    """The depth message with other pixels, in its encoding."""
    if msgtype != IMAGE:
        kind, data = compressed_codec.encode_depth(metres, message)
        return dataclasses.replace(message, format=kind, data=data)
    encoding = "32FC1" if message.encoding == "32FC1" else "16UC1"
    return dataclasses.replace(
        message,
        height=metres.shape[0],
        width=metres.shape[1],
        is_bigendian=int(sys.byteorder == "big"),
        step=image_codec.row_bytes(encoding, metres.shape[1]),
        data=np.frombuffer(image_codec.encode_depth(metres, encoding), np.uint8),
    )


def _resized_info(info: Any, size: tuple[int, int], scale: int) -> Any:
    out = copy.copy(resized_camera_info(info, (size[0] * scale, size[1] * scale), size))
    out.k, out.p = np.array(out.k, np.float64), np.array(out.p, np.float64)
    return out
