# SPDX-License-Identifier: Apache-2.0
"""What the running node does beside depth: work on demand, views, compressed input, registration."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_client import (
    FRAME_ID,
    HEIGHT,
    OPTICS,
    SCALE,
    SIZES,
    WIDTH,
    Rig,
    collect,
    drop,
    next_stamp,
    plane,
    rgb_pixels,
    running,
    save_untrained,
    send_until,
    small_frame,
)
from rclpy.qos import qos_profile_sensor_data
from ros_helpers import EngineProcess, NodeProcess
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.colorize import colorize
from depth_sr_ros.image_codec import rgb_view
from depth_sr_ros.ros import sync
from depth_sr_ros.ros.messages import header, image_message, pinhole_camera_info, to_nanoseconds
from depth_sr_ros.ros.sequence_player import Frame

pytestmark = pytest.mark.alone

DEPTH_OUTPUTS = ((Image, "image"), (CameraInfo, "camera_info"))
INPUTS = ("rgb_publisher", "info_publisher", "depth_publisher")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """Active; nobody listens to an output at the start and after each test."""
    with running(
        lambda arguments: EngineProcess(parameters=SIZES, ros_arguments=arguments), outputs=False
    ) as out:
        yield out


def subscribed(rig: Rig) -> list[bool]:
    """Whether somebody listens to each of the camera's topics."""
    return [bool(getattr(rig.camera, name).get_subscription_count()) for name in INPUTS]


def wait_until_idle(rig: Rig) -> None:
    rig.listener.spin_until(lambda: rig.listener.message == "no subscribers", process=rig.node)
    rig.listener.spin_until(lambda: not any(subscribed(rig)), process=rig.node)


def stamped(messages: list[Any], stamp_ns: int) -> list[Any]:
    return [message for message in messages if to_nanoseconds(message.header.stamp) == stamp_ns]


def slope() -> np.ndarray:
    """Depth that differs from pixel to pixel, 1 to 3 m, with one hole."""
    out = np.linspace(1.0, 3.0, plane().size, dtype=np.float32).reshape(plane().shape)
    out[2, 3] = np.nan
    return out


def answers_to(rig: Rig, frame: Frame, topics: dict[str, Any]) -> dict[str, list[Any]]:
    """Send the frame, and wait until each of `topics` has brought what belongs to it."""
    rig.camera.send(frame)
    found: dict[str, list[Any]] = {}

    def arrived() -> bool:
        found.update({name: stamped(topic.messages, frame.stamp_ns) for name, topic in topics.items()})
        return all(found.values())

    rig.listener.spin_until(arrived, process=rig.node)
    return found


def test_while_nobody_listens_nothing_is_subscribed_and_that_is_ok(rig: Rig) -> None:
    wait_until_idle(rig)
    assert rig.listener.level == DiagnosticStatus.OK
    assert not rig.camera.count_subscribers("/rgb/image")
    for _ in range(3):
        rig.camera.send(small_frame())
    counters = rig.listener.fresh_counters()
    assert counters["rgb_received"] == counters["depth_received"] == counters["published"] == 0
    assert rig.listener.values["subscribed"] == "False"


@pytest.mark.parametrize(
    ("kind", "topic"),
    [
        (Image, "depth/image"),
        (CameraInfo, "depth/camera_info"),
        (Image, "depth/color"),
        (PointCloud2, "points"),
        (DiagnosticArray, "timing"),
    ],
)
def test_a_listener_to_any_output_brings_answers_and_its_leaving_ends_the_work(
    rig: Rig, kind: type, topic: str
) -> None:
    wait_until_idle(rig)
    output = collect(rig.listener, kind, f"/depth_sr/{topic}")
    rig.listener.spin_until(lambda: all(subscribed(rig)), process=rig.node)
    send_until(rig, lambda: output.messages)
    drop(rig.listener, output)
    wait_until_idle(rig)


