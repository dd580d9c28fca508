# SPDX-License-Identifier: Apache-2.0
"""Training end to end: configuration errors, real short runs, resume, the exported weights."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml

from depth_sr_ros.errors import CheckpointError, ConfigError, TrainingError
from depth_sr_ros.models.checkpoint import load_checkpoint, name_and_hash, read_header, save_checkpoint
from depth_sr_ros.models.depth_sr import DepthSRNet
from training.callbacks import MAX_SKIPPED, NonFiniteGuard
from training.config import CONFIG_FOLDER, TrainConfig, load_config
from training.data.batches import BatchMaker, NextSteps, sample_seed, step_seed
from training.exporting import export_run
from training.losses import LossConfig, depth_loss
from training.module import DepthSRModule
from training.runner import _initial_network, run_training

# Real runs in processes of their own: seconds where a core is free, minutes where none is.
pytestmark = pytest.mark.timeout(600)

TINY: dict[str, Any] = {
    "model": {"variant": "edge", "channels": [8, 8, 12, 12, 16]},
    "data": {"sources": [{"kind": "procedural"}], "crop": [64, 64], "batch_size": 2},
    "degradation": {"scales": [4], "clean_share": 0.0},
    "optim": {"steps": 12, "lr": 1.0e-3, "warmup_steps": 2, "ema_decay": 0.9},
    "run": {"epoch_steps": 4, "accelerator": "cpu", "validation_frames": 1},
}


def _train(repo_root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "training/train.py", *arguments],
        cwd=repo_root,
        capture_output=True,
        text=True,
        env={**os.environ, "DEPTH_SR_DATA": "/nonexistent", **environment},
    )


def _rows(folder: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for path in sorted(folder.glob("logs/*/metrics.csv")):
        with path.open() as file:
            rows += list(csv.DictReader(file))
    return rows


@pytest.mark.parametrize("path", sorted(CONFIG_FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_loads_and_survives_a_round_trip(path: Path) -> None:
    config = load_config(path.stem)
    assert TrainConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"optm": {}}, "unknown key 'optm'.*'optim'"),
        ({"optim": {"steps": 4, "learning_rate": 1}}, "unknown key 'learning_rate' in optim"),
        ({"optim": {"lr": 1.0}}, "lacks the key 'steps'"),
        ({"optim": {"steps": 4, "lr": "1e-3"}}, "must be a number"),
        ({"optim": {"steps": 5}}, "multiple of run.epoch_steps"),
        ({"optim": {"steps": 4.0}}, "a whole number"),
        ({"optim": {"steps": 4, "weight_decay": -1}}, "at least 0"),
        ({"data": {"crop": 256}}, "must be a list"),
        ({"data": {"crop": [128.5, 128]}}, "a whole number"),
        ({"data": {"sources": 5}}, "must be a list"),
        ({"data": [1]}, "must hold keys and values"),
        ({"model": {"variant": "edge", "channels": 3}}, "must be a list"),
        ({"model": {"variant": "edge", "unit_m": "abc"}}, "a number"),
        ({"degradation": {"bits": []}}, "must be a list"),
        ({"degradation": {"bits": [-1]}}, "0 .none. to 24"),
        ({"data": {"crop": [-64, 64]}}, "at least 64"),
        ({"data": {"crop": [64, 64, 64]}}, "must be a list of 2"),
        ({"data": {"sources": [{"kind": "rendered", "weight": float("inf")}]}}, "weight is inf, .* finite"),
        ({"degradation": {"noise_strength": [0.1]}}, r"noise_strength is \[0.1\], but must be a list of 2"),
        ({"degradation": {"noise_strength": [0.1, 1, 2]}}, "must be a list of 2"),
        ({"degradation": {"methods": [float("nan"), 1, 1]}}, "methods is nan, but must be a finite number"),
        ({"degradation": {"scales": [float("nan")]}}, "scales is nan, but must be a finite number"),
        ({"degradation": {"scales": [float("inf")]}}, "scales is inf, but must be a finite number"),
        ({"optim": {"steps": 4, "weight_decay": float("nan")}}, "weight_decay is nan"),
        ({"run": {"seed": -1}}, "run.seed is -1, but must be from 0 to 4294967295"),
        ({"run": {"seed": 2**32}}, "run.seed is 4294967296, but must be from 0"),
        ({"init_from": {"x": 3}}, "init_from is {'x': 3}, but must be text"),
        ({"data": {"batch_size": -1}}, "above 0"),
        ({"data": {"sources": [{"kind": "nyu"}]}}, "one of procedural, rendered"),
        ({"model": {"variant": "edge", "fusion": "sum"}}, "one of adain, add"),
        ({"run": {"precision": "fp8"}}, "one of 32-true"),
    ],
)
def test_a_wrong_configuration_is_named(change: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        TrainConfig.from_dict({**TINY, **change})


def test_single_values_can_be_changed_and_a_wrong_change_is_named() -> None:
    changed = load_config("smoke", ["optim.lr=0.5", "model.normalization=frame", "data.crop=[64, 96]"])
    assert (changed.optim.lr, changed.model.normalization, changed.data.crop) == (0.5, "frame", (64, 96))
    assert changed.data.sources == load_config("smoke").data.sources
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_config("smoke", ["lr"])
    with pytest.raises(ConfigError, match="unknown key 'speed' in optim"):
        load_config("smoke", ["optim.speed=1"])


def test_batches_follow_from_seed_step_and_rank_alone() -> None:
    maker = BatchMaker(TrainConfig.from_dict(TINY))
    maker(0)
    batch, again = maker(7), BatchMaker(TrainConfig.from_dict(TINY))(7)
    for name in ("rgb", "depth", "depth_lr"):
        assert torch.equal(batch[name].nan_to_num(-1), again[name].nan_to_num(-1)), name
    assert not torch.equal(batch["rgb"], maker(8)["rgb"])
    assert not torch.equal(batch["rgb"], maker(7, rank=1)["rgb"])
    steps = list(itertools.product(range(4), range(50), range(3)))
    seeds = [step_seed(*each) for each in steps] + [sample_seed(*each, i) for each in steps for i in range(4)]
    assert len(set(seeds)) == len(seeds) == 600 * 5
    rows = [*batch["rgb"], *maker(7, rank=1)["rgb"], *maker(8)["rgb"]]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(rows, 2)), "no sample comes twice"


def test_step_numbers_go_on_from_where_the_run_is() -> None:
    done = 15
    sampler = NextSteps(lambda: done, 5)
    assert list(sampler) == [15, 16, 17, 18, 19] and len(sampler) == 5
    done = 20
    assert list(sampler) == [20, 21, 22, 23, 24]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A run of 8 steps of 12, then resumed to the end. It explains itself."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    common = ("--config", str(folder / "tiny.yaml"), "--run-dir", str(folder / "run"))
    for arguments in (("--steps", "8"), ("--resume",)):
        done = _train(repo_root, *common, *arguments)
        assert done.returncode == 0, done.stderr
        assert "12 steps of 2 images of 64x64 (procedural)" in done.stdout
        assert f"Run folder: {folder / 'run'}" in done.stdout and "--config NAME: challenge, " in done.stdout
        assert "RMSE on the validation frames over that of bilinear upsampling: " in done.stdout
        assert str(folder / "run" / "model.safetensors") in done.stdout
    return folder / "run"


@pytest.mark.parametrize("which", ["best", "last"])
def test_an_inference_checkpoint_is_made_of_a_run(
    run_folder: Path, repo_root: Path, tmp_path: Path, which: str
) -> None:
    out = tmp_path / "out.safetensors"
    command = [
        sys.executable,
        repo_root / "training" / "export.py",
        run_folder,
        "--which",
        which,
        "--out",
        out,
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    net, header = load_checkpoint(out, variant="edge")
    if which == "last":
        ended, end_header = load_checkpoint(run_folder / "model.safetensors")
        assert header == end_header
        for name, value in ended.state_dict().items():
            assert torch.equal(value, net.state_dict()[name]), name
    scores = {int(row["step"]): float(row["val/score"]) for row in _rows(run_folder) if row.get("val/score")}
    best = scores[max(scores)] if which == "last" else min(scores.values())
    assert header.metrics["val/score"] == pytest.approx(best, abs=1e-4)


def test_a_folder_that_is_no_run_cannot_be_exported(tmp_path: Path, run_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="config.yaml is missing; give the run folder"):
        export_run(tmp_path, "best", tmp_path / "out.safetensors")
    with pytest.raises(ConfigError, match="did you mean 'best'"):
        export_run(run_folder, "bets", tmp_path / "out.safetensors")
    for name in ("config.yaml", "git.txt"):
        (tmp_path / name).write_bytes((run_folder / name).read_bytes())
    (tmp_path / "last.ckpt").write_bytes((run_folder / "last.ckpt").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="last.ckpt cannot be read as a checkpoint"):
        export_run(tmp_path, "last", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_pictures_of_the_validation_are_in_tensorboard(run_folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, list] = {}
    for folder in (run_folder / "tensorboard").iterdir():
        events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
        for tag in events.Tags()["images"]:
            found.setdefault(tag, []).extend(events.Images(tag))
    assert found and all(tag.startswith("noisy_x4/") for tag in found)
    assert sorted(event.step for event in found["noisy_x4/0"]) == [4, 8, 12]
    picture = cv2.imdecode(np.frombuffer(found["noisy_x4/0"][0].encoded_image_string, np.uint8), 1)
    assert picture is not None and picture.shape[1] == 4 * picture.shape[0] * 320 // 256
    assert picture.std(axis=(0, 1)).min() > 5


class _Diverging(pl.LightningModule):
    """One weight; its gradient is NaN in the steps that `bad` names."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__()
        self.weight, self.bad = torch.nn.Parameter(torch.ones(1)), bad
        self.seen: list[float] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.seen.append(float(self.weight))
        return (self.weight * (torch.nan if batch_idx in self.bad else 1.0)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.1, fused=True)

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(200)), batch_size=1)


