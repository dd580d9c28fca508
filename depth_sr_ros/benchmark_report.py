# SPDX-License-Identifier: Apache-2.0
"""What `depth-sr benchmark` shows: times, counted costs and ceilings, as tables and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from depth_sr_ros.cost import Cost
from depth_sr_ros.image_size import Sizes, size_text
from depth_sr_ros.roofline import Ceilings, Floor, floor

CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class FrameCost:
    """What a frame of a network costs in one precision."""

    sizes: Sizes
    name: str
    precision: str
    cost: Cost


@dataclass(frozen=True)
class Timing:
    """One method at one pair of sizes of RGB and depth, with one number of threads."""

    sizes: Sizes
    method: str
    kind: str
    threads: int
    p50_ms: float
    p95_ms: float
    streamed_hz: float | None
    """Frames a second where each is begun before the one before is done; None where none can be."""
    difference: float | None
    """Largest from torch in float32, as a share of the depth; None for a filter and without training."""
    memory: int | None
    """By how much it grew at most, bytes; None where the system does not say."""
    cost: Cost | None
    floor: Floor | None
    """Both None for a filter."""

    @property
    def hz(self) -> float:
        return 1e3 / self.p50_ms

    @property
    def floor_ratio(self) -> float | None:
        """The median over the floor."""
        return None if self.floor is None else self.p50_ms / self.floor.ms

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "rgb_size": self.sizes[0],
            "depth_size": self.sizes[1],
            "method": self.method,
            "kind": self.kind,
            "threads": self.threads,
            "p50_ms": self.p50_ms,
            "p95_ms": self.p95_ms,
            "hz": self.hz,
            "streamed_hz": self.streamed_hz,
            "difference": self.difference,
            "memory_bytes": self.memory,
            "flop": None if self.cost is None else self.cost.flop,
            "moved_bytes": None if self.cost is None else self.cost.bytes,
            "floor_ms": None if self.floor is None else self.floor.ms,
            "floor_memory_ms": None if self.floor is None else self.floor.memory_ms,
            "floor_ratio": self.floor_ratio,
        }


@dataclass(frozen=True)
class Results:
    """All that a run found."""

    machine: str
    frames: int
    timings: tuple[Timing, ...]
    costs: tuple[FrameCost, ...]
    ceilings: tuple[Ceilings, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        costs = [
            {
                "rgb_size": each.sizes[0],
                "depth_size": each.sizes[1],
                "name": each.name,
                "precision": each.precision,
                "flop": each.cost.flop,
                "moved_bytes": each.cost.bytes,
                "operations": each.cost.grouped(),
            }
            for each in self.costs
        ]
        return {
            "machine": self.machine,
            "frames": self.frames,
            "load": os.getloadavg(),
            "ceilings": [asdict(each) for each in self.ceilings],
            "timings": [each.to_dict() for each in self.timings],
            "costs": costs,
        }


def threads_text(count: int) -> str:
    """As 1 thread, 2 threads."""
    return f"{count} thread{'s' if count > 1 else ''}"


def machine_name(device: torch.device) -> str:
    """The processor that computes, and torch's version."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = platform.processor() or platform.machine()
        if CPU_INFO.is_file():
            found = [line for line in CPU_INFO.read_text().splitlines() if line.startswith("model name")]
            name = found[0].partition(":")[2].strip() if found else name
    return f"{name}, torch {torch.__version__}"


def report_results(results: Results, json_file: Path | None, console: Console) -> None:
    """Print the tables and what they rest on; write the numbers to the file."""
    console.print(time_table(results.timings))
    console.print(cost_table(results))
    for each in results.ceilings:
        rates = [f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in each.product_flop_s.items()]
        figures = f"copy {each.copy_bytes_s / 1e9:,.1f} GB/s, matrix product in {', '.join(rates)}"
        console.print(f"ceilings, {threads_text(each.threads)}: {figures}", soft_wrap=True)
    console.print(results.machine)
    print_load(console)
    if json_file is not None:
        json_file.write_text(json.dumps(results.to_dict(), indent=1) + "\n")


def print_load(console: Console) -> None:
    """How busy the machine was: times of a busy one are no measure of the method."""
    console.print(f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")


def time_table(timings: Sequence[Timing]) -> Table:
    """A section a pair of sizes, the fastest first."""
    out = _table("a frame, images in memory to depth in memory")
    for name in ("thr.", "p50, ms", "p95, ms", "Hz", "floors", "MB", "differs"):
        out.add_column(name, justify="right", no_wrap=True)
    out.caption = (
        "Hz: of a network on a GPU with each frame begun before the one before is done; floors: p50 over the "
        "least time that the machine's ceilings allow; MB: by which the memory grew; differs: the largest "
        "difference from torch in float32, of the depth"
    )
    for sizes in dict.fromkeys(t.sizes for t in timings):
        out.add_row("+".join(map(size_text, sizes)), style="bold")
        here = sorted((t for t in timings if t.sizes == sizes), key=lambda t: t.p50_ms)
        for t in here:
            times = (f"{t.p50_ms:.1f}", f"{t.p95_ms:.1f}", f"{t.streamed_hz or t.hz:.1f}")
            memory = _figure(None if t.memory is None else t.memory / 1e6, ".0f")
            others = (_figure(t.floor_ratio, ".2f"), memory, _figure(t.difference, ".1e"))
            out.add_row(t.method, str(t.threads), *times, *others, end_section=t is here[-1])
    return out


def cost_table(results: Results) -> Table:
    """A section a pair of sizes, a row a network and precision, its floors by the number of threads."""
    out = _table("the least that a frame costs: counted operations that cannot be fused, and their floor")
    counts = [each.threads for each in results.ceilings]
    names = ("precision", "GFLOP", "MB", *(f"ms, {n} thr." for n in counts), "memory")
    for name in names:
        out.add_column(name, justify="right", no_wrap=True)
    out.caption = "MB: moved; memory: the share of the last floor that the copy rate bounds"
    for sizes in dict.fromkeys(each.sizes for each in results.costs):
        out.add_row("+".join(map(size_text, sizes)), style="bold")
        here = [each for each in results.costs if each.sizes == sizes]
        for each in here:
            floors = [floor(each.cost, ceilings) for ceilings in results.ceilings]
            counted = (f"{each.cost.flop / 1e9:.2f}", f"{each.cost.bytes / 1e6:.0f}")
            least = [f"{found.ms:.2f}" for found in floors]
            share = f"{floors[-1].memory_ms / floors[-1].ms:.0%}"
            out.add_row(each.name, each.precision, *counted, *least, share, end_section=each is here[-1])
    return out


def _table(title: str) -> Table:
    out = Table(
        title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    out.show_edge, out.pad_edge = False, False
    out.add_column("", no_wrap=True)
    return out


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
