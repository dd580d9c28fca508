# SPDX-License-Identifier: Apache-2.0
"""The demo's camera, a process of its own: decodes the shipped sequence and publishes it like a driver.

The exact depth goes out beside it, on a topic that only the demo's viewer hears, for scoring.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.demo_sequence import FRAME_ID, SequenceFrame, read_intrinsics, read_sequence
from depth_sr_ros.ros.main import StopSignals
from depth_sr_ros.ros.messages import NS_PER_S, header, image_message, pinhole_camera_info
from depth_sr_ros.ros.peer import POLL_PERIOD_S, START_TIMEOUT_S, run_peer, wait_for_subscriber
from depth_sr_ros.ros.sequence_player import Frame, SequencePlayer

TRUTH_TOPIC = "/truth/depth/image"


def make_player(camera: PinholeCamera) -> SequencePlayer:
    """The publisher of RGB, CameraInfo and depth; needs rclpy to be initialised."""
    info = pinhole_camera_info((camera.width, camera.height), (camera.fx, camera.fy), (camera.cx, camera.cy))
    return SequencePlayer(info, FRAME_ID, name="demo_camera")


def live(sequence: list[SequenceFrame], rate_hz: float) -> Iterator[Frame]:
    """The frames with stamps from now on, at a steady rate."""
    start = time.time_ns()
    for index, frame in enumerate(sequence):
        yield Frame(frame.rgb, frame.depth_mm, start + round(index * NS_PER_S / rate_hz))


def run(arguments: argparse.Namespace, signals: StopSignals) -> int:
    """Plays the sequence once, then stays: a process that ends takes with it what nobody has fetched yet."""
    sequence = read_sequence(arguments.sequence, arguments.frames)
    player = make_player(read_intrinsics(arguments.sequence))
    truth = player.create_publisher(Image, TRUTH_TOPIC, QoSProfile(depth=len(sequence)))
    player.wait_until_heard(START_TIMEOUT_S, lambda: signals.received)
    wait_for_subscriber(truth, ": start the demo again", lambda: signals.received)
    played = player.play(live(sequence, arguments.rate), arguments.rate, lambda: not signals.received)
    for frame, sent in zip(sequence, played, strict=False):  # a signal ends what is played
        truth.publish(image_message(frame.truth_mm, "16UC1", header(sent.stamp_ns, FRAME_ID)))
    while not signals.received:
        time.sleep(POLL_PERIOD_S)
    player.destroy_node()
    return 0


def main() -> int:
    """Entry point of the process; `depth_sr_ros.demo` starts it."""
    parser = argparse.ArgumentParser(description="Publish the demo's sequence like a camera driver.")
    parser.add_argument("--sequence", type=Path, required=True)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--rate", type=float, default=15.0)
    arguments = parser.parse_args()
    signals = StopSignals()
    return run_peer(lambda: run(arguments, signals))


if __name__ == "__main__":
    sys.exit(main())