def _fit(module: pl.LightningModule, guard: NonFiniteGuard, steps: int, folder: Path) -> None:
    pl.Trainer(
        accelerator="cpu", max_steps=steps, callbacks=[guard], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0, default_root_dir=folder,
    ).fit(module)  # fmt: skip


def test_a_step_without_finite_gradients_is_left_out(tmp_path: Path) -> None:
    guard, module = NonFiniteGuard(), _Diverging({2, 3})
    _fit(module, guard, 6, tmp_path)
    assert guard.skipped == 2 and torch.isfinite(module.weight).all()
    assert module.seen[2] == module.seen[3] == module.seen[4] < module.seen[1] < module.seen[0]


def test_a_run_that_has_diverged_ends(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=f"{MAX_SKIPPED + 1} steps in a row are not finite.*copy best.ckpt over last.ckpt"
    ):
        _fit(_Diverging(set(range(1, 200))), NonFiniteGuard(), 200, tmp_path)


def test_a_run_can_be_stopped_and_resumed(run_folder: Path, repo_root: Path) -> None:
    steps = [int(row["step"]) for row in _rows(run_folder) if row.get("val/score")]
    assert steps == [3, 7, 11]
    for name in ("config.yaml", "git.txt", "best.ckpt", "last.ckpt", "model.safetensors"):
        assert (run_folder / name).is_file(), name
    again = _train(repo_root, "--config", str(run_folder.parent / "tiny.yaml"), "--run-dir", str(run_folder))
    assert again.returncode == 2
    assert "already holds a run" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_run_that_is_at_its_end_is_left_as_it_is(run_folder: Path) -> None:
    """It would export the weights of its last step in place of the averaged ones."""
    config = load_config(run_folder / "config.yaml")
    kept = {path: path.read_bytes() for path in run_folder.iterdir() if path.is_file()}
    for stop_after in (None, 8):
        with pytest.raises(ConfigError, match="is already at step 12; raise optim.steps"):
            run_training(config, run_folder, resume=True, stop_after=stop_after)
    other = load_config(run_folder / "config.yaml", ["run.epoch_steps=12", "optim.steps=24"])
    with pytest.raises(ConfigError, match="begun with run.epoch_steps 4"):
        run_training(other, run_folder, resume=True)
    assert {path: path.read_bytes() for path in run_folder.iterdir() if path.is_file()} == kept


