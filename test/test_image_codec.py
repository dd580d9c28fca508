# SPDX-License-Identifier: Apache-2.0
"""Image messages to NumPy views and back: encodings, padding, byte order, units, malformed input."""

from __future__ import annotations

import sys
from array import array
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_sr_ros.errors import FrameError
from depth_sr_ros.image_codec import (
    BLOCK_PIXELS,
    DEPTH_ENCODINGS,
    OUTPUT_ENCODINGS,
    RGB_ENCODINGS,
    depth_view,
    encode_depth,
    rgb_view,
    row_bytes,
)

HOST_IS_BIG = sys.byteorder == "big"


def image(
    pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = HOST_IS_BIG
) -> SimpleNamespace:
    """A message with `padding` bytes of 0xAA after each row and its pixels in the given byte order."""
    height, width = pixels.shape[:2]
    ordered = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<"))
    rows = np.frombuffer(ordered.tobytes(), np.uint8).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAA)
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=padded.shape[1],
        data=array("B", padded.tobytes()),
    )


def colour(encoding: str, height: int = 5, width: int = 7) -> np.ndarray:
    channels = RGB_ENCODINGS[encoding][0]
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def depths(encoding: str, height: int = 5, width: int = 7) -> np.ndarray:
    rng = np.random.default_rng(1)
    if encoding == "32FC1":
        pixels = rng.uniform(0.1, 10.0, (height, width)).astype(np.float32)
        pixels[0, 0] = np.nan
        return pixels
    return rng.integers(0, 65536, (height, width), np.uint16)


@pytest.mark.parametrize("padding", [0, 1, 13])
@pytest.mark.parametrize("encoding", RGB_ENCODINGS)
def test_colour_pixels_are_seen_through_any_padding(encoding: str, padding: int) -> None:
    pixels = colour(encoding)
    view, order = rgb_view(image(pixels, encoding, padding))
    np.testing.assert_array_equal(view, pixels)
    assert view.dtype == np.uint8
    assert (
        order == {"rgb8": "rgb", "bgr8": "bgr", "rgba8": "rgba", "bgra8": "bgra", "mono8": "mono"}[encoding]
    )


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 4, 13])
@pytest.mark.parametrize("encoding", DEPTH_ENCODINGS)
def test_depth_pixels_are_seen_through_any_padding_and_byte_order(
    encoding: str, padding: int, big_endian: bool
) -> None:
    pixels = depths(encoding)
    view, unit = depth_view(image(pixels, encoding, padding, big_endian))
    np.testing.assert_array_equal(view, pixels)
    assert view.dtype == pixels.dtype and view.dtype.isnative
    assert unit == (1.0 if encoding == "32FC1" else 0.001)
    assert all(stride % view.itemsize == 0 for stride in view.strides)  # what torch.from_numpy asks for


@pytest.mark.parametrize("encoding", [*RGB_ENCODINGS, *DEPTH_ENCODINGS])
def test_a_view_shares_the_memory_of_the_message(encoding: str) -> None:
    is_depth = encoding in DEPTH_ENCODINGS
    message = image(depths(encoding) if is_depth else colour(encoding), encoding, padding=4)
    view = (depth_view if is_depth else rgb_view)(message)[0]
    assert np.shares_memory(view, np.frombuffer(message.data, np.uint8))


def test_a_view_outlives_its_message() -> None:
    pixels = colour("rgb8")
    message = image(pixels, "rgb8")
    view, _ = rgb_view(message)
    del message
    np.testing.assert_array_equal(view, pixels)


def test_padding_after_the_last_row_may_be_missing() -> None:
    pixels = depths("16UC1")
    message = image(pixels, "16UC1", padding=6)
    message.data = message.data[:-6]
    np.testing.assert_array_equal(depth_view(message)[0], pixels)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "yuv422"}, "'yuv422'"),
        ({"encoding": "16UC1"}, "'16UC1'"),
        ({"encoding": ""}, "''"),
        ({"height": 0}, "7x0"),
        ({"width": 0}, "0x5"),
        ({"step": 20}, "step is 20"),
        ({"step": 0}, "step is 0"),
        ({"height": 6}, "105 bytes"),
        ({"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1}, "step is 4294967295"),
        ({"height": 2**32 - 1, "step": 2**32 - 1}, "105 bytes"),
        ({"data": array("B")}, "0 bytes"),
        ({"data": array("B", bytes(104))}, "104 bytes"),
    ],
)
def test_a_malformed_colour_image_is_refused_by_a_sentence_with_the_value(change: dict, said: str) -> None:
    message = image(colour("rgb8"), "rgb8")
    message.__dict__.update(change)
    with pytest.raises(FrameError) as caught:
        rgb_view(message)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "rgb8"}, "'rgb8'"),
        ({"encoding": "64FC1"}, "'64FC1'"),
        ({"height": 0}, "7x0"),
        ({"step": 27}, "step is 27"),
        ({"data": array("B", bytes(139))}, "139 bytes"),
    ],
)
def test_a_malformed_depth_image_is_refused_by_a_sentence_with_the_value(change: dict, said: str) -> None:
    message = image(depths("32FC1"), "32FC1")
    message.__dict__.update(change)
    with pytest.raises(FrameError) as caught:
        depth_view(message)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


