# SPDX-License-Identifier: Apache-2.0
"""Builds the messages of a camera from NumPy arrays, the fast way."""

from __future__ import annotations

import sys
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from depth_sr_ros.image_codec import row_bytes

NS_PER_S = 1_000_000_000


def to_nanoseconds(stamp: Time) -> int:
    """The stamp of a header in nanoseconds."""
    return stamp.sec * NS_PER_S + stamp.nanosec


def header(stamp_ns: int, frame_id: str) -> Header:
    """A header from nanoseconds."""
    seconds, nanoseconds = divmod(stamp_ns, NS_PER_S)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)


def image_message(pixels: npt.NDArray[Any], encoding: str, head: Header) -> Image:
    """An Image from uint8 HxWxC, uint16 HxW or float32 HxW pixels; the caller says what the encoding is.

    Raises FrameError on an encoding that the codec does not know.
    """
    height, width = pixels.shape[:2]
    data = array("B")
    data.frombytes(np.ascontiguousarray(pixels).view(np.uint8).data)
    return Image(
        header=head,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=sys.byteorder == "big",
        step=row_bytes(encoding, width),
        data=data,
    )


def pinhole_camera_info(
    size: tuple[int, int], focal: tuple[float, float], centre: tuple[float, float]
) -> CameraInfo:
    """The CameraInfo of an undistorted camera: (width, height), (fx, fy) and (cx, cy), all in pixels."""
    (fx, fy), (cx, cy) = focal, centre
    info = CameraInfo(width=size[0], height=size[1], distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info
