# SPDX-License-Identifier: Apache-2.0
"""CameraInfo of a resized image: the same 3D point must fall on the same spot of the scene."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_sr_ros.camera import resized_camera_info
from depth_sr_ros.errors import FrameError


def camera_info(width: int = 640, height: int = 480) -> SimpleNamespace:
    """Skewed, with a stereo baseline, distortion, binning and a region of interest."""
    return SimpleNamespace(
        header=SimpleNamespace(frame_id="rgb"),
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.1, -0.2, 0.001, 0.002, 0.0],
        k=[525.0, 1.5, 319.5, 0.0, 520.0, 239.5, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[525.0, 1.5, 319.5, -40.0, 0.0, 520.0, 239.5, 12.0, 0.0, 0.0, 1.0, 0.0],
        binning_x=2,
        binning_y=2,
        roi=SimpleNamespace(x_offset=32, y_offset=48, width=320, height=240, do_rectify=True),
    )


def test_at_the_same_size_it_is_a_verbatim_copy() -> None:
    info = camera_info()
    out = resized_camera_info(info, (320, 240), (320, 240))
    assert out == info
    assert out is not info and out.roi is not info.roi and out.k is not info.k


def test_the_original_is_never_changed() -> None:
    info = camera_info()
    before = copy.deepcopy(info)
    resized_camera_info(info, (640, 480), (160, 120))
    assert info == before


def test_halving_moves_the_principal_point_by_the_half_pixel_rule() -> None:
    out = resized_camera_info(camera_info(), (640, 480), (320, 240))
    # The centre of the image, 319.5 on 640 columns, is 159.5 on 320.
    assert out.k == [262.5, 0.75, 159.5, 0.0, 260.0, 119.5, 0.0, 0.0, 1.0]
    assert out.p == [262.5, 0.75, 159.5, -20.0, 0.0, 260.0, 119.5, 6.0, 0.0, 0.0, 1.0, 0.0]
    assert (out.width, out.height) == (320, 240)
    assert (out.roi.x_offset, out.roi.y_offset, out.roi.width, out.roi.height) == (16, 24, 160, 120)
    assert (out.binning_x, out.binning_y, out.roi.do_rectify, out.d) == (2, 2, True, camera_info().d)


@given(
    scale_x=st.sampled_from([0.25, 0.5, 1.5, 4.0]),
    scale_y=st.sampled_from([0.25, 0.5, 1.5, 4.0]),
    point=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.5, 10)),
)
def test_a_point_projects_to_the_same_place_of_the_image(
    scale_x: float, scale_y: float, point: tuple[float, float, float]
) -> None:
    info = camera_info()
    out = resized_camera_info(info, (640, 480), (int(640 * scale_x), int(480 * scale_y)))
    for name, shape, xyz in (("k", (3, 3), point), ("p", (3, 4), (*point, 1.0))):
        before, after = (np.reshape(getattr(i, name), shape) @ xyz for i in (info, out))
        u, v = before[:2] / before[2]
        expected = ((u + 0.5) * scale_x - 0.5, (v + 0.5) * scale_y - 0.5)
        np.testing.assert_allclose(after[:2] / after[2], expected, rtol=1e-9, atol=1e-6)


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
