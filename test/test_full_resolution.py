# SPDX-License-Identifier: Apache-2.0
"""The start of `challenge` from `fast` knows what `fast` knew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from test_models import _trained_like as random_net

from depth_sr_ros.models.checkpoint import load_checkpoint, save_checkpoint
from training.full_resolution import at_full_resolution

SCRIPT = Path(__file__).parents[1] / "training/full_resolution.py"


def test_on_an_enlarged_image_the_old_network_has_the_features_of_the_new_one() -> None:
    old = random_net("fast")
    new = at_full_resolution(old)
    assert (new.config.variant, new.config.unshuffle, new.config.head) == ("challenge", 1, "kernel")
    size = (64, 80)
    rel, lr = torch.rand(1, 4, *size), torch.rand(1, 3, *size)
    enlarged = [old.unet.cells(x.repeat_interleave(2, 2).repeat_interleave(2, 3)) for x in (rel, lr)]
    with torch.inference_mode():
        residual, features = old.unet(*enlarged, (128, 160))
        found, new_features = new.unet(new.unet.cells(rel), new.unet.cells(lr), size)
    assert features.std() > 0.01
    torch.testing.assert_close(new_features, features, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found, residual.mean(1, keepdim=True), atol=1e-4, rtol=1e-3)


def test_what_is_mixed_of_a_cells_pixels_is_their_mean() -> None:
    old = random_net("fast")
    new = at_full_resolution(old)
    assert old.kernel_head is not None and new.kernel_head is not None
    logits = old.kernel_head.logits.weight.view(4, 9, -1)
    torch.testing.assert_close(new.kernel_head.logits.weight, logits.mean(0))


def test_the_command_takes_fast_alone(tmp_path: Path) -> None:
    def run(variant: str) -> subprocess.CompletedProcess[str]:
        weights = tmp_path / f"{variant}.safetensors"
        save_checkpoint(weights, random_net(variant), training={}, metrics={}, version="0")
        command = [sys.executable, str(SCRIPT), str(weights), "--out", str(tmp_path / "start.safetensors")]
        return subprocess.run(command, capture_output=True, text=True, timeout=100)

    refused = run("edge")
    assert refused.returncode == 2 and "holds 'edge', but this takes weights of 'fast'" in refused.stderr
    made = run("fast")
    assert made.returncode == 0, made.stderr
    net, header = load_checkpoint(tmp_path / "start.safetensors", variant="challenge")
    assert header.training["at_full_resolution"].startswith("fast.safetensors (")
    rgb, depth = torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.rand(1, 1, 16, 16) + 1
    assert net.upsample(rgb, depth).isfinite().all()
