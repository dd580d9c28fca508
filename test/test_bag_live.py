# SPDX-License-Identifier: Apache-2.0
"""Playing and recording over real DDS: byte for byte, with types, hashes and QoS, and at the right time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from lifecycle_msgs.msg import State
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from ros_helpers import START_TIMEOUT_S, PythonProcess, start_ros
from rosbags.interfaces import QosDurability, QosReliability
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from test_bag_types import LATCHED

from depth_sr_ros.bag import BagMessage, BagReader, BagTopic, BagWriter
from depth_sr_ros.bag_types import installed_definition
from depth_sr_ros.ros.messages import header, image_message, to_nanoseconds

pytestmark = pytest.mark.alone

STRING = "std_msgs/msg/String"
SENSOR = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCH = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
S = 1_000_000_000
ENDED_TIMEOUT_S = 5.0


class Peer:
    """A node in this process, and what it hears: by topic, (serialised message, steady seconds)."""

    def __init__(self) -> None:
        start_ros()
        self.node = Node("bag_peer")
        self.heard: dict[str, list[tuple[bytes, float]]] = {}
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def close(self) -> None:
        """Leave the graph; may be called again."""
        self._executor.shutdown()
        self.node.destroy_node()

    def listen(self, topic: str, kind: type = String, qos: QoSProfile | int = 100) -> None:
        heard = self.heard.setdefault(topic, [])
        self.node.create_subscription(
            kind, topic, lambda raw: heard.append((raw, time.monotonic())), qos, raw=True
        )

    def spin_until(
        self, condition: Callable[[], object], process: PythonProcess, timeout_s: float = START_TIMEOUT_S
    ) -> None:
        deadline, ended = time.monotonic() + timeout_s, False
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; the process printed:\n{process.output}"
            if not ended and not process.is_running:
                # What has come until now still waits here to be taken.
                deadline, ended = time.monotonic() + ENDED_TIMEOUT_S, True
            self._executor.spin_once(timeout_sec=0.02)

    def spin_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.02)

    def wait_for_subscriber(self, publishers: list[Publisher], process: PythonProcess) -> None:
        self.spin_until(lambda: all(p.get_subscription_count() for p in publishers), process)

    def raws(self, topic: str) -> list[bytes]:
        return [raw for raw, _ in self.heard[topic]]


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


def command(*words: object) -> PythonProcess:
    return PythonProcess(["-m", "depth_sr_ros.cli", *map(str, words)])


def play(bag: Path, *words: object) -> PythonProcess:
    """Plays to subscribers that are there: the first message goes out when they are known.

    The three seconds that a user waits by default are too few on a machine where all cores are busy.
    """
    return command("play", bag, "--wait-for-subscribers", START_TIMEOUT_S, *words)


def end(process: PythonProcess) -> None:
    """Ctrl-C: it ends at once, well, and without a traceback."""
    process.send(signal.SIGINT)
    assert process.wait() == 0, process.output
    assert "Traceback" not in process.output


def write_words(path: Path, times_s: list[float], topics: dict[str, tuple] | None = None) -> list[bytes]:
    """Texts at these times, on /words or on topics with the QoS given; returns them as they arrive."""
    raws = []
    text, digest = installed_definition(STRING)
    with BagWriter(path) as bag:
        for topic, qos in (topics or {"/words": ()}).items():
            bag.add(BagTopic(topic, STRING, text, digest, qos))
            for index, seconds in enumerate(times_s):
                raw = bytes(bag.types.serialize_cdr(bag.make(STRING, data=f"{topic} {index}"), STRING))
                bag.write(topic, STRING, 100 * S + round(seconds * S), raw)
                raws.append(padded(raw))
    return raws


def by_topic(path: Path) -> dict[str, list[BagMessage]]:
    with BagReader(path) as bag:
        found: dict[str, list[BagMessage]] = {topic: [] for topic in bag.topics}
        for message in bag.messages():
            found[message.topic].append(message)
    return found


def publish_for_a_recording(peer: Peer, process: PythonProcess) -> dict[str, list[bytes]]:
    """Images, their CameraInfo (best effort) and a latched text; returns what arrives, by topic.

    Serialised once: bytes that only align others hold whatever was in memory.
    """
    stamps = [header(index * S + 3, "camera") for index in range(12)]
    topics: dict[str, tuple[type, QoSProfile, list[Any]]] = {
        "/camera/image": (
            Image,
            QoSProfile(depth=10),
            [image_message(_pixels(index), "rgb8", stamp) for index, stamp in enumerate(stamps)],
        ),
        "/camera/camera_info": (CameraInfo, SENSOR, [CameraInfo(header=stamp) for stamp in stamps]),
        "/robot_description": (String, LATCH, [String(data="<robot/>")]),
    }
    raws = {topic: [bytes(serialize_message(m)) for m in sent] for topic, (_, _, sent) in topics.items()}
    publishers: dict[str, Publisher] = {
        name: peer.node.create_publisher(kind, name, qos) for name, (kind, qos, _) in topics.items()
    }
    publishers["/robot_description"].publish(raws["/robot_description"][0])
    peer.wait_for_subscriber(list(publishers.values()), process)
    peer.spin_for(1.0)  # a best-effort message is lost where only this side knows of the other
    for index in range(len(stamps)):
        for topic in ("/camera/image", "/camera/camera_info"):
            publishers[topic].publish(raws[topic][index])
        peer.spin_for(0.05)
    return {topic: [padded(raw) for raw in sent] for topic, sent in raws.items()}


def padded(raw: bytes) -> bytes:
    """As it comes out of DDS between two processes: RTPS fills the last four bytes."""
    return raw + bytes(-len(raw) % 4)


def _pixels(index: int) -> Any:
    import numpy as np

    return np.random.default_rng(index).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.mark.parametrize(("storage", "compression"), [("mcap", "none"), ("sqlite3", "zstd")])
def test_recorded_played_and_recorded_again_it_is_the_same_byte_for_byte(
    peer: Peer, tmp_path: Path, storage: str, compression: str
) -> None:
    topics = "/camera/image,/camera/camera_info /robot_description"
    options = ["--topics", topics, "--storage", storage, "--compress", compression]
    with command("record", "--out", tmp_path / "first", *options) as recorder:
        sent = publish_for_a_recording(peer, recorder)
        peer.spin_for(0.5)
        live = {topic: peer.node.get_publishers_info_by_topic(topic)[0] for topic in sent}
        end(recorder)
    first = {topic: [m.raw for m in found] for topic, found in by_topic(tmp_path / "first").items()}
    arrived = first["/camera/camera_info"]  # best effort: the first ones may be lost, but none is changed
    assert arrived and arrived == sent["/camera/camera_info"][-len(arrived) :]
    assert first == sent | {"/camera/camera_info": arrived}
    with BagReader(tmp_path / "first") as bag:
        recorded = {topic.name: topic for topic in bag.recorded}
    for name, topic in recorded.items():
        assert topic.type_hash == str(live[name].topic_type_hash) and topic.definition
    assert recorded["/camera/camera_info"].qos[0].reliability == QosReliability.BEST_EFFORT
    assert recorded["/camera/image"].qos[0].reliability == QosReliability.RELIABLE
    assert recorded["/robot_description"].qos[0].durability == QosDurability.TRANSIENT_LOCAL

    peer.close()  # else the latched text would come from here too
    with command("record", "--out", tmp_path / "second", "--topics", topics) as recorder:
        with play(tmp_path / "first", "--rate", 4) as player:
            assert player.wait() == 0, player.output
            assert f"{13 + len(arrived)} messages on 3 topics" in player.output
        end(recorder)
    second = by_topic(tmp_path / "second")
    assert {topic: [m.raw for m in found] for topic, found in second.items()} == first


def test_the_rate_scales_the_time_between_messages(peer: Peer, tmp_path: Path) -> None:
    write_words(tmp_path / "bag", [0.2 * index for index in range(11)])
    spans = {}
    for rate in (1, 2):
        peer.heard.clear()
        peer.listen("/words")
        with play(tmp_path / "bag", "--rate", rate) as player:
            peer.spin_until(lambda: len(peer.heard["/words"]) >= 11, player)
            assert player.wait() == 0
        arrivals = [seconds for _, seconds in peer.heard["/words"]]
        spans[rate] = arrivals[10] - arrivals[0]
    assert 1.7 < spans[1] < 6, "two seconds of the recording"
    assert 0.8 < spans[2] < 0.8 * spans[1]


def test_a_loop_starts_again_until_ctrl_c(peer: Peer, tmp_path: Path) -> None:
    raws = write_words(tmp_path / "bag", [0.0, 0.1, 0.2])
    peer.listen("/words")
    with play(tmp_path / "bag", "--loop") as player:
        peer.spin_until(lambda: len(peer.heard["/words"]) >= 8, player)
        end(player)
    assert peer.raws("/words")[:8] == (3 * raws)[:8]


def test_paused_without_a_terminal_it_publishes_nothing_until_the_signal(peer: Peer, tmp_path: Path) -> None:
    raws = write_words(tmp_path / "bag", [0.0, 0.05])
    peer.listen("/words")
    peer.listen("/clock", Clock)
    with play(tmp_path / "bag", "--pause", "--clock") as player:
        peer.spin_until(lambda: peer.node.get_publishers_info_by_topic("/words"), player)
        peer.spin_for(2.0)
        assert player.is_running and not peer.heard["/words"] and not peer.heard["/clock"]
        player.send(signal.SIGUSR1)
        peer.spin_until(lambda: len(peer.heard["/words"]) == 2, player)
        assert player.wait() == 0
    assert peer.raws("/words") == raws


def test_the_clock_runs_from_message_to_message(peer: Peer, tmp_path: Path) -> None:
    write_words(tmp_path / "bag", [0.0, 2.0])
    times: list[int] = []
    peer.node.create_subscription(Clock, "/clock", lambda m: times.append(to_nanoseconds(m.clock)), 1000)
    peer.listen("/words")
    with play(tmp_path / "bag", "--clock", "--rate", 2) as player:
        peer.spin_until(lambda: len(peer.heard["/words"]) == 2, player)
        assert player.wait() == 0
    assert times == sorted(times) and len(times) > 20
    assert 100 * S <= times[0] < 100.5 * S and 101.5 * S < times[-1] <= 102 * S


def test_late_subscribers_get_what_was_latched_before_the_start(peer: Peer, tmp_path: Path) -> None:
    write_words(tmp_path / "bag", [0.0, 3.0], {"/words": (), "/description": (LATCHED,)})
    with command("play", tmp_path / "bag", "--start", 2.9, "--loop") as player:
        peer.listen("/words")
        peer.spin_until(lambda: peer.heard["/words"], player)
        peer.listen("/description", qos=LATCH)
        peer.spin_until(lambda: peer.heard["/description"], player)
        peer.spin_for(0.5)
        end(player)
    assert {b"/description 0", b"/description 1"} == {raw[8:22] for raw in peer.raws("/description")}
    assert not any(b"/words 0" in raw for raw in peer.raws("/words"))


def test_topics_that_cannot_be_played_are_named_and_the_others_played(peer: Peer, tmp_path: Path) -> None:
    digest = "RIHS01_" + "ab" * 32
    with BagWriter(tmp_path / "bag") as bag:
        bag.add(BagTopic("/odd", "nowhere_msgs/msg/Thing", "int32 a\n", digest))
        bag.add(BagTopic("/other", STRING, "int32 data\n", digest))
        bag.add(BagTopic("/cam-1/info", STRING, "string data\n", digest))
        for topic, kind in (("/odd", "nowhere_msgs/msg/Thing"), ("/other", STRING), ("/cam-1/info", STRING)):
            bag.write(topic, kind, 1, b"\x00\x01\x00\x00\x07\x00\x00\x00")
        bag.write("/state", "lifecycle_msgs/msg/State", 2, bytes(serialize_message(State(id=3, label="x"))))
    peer.listen("/state", State)
    with play(tmp_path / "bag") as player:
        peer.spin_until(lambda: peer.heard["/state"], player)
        assert player.wait() == 0
        output = " ".join(player.output.split())
    assert "/odd is not played: message type nowhere_msgs/msg/Thing is not installed here" in output
    assert "/other is not played: it was recorded with another definition of std_msgs/msg/String" in output
    assert "/cam-1/info is not played: topic name must not contain characters other than" in output
    assert peer.raws("/state") == [padded(serialize_message(State(id=3, label="x")))]
    with command("play", tmp_path / "bag", "--topics", "/odd") as player:
        assert player.wait() == 2
        assert "error: nothing of" in player.output and "Traceback" not in player.output


def test_a_recorder_follows_publishers_that_come_later_and_offer_less(peer: Peer, tmp_path: Path) -> None:
    peer.node.create_publisher(String, "/_hidden", 10)
    reliable = peer.node.create_publisher(String, "/words", 10)
    with command("record", "--out", tmp_path / "bag", "--all") as recorder:
        peer.wait_for_subscriber([reliable], recorder)
        reliable.publish(String(data="reliable"))
        peer.spin_for(0.5)
        best_effort = peer.node.create_publisher(String, "/words", SENSOR)
        peer.wait_for_subscriber([best_effort], recorder)
        peer.spin_for(1.0)
        best_effort.publish(String(data="best effort"))
        peer.spin_for(0.5)
        end(recorder)
    found = by_topic(tmp_path / "bag")
    assert "/_hidden" not in found
    assert [m.raw for m in found["/words"]] == [
        padded(serialize_message(String(data=text))) for text in ("reliable", "best effort")
    ]


WITHOUT_A_PACKAGE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lifecycle_msgs":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
from depth_sr_ros.cli import main
main()
"""


