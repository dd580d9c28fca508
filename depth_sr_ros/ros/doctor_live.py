# SPDX-License-Identifier: Apache-2.0
"""Samples of live topics for `depth-sr doctor live`: the images, their endpoints, and what gets lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_sr_ros import shared_memory
from depth_sr_ros.bag_pairs import CAMERA_INFO, COMPRESSED, IMAGE, camera_info_topic, stored_as
from depth_sr_ros.doctor.samples import Collector, Endpoint, Samples, Stream, Transport
from depth_sr_ros.doctor.topics import IMAGE_TYPES, Candidate, choose
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.ros import dds
from depth_sr_ros.ros.endpoints import INPUT_QOS, SubscriptionEventCallbacks
from depth_sr_ros.ros.main import StopSignals

SECONDS = (1.0, 600.0)
NAME = "depth_sr_doctor"
# Discovery takes up to about 3 s, on a busy machine longer; then no further topic comes for a second.
DISCOVERY_S, SETTLED_S = 10.0, 1.0
# For the first image of each subscription: endpoints have to find each other before anything comes.
FIRST_IMAGE_S = 10.0
SPIN_S = 0.05
TYPES = {IMAGE: Image, COMPRESSED: CompressedImage}
# As the node's, but deeper: this process decodes nothing while images come, and wants to see all that arrive.
SAMPLING_QOS = QoSProfile(depth=100, reliability=INPUT_QOS.reliability)

Listening = Callable[[list[str]], None]
Progress = Callable[[float], None]


def sample_topics(
    seconds: float,
    rgb: str | None = None,
    depth: str | None = None,
    on_listening: Listening = lambda topics: None,
    on_progress: Progress = lambda done: None,
) -> Samples:
    """Listen to the RGB and the depth topic (`rgb`, `depth`, or the likeliest) for `seconds`.

    They count from when something has come on each of them, or ten seconds of waiting for it are over.
    rclpy is started in this process, fit for images, and shut down again. A signal ends the listening early.
    `on_listening` is told the topics once they are found, `on_progress` the seconds that are over.

    Raises ConfigError where `seconds` is out of range, DataError where a named topic has no images.
    """
    if not SECONDS[0] <= seconds <= SECONDS[1]:
        raise ConfigError(f"seconds is {seconds:g}, but must be between {SECONDS[0]:g} and {SECONDS[1]:g}")
    transport = _transport()
    dds.prepare_process()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signals = StopSignals()
    try:
        return _LiveSampler(transport, signals, on_listening, on_progress).run(seconds, rgb, depth)
    finally:
        rclpy.try_shutdown()


def _transport() -> Transport:
    """What the shell has set, before this process sets it for itself."""
    names = (dds.FAST_DDS_VARIABLE, dds.FAST_DDS_2_VARIABLE)
    return Transport(
        os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"),
        next((os.environ[name] for name in names if os.environ.get(name)), ""),
        os.environ.get(dds.PROFILE_VARIABLE) == "off",
        shared_memory.measure(),
    )


class _LiveSampler:
    """One run: find the topics, look at an image of each candidate, listen to the two that are chosen."""

    def __init__(
        self, transport: Transport, signals: StopSignals, on_listening: Listening, on_progress: Progress
    ) -> None:
        self._node = Node(NAME)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._signals = signals
        self._on_listening, self._on_progress = on_listening, on_progress
        self._samples = Samples(f"live topics, ROS domain {os.environ.get('ROS_DOMAIN_ID', '0')}")
        self._samples.transport = transport
        self._collector = Collector(self._samples)

    def run(self, seconds: float, rgb: str | None, depth: str | None) -> Samples:
        try:
            self._samples.topics = self._discover([topic for topic in (rgb, depth) if topic])
            candidates = self._look_at(rgb, depth)
            for kind, named in (("rgb", rgb), ("depth", depth)):
                chosen, bases = choose(self._samples.source, kind, candidates, named)
                if chosen is not None:
                    stream = Stream(kind, chosen.topic, bases)
                    setattr(self._samples, kind, stream)
                    self._subscribe(stream)
            self._listen(seconds)
            return self._samples
        finally:
            self._executor.shutdown()
            self._node.destroy_node()

    def _discover(self, named: list[str]) -> dict[str, str]:
        """Published topics with their type, once both kinds may be there and no further topic comes."""
        start = changed = time.monotonic()
        topics: dict[str, str] = {}
        while not self._signals.received and (now := time.monotonic()) < start + DISCOVERY_S:
            found = {
                topic: types[0]
                for topic, types in self._node.get_topic_names_and_types()
                if self._node.count_publishers(topic)
            }
            if found != topics:
                topics, changed = found, now
            images = [topic for topic, kind in topics.items() if kind in IMAGE_TYPES]
            enough = set(named) <= topics.keys() and len(images) >= 2
            if enough and now > changed + SETTLED_S:
                break
            self._executor.spin_once(timeout_sec=SPIN_S)
        return topics

    def _look_at(self, rgb: str | None, depth: str | None) -> list[Candidate]:
        """All topics with images, with the encoding of one image of each, where one comes in time."""
        images = {topic: kind for topic, kind in self._samples.topics.items() if kind in IMAGE_TYPES}
        encodings = dict.fromkeys(images, "")
        if rgb is None or depth is None:
            subscriptions: dict[str, Subscription] = {}

            def note(topic: str, message: Any) -> None:
                encodings[topic] = stored_as(message)
                # All images of a robot at once would keep this process from its work.
                subscription = subscriptions.pop(topic, None)
                if subscription is not None:
                    self._node.destroy_subscription(subscription)

            for topic, kind in images.items():
                subscriptions[topic] = self._node.create_subscription(
                    TYPES[kind], topic, partial(note, topic), INPUT_QOS
                )
            self._spin(lambda: not subscriptions, FIRST_IMAGE_S)
            for subscription in subscriptions.values():
                self._node.destroy_subscription(subscription)
        return [Candidate(topic, encoding) for topic, encoding in encodings.items()]

    def _subscribe(self, stream: Stream) -> None:
        def lose(event: Any) -> None:
            stream.lost = event.total_count

        def take(message: Any) -> None:
            self._collector.add_image(stream, time.time_ns(), message)

        self._node.create_subscription(
            TYPES[self._samples.topics[stream.topic]],
            stream.topic,
            take,
            SAMPLING_QOS,
            event_callbacks=SubscriptionEventCallbacks(message_lost=lose),
        )
        info = camera_info_topic(stream.topic)
        if self._samples.topics.get(info) == CAMERA_INFO:
            stream.info_topic = info
            add_info = partial(self._collector.add_info, stream)
            self._node.create_subscription(CameraInfo, info, add_info, INPUT_QOS)

    def _listen(self, seconds: float) -> None:
        self._on_listening([stream.topic for stream in self._samples.streams] or ["nothing"])
        self._spin(self._has_begun, FIRST_IMAGE_S)
        start = time.monotonic()

        def report() -> bool:
            self._on_progress(time.monotonic() - start)
            return not self._samples.streams

        self._spin(report, seconds)
        self._collector.end_segment()
        for stream in self._samples.streams:
            get = self._node.get_publishers_info_by_topic, self._node.get_subscriptions_info_by_topic
            stream.publishers, subscribers = (
                [_endpoint(info) for info in call(stream.topic)] for call in get
            )
            stream.subscribers = [s for s in subscribers if not s.node.endswith(f"/{NAME}")]

    def _has_begun(self) -> bool:
        """Whether something has come on all that is listened to."""
        return all(s.arrivals and (s.info or not s.info_topic) for s in self._samples.streams)

    def _spin(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_done() and not self._signals.received and time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=SPIN_S)


def _endpoint(info: Any) -> Endpoint:
    qos = info.qos_profile
    node = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
    return Endpoint(node, qos.reliability.name.lower(), qos.durability.name.lower())