uint32 = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1))


@given(
    height=uint32,
    width=uint32,
    step=uint32,
    size=st.integers(0, 600),
    encoding=st.sampled_from([*RGB_ENCODINGS, *DEPTH_ENCODINGS, "rgb16", "8UC1"]),
    big_endian=st.booleans(),
)
def test_whatever_the_fields_say_the_codec_answers_with_a_whole_image_or_a_frame_error(**fields: Any) -> None:
    message = SimpleNamespace(
        height=fields["height"],
        width=fields["width"],
        step=fields["step"],
        encoding=fields["encoding"],
        is_bigendian=int(fields["big_endian"]),
        data=array("B", bytes(fields["size"])),
    )
    for view_of in (rgb_view, depth_view):
        try:
            view = view_of(message)[0]
        except FrameError:
            continue
        assert view.shape[:2] == (fields["height"], fields["width"])
        assert not view.copy().any()  # every pixel can be read, and lies within the data


def test_metres_leave_as_32fc1_with_every_invalid_pixel_nan() -> None:
    metres = np.array([[0.5, np.nan, np.inf], [-np.inf, 0.0, -1.0]], np.float32)
    before = metres.copy()
    out = np.frombuffer(encode_depth(metres, "32FC1"), np.float32).reshape(2, 3)
    nan = np.nan
    np.testing.assert_array_equal(out, np.array([[0.5, nan, nan], [nan, nan, nan]], np.float32))
    np.testing.assert_array_equal(metres, before)


@pytest.mark.parametrize("invalid", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_one_kind_of_invalid_pixel_in_one_block_leaves_as_nan(invalid: float) -> None:
    metres = np.full((5, BLOCK_PIXELS // 2), 0.5, np.float32)  # the last block is of one row
    for row in (0, 3, 4):
        frame = metres.copy()
        frame[row, 7] = invalid
        out = np.frombuffer(encode_depth(frame, "32FC1"), np.float32).reshape(metres.shape)
        frame[row, 7] = np.nan
        np.testing.assert_array_equal(out, frame)


def test_millimetres_are_rounded_clamped_and_zero_where_invalid() -> None:
    metres = [1.0004, 1.0006, 0.0004, 65.5349, 65.6, 3e38, np.nan, np.inf, -np.inf, 0.0, -2.0]
    out = np.frombuffer(encode_depth(np.array([metres], np.float32), "16UC1"), np.uint16)
    assert out.tolist() == [1000, 1001, 0, 65535, 65535, 65535, 0, 0, 0, 0, 0]


@given(st.lists(st.integers(1, 65535), min_size=1, max_size=64))
def test_every_millimetre_survives_the_way_through_metres(millimetres: list[int]) -> None:
    metres = np.array([millimetres], np.float32) * np.float32(0.001)
    assert np.frombuffer(encode_depth(metres, "16UC1"), np.uint16).tolist() == millimetres


@pytest.mark.parametrize("encoding", OUTPUT_ENCODINGS)
def test_a_buffer_of_the_right_size_is_filled_and_another_one_replaced(encoding: str) -> None:
    metres = np.full((4, 6), 2.5, np.float32)
    first = encode_depth(metres, encoding)
    assert isinstance(first, array) and first.typecode == "B"
    assert len(first) == 4 * row_bytes(encoding, 6)
    assert encode_depth(metres + 1, encoding, first) is first
    dtype, value = (np.float32, 3.5) if encoding == "32FC1" else (np.uint16, 3500)
    assert (np.frombuffer(first, dtype) == value).all()
    assert encode_depth(metres[:2], encoding, first) is not first


def test_an_unknown_output_encoding_is_refused() -> None:
    with pytest.raises(FrameError, match="'mono16', but must be one of 32FC1, 16UC1"):
        encode_depth(np.ones((2, 2), np.float32), "mono16")
    with pytest.raises(FrameError, match="'8UC3'"):
        row_bytes("8UC3", 4)
