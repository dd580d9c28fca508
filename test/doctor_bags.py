# SPDX-License-Identifier: Apache-2.0
"""Real recordings of a camera with one fault: the shipped sequence, raw, changed where a test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from depth_sr_ros.bag import BagWriter
from depth_sr_ros.bag_pairs import CAMERA_INFO, IMAGE
from depth_sr_ros.demo_sequence import SequenceFrame, read_sequence

START_NS = 1_700_000_000 * 10**9
PERIOD_NS = 66_666_667
FRAME_ID = "camera_color_optical_frame"
FOCAL = 262.5  # of the RGB, pixels

Pixels = np.ndarray[Any, Any]
# kind (rgb or depth) and time since the start, nanoseconds -> the time, changed; None: no message
Times = Callable[[str, int], "int | None"]


def same(kind: str, time_ns: int) -> int:
    """As it is."""
    return time_ns


@dataclass(frozen=True)
class Camera:
    """What is recorded. The defaults are a healthy camera: 30 frames of 320x240 and 160x120 at 15 Hz."""

    frames: int = 30
    period_ns: int = PERIOD_NS
    rgb: Callable[[Pixels], Pixels] = lambda rgb: rgb
    depth: Callable[[Pixels], Pixels] = lambda depth: depth
    rgb_encoding: str = "rgb8"
    depth_encoding: str = "16UC1"
    frame_ids: tuple[str, str] = (FRAME_ID, FRAME_ID)
    stamp: Times = same
    arrival: Times = same
    infos: tuple[str, ...] = ("rgb", "depth")
    info: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda kind, fields: fields
    topics: dict[str, str] = field(default_factory=lambda: {"rgb": "/rgb/image", "depth": "/depth/image"})
    is_still: tuple[str, ...] = ()
    """Kinds of which the first picture is sent again and again."""


def write(path: Path, camera: Camera, storage: str = "mcap") -> Path:
    """Write the bag; messages are logged in the order of their arrival."""
    frames = _sequence()
    with BagWriter(path, storage) as bag:
        messages: list[tuple[int, int, str, str, Any]] = []
        for index in range(camera.frames):
            frame = frames[index % len(frames)]
            pictures: dict[str, Pixels] = {"rgb": frame.rgb[::2, ::2], "depth": frame.depth_mm}
            for kind in camera.topics:
                if kind in camera.is_still:
                    pictures[kind] = frames[0].rgb[::2, ::2] if kind == "rgb" else frames[0].depth_mm
                time = index * camera.period_ns
                stamp, arrival = camera.stamp(kind, time), camera.arrival(kind, time)
                if stamp is None or arrival is None:
                    continue
                # A stamp below 0 stands for one that is not set.
                header = _header(bag, START_NS + stamp if stamp >= -START_NS else 0, camera, kind)
                change, encoding = (
                    (camera.rgb, camera.rgb_encoding)
                    if kind == "rgb"
                    else (camera.depth, camera.depth_encoding)
                )
                image = _image(bag, header, change(pictures[kind]), encoding)
                at = START_NS + arrival
                messages.append((at, len(messages), camera.topics[kind], IMAGE, image))
                if kind in camera.infos:
                    info = _info(bag, header, kind, image, camera)
                    topic = camera.topics[kind].rpartition("/")[0] + "/camera_info"
                    messages.append((at, len(messages), topic, CAMERA_INFO, info))
        for at, _, topic, kind, message in sorted(messages, key=lambda m: m[:2]):
            bag.write(topic, kind, at, message)
    return path


@lru_cache
def _sequence() -> list[SequenceFrame]:
    return read_sequence(frames=30)


def _header(bag: BagWriter, stamp_ns: int, camera: Camera, kind: str) -> Any:
    stamp = bag.make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return bag.make("std_msgs/msg/Header", stamp=stamp, frame_id=camera.frame_ids[kind == "depth"])


def _image(bag: BagWriter, header: Any, pixels: Pixels, encoding: str) -> Any:
    data = np.ascontiguousarray(pixels).view(np.uint8).ravel()
    height, width = pixels.shape[:2]
    fields = {"height": height, "width": width, "encoding": encoding, "is_bigendian": 0}
    return bag.make(IMAGE, header=header, **fields, step=data.size // height, data=data)


def _info(bag: BagWriter, header: Any, kind: str, image: Any, camera: Camera) -> Any:
    focal = FOCAL * image.width / 320
    k = np.array([focal, 0, image.width / 2, 0, focal, image.height / 2, 0, 0, 1], np.float64)
    fields: dict[str, Any] = {
        "header": header,
        "height": image.height,
        "width": image.width,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": k,
        "r": np.eye(3).ravel(),
        "p": np.insert(k, [3, 6, 9], 0.0),
        "binning_x": 0,
        "binning_y": 0,
        "roi": bag.make(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        ),
    }
    return bag.make(CAMERA_INFO, **camera.info(kind, fields))
