# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/Image <-> NumPy without copies: encodings, row padding, byte order, units and invalid pixels.

Nothing here imports ROS: anything with the fields of a sensor_msgs/Image serves as a message.
"""

from __future__ import annotations

import sys
from array import array
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from depth_sr_ros.errors import FrameError

# encoding -> (channels, the name by which DepthSuperResolver knows the channel order)
RGB_ENCODINGS: dict[str, tuple[int, str]] = {
    "rgb8": (3, "rgb"),
    "bgr8": (3, "bgr"),
    "rgba8": (4, "rgba"),
    "bgra8": (4, "bgra"),
    "mono8": (1, "mono"),
}
# Channel order -> which channels are red, green and blue; `mono` images are HxW.
CHANNEL_ORDERS: dict[str, tuple[int, int, int]] = {
    "rgb": (0, 1, 2),
    "bgr": (2, 1, 0),
    "rgba": (0, 1, 2),
    "bgra": (2, 1, 0),
    "mono": (0, 0, 0),
}
# encoding -> (type of a pixel, metres per unit); REP 118
DEPTH_ENCODINGS: dict[str, tuple[type, float]] = {
    "16UC1": (np.uint16, 0.001),
    "mono16": (np.uint16, 0.001),
    "32FC1": (np.float32, 1.0),
}
OUTPUT_ENCODINGS = ("32FC1", "16UC1")
BLOCK_PIXELS = 32768  # 128 KB of float32, in the second cache
MAX_MILLIMETRES = 65535

_HOST_IS_BIG_ENDIAN = sys.byteorder == "big"


class ImageLike(Protocol):
    """The fields of a sensor_msgs/Image that the codec reads."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


def rgb_view(message: ImageLike) -> tuple[npt.NDArray[np.uint8], str]:
    """View the pixels of a colour or grey image.

    Returns uint8 HxWx3, HxWx4 or (mono8) HxW, and the channel order (`rgb`, `bgr`, `rgba`, `bgra`, `mono`).
    The array shares the message's memory and keeps it alive; rows keep the message's padding as strides.

    Raises FrameError on an encoding outside RGB_ENCODINGS, a zero size, a step below the row length or too
    few bytes.
    """
    if message.encoding not in RGB_ENCODINGS:
        raise FrameError(_wrong_encoding("RGB", message.encoding, RGB_ENCODINGS))
    channels, order = RGB_ENCODINGS[message.encoding]
    pixels = _strided(message, "RGB", np.dtype(np.uint8), channels)
    return (pixels[:, :, 0] if channels == 1 else pixels), order


def check_rgb(rgb: npt.NDArray[Any], channel_order: str, min_side: int = 0) -> None:
    """FrameError unless `rgb` is uint8 of the shape that `rgb_view` gives for this channel order."""
    if channel_order not in CHANNEL_ORDERS:
        raise FrameError(
            f"channel_order is {channel_order!r}, but must be one of {', '.join(CHANNEL_ORDERS)}"
        )
    shape: tuple[int, ...] = () if channel_order == "mono" else (len(channel_order),)
    fits = rgb.ndim == 2 + len(shape) and rgb.shape[2:] == shape and min(rgb.shape[:2]) >= min_side
    if rgb.dtype != np.uint8 or not fits:
        raise FrameError(
            f"the {channel_order} image is {rgb.dtype} of shape {rgb.shape}, but must be uint8 of shape "
            f"{('height', 'width', *shape)}"
        )


def depth_view(message: ImageLike) -> tuple[npt.NDArray[Any], float]:
    """View the pixels of a depth image.

    Returns uint16 or float32 HxW in the host's byte order, and the metres in one unit (0.001 for 16UC1 and
    mono16, 1.0 for 32FC1). Shares the message's memory, unless its byte order is foreign or its rows are
    not aligned to the pixel type: then it is a copy.

    Raises FrameError on an encoding outside DEPTH_ENCODINGS, a zero size, a step below the row length or
    too few bytes.
    """
    if message.encoding not in DEPTH_ENCODINGS:
        raise FrameError(_wrong_encoding("depth", message.encoding, DEPTH_ENCODINGS))
    kind, unit = DEPTH_ENCODINGS[message.encoding]
    native = np.dtype(kind)
    foreign = bool(message.is_bigendian) != _HOST_IS_BIG_ENDIAN
    pixels = _strided(message, "depth", native.newbyteorder() if foreign else native, 1)[:, :, 0]
    if foreign or message.step % native.itemsize:
        pixels = pixels.astype(native, order="C")
    return pixels, unit


