# SPDX-License-Identifier: Apache-2.0
"""What `python training/train.py` says before and after a run."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from depth_sr_ros.models.checkpoint import read_header
from training.config import CONFIG_FOLDER, TrainConfig


@rank_zero_only
def explain(name: str, config: TrainConfig, folder: Path) -> None:
    """Say what is trained, on what, where it goes and what else there is."""
    data, run = config.data, config.run
    sources = ", ".join(dict.fromkeys(source.kind for source in data.sources))
    others = ", ".join(sorted(path.stem for path in CONFIG_FOLDER.glob("*.yaml") if path.stem != name))
    height, width = data.crop
    print(
        f"Training {config.model.variant!r} with the configuration {name!r}: {config.optim.steps} steps of "
        f"{data.batch_size} images of {width}x{height} ({sources}), validated after each {run.epoch_steps}.\n"
        f"Run folder: {folder} (curves and pictures: tensorboard --logdir {folder.parent})\n"
        f"Other configurations, --config NAME: {others}. --help has the options, docs/training.md the rest.",
        flush=True,
    )


@rank_zero_only
def report(folder: Path) -> None:
    """Say how far the network has come, and where its weights are."""
    path = folder / "model.safetensors"
    metrics = read_header(path).metrics
    cases = ", ".join(
        f"{name.removeprefix('val/')} {value:.3f}" for name, value in metrics.items() if name != "val/score"
    )
    score = metrics["val/score"]
    print(
        f"RMSE on the validation frames over that of bilinear upsampling: {score:.3f} ({cases}).\n"
        f"Weights for the node and `depth-sr`: {path}",
        flush=True,
    )
