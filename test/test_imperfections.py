# SPDX-License-Identifier: Apache-2.0
"""Training pairs made like real ones: what changes, by how much, for how many samples."""

from __future__ import annotations

import pytest
import torch

from depth_sr_ros.errors import ConfigError
from training.config import DataConfig
from training.filters import gaussian_blur
from training.imperfections import DISPARITY_STEPS, MAX_SHIFT_PX, _shifted, _stepped, imperfect


def pairs(batch: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright, near square of 24 pixels on a dark, far slope; its border is the same in both."""
    rgb = torch.full((batch, 3, 64, 64), 0.2)
    depth = torch.linspace(3, 4, 64).expand(batch, 1, 64, 64).clone()
    rgb[..., 20:44, 20:44] = 0.8
    depth[..., 20:44, 20:44] = 1.0
    depth[..., :4] = torch.nan
    return rgb, depth


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_share_changes_nothing() -> None:
    rgb, depth = pairs(4)
    new_rgb, new_depth = imperfect(rgb, depth, 0.0, generator())
    torch.testing.assert_close(new_rgb, rgb, atol=1e-6, rtol=0)
    torch.testing.assert_close(new_depth, depth, equal_nan=True)


def test_a_share_of_the_samples_changes_and_each_in_its_range() -> None:
    rgb, depth = pairs()
    new_rgb, new_depth = imperfect(rgb, depth, 0.5, generator())
    assert float(new_rgb.min()) >= 0 and float(new_rgb.max()) <= 1
    for new, old, low, high in ((new_rgb, rgb, 0.3, 0.8), (new_depth, depth, 0.2, 0.65)):
        changed = ((new - old).nan_to_num().abs() > 1e-3).flatten(1).any(1).float().mean()
        assert low < float(changed) < high
    assert float(new_depth.nan_to_num(1).min()) > 0.9 and float(new_depth.nan_to_num(1).max()) < 4.5
    again_rgb, again_depth = imperfect(rgb, depth, 0.5, generator())
    assert torch.equal(again_rgb, new_rgb) and torch.equal(again_depth.nan_to_num(), new_depth.nan_to_num())


def test_some_edges_of_depth_leave_those_of_the_picture_by_a_few_pixels() -> None:
    _, depth = pairs(200)
    _, moved = imperfect(*pairs(200), 1.0, generator())
    left = (moved[:, 0, 32].nan_to_num(9) < 1.5).float().argmax(1)
    assert {int(x) for x in left.unique()} <= set(range(20 - MAX_SHIFT_PX, 21 + MAX_SHIFT_PX))
    assert 0.2 < float((left != 20).float().mean()) < 0.6
    torch.testing.assert_close(
        _shifted(depth[:1], torch.tensor([1.0, -2.0]).view(1, 2, 1, 1))[0, 0, 31, 18], torch.tensor(1.0)
    )


def test_steps_are_of_disparity_and_small_beside_the_depth() -> None:
    depth = torch.linspace(1, 4, 4096).view(1, 1, 64, 64)
    stepped = _stepped(depth, generator())
    inverse = torch.unique(1 / stepped).diff()
    torch.testing.assert_close(inverse, inverse.median().expand_as(inverse), rtol=2e-2, atol=1e-5)
    assert 1 / DISPARITY_STEPS[1] * 0.99 < float(inverse.median()) < 1 / DISPARITY_STEPS[0] * 1.01
    assert float(((stepped - depth) / depth).abs().max()) < 4 / DISPARITY_STEPS[0]
    nothing = torch.full((1, 1, 8, 8), torch.nan)
    assert bool(_stepped(nothing, generator()).isnan().all())


def test_the_blur_is_a_gaussian_of_each_samples_width() -> None:
    x = torch.zeros(3, 2, 41, 41)
    x[..., 20, 20] = 1
    out = gaussian_blur(x, torch.tensor([0.0, 1.0, 3.0]).view(-1, 1, 1, 1))
    torch.testing.assert_close(out[0], x[0], atol=1e-6, rtol=0)
    offset = torch.arange(41.0) - 20
    for sample, sigma in ((1, 1.0), (2, 3.0)):
        for channel in range(2):
            weights = out[sample, channel]
            assert float(weights.sum()) == pytest.approx(1, abs=1e-3)
            assert float((weights.sum(0) * offset**2).sum()) == pytest.approx(sigma**2, rel=0.03)
            assert float((weights.sum(1) * offset**2).sum()) == pytest.approx(sigma**2, rel=0.03)


def test_an_impossible_share_is_named() -> None:
    with pytest.raises(ConfigError, match=r"imperfect_share is 1.5, but must be between 0 and 1"):
        DataConfig(imperfect_share=1.5)
