# SPDX-License-Identifier: Apache-2.0
"""What a run was trained on can be made again from its folder, to the bit, and shown."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from test_training import TINY

from depth_sr_ros.depth_io import read_rgb, write_depth, write_rgb
from depth_sr_ros.errors import CheckpointError, ConfigError
from training.config import TrainConfig, load_config
from training.data.batches import Batch, BatchMaker
from training.data.sources import Mixture, View
from training.module import DepthSRModule
from training.resuming import check_resumed
from training.run_batches import run_batch
from training.runner import run_training
from training.simulated_guide import perfect_guide

STEPS = 4


def configuration(folder: Path, workers: int, batch_size: int = 2, **guide: Any) -> TrainConfig:
    """All that makes batches random: two sources, imperfect pairs, sensors, a guide that is dropped."""
    (folder / "rgb").mkdir()
    (folder / "depth").mkdir()
    rng = np.random.default_rng(0)
    write_rgb(folder / "rgb" / "a.png", rng.integers(0, 256, (80, 96, 3), np.uint8))
    write_depth(folder / "depth" / "a.png", rng.uniform(1, 4, (80, 96)))
    return TrainConfig.from_dict(
        {
            "model": {"variant": "fast", "channels": [8, 8, 12, 12, 16]},
            "data": {
                "sources": [{"kind": "procedural"}, {"kind": "rgbd_folder", "path": str(folder)}],
                "crop": [64, 64],
                "batch_size": batch_size,
                "imperfect_share": 0.5,
                "workers": workers,
            },
            "degradation": {"sensor_share": 0.5, "scales": [4]},
            "guide": {"simulated": True, **guide},
            "optim": {**TINY["optim"], "steps": STEPS},
            "run": {**TINY["run"], "accelerator": "auto", "epoch_steps": 2, "seed": 11},
        }
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [0, 1])
def test_any_batch_of_a_run_is_made_again_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    seen: list[tuple[Batch, torch.Tensor | None]] = []
    train_on = DepthSRModule.training_step

    def record(module: DepthSRModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        seen.append(({name: value.clone() for name, value in batch.items()}, module._relative_depth(batch)))
        return train_on(module, batch, batch_idx)

    monkeypatch.setattr(DepthSRModule, "training_step", record)
    monkeypatch.setenv("DEPTH_SR_DATA", str(tmp_path / "absent"))
    config = configuration(tmp_path, workers, dropout=0.5)
    # Stopped and resumed: the steps of the second half have the numbers of a whole run.
    run_training(config, tmp_path / "run", stop_after=STEPS // 2)
    run_training(config, tmp_path / "run", resume=True)
    assert len(seen) == STEPS
    dropped = 0
    for step, (batch, guide) in enumerate(seen):
        again = run_batch(tmp_path / "run", step)
        for name in ("rgb", "depth", "depth_lr"):
            assert torch.equal(again[name].nan_to_num(-1), batch[name].nan_to_num(-1)), (step, name)
        assert guide is not None
        if "relative_depth" in again:
            assert torch.equal(again["relative_depth"], guide)
        else:
            assert not guide.any()
            dropped += 1
        # A sample alone has the bits that it had among the others.
        for index in range(2):
            alone = run_batch(tmp_path / "run", step, index=index)
            assert alone.keys() == again.keys()
            for name, values in alone.items():
                assert torch.equal(values.nan_to_num(-1), again[name][index : index + 1].nan_to_num(-1)), name
    assert 0 < dropped < STEPS
    assert load_config(tmp_path / "run" / "config.yaml").run.accelerator in ("cpu", "cuda"), "not auto"


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """As a run leaves it, as far as its batches are concerned; every one of them sees the guide."""
    config = configuration(tmp_path, workers=0, dropout=0.0)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    return tmp_path / "run"


def test_a_sample_is_made_without_those_before_it(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither another size of the batch nor the other samples change it, and none of them is made."""
    config = load_config(run_folder / "config.yaml")
    larger = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=4))
    whole, small = BatchMaker(larger)(3, 1), BatchMaker(config)(3, 1)
    made: list[int] = []
    draw = Mixture.views

    def count(mixture: Mixture, size: tuple[int, int], generators: list[torch.Generator]) -> list[View]:
        made.append(len(generators))
        return draw(mixture, size, generators)

    monkeypatch.setattr(Mixture, "views", count)
    for index in range(4):
        alone = BatchMaker(larger).sample(3, 1, index)
        for name, values in alone.items():
            for batch in (whole, small)[: 2 if index < 2 else 1]:
                assert torch.equal(values.nan_to_num(-1), batch[name][index : index + 1].nan_to_num(-1)), name
    assert 4 <= sum(made) <= 8 and set(made) == {1}, "one view a sample, and one more for a wrong guide"


def test_a_wrong_guide_is_that_of_another_picture(tmp_path: Path) -> None:
    no_errors = {"gamma": 1.0, "tilt": 0.0, "shift": 0.0, "blur": 0.0, "thin_share": 0.0, "region": 0.0}
    config = configuration(tmp_path, 0, 6, errors={**no_errors, "wrong_share": 0.5})
    batch = BatchMaker(config)(1)
    right = perfect_guide(batch["depth"])
    is_right = (batch["relative_depth"] - right).abs().amax((1, 2, 3)) < 1e-3
    assert 0 < int(is_right.sum()) < 6
    for guide, own in zip(batch["relative_depth"][~is_right], right[~is_right], strict=True):
        both = torch.stack([guide.flatten(), own.flatten()])
        assert float(guide.std()) > 0 and abs(float(torch.corrcoef(both)[0, 1])) < 0.9