def test_a_type_that_is_not_installed_is_named_and_the_others_recorded(peer: Peer, tmp_path: Path) -> None:
    odd = peer.node.create_publisher(State, "/state", 10)
    words = peer.node.create_publisher(String, "/words", 10)
    line = ["-c", WITHOUT_A_PACKAGE, "record", "--out", tmp_path / "bag", "--topics", "/state,/words,/never"]
    with PythonProcess(line) as recorder:
        peer.wait_for_subscriber([words], recorder)
        recorder.wait_for_output("/state is not recorded")
        odd.publish(State())
        words.publish(String(data="x"))
        peer.spin_for(1.0)
        end(recorder)
        output = " ".join(recorder.output.split())
    assert output.count("/state is not recorded: message type lifecycle_msgs/msg/State is not installed") == 1
    assert "no publisher of /never appeared" in output
    assert {topic: len(messages) for topic, messages in by_topic(tmp_path / "bag").items()} == {"/words": 1}


def test_a_name_that_no_topic_can_have_is_told_before_a_file_is_made(tmp_path: Path) -> None:
    for name in ("/my-cam/image", "camera/image/"):
        with command("record", "--out", tmp_path / "bag", "--topics", name) as recorder:
            assert recorder.wait() == 2
            assert f"error: the topic '{name}' cannot be recorded: topic name must not" in recorder.output
    assert not (tmp_path / "bag").exists()


def test_a_duration_without_a_message_leaves_a_whole_file_and_exit_code_1(tmp_path: Path) -> None:
    with command("record", "--out", tmp_path / "bag", "--topics", "/never", "--duration", 0.5) as recorder:
        assert recorder.wait() == 1
        assert "0 messages" in recorder.output and "Traceback" not in recorder.output
    with BagReader(tmp_path / "bag") as bag:
        assert bag.message_count == 0
