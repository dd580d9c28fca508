# SPDX-License-Identifier: Apache-2.0
"""Parameters of a running node through its real services: what can change when, and that it acts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_client import (
    FRAME_ID,
    HEIGHT,
    OPTICS,
    SIZES,
    WIDTH,
    Rig,
    answer,
    collect,
    next_stamp,
    plane,
    rgb_pixels,
    running,
    save_untrained,
    send_until,
    small_frame,
)
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_helpers import EngineProcess, Listener, NodeProcess, Received
from sensor_msgs.msg import CameraInfo, Image

from depth_sr_ros.camera import resized_camera_info
from depth_sr_ros.ros.messages import header, image_message, pinhole_camera_info
from depth_sr_ros.ros.sequence_player import Frame

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Active and connected; each test leaves the parameters as it found them."""
    checkpoint = save_untrained(tmp_path_factory.mktemp("weights"))
    parameters: dict[str, object] = {"checkpoint": checkpoint, **SIZES, "log.period": 0.0}
    with running(lambda arguments: NodeProcess(parameters, arguments)) as out:
        answer(out)
        yield out


def next_answer(rig: Rig, depth: np.ndarray | None = None) -> Received:
    """The output of a frame that is sent now."""
    frame = Frame(rgb_pixels(), plane() if depth is None else depth, next_stamp())
    rig.camera.send(frame)
    return rig.listener.image_with(frame.stamp_ns, rig.node)


def change(rig: Rig, name: str, value: object) -> None:
    assert rig.client.set(name, value) == (True, "")


def test_a_static_parameter_is_rejected_while_configured_with_the_way_out(rig: Rig) -> None:
    taken, reason = rig.client.set("sync.queue_size", 20)
    assert not taken
    assert reason == (
        "parameter sync.queue_size is fixed while the node is configured; run: ros2 lifecycle set /depth_sr "
        "deactivate, then cleanup, change it, then configure and activate"
    )
    assert rig.client.get("sync.queue_size") == 10


def test_the_way_out_works_and_the_static_parameter_acts(rig: Rig) -> None:
    for warmed, prepares in ((320, "1"), (WIDTH, "0")):
        assert rig.client.change("deactivate")
        assert not rig.client.set("warmup.rgb_size", [warmed, HEIGHT])[0]  # inactive is configured, too
        assert rig.client.change("cleanup")
        change(rig, "warmup.rgb_size", [warmed, HEIGHT])
        assert rig.client.change("configure") and rig.client.change("activate")
        answer(rig)
        rig.listener.fresh_counters()
        assert rig.listener.values["prepared_sizes"] == prepares


def test_the_encoding_acts_on_the_next_frame(rig: Rig) -> None:
    change(rig, "output.encoding", "16UC1")
    image = next_answer(rig)
    assert image.message.encoding == "16UC1"
    np.testing.assert_allclose(image.metres(), 2.0, rtol=1e-3)
    change(rig, "output.encoding", "32FC1")
    assert next_answer(rig).message.encoding == "32FC1"


def test_the_longest_side_acts_on_the_next_frame_and_scales_the_camera_info(rig: Rig) -> None:
    change(rig, "output.max_side", 80)
    image = next_answer(rig)
    assert (image.message.width, image.message.height) == (80, 48)
    head = header(image.stamp_ns, FRAME_ID)
    rig.listener.spin_until(lambda: any(info.header == head for info in rig.listener.infos))
    camera = pinhole_camera_info((WIDTH, HEIGHT), *OPTICS)
    expected = resized_camera_info(camera, (WIDTH, HEIGHT), (80, 48))
    expected.header = head
    assert expected in rig.listener.infos
    assert (expected.k[0], expected.k[2]) == (75.0, 39.5)
    change(rig, "output.max_side", 0)
    assert next_answer(rig).message.width == WIDTH


