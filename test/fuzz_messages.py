# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: valid messages of a camera, and the same with one field changed."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_sr_ros.image_codec import DEPTH_ENCODINGS, RGB_ENCODINGS
from depth_sr_ros.ros.messages import header, image_message, pinhole_camera_info

RGB_SIZE, DEPTH_SIZE = (64, 48), (16, 12)
FRAME_ID = "camera_color_optical_frame"
UINT32 = st.one_of(st.sampled_from([0, 1, 2, 31, 32, 63, 64, 65, 2**31, 2**32 - 1]), st.integers(0, 300))
ENCODINGS = [*RGB_ENCODINGS, *DEPTH_ENCODINGS, "", "yuv422", "bayer_rggb8", "8UC3", "16SC1", "32FC2", "64FC1"]
FORMATS = [
    "",
    "jpeg",
    "png",
    "rgb8; jpeg compressed bgr8",
    "rgb8; jpeg compressed rgb8",
    "bayer_rggb8; png compressed ",
    "16UC1",
    "16UC1; compressedDepth",
    "16UC1; compressedDepth png",
    "16UC1; compressedDepth rvl",
    "32FC1; compressedDepth png",
    "32FC1; compressedDepth rvl",
    "mono16; png compressed",
    "8UC1; compressedDepth png",
    "16UC1; compressedDepth zstd",
]
# Strings of ROS end at the first zero.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
FLOATS = st.floats(width=64)  # NaN and infinities too
STAMPS = st.builds(
    lambda sec, nanosec: Time(sec=sec, nanosec=nanosec),
    st.one_of(st.sampled_from([0, -1, 2**31 - 1, -(2**31)]), st.integers(1_699_999_000, 1_700_001_000)),
    st.one_of(st.sampled_from([0, 999_999_999, 1_000_000_000, 2**32 - 1]), st.integers(0, 2**32 - 1)),
)

Change = Callable[[Any], None]


def _set(field: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Change]:
    """A change of the field (dots for parts of parts) to one of the values."""
    *path, name = field.split(".")

    def change(value: Any) -> Change:
        def apply(message: Any) -> None:
            for part in path:
                message = getattr(message, part)
            setattr(message, name, value)

        apply.__name__ = f"{field} = {value!r}"
        return apply

    return values.map(change)


@st.composite
def _bytes_changed(draw: st.DrawFn) -> Change:
    """Cuts, appends, overwrites or replaces the data, at a place that is a share of their length."""
    kind = draw(st.sampled_from(["cut", "append", "overwrite", "insert", "replace"]))
    share, new = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=16))

    def apply(message: Any) -> None:
        old = bytes(message.data)
        at = round(share * len(old))
        data = {
            "cut": old[:at],
            "append": old + new,
            "overwrite": (old[:at] + new + old[at + len(new) :])[: len(old)],
            "insert": old[:at] + new + old[at:],
            "replace": new,
        }[kind]
        message.data = array("B", data)

    apply.__name__ = f"data: {kind} {new!r} at {share}"
    return apply


HEADER_CHANGES = [_set("header.stamp", STAMPS), _set("header.frame_id", TEXTS)]
IMAGE_CHANGES = st.one_of(
    _set("width", UINT32),
    _set("height", UINT32),
    _set("step", UINT32),
    _set("encoding", st.one_of(st.sampled_from(ENCODINGS), TEXTS)),
    _set("is_bigendian", st.integers(0, 255)),
    _bytes_changed(),
    *HEADER_CHANGES,
)
COMPRESSED_CHANGES = st.one_of(
    _set("format", st.one_of(st.sampled_from(FORMATS), TEXTS)),
    _bytes_changed(),
    _bytes_changed(),
    *HEADER_CHANGES,
)
INFO_CHANGES = st.one_of(
    *(_set(name, UINT32) for name in ("width", "height", "binning_x", "binning_y")),
    *(_set(f"roi.{name}", UINT32) for name in ("x_offset", "y_offset", "width", "height")),
    _set("roi.do_rectify", st.booleans()),
    *(
        _set(name, st.lists(FLOATS, min_size=size, max_size=size))
        for name, size in (("k", 9), ("r", 9), ("p", 12))
    ),
    _set("k", st.just([0.0] * 9)),
    _set("d", st.lists(FLOATS, max_size=20)),
    _set("distortion_model", TEXTS),
    *HEADER_CHANGES,
)


def maybe(changes: st.SearchStrategy[Change]) -> st.SearchStrategy[Change | None]:
    """One of the changes, or none."""
    return st.one_of(st.none(), changes)


def pixels(seed: int, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """RGB and depth (16UC1 or 32FC1) of a textured slope."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    metres = np.linspace(0.8, 4.0, DEPTH_SIZE[0] * DEPTH_SIZE[1], dtype=np.float32).reshape(DEPTH_SIZE[::-1])
    return rgb, metres if dtype is np.float32 else (1000 * metres).astype(np.uint16)


def infos() -> tuple[CameraInfo, CameraInfo]:
    """CameraInfos of RGB and depth, of the same view."""
    out = []
    for width, height in (RGB_SIZE, DEPTH_SIZE):
        focal = 0.9 * width
        out.append(pinhole_camera_info((width, height), (focal, focal), ((width - 1) / 2, (height - 1) / 2)))
        out[-1].header = header(0, FRAME_ID)
    return out[0], out[1]


def raw_images(stamp_ns: int, dtype: type, seed: int = 0) -> tuple[Image, Image]:
    """A valid pair of Images; headers of their own, since a change shall touch one."""
    rgb, depth = pixels(seed, dtype)
    return (
        image_message(rgb, "rgb8", header(stamp_ns, FRAME_ID)),
        image_message(depth, "16UC1" if dtype is np.uint16 else "32FC1", header(stamp_ns, FRAME_ID)),
    )


def compressed_images(
    stamp_ns: int, rgb_codec: str, depth_codec: str
) -> tuple[CompressedImage, CompressedImage]:
    """A valid pair of CompressedImages: `jpeg` or `png` RGB; `png`, `rvl` or `32FC1 png` depth."""
    rgb, depth = pixels(0, np.uint16)
    coded = cv2.imencode(f".{rgb_codec}", rgb)[1].tobytes()
    kind = "32FC1" if depth_codec.startswith("32FC1") else "16UC1"
    codec = depth_codec.split()[-1]
    body = rvl(depth) if codec == "rvl" else cv2.imencode(".png", depth)[1].tobytes()
    out = (
        CompressedImage(format=f"rgb8; {rgb_codec} compressed bgr8", data=array("B", coded)),
        CompressedImage(
            format=f"{kind}; compressedDepth {codec}", data=array("B", struct.pack("<iff", 0, 1000, 0) + body)
        ),
    )
    for message in out:
        message.header = header(stamp_ns, FRAME_ID)
    return out


def rvl(depth: np.ndarray) -> bytes:
    """RVL of an image without zeros: one run of none, one of all, differences zigzag in 3-bit groups."""
    values = depth.ravel().astype(int)
    numbers = [0, len(values), *((d << 1) ^ (d >> 31) for d in np.diff(values, prepend=0).tolist())]
    nibbles = []
    for number in numbers:
        while True:
            number, low = number >> 3, number & 7
            nibbles.append(low | (8 if number else 0))
            if not number:
                break
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{n:x}" for n in nibbles[i : i + 8]), 16) for i in range(0, len(nibbles), 8)]
    return struct.pack("<II", depth.shape[1], depth.shape[0]) + struct.pack(f"<{len(words)}I", *words)
