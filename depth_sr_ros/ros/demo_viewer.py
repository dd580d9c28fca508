# SPDX-License-Identifier: Apache-2.0
"""The demo's viewer, a process of its own: scores every depth image that it receives, then reports.

It listens for the exact depth only once it is connected to the node, and the camera starts only when somebody
listens to the exact depth: so nothing is sent before everybody can hear it, and nobody has to guess a delay.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sensor_msgs.msg import Image

from depth_sr_ros.baselines import run_baseline
from depth_sr_ros.demo_report import Row, save_picture, table
from depth_sr_ros.demo_sequence import SequenceFrame, read_sequence
from depth_sr_ros.image_codec import depth_view
from depth_sr_ros.metrics import depth_metrics, mean_metrics
from depth_sr_ros.ros.demo_camera import TRUTH_TOPIC
from depth_sr_ros.ros.endpoints import publisher_count
from depth_sr_ros.ros.main import STOPPED, StopSignals
from depth_sr_ros.ros.messages import to_nanoseconds
from depth_sr_ros.ros.peer import run_peer
from depth_sr_ros.stats import p50_p95

OUTPUT_TOPIC = "/depth_sr/depth/image"
# method -> what the table calls it
BASELINES = {"bicubic": "bicubic", "despeckle_fgs": "fast global smoother"}
START_TIMEOUT_S = 90.0
SILENCE_TIMEOUT_S = 5.0
COUNTERS_TIMEOUT_S = 3.0
POLL_PERIOD_S = 0.02
# The node's counters that tell where frames went.
COUNTERS = ("rgb_received", "depth_received", "pairs", "overwritten", "published")

Depth = npt.NDArray[np.float32]


class Received(NamedTuple):
    """One image as it arrived."""

    stamp_ns: int
    arrival_ns: int
    """Of the wall clock, like the stamps of the camera."""
    metres: Depth


class Result(NamedTuple):
    """What came in, by stamp."""

    sent: dict[int, Received]
    """The exact depth of each pair that the camera sent."""
    outputs: dict[int, Received]
    scores: dict[int, dict[str, float]]
    counters: dict[str, str]
    """The node's own counters, from /diagnostics."""

    @property
    def latencies_ms(self) -> list[float]:
        """From the stamp that the camera gave to the arrival of the result."""
        return [(output.arrival_ns - output.stamp_ns) / 1e6 for output in self.outputs.values()]


class Viewer:
    """Subscribes to the node's output, the exact depth and the node's diagnostics; a thread receives them."""

    def __init__(self, frames: int) -> None:
        self.outputs: queue.Queue[Received] = queue.Queue()
        self.truths: queue.Queue[Received] = queue.Queue()
        self.counters: queue.Queue[dict[str, str]] = queue.Queue()
        self._node = rclpy.create_node("demo_viewer")
        # As deep as the sequence is long: the queue never overflows, so a missing frame was lost on the way.
        self._qos = QoSProfile(depth=frames)
        self._output = self._node.create_subscription(
            Image, OUTPUT_TOPIC, self._receiver(self.outputs), self._qos
        )
        self._truth: Any = None
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="demo_viewer")
        self._thread.start()

    def connect(self, timeout_s: float, is_stopped: Callable[[], bool]) -> bool:
        """Waits for the node and then for the camera; False where one does not come in time."""
        if not _wait(lambda: publisher_count(self._node, self._output) > 0, timeout_s, is_stopped):
            return False
        self._truth = self._node.create_subscription(
            Image, TRUTH_TOPIC, self._receiver(self.truths), self._qos
        )
        return _wait(lambda: publisher_count(self._node, self._truth) > 0, timeout_s, is_stopped)

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()

    def _spin(self) -> None:
        while not self._closed.is_set():
            self._executor.spin_once(timeout_sec=POLL_PERIOD_S)

    def _receiver(self, target: queue.Queue[Received]) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            arrival = time.time_ns()
            values, unit = depth_view(message)
            metres = values.astype(np.float32) * np.float32(unit)
            metres[values == 0] = np.nan
            target.put(Received(to_nanoseconds(message.header.stamp), arrival, metres))

        return receive

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            if status.name.endswith("depth_sr: pipeline"):
                self.counters.put({value.key: value.value for value in status.values})


def _wait(condition: Callable[[], bool], timeout_s: float, is_stopped: Callable[[], bool]) -> bool:
    """Polls until `condition` holds; False where it does not in time, or before `is_stopped` says so."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end or is_stopped():
            return False
        time.sleep(POLL_PERIOD_S)
    return True


def watch(
    viewer: Viewer,
    frames: int,
    on_score: Callable[[int, dict[str, float]], None],
    is_stopped: Callable[[], bool],
) -> Result:
    """Scores outputs until all have come, until nothing has come for a while, or until it is to end."""
    result = Result({}, {}, {}, {})
    last = time.monotonic()
    while len(result.scores) < frames and not is_stopped():
        truths, outputs = dict(_drain(viewer.truths)), dict(_drain(viewer.outputs))
        result.sent.update(truths)
        result.outputs.update(outputs)
        for stamp in [s for s in result.outputs if s in result.sent and s not in result.scores]:
            result.scores[stamp] = depth_metrics(result.outputs[stamp].metres, result.sent[stamp].metres)
            on_score(len(result.scores), mean_metrics([*result.scores.values()]))
        if truths or outputs:
            last = time.monotonic()
        elif time.monotonic() - last > (SILENCE_TIMEOUT_S if result.sent else START_TIMEOUT_S):
            break
        else:
            time.sleep(POLL_PERIOD_S)
    if not is_stopped():
        result.counters.update(_last_counters(viewer))
    return result


def _drain(source: queue.Queue[Received]) -> Iterator[tuple[int, Received]]:
    while not source.empty():
        item = source.get()
        yield item.stamp_ns, item


def _last_counters(viewer: Viewer) -> dict[str, str]:
    """The node's counters of a moment after the stream has ended."""
    while not viewer.counters.empty():
        viewer.counters.get()
    try:
        return viewer.counters.get(timeout=COUNTERS_TIMEOUT_S)
    except queue.Empty:
        return {}


