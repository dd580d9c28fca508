# SPDX-License-Identifier: Apache-2.0
"""`python training/train.py`, as typed in a clean checkout: what it says, and that the network has learnt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from depth_sr_ros import __version__
from depth_sr_ros.baselines import bicubic, fill_holes
from depth_sr_ros.metrics import depth_metrics
from depth_sr_ros.models.checkpoint import load_checkpoint
from training.data.validation import CASES, validation_items

# Two minutes where a core is free.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def test_without_arguments_it_explains_itself_and_is_ahead_of_bicubic(
    tracked_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tree's own package, not one that is installed, must write the checkpoint: its version tells.
    package = tracked_tree / "depth_sr_ros" / "__init__.py"
    package.write_text(package.read_text().replace(f'"{__version__}"', '"0.0.smoke"'))
    monkeypatch.setenv("DEPTH_SR_DATA", str(tmp_path / "absent"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = tracked_tree / "training" / "train.py"
    ended = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "Training 'edge' with the configuration 'smoke': 300 steps of 4 images" in ended.stdout
    assert "Other configurations, --config NAME: challenge, " in ended.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert str(folder.relative_to(tmp_path)) in ended.stdout

    net, header = load_checkpoint(folder / "model.safetensors")
    assert header.version == "0.0.smoke"
    assert header.metrics["val/score"] < 1
    # The same frames as the run's own, procedural ones.
    log_ratios: dict[str, list[float]] = {f"{profile}_x{scale}": [] for profile, scale in CASES}
    for item in validation_items(4):
        rgb = torch.from_numpy(item.rgb.copy()).permute(2, 0, 1)[None]
        answer = net.eval().upsample(rgb, torch.from_numpy(item.depth_lr)[None, None])[0, 0].numpy()
        start = bicubic(fill_holes(item.depth_lr), item.rgb)
        errors = [depth_metrics(each, item.truth)["rmse"] for each in (answer, start)]
        log_ratios[item.case].append(float(np.log(errors[0] / errors[1])))
    ratios = {case: float(np.exp(np.mean(values))) for case, values in log_ratios.items()}
    assert np.exp(np.mean([np.log(ratio) for ratio in ratios.values()])) < 1, ratios
    assert ratios["noisy_x4"] < 1, ratios
