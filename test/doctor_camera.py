# SPDX-License-Identifier: Apache-2.0
"""A camera as a process of its own that nobody has to listen to: healthy, or with a fault by name.

Faults: `clock` (depth stamps 2 s ahead), `metres` (metres in 16UC1), `qos` (two publishers of
depth, and a reliable subscriber to the best-effort RGB), `late` (nothing in the first 3 s of a listener).
"""

from __future__ import annotations

import sys
import time

import numpy as np
from sensor_msgs.msg import Image

from depth_sr_ros.image_codec import depth_view, rgb_view
from depth_sr_ros.ros.main import StopSignals
from depth_sr_ros.ros.messages import header, image_message, pinhole_camera_info
from depth_sr_ros.ros.peer import run_peer, wait_for_subscriber
from depth_sr_ros.ros.sequence_player import Frame, SequencePlayer
from depth_sr_ros.ros.synthetic_camera import FRAME_ID, scene

RATE_HZ = 15.0
RGB_SIZE, DEPTH_SIZE = (640, 480), (160, 120)


def run(fault: str) -> int:
    signals = StopSignals()
    info = pinhole_camera_info(RGB_SIZE, (RGB_SIZE[0], RGB_SIZE[0]), (RGB_SIZE[0] / 2, RGB_SIZE[1] / 2))
    player = SequencePlayer(info, FRAME_ID, name="camera")
    if fault == "qos":
        player.create_publisher(Image, "depth/image", 1)
        player.create_subscription(Image, "rgb/image", lambda image: None, 1)
    pictures = [(rgb_view(rgb)[0], depth_view(depth)[0]) for rgb, depth in scene(RGB_SIZE, DEPTH_SIZE)]
    print("started", flush=True)
    if fault == "late":
        wait_for_subscriber(player.depth_publisher, is_stopped=lambda: signals.received)
        time.sleep(3.0)
    sent, start = 0, time.monotonic()
    while not signals.received:
        time.sleep(max(0.0, start + sent / RATE_HZ - time.monotonic()))
        rgb, depth = pictures[sent % len(pictures)]
        if fault == "metres":
            depth = (depth // 1000).astype(np.uint16)
        frame = Frame(rgb, depth, time.time_ns())
        if fault == "clock":
            late = header(frame.stamp_ns + 2 * 10**9, FRAME_ID)
            info.header = late
            player.info_publisher.publish(info)
            player.rgb_publisher.publish(image_message(rgb, "rgb8", header(frame.stamp_ns, FRAME_ID)))
            player.depth_publisher.publish(image_message(depth, "16UC1", late))
        else:
            player.send(frame)
        sent += 1
    player.destroy_node()
    return 0


if __name__ == "__main__":
    sys.exit(run_peer(lambda: run(sys.argv[1])))