def test_how_far_holes_are_filled_acts_on_the_next_frame(rig: Rig) -> None:
    half = plane()
    half[:, half.shape[1] // 2 :] = np.nan  # from column 80 of the output on

    def first_unknown_column() -> int:
        unknown = np.isnan(next_answer(rig, half).metres()[HEIGHT // 2])
        return int(np.argmax(unknown)) if unknown.any() else WIDTH

    assert first_unknown_column() == 80 + 8 * 4
    change(rig, "output.max_fill_distance", 2)
    assert first_unknown_column() == 80 + 2 * 4
    change(rig, "output.unknown", "fill")
    assert first_unknown_column() == WIDTH
    assert rig.client.set_together({"output.unknown": "nan", "output.max_fill_distance": 8}) == (True, "")
    assert first_unknown_column() == 80 + 8 * 4


def test_slop_and_wait_act_on_the_next_frame(rig: Rig) -> None:
    frame = small_frame()
    early = header(frame.stamp_ns - 40_000_000, FRAME_ID)  # the RGB image, 40 ms before the depth image
    late = header(frame.stamp_ns, FRAME_ID)

    def send_apart() -> None:
        rig.camera.rgb_publisher.publish(image_message(frame.rgb, "rgb8", early))
        rig.camera.depth_publisher.publish(image_message(frame.depth, "32FC1", late))

    assert rig.client.set_together({"sync.slop": 0.01, "sync.max_wait": 0.0}) == (True, "")
    unpaired = rig.listener.fresh_counters()["depth_unpaired"]
    send_apart()
    rig.listener.spin_until(lambda: int(rig.listener.values["depth_unpaired"]) > unpaired, process=rig.node)
    assert rig.client.set_together({"sync.slop": 0.05, "sync.max_wait": 0.2}) == (True, "")
    answer(rig)  # moves the stamps on
    frame = small_frame()
    early, late = header(frame.stamp_ns - 40_000_000, FRAME_ID), header(frame.stamp_ns, FRAME_ID)
    send_apart()
    rig.listener.image_with(frame.stamp_ns - 40_000_000, rig.node)
    assert rig.client.set_together({"sync.slop": -1.0, "sync.max_wait": 0.2}) == (True, "")


def test_the_period_of_the_log_acts_at_once(rig: Rig) -> None:
    lines = rig.node.output.count("latency p50")
    change(rig, "log.period", 0.1)
    rig.listener.spin_until(lambda: rig.node.output.count("latency p50") > lines + 2, process=rig.node)
    change(rig, "log.period", 0.0)
    lines = rig.node.output.count("latency p50")
    rig.listener.fresh_counters()
    assert rig.node.output.count("latency p50") <= lines + 1  # one may have been under way


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("output.encoding", "mono16", ("output.encoding", "one of 32FC1, 16UC1")),
        ("output.max_fill_distance", 1001, ("output.max_fill_distance", "0", "1000")),
        ("sync.max_wait", -0.5, ("sync.max_wait", "0.0", "60.0")),
        ("sync.max_wait", "soon", ("parameter sync.max_wait is 'soon', but must be a number",)),
        ("lazy", 1, ("parameter lazy is 1, but must be true or false",)),
        ("warmup.rgb_size", [640, 480, 3], ("warmup.rgb_size", "must hold 2 whole numbers")),
    ],
)
def test_a_value_that_cannot_be_is_rejected_with_what_it_may_be(
    rig: Rig, name: str, value: object, said: tuple[str, ...]
) -> None:
    before = rig.client.get(name)
    taken, reason = rig.client.set(name, value)
    assert not taken
    assert all(part in reason for part in said), reason
    assert rig.client.get(name) == before


def test_a_whole_number_is_taken_for_a_number(rig: Rig) -> None:
    """As `ros2 param set /depth_sr sync.max_wait 1` sends it."""
    for value in (1, 0.2):
        assert rig.client.set("sync.max_wait", value) == (True, "")
        assert rig.client.get("sync.max_wait") == value


def test_a_set_with_one_wrong_value_changes_nothing(rig: Rig) -> None:
    taken, reason = rig.client.set_together({"output.encoding": "16UC1", "color.min": 1.0, "variant": "fast"})
    assert not taken
    assert "parameter variant is fixed while the node is configured" in reason
    assert rig.client.get("output.encoding") == "32FC1"
    assert rig.client.get("color.min") == 0.0
    assert next_answer(rig).message.encoding == "32FC1"


def test_colours_of_an_empty_range_are_refused(rig: Rig) -> None:
    """Also one after the other, as `ros2 param set` sends them."""
    assert rig.client.set("color.max", 3.0) == (True, "")
    taken, reason = rig.client.set("color.min", 3.0)
    assert (taken, reason) == (
        False,
        "parameter color.max is 3, but must be above color.min, 3, or 0: by each frame",
    )
    assert rig.client.get("color.min") == 0.0
    assert rig.client.set("color.max", 0.0) == (True, "")


def test_lazy_acts_at_once_without_a_listener() -> None:
    with running(lambda arguments: EngineProcess(ros_arguments=arguments), "/eager", outputs=False) as rig:
        rig.listener.spin_until(lambda: rig.listener.message == "no subscribers", process=rig.node)
        change(rig, "lazy", False)
        rig.listener.spin_until(rig.camera.rgb_publisher.get_subscription_count, process=rig.node)
        send_until(rig, lambda: int(rig.listener.values["published"]) > 0)
        change(rig, "lazy", True)
        rig.listener.spin_until(lambda: not rig.camera.rgb_publisher.get_subscription_count())
        rig.listener.spin_until(lambda: rig.listener.message == "no subscribers", process=rig.node)


def send_images(rig: Rig, rgb_publisher: Publisher) -> None:
    """A frame without its CameraInfo."""
    frame = small_frame()
    head = header(frame.stamp_ns, FRAME_ID)
    rgb_publisher.publish(image_message(frame.rgb, "rgb8", head))
    rig.camera.depth_publisher.publish(image_message(frame.depth, "32FC1", head))


QOS = """/**:
  ros__parameters:
    qos_overrides:
      /qos/depth_sr/depth/image: {publisher: {reliability: best_effort, depth: 2}}
      /qos/rgb/image: {subscription: {reliability: reliable}}
"""


def test_qos_overrides_act_and_partners_that_do_not_fit_are_told_with_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "qos.yaml"
    path.write_text(QOS)
    with running(
        lambda arguments: EngineProcess(ros_arguments=[*arguments, "--params-file", str(path)]), "/qos"
    ) as rig:
        listener, topic = rig.listener, "/qos/depth_sr/depth/image"
        # The listener's default subscription is reliable, the camera best effort.
        for text in (
            f"a subscriber on {topic} gets no connection: in reliability this node offers less than it asks "
            f"for: set qos_overrides.{topic}.publisher.reliability to reliable",
            "a publisher on /qos/rgb/image gets no connection: in reliability this node asks for more than "
            "it offers: set qos_overrides./qos/rgb/image.subscription.reliability to best_effort",
        ):
            listener.spin_until(lambda said=text: said in rig.node.output, process=rig.node)  # type: ignore[misc]
        (publisher,) = listener.node.get_publishers_info_by_topic(topic)
        assert publisher.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        listener.node.create_subscription(CameraInfo, "/qos/depth_sr/depth/camera_info", print, latched)
        info_topic = "/qos/depth_sr/depth/camera_info"
        said = (
            f"on {info_topic} gets no connection: in durability this node offers less than it asks for: "
            f"set qos_overrides.{info_topic}.publisher.durability to transient_local"
        )
        listener.spin_until(lambda: said in rig.node.output, process=rig.node)
        # What fits goes through all the same.
        images = collect(listener, Image, topic, reliability=ReliabilityPolicy.BEST_EFFORT)
        reliable = rig.camera.create_publisher(Image, "rgb/image", QoSProfile(depth=5))
        listener.spin_until(reliable.get_subscription_count, process=rig.node)
        send_until(rig, lambda: images.messages, lambda: send_images(rig, reliable))


LATCHED = """/**:
  ros__parameters:
    qos_overrides:
      /latched/rgb/camera_info: {subscription: {durability: transient_local, reliability: reliable}}
      /latched/depth_sr/depth/camera_info: {publisher: {durability: transient_local}}
"""


def test_a_camera_info_that_was_sent_once_before_the_node_came_is_received(tmp_path: Path) -> None:
    path = tmp_path / "qos.yaml"
    path.write_text(LATCHED)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    listener = Listener("/latched", "info_sender", outputs=False)
    info = pinhole_camera_info((WIDTH, HEIGHT), *OPTICS)
    listener.node.create_publisher(CameraInfo, "/latched/rgb/camera_info", latched).publish(info)
    with running(
        lambda arguments: EngineProcess(ros_arguments=[*arguments, "--params-file", str(path)]), "/latched"
    ) as rig:
        send_until(rig, lambda: rig.listener.infos, lambda: send_images(rig, rig.camera.rgb_publisher))
        assert list(rig.listener.infos[0].k) == list(info.k)
        # The node's own is kept for those who come late, too.
        late: list[CameraInfo] = []
        listener.node.create_subscription(
            CameraInfo, "/latched/depth_sr/depth/camera_info", late.append, latched
        )
        listener.spin_until(lambda: late, process=rig.node)
    listener.close()


def test_a_subscription_that_fails_is_an_error_until_a_later_one_succeeds() -> None:
    override = "qos_overrides./deaf/rgb/image.subscription.reliability"
    parameters = {override: "best_effort"}
    with running(
        lambda arguments: EngineProcess("slow", 0.0, parameters, arguments), "/deaf", outputs=False
    ) as rig:
        listener = rig.listener
        listener.spin_until(lambda: listener.message == "no subscribers", process=rig.node)
        change(rig, override, "loud")
        change(rig, "lazy", False)
        listener.spin_until(lambda: listener.level == DiagnosticStatus.ERROR, process=rig.node)
        assert listener.message.startswith("active: the qos_overrides of /deaf/rgb/image cannot be used: ")
        change(rig, override, "best_effort")  # and the node tries again by itself
        listener.spin_until(lambda: listener.values["subscribed"] == "True", process=rig.node)
        listener.fresh_counters()
        assert listener.values["failure"] == ""
        send_until(rig, lambda: listener.level == DiagnosticStatus.OK)


def test_a_qos_override_that_cannot_be_fails_the_configure_and_advertises_nothing(tmp_path: Path) -> None:
    path = tmp_path / "qos.yaml"
    name = "qos_overrides./odd/depth_sr/points.publisher.reliability"
    path.write_text(
        QOS.replace("/qos/", "/odd/").replace("depth/image: {", "points: {").replace("best_", "worst_")
    )
    arguments = ["-p", "autostart:=false", "--params-file", str(path)]
    with running(lambda more: EngineProcess(ros_arguments=[*more, *arguments]), "/odd") as rig:
        assert not rig.client.change("configure")
        assert rig.client.state == "unconfigured"
        said = "the qos_overrides of /odd/depth_sr/points cannot be used"
        rig.listener.spin_until(lambda: said in rig.listener.message, process=rig.node)
        assert rig.listener.level == DiagnosticStatus.ERROR
        topic = "/odd/depth_sr/depth/image"
        rig.listener.spin_until(lambda: not rig.listener.node.count_publishers(topic), process=rig.node)
        change(rig, name, "best_effort")
        assert rig.client.change("configure"), rig.node.output
        rig.listener.spin_until(lambda: rig.listener.node.count_publishers(topic) == 1, process=rig.node)
