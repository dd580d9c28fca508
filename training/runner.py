# SPDX-License-Identifier: Apache-2.0
"""One training run: folder, network, Lightning trainer, and the inference checkpoint at its end."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.callbacks import (
    Callback,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from depth_sr_ros import __version__
from depth_sr_ros.config import ModelConfig
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.models.checkpoint import (
    CONFIDENCE_PREFIX,
    load_checkpoint,
    name_and_hash,
    save_checkpoint,
)
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.models.guide import DepthAnythingGuide
from training.callbacks import NonFiniteGuard, ValidationPictures
from training.config import TrainConfig
from training.module import DepthSRModule
from training.process import process_settings
from training.resuming import check_resumed

BEGINNING = "init_from.txt"  # in a run folder: name and hash of the weights that it began with
# Weights from before one of these are a start for a network that has it: it does nothing at the beginning.
LATER_PARTS = {
    "head": "residual",
    "propagation": (),
    "back_projection": False,
    "confidence": False,
    "guide_check": False,
}
LATER_PREFIXES = ("kernel_head.", "propagation.", "back_projection.", CONFIDENCE_PREFIX)


def run_training(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    stop_after: int | None = None,
    init_from: Path | None = None,
) -> Path:
    """Train into `folder`; returns the path of the exported inference checkpoint.

    `stop_after` steps, rounded up to whole epochs, end the run early, with the schedule of the whole one: a
    later `resume` goes on.
    Raises ConfigError where there is nothing to resume, something that would be overwritten, or where the
    run cannot go on so (training/resuming.py).
    """
    if stop_after is not None and stop_after < 1:
        raise ConfigError(f"--steps is {stop_after}, but must be at least 1")
    last = folder / "last.ckpt"
    if resume and not last.is_file():
        raise ConfigError(f"nothing to resume in {folder}: it has no last.ckpt; leave out --resume")
    if last.is_file() and not resume:
        raise ConfigError(f"{folder} already holds a run; add --resume, or choose another --run-dir")
    if resume:
        steps = _epochs(config, stop_after) * config.run.epoch_steps
        config = check_resumed(config, folder, steps, init_from)
    elif init_from is not None:
        config = dataclasses.replace(config, init_from=str(init_from))
    if config.run.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("run.accelerator is 'cuda', but torch sees no CUDA device; use 'auto' or 'cpu'")
    with process_settings(config.run.threads):
        pl.seed_everything(config.run.seed, workers=True, verbose=False)
        # A resumed run has its weights in last.ckpt: what it began with need not be there any more.
        net = _initial_network(config, None if resume else config.init_from)
        net.guide = _guide(config)
        module = DepthSRModule(config, net)
        git = _git_state()  # of the code that trains: the checkout may have moved on when the run ends
        trainer = _trainer(config, folder, stop_after)
        _write_config(_on_device(config, trainer.strategy.root_device.type), folder, git, resume)
        trainer.fit(module, ckpt_path=last if resume else None, weights_only=False if resume else None)
        return _export(config, folder, module, trainer, git)


def _initial_network(config: TrainConfig, source: str | None) -> DepthSRNet:
    net = DepthSRNet(config.model)
    if source:
        loaded, header = load_checkpoint(source)
        _check_same_network(source, header.model, config.model)
        fresh = {name: value for name, value in net.state_dict().items() if name.startswith(LATER_PREFIXES)}
        net.load_state_dict(fresh | loaded.state_dict())
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _check_same_network(source: str, found: ModelConfig, asked: ModelConfig) -> None:
    """ConfigError, naming what differs and the change, unless weights of `found` can start `asked`."""
    lacks = {name for name, value in LATER_PARTS.items() if getattr(found, name) == value}
    values, wanted = found.to_dict(), asked.to_dict()
    differing = [name for name in values if name not in lacks and values[name] != wanted[name]]
    if not differing:
        return
    if "variant" in differing:
        difference = f"{found.variant!r}, not {asked.variant!r}; choose a configuration of {found.variant!r}"
    else:
        names = ", ".join(f"model.{name} is {values[name]}, not {wanted[name]}" for name in differing)
        changes = " ".join(f"--set 'model.{name}={json.dumps(values[name])}'" for name in differing)
        difference = f"{names}; add {changes}"
    raise ConfigError(
        f"the checkpoint {source!r} holds another network than the configuration asks for: {difference}"
    )


def _guide(config: TrainConfig) -> DepthAnythingGuide | None:
    if config.guide.path is None:
        return None
    guide = DepthAnythingGuide.from_folder(config.guide.path, config.guide.short_side)
    return guide.requires_grad_(config.guide.lr > 0)


def _epochs(config: TrainConfig, stop_after: int | None) -> int:
    steps = config.optim.steps if stop_after is None else min(stop_after, config.optim.steps)
    return -(-steps // config.run.epoch_steps)


def _trainer(config: TrainConfig, folder: Path, stop_after: int | None) -> pl.Trainer:
    callbacks: list[Callback] = [
        ModelCheckpoint(folder, filename="best", monitor="val/score", enable_version_counter=False),
        # After the epoch is closed: a checkpoint from within its validation would resume in the middle of it.
        ModelCheckpoint(folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=True),
        LearningRateMonitor("step"),
        NonFiniteGuard(),
        ValidationPictures(),
    ]
    if config.optim.ema_decay:
        callbacks.append(EMAWeightAveraging(decay=config.optim.ema_decay))
    if Console().is_terminal:
        callbacks.append(RichProgressBar())
    return pl.Trainer(
        accelerator=config.run.accelerator,
        devices=config.run.devices,
        num_nodes=config.run.nodes,
        strategy=_strategy(config),
        precision=config.run.precision,  # type: ignore[arg-type]
        # Counted in epochs, not steps: with max_steps Lightning takes a resumed run for an unfinished epoch.
        max_epochs=_epochs(config, stop_after),
        gradient_clip_val=config.optim.gradient_clip,
        callbacks=callbacks,
        # A folder a start: Lightning's CSV logger would overwrite what an earlier stretch of the run wrote.
        logger=[CSVLogger(folder, name="logs"), TensorBoardLogger(folder, name="tensorboard")],
        log_every_n_steps=min(50, config.run.epoch_steps),
        num_sanity_val_steps=0,
        enable_model_summary=False,
        # The sampler of step numbers must stay as it is.
        use_distributed_sampler=False,
    )


def _strategy(config: TrainConfig) -> str:
    """Lightning's name for how the processes train together."""
    if config.run.devices * config.run.nodes == 1:
        return "auto"
    # Depth Anything gets no gradient in batches without it, which differ between processes, and some of its
    # weights (the mask token, one block of its neck) in none at all; the confidence none without its loss:
    # plain DDP would wait for them. The search costs time in each step.
    guide = config.guide.path is not None and config.guide.lr > 0
    confidence = config.model.confidence and not config.loss.laplace
    return "ddp_find_unused_parameters_true" if guide or confidence else "ddp"


