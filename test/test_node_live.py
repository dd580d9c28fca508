# SPDX-License-Identifier: Apache-2.0
"""The real node in a process of its own over real DDS: outputs, bad frames, counters, start and stop."""

from __future__ import annotations

import signal
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from lifecycle_client import (
    FRAME_ID,
    HEIGHT,
    OPTICS,
    SCALE,
    SIZES,
    WIDTH,
    next_stamp,
    plane,
    save_untrained,
)
from ros_helpers import Listener, NodeProcess, start_ros
from sensor_msgs.msg import Image

from depth_sr_ros.image_codec import DEPTH_ENCODINGS, RGB_ENCODINGS
from depth_sr_ros.ros.messages import header, image_message, pinhole_camera_info
from depth_sr_ros.ros.sequence_player import Frame, SequencePlayer

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("weights"))


class Rig(NamedTuple):
    """A camera that feeds two nodes: one publishes metres, the other, in the namespace /mm, millimetres."""

    node: NodeProcess
    listener: Listener
    mm_node: NodeProcess
    mm_listener: Listener
    camera: SequencePlayer
    rejected: list[str]
    """The reasons of all bad frames that were sent."""


@pytest.fixture(scope="module")
def rig(checkpoint: Path) -> Iterator[Rig]:
    start_ros()
    parameters: dict[str, object] = {"checkpoint": checkpoint, **SIZES}
    topics = ("rgb/image", "rgb/camera_info", "depth/image")
    absolute = [part for topic in topics for part in ("-r", f"{topic}:=/{topic}")]
    listener, mm_listener = Listener(), Listener("/mm", "mm_listener")
    camera = SequencePlayer(pinhole_camera_info((WIDTH, HEIGHT), *OPTICS), FRAME_ID)
    with (
        NodeProcess(parameters) as node,
        NodeProcess({**parameters, "output.encoding": "16UC1"}, ["-r", "__ns:=/mm", *absolute]) as mm_node,
    ):
        for one, process in ((listener, node), (mm_listener, mm_node)):
            one.wait_for_node(process)
            one.wait_for_camera(process)
        camera.wait_until_heard()
        yield Rig(node, listener, mm_node, mm_listener, camera, [])
    for ros_node in (listener, mm_listener):
        ros_node.close()
    camera.destroy_node()


def rgb_pixels(encoding: str = "rgb8") -> np.ndarray:
    channels = RGB_ENCODINGS[encoding][0]
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


def messages(stamp_ns: int, rgb_encoding: str = "rgb8", depth_encoding: str = "32FC1") -> tuple[Image, Image]:
    head = header(stamp_ns, FRAME_ID)
    depth = plane() if depth_encoding == "32FC1" else (plane() * 1000).astype(np.uint16)
    return image_message(rgb_pixels(rgb_encoding), rgb_encoding, head), image_message(
        depth, depth_encoding, head
    )


def send(camera: SequencePlayer, rgb: Image, depth: Image) -> None:
    camera.rgb_publisher.publish(rgb)
    camera.depth_publisher.publish(depth)


def play(camera: SequencePlayer, frames: int, rate_hz: float) -> threading.Thread:
    """Start to play in the background; joined by the caller."""
    sequence = [Frame(rgb_pixels(), plane(), next_stamp()) for _ in range(frames)]
    thread = threading.Thread(target=lambda: list(camera.play(sequence, rate_hz)))
    thread.start()
    return thread


def test_the_output_has_the_size_stamp_and_frame_of_the_rgb_image(rig: Rig) -> None:
    sent = rig.camera.send(Frame(rgb_pixels(), plane(), next_stamp()))
    image = rig.listener.image_with(sent.stamp_ns, rig.node)
    message = image.message
    assert (message.width, message.height, message.encoding) == (WIDTH, HEIGHT, "32FC1")
    assert (message.step, len(message.data)) == (4 * WIDTH, 4 * WIDTH * HEIGHT)
    assert message.header == header(sent.stamp_ns, FRAME_ID)
    np.testing.assert_allclose(image.metres(), 2.0, rtol=1e-3)


def test_the_camera_info_is_the_rgbs_with_the_header_of_the_output(rig: Rig) -> None:
    sent = rig.camera.send(Frame(rgb_pixels(), plane(), next_stamp()))
    head = header(sent.stamp_ns, FRAME_ID)
    rig.listener.spin_until(lambda: any(info.header == head for info in rig.listener.infos))
    expected = pinhole_camera_info((WIDTH, HEIGHT), *OPTICS)
    expected.header = head
    assert expected in rig.listener.infos


def test_millimetres_are_the_rounded_metres(rig: Rig) -> None:
    ramp = np.linspace(0.5, 6.0, plane().size, dtype=np.float32).reshape(plane().shape)
    sent = rig.camera.send(Frame(rgb_pixels(), ramp, next_stamp()))
    metres = rig.listener.image_with(sent.stamp_ns, rig.node).metres()
    image = rig.mm_listener.image_with(sent.stamp_ns, rig.mm_node)
    assert (image.message.encoding, image.message.step) == ("16UC1", 2 * WIDTH)
    millimetres = np.frombuffer(image.message.data, np.uint16).reshape(HEIGHT, WIDTH)
    np.testing.assert_array_equal(millimetres, np.rint(metres * 1000))
    assert millimetres.min() < 700 and millimetres.max() > 5800


