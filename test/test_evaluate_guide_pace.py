# SPDX-License-Identifier: Apache-2.0
"""The measurement of stale guides: its numbers are what they say, and the command runs as typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_models import _trained_like as random_net
from typer.testing import CliRunner

from depth_sr_ros.models.checkpoint import save_checkpoint
from training.data.procedural_sequence import Sequence
from training.evaluate_guide_pace import MOST_AGE, PACES, app, guides, motion, paces


@pytest.fixture(scope="module")
def sequence() -> Sequence:
    return Sequence(0, 45, 64, 96)


def test_the_image_moves_more_over_more_frames_and_not_at_all_against_itself(sequence: Sequence) -> None:
    assert motion(sequence, 10, 10) == pytest.approx(0, abs=1e-9)
    assert 0.1 < motion(sequence, 10, 9) < motion(sequence, 10, 6)


def test_guides_of_each_age_are_made_of_the_frame_of_that_age_and_err_alike(sequence: Sequence) -> None:
    of_3 = {(kind, age): relative for kind, age, relative in guides(sequence, 3, seed=1)}
    of_4 = {(kind, age): relative for kind, age, relative in guides(sequence, 4, seed=1)}
    assert len(of_3) == 2 * (MOST_AGE + 1)
    for kind in ("perfect", "noisy"):
        for age in range(MOST_AGE):  # the frame is the same, and the errors are drawn by the seed alone
            torch.testing.assert_close(of_4[kind, age + 1], of_3[kind, age])
        assert not torch.allclose(of_3[kind, 0], of_3[kind, 1])


def test_a_pace_of_n_is_the_mean_over_ages_below_n() -> None:
    rmse = {
        ("clean x4", kind, age): 2.0 + age for kind in ("perfect", "noisy") for age in range(MOST_AGE + 1)
    }
    row = paces({**rmse, ("clean x4", "none", 0): 5.0})[0]
    assert row["rmse_m"] == 2.0 and row["no_guide"] == 2.5
    assert row["every_n"] == {n: pytest.approx(1 + (n - 1) / 4) for n in PACES}
    assert row["oldest"] == {n: pytest.approx((1 + n) / 2) for n in PACES}


def test_the_command_prints_a_table_and_writes_the_numbers(repo_root: Path, tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "fast.safetensors", tmp_path / "pace.json"
    save_checkpoint(checkpoint, random_net("fast"), training={}, metrics={}, version="0")
    size = ["--rooms", "1", "--frames", "1", "--width", "64", "--height", "48"]
    files = ["--checkpoint", str(checkpoint), "--out", str(out)]
    command = [sys.executable, "training/evaluate_guide_pace.py", *size, *files]
    ended = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "no guide" in ended.stdout and "n = 9" in ended.stdout
    record = json.loads(out.read_text())
    assert [row["guide"] for row in record["rows"]] == ["perfect", "noisy"] * 3
    assert np.isfinite([row["rmse_m"] for row in record["rows"]]).all()


def test_numbers_that_cannot_be_written_are_said_before_the_work(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["--rooms", "0", "--out", str(tmp_path / "absent" / "pace.json")])
    assert ended.exit_code == 2 and "absent does not exist: make it first" in ended.output


def test_a_network_without_a_guide_is_refused_in_one_sentence(repo_root: Path) -> None:
    weights = "depth_sr_ros/weights/edge.safetensors"
    command = [sys.executable, "training/evaluate_guide_pace.py", "--checkpoint", weights]
    ended = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert ended.returncode == 2 and "takes no guide" in ended.stderr and "Traceback" not in ended.stderr
