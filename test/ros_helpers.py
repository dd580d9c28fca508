# SPDX-License-Identifier: Apache-2.0
"""What the live tests share: the node as a process, and a listener that waits for what it publishes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image

from depth_sr_ros.image_codec import depth_view
from depth_sr_ros.ros import dds
from depth_sr_ros.ros.messages import to_nanoseconds

REPO_ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0


def start_ros() -> None:
    """rclpy in this process, with the shared-memory profile; the domain is conftest's."""
    if not rclpy.ok():
        dds.prepare_process()
        rclpy.init()


def has_ended(pid: int) -> bool:
    """Whether a process has ended, fetched by its parent or not."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


class PythonProcess:
    """A Python process with its output in a file; killed at the end of the `with` block if it still runs."""

    def __init__(self, arguments: Sequence[str | Path]) -> None:
        self._log = tempfile.NamedTemporaryFile(prefix="depth_sr_test_")  # noqa: SIM115 - closed in __exit__
        # The process is to set its DDS profile by itself, and not to inherit this one's.
        environment = {k: v for k, v in os.environ.items() if k != dds.FAST_DDS_VARIABLE}
        path = (str(REPO_ROOT), os.environ.get("PYTHONPATH", ""))
        environment["PYTHONPATH"] = os.pathsep.join(part for part in path if part)
        self._process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> PythonProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything it has printed until now, stdout and stderr together."""
        return Path(self._log.name).read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait_for_output(self, text: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Until it has printed `text`; fails the test with its output when it does not, or ends before."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output:
            if not self.is_running or time.monotonic() > deadline:
                pytest.fail(f"the process did not print {text!r} but:\n{self.output}")
            time.sleep(0.02)

    def wait_for_children(self, *parts: str) -> dict[int, str]:
        """Until it has a child for each part of a command line; returns process ids and command lines."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            found = {int(pid): Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids}
            if all(any(part in line for line in found.values()) for part in parts):
                return found
            assert self.is_running and time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Its exit code; fails the test with its output when it does not end."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the process did not end within {timeout_s:g} s:\n{self.output}")


class NodeProcess(PythonProcess):
    """The real executable, with ROS parameters and further ROS arguments."""

    program: tuple[str, ...] = ("-m", "depth_sr_ros.ros.main")

    def __init__(
        self, parameters: dict[str, object] | None = None, ros_arguments: Sequence[str] = ()
    ) -> None:
        assignments = [part for item in (parameters or {}).items() for part in ("-p", "{}:={}".format(*item))]
        super().__init__([*self.program, "--ros-args", *assignments, *ros_arguments])


class EngineProcess(NodeProcess):
    """The node with an engine that needs no torch and so starts at once; see engine_process.py.

    Args:
        kind: `slow` (seconds for each frame), `breaks` (after so many frames) or `loads` (seconds to load).
    """

    def __init__(
        self,
        kind: str = "slow",
        amount: float = 0.0,
        parameters: dict[str, object] | None = None,
        ros_arguments: Sequence[str] = (),
    ) -> None:
        self.program = (str(REPO_ROOT / "test" / "engine_process.py"), kind, str(amount))
        super().__init__(parameters, ros_arguments)


class Received:
    """One output image: the message, its stamp, and when it came (steady clock)."""

    def __init__(self, message: Image) -> None:
        self.message = message
        self.stamp_ns = to_nanoseconds(message.header.stamp)
        self.arrival_ns = time.monotonic_ns()

    def metres(self) -> npt.NDArray[np.float32]:
        """float32 HxW; 0 and NaN are invalid."""
        pixels, unit = depth_view(self.message)
        return pixels.astype(np.float32) * np.float32(unit)


class Listener:
    """Subscribes to what a node `depth_sr` publishes; with `outputs` false to its diagnostics only."""

    def __init__(
        self, namespace: str = "", name: str = "listener", depth: int = 10, outputs: bool = True
    ) -> None:
        start_ros()
        self.images: list[Received] = []
        self.infos: list[CameraInfo] = []
        self.values: dict[str, str] = {}
        self.level, self.message = b"", ""
        self.report_ns = 0
        """Level, message and stamp (the node's clock) of the last report."""
        self.reports = 0
        self.on_report: Callable[[dict[str, str]], object] | None = None
        self.node = Node(name)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        qos = QoSProfile(depth=depth)
        topic = f"{namespace}/depth_sr"
        self._status_name = f"{topic}: pipeline"
        self._outputs: list[Subscription] = []
        if outputs:
            self._outputs = [
                self.node.create_subscription(Image, f"{topic}/depth/image", self._on_image, qos),
                self.node.create_subscription(
                    CameraInfo, f"{topic}/depth/camera_info", self.infos.append, qos
                ),
            ]
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()

    def reached(
        self, condition: Callable[[], object], timeout_s: float, process: PythonProcess | None = None
    ) -> bool:
        """Serve callbacks until `condition` holds; False when the time is over or `process` has ended."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline or (process is not None and not process.is_running):
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def spin_until(
        self, condition: Callable[[], object], timeout_s: float = 40.0, process: PythonProcess | None = None
    ) -> None:
        """Serve callbacks until `condition` holds; fails the test where `reached` says False."""
        if self.reached(condition, timeout_s, process):
            return
        output = f"; the process printed:\n{process.output}" if process else ""
        pytest.fail(f"waited {timeout_s:g} s in vain; diagnostics {self.values}{output}")

    def wait_for_node(self, process: PythonProcess) -> None:
        """Until all outputs are connected and the node reports that it runs."""
        self.spin_until(
            lambda: all(output.get_publisher_count() for output in self._outputs) and self.values,
            START_TIMEOUT_S,
            process,
        )

    def wait_for_camera(self, process: PythonProcess) -> None:
        """Until the node reports a publisher on each of its inputs."""
        names = ("rgb_publishers", "info_publishers", "depth_publishers")
        self.spin_until(lambda: all(int(self.values.get(name, 0)) for name in names), process=process)

    def image_with(self, stamp_ns: int, process: PythonProcess | None = None) -> Received:
        """The output with this stamp; waits for it."""
        found: list[Received] = []

        def arrived() -> bool:
            found[:] = [image for image in self.images if image.stamp_ns == stamp_ns]
            return bool(found)

        self.spin_until(arrived, process=process)
        return found[0]

    def fresh_counters(self) -> dict[str, int]:
        """The counters of a report that comes after this call, at the latest 1 s later."""
        reports = self.reports + 1  # the next report may have been under way
        self.spin_until(lambda: self.reports > reports)
        return {key: int(value) for key, value in self.values.items() if value.lstrip("-").isdigit()}

    def _on_image(self, message: Image) -> None:
        self.images.append(Received(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._status_name:
                self.values = {value.key: value.value for value in status.values}
                self.level, self.message = status.level, status.message
                self.report_ns = to_nanoseconds(message.header.stamp)
                self.reports += 1
                if self.on_report is not None:
                    self.on_report(self.values)
