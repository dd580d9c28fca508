# SPDX-License-Identifier: Apache-2.0
"""Two processes that train together (DDP, gloo) take the step of the mean of their gradients."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file
from test_training import TINY
from tiny_guide import save_tiny_guide

from depth_sr_ros.models.checkpoint import load_checkpoint, read_header
from depth_sr_ros.models.guide import DepthAnythingGuide
from training.config import TrainConfig, load_config
from training.data.batches import BatchMaker, sees_no_guide
from training.module import DepthSRModule
from training.runner import _initial_network, _strategy

REPO_ROOT = Path(__file__).resolve().parents[1]
CONFIG: dict[str, Any] = {
    **TINY,
    "optim": {"steps": 2, "warmup_steps": 0, "ema_decay": 0.9},
    "run": {**TINY["run"], "epoch_steps": 2, "devices": 2, "seed": 3},
}


@pytest.mark.timeout(300)
def test_the_gradients_are_the_mean_of_those_of_two_processes(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    script = Path(__file__).with_name("ddp_process.py")
    command = [sys.executable, str(script), "config.yaml", "run", "gradients.pt"]
    environment = {**os.environ, "DEPTH_SR_DATA": str(tmp_path / "absent")}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    together = torch.load(tmp_path / "gradients.pt", weights_only=True)

    config = TrainConfig.from_dict(CONFIG)
    pl.seed_everything(config.run.seed, verbose=False)
    module = DepthSRModule(config, _initial_network(config, None))
    maker = BatchMaker(config)
    for rank in (0, 1):
        batch = maker(0, rank)
        (module._loss(module.net(batch["rgb"], batch["depth_lr"]), batch["depth"])["loss"] / 2).backward()
    alone = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    assert together.keys() == alone.keys()
    assert any(gradient.abs().max() > 0 for gradient in alone.values())
    for name, gradient in alone.items():
        scale = gradient.abs().max().clamp_min(1e-12)
        assert (together[name] - gradient).abs().max() <= 1e-5 * scale, name
    # One checkpoint, of the first process; the second wrote nothing over it.
    _, header = load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert header.training["steps"] == 2


@pytest.mark.timeout(300)
def test_parts_that_a_batch_does_not_use_may_differ_between_processes(tmp_path: Path) -> None:
    """Depth Anything, which some batches do not see, and a confidence that nothing trains."""
    guide = save_tiny_guide(tmp_path / "guide")
    config = {
        **CONFIG,
        "model": {"variant": "fast", "channels": [8, 8, 12, 12, 16], "confidence": True},
        "optim": {"steps": 6, "warmup_steps": 0, "ema_decay": 0.0},
        "run": {**CONFIG["run"], "epoch_steps": 6},
        "guide": {"path": str(guide), "lr": 1e-3, "dropout": 0.5, "short_side": 56},
    }
    parsed = TrainConfig.from_dict(config)
    seen = [tuple(sees_no_guide(parsed, step, rank) for rank in (0, 1)) for step in range(6)]
    assert {(False, True), (False, False)} <= {tuple(sorted(each)) for each in seen}, "the seed shows it"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, str(REPO_ROOT / "training" / "train.py"), "--config", "config.yaml"]
    environment = {**os.environ, "DEPTH_SR_DATA": str(tmp_path / "absent")}
    ended = subprocess.run(
        [*command, "--run-dir", "run"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    before, after = (
        load_file(folder / "model.safetensors") for folder in (guide, tmp_path / "run" / "guide")
    )
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


def test_plain_ddp_is_taken_where_each_weight_gets_a_gradient(tmp_path: Path) -> None:
    """DDP waits for the others; of Depth Anything's some get none, whether or not batches leave it out."""
    guide = DepthAnythingGuide.from_folder(save_tiny_guide(tmp_path / "guide"), 56)
    guide(torch.rand(1, 3, 64, 64)).sum().backward()
    assert any(parameter.grad is None for parameter in guide.parameters())

    def strategy(*changes: str) -> str:
        return _strategy(load_config("fast", ["run.devices=2", "guide.dropout=0.0", *changes]))

    given = f"guide.path={tmp_path / 'guide'}"
    assert strategy(given, "guide.lr=1.0e-6") == "ddp_find_unused_parameters_true"
    assert strategy(given, "guide.lr=0.0") == strategy("guide.lr=1.0e-6") == "ddp"
    assert strategy("model.confidence=true", "loss.laplace=0.0") == "ddp_find_unused_parameters_true"
    assert strategy("model.confidence=true", "loss.laplace=0.05") == "ddp"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_machines_train_together_under_torchrun(tmp_path: Path) -> None:
    """Both are this one: what differs is who starts the processes, and how they find each other."""
    config = {**CONFIG, "run": {**CONFIG["run"], "devices": 1, "nodes": 2}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    command += [str(REPO_ROOT / "training" / "train.py"), "--config", "config.yaml", "--run-dir", "run"]
    environment = {**os.environ, "DEPTH_SR_DATA": str(tmp_path / "absent")}
    started = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for _ in range(2)
    ]
    said = [each.communicate(timeout=500)[0].decode() for each in started]
    assert [each.returncode for each in started] == [0, 0], said
    assert sorted(text.count("Weights for the node") for text in said) == [0, 1], "one of them writes"
    assert read_header(tmp_path / "run" / "model.safetensors").training["steps"] == 2