@pytest.mark.parametrize(
    ("rgb_encoding", "depth_encoding"),
    [*((rgb, "16UC1") for rgb in RGB_ENCODINGS), *(("bgr8", depth) for depth in DEPTH_ENCODINGS)],
)
def test_every_supported_encoding_is_answered(rig: Rig, rgb_encoding: str, depth_encoding: str) -> None:
    stamp_ns = next_stamp()
    send(rig.camera, *messages(stamp_ns, rgb_encoding, depth_encoding))
    np.testing.assert_allclose(rig.listener.image_with(stamp_ns, rig.node).metres(), 2.0, rtol=1e-3)


def test_padded_rows_and_the_foreign_byte_order_are_answered(rig: Rig) -> None:
    stamp_ns = next_stamp()
    rgb, depth = messages(stamp_ns, depth_encoding="16UC1")
    rows = np.frombuffer(depth.data, np.uint16).byteswap().view(np.uint8).reshape(depth.height, -1)
    padded = np.pad(rows, ((0, 0), (0, 3)), constant_values=255)
    depth.data, depth.step = array("B", padded.tobytes()), padded.shape[1]
    depth.is_bigendian = 1 - depth.is_bigendian
    send(rig.camera, rgb, depth)
    np.testing.assert_allclose(rig.listener.image_with(stamp_ns, rig.node).metres(), 2.0, rtol=1e-3)


def test_a_depth_image_without_any_measurement_gives_nan_and_zero(rig: Rig) -> None:
    sent = rig.camera.send(Frame(rgb_pixels(), plane(np.nan), next_stamp()))
    assert np.isnan(rig.listener.image_with(sent.stamp_ns, rig.node).metres()).all()
    assert not any(rig.mm_listener.image_with(sent.stamp_ns, rig.mm_node).message.data)


def wrong_rgb_encoding(rgb: Image, depth: Image) -> None:
    rgb.encoding = "yuv422_yuy2"


def wrong_depth_encoding(rgb: Image, depth: Image) -> None:
    depth.encoding = "8UC1"


def truncated_rgb(rgb: Image, depth: Image) -> None:
    rgb.data = rgb.data[:-100]


def truncated_depth(rgb: Image, depth: Image) -> None:
    depth.data = depth.data[: len(depth.data) // 2]


def zero_size_rgb(rgb: Image, depth: Image) -> None:
    rgb.width, rgb.height, rgb.step, rgb.data = 0, 0, 0, array("B")


def zero_size_depth(rgb: Image, depth: Image) -> None:
    depth.height, depth.data = 0, array("B")


def step_too_small(rgb: Image, depth: Image) -> None:
    rgb.step = WIDTH


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            wrong_rgb_encoding,
            "the RGB encoding is 'yuv422_yuy2', but must be one of rgb8, bgr8, rgba8, bgra8, mono8",
        ),
        (wrong_depth_encoding, "the depth encoding is '8UC1', but must be one of 16UC1, mono16, 32FC1"),
        (truncated_rgb, f"the RGB image's data has {WIDTH * HEIGHT * 3 - 100} bytes"),
        (truncated_depth, f"the depth image's data has {WIDTH * HEIGHT // SCALE**2 * 2} bytes"),
        (zero_size_rgb, "the RGB image is 0x0, but both sides must be at least 1"),
        (zero_size_depth, f"the depth image is {WIDTH // SCALE}x0, but both sides must be at least 1"),
        (step_too_small, f"the RGB image's step is {WIDTH} bytes, but a row of {WIDTH} rgb8 pixels needs"),
    ],
)
def test_bad_frames_are_counted_and_logged_once_and_the_next_good_pair_comes_out(
    rig: Rig, spoil: Callable[[Image, Image], None], reason: str
) -> None:
    for _ in range(3):
        rgb, depth = messages(next_stamp())
        spoil(rgb, depth)
        send(rig.camera, rgb, depth)
        rig.rejected.append(reason)
        rig.node.wait_for_output(reason)
        stamp_ns = next_stamp()
        send(rig.camera, *messages(stamp_ns))
        rig.listener.image_with(stamp_ns, rig.node)
    assert rig.node.output.count(reason) == 1, rig.node.output


def test_every_bad_frame_is_in_the_counters_with_the_last_reason(rig: Rig) -> None:
    rgb, depth = messages(next_stamp())
    rgb.encoding = "bayer_rggb8"
    send(rig.camera, rgb, depth)
    rig.rejected.append("bayer")
    rig.listener.spin_until(lambda: "bayer_rggb8" in rig.listener.values["last_error"])
    counters = rig.listener.fresh_counters()
    # The first of each reason was waited for; of the others some may have been overwritten by a newer pair.
    assert counters["bad"] + counters["overwritten"] == len(rig.rejected)
    assert counters["bad"] >= len(set(rig.rejected))
    assert counters["failed"] == counters["publish_errors"] == 0


