# SPDX-License-Identifier: Apache-2.0
"""What the node costs beside the network: from callback to publish, and from camera to listener over DDS.

Three runs a size: through the node, straight from the camera to the listener, and through the node without
the DDS profile. Camera, node and listener are processes; the node's engine only repeats pixels.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from depth_sr_ros.errors import ConfigError, DataError
from depth_sr_ros.image_size import Size, Sizes, check_sides, size_text
from depth_sr_ros.ros import dds
from depth_sr_ros.ros.main import STOPPED, StopSignals
from depth_sr_ros.ros.processes import Processes
from depth_sr_ros.ros_domain import isolate
from depth_sr_ros.stats import p50_p95

NODE, DIRECT, NO_PROFILE = "node", "no node", "node, no profile"
KINDS = (NODE, DIRECT, NO_PROFILE)
# The stages between the callback that completes a pair and the call of publish(), the network left out.
STAGES = ("wait", "decode", "encode")
# The call itself: the middleware's copies.
MIDDLEWARE = "publish"
START_TIMEOUT_S = 120.0
POLL_PERIOD_S = 0.05


@dataclass(frozen=True)
class Run:
    """One run's figures; times are (p50, p95) in milliseconds."""

    rgb_size: Size
    depth_size: Size
    kind: str
    sent: int
    received: int
    latency_ms: tuple[float, float] | None
    """From before the camera's publish to the listener's callback; None where nothing arrived."""
    node_ms: tuple[float, float] | None = None
    """From the callback that completes a pair to the call of publish(), the engine's time taken off."""
    stages_ms: dict[str, tuple[float, float]] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    """Messages by the way they took."""
    counters: dict[str, int] = field(default_factory=dict)
    """The node's."""


def run_benchmark(
    sizes: Sequence[Sizes], rate: float, frames: int, json_file: Path | None, console: Console
) -> int:
    """Measure, print the table, write the numbers; returns 0, or 130 where a signal ended it.

    Raises ConfigError on a figure out of range, DataError where a process fails.
    """
    if not 1 <= rate <= 240 or frames < 2:
        raise ConfigError(f"rate {rate:g} Hz must be from 1 to 240, and frames {frames} at least 2")
    for rgb, depth in sizes:
        check_sides(rgb, depth)
    signals = StopSignals()
    environment = dict(os.environ)
    isolate(environment)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    plan = [(*pair, kind) for pair in sizes for kind in KINDS]
    runs: list[Run] = []
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(plan))
        for rgb, depth, kind in plan:
            progress.update(task, description=f"{size_text(rgb)}, {kind}")
            run = measure(rgb, depth, kind, rate, frames, environment, lambda: signals.received)
            if run is None:
                return STOPPED
            runs.append(run)
            progress.advance(task)
    console.print(table(runs, rate))
    console.print(f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    if json_file is not None:
        content = {
            "rate_hz": rate,
            "frames": frames,
            "load": os.getloadavg(),
            "runs": [asdict(r) for r in runs],
        }
        json_file.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def measure(
    rgb_size: Size,
    depth_size: Size,
    kind: str,
    rate: float,
    frames: int,
    environment: Mapping[str, str],
    is_stopped: Callable[[], bool],
) -> Run | None:
    """One run, its processes ended; None where `is_stopped` said so. DataError where a process fails."""
    direct = ["--direct"] if kind == DIRECT else []
    timeout = START_TIMEOUT_S + frames / rate
    with tempfile.TemporaryDirectory(prefix="depth_sr_") as folder:
        found = Path(folder) / "found.json"
        with Processes(_environment(environment, kind)) as processes:
            listener = [*direct, "--timeout", timeout, "--out", found]
            processes.start("listener", "depth_sr_ros.ros.latency_listener", listener)
            if not direct:
                processes.start("node", "depth_sr_ros.ros.pass_through")
            camera = ["--rgb-size", size_text(rgb_size), "--depth-size", size_text(depth_size)]
            camera += ["--rate", str(rate), "--frames", str(frames), *direct]
            processes.start("camera", "depth_sr_ros.ros.synthetic_camera", camera)
            names = ["camera", *([] if direct else ["node"])]
            while processes.ended("listener") is None:
                if is_stopped():
                    return None
                for name in names:
                    if processes.ended(name) is not None:
                        raise DataError(processes.complaint(name))
                time.sleep(POLL_PERIOD_S)
            if processes.ended("listener"):
                raise DataError(processes.complaint("listener"))
        return _figures(rgb_size, depth_size, kind, json.loads(found.read_text()))


def table(runs: Sequence[Run], rate: float) -> Table:
    """A section a pair of sizes, a column a kind of run."""
    out = Table(title=f"the node with an engine that repeats pixels, {rate:g} Hz", title_justify="left")
    out.caption = "times: p50 / p95, ms; without the network; lost: RGB, depth, output"
    out.add_column("", no_wrap=True)
    for kind in KINDS:
        out.add_column(kind, justify="right", no_wrap=True)
    for sizes in dict.fromkeys((run.rgb_size, run.depth_size) for run in runs):
        found = {run.kind: _cells(run) for run in runs if (run.rgb_size, run.depth_size) == sizes}
        out.add_row("+".join(map(size_text, sizes)), style="bold")
        names = list(next(iter(found.values())))
        for name in names:
            cells = [found[kind][name] if kind in found else "" for kind in KINDS]
            out.add_row(name, *cells, end_section=name == names[-1])
    return out


def _cells(run: Run) -> dict[str, str]:
    out = {"callback to publish()": _span(run.node_ms)}
    out |= {f"  {stage}": _span(run.stages_ms.get(stage)) for stage in STAGES}
    out["publish()"] = _span(run.stages_ms.get(MIDDLEWARE))
    out["camera to listener"] = _span(run.latency_ms)
    out["frames received"] = f"{run.received} of {run.sent}"
    out["pairs overwritten"] = str(run.counters.get("overwritten", "-"))
    out["messages lost"] = ", ".join(str(number) for number in run.lost.values())
    return out


def _environment(base: Mapping[str, str], kind: str) -> dict[str, str]:
    """What the run's processes get: the shipped profile, which they set themselves, or none."""
    ours = (dds.PROFILE_VARIABLE, dds.FAST_DDS_VARIABLE, dds.FAST_DDS_2_VARIABLE)
    out = {key: value for key, value in base.items() if key not in ours}
    return out | ({dds.PROFILE_VARIABLE: "off"} if kind == NO_PROFILE else {})


def _figures(rgb_size: Size, depth_size: Size, kind: str, found: dict) -> Run:
    sent, received = found["sent"], len(found["latencies_ms"])
    timings, counters = found["timings"], found["counters"]
    lost = {"output": sent - received}
    if kind != DIRECT:
        lost = {name: sent - counters[f"{name}_received"] for name in ("rgb", "depth")}
        lost["output"] = counters["published"] - received
    return Run(
        rgb_size,
        depth_size,
        kind,
        sent,
        received,
        _percentiles(found["latencies_ms"]),
        _percentiles([sum(timing[stage] for stage in STAGES) for timing in timings]),
        {
            stage: span
            for stage in (*STAGES, MIDDLEWARE)
            if (span := _percentiles([t[stage] for t in timings])) is not None
        },
        lost,
        counters,
    )


def _percentiles(values: Sequence[float]) -> tuple[float, float] | None:
    return p50_p95(values) if values else None


def _span(span: tuple[float, float] | None) -> str:
    return "-" if span is None else f"{span[0]:.2f} / {span[1]:.2f}"
