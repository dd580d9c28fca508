# SPDX-License-Identifier: Apache-2.0
"""The evaluation protocol's degradations have the properties that the protocol states."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from depth_sr_ros.degradation import PROFILES, crop_to_multiple, degrade
from depth_sr_ros.errors import ConfigError


def ramp(low: float, high: float, size: int = 256) -> np.ndarray:
    return np.broadcast_to(np.linspace(low, high, size, dtype=np.float32), (size, size)).copy()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_cropping_keeps_the_top_left_multiple() -> None:
    image = np.arange(37 * 50 * 3).reshape(37, 50, 3)
    np.testing.assert_array_equal(crop_to_multiple(image), image[:32, :48])
    np.testing.assert_array_equal(crop_to_multiple(image[..., 0], 8), image[:32, :48, 0])


@pytest.mark.parametrize("scale", [2, 4, 8, 16])
def test_clean_is_the_mean_of_the_valid_pixels_of_each_cell(scale: int) -> None:
    depth = (1 + 5 * rng().random((48, 64))).astype(np.float32)
    for index, value in enumerate((np.nan, 0.0, -2.0, np.inf)):
        depth[rng(index + 1).random(depth.shape) < 0.1] = value
    low = degrade(depth, scale, "clean", rng())
    assert low.shape == (48 // scale, 64 // scale) and low.dtype == np.float32
    for y in range(low.shape[0]):
        for x in range(low.shape[1]):
            cell = depth[y * scale : (y + 1) * scale, x * scale : (x + 1) * scale].ravel()
            valid = [float(value) for value in cell if np.isfinite(value) and value > 0]
            if len(valid) < scale * scale / 2:
                assert np.isnan(low[y, x])
            else:
                assert low[y, x] == pytest.approx(sum(valid) / len(valid), rel=1e-6)


@pytest.mark.parametrize(("holes", "is_valid"), [(8, True), (9, False)])
def test_a_cell_needs_half_of_its_pixels(holes: int, is_valid: bool) -> None:
    depth = np.full((4, 4), 3.0, np.float32)
    depth.flat[:holes] = np.nan
    for profile in ("clean", "noisy"):
        assert np.isfinite(degrade(depth, 4, profile, rng())).all() == is_valid


@pytest.mark.parametrize("scale", [2, 4, 8, 16])
def test_bicubic_is_pils(scale: int) -> None:
    depth = (1 + rng().random((96, 128))).astype(np.float32)
    expected = Image.fromarray(depth).resize((128 // scale, 96 // scale), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(degrade(depth, scale, "bicubic", rng()), np.asarray(expected), atol=1e-6)


def test_bicubic_holes_leave_no_trace_in_their_surroundings() -> None:
    depth = np.full((64, 64), 7.0, np.float32)
    depth[20:40, 24:60] = np.nan
    low = degrade(depth, 4, "bicubic", rng())
    assert np.isnan(low[6:9, 7:14]).all()
    np.testing.assert_allclose(low[np.isfinite(low)], 7.0, rtol=1e-6)
    assert np.isfinite(low).mean() > 0.75


def test_bicubic_overshoot_leaves_no_depth_below_zero() -> None:
    depth = np.full((64, 64), 1.0, np.float32)
    depth[:, 33:] = 300.0
    low = degrade(depth, 4, "bicubic", rng())
    assert np.nanmin(low) > 0 and np.isnan(low).any()


@pytest.mark.parametrize(
    ("z", "sigma"), [(0.4, 0.0052), (0.5, 0.006219), (2.0, 0.026064), (5.0, 0.091404), (8.0, 0.121404)]
)
def test_noise_has_the_sigma_of_the_formula(z: float, sigma: float) -> None:
    # on a flat frame the outliers lie within the noise's own 10-90 percentile: sigma changes by under 1 %
    low = degrade(np.full((256, 256), z, np.float32), 1, "noisy", rng(3))
    assert float(low.std()) == pytest.approx(sigma, rel=0.03)
    assert float(low.mean()) == pytest.approx(z, abs=sigma / 30)


def test_noise_is_independent_from_pixel_to_pixel() -> None:
    error = degrade(np.full((256, 256), 2.0, np.float32), 1, "noisy", rng(4)) - 2.0
    for shifted in (error[1:] * error[:-1], error[:, 1:] * error[:, :-1]):
        assert abs(shifted.mean()) < 0.03 * error.var()


def test_two_percent_of_the_pixels_are_outliers() -> None:
    depth = np.full((400, 400), 1.0, np.float32)
    depth[:, 200:] = 9.0
    low = degrade(depth, 1, "noisy", rng(5))
    sigma = np.where(depth == 1, 0.012, 0.132)
    share = (np.abs(low - depth) > 6 * sigma).mean()
    # a uniform draw over 8 m falls within 6 sigma of the truth in 5.4 % of the cases
    assert share == pytest.approx(0.02 * (1 - 0.054), rel=0.08)


def test_outliers_are_uniform_between_the_10th_and_90th_percentile() -> None:
    depth = ramp(2.0, 4.0, 400)
    depth[:20], depth[-20:] = 0.5, 10.0
    low = degrade(depth, 1, "noisy", rng(6))
    middle = slice(20, -20)
    sigma = 0.0012 + 0.0019 * (depth - 0.4) ** 2 + 0.01 * depth
    values = low[middle][(np.abs(low - depth) > 6 * sigma)[middle]]
    start, stop = np.percentile(depth, (10, 90))
    assert len(values) > 1000
    assert start - 0.05 < values.min() < start + 0.05 and stop - 0.05 < values.max() < stop + 0.05
    far = low[:20][low[:20] > 1.0]
    assert np.histogram(far, bins=4, range=(start, stop))[0].min() > 0.15 * len(far)


@pytest.mark.parametrize("scale", [1, 4])
def test_depth_is_quantised_to_ten_bits_of_the_frames_range(scale: int) -> None:
    low = degrade(ramp(1.0, 6.0), scale, "noisy", rng(7)).astype(np.float64)
    codes = (low - low.min()) / ((low.max() - low.min()) / 1023)
    np.testing.assert_allclose(codes, np.round(codes), atol=2e-3)
    assert len(np.unique(np.round(codes))) > 500


def test_holes_stay_holes_under_noise() -> None:
    depth = ramp(1.0, 6.0)
    depth[50:100, 30:90] = np.nan
    clean, noisy = degrade(depth, 4, "clean", rng()), degrade(depth, 4, "noisy", rng())
    np.testing.assert_array_equal(np.isnan(noisy), np.isnan(clean))
    assert np.isnan(noisy).any()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_frame_without_depth_stays_empty(profile: str) -> None:
    assert np.isnan(degrade(np.full((32, 32), np.nan, np.float32), 4, profile, rng())).all()


def test_a_seed_gives_one_noise_pattern() -> None:
    depth = ramp(1.0, 6.0)
    first, again, other = (degrade(depth, 4, "noisy", rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_holes_do_not_change_how_much_is_drawn() -> None:
    states = []
    for depth in (ramp(1.0, 6.0), np.full((256, 256), np.nan, np.float32)):
        generator = rng(1)
        degrade(depth, 4, "noisy", generator)
        states.append(generator.bit_generator.state)
    assert states[0] == states[1]


@pytest.mark.parametrize("profile", ["clean", "bicubic"])
def test_exact_profiles_draw_nothing_and_leave_the_input_alone(profile: str) -> None:
    depth, generator = ramp(1.0, 6.0), rng(1)
    before, copy = generator.bit_generator.state, depth.copy()
    degrade(depth, 8, profile, generator)
    assert generator.bit_generator.state == before
    np.testing.assert_array_equal(depth, copy)


@pytest.mark.parametrize(
    ("scale", "profile", "word"), [(5, "clean", "crop"), (0, "clean", "scale 0"), (4, "noise", "noisy")]
)
def test_wrong_arguments_are_refused(scale: int, profile: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        degrade(ramp(1.0, 6.0), scale, profile, rng())