def test_a_resumed_run_ends_with_the_bits_of_one_without_a_stop(
    run_folder: Path, tmp_path: Path, repo_root: Path
) -> None:
    config = run_folder.parent / "tiny.yaml"
    done = _train(repo_root, "--config", str(config), "--run-dir", str(tmp_path / "whole"))
    assert done.returncode == 0, done.stderr
    whole, resumed = (
        # our own file, of this test: it holds the optimiser too
        torch.load(folder / "last.ckpt", weights_only=False)
        for folder in (tmp_path / "whole", run_folder)
    )
    assert whole["global_step"] == resumed["global_step"] == 12
    for part in ("state_dict", "current_model_state"):  # the averaged weights and the trained ones
        different = [name for name, v in whole[part].items() if not torch.equal(v, resumed[part][name])]
        assert not different, (part, different)
    moments = [each["optimizer_states"][0]["state"] for each in (whole, resumed)]
    for index, state in moments[0].items():
        assert all(torch.equal(value, moments[1][index][name]) for name, value in state.items())


def test_the_exported_weights_load_and_say_how_they_were_made(run_folder: Path) -> None:
    model, header = load_checkpoint(run_folder / "model.safetensors", variant="edge")
    assert header.training["steps"] == 12
    assert header.training["data"]["crop"] == [64, 64]
    assert set(header.metrics) >= {"val/score", "val/noisy_x4"}
    assert model.unet.head.weight.abs().max() > 0


