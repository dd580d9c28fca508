# SPDX-License-Identifier: Apache-2.0
"""The tutorial's commands, run one after the other as they stand in docs/tutorial.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="the tutorial plays and records")

from depth_sr_ros.models.checkpoint import load_checkpoint

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

SOURCES = ("depth_sr_ros", "training")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """Of the folders that the commands name; what they write does not land in the repository."""
    folder = tmp_path_factory.mktemp("tutorial")
    for name in SOURCES:
        (folder / name).symlink_to(repo_root / name)
    return folder


def blocks(repo_root: Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```$", (repo_root / "docs/tutorial.md").read_text(), re.M | re.S)


def test_every_command_of_the_tutorial_works(checkout: Path, repo_root: Path) -> None:
    found = blocks(repo_root)
    assert len(found) == 4
    script = checkout / "tutorial.sh"
    script.write_text("set -emx\n" + "".join(found))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    bash = shutil.which("bash")
    assert bash is not None
    run = subprocess.run([bash, script], cwd=checkout, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    runs = checkout / "runs" / "tutorial"
    frames = {}
    for name in ("shipped", "tof", "mine-report", "tuned-report"):
        report = json.loads((runs / name / "report.json").read_text())
        assert (runs / name / "report.html").is_file() and not report["problems"], report["problems"]
        frames[name] = report["frames"]
        rivals = [m["rmse"] for method, m in report["methods"].items() if method != "ours"]
        # Of a ToF camera's depth the best of the filters is about as good (docs/evaluation_all.md).
        best = min(rivals) * (1.0 if name == "shipped" else 1.03)
        assert report["methods"]["ours"]["rmse"] < best < max(rivals), (name, report["methods"])
    assert frames["shipped"] == 45 and frames["tof"] == 15
    assert frames["mine-report"] == frames["tuned-report"] == 30
    _, header = load_checkpoint(runs / "tuned" / "model.safetensors")
    assert header.model.confidence and header.training["optim"]["steps"] == 20
