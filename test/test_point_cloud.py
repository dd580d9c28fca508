# SPDX-License-Identifier: Apache-2.0
"""Point clouds: read back as a subscriber would, by the fields, and compared with a loop over the pixels."""

from __future__ import annotations

import struct
import warnings
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.errors import FrameError
from depth_sr_ros.image_codec import RGB_ENCODINGS
from depth_sr_ros.point_cloud import IS_BIGENDIAN, POINT_FIELDS, POINT_STEP, PointCloudBuilder

CAMERA = PinholeCamera(width=7, height=5, fx=6.0, fy=6.5, cx=3.2, cy=1.9)
ORDERS = {order: channels for channels, order in RGB_ENCODINGS.values()}


def depth_image(camera: PinholeCamera = CAMERA) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return rng.uniform(0.3, 9, (camera.height, camera.width)).astype(np.float32)


def colour_image(order: str, height: int = 5, width: int = 7) -> npt.NDArray[np.uint8]:
    shape = (height, width) if order == "mono" else (height, width, ORDERS[order])
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)


def points(data: array, camera: PinholeCamera = CAMERA) -> npt.NDArray[np.float32]:
    """HxWx3, read by the fields' offsets."""
    offsets = {name: offset for name, offset, _, _ in POINT_FIELDS}
    dtype = np.dtype(
        {
            "names": list(offsets),
            "formats": [np.float32] * 4,
            "offsets": list(offsets.values()),
            "itemsize": POINT_STEP,
        }
    )
    cloud = np.frombuffer(data, dtype).reshape(camera.height, camera.width)
    return np.stack([cloud["x"], cloud["y"], cloud["z"]], axis=-1)


def colours(data: array) -> npt.NDArray[np.uint32]:
    return np.frombuffer(data, np.uint32).reshape(5, 7, 4)[..., 3]


def rgb_at(image: npt.NDArray[np.uint8], order: str, row: int, column: int) -> tuple[int, int, int]:
    if order == "mono":
        grey = int(image[row, column])
        return grey, grey, grey
    pixel = [int(value) for value in image[row, column]]
    return pixel[order.index("r")], pixel[order.index("g")], pixel[order.index("b")]


