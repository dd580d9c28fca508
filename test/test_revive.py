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
from training.revive import (
    block_spreads,
    calibration_frames,
    dead_blocks,
    relative_change,
    revive,
    shrink,
    without,
)

SCRIPT = Path(__file__).parents[1] / "training/revive.py"
DEAD = "unet.rel_encoder.stages.2.blocks.0"
FOUR_LEVELS = {"rel_encoder_blocks": (1, 1, 1, 1)}
GROWN = 1e5  # times what it was
ALIKE = 3e-3  # relative; AdaIN adds a constant to the variances, whatever their scale


@pytest.fixture
def frames() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.rand(2, 3, 96, 128), torch.rand(2, 1, 24, 32) + 1


def with_dead_blocks() -> DepthSRNet:
    """The scale of the relative-depth path's third level is that of a long training."""
    net = random_net("edge", **FOUR_LEVELS)
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


@pytest.mark.parametrize("names", [[DEAD], ["unet.lr_encoder.stages.1.blocks.0", "unet.middle.blocks.1"]])
def test_without_a_block_the_others_answer_as_if_it_had_been_skipped(
    names: list[str], frames: tuple[Tensor, Tensor]
) -> None:
    net = random_net("edge", middle_blocks=3, **FOUR_LEVELS)
    smaller = without(net, names)
    for name in names:
        net.get_submodule(name).forward = lambda x, size: x  # type: ignore[assignment, misc]
    with torch.no_grad():
        torch.testing.assert_close(smaller(*frames).depth, net(*frames).depth, rtol=0, atol=0)
    weights = [sum(p.numel() for p in each.parameters()) for each in (net, smaller)]
    gone = [sum(p.numel() for p in net.get_submodule(name).parameters()) for name in names]
    assert weights[0] - weights[1] == sum(gone) > 0


def test_a_dead_block_is_not_missed(frames: tuple[Tensor, Tensor]) -> None:
    net = with_dead_blocks()
    smaller = without(net, dead_blocks(block_spreads(net, *frames)))
    assert smaller.config.rel_encoder_blocks == (1, 1, 0, 0)
    assert 0 < relative_change(net, smaller, *frames).max() < 1e-3


@pytest.mark.parametrize("options, done", [([], "revived"), (["--remove"], "removed")])
def test_the_command_writes_weights_and_says_what_it_found(
    options: list[str], done: str, tmp_path: Path
) -> None:
    weights, start = tmp_path / "edge.safetensors", tmp_path / "start.safetensors"
    save_checkpoint(weights, with_dead_blocks(), training={"steps": 5}, metrics={"score": 0.5}, version="0")
    command = [sys.executable, str(SCRIPT), str(weights), "--out", str(start), *options]
    made = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert made.returncode == 0 and f"{DEAD}  ({done})" in made.stdout, made.stderr
    net, header = load_checkpoint(start, variant="edge")
    key = "revived" if done == "revived" else "dead_blocks_removed"
    assert header.training[key].startswith("edge.safetensors (")
    assert (DEAD in dict(net.named_modules())) == (done == "revived")
    assert ("of itself in the mean" in made.stdout) == (done == "removed")
    # What is as good as before keeps what is known of it; what is to be trained on has yet to earn it.
    kept = ({"steps": 5, key: header.training[key]}, {"score": 0.5})
    assert ((header.training, header.metrics) == kept) == (done == "removed")


def test_the_frames_that_spreads_are_measured_on_are_always_the_same() -> None:
    (rgb, depth), again = calibration_frames(), calibration_frames()
    assert torch.equal(rgb, again[0]) and torch.equal(depth, again[1])
    assert rgb.shape == (4, 3, 480, 640) and depth.shape == (4, 1, 120, 160)