def _on_device(config: TrainConfig, device: str) -> TrainConfig:
    """The configuration with the device that `auto` chose: another one draws other numbers from a seed."""
    if device not in ("cpu", "cuda"):
        return config
    return dataclasses.replace(config, run=dataclasses.replace(config.run, accelerator=device))


@rank_zero_only
def _write_config(config: TrainConfig, folder: Path, git: str, resumed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    with (folder / "git.txt").open("a" if resumed else "w") as file:  # a line a stretch
        file.write(git + "\n")
    if not resumed:
        kept = folder / BEGINNING
        kept.unlink(missing_ok=True)
        if config.init_from is not None:  # now: another file may lie there when the run ends
            kept.write_text(name_and_hash(config.init_from) + "\n")


def _git_state() -> str:
    """The commit, with `-dirty` where the checkout was changed; `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _export(config: TrainConfig, folder: Path, module: DepthSRModule, trainer: pl.Trainer, git: str) -> Path:
    """Write the weights the trainer ended with (the averaged ones) for inference; the first rank does."""
    path = folder / "model.safetensors"
    if not trainer.is_global_zero:
        return path
    metrics = {k: round(float(v), 4) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    save_checkpoint(
        path,
        module.net,
        training=training_header(config, trainer.global_step, git, beginning(config, folder)),
        metrics=metrics,
        version=__version__,
    )
    if module.net.guide is not None and config.guide.lr > 0:
        # In the hub's layout, as `guide.path` wants it: it was trained with the network.
        module.net.guide.model.save_pretrained(folder / "guide")  # type: ignore[operator]
    return path


def beginning(config: TrainConfig, folder: Path) -> str | None:
    """The weights that the run in `folder` began with, as it noted them at its start."""
    if config.init_from is None:
        return None
    kept, path = folder / BEGINNING, Path(config.init_from)
    if kept.is_file():
        return kept.read_text().strip()
    # A run from before it was noted; the file need not be there any more.
    return name_and_hash(path) if path.is_file() else f"{path.name} (no longer there)"


def training_header(config: TrainConfig, steps: int, git: str, began_with: str | None) -> dict[str, Any]:
    """What the checkpoint's header says of how it was made."""
    values = config.to_dict()
    for section in (*values["data"]["sources"], values["guide"]):
        if section["path"] is not None:  # never a path on this machine
            section["path"] = Path(section["path"]).name
    return {
        "steps": steps,
        "git": git,
        "seed": config.run.seed,
        "init_from": began_with,
        **{name: values[name] for name in ("optim", "data", "degradation", "loss", "guide")},
    }
