# SPDX-License-Identifier: Apache-2.0
"""Malformed messages at live nodes: none dies, each message is answered or rejected just as the codecs say.

The nodes report their counters every 30 ms, so that each case is judged by itself: the test waits until the
node has counted both messages and rests.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="the live tests need rclpy")

import fuzz_messages as fm
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from ros_helpers import Listener, PythonProcess
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_sr_ros.camera import PinholeCamera, output_size
from depth_sr_ros.errors import FrameError
from depth_sr_ros.frame_input import check_frame
from depth_sr_ros.ros.decoding import decode_depth, decode_rgb
from depth_sr_ros.ros.messages import NS_PER_S
from depth_sr_ros.ros.soak_report import broken_identities

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).with_name("fuzz_process.py")
CONNECT_TIMEOUT_S = 120.0
CASE_TIMEOUT_S = 30.0
MAX_SIDE = 56
PARAMETERS: dict[str, object] = {
    "sync.slop": 0.0,
    "sync.max_wait": 60.0,
    "warmup.rgb_size": list(fm.RGB_SIZE),
    "warmup.depth_size": list(fm.DEPTH_SIZE),
    "engine.threads": 1,
    "log.period": 0.0,
}
RAW: dict[str, object] = {"output.max_side": MAX_SIDE}
COMPRESSED: dict[str, object] = {
    "input.rgb_transport": "compressed",
    "input.depth_transport": "compressedDepth",
    "register": True,
    "extrinsics.source": "parameter",
}


class FuzzedNode:
    """A node in a process and its camera in this one; a pair has a stamp 2 s after the last."""

    def __init__(self, name: str, kind: type, topics: tuple[str, str], parameters: dict[str, object]) -> None:
        self.listener = Listener(namespace=f"/{name}", name=f"{name}_listener")
        assignments = [f"{key}:={value}" for key, value in (PARAMETERS | parameters).items()]
        arguments = [part for assignment in assignments for part in ("-p", assignment)]
        self.process = PythonProcess([SCRIPT, "--ros-args", "-r", f"__ns:=/{name}", *arguments])
        self.process.__enter__()
        create, qos = self.listener.node.create_publisher, QoSProfile(depth=10)
        self._images = [create(kind, f"/{name}/{topic}", qos) for topic in topics]
        self._infos = [create(CameraInfo, f"/{name}/{key}/camera_info", qos) for key in ("rgb", "depth")]
        self._sent = 0
        self._stamp = 1_700_000_000 * NS_PER_S

    def connect(self) -> None:
        publishers = self._images + self._infos
        names = ("rgb_publishers", "info_publishers", "depth_publishers")

        def connected() -> bool:
            here = all(publisher.get_subscription_count() for publisher in publishers)
            return here and all(self.counters.get(name, 0) for name in names)

        self.listener.spin_until(connected, CONNECT_TIMEOUT_S, self.process)

    def next_stamp(self) -> int:
        self._stamp += 2 * NS_PER_S
        return self._stamp

    @property
    def counters(self) -> dict[str, int]:
        values = self.listener.values.items()
        return {key: int(value) for key, value in values if value.lstrip("-").isdigit()}

    def send(self, images: tuple[Any, Any], infos: tuple[CameraInfo, CameraInfo]) -> dict[str, int]:
        """Publish, wait until the node has counted both images and rests; by how much its counters rose."""
        before = self.counters
        for publisher, message in zip(self._infos + self._images, (*infos, *images), strict=True):
            publisher.publish(message)
        self._sent += 1

        def handled() -> bool:
            now = self.counters
            received = now["rgb_received"] == now["depth_received"] == self._sent
            return now["failed"] > 0 or (received and not now["waiting"] and not now["processing"])

        self.listener.spin_until(handled, CASE_TIMEOUT_S, self.process)
        after = self.counters
        assert not after["failed"], self.listener.values["failure"]
        assert not broken_identities(after)
        assert not after["overwritten"]
        return {key: after[key] - before[key] for key in ("pairs", "published", "bad", "publish_errors")}

    def close(self) -> None:
        self.listener.close()
        self.process.__exit__(None, None, None)


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[str, FuzzedNode]]:
    compressed = ("rgb/image/compressed", "depth/image/compressedDepth")
    with contextlib.ExitStack() as stack:
        made = {}
        for name, kind, topics, parameters in (
            ("raw", Image, ("rgb/image", "depth/image"), RAW),
            ("compressed", CompressedImage, compressed, COMPRESSED),
        ):
            made[name] = FuzzedNode(name, kind, topics, parameters)
            stack.callback(made[name].close)
        for node in made.values():
            node.connect()
        yield made


def as_received(message: Any) -> Any:
    """What the node gets: through the wire's format."""
    return deserialize_message(serialize_message(message), type(message))


def is_rejected(images: tuple[Any, Any], infos: tuple[Any, Any] | None) -> bool:
    """The oracle. `infos`: of a node that registers; the other has a largest side."""
    try:
        rgb, order = decode_rgb(as_received(images[0]))
        depth, _ = decode_depth(as_received(images[1]))
        for pixels, info in zip((rgb, depth), infos or (), strict=False):
            PinholeCamera.from_camera_info(as_received(info), (pixels.shape[1], pixels.shape[0]))
        largest = output_size(rgb.shape[1], rgb.shape[0], MAX_SIDE) if infos is None else None
        check_frame(rgb, depth, order, largest)
    except FrameError:
        return True
    return False


