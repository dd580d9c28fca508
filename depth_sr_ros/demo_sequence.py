# SPDX-License-Identifier: Apache-2.0
"""The demo's RGB-D sequence: an mcap bag of compressed images, with the exact depth kept for scoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.bag import BagMessage, BagReader, BagWriter
from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.errors import DataError

SHIPPED_SEQUENCE = Path(__file__).with_name("demo_data") / "sequence"

COLOR_TOPIC = "/camera/color/image_raw/compressed"
COLOR_INFO_TOPIC = "/camera/color/camera_info"
DEPTH_TOPIC = "/camera/depth/image_raw/compressed"
TRUTH_TOPIC = "/truth/depth/image_raw/compressed"
FRAME_ID = "camera_color_optical_frame"

IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
INFO_TYPE = "sensor_msgs/msg/CameraInfo"
# The format strings of compressed_image_transport, so that other tools decode the bag as well.
COLOR_FORMAT = "rgb8; jpeg compressed bgr8"
DEPTH_FORMAT = "16UC1; png compressed "
JPEG_QUALITY = 90

Rgb = npt.NDArray[np.uint8]
Millimetres = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class SequenceFrame:
    """One moment of the sequence."""

    stamp_ns: int
    """Since the start of the sequence, nanoseconds."""
    rgb: Rgb
    """HxWx3."""
    depth_mm: Millimetres
    """hxw, the degraded depth; 0 = invalid."""
    truth_mm: Millimetres
    """HxW, the exact depth; 0 = invalid (sky)."""

    @property
    def depth_m(self) -> npt.NDArray[np.float32]:
        """The degraded depth in metres; NaN = invalid."""
        return to_metres(self.depth_mm)

    @property
    def truth_m(self) -> npt.NDArray[np.float32]:
        """The exact depth in metres; NaN = invalid."""
        return to_metres(self.truth_mm)


def to_metres(millimetres: Millimetres) -> npt.NDArray[np.float32]:
    """Millimetres with 0 = invalid become float32 metres with NaN = invalid."""
    metres = millimetres.astype(np.float32) * np.float32(0.001)
    metres[millimetres == 0] = np.nan
    return metres


def read_sequence(path: Path = SHIPPED_SEQUENCE, frames: int | None = None) -> list[SequenceFrame]:
    """The first `frames` frames of a sequence that `write_sequence` wrote; all of them where None.

    Raises:
        DataError: there is no such bag, or it holds something else.
    """
    streams: dict[str, dict[int, BagMessage]] = {COLOR_TOPIC: {}, DEPTH_TOPIC: {}, TRUTH_TOPIC: {}}
    with BagReader(path) as bag:
        for message in bag.messages(list(streams)):
            streams[message.topic][message.time_ns] = message
        if not streams[COLOR_TOPIC] or any(s.keys() != streams[COLOR_TOPIC].keys() for s in streams.values()):
            raise DataError(f"{path} must hold the same stamps on {', '.join(streams)}: write it again")
        stamps = sorted(streams[COLOR_TOPIC])[:frames]
        return [
            SequenceFrame(
                stamp,
                _decode(bag, streams[COLOR_TOPIC][stamp])[:, :, ::-1].copy(),
                _decode(bag, streams[DEPTH_TOPIC][stamp]),
                _decode(bag, streams[TRUTH_TOPIC][stamp]),
            )
            for stamp in stamps
        ]


def read_intrinsics(path: Path = SHIPPED_SEQUENCE) -> PinholeCamera:
    """The RGB camera of a sequence.

    Raises:
        DataError: there is no such bag, or it holds no camera.
    """
    with BagReader(path) as bag:
        message = next(bag.messages([COLOR_INFO_TOPIC]), None)
        if message is None:
            raise DataError(f"{path} holds no message on {COLOR_INFO_TOPIC}: write it again")
        info = bag.deserialize(message)
    fx, _, cx, _, fy, cy = (float(value) for value in info.k[:6])
    return PinholeCamera(info.width, info.height, fx, fy, cx, cy)


def write_sequence(path: Path, frames: Sequence[SequenceFrame], intrinsics: PinholeCamera) -> None:
    """Writes a new bag: JPEG colour, 16-bit PNG depth and truth, and the RGB camera's intrinsics.

    Raises:
        DataError: the folder exists.
    """
    with BagWriter(path) as bag:
        for frame in frames:
            for topic, msgtype, message in _messages(bag, frame, intrinsics):
                bag.write(topic, msgtype, frame.stamp_ns, message)


def _messages(
    bag: BagWriter, frame: SequenceFrame, intrinsics: PinholeCamera
) -> Iterator[tuple[str, str, Any]]:
    header = header_message(bag, frame.stamp_ns)
    yield COLOR_INFO_TOPIC, INFO_TYPE, camera_info_message(bag, header, intrinsics)
    yield COLOR_TOPIC, IMAGE_TYPE, color_message(bag, header, frame.rgb)
    yield DEPTH_TOPIC, IMAGE_TYPE, depth_message(bag, header, frame.depth_mm)
    yield TRUTH_TOPIC, IMAGE_TYPE, depth_message(bag, header, frame.truth_mm)


def header_message(bag: BagWriter, stamp_ns: int) -> Any:
    """A Header of the RGB camera."""
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    stamp = bag.make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    return bag.make("std_msgs/msg/Header", stamp=stamp, frame_id=FRAME_ID)


def color_message(bag: BagWriter, header: Any, rgb: Rgb) -> Any:
    """A CompressedImage: JPEG."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    stream = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return bag.make(IMAGE_TYPE, header=header, format=COLOR_FORMAT, data=stream.ravel())


def depth_message(bag: BagWriter, header: Any, depth: Millimetres, compression: int = 9) -> Any:
    """A CompressedImage: 16-bit PNG; `compression` 1 is far faster than 9 and a third larger."""
    stream = cv2.imencode(".png", depth, [cv2.IMWRITE_PNG_COMPRESSION, compression])[1]
    return bag.make(IMAGE_TYPE, header=header, format=DEPTH_FORMAT, data=stream.ravel())


def camera_info_message(bag: BagWriter, header: Any, camera: PinholeCamera) -> Any:
    """A CameraInfo without distortion."""
    k = np.array([camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1], np.float64)
    p = np.array([camera.fx, 0, camera.cx, 0, 0, camera.fy, camera.cy, 0, 0, 0, 1, 0], np.float64)
    roi = bag.make(
        "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return bag.make(
        INFO_TYPE,
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k,
        r=np.eye(3).ravel(),
        p=p,
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def _decode(bag: BagReader, message: BagMessage) -> npt.NDArray[Any]:
    image = cv2.imdecode(bag.deserialize(message).data, cv2.IMREAD_UNCHANGED)
    wanted = np.uint8 if message.topic == COLOR_TOPIC else np.uint16
    if image is None or image.dtype != wanted or image.ndim != (3 if wanted == np.uint8 else 2):
        raise DataError(
            f"the image on {message.topic} at {message.time_ns} ns is not a colour JPEG or a 16-bit PNG: "
            "write the bag again"
        )
    return image
