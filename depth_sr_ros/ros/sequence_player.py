# SPDX-License-Identifier: Apache-2.0
"""Plays prepared RGB-D frames at a rate, as a camera driver would, once everybody listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from depth_sr_ros.errors import DataError
from depth_sr_ros.ros.messages import header, image_message

CONNECTED_KEYS = ("rgb_publishers", "info_publishers", "depth_publishers")
WAIT_STEP_S = 0.05


class Frame(NamedTuple):
    """What a camera sees at one moment."""

    rgb: npt.NDArray[np.uint8]
    """HxWx3, red first."""
    depth: npt.NDArray[Any]
    """hxw: float32 metres (sent as 32FC1) or uint16 millimetres (16UC1)."""
    stamp_ns: int


class Sent(NamedTuple):
    """When a frame went out."""

    stamp_ns: int
    sent_ns: int
    """Before the first of its messages, by the steady clock that all processes of a machine share."""


class SequencePlayer(Node):
    """Publishes `rgb/image`, `rgb/camera_info` and `depth/image`, relative, so that they can be remapped.

    Args:
        info: the CameraInfo of the RGB images; its header is replaced.
        frame_id: of all messages.
        qos: of all publishers; best effort as camera drivers by default.
    """

    def __init__(
        self,
        info: CameraInfo,
        frame_id: str = "camera_color_optical_frame",
        qos: QoSProfile = qos_profile_sensor_data,
        name: str = "sequence_player",
        namespace: str = "",
    ) -> None:
        super().__init__(name, namespace=namespace)
        self._info = info
        self._frame_id = frame_id
        self.rgb_publisher = self.create_publisher(Image, "rgb/image", qos)
        self.info_publisher = self.create_publisher(CameraInfo, "rgb/camera_info", qos)
        self.depth_publisher = self.create_publisher(Image, "depth/image", qos)
        self._outputs = (self.rgb_publisher, self.info_publisher, self.depth_publisher)
        self._heard: dict[str, int] = {}
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def wait_until_heard(
        self, timeout_s: float = 30.0, is_stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until a depth_sr node is connected, by this side's endpoints and the node's diagnostics.

        `is_stopped` ends the wait: the caller asks it again to know.
        Each side discovers the other by itself: a best-effort message that is sent when only the publisher
        has is lost. Raises DataError when `timeout_s` is over.
        """
        executor = SingleThreadedExecutor()
        executor.add_node(self)
        deadline = time.monotonic() + timeout_s
        try:
            while not self._is_heard() and not is_stopped():
                if time.monotonic() > deadline:
                    names = ", ".join(publisher.topic_name for publisher in self._outputs)
                    raise DataError(
                        f"no depth_sr node listens to {names} after {timeout_s:g} s: start one, or remap"
                    )
                executor.spin_once(timeout_sec=WAIT_STEP_S)
        finally:
            executor.remove_node(self)
            executor.shutdown()

    def play(
        self, frames: Iterable[Frame], rate_hz: float, go_on: Callable[[], bool] = lambda: True
    ) -> Iterator[Sent]:
        """Publish at `rate_hz` by the steady clock, a frame per step of the iteration; `go_on` can end it."""
        start = time.monotonic()
        for index, frame in enumerate(frames):
            time.sleep(max(0.0, start + index / rate_hz - time.monotonic()))
            if not go_on():
                return
            yield self.send(frame)

    def send(self, frame: Frame) -> Sent:
        """Publish one frame now."""
        head = header(frame.stamp_ns, self._frame_id)
        rgb = image_message(frame.rgb, "rgb8", head)
        depth = image_message(frame.depth, "16UC1" if frame.depth.dtype == np.uint16 else "32FC1", head)
        self._info.header = head
        sent_ns = time.monotonic_ns()
        self.info_publisher.publish(self._info)
        self.rgb_publisher.publish(rgb)
        self.depth_publisher.publish(depth)
        return Sent(frame.stamp_ns, sent_ns)

    def _is_heard(self) -> bool:
        here = all(publisher.get_subscription_count() for publisher in self._outputs)
        return here and all(self._heard.get(key, 0) for key in CONNECTED_KEYS)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._heard.update({v.key: int(v.value) for v in status.values if v.key in CONNECTED_KEYS})