def to_millimetres(
    metres: npt.NDArray[np.float32], out: npt.NDArray[np.uint16] | None = None
) -> npt.NDArray[np.uint16]:
    """Depth as the pixels of a 16UC1 image, uint16 HxW; written to `out` where it is given.

    `metres` is float32 HxW and stays unchanged. NaN, infinite and non-positive pixels become 0; the others
    rint(min(metres, 65.535) * 1000), each step in float32: models/output_maps.py does the same on a GPU, bit
    for bit.
    """
    # A comparison with NaN is false, so one mask covers every invalid value.
    millimetres = np.where((metres > 0) & (metres < np.inf), metres, np.float32(0))
    # Clamped before scaling: a large float32 times 1000 would overflow.
    np.minimum(millimetres, np.float32(MAX_MILLIMETRES / 1000), out=millimetres)
    np.multiply(millimetres, np.float32(1000), out=millimetres)
    out = np.empty(metres.shape, np.uint16) if out is None else out
    np.copyto(out, np.rint(millimetres, out=millimetres), casting="unsafe")
    return out


def encode_depth(metres: npt.NDArray[Any], encoding: str, buffer: array | None = None) -> array:
    """Write depth as the bytes of an Image: `32FC1` (metres, invalid = NaN) or `16UC1` (mm, invalid = 0).

    `metres` is float32 HxW and stays unchanged; NaN, infinite and non-positive pixels are invalid. For 16UC1
    `to_millimetres` has the rule; what it gives, uint16 HxW, is taken as it is. The result is an
    `array.array('B')`, the one type that rclpy takes over without a check of each byte; `buffer` is filled
    and returned where its size fits, so that a stream needs one allocation.

    Raises FrameError on any other encoding.
    """
    if encoding not in OUTPUT_ENCODINGS:
        raise FrameError(_wrong_encoding("output", encoding, OUTPUT_ENCODINGS))
    dtype = np.dtype(np.float32 if encoding == "32FC1" else np.uint16)
    size = metres.size * dtype.itemsize
    if buffer is None or len(buffer) != size:
        buffer = array("B", bytes(size))
    out = np.frombuffer(buffer, dtype).reshape(metres.shape)
    if encoding == "32FC1":
        # Some rows at a time, which are looked at while they are in the cache.
        rows = max(1, BLOCK_PIXELS // max(1, metres.shape[1]))
        for start in range(0, metres.shape[0], rows):
            block = out[start : start + rows]
            np.copyto(block, metres[start : start + rows])
            # NaN is the usual hole, and is what 32FC1 wants: fmin and fmax pass over it, so that most blocks
            # need no mask.
            least, most = (
                reduce(block, axis=None, initial=1.0) for reduce in (np.fmin.reduce, np.fmax.reduce)
            )
            if not (least > 0 and most < np.inf):
                np.copyto(block, np.nan, where=~((block > 0) & (block < np.inf)))
    elif metres.dtype == np.uint16:
        np.copyto(out, metres)
    else:
        to_millimetres(metres, out)
    return buffer


def row_bytes(encoding: str, width: int) -> int:
    """Bytes in one unpadded row (`step`) of an image in any encoding this module knows.

    Raises FrameError on another encoding.
    """
    if encoding in RGB_ENCODINGS:
        return width * RGB_ENCODINGS[encoding][0]
    if encoding in DEPTH_ENCODINGS:
        return width * np.dtype(DEPTH_ENCODINGS[encoding][0]).itemsize
    raise FrameError(_wrong_encoding("image", encoding, [*RGB_ENCODINGS, *DEPTH_ENCODINGS]))


def _strided(message: ImageLike, name: str, dtype: np.dtype, channels: int) -> npt.NDArray[Any]:
    """A HxWxC view of the message's bytes, after checking that its fields agree with each other."""
    height, width, step = message.height, message.width, message.step
    if height < 1 or width < 1:
        raise FrameError(f"the {name} image is {width}x{height}, but both sides must be at least 1")
    row = width * channels * dtype.itemsize
    if step < row:
        raise FrameError(
            f"the {name} image's step is {step} bytes, but a row of {width} {message.encoding} pixels "
            f"needs {row}"
        )
    data = np.frombuffer(message.data, np.uint8) if len(message.data) else np.empty(0, np.uint8)
    # The last row's padding is not read, so it need not be there.
    needed = step * (height - 1) + row
    if data.size < needed:
        raise FrameError(
            f"the {name} image's data has {data.size} bytes, but {width}x{height} {message.encoding} pixels "
            f"with a step of {step} need {needed}"
        )
    strides = (step, channels * dtype.itemsize, dtype.itemsize)
    return np.ndarray((height, width, channels), dtype, buffer=data, strides=strides)


def _wrong_encoding(name: str, encoding: str, allowed: Any) -> str:
    return f"the {name} encoding is {encoding!r}, but must be one of {', '.join(allowed)}"