def show(*arguments: object) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).resolve().parents[1] / "training" / "show_batch.py"
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_writes_the_batch_or_a_sample_as_a_picture(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "batch.png"
    ended = show(run_folder, "--step", 3, "--out", out)
    assert ended.returncode == 0 and str(out) in ended.stdout, ended.stderr
    picture, batch = read_rgb(out), run_batch(run_folder, 3)
    assert picture.shape == (2 * 64, 4 * 64, 3)  # two samples; RGB, LR depth, truth, relative depth
    for number, sample in enumerate(batch["rgb"]):
        rgb = (sample * 255).round().byte().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(picture[64 * number :][:64, :64], rgb)
    for part in np.split(picture, 4, axis=1):
        assert part.std() > 0
    ended = show(run_folder, "--step", 3, "--rank", 0, "--index", 1, "--out", out)
    assert ended.returncode == 0, ended.stderr
    np.testing.assert_array_equal(read_rgb(out), picture[64:])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--step", STEPS), f"step is {STEPS}, but the run has 0 to {STEPS - 1}"),
        (("--step", -1), "step is -1"),
        (("--rank", 1), "rank is 1, but the run has 0 to 0"),
        (("--index", 2), "index is 2, but the run has 0 to 1"),
        (("--out", "batch.xyz"), ".xyz"),
    ],
)
def test_what_a_run_does_not_have_is_one_sentence(
    run_folder: Path, arguments: tuple[object, ...], says: str
) -> None:
    ended = show(run_folder, *arguments)
    assert ended.returncode == 2 and says in ended.stderr and "Traceback" not in ended.stderr


def test_a_folder_that_is_no_run_has_no_batches(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config.yaml is missing; give the run folder"):
        run_batch(tmp_path, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("run.seed=12", "another run.seed"),
        ("data.batch_size=3", "another data"),
        ("degradation.clean_share=0.5", "another degradation"),
        ("guide.dropout=0.25", "another guide"),
        ("run.devices=2", "another run.devices times run.nodes"),
        ("run.nodes=2", "another run.devices times run.nodes"),
        (
            "run.threads=2",
            r"another number of threads for its batches \(run.threads, or one with data.workers\)",
        ),
    ],
)
def test_a_run_is_not_resumed_with_other_batches(run_folder: Path, change: str, says: str) -> None:
    (run_folder / "last.ckpt").touch()
    before = (run_folder / "config.yaml").read_text()
    with pytest.raises(ConfigError, match=f"{says}, and its batches could no longer be made again"):
        run_training(load_config(run_folder / "config.yaml", [change]), run_folder, resume=True)
    assert (run_folder / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("model.head=residual", "model.head kernel, not residual"),
        (
            "model.channels=[8, 8, 12, 12, 24]",
            r"model.channels \(8, 8, 12, 12, 16\), not \(8, 8, 12, 12, 24\)",
        ),
        ("model.confidence=true", "model.confidence False, not True"),
        ("guide={simulated: false, path: elsewhere, dropout: 0.0}", "guide.path left out, not given"),
    ],
)
def test_a_run_is_not_resumed_with_another_network(run_folder: Path, change: str, says: str) -> None:
    (run_folder / "last.ckpt").touch()
    section, _, text = change.partition("=")
    if "." in section:
        config = load_config(run_folder / "config.yaml", [change])
    else:
        values = yaml.safe_load((run_folder / "config.yaml").read_text())
        config = TrainConfig.from_dict({**values, section: yaml.safe_load(text)})
    with pytest.raises(ConfigError, match=f"{says}, and its last.ckpt fits no other"):
        run_training(config, run_folder, resume=True)


@pytest.mark.parametrize("name", ["optim.lr", "optim.residual_scale_lr", "optim.weight_decay", "guide.lr"])
def test_a_run_is_not_resumed_with_rates_that_it_would_not_take(run_folder: Path, name: str) -> None:
    (run_folder / "last.ckpt").touch()
    with pytest.raises(ConfigError, match=f"{name} is 0.5, but the run .* which its last.ckpt keeps"):
        run_training(load_config(run_folder / "config.yaml", [f"{name}=0.5"]), run_folder, resume=True)


def test_a_run_is_not_resumed_where_another_device_makes_its_batches(run_folder: Path) -> None:
    path = run_folder / "config.yaml"
    (run_folder / "last.ckpt").touch()

    def resume(begun: list[str], now: list[str]) -> None:
        path.write_text(yaml.safe_dump(load_config(path, begun).to_dict()))
        check_resumed(load_config(path, now), run_folder, STEPS)

    for begun, now in (
        (["run.accelerator=cuda", "data.workers=0"], ["data.workers=1"]),
        (["run.accelerator=cuda", "data.workers=0"], ["run.accelerator=cpu"]),
        (["run.accelerator=cpu", "data.workers=0"], ["run.accelerator=cuda"]),
        (["run.accelerator=cuda", "data.workers=2"], ["data.workers=0"]),
    ):
        with pytest.raises(ConfigError, match="another device for its batches"):
            resume(begun, now)
    # Loader processes are the CPU's, however many they are and whatever trains; last.ckpt is read next.
    for now in (["data.workers=1"], ["run.accelerator=cpu"], ["run.accelerator=cpu", "data.workers=0"]):
        with pytest.raises(CheckpointError, match="last.ckpt cannot be read"):
            resume(["run.accelerator=cuda", "data.workers=2"], now)
