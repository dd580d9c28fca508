# SPDX-License-Identifier: Apache-2.0
"""AdaIN fusion: the formula, its statistics over real pixels, and the additive switch."""

from __future__ import annotations

import torch

from depth_sr_ros.models.adain import adain, fuse


def test_result_has_the_mean_and_spread_of_the_lr_features() -> None:
    torch.manual_seed(1)
    rel, lr = torch.randn(2, 5, 20, 30) * 3 + 7, torch.randn(2, 5, 20, 30) * 0.4 - 2
    out = adain(rel, lr, (20, 30))
    torch.testing.assert_close(out.mean((2, 3)), lr.mean((2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        out.std((2, 3), unbiased=False), lr.std((2, 3), unbiased=False), atol=1e-3, rtol=1e-3
    )


def test_it_is_the_published_formula_with_sigma_the_standard_deviation() -> None:
    torch.manual_seed(2)
    rel, lr = torch.randn(1, 3, 8, 8).double(), torch.randn(1, 3, 8, 8).double() * 2 + 1

    def sigma(x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(x.var((2, 3), unbiased=False, keepdim=True) + 1e-5)

    def mu(x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3), keepdim=True)

    expected = sigma(lr) * (rel - mu(rel)) / sigma(rel) + mu(lr)
    torch.testing.assert_close(adain(rel, lr, (8, 8)), expected, atol=1e-5, rtol=1e-5)


def test_constant_maps_stay_finite() -> None:
    rel, lr = torch.full((1, 2, 4, 4), 3.0), torch.full((1, 2, 4, 4), -1.0)
    torch.testing.assert_close(adain(rel, lr, (4, 4)), lr)


def test_statistics_leave_the_padding_out() -> None:
    torch.manual_seed(3)
    rel, lr = torch.randn(1, 4, 10, 10), torch.randn(1, 4, 10, 10)
    padded_rel, padded_lr = (torch.nn.functional.pad(x, (0, 6, 0, 6), value=99.0) for x in (rel, lr))
    torch.testing.assert_close(
        adain(padded_rel, padded_lr, (10, 10))[..., :10, :10], adain(rel, lr, (10, 10)), atol=1e-5, rtol=1e-5
    )


def test_additive_fusion_is_a_sum() -> None:
    rel, lr = torch.randn(1, 4, 5, 5), torch.randn(1, 4, 5, 5)
    assert torch.equal(fuse(rel, lr, (5, 5), "add"), rel + lr)
    assert torch.equal(fuse(rel, lr, (5, 5), "adain"), adain(rel, lr, (5, 5)))
