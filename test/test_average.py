# SPDX-License-Identifier: Apache-2.0
"""Averages of weights are what they say, and of like networks alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_models import _trained_like as random_net
from typer.testing import CliRunner

from depth_sr_ros.models.checkpoint import load_checkpoint, save_checkpoint
from training.average import app

SCRIPT = Path(__file__).parents[1] / "training/average.py"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two edge networks and a fast one."""
    nets = [random_net("edge", 0), random_net("edge", 1), random_net("fast")]
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for net, path in zip(nets, paths, strict=True):
        save_checkpoint(path, net, training={}, metrics={}, version="0")
    return paths


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_each_tensor_is_the_average_and_the_header_says_of_what(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    ended = run(*files[:2], "--share", 0.25, "--out", out)
    assert ended.returncode == 0, ended.stderr
    (first, _), (second, _), (found, header) = (load_checkpoint(path) for path in (*files[:2], out))
    others = second.state_dict()
    for name, value in first.state_dict().items():
        expected = 0.75 * value + 0.25 * others[name]
        torch.testing.assert_close(found.state_dict()[name], expected, atol=2e-3, rtol=2e-3)  # float16
    assert header.training["share_of_the_second"] == 0.25
    assert [part.split(" ")[0] for part in header.training["average_of"]] == [path.name for path in files[:2]]


@pytest.mark.parametrize(
    ("which", "share", "sentence"), [((0, 2), 0.5, "different architectures"), ((0, 1), 1.5, "share is 1.5")]
)
def test_what_cannot_be_averaged_is_one_sentence(
    files: list[Path], tmp_path: Path, which: tuple[int, int], share: float, sentence: str
) -> None:
    out = tmp_path / "out.safetensors"
    ended = run(*(files[i] for i in which), "--share", share, "--out", out)
    assert ended.returncode == 2 and sentence in " ".join(ended.stderr.split()) and not out.exists()


def test_an_average_without_a_place_is_one_sentence(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "absent" / "out.safetensors"
    ended = CliRunner().invoke(app, [*map(str, files[:2]), "--out", str(out)])
    assert ended.exit_code == 2 and "absent does not exist: make it first" in ended.output
