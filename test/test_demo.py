# SPDX-License-Identifier: Apache-2.0
"""The demo for real: three processes over DDS, a table, a picture, and numbers that hold."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from depth_sr_ros.demo import run_demo
from depth_sr_ros.demo_sequence import SHIPPED_SEQUENCE, read_intrinsics, read_sequence, write_sequence
from depth_sr_ros.errors import ConfigError, DataError

FRAMES = 12
RATE_HZ = 4.0

pytestmark = [pytest.mark.alone, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One short run of `depth-sr demo` and the folder that it wrote."""
    pytest.importorskip("rclpy", reason="no ROS 2 is installed")
    out = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "depth_sr_ros.cli", "demo", "--out", str(out)]
    command += ["--frames", str(FRAMES), "--rate", str(RATE_HZ)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200), out


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "demo.json").read_text())


def test_the_demo_ends_well_and_prints_the_table(demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    run, _ = demo
    assert run.returncode == 0, run.stdout + run.stderr
    for text in ("bicubic", "fast global smoother", "depth_sr_ros", "RMSE", "edge RMSE", "transport loss: 0"):
        assert text in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_no_message_is_lost_and_every_pair_is_accounted_for(
    demo: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    numbers = summary(demo[1])
    assert numbers["sent"] == numbers["rgb_received"] == numbers["depth_received"] == FRAMES
    assert numbers["published"] == numbers["received"]
    # On a machine that is busy with something else the node skips frames, newest first, and says so.
    assert numbers["pairs"] == numbers["published"] + numbers["overwritten"] == FRAMES


def test_the_network_beats_bicubic_on_the_received_messages(
    demo: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    methods = {method["name"]: method for method in summary(demo[1])["methods"]}
    ours = methods["depth_sr_ros"]
    assert 0 < ours["rmse"] < methods["bicubic"]["rmse"]
    assert 0 < ours["mae"] < methods["bicubic"]["mae"]
    assert 0 < ours["rate_hz"] < 1.2 * RATE_HZ
    assert 0 < ours["latency_p50_ms"] <= ours["latency_p95_ms"]


def test_the_picture_shows_six_different_panels(
    demo: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    picture = cv2.imread(str(demo[1] / "demo.png"))
    assert picture is not None
    height, width = picture.shape[:2]
    panels = [
        picture[r * height // 2 : (r + 1) * height // 2, c * width // 3 : (c + 1) * width // 3]
        for r in (0, 1)
        for c in (0, 1, 2)
    ]
    assert all(panel.std() > 10 for panel in panels)


def test_the_processes_leave_no_error_in_their_logs(
    demo: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    for name in ("node", "camera"):
        log = (demo[1] / f"{name}.log").read_text()
        assert "Traceback" not in log and "ERROR" not in log and "FATAL" not in log, log


def test_the_shipped_sequence_is_small_and_holds_exact_depth() -> None:
    size = sum(path.stat().st_size for path in SHIPPED_SEQUENCE.rglob("*") if path.is_file())
    assert size < 10_000_000
    frames = read_sequence()
    camera = read_intrinsics()
    assert 24 <= len(frames) <= 100
    assert (camera.width, camera.height) == (640, 480)
    for frame in frames:
        assert frame.rgb.shape == (480, 640, 3)
        assert frame.truth_mm.shape == (480, 640)
        assert frame.depth_mm.shape == (120, 160)
    # The camera moves: no two neighbours are the same picture.
    assert all(np.any(a.truth_mm != b.truth_mm) for a, b in zip(frames, frames[1:], strict=False))


def test_a_sequence_is_read_as_it_was_written(tmp_path: Path) -> None:
    frames = read_sequence(frames=2)
    write_sequence(tmp_path / "copy", frames, read_intrinsics())
    copy = read_sequence(tmp_path / "copy")
    assert [frame.stamp_ns for frame in copy] == [frame.stamp_ns for frame in frames]
    for a, b in zip(frames, copy, strict=True):
        np.testing.assert_array_equal(a.depth_mm, b.depth_mm)
        np.testing.assert_array_equal(a.truth_mm, b.truth_mm)
        assert np.abs(a.rgb.astype(int) - b.rgb).mean() < 3  # JPEG twice
    assert read_intrinsics(tmp_path / "copy") == read_intrinsics()


def test_sigterm_ends_all_processes_of_the_demo(tmp_path: Path) -> None:
    helpers = pytest.importorskip("ros_helpers")
    run = ["-m", "depth_sr_ros.cli", "demo", "--out", tmp_path]
    with helpers.PythonProcess(run) as process:
        found = process.wait_for_children("demo_viewer", "ros.main", "demo_camera")
        process.send(signal.SIGTERM)
        assert process.wait(30) == 130, process.output
        assert "Traceback" not in process.output
        assert all(helpers.has_ended(pid) for pid in found)
    assert (tmp_path / "camera.log").is_file()


def test_a_camera_that_waits_ends_well_on_a_signal() -> None:
    helpers = pytest.importorskip("ros_helpers")
    listener = helpers.Listener(outputs=False)
    line = ["-m", "depth_sr_ros.ros.demo_camera", "--sequence", SHIPPED_SEQUENCE, "--frames", "2"]
    with (
        helpers.PythonProcess(line) as demo,
        helpers.PythonProcess(["-m", "depth_sr_ros.ros.synthetic_camera"]) as synthetic,
    ):
        nodes = {"demo_camera", "synthetic_camera"}
        listener.spin_until(lambda: nodes <= set(listener.node.get_node_names()), process=demo)
        for camera in (demo, synthetic):
            camera.send(signal.SIGTERM)
        start = time.monotonic()
        for camera in (demo, synthetic):
            assert camera.wait(20) == 0, camera.output
        assert time.monotonic() - start < 8
    listener.close()


def test_without_diagnostics_the_viewer_makes_no_numbers_up(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="no ROS 2 is installed")
    from depth_sr_ros.ros.demo_viewer import COUNTERS, Received, Result, report

    image = Received(1, 2, np.ones((2, 2), np.float32))
    console = Console(file=io.StringIO())
    report(Result({1: image}, {1: image}, {}, {}), [], tmp_path, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "sent 1 pairs, viewer received 1\n" in printed and "no diagnostics received" in printed
    assert "-1" not in printed and "transport loss" not in printed
    numbers = summary(tmp_path)
    assert all(numbers[key] is None for key in (*COUNTERS, "engine"))


@pytest.mark.parametrize(("rate", "frames"), [(0.0, None), (1000.0, None), (15.0, 1)])
def test_the_demo_refuses_numbers_that_make_no_sense(tmp_path: Path, rate: float, frames: int | None) -> None:
    with pytest.raises(ConfigError, match="must be"):
        run_demo(tmp_path, rate, frames)


def test_the_demo_refuses_a_file_for_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="no ROS 2 is installed")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: the folder cannot be made"):
        run_demo(tmp_path / "file")


def test_a_bag_without_the_sequence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable rosbag2"):
        read_sequence(tmp_path)
