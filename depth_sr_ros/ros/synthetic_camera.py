# SPDX-License-Identifier: Apache-2.0
"""A camera for measurements, a process of its own: frames made beforehand, stamped by the steady clock.

All processes of a machine share that clock: whoever receives a stamp knows how long ago the frame was sent.
When all is sent it says how many frames that were, on PLAYED_TOPIC, and stays until it is told to end.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import UInt32

from depth_sr_ros.image_size import Size, size_of
from depth_sr_ros.ros.endpoints import OUTPUT_QOS
from depth_sr_ros.ros.main import StopSignals
from depth_sr_ros.ros.messages import header, image_message, pinhole_camera_info
from depth_sr_ros.ros.peer import POLL_PERIOD_S, START_TIMEOUT_S, run_peer, wait_for_subscriber
from depth_sr_ros.ros.sequence_player import SequencePlayer

PLAYED_TOPIC = "/synthetic_camera/played"
DIRECT_TOPIC = "/synthetic_camera/image"
# A late subscriber gets it too.
PLAYED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
FRAME_ID = "camera_color_optical_frame"
PICTURES = 8


def scene(rgb_size: Size, depth_size: Size) -> Iterator[tuple[Image, Image]]:
    """RGB (rgb8) and depth (16UC1, mm, some holes) of a disc that moves over a slope; PICTURES of them."""
    for step in range(PICTURES):
        planes = []
        for width, height in (rgb_size, depth_size):
            y, x = np.mgrid[:height, :width].astype(np.float32) / (height, width)[0]
            centre = (0.3 + 0.1 * step) * width / height, 0.5
            planes.append((np.hypot(x - centre[0], y - centre[1]) < 0.25, x + y))
        disc, slope = planes[0]
        rgb = np.stack([np.where(disc, 220, 90 * slope + shade) for shade in (20, 60, 40)], -1).astype(
            np.uint8
        )
        disc, slope = planes[1]
        depth = np.where(disc, 900, 1500 + 600 * slope).astype(np.uint16)
        depth[::7, ::11] = 0
        yield (
            image_message(rgb, "rgb8", header(0, FRAME_ID)),
            image_message(depth, "16UC1", header(0, FRAME_ID)),
        )


def camera(
    rgb_size: Size, depth_size: Size, is_stopped: Callable[[], bool]
) -> tuple[Node, Callable[[int], None]]:
    """A camera that a depth_sr node hears already (unless it is stopped), and what sends its nth frame."""
    info = pinhole_camera_info(rgb_size, (rgb_size[0], rgb_size[0]), (rgb_size[0] / 2, rgb_size[1] / 2))
    player = SequencePlayer(info, FRAME_ID, name="synthetic_camera")
    pictures = list(scene(rgb_size, depth_size))
    player.wait_until_heard(START_TIMEOUT_S, is_stopped)

    def send(index: int) -> None:
        rgb, depth = pictures[index % PICTURES]
        head = header(time.monotonic_ns(), FRAME_ID)
        rgb.header = depth.header = info.header = head
        player.info_publisher.publish(info)
        player.rgb_publisher.publish(rgb)
        player.depth_publisher.publish(depth)

    return player, send


def direct_camera(size: Size, is_stopped: Callable[[], bool]) -> tuple[Node, Callable[[int], None]]:
    """A publisher of what the node would answer: 32FC1 of the RGB's size, with the node's QoS."""
    node = Node("synthetic_camera")
    publisher = node.create_publisher(Image, DIRECT_TOPIC, OUTPUT_QOS)
    depth = np.linspace(1, 3, size[0] * size[1], dtype=np.float32).reshape(size[::-1])
    pictures = [image_message(depth + i, "32FC1", header(0, FRAME_ID)) for i in range(PICTURES)]
    wait_for_subscriber(publisher, is_stopped=is_stopped)

    def send(index: int) -> None:
        picture = pictures[index % PICTURES]
        picture.header = header(time.monotonic_ns(), FRAME_ID)
        publisher.publish(picture)

    return node, send


def run(arguments: argparse.Namespace, signals: StopSignals) -> int:
    """Send all frames at the rate, say how many, stay until a signal; returns 0."""

    def is_stopped() -> bool:
        return signals.received

    node, send = (
        direct_camera(arguments.rgb_size, is_stopped)
        if arguments.direct
        else camera(arguments.rgb_size, arguments.depth_size, is_stopped)
    )
    played = node.create_publisher(UInt32, PLAYED_TOPIC, PLAYED_QOS)
    # Whoever measures subscribes to it once it hears the images.
    wait_for_subscriber(played, is_stopped=is_stopped)
    sent, start = 0, time.monotonic()
    while sent < arguments.frames and not signals.received:
        time.sleep(max(0.0, start + sent / arguments.rate - time.monotonic()))
        send(sent)
        sent += 1
    played.publish(UInt32(data=sent))
    # A process that ends takes with it what nobody has fetched yet.
    while not signals.received:
        time.sleep(POLL_PERIOD_S)
    node.destroy_node()
    return 0


def main() -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="Publish synthetic RGB-D frames like a camera driver.")
    parser.add_argument("--rgb-size", type=size_of, default=(640, 480))
    parser.add_argument("--depth-size", type=size_of, default=(160, 120))
    parser.add_argument("--rate", type=float, default=15.0, help="frames per second")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--direct", action="store_true", help=f"publish 32FC1 images on {DIRECT_TOPIC} alone")
    arguments = parser.parse_args()
    signals = StopSignals()
    return run_peer(lambda: run(arguments, signals))


if __name__ == "__main__":
    sys.exit(main())
