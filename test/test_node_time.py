# SPDX-License-Identifier: Apache-2.0
"""The running node and time: a simulated clock, a bag that loops, and signals at any moment."""

from __future__ import annotations

import itertools
import signal

import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from lifecycle_client import Rig, plane, rgb_pixels, running, send_until
from rclpy.publisher import Publisher
from ros_helpers import EngineProcess
from rosgraph_msgs.msg import Clock

from depth_sr_ros.ros.messages import NS_PER_S, header
from depth_sr_ros.ros.sequence_player import Frame

pytestmark = pytest.mark.alone

START_S = 1000


def set_clock(rig: Rig, publisher: Publisher, seconds: int) -> None:
    """Publish a time on /clock until the node has it, by the stamps of its diagnostics."""
    stamp = header(seconds * NS_PER_S, "").stamp
    while not rig.listener.reached(lambda: rig.listener.report_ns == seconds * NS_PER_S, 0.2, rig.node):
        assert rig.node.is_running, rig.node.output
        publisher.publish(Clock(clock=stamp))


def play(rig: Rig, start_s: int, frames: int) -> list[int]:
    """Frames at 5 Hz of bag time, each waited for; the last is stamped 0.5 s before `start_s`."""
    stamps = [start_s * NS_PER_S - NS_PER_S // 2 - i * NS_PER_S // 5 for i in reversed(range(frames))]
    for stamp_ns in stamps:
        rig.camera.send(Frame(rgb_pixels(), plane(), stamp_ns))
        rig.listener.image_with(stamp_ns, rig.node)
    return stamps


def test_with_a_simulated_clock_age_is_in_bag_time_and_latency_in_real_time() -> None:
    parameters: dict[str, object] = {"use_sim_time": "true"}
    with running(lambda arguments: EngineProcess("slow", 0.01, parameters, arguments), "/sim") as rig:
        clock = rig.listener.node.create_publisher(Clock, "/clock", 10)
        set_clock(rig, clock, START_S)
        first = itertools.count()
        send_until(
            rig,
            lambda: rig.listener.images,
            lambda: rig.camera.send(Frame(rgb_pixels(), plane(), (START_S - 2) * NS_PER_S + next(first))),
        )
        play(rig, START_S, 5)
        rig.listener.fresh_counters()
        values = {
            name: float(rig.listener.values[f"{name}_ms"]) for name in ("age_p50", "age_max", "latency_p50")
        }
        assert 500 <= values["age_p50"] <= values["age_max"] <= 2000
        assert 10 <= values["latency_p50"] < 500


def test_a_bag_that_loops_keeps_pairing() -> None:
    parameters: dict[str, object] = {"use_sim_time": "true"}
    with running(lambda arguments: EngineProcess("slow", 0.0, parameters, arguments), "/loop") as rig:
        clock = rig.listener.node.create_publisher(Clock, "/clock", 10)
        ticks = itertools.count()
        send_until(
            rig,
            lambda: rig.listener.images,
            lambda: rig.camera.send(Frame(rgb_pixels(), plane(), 900 * NS_PER_S + next(ticks))),
        )
        unpaired = rig.listener.fresh_counters()["depth_unpaired"]  # while connecting, depth may come first
        for turn in range(2):
            set_clock(rig, clock, START_S)
            play(rig, START_S, 10)
            assert rig.listener.fresh_counters()["resets"] == turn
            set_clock(rig, clock, START_S - 20)
            rig.listener.images.clear()
        assert rig.listener.fresh_counters()["depth_unpaired"] == unpaired


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_during_the_cleanup_does_not_disturb_it(number: signal.Signals) -> None:
    """The cleanup waits for the frame under way. With a thread left the process would not end by itself."""
    with running(lambda arguments: EngineProcess("slow", 2.0, None, arguments), "/signals") as rig:
        send_until(rig, lambda: int(rig.listener.values.get("processing", 0)) == 1)
        rig.node.send(number)
        # The inputs are withdrawn first: the cleanup is under way.
        rig.listener.spin_until(
            lambda: not rig.camera.rgb_publisher.get_subscription_count(), process=rig.node
        )
        rig.node.send(number)
        assert rig.node.wait(20.0) == 0, rig.node.output
        assert "Traceback" not in rig.node.output
