# SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras and CameraInfo: the same 3D point must fall on the same spot of the scene."""

from __future__ import annotations

import copy
import math
from dataclasses import astuple
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_sr_ros.camera import (
    PinholeCamera,
    described_size,
    has_distortion,
    is_of_size,
    output_size,
    quaternion_to_matrix,
    resized_camera_info,
    transform_matrix,
)
from depth_sr_ros.errors import ConfigError, FrameError

POINTS = st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.5, 10))
ROTATIONS = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 1e-3)


def camera_info(
    width: int = 640, height: int = 480, binning: int = 0, roi: tuple[int, ...] = (0, 0, 0, 0)
) -> SimpleNamespace:
    """Skewed, with a stereo baseline and distortion; `roi` is x_offset, y_offset, width, height."""
    return SimpleNamespace(
        header=SimpleNamespace(frame_id="rgb"),
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.1, -0.2, 0.001, 0.002, 0.0],
        k=[525.0, 1.5, 319.5, 0.0, 520.0, 239.5, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[525.0, 1.5, 319.5, -40.0, 0.0, 520.0, 239.5, 12.0, 0.0, 0.0, 1.0, 0.0],
        binning_x=binning,
        binning_y=binning,
        roi=SimpleNamespace(
            x_offset=roi[0], y_offset=roi[1], width=roi[2], height=roi[3], do_rectify=any(roi)
        ),
    )


def project(matrix: list[float], columns: int, point: tuple[float, ...]) -> np.ndarray:
    homogeneous = np.reshape(matrix, (3, columns)) @ (*point, 1.0)[:columns]
    return homogeneous[:2] / homogeneous[2]


def by_the_message(info: SimpleNamespace, full: np.ndarray) -> np.ndarray:
    """Where a pixel of the full image lies in the image that comes with `info`: cropped, then binned."""
    binning = np.maximum([info.binning_x, info.binning_y], 1)
    return (full - (info.roi.x_offset, info.roi.y_offset) + 0.5) / binning - 0.5


def by_image_geometry(info: SimpleNamespace, full: np.ndarray) -> np.ndarray:
    """The same as image_geometry's PinholeCameraModel does it, which bins without the half-pixel rule."""
    binning = np.maximum([info.binning_x, info.binning_y], 1)
    return (full - (info.roi.x_offset, info.roi.y_offset)) / binning


@pytest.mark.parametrize(
    ("info", "size"),
    [
        (camera_info(), (640, 480)),
        (camera_info(binning=2, roi=(32, 48, 320, 240)), (160, 120)),
        (camera_info(), (320, 240)),
    ],
)
def test_at_the_same_size_it_is_a_verbatim_copy(info: SimpleNamespace, size: tuple[int, int]) -> None:
    out = resized_camera_info(info, size, size)
    assert out == info
    assert out is not info and out.roi is not info.roi and out.k is not info.k


def test_the_original_is_never_changed() -> None:
    info = camera_info(binning=2, roi=(32, 48, 320, 240))
    before = copy.deepcopy(info)
    resized_camera_info(info, (160, 120), (80, 60))
    PinholeCamera.from_camera_info(info)
    assert info == before


def test_halving_moves_the_principal_point_by_the_half_pixel_rule() -> None:
    out = resized_camera_info(camera_info(), (640, 480), (320, 240))
    # The centre of the image, 319.5 on 640 columns, is 159.5 on 320.
    assert out.k == [262.5, 0.75, 159.5, 0.0, 260.0, 119.5, 0.0, 0.0, 1.0]
    assert out.p == [262.5, 0.75, 159.5, -20.0, 0.0, 260.0, 119.5, 6.0, 0.0, 0.0, 1.0, 0.0]
    assert (out.width, out.height) == (320, 240)
    assert (out.binning_x, out.binning_y) == (0, 0)
    assert out.roi == camera_info().roi
    assert (out.d, out.r, out.distortion_model) == (camera_info().d, camera_info().r, "plumb_bob")


