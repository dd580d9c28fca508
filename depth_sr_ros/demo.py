# SPDX-License-Identifier: Apache-2.0
"""The demo: a synthetic camera, the node and a viewer, three processes that talk over DDS."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from depth_sr_ros.demo_sequence import SHIPPED_SEQUENCE
from depth_sr_ros.depth_io import make_folder
from depth_sr_ros.errors import ConfigError, DataError
from depth_sr_ros.ros_domain import isolate

RATES_HZ = (1.0, 60.0)
STOP_TIMEOUT_S = 10.0
POLL_PERIOD_S = 0.1
LOG_LINES = 15


def run_demo(out: Path, rate: float = 15.0, frames: int | None = None) -> int:
    """Plays the shipped sequence through the node and scores what comes back; returns the exit code.

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
    from depth_sr_ros.ros.processes import end

    make_folder(out)
    processes = _start(out, rate, frames)
    try:
        return _supervise(processes, out)
    finally:
        end(processes.values(), STOP_TIMEOUT_S)


def _environment() -> dict[str, str]:
    """What the three processes get: a ROS domain of their own and a transport that holds images."""
    from depth_sr_ros.ros import dds

    environment = dict(os.environ)
    isolate(environment)
    dds.use_profile(environment)
    return environment


def _start(out: Path, rate: float, frames: int | None) -> dict[str, subprocess.Popen]:
    """The viewer first, so that it hears everything; the camera waits for both others by itself."""
    environment = _environment()
    sequence = ["--sequence", str(SHIPPED_SEQUENCE)]
    if frames is not None:
        sequence += ["--frames", str(frames)]
    commands = {
        "viewer": ["depth_sr_ros.ros.demo_viewer", *sequence, "--out", str(out)],
        "node": ["depth_sr_ros.ros.main"],
        "camera": ["depth_sr_ros.ros.demo_camera", *sequence, "--rate", str(rate)],
    }
    processes: dict[str, subprocess.Popen] = {}
    for name, command in commands.items():
        # The viewer has the terminal, for its progress bar.
        with open(os.devnull if name == "viewer" else _log(out, name), "wb") as log:
            stream = None if name == "viewer" else log
            processes[name] = subprocess.Popen(
                [sys.executable, "-m", *command], env=environment, stdout=stream, stderr=stream
            )
    return processes


def _supervise(processes: dict[str, subprocess.Popen], out: Path) -> int:
    """Waits for the viewer's end; a node or camera that fails ends the demo with the end of its log."""
    while processes["viewer"].poll() is None:
        for name in ("node", "camera"):
            if processes[name].poll() is not None:
                return _complain(name, out)
        time.sleep(POLL_PERIOD_S)
    for name in ("node", "camera"):
        processes[name].send_signal(signal.SIGINT)
        if processes[name].wait(STOP_TIMEOUT_S):
            return _complain(name, out)
    return processes["viewer"].returncode


def _complain(name: str, out: Path) -> int:
    log = _log(out, name)
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    print(f"the {name} failed; the end of {log}:", *lines, sep="\n", file=sys.stderr)
    return 1


def _log(out: Path, name: str) -> Path:
    return out / f"{name}.log"
