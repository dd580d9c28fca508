# SPDX-License-Identifier: Apache-2.0
"""Dead blocks are found and can learn again, and the answers stay what they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_models import _trained_like as random_net
from torch import Tensor

from depth_sr_ros.models.checkpoint import load_checkpoint, save_checkpoint
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.models.nafnet import NAFBlock
from training.revive import block_spreads, calibration_frames, revive, shrink

SCRIPT = Path(__file__).parents[1] / "training/revive.py"
DEAD = "unet.rel_encoder.stages.2.blocks.0"
GROWN = 1e5  # times what it was
ALIKE = 3e-3  # relative; AdaIN adds a constant to the variances, whatever their scale


@pytest.fixture
def frames() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.rand(2, 3, 96, 128), torch.rand(2, 1, 24, 32) + 1


def with_dead_blocks() -> DepthSRNet:
    """The scale of the relative-depth path's third level is that of a long training."""
    net = random_net("edge")
    with torch.no_grad():
        net.unet.rel_encoder.downs[1].weight.mul_(GROWN)  # type: ignore[operator, union-attr]
    return net


def added(net: DepthSRNet, name: str, frames: tuple[Tensor, Tensor]) -> float:
    """What a block adds, in spreads of what it is given, over the map as a whole."""
    found = []
    hook = net.get_submodule(name).register_forward_hook(
        lambda _, given, out: found.append((out - given[0]).std() / given[0].std())
    )
    with torch.no_grad():
        net(*frames)
    hook.remove()
    return float(found[0])


def test_smaller_weights_answer_alike(frames: tuple[Tensor, Tensor]) -> None:
    net = with_dead_blocks()
    with torch.no_grad():
        before = net(*frames).depth
        shrink(net.unet.rel_encoder)
        torch.testing.assert_close(net(*frames).depth, before, rtol=ALIKE, atol=0)
    for layer in (net.unet.rel_encoder.stem, *net.unet.rel_encoder.downs):
        fan_in = layer.weight[0].numel()  # type: ignore[index]
        spread = float(layer.weight.detach().std())  # type: ignore[operator, union-attr]
        torch.testing.assert_close(spread, (3 * fan_in) ** -0.5, rtol=1e-5, atol=0)


def test_a_dead_block_is_found_and_a_small_step_of_its_scales_is_seen(frames: tuple[Tensor, Tensor]) -> None:
    net = with_dead_blocks()
    alive = [name for name, m in net.named_modules() if isinstance(m, NAFBlock) and "rel_encoder" not in name]
    assert added(net, DEAD, frames) < 1e-4 and min(added(net, name, frames) for name in alive) > 1e-2
    with torch.no_grad():
        before = net(*frames).depth
    shrink(net.unet.rel_encoder)
    assert DEAD in revive(net, block_spreads(net, *frames))
    with torch.no_grad():
        torch.testing.assert_close(net(*frames).depth, before, rtol=ALIKE, atol=0)
        assert added(net, DEAD, frames) == 0
        net.get_submodule(DEAD).beta.fill_(1e-2)  # type: ignore[operator, union-attr]
    assert 3e-3 < added(net, DEAD, frames) < 0.3


def test_blocks_that_add_something_are_left_alone(frames: tuple[Tensor, Tensor]) -> None:
    net = random_net("edge")
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    assert revive(net, block_spreads(net, *frames)) == []
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


def test_the_command_writes_a_start(tmp_path: Path) -> None:
    weights, start = tmp_path / "edge.safetensors", tmp_path / "start.safetensors"
    save_checkpoint(weights, with_dead_blocks(), training={}, metrics={}, version="0")
    command = [sys.executable, str(SCRIPT), str(weights), "--out", str(start)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert made.returncode == 0 and f"{DEAD}  (revived)" in made.stdout, made.stderr
    _, header = load_checkpoint(start, variant="edge")
    assert header.training["revived"].startswith("edge.safetensors (")


def test_the_frames_that_spreads_are_measured_on_are_always_the_same() -> None:
    (rgb, depth), again = calibration_frames(), calibration_frames()
    assert torch.equal(rgb, again[0]) and torch.equal(depth, again[1])
    assert rgb.shape == (4, 3, 480, 640) and depth.shape == (4, 1, 120, 160)
