# SPDX-License-Identifier: Apache-2.0
"""How long the engine takes for a frame on this machine, in every way that it can run; filters beside it."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from depth_sr_ros.baselines import run_baseline
from depth_sr_ros.config import VARIANTS, check_choice
from depth_sr_ros.engine import DepthSuperResolver
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.image_size import Size, Sizes, check_sides, size_text
from depth_sr_ros.models.checkpoint import read_header, shipped_checkpoint
from depth_sr_ros.stats import p50_p95
from depth_sr_ros.ways import REFERENCE, Way, ways_on

FILTERS = ("bicubic", "guided", "fgs", "jbu")
WARM_UP_FRAMES = 3


@dataclass(frozen=True)
class Timing:
    """One method at one size."""

    rgb_size: Size
    depth_size: Size
    method: str
    threads: int
    p50_ms: float
    p95_ms: float
    difference: float | None = None
    """Largest from torch in float32, as a share of the depth; None for a filter."""


def run_engine_benchmark(
    checkpoint: Path | None,
    variant: str,
    device: str,
    sizes: Sequence[Sizes],
    threads: Sequence[int],
    frames: int,
    json_file: Path | None,
    console: Console,
) -> None:
    """Measure every way at every size with every number of threads, print the table, write the numbers.

    Raises ConfigError on a figure out of range, and what the engine raises.
    """
    if frames < 2 or any(count < 1 for count in threads):
        raise ConfigError(f"frames {frames} must be at least 2, and threads {list(threads)} at least 1")
    for pair in sizes:
        check_sides(*pair)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    timings: list[Timing] = []
    check_choice("variant", variant, VARIANTS)
    path = checkpoint or shipped_checkpoint(variant)
    ways = ways_on(device, read_header(path).model)

    def make_engine(way: Way, count: int) -> DepthSuperResolver:
        return DepthSuperResolver(path, variant=variant, device=device, threads=count, **way._asdict())

    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(sizes) * (len(ways) * len(threads) + len(FILTERS)))
        for sizes_of_frame in sizes:
            rgb, depth = synthetic_frame(*sizes_of_frame)
            expected = make_engine(REFERENCE, threads[0])(rgb, depth)
            for count in threads:
                for way in ways:
                    progress.update(task, description=f"{way.runtime} {way.precision}, {count} threads")
                    engine = make_engine(way, count)
                    found = engine(rgb, depth)
                    spans = _spans(functools.partial(engine, rgb, depth), frames)
                    difference = float(np.max(np.abs(found - expected) / expected))
                    name = f"{variant}, {way.runtime} {way.precision}"
                    timings.append(Timing(*sizes_of_frame, name, count, *spans, difference))
                    progress.advance(task)
            # The filters know no threads of ours: as OpenCV comes, with all cores.
            for name in FILTERS:
                progress.update(task, description=name)
                spans = _spans(functools.partial(run_baseline, name, depth, rgb), frames)
                timings.append(Timing(*sizes_of_frame, name, cv2.getNumThreads(), *spans))
                progress.advance(task)
    report(table(timings), timings, frames, json_file, console)


def report(
    shown: Table, timings: Sequence[Any], frames: int, json_file: Path | None, console: Console
) -> None:
    """Print the table and how busy the machine was; write the numbers, dataclasses, to the file."""
    console.print(shown)
    console.print(f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    if json_file is not None:
        content = {"frames": frames, "load": os.getloadavg(), "timings": [asdict(t) for t in timings]}
        json_file.write_text(json.dumps(content, indent=1) + "\n")


def table(timings: Sequence[Timing]) -> Table:
    """A section a pair of sizes, the fastest first."""
    out = Table(title="a frame, images in memory to depth in memory", title_justify="left")
    for name in ("", "threads", "p50, ms", "p95, ms", "Hz", "difference"):
        out.add_column(name, justify="left" if not name else "right", no_wrap=True)
    out.caption = "difference: the largest from torch in float32, of the depth"
    for sizes in dict.fromkeys((t.rgb_size, t.depth_size) for t in timings):
        out.add_row("+".join(map(size_text, sizes)), style="bold")
        here = sorted((t for t in timings if (t.rgb_size, t.depth_size) == sizes), key=lambda t: t.p50_ms)
        for t in here:
            difference = "-" if t.difference is None else f"{t.difference:.1e}"
            cells = (t.method, str(t.threads), f"{t.p50_ms:.1f}", f"{t.p95_ms:.1f}", f"{1e3 / t.p50_ms:.1f}")
            out.add_row(*cells, difference, end_section=t is here[-1])
    return out


def synthetic_frame(
    rgb_size: Size, depth_size: Size
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """A slanted plane with two boxes before it, 1 to 4 m, textured; always the same."""
    noise = np.random.default_rng(0)

    def depth(width: int, height: int) -> npt.NDArray[np.float32]:
        y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
        z = 2.5 + 1.5 * x
        z[(abs(x - 0.3) < 0.15) & (abs(y - 0.5) < 0.3)] = 1.2
        z[(abs(x - 0.7) < 0.1) & (abs(y - 0.6) < 0.2)] = 2.0
        return z.astype(np.float32)

    shade = 255 / depth(*rgb_size)[..., None] * np.array([0.9, 0.7, 0.5])
    rgb = np.clip(shade + noise.normal(0, 8, shade.shape), 0, 255).astype(np.uint8)
    low = depth(*depth_size)
    return rgb, (low * (1 + 0.01 * noise.standard_normal(low.shape))).astype(np.float32)


def _spans(call: Callable[[], object], frames: int) -> tuple[float, float]:
    """Median and 95th percentile of `call`'s milliseconds."""
    for _ in range(WARM_UP_FRAMES):
        call()
    spans = []
    for _ in range(frames):
        start = time.perf_counter()
        call()  # its result is on the host: nothing is still under way
        spans.append((time.perf_counter() - start) * 1e3)
    return p50_p95(spans)


def default_threads() -> list[int]:
    """One, and all cores."""
    return sorted({1, len(os.sched_getaffinity(0))})