def stamps(images: tuple[Any, Any]) -> list[tuple[int, int]]:
    return [(image.header.stamp.sec, image.header.stamp.nanosec) for image in images]


def check_answer_to_a_good_pair(
    node: FuzzedNode, make: Callable[[int], tuple[Any, Any]], registers: bool
) -> None:
    """A stamp from far away may cost the pairs behind it: then the node is back after some."""
    for attempt in range(4):
        stamp = node.next_stamp()
        rise = node.send(make(stamp), fm.infos())
        # The first pair may have overtaken its CameraInfos, and be judged by those before.
        assert not rise["bad"] or (registers and attempt == 0), node.listener.values
        assert not rise["publish_errors"]
        if rise["published"]:
            image = node.listener.image_with(stamp, node.process)
            assert image.message.encoding == "32FC1" and np.isfinite(image.metres()).any()
            node.listener.images.clear()
            node.listener.infos.clear()
            return
    pytest.fail(f"good pairs are not answered: {node.listener.values}")


def check(
    node: FuzzedNode,
    make: Callable[[int], tuple[Any, Any]],
    changes: tuple[fm.Change | None, ...],
    registers: bool,
) -> None:
    """Send a pair with changes, judge it, send a good one."""
    images, infos = make(node.next_stamp()), fm.infos()
    fresh = stamps(images)
    for message, change in zip((*images, *infos), changes, strict=True):
        if change is not None:
            change(message)
    rise = node.send(images, infos)
    if registers and any(changes[2:]):
        # The pair may have overtaken its CameraInfos; the next cannot.
        images = make(node.next_stamp())
        fresh = stamps(images)
        rise = node.send(images, infos)
    if stamps(images) == fresh:
        assert rise["pairs"] == 1
    rejected = is_rejected(images, infos if registers else None)
    assert rise["bad"] == rise["pairs"] * rejected, node.listener.values["last_error"]
    assert rise["published"] == rise["pairs"] * (not rejected)
    check_answer_to_a_good_pair(node, make, registers)


def property_test(examples: int) -> Callable[[Any], Any]:
    # No shrinking: a node that has died fails every further example.
    return settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


PICTURES = st.tuples(fm.maybe(fm.COMPRESSED_CHANGES), fm.maybe(fm.COMPRESSED_CHANGES), st.none(), st.none())
INFOS = st.tuples(st.none(), st.none(), fm.maybe(fm.INFO_CHANGES), fm.maybe(fm.INFO_CHANGES))
IMAGES_AND_INFOS = st.tuples(
    fm.maybe(fm.IMAGE_CHANGES),
    fm.maybe(fm.IMAGE_CHANGES),
    fm.maybe(fm.INFO_CHANGES),
    fm.maybe(fm.INFO_CHANGES),
)
RGB_CODECS = st.sampled_from(["jpg", "png"])
DEPTH_CODECS = st.sampled_from(["png", "rvl", "32FC1 png", "32FC1 rvl"])


def fuzz_raw(nodes: dict[str, FuzzedNode], examples: int) -> None:
    @property_test(examples)
    @given(IMAGES_AND_INFOS, st.sampled_from([np.uint16, np.float32]))
    def run(changes: tuple[fm.Change | None, ...], dtype: type) -> None:
        check(nodes["raw"], lambda stamp: fm.raw_images(stamp, dtype), changes, registers=False)

    run()


def fuzz_compressed(nodes: dict[str, FuzzedNode], examples: int) -> None:
    @property_test(examples)
    @given(PICTURES, RGB_CODECS, DEPTH_CODECS)
    def run(changes: tuple[fm.Change | None, ...], rgb: str, depth: str) -> None:
        check(
            nodes["compressed"],
            lambda stamp: fm.compressed_images(stamp, rgb, depth),
            changes,
            registers=True,
        )

    run()


def fuzz_infos(nodes: dict[str, FuzzedNode], examples: int) -> None:
    @property_test(examples)
    @given(INFOS)
    def run(changes: tuple[fm.Change | None, ...]) -> None:
        node = nodes["compressed"]
        check(node, lambda stamp: fm.compressed_images(stamp, "png", "rvl"), changes, registers=True)

    run()


FUZZERS = {"raw": (fuzz_raw, 50), "compressed": (fuzz_compressed, 40), "infos": (fuzz_infos, 20)}


@pytest.mark.parametrize("name", FUZZERS)
def test_malformed_messages_are_counted_and_the_next_good_pair_is_answered(
    name: str, nodes: dict[str, FuzzedNode]
) -> None:
    fuzz, examples = FUZZERS[name]
    fuzz(nodes, examples)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FUZZERS)
def test_two_thousand_malformed_messages(name: str, nodes: dict[str, FuzzedNode]) -> None:
    fuzz, examples = FUZZERS[name]
    fuzz(nodes, examples * 18)


def test_the_nodes_end_well_after_all_that(nodes: dict[str, FuzzedNode]) -> None:
    for name, node in nodes.items():
        print(
            name,
            {key: node.counters[key] for key in ("pairs", "published", "bad", "depth_unpaired", "resets")},
        )
        node.process.send(signal.SIGTERM)
        assert node.process.wait() == 0, node.process.output
        assert "Traceback" not in node.process.output, node.process.output
