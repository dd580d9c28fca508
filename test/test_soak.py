# SPDX-License-Identifier: Apache-2.0
"""`depth-sr soak`: frames go through the real node, are accounted for, and what goes wrong is a fault."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from ros_helpers import PythonProcess, has_ended

from depth_sr_ros.errors import ConfigError
from depth_sr_ros.ros.soak_report import Outcome, Sample, Settings, broken_identities, slope, write_json

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

RUN = ["-m", "depth_sr_ros.cli", "soak"]
SMALL = ["--rgb-size", "128x96", "--depth-size", "32x24"]
REST = {
    **{f"{name}_{key}": 0 for name in ("rgb", "depth") for key in ("unpaired", "evicted", "queued")},
    **{f"{name}_{key}": 9 for name in ("rgb", "depth") for key in ("received", "paired")},
    **{"pairs": 9, "overwritten": 2, "waiting": 0, "processing": 1, "published": 5},
    **{"publish_errors": 0, "bad": 1, "failed": 0},
}


def soak(out: Path, arguments: list[str], timeout_s: float) -> dict[str, Any]:
    with PythonProcess([*RUN, *arguments, "--json", out]) as process:
        assert process.wait(timeout_s) == 0, process.output
        print(process.output)
        assert "passed" in process.output
    return json.loads(out.read_text())


def test_frames_are_accounted_for_and_memory_stays(tmp_path: Path) -> None:
    found = soak(tmp_path / "soak.json", ["--minutes", "0.4", "--rate", "15", *SMALL], 240)
    assert found["passed"] and not found["faults"]
    assert found["sent"] == 360
    counters = found["counters"]
    assert not broken_identities(counters)
    assert counters["waiting"] == counters["processing"] == 0
    assert counters["pairs"] == counters["overwritten"] + counters["published"]
    assert found["received"] == counters["published"] - found["lost"]["output"] > 20
    assert found["reports"] > 15
    memory = [sample["rss_mb"] for sample in found["samples"]]
    assert len(memory) > 15
    assert memory[-1] - memory[len(memory) // 2] < 60


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_ten_minutes_at_30_hz_leave_memory_as_it_is(tmp_path: Path) -> None:
    found = soak(tmp_path / "soak.json", ["--minutes", "10", "--rate", "30"], 1200)
    assert found["passed"]
    assert found["sent"] == 18000
    assert found["slope_mb_per_minute"] <= 0.2


def test_a_node_that_dies_is_a_fault(tmp_path: Path) -> None:
    with PythonProcess([*RUN, "--minutes", "5", *SMALL, "--json", tmp_path / "soak.json"]) as process:
        found = process.wait_for_children("ros.main", "synthetic_camera")
        node = next(pid for pid, line in found.items() if "ros.main" in line)
        os.kill(node, signal.SIGKILL)
        assert process.wait(60) == 1, process.output
        assert "the node process ended with code -9" in process.output
        assert all(has_ended(pid) for pid in found)
    assert not json.loads((tmp_path / "soak.json").read_text())["passed"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_its_processes(number: signal.Signals) -> None:
    with PythonProcess([*RUN, "--minutes", "5", *SMALL]) as process:
        found = process.wait_for_children("ros.main", "synthetic_camera")
        process.send(number)
        assert process.wait(60) == 130, process.output
        assert "Traceback" not in process.output
        assert all(has_ended(pid) for pid in found)


def test_counters_that_add_up_are_no_fault() -> None:
    assert broken_identities(REST) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rgb_received": 10}, "rgb_received 10"),
        ({"depth_evicted": 1}, "depth_received 9"),
        ({"published": 6}, "pairs 9"),
        ({"processing": -1, "published": 7}, "negative"),
    ],
)
def test_counters_that_do_not_add_up_are_named(change: dict[str, int], said: str) -> None:
    (text,) = broken_identities(REST | change)
    assert said in text


def test_the_slope_is_fitted_behind_the_settling_time() -> None:
    growing = [Sample(s, 400 + 0.01 * s, 20) for s in range(600)]
    assert slope(growing, 600) == pytest.approx(0.6)
    filling = [Sample(s, 400 + min(s, 100), 20) for s in range(600)]
    assert slope(filling, 600) == pytest.approx(0, abs=1e-9)
    assert slope([Sample(s, 400 + min(s, 10), 20) for s in range(30)], 30) == pytest.approx(0, abs=1e-9)
    assert math.isnan(slope(growing[:2], 600))


@pytest.mark.parametrize(
    "wrong", [{"minutes": 0}, {"rate": 500}, {"rgb_size": (16, 480)}, {"depth_size": (1, 9)}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Settings(**wrong)


def test_a_soak_that_a_signal_ended_says_nothing_of_what_it_does_not_know(tmp_path: Path) -> None:
    outcome = Outcome(Settings(), counters={"rgb_received": 272, "depth_received": 272, "published": 265})
    assert outcome.lost == {}
    write_json(tmp_path / "soak.json", outcome)
    found = json.loads((tmp_path / "soak.json").read_text())
    assert (found["sent"], found["passed"], found["lost"]) == (None, None, {})
    outcome.sent = 280
    assert outcome.lost["rgb"] == 8
    write_json(tmp_path / "soak.json", outcome)
    assert json.loads((tmp_path / "soak.json").read_text())["passed"] is True


def test_the_file_of_numbers_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "soak.json", Outcome(Settings()))
    assert json.loads((tmp_path / "soak.json").read_text())["slope_mb_per_minute"] is None
    assert "NaN" not in (tmp_path / "soak.json").read_text()
