# SPDX-License-Identifier: Apache-2.0
"""The node under an engine that is too slow, and under one that breaks down, over real DDS."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from ros_helpers import EngineProcess, Listener, start_ros

from depth_sr_ros.ros.messages import NS_PER_S, pinhole_camera_info
from depth_sr_ros.ros.sequence_player import Frame, SequencePlayer

pytestmark = pytest.mark.alone

RGB = np.zeros((48, 64, 3), np.uint8)
DEPTH = np.full((12, 16), 1500, np.uint16)


@pytest.fixture
def listener() -> Iterator[Listener]:
    out = Listener(name="load_listener")
    yield out
    out.close()


@pytest.fixture
def camera() -> Iterator[SequencePlayer]:
    start_ros()
    out = SequencePlayer(pinhole_camera_info((64, 48), (60.0, 60.0), (31.5, 23.5)), name="load_camera")
    yield out
    out.destroy_node()


def play(camera: SequencePlayer, frames: int, rate_hz: float) -> threading.Thread:
    """Start to play in the background; joined by the caller."""
    sequence = [Frame(RGB, DEPTH, 1_700_000_000 * NS_PER_S + i * NS_PER_S // 30) for i in range(frames)]
    thread = threading.Thread(target=lambda: list(camera.play(sequence, rate_hz)))
    thread.start()
    return thread


def test_when_the_network_is_too_slow_the_newest_pair_wins_and_the_others_are_counted(
    listener: Listener, camera: SequencePlayer
) -> None:
    with EngineProcess("slow", 0.15) as node:
        listener.wait_for_node(node)
        camera.wait_until_heard()
        playing = play(camera, frames=60, rate_hz=30)
        listener.spin_until(lambda: not playing.is_alive(), process=node)
        last = 1_700_000_000 * NS_PER_S + 59 * NS_PER_S // 30
        image = listener.image_with(last, node)  # the newest is never the one that is dropped
        np.testing.assert_allclose(image.metres(), 1.5, rtol=1e-6)
        counters = listener.fresh_counters()
        assert counters["pairs"] == 60
        assert counters["overwritten"] > 30
        assert counters["overwritten"] + counters["published"] == 60
        stamps = [image.stamp_ns for image in listener.images]
        assert stamps == sorted(set(stamps))
        node.send(signal.SIGTERM)
        assert node.wait() == 0, node.output


def test_when_the_network_breaks_down_a_node_that_started_itself_says_why_and_ends_with_an_error(
    listener: Listener, camera: SequencePlayer
) -> None:
    with EngineProcess("breaks", 3) as node:
        listener.wait_for_node(node)
        camera.wait_until_heard()
        playing = play(camera, frames=30, rate_hz=30)
        assert node.wait() == 1, node.output
        playing.join()
        reason = "the network failed: RuntimeError: CUDA error: an illegal memory access was encountered"
        last = node.output.splitlines()[-1]
        assert "[FATAL]" in last and last.endswith(
            f"{reason}; the process ends, so that it can be started anew"
        )
        assert node.output.count("the network failed:\n") == 1  # with its traceback
        listener.spin_until(lambda: listener.message == f"inactive: {reason}")
        assert listener.level == DiagnosticStatus.ERROR
        counters = listener.values
        assert (counters["published"], counters["failed"]) == ("3", "1")