def test_colour_and_points_show_the_published_depth_and_timing_its_stages(rig: Rig) -> None:
    topics = {
        "depth": collect(rig.listener, Image, "/depth_sr/depth/image"),
        "color": collect(rig.listener, Image, "/depth_sr/depth/color"),
        "points": collect(rig.listener, PointCloud2, "/depth_sr/points"),
        "timing": collect(rig.listener, DiagnosticArray, "/depth_sr/timing"),
    }
    send_until(rig, lambda: all(topic.messages for topic in topics.values()))
    frame = Frame(rgb_pixels(), slope(), next_stamp())
    found = answers_to(rig, frame, topics)
    assert all(messages[0].header == header(frame.stamp_ns, FRAME_ID) for messages in found.values())
    metres = np.frombuffer(found["depth"][0].data, np.float32).reshape(HEIGHT, WIDTH)
    color = found["color"][0]
    assert color.encoding == "rgb8"
    np.testing.assert_array_equal(rgb_view(color)[0], colorize(metres))
    check_cloud(found["points"][0], metres, frame.rgb)
    spans = {value.key: float(value.value) for value in found["timing"][0].status[0].values}
    stages = ("wait_ms", "decode_ms", "network_ms", "encode_ms", "publish_ms")
    assert set(spans) == {*stages, "latency_ms", "age_ms"}
    assert spans["latency_ms"] == pytest.approx(sum(spans[stage] for stage in stages), abs=0.01)
    for topic in topics.values():
        drop(rig.listener, topic)
    wait_until_idle(rig)


@pytest.mark.parametrize("has_confidence", [True, False])
def test_confidence_goes_to_who_listens_or_the_log_says_that_there_is_none(
    tmp_path: Path, has_confidence: bool
) -> None:
    checkpoint = save_untrained(tmp_path, confidence=has_confidence)
    parameters = {**SIZES, "checkpoint": checkpoint, "output.max_fill_distance": 0}
    with running(lambda arguments: NodeProcess(parameters, arguments), "/sure", outputs=False) as rig:
        topics = {
            "depth": collect(rig.listener, Image, "/sure/depth_sr/depth/image"),
            "confidence": collect(rig.listener, Image, "/sure/depth_sr/confidence"),
        }
        if not has_confidence:
            send_until(
                rig, lambda: "~/confidence is asked for, but these weights have none" in rig.node.output
            )
            send_until(rig, lambda: topics["depth"].messages)
            assert not topics["confidence"].messages
            return
        send_until(rig, lambda: all(topic.messages for topic in topics.values()))
        frame = Frame(rgb_pixels(), slope(), next_stamp())
        found = answers_to(rig, frame, topics)
        depth, confidence = (found[name][0] for name in topics)
        assert confidence.encoding == "32FC1" and confidence.header == depth.header
        values, metres = (
            np.frombuffer(m.data, np.float32).reshape(HEIGHT, WIDTH) for m in (confidence, depth)
        )
        assert np.isnan(metres).sum() == SCALE**2
        np.testing.assert_array_equal(np.isnan(values), np.isnan(metres))
        known = values[~np.isnan(values)]
        # An untrained head says 2 % everywhere.
        np.testing.assert_allclose(known, 1 - np.exp(-0.05 / 0.02), rtol=1e-4)


