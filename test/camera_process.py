# SPDX-License-Identifier: Apache-2.0
"""A camera as a process of its own: plays the frames of a folder once, then stays until it is told to end.

The folder holds rgb.npy (uint8 NxHxWx3), depth.npy (float32 Nxhxw metres) and stamps.npy (int64 N,
nanoseconds); sent.json gets the steady clock's nanoseconds at which each stamp went out.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.signals import SignalHandlerOptions

from depth_sr_ros.ros import dds
from depth_sr_ros.ros.main import StopSignals
from depth_sr_ros.ros.messages import pinhole_camera_info
from depth_sr_ros.ros.sequence_player import Frame, SequencePlayer


def main(folder: Path, rate_hz: float) -> None:
    signals = StopSignals()
    dds.prepare_process()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    rgb, depth, stamps = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("rgb", "depth", "stamps")
    )
    height, width = rgb.shape[1:3]
    focal = 0.9 * width
    info = pinhole_camera_info((width, height), (focal, focal), ((width - 1) / 2, (height - 1) / 2))
    player = SequencePlayer(info, "kinect_color_optical_frame")
    player.wait_until_heard(is_stopped=lambda: signals.received)
    frames = (Frame(*frame) for frame in zip(rgb, depth, map(int, stamps), strict=True))
    sent = dict(player.play(frames, rate_hz, lambda: not signals.received))
    (folder / "sent.json").write_text(json.dumps(sent))
    print("played", flush=True)
    # A process that ends takes with it what its readers have not fetched yet.
    while not signals.received:
        time.sleep(0.05)
    player.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
