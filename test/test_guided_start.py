# SPDX-License-Identifier: Apache-2.0
"""The start of `fast` from `edge` answers as `edge` does, and can learn from a guide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from test_models import _trained_like as random_net

from depth_sr_ros.models.checkpoint import load_checkpoint, save_checkpoint, shipped_checkpoint
from training.guided_start import GUIDE_SHARE, with_guide

SCRIPT = Path(__file__).parents[1] / "training/guided_start.py"


def _frame() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """RGB, LR depth and a guide that shows the same."""
    depth = 1 + torch.linspace(0, 2, 96).expand(1, 1, 64, 96) + (torch.arange(64) > 30).view(1, 1, -1, 1)
    return torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8), depth[..., ::4, ::4], 1 / depth


def test_without_a_guide_the_start_answers_as_the_weights_that_ship() -> None:
    edge, _ = load_checkpoint(shipped_checkpoint("edge"))
    start = with_guide(edge).eval()
    assert start.config.guide_check and start.config.confidence
    assert start.config.encoder_blocks == (2, 2, 2, 2)
    rgb, depth, guide = _frame()
    expected = edge.estimate(rgb, depth, confidence=True)
    found = start.estimate(rgb, depth, confidence=True)
    # Its relative-depth path is that of `edge` on another scale, and AdaIN adds a constant to the variances.
    torch.testing.assert_close(found.depth, expected.depth, rtol=5e-3, atol=0)
    torch.testing.assert_close(found.confidence, expected.confidence, rtol=0, atol=2e-2)
    assert not torch.equal(start.estimate(rgb, depth, guide).depth, found.depth)


def test_what_reads_the_guide_and_the_new_blocks_can_learn() -> None:
    start = with_guide(random_net("edge")).train()
    rgb, depth, guide = _frame()
    start(rgb, depth, guide).depth.square().mean().backward()
    stem = start.unet.rel_encoder.stem.weight
    grey = stem[:, 16:].unflatten(1, (3, 16)).sum(1)
    torch.testing.assert_close(stem[:, :16], GUIDE_SHARE * grey)
    assert stem.grad is not None and stem.grad[:, :16].abs().max() > 0
    parameters = dict(start.unet.named_parameters())
    for block in ("rel_encoder.stages.3.blocks.1", "lr_encoder.stages.0.blocks.1", "decoder.0.blocks.1"):
        for name in ("beta", "gamma"):
            scale = parameters[f"{block}.{name}"]
            assert scale.grad is not None and (scale == 0).all() and scale.grad.abs().max() > 0


def test_the_command_takes_edge_alone(tmp_path: Path) -> None:
    def run(weights: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), str(weights), "--out", str(tmp_path / "start.safetensors")]
        return subprocess.run(command, capture_output=True, text=True, timeout=100)

    fast = tmp_path / "fast.safetensors"
    save_checkpoint(fast, random_net("fast"), training={}, metrics={}, version="0")
    refused = run(fast)
    assert refused.returncode == 2 and "holds 'fast', but this takes weights of 'edge'" in refused.stderr
    made = run(shipped_checkpoint("edge"))
    assert made.returncode == 0, made.stderr
    _, header = load_checkpoint(tmp_path / "start.safetensors", variant="fast")
    assert header.training["with_guide"].startswith("edge.safetensors (")