def test_a_run_can_start_from_exported_weights(run_folder: Path, tmp_path: Path, repo_root: Path) -> None:
    source = tmp_path / "model.safetensors"
    source.write_bytes((run_folder / "model.safetensors").read_bytes())
    command = ("--config", str(run_folder.parent / "tiny.yaml"), "--run-dir", str(tmp_path / "second"))
    done = _train(repo_root, *command, "--steps", "4", "--init-from", str(source))
    assert done.returncode == 0, done.stderr
    before, after = (
        load_checkpoint(p)[0].state_dict() for p in (source, tmp_path / "second/model.safetensors")
    )
    change = max(float((after[k] - before[k]).abs().max()) for k in before)
    assert 0 < change < 0.05
    header = read_header(tmp_path / "second/model.safetensors").training
    assert header["steps"] == 4
    # Neither other weights in the file's place nor others that are named are what the run began with.
    began_with, folder = name_and_hash(source), tmp_path / "second"
    source.write_bytes((tmp_path / "second/model.safetensors").read_bytes())
    other = tmp_path / "other.safetensors"
    config = load_config(folder / "config.yaml")
    with pytest.raises(ConfigError, match="begun from .*model.safetensors and goes on from its last.ckpt"):
        run_training(config, folder, resume=True, init_from=other)
    resumed = _train(repo_root, *command, "--steps", "8", "--resume", "--init-from", str(source))
    assert resumed.returncode == 0, resumed.stderr
    later = read_header(tmp_path / "second/model.safetensors").training
    assert later["steps"] == 8 and later["init_from"] == header["init_from"]
    assert later["init_from"] == began_with
    # A run folder from before the name was kept can be exported too.
    (folder / "init_from.txt").unlink()
    export_run(folder, "last", tmp_path / "old.safetensors")
    assert read_header(tmp_path / "old.safetensors").training["init_from"] == name_and_hash(source)
    assert len((tmp_path / "second/git.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--config", "smok"), "no training configuration 'smok'"),
        (("--config", "smoke", "--resume", "--run-dir", "/nonexistent/run"), "nothing to resume"),
        (("--config", "smoke", "--init-from", "/nonexistent/x.safetensors"), "does not exist"),
        (("--config", "smoke", "--steps", "0"), "at least 1"),
        (("--config", "smoke", "--set", "optim.lr=["), "no YAML right of its ="),
    ],
)
def test_wrong_arguments_end_with_one_sentence(
    repo_root: Path, tmp_path: Path, arguments: tuple[str, ...], word: str
) -> None:
    extra = () if "--run-dir" in arguments else ("--run-dir", str(tmp_path / "run"))
    done = _train(repo_root, *arguments, *extra)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_the_network_can_learn_a_batch_by_heart() -> None:
    """Real steps of the real network, data, loss and optimiser: what is seen again and again is learnt."""
    torch.manual_seed(0)
    config = TrainConfig.from_dict({**TINY, "data": {**TINY["data"], "batch_size": 4}})
    module = DepthSRModule(config, DepthSRNet(config.model))
    optimizer = module.configure_optimizers()["optimizer"]
    batch = BatchMaker(config)(0)
    losses = []
    for _ in range(150):
        prediction = module.net(batch["rgb"], batch["depth_lr"])
        valid = torch.isfinite(batch["depth"])
        target = prediction.normalizer.normalize(torch.where(valid, batch["depth"], 1.0))
        loss = depth_loss(prediction.normalized, target, valid, LossConfig())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) / 5 < 0.85 * losses[0]


