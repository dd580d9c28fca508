# SPDX-License-Identifier: Apache-2.0
"""The batches of a run, or single samples of them, made once more, from its folder alone."""

from __future__ import annotations

from pathlib import Path

import torch

from depth_sr_ros.errors import ConfigError
from training.config import TrainConfig, load_config
from training.data.batches import Batch, BatchMaker, sees_no_guide
from training.process import process_settings


def run_batch(folder: Path, step: int, rank: int = 0, index: int | None = None) -> Batch:
    """The batch that `rank` saw in `step` (counted from 0, as in metrics.csv) of the run in `folder`.

    With an `index` that sample of it alone, as a batch of one: the others are not made.
    To the bit, by the code and on the kind of device (and, on a GPU, its kind) that trained; on a GPU a
    sample that is made alone may be rounded otherwise. Without `relative_depth` where the simulated guide was
    left out (`guide.dropout`).
    Raises ConfigError where `folder` is no run, has no such step, rank or index, or was trained on a device
    that is not here.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{path} is missing; give the run folder of training/train.py")
    config = load_config(path)
    _check_within("step", step, config.optim.steps)
    _check_within("rank", rank, config.run.devices * config.run.nodes)
    if index is not None:
        _check_within("index", index, config.data.batch_size)
    # A loader process is one thread of the CPU, whatever trains.
    with process_settings(1 if config.data.workers else config.run.threads):
        maker = BatchMaker(config, _device(config))
        batch = maker(step, rank) if index is None else maker.sample(step, rank, index)
    if "relative_depth" in batch and sees_no_guide(config, step, rank):
        del batch["relative_depth"]
    return batch


def _check_within(name: str, value: int, count: int) -> None:
    if not 0 <= value < count:
        raise ConfigError(f"{name} is {value}, but the run has 0 to {count - 1}")


def _device(config: TrainConfig) -> torch.device:
    """Where the batches were made: in loader processes, or where there were none on the training device."""
    if config.data.workers or config.run.accelerator != "cuda":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            "the run made its batches on a CUDA device, but torch sees none: show them where there is one"
        )
    return torch.device("cuda")
