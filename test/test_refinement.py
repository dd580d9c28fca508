# SPDX-License-Identifier: Apache-2.0
"""Propagation and back-projection against their docstrings, written as loops; and what they are for."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from depth_sr_ros.config import VARIANTS, model_config
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.models.back_projection import LEAST_SHARE, BackProjection
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.models.kernel_head import INITIAL_COLOUR_SHARPNESS, NEIGHBOURS
from depth_sr_ros.models.normalization import DepthNormalizer
from depth_sr_ros.models.propagation import Propagation

CHANNELS, SIDE = 6, 4
HEIGHT, WIDTH = 18, 27  # pixels: the last cells are part of the image only


def shaken(module: torch.nn.Module, spread: float = 0.3) -> torch.nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data += spread * torch.randn_like(parameter)
    return module


def views() -> tuple[Tensor, Tensor, Tensor]:
    """Features of 5x7 cells and one more on each side as padding; RGB and depth of HEIGHT x WIDTH."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, CHANNELS, 6, 8, generator=generator)
    rgb = torch.rand(1, 3, HEIGHT, WIDTH, generator=generator)
    return features, rgb, torch.rand(1, 1, HEIGHT, WIDTH, generator=generator) + 1


def layer(module: torch.nn.Linear, features: Tensor, y: int, x: int) -> Tensor:
    """Of the cell in which the pixel lies."""
    return module.weight.double() @ features[0, :, y // SIDE, x // SIDE].double() + module.bias.double()


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 1)])
def test_propagation_is_its_docstring(dilations: tuple[int, ...]) -> None:
    module = shaken(Propagation(CHANNELS, SIDE, dilations))
    assert isinstance(module, Propagation)
    features, rgb, depth = views()
    expected = depth[0, 0].double().clone()
    for step, dilation in enumerate(dilations):
        before = expected.clone()
        for y in range(HEIGHT):
            for x in range(WIDTH):
                pixel = (y % SIDE) * SIDE + x % SIDE
                term = layer(module.logits, features, y, x).view(len(NEIGHBOURS), -1)[:, pixel]
                gate = layer(module.gate, features, y, x).view(len(dilations), -1)[step, pixel]
                sharp = layer(module.sharpness, features, y, x)[step] + INITIAL_COLOUR_SHARPNESS
                sharpness = math.log1p(math.exp(float(sharp)))
                weights, values = [], []
                for k, (dy, dx) in enumerate(NEIGHBOURS):
                    ny = min(max(y + dy * dilation, 0), HEIGHT - 1)
                    nx = min(max(x + dx * dilation, 0), WIDTH - 1)
                    distance = (rgb[0, :, ny, nx] - rgb[0, :, y, x]).double().square().sum()
                    weights.append(math.exp(float(term[k]) - sharpness * float(distance)))
                    values.append(float(before[ny, nx]))
                mean = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
                moved = before[y, x] + gate * (mean - before[y, x])
                expected[y, x] = max(moved, LEAST_SHARE * before[y, x])
    with torch.no_grad():
        found = module(features, rgb, depth)[0, 0]
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_propagation_takes_depth_from_pixels_of_like_colour() -> None:
    module = Propagation(CHANNELS, SIDE, (1,))
    module.gate.bias.data.fill_(1.0)
    features, rgb, depth = torch.zeros(1, CHANNELS, 2, 2), torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    rgb[..., 4:], depth[..., 4:], depth[..., 3:4] = 1.0, 3.0, 2.0  # an edge that is soft, on the dark side
    out = module(features, rgb, depth)
    assert float(out[0, 0, 4, 3].detach()) == pytest.approx((3 * 1.0 + 3 * 2.0) / 6, abs=1e-4)
    torch.testing.assert_close(out[..., 5:], depth[..., 5:])
    assert (out[..., 3] < 1.6).all(), "nearer to its own side, and nothing from beyond the edge of colour"


@pytest.mark.parametrize("gate", [-20.0, 20.0])
def test_no_propagation_makes_depth_vanish(gate: float) -> None:
    module = Propagation(CHANNELS, SIDE, (1,))
    module.gate.bias.data.fill_(gate)
    features, rgb = torch.zeros(1, CHANNELS, 2, 2), torch.zeros(1, 3, 8, 8)
    depth = torch.ones(1, 1, 8, 8)
    depth[..., 4] = 3.0  # a gate of 20 takes it to -37, one of -20 what is beside it to -12
    out = module(features, rgb, depth).detach()
    assert (out >= LEAST_SHARE * depth).all()
    assert (out == LEAST_SHARE * depth).any()


LOG = DepthNormalizer("log", torch.tensor(1.5).view(1, 1, 1, 1), torch.ones(1, 1, 1, 1))


