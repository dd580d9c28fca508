# SPDX-License-Identifier: Apache-2.0
"""Depth registration against a loop over the pixels in float64, and against scenes with a known answer."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from registration_reference import INVALID, Array, Reference, image_point, random_scene

from depth_sr_ros.camera import PinholeCamera, transform_matrix
from depth_sr_ros.errors import ConfigError, FrameError
from depth_sr_ros.models.registration import DepthRegistration

CAMERA = PinholeCamera(width=24, height=18, fx=20.0, fy=20.5, cx=11.3, cy=8.9)


def pose(translation: tuple[float, float, float] = (0, 0, 0), axis: str = "z", degrees: float = 0) -> Array:
    half = math.radians(degrees) / 2
    quaternion = [math.sin(half) * (name == axis) for name in "xyz"]
    return transform_matrix(translation, (*quaternion, math.cos(half)))


def register(
    depth: npt.NDArray, depth_camera: PinholeCamera, rgb_camera: PinholeCamera, rgb_from_depth: Array
) -> npt.NDArray[np.float32]:
    tensor = torch.tensor(depth, dtype=torch.float32)[None, None]
    return DepthRegistration(depth_camera, rgb_camera, rgb_from_depth)(tensor)[0, 0].numpy()


@pytest.mark.parametrize("seed", range(16))
def test_random_scenes_agree_with_a_loop_over_the_pixels(seed: int) -> None:
    depth, depth_camera, rgb_camera, rgb_from_depth = random_scene(seed)
    depth = depth.astype(np.float32).astype(np.float64)
    out = DepthRegistration(depth_camera, rgb_camera, rgb_from_depth).camera
    result = register(depth, depth_camera, rgb_camera, rgb_from_depth)
    assert result.dtype == np.float32
    result = np.where(np.isnan(result), np.inf, result)
    reference = Reference(depth, depth_camera, out, rgb_from_depth)
    near, far = reference.image(1e-3), reference.image(-1e-3)
    assert (near * (1 - 1e-5) <= result).all()
    assert (result <= far * (1 + 1e-5)).all()
    assert (near == far).mean() > 0.9
    assert np.isfinite(result).any()


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_identity_and_equal_cameras_give_the_input_back_exactly(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    depth = torch.rand((3, 1, CAMERA.height, CAMERA.width), generator=generator) * scale + 0.01
    depth[torch.rand(depth.shape, generator=generator) < 0.2] = torch.nan
    registration = DepthRegistration(CAMERA, CAMERA, np.eye(4))
    assert registration.camera == CAMERA
    torch.testing.assert_close(registration(depth), depth, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("invalid", INVALID)
def test_invalid_pixels_give_nothing_and_do_not_disturb_their_neighbours(invalid: float) -> None:
    depth = np.full((18, 24), 2.0)
    depth[5, 7] = invalid
    result = register(depth, CAMERA, CAMERA, np.eye(4))
    assert np.isnan(result[5, 7])
    assert (np.delete(result.ravel(), 5 * 24 + 7) == 2).all()
    nothing = register(np.full((18, 24), invalid), CAMERA, CAMERA, pose((0.1, 0, 0.1), "y", 5))
    assert np.isnan(nothing).all()


def test_a_plane_moves_by_its_disparity_and_leaves_nan_behind() -> None:
    depth = np.full((18, 24), 2.0)
    # 0.5 m * 20 px / 2 m = 5 px to the right.
    result = register(depth, CAMERA, CAMERA, pose((0.5, 0, 0)))
    assert np.isnan(result[:, :5]).all()
    assert (result[:, 5:] == 2).all()


def test_depth_is_measured_along_the_axis_of_the_rgb_camera() -> None:
    camera = PinholeCamera(21, 21, 20.0, 20.0, 10.0, 10.0)
    depth = np.full((21, 21), np.nan)
    depth[10, 14] = 2.0
    # The point (0.4, 0, 2) seen by a camera that is 0.5 m further ahead and turned by 10 degrees.
    rgb_from_depth = pose((0, 0, -0.5), "y", -10)
    x, _, z, _ = rgb_from_depth @ (0.4, 0, 2, 1)
    result = register(depth, camera, camera, rgb_from_depth)
    rows, columns = np.nonzero(np.isfinite(result))
    assert set(rows) == {10}
    assert round(20 * x / z + 10) in columns
    np.testing.assert_allclose(result[rows, columns], z, rtol=1e-6)


def two_planes() -> Array:
    depth = np.full((18, 24), 4.0)
    depth[5:13, 8:16] = 1.0
    return depth


def test_the_foreground_hides_the_background_and_uncovers_what_was_not_seen() -> None:
    # 0.3 m to the side: the near plane moves by 6 px, the far one by 1.5.
    result = register(two_planes(), CAMERA, CAMERA, pose((0.3, 0, 0)))
    assert (result[5:13, 14:22] == 1).all()
    assert np.isnan(result[5:13, 10:14]).all()
    background = np.ones(result.shape, bool)
    background[5:13, 9:22] = False
    background[:, :2] = False
    assert (result[background] == 4).all()


@pytest.mark.parametrize("ahead", [0.2, 0.35, 0.5])
def test_a_foreground_seen_larger_than_measured_has_no_cracks(ahead: float) -> None:
    # From 1 m to 0.5 m away, the samples of the near plane move apart to twice their distance.
    result = register(two_planes(), CAMERA, CAMERA, pose((0.02, 0.01, -ahead)))
    (left, top, near), (right, bottom, _) = (
        image_point(u, v, 1.0, CAMERA, CAMERA, pose((0.02, 0.01, -ahead))) for u, v in ((8, 5), (15, 12))
    )
    inside = result[math.ceil(top) : math.floor(bottom) + 1, math.ceil(left) : math.floor(right) + 1]
    assert inside.size > 64
    np.testing.assert_allclose(inside, near, rtol=1e-6)


@pytest.mark.parametrize("roll", [0, 20, 45, 90, 135])
@pytest.mark.parametrize("noise", [0, 0.01])
def test_a_slanted_noisy_surface_has_no_cracks_at_any_roll(roll: float, noise: float) -> None:
    camera = PinholeCamera(40, 40, 40.0, 40.0, 19.5, 19.5)
    x = (np.arange(40) - 19.5) / 40
    depth = np.tile(1 / (1 - 0.9 * x), (40, 1))  # the plane z = 1 + 0.9 x
    depth *= 1 + np.random.default_rng(0).normal(0, noise, depth.shape)
    result = register(depth, camera, camera, pose((0.15, 0.05, 0), "z", roll))
    # The part of the image that the surface certainly fills.
    assert np.isfinite(result[12:28, 12:28]).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_lone_sample_is_never_lost(seed: int) -> None:
    depth = np.full((18, 24), np.nan)
    rng = np.random.default_rng(seed)
    depth[rng.integers(4, 14), rng.integers(6, 18)] = 3.0
    coarse = PinholeCamera(12, 9, 10.0, 10.0, 5.6, 4.3)
    result = register(depth, CAMERA, coarse, pose((rng.uniform(-0.1, 0.1), 0.05, -0.02)))
    assert np.isfinite(result).any()


def test_points_behind_the_camera_and_outside_its_view_are_dropped() -> None:
    depth = np.full((18, 24), 2.0)
    assert np.isnan(register(depth, CAMERA, CAMERA, pose((0, 0, -2.5)))).all()
    assert np.isnan(register(depth, CAMERA, CAMERA, pose((0, 0, -2.0)))).all()
    assert np.isnan(register(depth, CAMERA, CAMERA, pose((100, 0, 0)))).all()
    assert np.isnan(register(depth, CAMERA, CAMERA, pose((0, -100, 0)))).all()
    assert np.isnan(register(depth, CAMERA, CAMERA, pose((0, 0, 0), "y", 180))).all()


def test_depths_near_the_limits_of_float32_do_no_harm() -> None:
    depth = np.full((18, 24), 2.0)
    depth[3, 3], depth[4, 4] = 3e38, 1e-38
    result = register(depth, CAMERA, CAMERA, pose((0.1, 0, 0)))
    assert (np.isnan(result) | (result > 0)).all()
    assert (result[8:, 5:] == 2).all()
    # Upside down, the last row's largest float overflows along x and not along y: only near x = 0 it fits.
    camera = PinholeCamera(24, 18, 20.0, 20.0, 11.5, 8.5)
    depth = np.full((18, 24), np.nan)
    depth[17] = 3e38
    rows, columns = np.nonzero(np.isfinite(register(depth, camera, camera, pose(degrees=180))))
    assert set(rows) <= {0}
    assert set(columns) <= {0, 1}


@pytest.mark.parametrize(
    ("rgb", "size"),
    [
        # 60 px of focal length against 20: a third of the size.
        (PinholeCamera(120, 90, 60.0, 60.0, 59.5, 44.5), (40, 30)),
        # Coarser than the depth: the RGB's own size.
        (PinholeCamera(16, 9, 10.0, 10.0, 7.5, 4.0), (16, 9)),
        # Sampled unevenly: the sparser axis decides.
        (PinholeCamera(120, 90, 60.0, 120.0, 59.5, 44.5), (20, 15)),
        (PinholeCamera(90, 2, 6000.0, 6000.0, 44.5, 0.5), (1, 1)),
    ],
)
def test_the_grid_keeps_the_density_of_the_samples(rgb: PinholeCamera, size: tuple[int, int]) -> None:
    depth_camera = PinholeCamera(24, 18, 20.0, 20.0, 11.5, 8.5)
    registration = DepthRegistration(depth_camera, rgb, np.eye(4))
    assert registration.camera == rgb.resized(*size)
    assert registration(torch.ones(2, 1, 18, 24)).shape == (2, 1, size[1], size[0])


def test_a_batch_is_its_frames_one_by_one() -> None:
    registration = DepthRegistration(CAMERA, CAMERA, pose((0.1, 0.05, -0.2), "z", 10))
    frames = torch.rand((3, 1, 18, 24), generator=torch.Generator().manual_seed(0)) + 0.5
    expected = torch.cat([registration(frame[None]) for frame in frames])
    before = frames.clone()
    torch.testing.assert_close(registration(frames), expected, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(frames, before)


def test_no_value_is_read_back_by_the_host() -> None:
    # A tensor on "meta" has no values: .item(), boolean indexing or nonzero() would raise.
    result = DepthRegistration(CAMERA, CAMERA, np.eye(4), "meta")(torch.empty(2, 1, 18, 24, device="meta"))
    assert result.shape == (2, 1, 18, 24)
    with pytest.raises((NotImplementedError, RuntimeError)):
        result[result > 0].sum().item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_without_being_synchronised() -> None:
    rgb_from_depth = pose((0.1, 0.05, -0.2), "z", 10)
    depth = torch.rand((2, 1, 18, 24), generator=torch.Generator().manual_seed(0)) + 0.5
    depth[0, 0, 3:6, 3:6] = torch.nan
    expected = DepthRegistration(CAMERA, CAMERA, rgb_from_depth)(depth)
    registration = DepthRegistration(CAMERA, CAMERA, rgb_from_depth, "cuda")
    on_device = depth.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = registration(on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # Rounding may move a border across a pixel centre.
    close = torch.isclose(result.cpu(), expected, rtol=1e-5, equal_nan=True)
    assert close.float().mean() > 0.98


@pytest.mark.parametrize("shape", [(1, 1, 24, 18), (1, 3, 18, 24), (18, 24)])
def test_a_depth_image_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameError, match=r"must have shape \(B, 1, 18, 24\)"):
        DepthRegistration(CAMERA, CAMERA, np.eye(4))(torch.ones(shape))


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(3),
        np.eye(4) * 2,
        np.diag([1.0, 1.0, -1.0, 1.0]),
        np.diag([1.0, 1.0, 1.0, 2.0]),
        np.full((4, 4), np.nan),
        np.zeros((4, 4)),
    ],
)
def test_a_pose_that_is_not_rigid_is_refused(matrix: Array) -> None:
    with pytest.raises(ConfigError, match="must be a 4x4 rotation and translation"):
        DepthRegistration(CAMERA, CAMERA, matrix)
