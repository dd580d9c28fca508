# SPDX-License-Identifier: Apache-2.0
"""The demo: a synthetic camera, the node and a viewer, three processes that talk over DDS."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from depth_sr_ros.demo_sequence import SHIPPED_SEQUENCE
from depth_sr_ros.depth_io import make_folder
from depth_sr_ros.errors import ConfigError, DataError
from depth_sr_ros.ros_domain import isolate

if TYPE_CHECKING:
    from depth_sr_ros.ros.main import StopSignals
    from depth_sr_ros.ros.processes import Processes

RATES_HZ = (1.0, 60.0)
POLL_PERIOD_S = 0.1


def run_demo(out: Path, rate: float = 15.0, frames: int | None = None) -> int:
    """Plays the shipped sequence through the node and scores what comes back; returns the exit code.

    A signal ends it, all three processes included: 130.
    Writes `demo.png`, `demo.json` and the logs of the node and the camera into `out`.

    Args:
        out: where to write; created if needed.
        rate: frames per second, 1 to 60.
        frames: how many frames to play; all of them where None.

    Raises:
        ConfigError: `rate` or `frames` is out of range.
        DataError: the sequence is missing, rclpy is not installed, or `out` cannot be made.
    """
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise ConfigError(f"rate {rate:g} Hz must be between {RATES_HZ[0]:g} and {RATES_HZ[1]:g}")
    if frames is not None and frames < 2:
        raise ConfigError(f"frames {frames} must be at least 2: a rate is measured between frames")
    if importlib.util.find_spec("rclpy") is None:
        raise DataError(
            "the demo needs rclpy: source a ROS 2 distribution, or pip install 'depth_sr_ros[ros]'"
        )
    if not SHIPPED_SEQUENCE.is_dir():
        raise DataError(f"the demo's sequence is not at {SHIPPED_SEQUENCE}: install the package again")
    from depth_sr_ros.ros.main import StopSignals
    from depth_sr_ros.ros.processes import Processes

    make_folder(out)
    signals = StopSignals()
    with Processes(_environment(), logs=out) as processes:
        _start(processes, out, rate, frames)
        return _supervise(processes, signals)


def _environment() -> dict[str, str]:
    """What the three processes get: a ROS domain of their own and a transport that holds images."""
    from depth_sr_ros.ros import dds

    environment = dict(os.environ)
    isolate(environment)
    dds.use_profile(environment)
    return environment


def _start(processes: Processes, out: Path, rate: float, frames: int | None) -> None:
    """The viewer first, so that it hears everything; the camera waits for both others by itself."""
    sequence: list[object] = ["--sequence", SHIPPED_SEQUENCE]
    if frames is not None:
        sequence += ["--frames", frames]
    # The viewer has the terminal, for its progress bar.
    processes.start("viewer", "depth_sr_ros.ros.demo_viewer", [*sequence, "--out", out], has_terminal=True)
    processes.start("node", "depth_sr_ros.ros.main")
    processes.start("camera", "depth_sr_ros.ros.demo_camera", [*sequence, "--rate", rate])


def _supervise(processes: Processes, signals: StopSignals) -> int:
    """Waits for the viewer's end; a node or camera that fails ends the demo with the end of its log."""
    from depth_sr_ros.ros.main import STOPPED

    others = ("node", "camera")
    while processes.ended("viewer") is None:
        if signals.received:
            return STOPPED
        for name in others:
            if processes.ended(name) is not None:
                return _complain(processes, name)
        time.sleep(POLL_PERIOD_S)
    codes = processes.stop()
    for name in others:
        if codes[name]:
            return _complain(processes, name)
    return codes["viewer"]


def _complain(processes: Processes, name: str) -> int:
    print(processes.complaint(name), file=sys.stderr)
    return 1