def test_weights_from_before_the_kernel_head_start_a_network_that_has_one(tmp_path: Path) -> None:
    config = load_config("edge_crops")
    torch.manual_seed(0)
    old = DepthSRNet(dataclasses.replace(config.model, head="residual"))
    for parameter in old.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_checkpoint(
        tmp_path / "old.safetensors", old, training={}, metrics={}, version="test", dtype=torch.float32
    )
    net = _initial_network(config, str(tmp_path / "old.safetensors"))
    assert net.kernel_head is not None
    rgb, depth = torch.rand(1, 3, 64, 64), 1 + torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(net(rgb, depth).depth, old(rgb, depth).depth, rtol=1e-5, atol=1e-5)
    with pytest.raises(ConfigError, match="holds another network"):
        _initial_network(load_config("edge_crops", ["model.fusion=add"]), str(tmp_path / "old.safetensors"))


def test_the_shipped_weights_are_a_start_and_another_network_is_told_how_to_be_one(repo_root: Path) -> None:
    weights = {name: str(repo_root / f"depth_sr_ros/weights/{name}.safetensors") for name in ("edge", "fast")}
    for name, configs in (("fast", ("fast", "fast_cpu")), ("edge", ("edge_confidence", "finetune"))):
        for config in configs:
            assert _initial_network(load_config(config), weights[name]).confidence_head is not None
    with pytest.raises(ConfigError) as refused:
        _initial_network(load_config("edge_frames", ["model.channels=[8, 8, 8, 8, 8]"]), weights["edge"])
    says = (
        "model.channels is [32, 48, 96, 128, 192], not [8, 8, 8, 8, 8], model.confidence is True, not False"
    )
    changes = ["model.channels=[32, 48, 96, 128, 192]", "model.confidence=true"]
    assert str(refused.value).endswith(
        f"asks for: {says}; add " + " ".join(f"--set '{change}'" for change in changes)
    )
    assert _initial_network(load_config("edge_frames", changes), weights["edge"]).confidence_head is not None
    with pytest.raises(ConfigError, match="asks for: 'fast', not 'edge'; choose a configuration of 'fast'$"):
        _initial_network(load_config("edge"), weights["fast"])


def test_whole_numbers_are_weights_of_sources_too() -> None:
    config = TrainConfig.from_dict(
        {**TINY, "data": {**TINY["data"], "sources": [{"kind": "procedural", "weight": 1}]}}
    )
    assert BatchMaker(config)(0)["rgb"].shape == (2, 3, 64, 64)