def test_each_pixel_becomes_the_point_that_projects_onto_it() -> None:
    depth = depth_image()
    xyz = points(PointCloudBuilder()(depth, CAMERA, colour_image("rgb")))
    for row in range(5):
        for column in range(7):
            x, y, z = (float(value) for value in xyz[row, column])
            assert z == depth[row, column]
            assert CAMERA.fx * x / z + CAMERA.cx == pytest.approx(column, abs=1e-5)
            assert CAMERA.fy * y / z + CAMERA.cy == pytest.approx(row, abs=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_colour_is_packed_as_0x00rrggbb_in_a_float(order: str) -> None:
    image = colour_image(order)
    data = PointCloudBuilder()(depth_image(), CAMERA, image, order)
    packed = np.frombuffer(data, np.float32).reshape(5, 7, 4)[..., 3]
    for row in range(5):
        for column in range(7):
            (bits,) = struct.unpack("=I", packed[row, column].tobytes())
            red, green, blue = rgb_at(image, order, row, column)
            assert bits == red << 16 | green << 8 | blue


@pytest.mark.parametrize("invalid", [np.nan, 0.0, -0.0, -1.0, np.inf, -np.inf])
def test_an_invalid_pixel_becomes_a_point_of_nan_and_keeps_its_colour(invalid: float) -> None:
    depth = depth_image()
    depth[2, 3] = invalid
    image = colour_image("rgb")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = PointCloudBuilder()(depth, CAMERA, image)
    xyz = points(data)
    assert np.isnan(xyz[2, 3]).all()
    assert np.isnan(xyz).sum() == 3
    red, green, blue = rgb_at(image, "rgb", 2, 3)
    assert colours(data)[2, 3] == red << 16 | green << 8 | blue


@pytest.mark.parametrize("invalid", [np.nan, 0.0, np.inf])
def test_a_frame_without_a_measurement_is_all_nan(invalid: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = PointCloudBuilder()(np.full((5, 7), invalid, np.float32), CAMERA, colour_image("rgb"))
    assert np.isnan(points(data)).all()


def test_the_buffer_is_filled_again_and_holds_nothing_of_the_last_frame() -> None:
    build = PointCloudBuilder()
    first = build(depth_image(), CAMERA, colour_image("rgb"))
    expected = build(depth_image() * 2, CAMERA, colour_image("bgr"), "bgr")
    assert expected is first
    assert type(first) is array and first.typecode == "B"
    assert first == PointCloudBuilder()(depth_image() * 2, CAMERA, colour_image("bgr"), "bgr")


def test_another_camera_and_size_are_followed() -> None:
    build = PointCloudBuilder()
    build(depth_image(), CAMERA, colour_image("rgb"))
    for other in (PinholeCamera(7, 5, 9.0, 9.0, 3.0, 2.0), PinholeCamera(4, 3, 5.0, 5.0, 1.5, 1.0), CAMERA):
        image = colour_image("rgb", other.height, other.width)
        data = build(depth_image(other), other, image)
        assert len(data) == other.width * other.height * POINT_STEP
        assert data == PointCloudBuilder()(depth_image(other), other, image)


def test_an_image_of_many_blocks_is_written_whole() -> None:
    camera = PinholeCamera(300, 201, 250.0, 260.0, 150.0, 100.0)
    depth, image = depth_image(camera), colour_image("bgra", 201, 300)
    depth[::7, ::3] = 0
    data = PointCloudBuilder()(depth, camera, image, "bgra")
    xyz = points(data, camera)
    valid = depth > 0
    np.testing.assert_array_equal(np.isnan(xyz[..., 0]), ~valid)
    v, u = np.indices(depth.shape)
    expected = np.stack([(u - 150.0) / 250 * depth, (v - 100.0) / 260 * depth, depth], axis=-1)
    np.testing.assert_allclose(xyz[valid], expected[valid], rtol=1e-6, atol=1e-6)
    packed = np.frombuffer(data, np.uint32).reshape(201, 300, 4)[..., 3]
    blue, green, red = (image[..., channel].astype(np.uint32) for channel in range(3))
    np.testing.assert_array_equal(packed, red << 16 | green << 8 | blue)


@pytest.mark.parametrize("size", [(10, 14), (15, 21), (12, 19), (3, 4)])
def test_an_image_of_another_size_gives_each_point_the_pixel_at_its_centre(size: tuple[int, int]) -> None:
    image = colour_image("rgb", *size)
    packed = colours(PointCloudBuilder()(depth_image(), CAMERA, image))
    for row in range(5):
        for column in range(7):
            centre = int((row + 0.5) * size[0] / 5), int((column + 0.5) * size[1] / 7)
            red, green, blue = rgb_at(image, "rgb", *centre)
            assert packed[row, column] == red << 16 | green << 8 | blue


def test_views_of_a_message_with_padding_and_read_only_memory_are_accepted() -> None:
    padded = np.zeros((5, 32), np.uint8)
    image = colour_image("rgb")
    padded[:, :21] = image.reshape(5, 21)
    view = np.ndarray((5, 7, 3), np.uint8, buffer=padded.tobytes(), strides=(32, 3, 1))
    depth = depth_image()
    depth.flags.writeable = False
    assert PointCloudBuilder()(depth, CAMERA, view) == PointCloudBuilder()(depth, CAMERA, image)


def test_the_fields_fill_a_point() -> None:
    assert [name for name, *_ in POINT_FIELDS] == ["x", "y", "z", "rgb"]
    assert [offset for _, offset, _, _ in POINT_FIELDS] == [0, 4, 8, 12]
    assert {(kind, count) for _, _, kind, count in POINT_FIELDS} == {(7, 1)}
    assert POINT_STEP == 16
    assert struct.pack("=H", 1) == struct.pack(">H" if IS_BIGENDIAN else "<H", 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"depth": np.ones((5, 6), np.float32)},
            r"shape \(5, 6\), but must be float32 of the camera's shape",
        ),
        ({"depth": np.ones((5, 7))}, "depth image is float64"),
        ({"rgb": np.zeros((5, 7), np.uint8)}, r"rgb image is uint8 of shape \(5, 7\)"),
        ({"rgb": np.zeros((5, 7, 4), np.uint8)}, "but must be uint8 of shape"),
        ({"rgb": np.zeros((0, 7, 3), np.uint8)}, "but must be uint8 of shape"),
        ({"rgb": np.zeros((5, 7, 3), np.float32)}, "rgb image is float32"),
        ({"channel_order": "grb"}, "channel_order is 'grb'"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    frame: dict[str, Any] = {"depth": depth_image(), "rgb": colour_image("rgb"), "channel_order": "rgb"}
    frame |= changes
    with pytest.raises(FrameError, match=message):
        PointCloudBuilder()(frame["depth"], CAMERA, frame["rgb"], frame["channel_order"])