@pytest.mark.parametrize(
    ("info", "described", "size", "fits"),
    [
        (camera_info(), (640, 480), (640, 480), True),
        (camera_info(), (640, 480), (640, 479), False),
        (camera_info(), (640, 480), (320, 240), False),
        (camera_info(binning=2, roi=(32, 48, 320, 240)), (160, 120), (160, 120), True),
        (camera_info(binning=2, roi=(32, 48, 320, 240)), (160, 120), (320, 240), False),
        (camera_info(binning=2, roi=(32, 48, 320, 240)), (160, 120), (640, 480), False),
        (camera_info(641, 480, binning=2), (320, 240), (320, 240), True),  # cut
        (camera_info(641, 480, binning=2), (320, 240), (321, 240), True),  # rounded up
        (camera_info(641, 480, binning=2), (320, 240), (319, 240), False),
        (camera_info(roi=(40, 80, 0, 0)), (600, 400), (600, 400), True),
        (camera_info(0, 0), (0, 0), (320, 240), True),  # says nothing
    ],
)
def test_a_camera_info_is_of_images_of_its_region_binned(
    info: SimpleNamespace, described: tuple[int, int], size: tuple[int, int], fits: bool
) -> None:
    assert described_size(info) == described
    assert is_of_size(info, size) is fits


def test_a_resized_image_is_described_without_region_and_binning() -> None:
    info = camera_info(binning=4, roi=(32, 48, 320, 240))
    out = resized_camera_info(info, (80, 60), (160, 120))
    assert (out.width, out.height, out.binning_x, out.binning_y) == (160, 120, 1, 1)
    assert vars(out.roi) == {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, "do_rectify": False}
    # Cropped 319.5 - 32, binned by 4 and doubled: (287.5 + 0.5) / 2 - 0.5.
    assert (out.k[0], out.k[2]) == (525 / 2, 143.5)


