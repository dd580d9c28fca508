# SPDX-License-Identifier: Apache-2.0
"""Listens to a node's output, diagnostics and timing for a measurement; the caller's thread serves it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image
from std_msgs.msg import UInt32

from depth_sr_ros.ros.endpoints import publisher_count
from depth_sr_ros.ros.messages import to_nanoseconds
from depth_sr_ros.ros.synthetic_camera import PLAYED_QOS, PLAYED_TOPIC

OUTPUT_TOPIC = "/depth_sr/depth/image"
TIMING_TOPIC = "/depth_sr/timing"
STATUS_NAME = "/depth_sr: pipeline"
SPIN_TIMEOUT_S = 0.05
# After the last frame: when nothing comes any more, what is missing was lost.
SILENCE_S = 2.0
IMAGE_QOS = QoSProfile(depth=30)

# What changes from one report to the next while frames go through.
MOVING = ("rgb_received", "depth_received", "waiting", "processing", "published", "bad")

Counters = Mapping[str, int]


class Probe:
    """Subscribes to images that carry the stamps of synthetic_camera.

    Args:
        topic: of the images.
        timing: whether to listen to the node's ~/timing too.
        on_counters: told of the counters of each diagnostics report.
    """

    def __init__(
        self,
        topic: str = OUTPUT_TOPIC,
        timing: bool = False,
        on_counters: Callable[[Counters], None] = lambda counters: None,
    ) -> None:
        self.latencies_ms: list[float] = []
        """From the stamp to the arrival of each image."""
        self.timings: list[dict[str, float]] = []
        """By frame: milliseconds by stage."""
        self.values: dict[str, str] = {}
        self.reports = 0
        self.last_report = self.last_image = time.monotonic()
        self.sent: int | None = None
        """Frames sent, once the camera has sent all."""
        self._is_resting = False
        self._on_counters = on_counters
        self._node = Node("depth_sr_probe")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        subscribe = self._node.create_subscription
        self._images: list[Subscription] = [subscribe(Image, topic, self._on_image, IMAGE_QOS)]
        if timing:
            self._images.append(subscribe(DiagnosticArray, TIMING_TOPIC, self._on_timing, IMAGE_QOS))
        subscribe(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._played: Subscription | None = None

    @property
    def counters(self) -> dict[str, int]:
        """The whole numbers of the last report."""
        return {key: int(value) for key, value in self.values.items() if value.lstrip("-").isdigit()}

    @property
    def received(self) -> int:
        """Images that have arrived."""
        return len(self.latencies_ms)

    def spin_once(self) -> None:
        """Serve what has come, or wait a moment; lets the camera begin once the images are connected."""
        self._executor.spin_once(timeout_sec=SPIN_TIMEOUT_S)
        if self._played is None and all(publisher_count(self._node, image) for image in self._images):
            self._played = self._node.create_subscription(UInt32, PLAYED_TOPIC, self._on_played, PLAYED_QOS)

    def wait(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Serve until `condition` holds; False when the time is over."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.spin_once()
        return True

    def settle(self, node: bool, timeout_s: float = 20.0) -> bool:
        """After the camera's last frame: serve until all is answered or lost; False when the time is over.

        `node`: whether a depth_sr node is in between: then its counters must have come to rest.
        """

        def settled() -> bool:
            expected = self.counters["published"] if node else self.sent
            silent = time.monotonic() - self.last_image > SILENCE_S
            return (self._is_resting or not node) and (self.received == expected or silent)

        return self.wait(settled, timeout_s)

    def close(self) -> None:
        """Destroy all of it."""
        self._executor.shutdown()
        self._node.destroy_node()

    def _on_image(self, message: Image) -> None:
        now = time.monotonic_ns()
        self.last_image = now / 1e9
        self.latencies_ms.append((now - to_nanoseconds(message.header.stamp)) / 1e6)

    def _on_timing(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.timings.append({v.key.removesuffix("_ms"): float(v.value) for v in status.values})

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == STATUS_NAME:
                before = self.counters
                self.values = {value.key: value.value for value in status.values}
                self._is_resting = all(before.get(key) == self.counters.get(key) for key in MOVING)
                self.reports += 1
                self.last_report = time.monotonic()
                self._on_counters(self.counters)

    def _on_played(self, message: UInt32) -> None:
        self.sent = message.data
        self._is_resting = False
