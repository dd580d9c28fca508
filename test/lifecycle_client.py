# SPDX-License-Identifier: Apache-2.0
"""What the live tests say to the node: transitions and parameters through its services, and small frames."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from ros_helpers import Listener, NodeProcess, PythonProcess, Received

from depth_sr_ros.ros.messages import NS_PER_S, pinhole_camera_info
from depth_sr_ros.ros.sequence_player import Frame, SequencePlayer

# Small images: these tests are about messages, and share two cores with the network.
WIDTH, HEIGHT, SCALE = 160, 96, 4
FRAME_ID = "robot_camera_color_optical_frame"
OPTICS = ((150.0, 150.5), (79.5, 47.5))
SIZES: dict[str, object] = {
    "warmup.rgb_size": f"[{WIDTH},{HEIGHT}]",
    "warmup.depth_size": f"[{WIDTH // SCALE},{HEIGHT // SCALE}]",
}
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "shutdown unconfigured": Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    "shutdown inactive": Transition.TRANSITION_INACTIVE_SHUTDOWN,
    "shutdown active": Transition.TRANSITION_ACTIVE_SHUTDOWN,
}
SERVICES = {
    ChangeState: "change_state",
    GetState: "get_state",
    GetAvailableTransitions: "get_available_transitions",
    GetParameters: "get_parameters",
    SetParameters: "set_parameters",
    SetParametersAtomically: "set_parameters_atomically",
}
SERVICE_TIMEOUT_S = 60.0

_frames = itertools.count(1)


class NodeClient:
    """Calls the services of a node `depth_sr` from a listener's process."""

    def __init__(self, listener: Listener, process: PythonProcess, namespace: str = "") -> None:
        self._listener, self._process = listener, process
        topic = f"{namespace}/depth_sr"
        node = listener.node
        self._clients = {kind: node.create_client(kind, f"{topic}/{name}") for kind, name in SERVICES.items()}
        # Made after the clients, and discovered by the node after them: who gets a report will get answers.
        # That a client sees its service says nothing about the way back.
        self._connected = False
        self._status_name = f"{topic}: pipeline"
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)

    def _on_report(self, message: DiagnosticArray) -> None:
        self._connected |= any(status.name == self._status_name for status in message.status)

    def start(self, kind: type, request: Any) -> Any:
        """Send a request, once the service is there; returns the future."""
        client = self._clients[kind]
        self._listener.spin_until(
            lambda: self._connected and client.service_is_ready(), SERVICE_TIMEOUT_S, self._process
        )
        return client.call_async(request)

    def call(self, kind: type, request: Any) -> Any:
        """Send a request; returns the response."""
        future = self.start(kind, request)
        self._listener.spin_until(future.done, SERVICE_TIMEOUT_S, self._process)
        return future.result()

    def start_change(self, transition: str) -> Any:
        """Ask for a transition (a key of TRANSITIONS); returns the future of the response."""
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
        return self.start(ChangeState, request)

    def change(self, transition: str) -> bool:
        """Whether a transition succeeded."""
        future = self.start_change(transition)
        self._listener.spin_until(future.done, SERVICE_TIMEOUT_S, self._process)
        return future.result().success

    @property
    def state(self) -> str:
        return self.call(GetState, GetState.Request()).current_state.label

    @property
    def transitions(self) -> set[str]:
        """The labels of those that are possible now."""
        response = self.call(GetAvailableTransitions, GetAvailableTransitions.Request())
        return {described.transition.label for described in response.available_transitions}

    def set(self, name: str, value: Any) -> tuple[bool, str]:
        """Set one parameter, as `ros2 param set`: whether it was taken, and the reason why not."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (result,) = self.call(SetParameters, request).results
        return result.successful, result.reason

    def set_together(self, values: dict[str, Any]) -> tuple[bool, str]:
        """Set all or none."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParametersAtomically.Request(parameters=parameters)
        result = self.call(SetParametersAtomically, request).result
        return result.successful, result.reason

    def get(self, name: str) -> Any:
        """A parameter's value, as `ros2 param get`."""
        (value,) = self.call(GetParameters, GetParameters.Request(names=[name])).values
        return parameter_value_to_python(value)


class Topic(NamedTuple):
    """The messages of one topic, and the subscription that brings them."""

    messages: list[Any]
    subscription: Subscription


def collect(
    listener: Listener,
    kind: type,
    topic: str,
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE,
) -> Topic:
    """Subscribe in the listener's process; ends when the listener is closed, or by `drop`."""
    messages: list[Any] = []
    qos = QoSProfile(depth=10, reliability=reliability)
    return Topic(messages, listener.node.create_subscription(kind, topic, messages.append, qos))


def drop(listener: Listener, topic: Topic) -> None:
    """Unsubscribe."""
    listener.node.destroy_subscription(topic.subscription)


def save_untrained(folder: Path, confidence: bool = False) -> Path:
    """An untrained edge network: its last layer is zero, so the output is the upsampled input."""
    from depth_sr_ros.config import model_config
    from depth_sr_ros.models.checkpoint import save_checkpoint
    from depth_sr_ros.models.depth_sr import DepthSRNet

    path = folder / "untrained.safetensors"
    net = DepthSRNet(model_config("edge", confidence=confidence))
    save_checkpoint(path, net, training={}, metrics={}, version="test")
    return path


class Rig(NamedTuple):
    """A node in a process of its own, one here that listens to it, and a camera of small images."""

    node: NodeProcess
    listener: Listener
    client: NodeClient
    camera: SequencePlayer


@contextmanager
def running(
    start: Callable[[list[str]], NodeProcess], namespace: str = "", outputs: bool = True
) -> Iterator[Rig]:
    """Starts a node and a camera; those that run at once need different namespaces.

    `start` gets ROS arguments. With `outputs` false nobody listens to the node's outputs yet.
    """
    name = namespace.strip("/") or "root"
    listener = Listener(namespace, f"{name}_listener", outputs=outputs)
    camera = SequencePlayer(
        pinhole_camera_info((WIDTH, HEIGHT), *OPTICS), FRAME_ID, name="camera", namespace=namespace
    )
    try:
        with start(["-r", f"__ns:={namespace}"] if namespace else []) as node:
            yield Rig(node, listener, NodeClient(listener, node, namespace), camera)
    finally:
        listener.close()
        camera.destroy_node()


def next_stamp() -> int:
    """Nanoseconds that go on by 100 ms and a bit from frame to frame."""
    return 1_700_000_000 * NS_PER_S + next(_frames) * 100_000_007


def rgb_pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def plane(metres: float = 2.0) -> np.ndarray:
    return np.full((HEIGHT // SCALE, WIDTH // SCALE), metres, np.float32)


def small_frame(metres: float = 2.0) -> Frame:
    return Frame(rgb_pixels(), plane(metres), next_stamp())


def send_until(rig: Rig, condition: Callable[[], object], send: Callable[[], object] | None = None) -> None:
    """Send frames until `condition` holds: what is sent before both sides are connected is lost."""
    deadline = time.monotonic() + SERVICE_TIMEOUT_S
    while not condition():
        if not rig.node.is_running or time.monotonic() > deadline:
            pytest.fail(f"sent in vain; {rig.listener.values}; the process printed:\n{rig.node.output}")
        if send is None:
            rig.camera.send(small_frame())
        else:
            send()
        rig.listener.reached(condition, 0.2, rig.node)


def answer(rig: Rig) -> Received:
    """A frame goes through the node, once everything is connected; returns the output."""
    before = len(rig.listener.images)
    send_until(rig, lambda: len(rig.listener.images) > before)
    return rig.listener.images[-1]
