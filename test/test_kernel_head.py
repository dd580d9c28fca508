# SPDX-License-Identifier: Apache-2.0
"""The kernel head against joint bilateral upsampling written as loops, and what it is there for: edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from depth_sr_ros.models.kernel_head import (
    INITIAL_COLOUR_SHARPNESS,
    NEIGHBOURS,
    KernelHead,
)
from depth_sr_ros.models.nafnet import to_cells

CHANNELS, SIDE, CORRECTION = 6, 4, 0.05


@pytest.fixture
def head() -> KernelHead:
    torch.manual_seed(0)
    head = KernelHead(CHANNELS, SIDE)
    for parameter in head.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return head


def views(height: int = 5, width: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Features, RGB and depth of `height` x `width` cells."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, CHANNELS, height, width, generator=generator)
    rgb = torch.rand(1, 3, height * SIDE, width * SIDE, generator=generator)
    depth = torch.randn(1, 1, height * SIDE, width * SIDE, generator=generator)
    return features, rgb, depth


def reference(head: KernelHead, features: Tensor, rgb: Tensor, depth: Tensor) -> Tensor:
    """One pixel at a time, in float64, from the docstrings alone."""
    height, width = features.shape[-2:]
    out = depth[0, 0].double().clone()

    def of_cell(layer: torch.nn.Linear, y: int, x: int) -> Tensor:
        return layer.weight.double() @ features[0, :, y, x].double() + layer.bias.double()

    def block(image: Tensor, y: int, x: int) -> Tensor:
        return image[0, :, y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE].double()

    for y in range(height):
        for x in range(width):
            sharpness = math.log1p(math.exp(float(of_cell(head.cell, y, x)[1]) + INITIAL_COLOUR_SHARPNESS))
            learned = of_cell(head.logits, y, x).view(SIDE, SIDE, len(NEIGHBOURS))
            gate = of_cell(head.gate, y, x).view(SIDE, SIDE)
            near = [
                (min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)) for dy, dx in NEIGHBOURS
            ]
            values = [block(depth, *n).mean() + CORRECTION * of_cell(head.cell, *n)[0] for n in near]
            colours = [block(rgb, *n).mean((1, 2)) for n in near]
            for i in range(SIDE):
                for j in range(SIDE):
                    pixel = block(rgb, y, x)[:, i, j]
                    distances = torch.stack([(pixel - c).square().sum() for c in colours])
                    logits = (learned[i, j] - sharpness * distances).clamp(-30, 15)
                    mixture = (logits.softmax(0) * torch.stack(values)).sum()
                    row, column = y * SIDE + i, x * SIDE + j
                    out[row, column] += gate[i, j] * (mixture - out[row, column])
    return out


def answer(head: KernelHead, features: Tensor, rgb: Tensor, depth: Tensor) -> Tensor:
    cells = head(features, to_cells(rgb, SIDE), to_cells(depth, SIDE), CORRECTION)
    return torch.nn.functional.pixel_shuffle(cells, SIDE)[0, 0]


def test_it_equals_the_loops(head: KernelHead) -> None:
    inputs = views()
    with torch.no_grad():
        torch.testing.assert_close(
            answer(head, *inputs).double(), reference(head, *inputs), atol=1e-5, rtol=1e-5
        )


def test_in_blocks_of_rows_it_gives_the_same(head: KernelHead, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = views(height=11)
    whole = answer(head, *inputs)
    for cells in (1, 21, 40):
        monkeypatch.setattr("depth_sr_ros.models.kernel_head.BLOCK_CELLS", cells)
        with torch.no_grad():
            torch.testing.assert_close(answer(head, *inputs), whole)


def test_every_parameter_gets_a_gradient(head: KernelHead) -> None:
    answer(head, *views()).square().mean().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_a_new_head_changes_nothing() -> None:
    features, rgb, depth = views()
    torch.testing.assert_close(answer(KernelHead(CHANNELS, SIDE), features, rgb, depth), depth[0, 0])


def test_with_an_open_gate_a_blurred_edge_goes_where_the_colour_changes() -> None:
    """An edge within a cell: its mean is of no surface, the neighbours' are, and the colours tell which."""
    head = KernelHead(CHANNELS, SIDE)
    head.gate.bias.data.fill_(1.0)
    truth = torch.ones(1, 1, 12, 36)
    truth[..., 18:] = 2.0
    rgb = (truth - 1).expand(1, 3, 12, 36) * 0.8 + 0.1
    means = to_cells(truth, SIDE).mean(1, keepdim=True)
    blurred = torch.nn.functional.interpolate(means, scale_factor=SIDE, mode="nearest")
    with torch.no_grad():
        sharp = answer(head, torch.zeros(1, CHANNELS, 3, 9), rgb, blurred)
    before = (blurred[0, 0] - truth[0, 0]).abs().max()
    after = (sharp - truth[0, 0]).abs().max()
    assert before == 0.5 and after < 0.2


def test_extreme_colours_and_depths_stay_finite(head: KernelHead) -> None:
    features, rgb, depth = views()
    out = answer(head, 1e3 * features, rgb.round(), 1e4 * depth)
    assert torch.isfinite(out).all()
