# SPDX-License-Identifier: Apache-2.0
"""`depth-sr doctor live` over real DDS, beside a camera in another process, healthy and with a fault."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from ros_helpers import REPO_ROOT, PythonProcess
from sensor_msgs.msg import Image

from depth_sr_ros.ros.messages import header, pinhole_camera_info
from depth_sr_ros.ros.view_check import view_mismatch

pytestmark = pytest.mark.alone

CAMERA = REPO_ROOT / "test" / "doctor_camera.py"


def examine(out: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, what `--json` wrote, and what was printed."""
    command = ["-m", "depth_sr_ros.cli", "doctor", "live", "--seconds", "2", "--json", str(out)]
    with PythonProcess([*command, *arguments]) as doctor:
        code = doctor.wait()
        assert out.is_file(), doctor.output
        return code, json.loads(out.read_text()), doctor.output


def beside_a_camera(fault: str, out: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    with PythonProcess([CAMERA, fault]) as camera:
        camera.wait_for_output("started")
        found = examine(out, *arguments)
        camera.send(signal.SIGTERM)
        assert camera.wait() == 0, camera.output
        return found


def problems(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f["check"]: f for f in found["findings"] if f["severity"] == "problem"}


def test_a_healthy_camera_is_exit_code_0(tmp_path: Path) -> None:
    code, found, printed = beside_a_camera("healthy", tmp_path / "doctor.json")
    assert (code, problems(found)) == (0, {}), printed
    assert (found["rgb_topic"], found["depth_topic"]) == ("/rgb/image", "/depth/image")
    assert found["rgb_frames"] > 10
    by_check = {f["check"]: f for f in found["findings"] if f["severity"] == "ok"}
    assert {"clocks", "pairing", "units", "views", "alignment", "qos", "frozen"} <= by_check.keys(), printed
    assert by_check["qos"]["values"]["reliability"] == "best_effort"
    assert printed.splitlines()[-1] == found["verdict"]


def test_the_node_warns_of_another_field_of_view_as_the_doctor_does() -> None:
    wide, narrow = (
        pinhole_camera_info((640, 480), (focal, focal), (319.5, 239.5)) for focal in (500.0, 700.0)
    )
    rgb, depth = (Image(header=header(0, "camera")) for _ in range(2))
    assert view_mismatch(rgb, depth, wide, wide) == ""
    text = view_mismatch(rgb, depth, wide, narrow)
    assert "in x is 65.2 degrees for RGB" in text and "49.1 for depth" in text and "register" in text


def test_clocks_that_disagree_are_found(tmp_path: Path) -> None:
    code, found, printed = beside_a_camera("clock", tmp_path / "doctor.json")
    assert (code, problems(found).keys()) == (1, {"clocks"}), printed
    assert problems(found)["clocks"]["values"]["skew_s"] == pytest.approx(-2, abs=0.2)


def test_the_listening_time_begins_with_the_first_images(tmp_path: Path) -> None:
    topics = ("--rgb", "/rgb/image", "--depth", "/depth/image")
    code, found, printed = beside_a_camera("late", tmp_path / "doctor.json", *topics)
    assert (code, problems(found)) == (0, {}), printed
    assert found["rgb_frames"] > 10


def test_metres_in_whole_millimetres_are_found_on_the_topics_that_are_named(tmp_path: Path) -> None:
    topics = ("--rgb", "/rgb/image", "--depth", "/depth/image")
    code, found, printed = beside_a_camera("metres", tmp_path / "doctor.json", *topics)
    assert (code, problems(found).keys()) == (1, {"units"}), printed


def test_two_publishers_and_a_subscriber_that_gets_nothing_are_found(tmp_path: Path) -> None:
    code, found, printed = beside_a_camera("qos", tmp_path / "doctor.json")
    assert (code, problems(found).keys()) == (1, {"qos"}), printed
    rgb, depth = (f["text"] for f in found["findings"] if f["severity"] == "problem")
    assert "/camera gets nothing on /rgb/image: it asks for reliable and volatile" in rgb
    assert "/depth/image has 2 publishers (/camera)" in depth


def test_no_camera_at_all_is_told(tmp_path: Path) -> None:
    code, found, printed = examine(tmp_path / "doctor.json", "--seconds", "1")
    assert code == 1, printed
    texts = [f["text"] for f in found["findings"] if f["severity"] == "problem"]
    assert texts == [
        "there is no RGB topic; topics with images: none",
        "there is no depth topic; topics with images: none",
    ]


def test_a_signal_ends_the_listening_with_what_came_until_then(tmp_path: Path) -> None:
    out = tmp_path / "doctor.json"
    with PythonProcess([CAMERA, "healthy"]) as camera:
        camera.wait_for_output("started")
        command = ["-m", "depth_sr_ros.cli", "doctor", "live", "--seconds", "600", "--json", str(out)]
        with PythonProcess(command) as doctor:
            doctor.wait_for_output("listening to /rgb/image and /depth/image")
            doctor.send(signal.SIGINT)
            assert doctor.wait(20) in (0, 1), doctor.output
        assert json.loads(out.read_text())["rgb_topic"] == "/rgb/image"
