# SPDX-License-Identifier: Apache-2.0
"""From a run folder's training checkpoint to the inference checkpoint."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from depth_sr_ros import __version__
from depth_sr_ros.config import check_choice
from depth_sr_ros.errors import CheckpointError
from depth_sr_ros.models.checkpoint import GUIDE_PREFIX, save_checkpoint
from depth_sr_ros.models.depth_sr import DepthSRNet
from training.config import load_config
from training.runner import beginning, training_header

CHECKPOINTS = ("best", "last")
NET_PREFIX = "net."


def export_run(folder: Path, which: str, out: Path) -> Path:
    """Write the (averaged) weights of `which` checkpoint, best or last, of the run in `folder` to `out`.

    A trained guide is not part of it: it lies in the run's guide/ when the run has ended.
    Raises ConfigError and CheckpointError on a folder, checkpoint or configuration that cannot be used.
    """
    check_choice("which", which, CHECKPOINTS)
    path = folder / f"{which}.ckpt"
    for needed in (folder / "config.yaml", folder / "git.txt", path):
        if not needed.is_file():
            raise CheckpointError(f"{needed} is missing; give the run folder of training/train.py")
    config = load_config(folder / "config.yaml")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        state = {
            name.removeprefix(NET_PREFIX): value
            for name, value in saved["state_dict"].items()
            if not name.startswith(NET_PREFIX + GUIDE_PREFIX)
        }
        steps = int(saved["global_step"])
        net = DepthSRNet(config.model)
        net.load_state_dict(state)
    except Exception as error:  # torch raises what its reader of pickles meets
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} cannot be read as a checkpoint of this run: {reason}") from error
    git = (folder / "git.txt").read_text().split()[-1]  # of the last start
    save_checkpoint(
        out,
        net,
        training=training_header(config, steps, git, beginning(config, folder)),
        metrics=_metrics(folder, steps),
        version=__version__,
    )
    return out


def _metrics(folder: Path, steps: int) -> dict[str, float]:
    """What the validation after `steps` steps gave."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("logs/*/metrics.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row.get("val/score") and int(row["step"]) == steps - 1:
                    found |= {k: round(float(v), 4) for k, v in row.items() if k.startswith("val/") and v}
    return found