def check_cloud(cloud: PointCloud2, metres: np.ndarray, rgb: np.ndarray) -> None:
    """Every point against the depth, the intrinsics and the colours."""
    assert (cloud.width, cloud.height, cloud.is_dense) == (WIDTH, HEIGHT, False)
    assert cloud.row_step == WIDTH * cloud.point_step
    offsets = {field.name: field.offset for field in cloud.fields}
    dtype = np.dtype(
        {
            "names": ["x", "y", "z", "rgb"],
            "formats": ["<f4", "<f4", "<f4", "<u4"],
            "offsets": [offsets[name] for name in ("x", "y", "z", "rgb")],
            "itemsize": cloud.point_step,
        }
    )
    points = np.frombuffer(cloud.data, dtype).reshape(HEIGHT, WIDTH)
    (fx, fy), (cx, cy) = OPTICS
    v, u = np.indices(metres.shape)
    np.testing.assert_allclose(points["x"], (u - cx) / fx * metres, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(points["y"], (v - cy) / fy * metres, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(points["z"], metres)
    assert np.isnan(metres).sum() == SCALE**2
    red, green, blue = rgb.astype(np.uint32).transpose(2, 0, 1)
    np.testing.assert_array_equal(points["rgb"], red << 16 | green << 8 | blue)


def test_different_frames_are_told_with_both_names_until_they_agree(rig: Rig) -> None:
    output = collect(rig.listener, Image, "/depth_sr/depth/image")

    def send_two_frames() -> None:
        frame = small_frame()
        rgb = image_message(frame.rgb, "rgb8", header(frame.stamp_ns, "left_optical_frame"))
        rig.camera.rgb_publisher.publish(rgb)
        depth = image_message(frame.depth, "32FC1", header(frame.stamp_ns, "tof_optical_frame"))
        rig.camera.depth_publisher.publish(depth)

    send_until(rig, lambda: rig.listener.level == DiagnosticStatus.WARN, send_two_frames)
    said = "the depth image is in frame 'tof_optical_frame' and the RGB image in 'left_optical_frame'"
    assert rig.listener.message.startswith(said)
    assert "set register to true" in rig.listener.message
    assert rig.node.output.count(said) == 1
    send_until(rig, lambda: rig.listener.level == DiagnosticStatus.OK)
    drop(rig.listener, output)
    wait_until_idle(rig)


def send_with(rig: Rig, info: CameraInfo) -> None:
    """A frame and its CameraInfo."""
    frame = small_frame()
    info.header = header(frame.stamp_ns, FRAME_ID)
    rig.camera.info_publisher.publish(info)
    rig.camera.rgb_publisher.publish(image_message(frame.rgb, "rgb8", info.header))
    rig.camera.depth_publisher.publish(image_message(frame.depth, "32FC1", info.header))


def test_a_camera_info_of_another_size_than_its_images_is_told_once_until_they_agree(rig: Rig) -> None:
    output = collect(rig.listener, Image, "/depth_sr/depth/image")
    full = pinhole_camera_info((2 * WIDTH, 2 * HEIGHT), *OPTICS)
    said = f"rgb/camera_info is of {2 * WIDTH}x{2 * HEIGHT} images, but the rgb image is {WIDTH}x{HEIGHT}: "
    send_until(rig, lambda: rig.listener.message.startswith(said), lambda: send_with(rig, full))
    assert rig.listener.level == DiagnosticStatus.WARN
    answered = len(output.messages)
    send_until(rig, lambda: len(output.messages) > answered + 2, lambda: send_with(rig, full))
    assert rig.node.output.count(said) == 1
    full.binning_x = full.binning_y = 2  # now it says that the images are half as large
    send_until(rig, lambda: rig.listener.level == DiagnosticStatus.OK, lambda: send_with(rig, full))
    drop(rig.listener, output)
    wait_until_idle(rig)


def test_a_camera_info_of_before_a_pause_is_not_used_after_it(rig: Rig) -> None:
    topics = [collect(rig.listener, kind, f"/depth_sr/depth/{name}") for kind, name in DEPTH_OUTPUTS]
    send_until(rig, lambda: all(topic.messages for topic in topics))
    for topic in topics:
        drop(rig.listener, topic)
    wait_until_idle(rig)
    images, infos = (collect(rig.listener, kind, f"/depth_sr/depth/{name}") for kind, name in DEPTH_OUTPUTS)

    def send_images() -> None:
        head = header(next_stamp(), FRAME_ID)
        rig.camera.rgb_publisher.publish(image_message(rgb_pixels(), "rgb8", head))
        rig.camera.depth_publisher.publish(image_message(plane(), "32FC1", head))

    send_until(rig, lambda: len(images.messages) > 2, send_images)
    assert not infos.messages
    send_until(rig, lambda: infos.messages)  # the camera's CameraInfo comes again
    for topic in (images, infos):
        drop(rig.listener, topic)
    wait_until_idle(rig)


def compressed(image_format: str, data: bytes, stamp_ns: int) -> CompressedImage:
    return CompressedImage(header=header(stamp_ns, FRAME_ID), format=image_format, data=data)


def encoded(extension: str, pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(extension, pixels)
    assert done
    return data.tobytes()


def test_jpeg_and_compressed_depth_are_read_from_their_transports_topics() -> None:
    parameters = {**SIZES, "input.rgb_transport": "compressed", "input.depth_transport": "compressedDepth"}
    with running(lambda arguments: EngineProcess("slow", 0.0, parameters, arguments), "/jpeg") as rig:
        publishers = {
            name: rig.camera.create_publisher(CompressedImage, f"{name}/{transport}", qos_profile_sensor_data)
            for name, transport in (("rgb/image", "compressed"), ("depth/image", "compressedDepth"))
        }
        points = collect(rig.listener, PointCloud2, "/jpeg/depth_sr/points")
        camera_info = pinhole_camera_info((WIDTH, HEIGHT), *OPTICS)
        orange = np.full((HEIGHT, WIDTH, 3), (0, 128, 255), np.uint8)  # blue first
        millimetres = np.nan_to_num(slope() * 1000).astype(np.uint16)

        def send() -> None:
            stamp_ns = next_stamp()
            camera_info.header = header(stamp_ns, FRAME_ID)
            rig.camera.info_publisher.publish(camera_info)
            jpeg = encoded(".jpg", orange)
            publishers["rgb/image"].publish(compressed("bgr8; jpeg compressed bgr8", jpeg, stamp_ns))
            png = struct.pack("<iff", 0, 0.0, 0.0) + encoded(".png", millimetres)
            publishers["depth/image"].publish(compressed("16UC1; compressedDepth png", png, stamp_ns))

        send_until(rig, lambda: points.messages and rig.listener.images, send)
        expected = np.kron(millimetres, np.ones((SCALE, SCALE))) / 1000
        metres = np.nan_to_num(rig.listener.images[0].metres())
        np.testing.assert_allclose(metres, expected, rtol=1e-6)
        colours = np.frombuffer(points.messages[0].data, np.uint32).reshape(-1, 4)[:, 3]
        red, green, blue = (int(np.median(colours >> shift & 255)) for shift in (16, 8, 0))
        assert (red, green, blue) == pytest.approx((255, 128, 0), abs=3)
        rig.listener.fresh_counters()
        assert rig.listener.values["rgb_topic"] == "/jpeg/rgb/image/compressed"
        assert rig.listener.values["depth_topic"] == "/jpeg/depth/image/compressedDepth"


def test_register_moves_the_depth_of_a_shifted_camera_to_where_the_rgb_camera_sees_it(tmp_path: Path) -> None:
    """The depth camera stands 0.1 m to the right: a surface at depth z moves by 150 * 0.1 / z pixels."""
    parameters = {
        **SIZES,
        "checkpoint": save_untrained(tmp_path),
        "register": "true",
        "extrinsics.source": "parameter",
        "extrinsics.translation": "[0.1, 0.0, 0.0]",
        "output.max_fill_distance": 0,
    }
    size = (WIDTH // SCALE, HEIGHT // SCALE)
    small = PinholeCamera(WIDTH, HEIGHT, *OPTICS[0], *OPTICS[1]).resized(*size)
    depth = plane(2.0)
    depth[:, : size[0] // 2] = 1.0  # up to column 80 of the RGB image
    with running(lambda arguments: NodeProcess(parameters, arguments), "/register") as rig:
        info_publisher = rig.camera.create_publisher(CameraInfo, "depth/camera_info", qos_profile_sensor_data)
        info = pinhole_camera_info(size, (small.fx, small.fy), (small.cx, small.cy))
        send_until(
            rig, lambda: "register is true, but no message has come on depth/camera_info" in rig.node.output
        )

        def send() -> None:
            frame = Frame(rgb_pixels(), depth, next_stamp())
            info.header = header(frame.stamp_ns, "tof_optical_frame")
            info_publisher.publish(info)
            rig.camera.send(frame)

        send_until(rig, lambda: rig.listener.images, send)
        row = rig.listener.images[-1].metres()[HEIGHT // 2]
        assert np.isnan(row[[0, 4, 8]]).all()  # seen by the RGB camera only
        np.testing.assert_allclose(row[[24, 50, 88]], 1.0, rtol=0.02)  # 15 pixels to the right, to 95
        np.testing.assert_allclose(row[[104, 130, 150]], 2.0, rtol=0.02)


@pytest.mark.skipif(sync.message_filters is not None, reason="message_filters is installed")
def test_a_policy_of_message_filters_without_it_is_told_in_one_sentence() -> None:
    with EngineProcess(parameters={"sync.policy": "approximate"}) as node:
        assert node.wait() == 1, node.output
        (fatal,) = [line for line in node.output.splitlines() if "[FATAL]" in line]
        assert "sync.policy 'approximate' needs message_filters, which cannot be imported" in fatal
        assert "or use the default sync.policy 'nearest'" in fatal
        assert "Traceback" not in node.output