def test_what_comes_in_is_accounted_for_exactly_at_every_report(rig: Rig) -> None:
    reports: list[dict[str, str]] = []
    rig.listener.on_report = reports.append
    playing = play(rig.camera, frames=90, rate_hz=45)
    rig.listener.spin_until(lambda: len(reports) >= 3 and not playing.is_alive())
    unpaired = int(reports[-1]["depth_unpaired"])
    rig.camera.depth_publisher.publish(messages(next_stamp())[1])  # a depth image without RGB
    rig.listener.spin_until(lambda: int(reports[-1]["depth_unpaired"]) == unpaired + 1)
    rig.listener.on_report = None
    for report in reports:
        c = {key: int(value) for key, value in report.items() if value.isdigit()}
        for stream in ("rgb", "depth"):
            parts = [c[f"{stream}_{part}"] for part in ("paired", "unpaired", "evicted", "queued")]
            assert c[f"{stream}_received"] == sum(parts)
        ends = ("overwritten", "waiting", "processing", "published", "publish_errors", "bad", "failed")
        assert c["pairs"] == sum(c[end] for end in ends) == c["depth_paired"]
        assert c["processing"] in (0, 1, 2)
    assert int(reports[-1]["rgb_received"]) > 80


def test_while_frames_come_a_signal_ends_the_node_at_once_with_code_0_and_no_traceback(rig: Rig) -> None:
    """The last test of the rig: both nodes have ended after it."""
    received = len(rig.listener.images)
    playing = play(rig.camera, frames=60, rate_hz=60)
    rig.listener.spin_until(lambda: len(rig.listener.images) > received)
    rig.node.send(signal.SIGINT)
    rig.node.send(signal.SIGINT)  # an impatient user, during the cleanup
    rig.mm_node.send(signal.SIGTERM)
    playing.join()
    for process in (rig.node, rig.mm_node):
        assert process.wait() == 0, process.output
        assert "Traceback" not in process.output
        assert "terminate" not in process.output


def test_a_signal_while_the_network_loads_ends_the_node_with_code_0(checkpoint: Path) -> None:
    with NodeProcess({"checkpoint": checkpoint, "log.period": 0.0}) as process:
        process.wait_for_output("loading")
        process.send(signal.SIGINT)
        assert process.wait() == 0, process.output
        assert "Traceback" not in process.output
        assert "ready" not in process.output


def garbage(folder: Path) -> dict[str, object]:
    path = folder / "garbage.safetensors"
    path.write_bytes(b"not a checkpoint" * 100)
    return {"checkpoint": path}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (lambda folder: {"checkpoint": folder / "none.safetensors"}, "none.safetensors"),
        (garbage, "garbage.safetensors"),
        (
            lambda folder: {"variant": "edgy"},
            "but must be one of challenge, fast, edge; did you mean 'edge'?",
        ),
        (
            lambda folder: {"warmup.rgb_size": "[-640,480]"},
            "warmup.rgb_size is -640, but must be from 40 to 16384",
        ),
        (lambda folder: {"device": "tpu"}, "device is 'tpu', but must be auto, cpu, cuda or cuda:N"),
    ],
    ids=["missing checkpoint", "damaged checkpoint", "wrong variant", "negative size", "wrong device"],
)
def test_a_start_that_cannot_work_ends_with_one_sentence_and_code_1(
    tmp_path: Path, parameters: Callable[[Path], dict[str, object]], said: str
) -> None:
    with NodeProcess(parameters(tmp_path)) as process:
        assert process.wait(60.0) == 1, process.output
        assert said in process.output
        assert process.output.count("[FATAL]") == 1, process.output
        assert "Traceback" not in process.output


def test_an_unknown_yaml_key_ends_the_start_with_the_nearest_name(tmp_path: Path) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text("depth_sr:\n  ros__parameters:\n    sync:\n      slopp: 0.1\n")
    with NodeProcess(ros_arguments=["--params-file", str(path)]) as process:
        assert process.wait() == 1, process.output
        assert "unknown parameter sync.slopp; did you mean sync.slop?" in process.output
        assert process.output.count("[FATAL]") == 1, process.output
        assert "Traceback" not in process.output


def test_a_list_of_whole_and_other_numbers_ends_the_start_with_what_to_write() -> None:
    with NodeProcess({"extrinsics.translation": "[0.015, 0, 0]"}) as process:
        assert process.wait() == 1, process.output
        assert "write 0.0 for 0 in a list of numbers that are not whole" in process.output


def test_a_broken_yaml_file_ends_the_start_with_code_1_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("depth_sr: [")
    with NodeProcess(ros_arguments=["--params-file", str(path)]) as process:
        assert process.wait() == 1, process.output
        assert "the ROS arguments cannot be used" in process.output
        assert "broken.yaml" in process.output
        assert "Traceback" not in process.output
