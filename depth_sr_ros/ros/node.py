# SPDX-License-Identifier: Apache-2.0
"""The node `depth_sr`: pairs RGB and depth, super-resolves the newest pair, publishes the result."""

from __future__ import annotations

import copy
import itertools
import os
import sys
import threading
import time
import traceback
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo, Image

from depth_sr_ros.camera import resized_camera_info
from depth_sr_ros.errors import ConfigError, FrameError
from depth_sr_ros.image_codec import depth_view, encode_depth, rgb_view, row_bytes
from depth_sr_ros.mailbox import Mailbox
from depth_sr_ros.pairing import FramePairer, Pair
from depth_sr_ros.ros import params
from depth_sr_ros.ros.diagnostics import diagnostic_array, log_line
from depth_sr_ros.ros.messages import to_nanoseconds
from depth_sr_ros.stats import Rate, Throttle, Window
from depth_sr_ros.worker import EngineWorker, WorkerCounts

RCLError = rclpy_implementation.RCLError

# What rclpy raises, by version and value, for a QoS override that cannot be.
QOS_ERRORS = (RuntimeError, AssertionError, AttributeError, TypeError, ValueError)

POLL_PERIOD_S = 0.05
DIAGNOSTICS_PERIOD_S = 1.0
# Best effort as SensorData, which is what drivers offer, but deeper: 0.3 s at 30 Hz for a busy machine.
INPUT_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
# Reliable, volatile, keep last: a best-effort publisher is invisible to a default RViz.
OUTPUT_QOS = QoSProfile(depth=5)

# (rgb, depth, channel_order=, depth_unit_m=) -> metres, as depth_sr_ros.engine.DepthSuperResolver
Engine = Any


class _Job(NamedTuple):
    pair: Pair
    complete: float  # steady seconds at which the pair was complete


def load_engine(values: dict[str, Any]) -> Engine:
    """The engine that the parameters ask for, warmed up; raises ConfigError or CheckpointError."""
    from depth_sr_ros.engine import DepthSuperResolver  # torch takes seconds: not before parameters are good

    # One core is left to the threads of DDS and to the callbacks.
    threads = values["engine.threads"] or max(1, len(os.sched_getaffinity(0)) - 1)
    engine = DepthSuperResolver(
        values["checkpoint"] or None,
        variant=values["variant"],
        device=values["device"],
        threads=threads,
        guide_path=values["guide.path"] or None,
    )
    engine.warm_up(tuple(values["warmup.rgb_size"]), tuple(values["warmup.depth_size"]))
    return engine


