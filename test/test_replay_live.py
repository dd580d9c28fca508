# SPDX-License-Identifier: Apache-2.0
"""A recording through the node over DDS and through the offline replay: the same depth, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from rclpy.serialization import deserialize_message
from ros_helpers import Listener, NodeProcess
from sensor_msgs.msg import CameraInfo, CompressedImage

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.bag import BagReader, BagWriter
from depth_sr_ros.demo_sequence import COLOR_INFO_TOPIC, COLOR_TOPIC, DEPTH_TOPIC, SHIPPED_SEQUENCE
from depth_sr_ros.models.native import is_built
from depth_sr_ros.replay import Samples, replay
from depth_sr_ros.replay_frames import ReplaySettings

pytestmark = pytest.mark.alone

FRAMES = 4
TYPES = {COLOR_INFO_TOPIC: CameraInfo, COLOR_TOPIC: CompressedImage, DEPTH_TOPIC: CompressedImage}
BASES = {
    "rgb/image": COLOR_TOPIC.removesuffix("/compressed"),
    "rgb/camera_info": COLOR_INFO_TOPIC,
    "depth/image": DEPTH_TOPIC.removesuffix("/compressed"),
}
COMPRESSED = {"input.rgb_transport": "compressed", "input.depth_transport": "compressed"}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of the shipped one, without its truth."""
    path = tmp_path_factory.mktemp("replay") / "bag"
    with BagReader(SHIPPED_SEQUENCE) as bag, BagWriter(path) as out:
        for message in bag.messages(list(TYPES)):
            if message.time_ns < FRAMES * 10**9 // 15:
                out.write(message.topic, message.msgtype, message.time_ns, message.raw)
    return path


class AnswerKeeper(Samples):
    """Keeps every answer of a replay, by its stamp."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[int, np.ndarray] = {}

    def add(self, score: float, frame: object, answer: np.ndarray) -> None:
        self.answers[frame.stamp_ns] = answer  # type: ignore[attr-defined]


@pytest.mark.parametrize("runtime", ["native", "torch"])
def test_live_and_offline_agree_to_the_bit(recording: Path, runtime: str) -> None:
    if runtime == "native" and not is_built():
        pytest.skip("the kernels are not built here")
    offline = AnswerKeeper()
    resolver = DepthSuperResolver(device="cpu", threads=1, runtime=runtime, precision="float32")
    replay(ReplaySettings(recording, baselines=False), resolver, offline)
    assert len(offline.answers) == FRAMES

    engine = {"device": "cpu", "engine.runtime": runtime, "engine.threads": 1, "engine.precision": "float32"}
    remapped = [part for name, topic in BASES.items() for part in ("-r", f"{name}:={topic}")]
    listener = Listener()
    publishers = {topic: listener.node.create_publisher(kind, topic, 10) for topic, kind in TYPES.items()}
    with NodeProcess({**COMPRESSED, **engine}, remapped) as node, BagReader(recording) as bag:
        listener.wait_for_node(node)
        listener.wait_for_camera(node)
        for message in bag.messages():
            publishers[message.topic].publish(deserialize_message(message.raw, TYPES[message.topic]))
            if message.topic == DEPTH_TOPIC:
                # One at a time: the newest would win, and all of them are wanted.
                listener.image_with(message.time_ns, node)
    live = {image.stamp_ns: image.metres() for image in listener.images}
    listener.close()
    assert live.keys() == offline.answers.keys()
    for stamp, answer in offline.answers.items():
        np.testing.assert_array_equal(live[stamp], answer)
