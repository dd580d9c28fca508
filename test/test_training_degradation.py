# SPDX-License-Identifier: Apache-2.0
"""The random training degradations: strengths as configured, seeds, holes, and every resampling method."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from depth_sr_ros.errors import ConfigError
from depth_sr_ros.sensor_profiles import SENSORS
from training.degradation import METHODS, DegradationConfig, RandomDegradation, noise_sigma, resample

PLAIN: dict[str, Any] = {
    "clean_share": 0.0,
    "outlier_share": 0.0,
    "bits": (0,),
    "hole_share": 0.0,
    "correlated_share": 0.0,
}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _degraded(
    depth: torch.Tensor, config: DegradationConfig | None = None, seed: int = 0, brightness: float = 0.5
) -> torch.Tensor:
    """`depth` (B, 1, H, W), seen beside a picture of one brightness."""
    rgb = torch.full((len(depth), 3, *depth.shape[-2:]), brightness)
    degrade, generator = RandomDegradation(config or DegradationConfig()), _generator(seed)
    return degrade(depth, rgb, degrade.draw_scale(generator), generator)


def test_the_same_seed_gives_the_same_sensor_image() -> None:
    depth = torch.rand(4, 1, 64, 64) + 1
    first, again, other = (_degraded(depth, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.nan_to_num(-1), again.nan_to_num(-1))
    assert first.shape != other.shape or not torch.equal(first.nan_to_num(-1), other.nan_to_num(-1))


@pytest.mark.parametrize("metres", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_noise_has_the_protocols_sigma_times_the_strength(metres: float, strength: float) -> None:
    config = DegradationConfig(scales=(2,), noise_strength=(strength, strength), methods=(1, 0, 0), **PLAIN)
    truth = torch.full((2, 1, 256, 256), metres)
    noise = _degraded(truth, config) - metres
    expected = strength * float(noise_sigma(torch.tensor(metres)))
    assert float(noise.std()) == pytest.approx(expected, rel=0.03)
    assert abs(float(noise.mean())) < 0.05 * expected


def test_clean_samples_are_only_resampled() -> None:
    config = DegradationConfig(scales=(4,), methods=(1, 0, 0), clean_share=1.0, hole_share=0.0)
    depth = torch.rand(3, 1, 64, 64) + 1
    expected = torch.nn.functional.avg_pool2d(depth, 4)
    torch.testing.assert_close(_degraded(depth, config), expected)


def test_about_the_configured_share_of_samples_is_clean() -> None:
    config = DegradationConfig(scales=(2,), methods=(1, 0, 0), clean_share=0.25, hole_share=0.0)
    depth = torch.full((400, 1, 16, 16), 2.0)
    clean = (_degraded(depth, config) - 2.0).abs().amax((1, 2, 3)) < 1e-5
    assert 0.17 < float(clean.float().mean()) < 0.33


def test_quantisation_leaves_at_most_two_to_the_bits_values() -> None:
    config = DegradationConfig(scales=(2,), methods=(1, 0, 0), **{**PLAIN, "bits": (4,)})
    lr = _degraded(torch.rand(1, 1, 64, 64) * 3 + 1, config)
    assert 8 < len(torch.unique(lr)) <= 16


def test_outliers_lie_between_the_10th_and_90th_percentile() -> None:
    config = DegradationConfig(
        scales=(2,), methods=(1, 0, 0), noise_strength=(1e-6, 1e-6), **{**PLAIN, "outlier_share": 1.0}
    )
    depth = torch.linspace(1, 2, 256).repeat(1, 1, 256, 1)
    lr = _degraded(depth, config, seed=3)
    changed = (lr - torch.nn.functional.avg_pool2d(depth, 2)).abs() > 1e-3
    assert changed.any()
    assert 1.09 < float(lr[changed].min()) < float(lr[changed].max()) < 1.91


def test_holes_take_at_most_the_configured_area_and_are_sometimes_there() -> None:
    config = DegradationConfig(scales=(2,), **{**PLAIN, "hole_share": 1.0}, hole_area=0.6)
    lr = _degraded(torch.full((64, 1, 64, 64), 2.0), config)
    share = lr.isnan().float().mean((1, 2, 3))
    assert float(share.max()) <= 0.601
    assert float(share.max()) > 0.4
    assert 0.2 < float(share.mean()) < 0.4


@pytest.mark.parametrize("method", METHODS)
def test_a_pixel_measured_less_than_by_half_is_invalid(method: str) -> None:
    depth = torch.full((1, 1, 16, 16), 3.0)
    depth[..., :6] = torch.nan  # the first cell of four is empty, the second half empty
    lr = resample(depth, (4, 4), method)
    assert torch.isnan(lr[..., 0]).all()
    torch.testing.assert_close(lr[..., 2:], torch.full((1, 1, 4, 2), 3.0))


def test_area_averages_only_what_is_valid() -> None:
    depth = torch.tensor([[1.0, torch.nan], [3.0, 5.0]])[None, None]
    assert float(resample(depth, (1, 1), "area")) == pytest.approx(3.0)


def _edge(batch: int = 1) -> torch.Tensor:
    """A near and a far surface whose border lies inside LR cells of 4 pixels."""
    depth = torch.full((batch, 1, 64, 64), 3.0)
    depth[..., 31:] = 1.0
    return depth


@pytest.mark.parametrize("sensor", sorted(SENSORS))
def test_a_sensors_samples_are_what_its_model_makes_of_the_truth(sensor: str) -> None:
    config = DegradationConfig(
        scales=(4,), sensors=(sensor,), sensor_share=1.0, sensor_strength=(1.0, 1.0), hole_share=0.0
    )
    lr = _degraded(_edge(), config)[0, 0].numpy()
    assert lr.shape == (16, 16)
    truth, grey = _edge()[0, 0].numpy(), np.full((64, 64, 3), 128, np.uint8)
    # Any seed: what one shows at all its pixels but for the draws, they all show.
    others = np.stack([SENSORS[sensor](truth, 4, grey, np.random.default_rng(s), 1.0) for s in range(200)])
    low, high = np.nanmin(others, 0, initial=9.0), np.nanmax(others, 0, initial=0.0)
    measured = np.isfinite(lr)
    assert measured.mean() > 0.2
    assert not measured[np.isnan(others).all(0)].any()
    assert ((lr > low - 0.05) & (lr < high + 0.05))[measured].all()


def test_about_the_configured_share_of_samples_is_seen_by_a_sensor() -> None:
    config = DegradationConfig(
        scales=(4,), methods=(1, 0, 0), clean_share=1.0, hole_share=0.0, sensors=("lidar",), sensor_share=0.3
    )
    empty_lines = _degraded(_edge(300), config).isnan().all(dim=3).any(dim=2).flatten()
    assert 0.22 < float(empty_lines.float().mean()) < 0.38


def test_a_sensor_sees_the_picture_and_its_strength() -> None:
    def lost_and_spread(brightness: float, strength: float) -> tuple[float, float]:
        config = DegradationConfig(
            scales=(4,),
            sensors=("tof",),
            sensor_share=1.0,
            sensor_strength=(strength, strength),
            hole_share=0.0,
        )
        lr = _degraded(torch.full((1, 1, 256, 256), 2.0), config, brightness=brightness)
        return float(lr.isnan().float().mean()), float((lr[~lr.isnan()] - 2).std())

    assert lost_and_spread(0.03, 1.0)[0] > 0.9
    (few, weak), (_, strong) = lost_and_spread(0.6, 0.5), lost_and_spread(0.6, 2.0)
    assert few < 0.02 and strong == pytest.approx(4 * weak, rel=0.05)


@pytest.mark.parametrize("scale", [3, 2.5, 5])
def test_a_scale_that_does_not_divide_the_crop_has_no_sensor(scale: float) -> None:
    plain = DegradationConfig(scales=(scale,))
    mixed = dataclasses.replace(plain, sensor_share=1.0, sensors=("lidar",))
    torch.testing.assert_close(_degraded(_edge(), plain), _degraded(_edge(), mixed), equal_nan=True)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"scales": (0.5,)}, "at least 1"),
        ({"clean_share": 1.5}, "between 0 and 1"),
        ({"methods": (1, 1)}, "one share for each"),
        ({"noise_strength": (0.0, 1.0)}, "0 < low <= high"),
        ({"sensor_strength": (2.0, 1.0)}, "0 < low <= high"),
        ({"sensor_share": -0.1}, "between 0 and 1"),
        ({"sensors": ("tof", "steroe")}, "did you mean 'stereo'"),
    ],
)
def test_a_bad_configuration_names_value_and_range(options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        DegradationConfig(**options)
