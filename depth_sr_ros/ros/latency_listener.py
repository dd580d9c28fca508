# SPDX-License-Identifier: Apache-2.0
"""The listener of a benchmark, a process of its own: its DDS transports are set when a process starts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from depth_sr_ros.ros.main import StopSignals
from depth_sr_ros.ros.peer import run_peer
from depth_sr_ros.ros.probe import OUTPUT_TOPIC, Probe
from depth_sr_ros.ros.synthetic_camera import DIRECT_TOPIC


def run(arguments: argparse.Namespace, signals: StopSignals) -> int:
    """Listen until all frames are sent and answered; write what came; 1 where that takes too long."""
    probe = Probe(DIRECT_TOPIC if arguments.direct else OUTPUT_TOPIC, timing=not arguments.direct)
    try:
        probe.wait(lambda: probe.sent is not None or signals.received, arguments.timeout)
        if probe.sent is None:
            print(f"the camera had not sent all after {arguments.timeout:g} s; {probe.received} images came")
            return 1
        if not probe.settle(node=not arguments.direct):
            print(f"the node still works, long after the last frame: {probe.counters}")
            return 1
    finally:
        probe.close()
    found = {
        "sent": probe.sent,
        "latencies_ms": probe.latencies_ms,
        "timings": probe.timings,
        "counters": probe.counters,
    }
    arguments.out.write_text(json.dumps(found))
    return 0


def main() -> int:
    """Entry point of the process; `depth_sr_ros.ros.node_benchmark` starts it."""
    parser = argparse.ArgumentParser(description="Note when the images of a synthetic camera arrive.")
    parser.add_argument(
        "--direct", action="store_true", help=f"listen to the camera itself, on {DIRECT_TOPIC}"
    )
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="seconds until the camera must have ended"
    )
    parser.add_argument("--out", type=Path, required=True, help="the file to write, JSON")
    arguments = parser.parse_args()
    signals = StopSignals()
    return run_peer(lambda: run(arguments, signals))


if __name__ == "__main__":
    sys.exit(main())
