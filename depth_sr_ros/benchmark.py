# SPDX-License-Identifier: Apache-2.0
"""How long a frame takes on this machine, in every way to run the networks, and what it costs at least."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from depth_sr_ros import depth_io
from depth_sr_ros.benchmark_methods import (
    FILTER,
    Depth,
    DepthAnythingAlone,
    Method,
    Network,
    Rgb,
    filter_methods,
    network_methods,
    network_ways,
    networks,
    torch_precisions,
)
from depth_sr_ros.benchmark_report import (
    FrameCost,
    Results,
    Timing,
    machine_name,
    report_results,
    threads_text,
)
from depth_sr_ros.config import PRECISIONS, VARIANTS, check_choice
from depth_sr_ros.engine import DepthSuperResolver
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.image_size import Size, Sizes, check_sides
from depth_sr_ros.peak_memory import PeakMemory
from depth_sr_ros.roofline import floor, measure_ceilings, number_formats
from depth_sr_ros.stats import p50_p95
from depth_sr_ros.ways import REFERENCE, ways_on

WARM_UP_FRAMES = 3
Frame = tuple[Rgb, Depth]
# What is counted, its precisions, and the ways to run it.
Subject = tuple[Network | DepthAnythingAlone, list[str], list[Method]]


@dataclass(frozen=True)
class Settings:
    """What to measure; see `depth-sr benchmark --help`."""

    sizes: Sequence[Sizes]
    threads: Sequence[int]
    """Empty: one, and all cores; on CUDA all cores alone."""
    frames: int
    variants: Sequence[str] = ("edge",)
    checkpoint: Path | None = None
    guide_path: str | None = None
    precisions: Sequence[str] = ()
    """Empty: those that the engine would try."""
    depth_anything: Sequence[int] = ()
    """Short sides, pixels, at which Depth Anything is timed alone."""
    device: str = "auto"
    guide_size: int | None = None
    """Short side, pixels, of the image that the guide of `guide_path` sees; None: the published one."""
    compiled: bool = False
    """Also torch.compile."""


def run_engine_benchmark(
    settings: Settings, json_file: Path | None, picture: Path | None, console: Console
) -> None:
    """Measure every way at every size with every number of threads, print the tables, write the files.

    Raises ConfigError on a figure out of range, DataError on a file that cannot be written, and what the
    engine raises.
    """
    _check(settings, json_file, picture)
    device = _device(settings.device)
    threads = list(dict.fromkeys(settings.threads)) or _default_threads(device)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=console) as progress:
        task = progress.add_task("counting FLOPs and bytes", total=None)
        subjects = _subjects(settings, device, Path(folder))
        costs = tuple(cost for pair in settings.sizes for cost in _costs(subjects, pair, device))
        progress.update(task, description="measuring the ceilings")
        formats = number_formats(each.cost for each in costs)
        ceilings = {count: measure_ceilings(device, count, formats) for count in threads}
        plan = [(method, count) for count in threads for _, _, methods in subjects for method in methods]
        plan += [(method, cv2.getNumThreads()) for method in filter_methods()]
        progress.update(task, total=len(settings.sizes) * len(plan))
        timings: list[Timing] = []
        for pair in settings.sizes:
            frame = synthetic_frame(*pair)
            references = _references(subjects, frame, device, threads[0])
            here = {(each.name, each.precision): each.cost for each in costs if each.sizes == pair}
            for method, count in plan:
                progress.update(task, description=f"{method.name}, {threads_text(count)}")
                cost = here.get((method.subject, method.precision))  # None of a filter
                least = None if cost is None else floor(cost, ceilings[count])
                expected = references.get(method.subject)
                measured = _measure(method, frame, count, settings.frames, device, expected)
                timings.append(Timing(pair, method.name, method.kind, count, *measured, cost, least))
                progress.advance(task)
    results = Results(machine_name(device), settings.frames, tuple(timings), costs, tuple(ceilings.values()))
    report_results(results, json_file, console)
    if picture is not None:
        # matplotlib takes a while to import, and few ask for it
        from depth_sr_ros.benchmark_picture import save_picture

        save_picture(picture, results)


def _check(settings: Settings, json_file: Path | None, picture: Path | None) -> None:
    if settings.frames < 2 or any(count < 1 for count in settings.threads):
        raise ConfigError(
            f"frames {settings.frames} must be at least 2, and threads {list(settings.threads)} at least 1"
        )
    for pair in settings.sizes:
        check_sides(*pair)
    for name in settings.precisions:
        check_choice("precision", name, PRECISIONS)
    for file in filter(None, (json_file, picture)):
        depth_io.check_writable(file)
    if picture is not None:
        depth_io.check_picture_suffix(picture)


def _device(name: str) -> torch.device:
    ways_on(name, VARIANTS["edge"])  # says what is wrong with it
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def _default_threads(device: torch.device) -> list[int]:
    """One, and all cores; beside a GPU all cores."""
    cores = len(os.sched_getaffinity(0))
    return [cores] if device.type == "cuda" else sorted({1, cores})


def _subjects(settings: Settings, device: torch.device, folder: Path) -> list[Subject]:
    out: list[Subject] = []
    asked = list(dict.fromkeys(settings.precisions))
    chosen = (settings.variants, settings.checkpoint, settings.guide_path, folder, settings.guide_size)
    for network in networks(*chosen):
        ways = network_ways(network, device, asked, settings.compiled)
        precisions = list(dict.fromkeys(way.precision for way in ways))
        out.append((network, precisions, network_methods(network, ways, device)))
    for side in settings.depth_anything:
        guide = DepthAnythingAlone(side, device)
        precisions = torch_precisions(device, asked)
        out.append((guide, precisions, guide.methods(precisions)))
    return out


def _costs(subjects: Sequence[Subject], sizes: Sizes, device: torch.device) -> Iterator[FrameCost]:
    for subject, precisions, _ in subjects:
        for precision, cost in subject.costs(sizes, precisions, device).items():
            yield FrameCost(sizes, subject.name, precision, cost)


def _references(
    subjects: Sequence[Subject], frame: Frame, device: torch.device, threads: int
) -> dict[str, Depth]:
    """What torch answers in float32, of each network whose answer means anything."""
    return {
        subject.name: subject.engine(REFERENCE, device, threads)(*frame)
        for subject, _, _ in subjects
        if isinstance(subject, Network) and subject.is_trained
    }


def _measure(
    method: Method, frame: Frame, threads: int, frames: int, device: torch.device, expected: Depth | None
) -> tuple[float, float, float | None, float | None, int | None]:
    """p50 and p95, ms; frames a second begun ahead, on CUDA; the largest difference from `expected`, of the
    depth; growth of the memory, bytes.
    """
    # A filter runs on the CPU, wherever the networks run.
    with PeakMemory(torch.device("cpu") if method.kind == FILTER else device) as peak:
        run = method.make(threads)
        found = run(*frame)
        p50, p95 = _spans(lambda: run(*frame), frames)
        streamed = None
        if device.type == "cuda" and isinstance(run, DepthSuperResolver):
            streamed = streamed_hz(run, frame, frames)  # on a CPU a frame is done before the next can begin
    difference = None if expected is None else float(np.max(np.abs(found - expected) / expected))
    return p50, p95, streamed, difference, peak.growth


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


def streamed_hz(engine: DepthSuperResolver, frame: Frame, frames: int) -> float:
    """Frames a second where each is begun before the one before has been waited for."""
    start = time.perf_counter()
    pending = engine.submit(*frame)
    for _ in range(frames - 1):
        following = engine.submit(*frame)
        pending.result()
        pending = following
    pending.result()
    return frames / (time.perf_counter() - start)


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
