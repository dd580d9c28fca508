# SPDX-License-Identifier: Apache-2.0
"""The simulated guide: what each of its errors does, seeds, and what never changes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from depth_sr_ros.errors import ConfigError
from training.simulated_guide import GuideErrors, perfect_guide, simulated_guide

NONE = GuideErrors(gamma=1, tilt=0, shift=0, blur=0, thin_share=0, region=0)


def scene() -> torch.Tensor:
    """Two samples (2, 1, 96, 128): a floor that comes nearer downwards, a box, a pole of two pixels, sky."""
    depth = torch.linspace(8, 2, 96).view(1, 1, 96, 1).repeat(2, 1, 1, 128)
    depth[:, :, 30:60, 70:100] = 1.5
    depth[:, :, :, 20:22] = 1.0
    depth[:, :, :8] = torch.nan
    depth[1] = depth[0].flip(-1)
    return depth


def made(errors: GuideErrors, seed: int = 0) -> torch.Tensor:
    return simulated_guide(scene(), errors, torch.Generator().manual_seed(seed))


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_the_perfect_guide_is_inverse_depth_and_the_sky_is_furthest() -> None:
    guide = perfect_guide(scene())
    assert float(guide.max()) == 1 and float(guide[0, 0, :8].max()) == 0
    torch.testing.assert_close(guide[0, 0, 40, 80] / guide[0, 0, 40, 20], torch.tensor(1.0 / 1.5))
    assert bool((perfect_guide(torch.full((1, 1, 8, 8), torch.nan)) == 0).all())


def test_without_errors_it_is_the_perfect_one() -> None:
    torch.testing.assert_close(made(NONE), perfect_guide(scene()), atol=2e-5, rtol=1e-4)


def test_a_seed_decides() -> None:
    assert torch.equal(made(GuideErrors(), 1), made(GuideErrors(), 1))
    assert not torch.equal(made(GuideErrors(), 1), made(GuideErrors(), 2))


@pytest.mark.parametrize("seed", range(8))
def test_it_is_finite_and_mostly_like_the_scene(seed: int) -> None:
    guide = made(GuideErrors(), seed)
    assert guide.shape == scene().shape and bool(guide.isfinite().all())
    assert correlation(guide[0], perfect_guide(scene())[0]) > 0.35


def test_gamma_bends_and_keeps_the_order() -> None:
    guide, exact = made(dataclasses.replace(NONE, gamma=2.0)), perfect_guide(scene())
    assert (guide - exact).abs().max() > 0.05
    order = exact[0].flatten().argsort()
    assert bool((guide[0].flatten()[order].diff() >= -1e-4).all())


def test_thin_things_are_lost_and_wide_ones_stay() -> None:
    guide, exact = made(dataclasses.replace(NONE, thin_share=1.0)), perfect_guide(scene())
    assert guide[0, 0, 40, 20:22].max() < 0.5 < exact[0, 0, 40, 20:22].min()
    torch.testing.assert_close(guide[0, 0, 45, 85], exact[0, 0, 45, 85], atol=1e-4, rtol=0)


def test_blur_softens_edges_and_shift_moves_them() -> None:
    exact = perfect_guide(scene())
    steepest = exact.diff(dim=-1).abs().amax()
    assert made(dataclasses.replace(NONE, blur=6.0)).diff(dim=-1).abs().amax() < 0.6 * steepest
    moved = made(dataclasses.replace(NONE, shift=8.0))
    assert (moved - exact).abs().max() > 0.2
    assert moved.mean() == pytest.approx(float(exact.mean()), rel=0.1)


def test_some_region_shows_something_else_and_the_rest_is_right() -> None:
    changed = (made(dataclasses.replace(NONE, region=0.5)) - perfect_guide(scene())).abs() > 1e-3
    assert 0.005 < changed.float().mean() < 0.6


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"gamma": 0.5}, "at least 1"),
        ({"blur": -1.0}, "at least 0"),
        ({"region": 1.5}, "between 0 and 1"),
    ],
)
def test_an_impossible_error_names_value_and_range(options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        GuideErrors(**options)
