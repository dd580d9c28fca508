# SPDX-License-Identifier: Apache-2.0
"""Fast DDS's shared memory: what killed processes leave is seen, and too little of it is told in words."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from depth_sr_ros.doctor.check_transport import check_shared_memory
from depth_sr_ros.doctor.findings import Severity
from depth_sr_ros.doctor.samples import Samples, Transport
from depth_sr_ros.ros.dds import FAST_DDS_2_VARIABLE, FAST_DDS_VARIABLE
from depth_sr_ros.shared_memory import FOLDER, SEGMENT_BYTES, SharedMemory, measure

pytestmark = pytest.mark.alone

PARTICIPANT = """
from depth_sr_ros.ros.dds import prepare_process
prepare_process()
import rclpy
rclpy.init()
node = rclpy.create_node("killed")
print("up", flush=True)
input()
"""
NODE = """
import sys
from depth_sr_ros.ros.main import main
sys.exit(main(["--ros-args", "-p", "autostart:=false"]))
"""


def test_a_segment_is_dead_once_nobody_holds_its_lock(tmp_path: Path) -> None:
    for name in ("fastdds_1", "fastrtps_2", "other_3"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
        (tmp_path / f"{name}_el").touch()
    with (tmp_path / "fastdds_1_el").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = measure(tmp_path)
        assert found is not None and (found.dead, found.dead_bytes) == (1, 1 << 20)
    found = measure(tmp_path)
    assert found is not None and (found.dead, found.dead_bytes) == (2, 2 << 20)
    assert 0 < found.free <= found.total
    assert measure(tmp_path / "absent") is None


def test_what_a_killed_process_leaves_is_found() -> None:
    pytest.importorskip("rclpy", reason="needs rclpy")
    before = measure()
    assert before is not None
    process = subprocess.Popen(
        [sys.executable, "-c", PARTICIPANT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.readline() == "up\n"
        living = measure()
        process.kill()
        process.wait(20)
    killed = measure()
    assert living is not None and killed is not None
    # Other tests' processes may come and go: the large segment is what this one alone has left.
    assert killed.dead > living.dead
    assert SEGMENT_BYTES // 2 < killed.dead_bytes - living.dead_bytes < 2 * SEGMENT_BYTES


def test_a_node_that_finds_no_place_for_images_says_so() -> None:
    """In a mount namespace whose /dev/shm is as small as Docker makes it."""
    pytest.importorskip("rclpy", reason="needs rclpy")
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    small = f"mount -t tmpfs -o size=64m tmpfs {FOLDER}"
    if subprocess.run(["unshare", "-m", "sh", "-c", small], capture_output=True).returncode:
        pytest.skip("needs a mount namespace")
    clean = {k: v for k, v in os.environ.items() if k not in (FAST_DDS_VARIABLE, FAST_DDS_2_VARIABLE)}
    node = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", f'{small} && exec {sys.executable} -c "$0"', NODE],
        stderr=subprocess.PIPE,
        text=True,
        env=clean,
    )
    assert node.stderr is not None
    with node.stderr:
        # It comes before Fast DDS's own words, which have SHM in them too.
        said = next((line for line in node.stderr if "shm" in line.lower()), "")
        node.send_signal(signal.SIGINT)
        node.stderr.read()
    assert node.wait(30) == 0
    assert "of 67 MB free, but Fast DDS needs 75 MB a process" in said and "--shm-size=1g" in said


GIB = 1 << 30


@pytest.mark.parametrize(
    ("memory", "severity", "says"),
    [
        (SharedMemory(16 * GIB, 8 * GIB, 0, 0), Severity.OK, ""),
        (SharedMemory(16 * GIB, 8 * GIB, 9, GIB), Severity.OK, ""),
        (SharedMemory(16 * GIB, 8 * GIB, 90, 4 * GIB), Severity.WARNING, "fastdds shm clean"),
        (SharedMemory(16 * GIB, 1 << 20, 200, 15 * GIB), Severity.PROBLEM, "fastdds shm clean"),
        (SharedMemory(1 << 26, 1 << 26, 0, 0), Severity.PROBLEM, "--ipc=host"),
    ],
)
def test_the_doctor_tells_what_to_do(memory: SharedMemory, severity: Severity, says: str) -> None:
    samples = Samples("live", transport=Transport("rmw_fastrtps_cpp", "", False, memory))
    (finding,) = check_shared_memory(samples)
    assert finding.severity == severity and says in finding.fix
    other = Samples("live", transport=Transport("rmw_cyclonedds_cpp", "", False, memory))
    assert list(check_shared_memory(other)) == []
