# SPDX-License-Identifier: Apache-2.0
"""The masked L1 + Sobel loss against plain re-computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_sr_ros.errors import ConfigError
from training.losses import LossConfig, depth_loss, scene_span, sobel


def test_sobel_of_a_plane_is_its_slope_per_pixel() -> None:
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    slopes = sobel((0.3 * x - 0.2 * y)[None, None])
    torch.testing.assert_close(slopes[:, 0], torch.full((1, 4, 5), 0.3))
    torch.testing.assert_close(slopes[:, 1], torch.full((1, 4, 5), -0.2))


def test_terms_equal_a_loop_over_valid_pixels() -> None:
    rng = np.random.default_rng(0)
    pred, target = rng.normal(size=(2, 8, 9)), rng.normal(size=(2, 8, 9))
    valid = rng.random((2, 8, 9)) > 0.1
    l1 = np.abs(pred - target)[valid].mean()
    kx = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    slopes = []
    for b in range(2):
        for i in range(6):
            for j in range(7):
                if valid[b, i : i + 3, j : j + 3].all():
                    difference = (pred - target)[b, i : i + 3, j : j + 3]
                    slopes += [abs((difference * kx).sum()), abs((difference * kx.T).sum())]
    p, t, v = (torch.from_numpy(a)[:, None] for a in (pred, target, valid))
    terms = depth_loss(p, t, v, LossConfig(sobel=0.5))
    assert float(terms["l1"]) == pytest.approx(l1)
    assert float(terms["sobel"]) == pytest.approx(np.mean(slopes))
    assert float(terms["loss"]) == pytest.approx(l1 + 0.5 * np.mean(slopes))


def test_what_lies_under_the_mask_changes_neither_loss_nor_gradient() -> None:
    torch.manual_seed(0)
    valid = torch.rand(1, 1, 12, 12) > 0.3
    target = torch.rand(1, 1, 12, 12)
    gradients = []
    for hidden in (0.0, torch.nan, torch.inf):
        pred = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(1)).requires_grad_()
        depth_loss(pred, torch.where(valid, target, hidden), valid, LossConfig(rmse=1.0))["loss"].backward()
        assert pred.grad is not None
        gradients.append(pred.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])
    assert not gradients[0][~valid].any()


def test_nothing_valid_is_zero_not_nan() -> None:
    x = torch.rand(1, 1, 8, 8)
    assert float(depth_loss(x, x + 1, torch.zeros_like(x, dtype=torch.bool), LossConfig())["loss"]) == 0


def test_the_rmse_term_is_the_mean_over_samples_of_the_root_of_the_valid_pixels() -> None:
    rng = np.random.default_rng(1)
    pred, target = (torch.from_numpy(rng.normal(size=(3, 1, 8, 9))) for _ in range(2))
    valid = torch.from_numpy(rng.random((3, 1, 8, 9)) > 0.2)
    expected = [float((p - t)[v].square().mean().sqrt()) for p, t, v in zip(pred, target, valid, strict=True)]
    terms = depth_loss(pred, target, valid, LossConfig(l1=0.0, sobel=0.0, rmse=2.0))
    assert float(terms["rmse"]) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(terms["loss"]) == pytest.approx(2 * np.mean(expected), rel=1e-5)


def test_a_perfect_answer_has_a_finite_gradient() -> None:
    x = torch.rand(1, 1, 8, 8).requires_grad_()
    depth_loss(x, x.detach().clone(), torch.ones_like(x, dtype=torch.bool), LossConfig(rmse=1.0))[
        "loss"
    ].backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_the_span_is_that_of_the_valid_depths_and_no_less_than_a_tenth_of_the_far_one() -> None:
    ramp = torch.linspace(2.0, 6.0, 101).view(1, 1, 1, 101)
    flat = torch.full((1, 1, 1, 101), 5.0)
    valid = torch.ones(2, 1, 1, 101, dtype=torch.bool)
    span = scene_span(torch.cat([ramp, flat]), valid).flatten()
    torch.testing.assert_close(span, torch.tensor([0.96 * 4.0, 0.5]))
    hidden = torch.where(torch.arange(101) < 50, torch.nan, ramp)
    torch.testing.assert_close(scene_span(hidden, torch.isfinite(hidden)).item(), 0.96 * 2.0)
    assert scene_span(hidden, torch.zeros(1, 1, 1, 101, dtype=torch.bool)).item() == 1.0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"unit": "metres"}, "loss.unit is 'metres', but must be one of network, scene"),
        ({"rmse": -1.0}, "must be at least 0"),
        ({"l1": 0.0, "sobel": 0.0}, "not all 0"),
    ],
)
def test_weights_that_cannot_be_are_refused(values: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LossConfig(**values)