class DepthSRNode(Node):
    """A plain node with the steps of a managed one: `configure`, `activate`, `deactivate`, `cleanup`.

    `make_engine` gets the parameters and returns the engine; it runs on the worker's thread.
    """

    def __init__(
        self, make_engine: Callable[[dict[str, Any]], Engine] = load_engine, **node_options: Any
    ) -> None:
        try:
            super().__init__("depth_sr", automatically_declare_parameters_from_overrides=True, **node_options)
        except ValueError as error:  # an override whose type nobody can tell, such as an empty list
            raise ConfigError(f"a parameter cannot be used: {error}") from error
        self.failed = threading.Event()
        self._make_engine = make_engine
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._mailbox: Mailbox[_Job] = Mailbox()
        self._rates = {name: Rate() for name in ("rgb", "depth", "output")}
        self._times = {name: Window() for name in ("latency", "wait", "decode", "network", "publish")}
        self._offsets = Window()
        self._throttle = Throttle()
        self._published = self._publish_errors = 0
        self._last_error = ""
        self._engine_text = self._device = ""
        self._rgb_info: CameraInfo | None = None
        self._out = Image(is_bigendian=sys.byteorder == "big")
        self._buffer: array | None = None
        self._inputs: list[Any] = []
        self._poll_timer: Timer | None = None
        self._worker: EngineWorker[Engine, _Job] | None = None

    # Steps of the lifecycle, in order. They raise DepthSRError; the caller logs it.

    def configure(self) -> None:
        """Check the parameters, advertise the outputs, load and warm up the engine; blocks until ready."""
        values = params.declare(self)
        self._encoding = values["output.encoding"]
        self._pairer = FramePairer(
            values["sync.key"], values["sync.slop"], values["sync.queue_size"], values["sync.max_wait"]
        )
        self._worker = EngineWorker(
            lambda: self._load(values), self._mailbox, self._super_resolve, self._on_bad, self._on_error
        )
        self._advertise()
        self.get_logger().info(f"loading the network: variant {values['variant']}")
        self._worker.start()
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=self._steady)
        if values["log.period"]:
            self.create_timer(values["log.period"], self._log_counters, clock=self._steady)

    def activate(self) -> None:
        """Subscribe to the inputs."""
        self._inputs = [
            self._subscribe(Image, "rgb/image", self._on_rgb),
            self._subscribe(CameraInfo, "rgb/camera_info", self._on_rgb_info),
            self._subscribe(Image, "depth/image", self._on_depth),
        ]
        self._poll_timer = self.create_timer(POLL_PERIOD_S, self._poll, clock=self._steady)
        params.check_qos_overrides(self)
        names = ", ".join(subscription.topic_name for subscription in self._inputs)
        self.get_logger().info(f"ready: {self._engine_text}; listening to {names}")

    def deactivate(self) -> None:
        """Unsubscribe and drop what waits for a partner."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self._poll_timer is not None:
            self.destroy_timer(self._poll_timer)
            self._poll_timer = None
            self._pairer.clear()

    def cleanup(self) -> None:
        """Join the worker; safe at any time."""
        try:
            self.deactivate()
        finally:
            if self._worker is not None:
                self._worker.stop()

    # Executor thread: callbacks only push.

    def _on_rgb(self, message: Image) -> None:
        self._rates["rgb"].tick()
        self._hand_over(self._pairer.push_rgb(to_nanoseconds(message.header.stamp), message))

    def _on_depth(self, message: Image) -> None:
        self._rates["depth"].tick()
        self._hand_over(self._pairer.push_depth(to_nanoseconds(message.header.stamp), message))

    def _on_rgb_info(self, message: CameraInfo) -> None:
        self._rgb_info = message

    def _poll(self) -> None:
        self._hand_over(self._pairer.poll())

    def _hand_over(self, pairs: list[Pair]) -> None:
        now = time.monotonic()
        for pair in pairs:
            self._offsets.add((pair.rgb_stamp - pair.depth_stamp) / 1e6)
            self._mailbox.put(_Job(pair, now))

    def _publish_diagnostics(self) -> None:
        name = f"{self.get_fully_qualified_name()}: pipeline"
        stamp = self.get_clock().now().to_msg()
        self._try_publish(self._diagnostics, diagnostic_array(name, self.snapshot(), stamp))

    def _log_counters(self) -> None:
        self.get_logger().info(log_line(self.snapshot()))

    # Worker thread.

    def _load(self, values: dict[str, Any]) -> Engine:
        engine = self._make_engine(values)
        self._engine_text, self._device = str(engine.description), str(engine.device)
        return engine

    def _super_resolve(self, engine: Engine, job: _Job) -> None:
        taken = time.monotonic()
        rgb, order = rgb_view(job.pair.rgb)
        depth, unit = depth_view(job.pair.depth)
        decoded = time.monotonic()
        metres = engine(rgb, depth, channel_order=order, depth_unit_m=unit)
        inferred = time.monotonic()
        self._buffer = encode_depth(metres, self._encoding, self._buffer)
        self._publish(job.pair.rgb, metres.shape)
        done = time.monotonic()
        marks = (job.complete, taken, decoded, inferred, done)
        spans = [done - job.complete, *(end - start for start, end in itertools.pairwise(marks))]
        for window, span in zip(self._times.values(), spans, strict=True):
            window.add(span * 1e3)

    def _publish(self, rgb: Image, shape: tuple[int, int]) -> None:
        out, info = self._out, self._rgb_info
        out.header = rgb.header
        out.height, out.width = shape
        out.encoding = self._encoding
        out.step = row_bytes(self._encoding, out.width)
        out.data = self._buffer
        if not self._try_publish(self._image_publisher, out):
            self._publish_errors += 1
            return
        self._published += 1
        self._rates["output"].tick()
        if info is not None:
            info = resized_camera_info(info, (rgb.width, rgb.height), (out.width, out.height))
            info.header = rgb.header
            self._try_publish(self._info_publisher, info)

    def _try_publish(self, publisher: Publisher, message: Any) -> bool:
        try:
            publisher.publish(message)
        except RCLError as error:  # under a flood the middleware refuses a message now and then
            self._report(f"publishing on {publisher.topic_name} failed: {error}")
            return False
        return True

    def _on_bad(self, error: FrameError) -> None:
        self._report(f"bad frame: {error}")

    def _on_error(self, error: Exception) -> None:
        self._last_error = f"{type(error).__name__}: {error}"
        self.get_logger().fatal("the network failed:\n" + "".join(traceback.format_exception(error)))
        self.failed.set()

    def _report(self, text: str) -> None:
        self._last_error = text
        times = self._throttle.admit(text)
        if times:
            self.get_logger().warning(text if times == 1 else f"{text} ({times} times)")

    # Shared.

    def snapshot(self) -> dict[str, Any]:
        """Counters, rates (Hz), times (ms) and the engine, flat. Exact on the executor's thread:

        received = paired + unpaired + evicted + queued for each stream, and
        pairs = overwritten + waiting + processing + published + publish_errors + bad + failed.
        """
        publish_errors, published = self._publish_errors, self._published
        worker = self._worker.counts() if self._worker else WorkerCounts(0, 0, 0)
        mailbox, pairing = self._mailbox.counts(), self._pairer.counts()
        out: dict[str, Any] = {}
        for name, stream in (("rgb", pairing.rgb), ("depth", pairing.depth)):
            out |= {f"{name}_{key}": value for key, value in stream._asdict().items()}
        ended = published + publish_errors + worker.bad + worker.failed
        out |= {"pairs": pairing.pairs, "reused": pairing.reused, "resets": pairing.resets}
        out |= {"overwritten": mailbox.overwritten, "waiting": mailbox.waiting}
        out |= {"processing": mailbox.taken - ended, "published": published, "publish_errors": publish_errors}
        out |= {"bad": worker.bad, "failed": worker.failed}
        out |= self._publisher_counts()
        out |= {f"{name}_hz": rate.hz() for name, rate in self._rates.items()}
        for name, window in self._times.items():
            times = window.percentiles()
            out |= {f"{name}_p50_ms": times.p50, f"{name}_p95_ms": times.p95, f"{name}_max_ms": times.max}
        out |= {"sync_offset_p50_ms": self._offsets.percentiles().p50}
        out |= {"device": self._device, "engine": self._engine_text, "last_error": self._last_error}
        return out

    def _publisher_counts(self) -> dict[str, int]:
        """How many publishers each input is connected to."""
        matched = [self._matched(subscription) for subscription in self._inputs] or [0, 0, 0]
        names = ("rgb_publishers", "info_publishers", "depth_publishers")
        return dict(zip(names, matched, strict=True))

    def _matched(self, subscription: Any) -> int:
        # Humble's rclpy has no count of matched publishers, only one of those that the graph knows.
        matched = getattr(subscription, "get_publisher_count", None)
        return matched() if matched else self.count_publishers(subscription.topic_name)

    def _advertise(self) -> None:
        self._image_publisher = self._entity(self.create_publisher, Image, "~/depth/image", OUTPUT_QOS)
        self._info_publisher = self._entity(
            self.create_publisher, CameraInfo, "~/depth/camera_info", OUTPUT_QOS
        )
        self._diagnostics = self._entity(self.create_publisher, DiagnosticArray, "/diagnostics", 10)

    def _subscribe(self, kind: type, topic: str, callback: Callable) -> Any:
        return self._entity(self.create_subscription, kind, topic, callback, INPUT_QOS)

    def _entity(self, create: Callable, kind: type, topic: str, *arguments: Any) -> Any:
        """A publisher or subscription with user overrides of its QoS; ConfigError on an impossible one."""
        try:
            # rclpy writes the overrides into the profile, which others use too.
            *callback, qos = arguments
            options = QoSOverridingOptions.with_default_policies()
            return create(kind, topic, *callback, copy.copy(qos), qos_overriding_options=options)
        except (*QOS_ERRORS, ParameterException, InvalidQosOverridesError) as error:
            told = isinstance(error, (RuntimeError, ParameterException, InvalidQosOverridesError))
            reason = str(error) if told else "a value has the wrong type"
            name = self.resolve_topic_name(topic)
            raise ConfigError(f"the qos_overrides of {name} cannot be used: {reason}") from error
