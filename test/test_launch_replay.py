# SPDX-License-Identifier: Apache-2.0
"""replay.launch.py against the real launch: it plays the shipped recording into the node and reports."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_launch import NODE_EXECUTABLE, PythonProcess, install, parent, prefix  # noqa: F401

from depth_sr_ros.bag import BagReader
from depth_sr_ros.demo_sequence import (
    COLOR_INFO_TOPIC,
    COLOR_TOPIC,
    DEPTH_TOPIC,
    SHIPPED_SEQUENCE,
    TRUTH_TOPIC,
)

CLI_EXECUTABLE = '#!/bin/sh\nexec "{python}" -m depth_sr_ros.cli "$@"\n'
TOPICS = {
    "rgb_topic": COLOR_TOPIC.removesuffix("/compressed"),
    "rgb_info_topic": COLOR_INFO_TOPIC,
    "depth_topic": DEPTH_TOPIC.removesuffix("/compressed"),
    "rgb_transport": "compressed",
    "depth_transport": "compressed",
}
FRAMES = 45


@pytest.fixture
def launch_file(repo_root: Path) -> Path:
    return repo_root / "launch" / "replay.launch.py"


@pytest.fixture
def run(prefix: Path, launch_file: Path, repo_root: Path, tmp_path: Path) -> Any:  # noqa: F811
    """Starts the launch file with arguments; returns its exit code and output."""
    (prefix / "share" / "depth_sr_ros" / "launch").symlink_to(repo_root / "launch")
    install(prefix, "depth_sr_ros", "depth-sr", CLI_EXECUTABLE.format(python=sys.executable))
    install(prefix, "depth_sr_ros", "depth_sr_node", NODE_EXECUTABLE.format(python=sys.executable))
    parameters = {"input.rgb_transport": "compressed", "input.depth_transport": "compressed"}
    file = tmp_path / "compressed.yaml"
    file.write_text(yaml.dump({"/**": {"ros__parameters": {"device": "cpu", **parameters}}}))

    def start(**arguments: str) -> tuple[int, str]:
        given = {"params_file": str(file), "player": "depth-sr", **TOPICS, **arguments}
        with PythonProcess(parent(prefix, launch_file, given)) as process:
            return process.wait(150), process.output

    return start


@pytest.mark.timeout(200)
def test_the_recording_is_played_recorded_and_scored(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = {"bag": str(SHIPPED_SEQUENCE), "out": str(out), "reference": TRUTH_TOPIC, "rate": "0.5"}
    code, output = run(**arguments, max_rmse="0.2", min_rate="3")
    assert code == 0, output
    found = json.loads((out / "report.json").read_text())
    assert (out / "report.html").is_file()
    assert found["time_of"] == "latency" and 0 < found["time_p50_ms"] < 1000
    assert found["frames"] >= FRAMES - 2, output  # the first may come before DDS has matched everything
    rmse = {name: metrics["rmse"] for name, metrics in found["methods"].items()}
    assert rmse["ours"] < min(rmse["bicubic"], rmse["guided"], rmse["fgs"])
    with BagReader(out / "recording") as bag:
        assert bag.count("/depth_sr/depth/image") >= found["frames"]


@pytest.mark.timeout(200)
def test_a_missed_threshold_ends_with_exit_code_1(run: Any, tmp_path: Path) -> None:
    arguments = {"bag": str(SHIPPED_SEQUENCE), "out": str(tmp_path / "out"), "reference": TRUTH_TOPIC}
    code, output = run(**arguments, max_rmse="0.000001")
    assert code == 1
    assert "above --max-rmse 1e-06" in output and "the evaluation ended with exit code 1" in output


@pytest.mark.timeout(120)
def test_a_node_that_ends_at_its_start_ends_the_launch(run: Any, tmp_path: Path) -> None:
    arguments = {"bag": str(SHIPPED_SEQUENCE), "out": str(tmp_path / "out")}
    code, output = run(**arguments, checkpoint="/none.safetensors")
    assert code == 1
    assert "the start failed: checkpoint '/none.safetensors' does not exist" in output, output
    assert "the node ended with exit code 1 before the evaluation was done" in output
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"log_level": "warn"}, "log_level is 'warn', but must be debug or info"),
        ({"log_level": "depth_sr:=ERROR"}, "log_level is 'depth_sr:=ERROR', but must be debug or info"),
        ({"bag": "/none"}, "bag is '/none', which does not exist"),
        ({"player": "vlc"}, "player is 'vlc', but must be auto, ros2 or depth-sr"),
        ({"loop": "0"}, "loop is '0', but must be a number of rounds"),
        ({"max_rmse": "0.1"}, "max_rmse needs something to score against"),
    ],
)
def test_arguments_that_make_no_sense_are_named(
    run: Any, tmp_path: Path, arguments: dict[str, str], sentence: str
) -> None:
    code, output = run(**{"bag": str(SHIPPED_SEQUENCE), "out": str(tmp_path / "never"), **arguments})
    assert code == 1 and sentence in output
