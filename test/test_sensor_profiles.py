# SPDX-License-Identifier: Apache-2.0
"""Each sensor profile shows the errors of its sensor, by seed, and leaves its input as it is."""

from __future__ import annotations

import numpy as np
import pytest

from depth_sr_ros.degradation import PROFILES, SEEDED, degrade
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.sensor_profiles import LIDAR_LINE_STEP, SENSORS, STEREO_BASELINE_M, STEREO_FOCAL

HEIGHT, WIDTH = 96, 128


def step_scene(near: float = 1.0, far: float = 3.0) -> np.ndarray:
    """A near box on a far wall; its edges lie inside LR cells of 4 pixels."""
    depth = np.full((HEIGHT, WIDTH), far, np.float32)
    depth[22:70, 50:90] = near
    return depth


def made(profile: str, depth: np.ndarray, scale: int = 4, seed: int = 0, rgb: np.ndarray | None = None):
    return degrade(depth, scale, profile, np.random.default_rng(seed), rgb)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("scale", [4, 8, 16])
def test_every_profile_gives_the_lr_size_in_metres(profile: str, scale: int) -> None:
    depth = step_scene()
    depth[:40, :40] = np.nan
    depth[0, 60], depth[1, 60] = np.inf, -1.0
    before = depth.copy()
    lr = made(profile, depth, scale)
    assert lr.shape == (HEIGHT // scale, WIDTH // scale) and lr.dtype == np.float32
    assert not (lr <= 0).any() and not np.isinf(lr).any()
    assert np.isnan(lr[: 32 // scale, : 32 // scale]).all(), "nothing is measured where there is nothing"
    measured = np.isfinite(lr)
    assert measured.mean() > (0.1 if profile == "lidar" else 0.6)
    assert lr[measured].min() > 0.6 and lr[measured].max() < 4
    np.testing.assert_array_equal(depth, before)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_seed_decides_and_only_where_the_profile_draws(profile: str) -> None:
    depth = step_scene() + np.linspace(0, 0.1, WIDTH, dtype=np.float32)
    first, again, other = (made(profile, depth, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other, equal_nan=True) == (profile not in SEEDED)


@pytest.mark.parametrize("profile", sorted(SENSORS))
def test_a_frame_without_depth_stays_one(profile: str) -> None:
    assert np.isnan(made(profile, np.full((HEIGHT, WIDTH), np.nan, np.float32))).all()


def test_tof_flies_between_the_surfaces_at_edges_and_dtof_never_does() -> None:
    depth = step_scene()
    between = {
        name: np.nanmean((made(name, depth) > 1.3) & (made(name, depth) < 2.7)) for name in ("tof", "dtof")
    }
    assert between["tof"] > 0.02 and between["dtof"] == 0


def test_tof_is_noisier_where_it_is_darker() -> None:
    wall = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    dim, bright = (
        np.nanstd(made("tof", wall, rgb=np.full((HEIGHT, WIDTH, 3), grey, np.uint8))) for grey in (60, 240)
    )
    assert 1.8 < dim / bright < 2.2  # the root of four


@pytest.mark.parametrize("profile", ["challenge", "codec"])
def test_few_levels_still_follow_the_depth(profile: str) -> None:
    ramp = np.tile(np.linspace(1, 5, WIDTH, dtype=np.float32), (HEIGHT, 1))
    error = made(profile, ramp) - made("clean", ramp)
    assert np.abs(error).mean() < 0.1
    if profile == "challenge":  # noise of one step, and the rounding to steps
        assert error.std() == pytest.approx(4 / 255 * np.sqrt(1 + 1 / 12), rel=0.1)


def test_tof_loses_dark_surfaces_and_is_noisier_far_away() -> None:
    wall = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    rgb = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
    rgb[:, : WIDTH // 2] = 8
    lost = np.isnan(made("tof", wall, rgb=rgb))
    assert lost[:, : WIDTH // 8].mean() > 0.9 and lost[:, WIDTH // 8 :].mean() < 0.05
    near, far = (np.nanstd(made("tof", np.full_like(wall, z))) for z in (1.0, 4.0))
    assert far > 5 * near


def test_stereo_steps_in_disparity_and_sees_nothing_left_of_near_things() -> None:
    lr = made("stereo", step_scene(near=0.5))
    disparity = STEREO_FOCAL * STEREO_BASELINE_M * WIDTH / lr
    steps = disparity[np.isfinite(lr)] * 8
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    hidden = np.isnan(lr)
    rows = slice(8, 16)
    assert hidden[rows, 11].all() and not hidden[rows, 24:].any() and not hidden[:4].any()
    near, far = (np.nanstd(made("stereo", np.full((HEIGHT, WIDTH), z, np.float32))) for z in (0.5, 1.5))
    assert far > 4 * near


def test_dtof_answers_with_the_surface_that_reflects_most() -> None:
    depth = np.full((16, 16), 3.0, np.float32)
    depth[:, :4] = 1.0  # a quarter of the zone, but nine times as bright
    assert np.allclose(made("dtof", depth, scale=16), 1.0, atol=0.03)


def test_lidar_measures_lines() -> None:
    lr = made("lidar", step_scene())
    lines = np.isfinite(lr).any(axis=1)
    assert lines.sum() == len(lines) / LIDAR_LINE_STEP
    assert np.isfinite(lr[lines]).mean() > 0.9


def test_challenge_and_codec_have_few_levels_and_the_codec_blurs() -> None:
    ramp = np.tile(np.linspace(1, 5, WIDTH, dtype=np.float32), (HEIGHT, 1))
    assert len(np.unique(made("challenge", ramp))) <= 257
    assert len(np.unique(made("codec", ramp))) <= 257
    error = np.abs(made("codec", step_scene()) - made("clean", step_scene()))
    assert error[5:18, 11:24].max() > 0.1
    assert error[:, 24:].max() < 0.02, "a block of 8x8 pixels without an edge"


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'stereo'"):
        made("stero", step_scene())