@pytest.mark.parametrize("lr_size", [(5, 7), (3, 4), (9, 14), (18, 27)])
def test_back_projection_is_its_docstring(lr_size: tuple[int, int]) -> None:
    module = shaken(BackProjection(CHANNELS, SIDE))
    assert isinstance(module, BackProjection)
    features, _, depth = views()
    generator = torch.Generator().manual_seed(2)
    filled = torch.rand(1, 1, *lr_size, generator=generator) + 1
    mask = (torch.rand(filled.shape, generator=generator) > 0.3).float()
    lr_height, lr_width = lr_size
    residual, relative = torch.zeros(lr_size).double(), torch.zeros(lr_size).double()
    for i in range(lr_height):
        for j in range(lr_width):
            rows = slice(i * HEIGHT // lr_height, -(-(i + 1) * HEIGHT // lr_height))
            columns = slice(j * WIDTH // lr_width, -(-(j + 1) * WIDTH // lr_width))
            mean, measured = depth[0, 0, rows, columns].double().mean(), filled[0, 0, i, j].double()
            if mask[0, 0, i, j]:
                residual[i, j] = measured - mean
                relative[i, j] = torch.asinh(torch.log(measured / mean) / LOG.correction)

    def lr_pixel(y: int, x: int) -> tuple[int, int]:
        return int((y + 0.5) * lr_height / HEIGHT), int((x + 0.5) * lr_width / WIDTH)

    cells = features.shape[-2:]
    seen = torch.zeros(cells).double()
    for cy in range(cells[0]):
        for cx in range(cells[1]):
            own = min(cy, (HEIGHT - 1) // SIDE), min(cx, (WIDTH - 1) // SIDE)
            pixels = [
                relative[lr_pixel(y, x)]
                for y in range(own[0] * SIDE, min((own[0] + 1) * SIDE, HEIGHT))
                for x in range(own[1] * SIDE, min((own[1] + 1) * SIDE, WIDTH))
            ]
            seen[cy, cx] = sum(pixels) / len(pixels)
    around = torch.nn.functional.pad(seen, (1, 1, 1, 1))
    expected = depth[0, 0].double().clone()
    kernel = module.residual.weight[:, 0].double()
    for y in range(HEIGHT):
        for x in range(WIDTH):
            cy, cx = y // SIDE, x // SIDE
            hidden = layer(module.features, features, y, x)
            hidden = hidden + (kernel * around[cy : cy + 3, cx : cx + 3]).sum((1, 2))
            pixel = (y % SIDE) * SIDE + x % SIDE
            share = module.share.weight[pixel].double() @ hidden.relu() + module.share.bias[pixel].double()
            corrected = expected[y, x] + share * residual[lr_pixel(y, x)]
            expected[y, x] = max(corrected, LEAST_SHARE * expected[y, x])
    with torch.no_grad():
        found = module(features, depth, filled, mask, LOG)[0, 0]
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_a_full_share_makes_the_answer_agree_with_what_was_measured() -> None:
    module = BackProjection(CHANNELS, SIDE)
    module.share.bias.data.fill_(1.0)
    features, depth = torch.zeros(1, CHANNELS, 4, 4), torch.rand(1, 1, 16, 16) + 1
    filled, mask = torch.rand(1, 1, 4, 4) + 1, torch.ones(1, 1, 4, 4)
    mask[..., 0, 0] = 0
    out = module(features, depth, filled, mask, LOG).detach()
    means = torch.nn.functional.avg_pool2d(out, 4)
    torch.testing.assert_close(means[mask > 0], filled[mask > 0])
    torch.testing.assert_close(out[..., :4, :4], depth[..., :4, :4])


def test_no_correction_makes_depth_vanish() -> None:
    module = BackProjection(CHANNELS, SIDE)
    module.share.bias.data.fill_(50.0)
    features, depth = torch.zeros(1, CHANNELS, 4, 4), torch.full((1, 1, 16, 16), 2.0)
    out = module(features, depth, torch.full((1, 1, 4, 4), 1.0), torch.ones(1, 1, 4, 4), LOG)
    assert (out == LEAST_SHARE * 2.0).all()


@pytest.mark.parametrize("parts", [{"propagation": ()}, {"back_projection": False}, {}])
def test_new_parts_change_nothing_before_they_are_trained(parts: dict) -> None:
    torch.manual_seed(0)
    with_parts = DepthSRNet(model_config("edge", **parts)).eval()
    plain = DepthSRNet(model_config("edge", propagation=(), back_projection=False, head="residual")).eval()
    rgb, lr = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8), torch.rand(1, 1, 16, 24) + 1
    torch.testing.assert_close(with_parts.upsample(rgb, lr), plain.upsample(rgb, lr))


def test_a_dilation_below_one_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"propagation is \(1, 0\)"):
        dataclasses.replace(VARIANTS["edge"], propagation=(1, 0))
