# SPDX-License-Identifier: Apache-2.0
"""What the node listens to: two images, raw or compressed, and their CameraInfos."""

from __future__ import annotations

import functools
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_sr_ros.ros.endpoints import Endpoints, publisher_count
from depth_sr_ros.ros.params import ParameterGate
from depth_sr_ros.ros.pipeline import Pipeline

# Streams by their names in a snapshot -> subscriptions by their names here.
COUNTED = {"rgb": "rgb", "info": "rgb_info", "depth": "depth"}


class Inputs:
    """The subscriptions of a node, which come and go with the listeners to its outputs."""

    def __init__(self, node: Node, endpoints: Endpoints, gate: ParameterGate) -> None:
        self._node = node
        self._endpoints = endpoints
        self._gate = gate
        self._all: dict[str, Subscription] = {}

    def __bool__(self) -> bool:
        """Whether there is a subscription."""
        return bool(self._all)

    @property
    def topics(self) -> list[str]:
        """The names of those that are subscribed to."""
        return [subscription.topic_name for subscription in self._all.values()]

    def open(self, pipeline: Pipeline) -> None:
        """Subscribe, for `pipeline`; ConfigError on an impossible QoS override, with a part of them made."""
        # The executor serves ready subscriptions in the order of their making: the CameraInfos first, so that
        # no image overtakes the one that came with it.
        for name in ("rgb", "depth"):
            push_info = functools.partial(pipeline.push_info, name)
            self._all[f"{name}_info"] = self._endpoints.subscription(
                CameraInfo, f"{name}/camera_info", push_info
            )
        for name, push in (("rgb", pipeline.push_rgb), ("depth", pipeline.push_depth)):
            kind = Image if self._transport(name) == "raw" else CompressedImage
            self._all[name] = self._endpoints.subscription(kind, self.image_topic(name), push)

    def close(self) -> None:
        """Unsubscribe from all; safe to call again."""
        subscriptions, self._all = self._all, {}
        self._endpoints.destroy(subscriptions.values())

    def image_topic(self, name: str) -> str:
        """Of `rgb` or `depth`. As image_transport has it: the base topic is remapped, the transport's name
        appended.
        """
        topic, transport = self._node.resolve_topic_name(f"{name}/image"), self._transport(name)
        return topic if transport == "raw" else f"{topic}/{transport}"

    def snapshot(self) -> dict[str, Any]:
        """Whether they are there, how many publishers each has, and the images' topics; from any thread."""
        found = dict(self._all)  # a copy: the executor's thread may unsubscribe meanwhile
        out: dict[str, Any] = {"subscribed": bool(found)}
        for key, name in COUNTED.items():
            out[f"{key}_publishers"] = publisher_count(self._node, found[name]) if name in found else 0
        return out | {f"{name}_topic": self.image_topic(name) for name in ("rgb", "depth")}

    def _transport(self, name: str) -> str:
        return self._gate.values[f"input.{name}_transport"]
