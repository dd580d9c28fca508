# SPDX-License-Identifier: Apache-2.0
"""Finished weights are scored as a run scores its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from depth_sr_ros.config import model_config
from depth_sr_ros.models.checkpoint import save_checkpoint, shipped_checkpoint
from depth_sr_ros.models.depth_sr import DepthSRNet

SCRIPT = Path(__file__).parents[1] / "training/validation_score.py"


def test_untrained_weights_have_a_score_of_one_and_those_that_ship_a_better_one(tmp_path: Path) -> None:
    untrained = tmp_path / "untrained.safetensors"
    save_checkpoint(untrained, DepthSRNet(model_config("edge")), training={}, metrics={}, version="0")
    command = [sys.executable, str(SCRIPT), str(untrained), str(shipped_checkpoint("edge")), "--frames", "3"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if "val/score" in line]
    assert [line.partition(":")[0] for line in lines] == ["untrained.safetensors", "edge.safetensors"]
    first, second = (dict(re.findall(r"(val/\w+) ([\d.]+)", line)) for line in lines)
    assert set(first) == {"val/score", *(f"val/{p}_x{s}" for p in ("clean", "noisy") for s in (4, 8))}
    assert set(first.values()) == {"1.0000"}
    assert float(second["val/score"]) < 0.9
