# SPDX-License-Identifier: Apache-2.0
"""The CPU kernels with a guide, with cells of any side and with channels that fill no panel, beside torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_models import TINY_DEPTH_ANYTHING
from test_native import best_instruction_set, frame, needs_kernels, random_net  # noqa: F401

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.config import VARIANTS, ModelConfig
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.models import native
from depth_sr_ros.models.checkpoint import load_checkpoint, shipped_checkpoint
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.models.guide import DepthAnythingGuide

pytestmark = needs_kernels
NARROW = (12, 28, 40, 56, 72)  # not one a multiple of native.PANEL
FAST = dataclasses.replace(VARIANTS["fast"], channels=NARROW)
CHALLENGE = dataclasses.replace(VARIANTS["challenge"], channels=NARROW)


def relative_depth(depth: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(1, 1, H, W), larger = nearer, of some affine scale; near enough to the LR depth to be trusted."""
    return F.interpolate(1 / depth.nan_to_num(2.0), size, mode="bilinear") * 40 - 7


def assert_as_torch(
    net: DepthSRNet, size: tuple[int, int], lr_size: tuple[int, int], tolerance: float, threads: int = 1
) -> None:
    """With a guide's depth, without one, and with it again: nothing of a frame before is left."""
    rgb, depth = frame(*size, lr_size)
    given = relative_depth(depth, size) if net.config.guide != "none" else None
    network = native.NativeNetwork(net, threads)
    for relative in (given, None, given):
        found, expected = network.upsample(rgb, depth, relative), net.upsample(rgb, depth, relative)
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", native.INSTRUCTION_SETS)
@pytest.mark.parametrize("size", [((146, 203), (37, 51)), ((96, 75), (6, 5)), ((35, 34), (2, 3))])
def test_the_shipped_fast_network_answers_as_with_torch(
    name: str, size: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    try:
        native.use_instruction_set(name)
    except ConfigError as error:
        pytest.skip(str(error))
    assert_as_torch(load_checkpoint(shipped_checkpoint("fast"))[0], *size, tolerance=1e-4)


@pytest.mark.parametrize("name", native.INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "config",
    [
        FAST,
        dataclasses.replace(FAST, propagation=(1, 3), fusion="add", normalization="frame"),
        dataclasses.replace(FAST, unshuffle=4, propagation=(2,), guide="none"),
        dataclasses.replace(FAST, head="residual", encoder_blocks=(2, 0, 1, 1), middle_blocks=2),
        CHALLENGE,
        dataclasses.replace(CHALLENGE, head="kernel", propagation=(1, 2), back_projection=True),
    ],
)
def test_every_switch_is_honoured_with_cells_of_any_side(
    name: str, threads: int, config: ModelConfig
) -> None:
    try:
        native.use_instruction_set(name)
    except ConfigError as error:
        pytest.skip(str(error))
    net = random_net(config)
    assert_as_torch(net, (77, 90), (13, 15), tolerance=1e-4, threads=threads)
    # A plain interpolation would be as near to itself: the network must have had a say, and the guide too.
    rgb, depth = frame(77, 90, (13, 15))
    expected = net.upsample(rgb, depth)
    assert (expected - random_net(config, spread=0.0).upsample(rgb, depth)).abs().mean() > 0.01
    if config.guide != "none":
        assert (expected - net.upsample(rgb, depth, relative_depth(depth, (77, 90)))).abs().max() > 0.01


def test_depth_beyond_the_fixed_range_is_kept() -> None:
    """The network sees it clipped; what it corrects is not."""
    net = random_net(CHALLENGE)
    rgb, depth = frame(64, 48, (16, 12))
    depth[..., :6] += 2 * net.config.depth_clip * net.config.unit_m
    found = native.NativeNetwork(net, threads=1).upsample(rgb, depth)
    torch.testing.assert_close(found, net.upsample(rgb, depth), atol=1e-3, rtol=1e-3)
    assert found.max() > net.config.depth_clip * net.config.unit_m


def test_confidence_has_the_channels_alone() -> None:
    net = random_net(dataclasses.replace(FAST, confidence=True))
    rgb, depth = frame(70, 102, (18, 26))
    found = native.NativeNetwork(net, threads=1).estimate(rgb, depth, confidence=True)[:2]
    for one, other in zip(found, net.estimate(rgb, depth, confidence=True)[:2], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_guide_that_disagrees_is_left_out() -> None:
    net = random_net(FAST)
    rgb, depth = frame(70, 102, (18, 26))
    network, given = native.NativeNetwork(net, threads=1), relative_depth(depth, (70, 102))
    assert torch.equal(network.upsample(rgb, depth, -given), network.upsample(rgb, depth))


def test_a_guide_of_its_own_runs_in_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    guide = DepthAnythingGuide.from_config(short_side=56, **TINY_DEPTH_ANYTHING)
    net = random_net(dataclasses.replace(FAST, guide_check=False))  # untrained, it would not pass
    rgb, depth = frame(70, 102, (18, 26))
    network = native.NativeNetwork(net, threads=1)
    alone = network.upsample(rgb, depth)
    net.guide = guide.eval()
    found, expected = network.upsample(rgb, depth), net.upsample(rgb, depth)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (found - alone).abs().max() > 0.005
    given = relative_depth(depth, (70, 102))
    found, expected = network.upsample(rgb, depth, given), net.upsample(rgb, depth, given)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    guide.model.save_pretrained(tmp_path)  # type: ignore[operator]
    assert_the_engine_takes_the_kernels(guide_path=tmp_path)


def test_the_engine_takes_the_kernels_without_a_guide_too() -> None:
    assert_the_engine_takes_the_kernels()


def assert_the_engine_takes_the_kernels(**options: Any) -> None:
    """Of `fast`, with the answer of torch."""
    rgb = np.random.default_rng(0).integers(0, 256, (70, 102, 3), np.uint8)
    depth = np.random.default_rng(1).uniform(1, 4, (18, 26)).astype(np.float32)
    ours, torchs = (
        DepthSuperResolver(variant="fast", device="cpu", runtime=runtime, **options)
        for runtime in ("auto", "torch")
    )
    assert ours.runtime == "native"
    np.testing.assert_allclose(ours(rgb, depth), torchs(rgb, depth), rtol=1e-4)
