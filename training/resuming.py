# SPDX-License-Identifier: Apache-2.0
"""Whether a run can go on from its folder with a configuration: an error before anything is overwritten."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from depth_sr_ros.errors import CheckpointError, ConfigError
from training.config import TrainConfig, load_config


def check_resumed(
    config: TrainConfig, folder: Path, steps: int, init_from: Path | None = None
) -> TrainConfig:
    """The configuration with which the run in `folder` goes on up to step `steps`.

    Raises ConfigError where nothing is left to do, where a resumed run would have another network or see
    other batches, or where `init_from` is not what it was begun from; CheckpointError where last.ckpt cannot
    be read.
    """
    begun = load_config(folder / "config.yaml")
    _check_same_start(init_from, begun, folder)
    _check_same_weights(config, begun, folder)
    _check_same_rates(config, begun, folder)
    _check_same_batches(config, begun, folder)
    _check_steps_left(config, begun, folder, steps)
    # The weights are those of last.ckpt; what they began from stays a part of how they came to be.
    return dataclasses.replace(config, init_from=begun.init_from)


def _check_same_start(init_from: Path | None, begun: TrainConfig, folder: Path) -> None:
    if init_from is None:
        return
    if begun.init_from is None or Path(begun.init_from).resolve() != init_from.resolve():
        raise ConfigError(
            f"--init-from is {init_from}, but the run in {folder} was begun from "
            f"{begun.init_from or 'new weights'} and goes on from its last.ckpt; leave out --init-from, or "
            "start another run with it"
        )


def _difference(
    follow: Callable[[TrainConfig], dict[str, Any]], begun: TrainConfig, config: TrainConfig
) -> tuple[str, Any, Any] | None:
    """The first of the values that `follow` from the configurations in which they differ: its name, what it
    was and what it is now."""
    before = follow(begun)
    for name, value in follow(config).items():
        if before[name] != value:
            return name, before[name], value
    return None


def _check_same_weights(config: TrainConfig, begun: TrainConfig, folder: Path) -> None:
    """Neither network nor optimiser takes what last.ckpt holds of another."""
    if found := _difference(_what_weights_follow_from, begun, config):
        name, before, now = found
        raise ConfigError(
            f"the run in {folder} was begun with {name} {before}, not {now}, and its "
            "last.ckpt fits no other; resume it with the same, or start another run with --init-from"
        )


def _what_weights_follow_from(config: TrainConfig) -> dict[str, Any]:
    given = config.guide.path is not None
    return {
        **{f"model.{name}": value for name, value in dataclasses.asdict(config.model).items()},
        "optim.parts": config.optim.parts,
        "guide.path": "given" if given else "left out",
        "guide.lr": "above 0" if given and config.guide.lr > 0 else "0",
    }


def _check_same_rates(config: TrainConfig, begun: TrainConfig, folder: Path) -> None:
    """last.ckpt holds the optimiser's: another in the configuration would be written down and not used."""
    if found := _difference(_rates, begun, config):
        name, before, now = found
        raise ConfigError(
            f"{name} is {now}, but the run in {folder} was begun with {before}, which its last.ckpt "
            "keeps; resume it with the same, or start another run from its weights (training/export.py, "
            "--init-from)"
        )


def _rates(config: TrainConfig) -> dict[str, Any]:
    optim = config.optim
    return {
        "optim.lr": optim.lr,
        "optim.residual_scale_lr": optim.residual_scale_lr,
        "optim.weight_decay": optim.weight_decay,
        "guide.lr": config.guide.lr,
    }


def _check_steps_left(config: TrainConfig, begun: TrainConfig, folder: Path, steps: int) -> None:
    """Lightning ends at once where no epoch is left: the weights that it exports then are not averaged."""
    if config.run.epoch_steps != begun.run.epoch_steps:
        raise ConfigError(
            f"the run in {folder} was begun with run.epoch_steps {begun.run.epoch_steps}, in which its steps "
            f"are counted; resume it with the same, not with {config.run.epoch_steps}"
        )
    done = _steps_done(folder / "last.ckpt")
    if done >= steps:
        raise ConfigError(
            f"the run in {folder} is already at step {done}; raise optim.steps (now {config.optim.steps}) or "
            "--steps to go on, or make weights of it with training/export.py"
        )


def _steps_done(path: Path) -> int:
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception as error:  # torch raises what its reader of pickles meets
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} cannot be read as a checkpoint of a run: {reason}") from error


def _check_same_batches(config: TrainConfig, begun: TrainConfig, folder: Path) -> None:
    """Any batch of a run can be made again from its config.yaml: what they follow from has to stay."""
    if found := _difference(_what_batches_follow_from, begun, config):
        raise ConfigError(
            f"the run in {folder} was begun with another {found[0]}, and its batches could no longer be made "
            "again; resume it with the same, or start another run with --init-from"
        )


def _what_batches_follow_from(config: TrainConfig) -> dict[str, Any]:
    """But for the place of the files, and how many loader processes there are: a machine has its own."""
    sources = tuple(dataclasses.replace(source, path=None) for source in config.data.sources)
    data = dataclasses.replace(config.data, sources=sources, workers=0)
    seen = (config.guide.simulated, config.guide.errors, config.guide.dropout)
    return {
        "run.seed": config.run.seed,
        "data": data,
        "degradation": config.degradation,
        "guide": seen,
        "run.devices times run.nodes": config.run.devices * config.run.nodes,
        "device for its batches (run.accelerator, or the CPU with data.workers)": _maker(config),
        "number of threads for its batches (run.threads, or one with data.workers)": _threads(config),
    }


def _threads(config: TrainConfig) -> int | None:
    """Sums of a CPU are rounded by how many threads share them; on a GPU they do not matter."""
    if _maker(config) != "cpu":
        return None
    return 1 if config.data.workers else config.run.threads


def _maker(config: TrainConfig) -> str:
    """The kind of device that makes the batches; `auto` as Lightning resolves it."""
    if config.data.workers:
        return "cpu"
    if config.run.accelerator != "auto":
        return config.run.accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"