def rows_of(
    result: Result, frames: list[SequenceFrame], progress: Progress, is_stopped: Callable[[], bool]
) -> list[Row]:
    """The table: the baselines on the same frames, then what came over DDS; none if it is to end."""
    rows = []
    received = [
        frame for frame, stamp in zip(frames, sorted(result.sent), strict=True) if stamp in result.outputs
    ]
    for name, label in BASELINES.items():
        scores = [
            depth_metrics(run_baseline(name, frame.depth_m, frame.rgb), frame.truth_m)
            for frame in progress.track(received, description=f"[viewer] {label}")
            if not is_stopped()
        ]
        if is_stopped():
            return []
        mean = mean_metrics(scores)
        rows.append(Row(label, mean["rmse"], mean["mae"], mean["edge_rmse"]))
    mean = mean_metrics([*result.scores.values()])
    arrivals = sorted(output.arrival_ns for output in result.outputs.values())
    rate = (len(arrivals) - 1) / max((arrivals[-1] - arrivals[0]) * 1e-9, 1e-9)
    p50, p95 = p50_p95(result.latencies_ms)
    rows.append(Row("depth_sr_ros", mean["rmse"], mean["mae"], mean["edge_rmse"], rate, p50, p95))
    return rows


def report(result: Result, rows: list[Row], out: Path, console: Console) -> None:
    """Prints the table and where frames went, and writes both to `out`/demo.json."""
    sent, received, counters = len(result.sent), len(result.outputs), result.counters
    console.print(table(rows, f"{received} frames over DDS, scored on the received messages"))
    number = {key: int(counters[key]) for key in COUNTERS} if counters else {}
    ways = lost = ""
    if number:
        ways = (
            f"node received {number['rgb_received']} RGB and {number['depth_received']} depth, "
            f"paired {number['pairs']}, overwritten {number['overwritten']}, "
            f"published {number['published']}, "
        )
        to_node, to_viewer = sent - number["depth_received"], number["published"] - received
        lost = f"\ntransport loss: {to_node} to the node, {to_viewer} to the viewer"
    console.print(f"sent {sent} pairs, {ways}viewer received {received}{lost}")
    console.print(f"node: {counters.get('engine', 'no diagnostics received')}")
    summary = {"sent": sent, "received": received, **dict.fromkeys(COUNTERS), **number}
    content = {**summary, "engine": counters.get("engine"), "methods": [row._asdict() for row in rows]}
    (out / "demo.json").write_text(json.dumps(content, indent=1) + "\n")


def run(arguments: argparse.Namespace, console: Console, signals: StopSignals) -> int:
    """The viewer from its start to its report; returns the exit code."""

    def is_stopped() -> bool:
        return signals.received

    frames = read_sequence(arguments.sequence, arguments.frames)
    viewer = Viewer(len(frames))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("waiting for the node and the camera", total=len(frames))
            connected = viewer.connect(START_TIMEOUT_S, is_stopped)
            if signals.received:
                return STOPPED
            if not connected:
                console.print(f"no node or no camera within {START_TIMEOUT_S:.0f} s", style="red")
                return 1

            def on_score(count: int, mean: dict[str, float]) -> None:
                text = f"received over DDS, RMSE {1000 * mean['rmse']:.0f} mm"
                progress.update(task, completed=count, description=text)

            result = watch(viewer, len(frames), on_score, is_stopped)
            if signals.received:
                return STOPPED
            if not result.scores or len(result.sent) != len(frames):
                console.print(
                    f"{len(result.sent)} of {len(frames)} frames sent, {len(result.scores)} came back",
                    style="red",
                )
                return 1
            rows = rows_of(result, frames, progress, is_stopped)
            if signals.received:
                return STOPPED
    finally:
        viewer.close()
    report(result, rows, arguments.out, console)
    stamp = sorted(result.scores)[len(result.scores) // 2]
    frame = frames[sorted(result.sent).index(stamp)]
    bicubic = run_baseline("bicubic", frame.depth_m, frame.rgb)
    save_picture(arguments.out / "demo.png", frame, bicubic, result.outputs[stamp].metres)
    console.print(f"picture: {arguments.out / 'demo.png'}")
    return 0


def main() -> int:
    """Entry point of the process; `depth_sr_ros.demo` starts it."""
    parser = argparse.ArgumentParser(description="Score the demo's depth images as they arrive.")
    parser.add_argument("--sequence", type=Path, required=True)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    signals = StopSignals()
    # rclpy's own handlers would end the thread that receives before the report is written.
    return run_peer(lambda: run(arguments, Console(), signals))


if __name__ == "__main__":
    sys.exit(main())