@given(
    binning=st.sampled_from([0, 1, 2, 4]),
    roi=st.sampled_from(
        [(0, 0, 0, 0), (0, 0, 640, 480), (32, 48, 320, 240), (13, 7, 320, 240), (40, 20, 0, 0)]
    ),
    scale=st.tuples(st.sampled_from([0.25, 0.5, 1.5, 4.0]), st.sampled_from([0.25, 0.5, 1.5, 4.0])),
    point=POINTS,
)
def test_a_point_projects_to_the_same_place_of_the_received_and_the_resized_image(
    binning: int, roi: tuple[int, ...], scale: tuple[float, float], point: tuple[float, float, float]
) -> None:
    info = camera_info(binning=binning, roi=roi)
    side_x, side_y = roi[2] or 640 - roi[0], roi[3] or 480 - roi[1]
    size = (side_x // max(binning, 1), side_y // max(binning, 1))
    new_size = (int(size[0] * scale[0]), int(size[1] * scale[1]))
    out = resized_camera_info(info, size, new_size)
    for name, columns in (("k", 3), ("p", 4)):
        received = by_the_message(info, project(getattr(info, name), columns, point))
        expected = (received + 0.5) * np.divide(new_size, size) - 0.5
        full = project(getattr(out, name), columns, point)
        for consumer in (by_the_message, by_image_geometry):
            np.testing.assert_allclose(consumer(out, full), expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("received", [(320, 240), (321, 241)])
def test_a_side_that_binning_does_not_divide_keeps_the_size_of_its_pixels(received: tuple[int, int]) -> None:
    info = camera_info(641, 481, binning=2)
    out = resized_camera_info(info, received, (received[0] * 2, received[1] * 2))
    np.testing.assert_allclose(out.k, info.k)


def test_an_image_that_is_not_of_the_messages_size_shows_all_of_its_view() -> None:
    # A driver that shrinks the image to a quarter and sends the full one's CameraInfo along.
    out = resized_camera_info(camera_info(), (160, 120), (320, 240))
    assert out.k == resized_camera_info(camera_info(), (640, 480), (320, 240)).k
    assert PinholeCamera.from_camera_info(camera_info(), (160, 120)).cx == 79.5
    # A message without a size.
    info = camera_info(0, 0)
    assert resized_camera_info(info, (640, 480), (320, 240)).k[2] == 159.5
    assert PinholeCamera.from_camera_info(info, (640, 480)).width == 640


def test_an_uncalibrated_camera_stays_uncalibrated() -> None:
    info = camera_info()
    info.k, info.p = [0.0] * 9, [0.0] * 12
    out = resized_camera_info(info, (640, 480), (320, 240))
    assert out.k == [0.0] * 9
    assert out.p == [0.0] * 12


@pytest.mark.parametrize("sizes", [((0, 480), (320, 240)), ((640, 480), (320, 0))])
def test_a_side_below_one_pixel_is_refused(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(FrameError, match="sides must be at least 1"):
        resized_camera_info(camera_info(), *sizes)


def test_a_full_unbinned_image_has_the_messages_intrinsics() -> None:
    camera = PinholeCamera.from_camera_info(camera_info())
    assert camera == PinholeCamera(640, 480, 525.0, 520.0, 319.5, 239.5)


@given(
    binning=st.sampled_from([0, 1, 2, 4]),
    roi=st.sampled_from([(0, 0, 0, 0), (0, 0, 640, 480), (32, 48, 320, 240), (13, 7, 322, 241)]),
    point=POINTS,
)
def test_the_camera_projects_onto_the_received_image(
    binning: int, roi: tuple[int, ...], point: tuple[float, float, float]
) -> None:
    info = camera_info(binning=binning, roi=roi)
    camera = PinholeCamera.from_camera_info(info)
    info.k[1] = 0.0  # a pinhole camera has no skew
    u, v = (np.divide(point[:2], point[2]) * (camera.fx, camera.fy)) + (camera.cx, camera.cy)
    expected = by_the_message(info, project(info.k, 3, point))
    np.testing.assert_allclose((u, v), expected, rtol=1e-9, atol=1e-6)
    assert camera.width == (roi[2] or 640) // max(binning, 1)
    assert camera.height == (roi[3] or 480) // max(binning, 1)


@pytest.mark.parametrize("size", [(320, 240), (1280, 960), (200, 333)])
def test_a_resized_camera_is_that_of_the_resized_camera_info(size: tuple[int, int]) -> None:
    info = camera_info()
    of_info = PinholeCamera.from_camera_info(resized_camera_info(info, (640, 480), size))
    resized = PinholeCamera.from_camera_info(info).resized(*size)
    np.testing.assert_allclose(astuple(resized), astuple(of_info))


def test_the_intrinsics_are_those_after_rectification_where_they_are_given() -> None:
    info = camera_info()
    info.p[0], info.p[5], info.p[2], info.p[6] = 510.0, 511.0, 300.0, 200.0
    camera = PinholeCamera.from_camera_info(info)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (510.0, 511.0, 300.0, 200.0)
    info.p = [0.0] * 12
    camera = PinholeCamera.from_camera_info(info)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (info.k[0], info.k[4], info.k[2], info.k[5])


@pytest.mark.parametrize(
    ("k", "message"),
    [
        ([0.0] * 9, "not calibrated"),
        ([-525.0, 0.0, 319.5, 0.0, 520.0, 239.5, 0.0, 0.0, 1.0], "must be above 0"),
        ([525.0, 0.0, 319.5, 0.0, 0.0, 239.5, 0.0, 0.0, 1.0], "must be above 0"),
        ([525.0, 0.0, math.nan, 0.0, 520.0, 239.5, 0.0, 0.0, 1.0], "finite"),
        ([math.inf, 0.0, 319.5, 0.0, 520.0, 239.5, 0.0, 0.0, 1.0], "finite"),
    ],
)
def test_a_camera_without_a_usable_calibration_is_refused(k: list[float], message: str) -> None:
    info = camera_info()
    info.k, info.p = k, [0.0] * 12
    with pytest.raises(FrameError, match=message):
        PinholeCamera.from_camera_info(info)


def test_a_camera_without_pixels_is_refused() -> None:
    for info in (camera_info(0, 0), camera_info(roi=(700, 0, 0, 0)), camera_info(binning=500)):
        with pytest.raises(FrameError, match="sides must be at least 1"):
            PinholeCamera.from_camera_info(info)
    with pytest.raises(FrameError, match="sides must be at least 1"):
        PinholeCamera.from_camera_info(camera_info()).resized(0, 10)


@pytest.mark.parametrize(
    ("d", "expected"),
    [([], False), ([0.0] * 5, False), ([0.0, 0.0, 0.0, 0.0, -1e-9], True), (np.zeros(8), False)],
)
def test_distortion_is_any_coefficient_that_is_not_zero(d: list[float], expected: bool) -> None:
    assert has_distortion(SimpleNamespace(d=d)) is expected


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((1280, 720), 0, (1280, 720)),
        ((1280, 720), 1280, (1280, 720)),
        ((1280, 720), 4000, (1280, 720)),
        ((1280, 720), 640, (640, 360)),
        ((720, 1280), 640, (360, 640)),
        ((1281, 721), 640, (640, 360)),
        ((5000, 2), 100, (100, 1)),
    ],
)
def test_the_output_size_keeps_the_aspect(
    size: tuple[int, int], max_side: int, expected: tuple[int, int]
) -> None:
    assert output_size(*size, max_side) == expected


def test_an_output_size_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(FrameError, match="sides must be at least 1"):
        output_size(0, 10, 5)
    with pytest.raises(ConfigError, match="max_side is -1"):
        output_size(10, 10, -1)


@given(quaternion=ROTATIONS, point=POINTS)
def test_a_quaternion_rotates_a_point_as_the_hamilton_product_does(
    quaternion: tuple[float, ...], point: tuple[float, float, float]
) -> None:
    vector, w = np.array(quaternion[:3]), quaternion[3]
    # q p q*, written with cross products.
    expected = (
        2 * vector @ np.array(point) * vector
        + (w * w - vector @ vector) * np.array(point)
        + 2 * w * np.cross(vector, point)
    ) / (vector @ vector + w * w)
    np.testing.assert_allclose(quaternion_to_matrix(*quaternion) @ point, expected, atol=1e-9)


@given(quaternion=ROTATIONS)
def test_the_matrix_of_a_quaternion_is_a_rotation(quaternion: tuple[float, ...]) -> None:
    matrix = quaternion_to_matrix(*quaternion)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_a_quarter_turn_about_z_maps_x_onto_y_and_no_turn_nothing() -> None:
    np.testing.assert_array_equal(transform_matrix((0, 0, 0), (0, 0, 0, 1)), np.eye(4))
    matrix = transform_matrix((1.0, 2.0, 3.0), (0.0, 0.0, 1.0, 1.0))
    np.testing.assert_allclose(matrix @ (1, 0, 0, 1), (1, 3, 3, 1), atol=1e-12)
    np.testing.assert_array_equal(matrix[3], (0, 0, 0, 1))


@pytest.mark.parametrize(
    "quaternion", [(0, 0, 0, 0), (0, 0, 0, 1e-12), (math.nan, 0, 0, 1), (math.inf, 0, 0, 1)]
)
def test_a_quaternion_that_is_no_rotation_is_refused(quaternion: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="finite and not zero"):
        quaternion_to_matrix(*quaternion)


@pytest.mark.parametrize(
    ("translation", "quaternion"),
    [((0, 0), (0, 0, 0, 1)), ((0, 0, 0), (0, 0, 1)), ((0, math.nan, 0), (0, 0, 0, 1))],
)
def test_a_transform_of_other_lengths_or_not_finite_is_refused(
    translation: tuple[float, ...], quaternion: tuple[float, ...]
) -> None:
    with pytest.raises(ConfigError, match="3 and 4 finite values"):
        transform_matrix(translation, quaternion)
