# SPDX-License-Identifier: Apache-2.0
"""The picture of `depth-sr benchmark`: a bar a method, a panel a size, the floor marked on each bar."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from depth_sr_ros.benchmark_methods import FILTER, GUIDE, NETWORK
from depth_sr_ros.benchmark_report import Results, Timing, threads_text
from depth_sr_ros.image_size import Sizes, size_text

COLOURS = {NETWORK: "#3b75af", GUIDE: "#c67a2d", FILTER: "#9aa0a6"}
LABELS = {NETWORK: "network", GUIDE: "Depth Anything alone", FILTER: "filter"}
FLOOR_COLOUR = "#b3261e"
BAR_INCHES, PANEL_INCHES, HEAD_INCHES = 0.27, 0.75, 0.8
DPI = 120


def save_picture(path: Path, results: Results) -> None:
    """Write it; the format follows the suffix of `path`."""
    figure = picture(results)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI)


def picture(results: Results) -> Figure:
    """Horizontal bars of the median with a whisker to the 95th percentile, milliseconds, logarithmic."""
    panels: dict[Sizes, list[Timing]] = {}
    for timing in sorted(results.timings, key=lambda t: -t.p50_ms):
        panels.setdefault(timing.sizes, []).append(timing)
    order = sorted(panels, key=lambda sizes: sizes[0][0] * sizes[0][1])
    heights = [PANEL_INCHES + BAR_INCHES * len(panels[sizes]) for sizes in order]
    figure = Figure(figsize=(11, HEAD_INCHES + sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, sizes in zip(axes, order, strict=True):
        _panel(axis, sizes, panels[sizes])
    figure.suptitle(f"milliseconds a frame: {results.machine}", fontsize=11)
    shown = [kind for kind in COLOURS if any(t.kind == kind for t in results.timings)]
    handles: list[Patch | Line2D] = [Patch(color=COLOURS[kind], label=LABELS[kind]) for kind in shown]
    handles.append(Line2D([], [], color="black", label="up to the 95th percentile"))
    handles.append(Line2D([], [], color=FLOOR_COLOUR, linewidth=2.5, label="roofline floor"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
    return figure


def _panel(axis: Axes, sizes: Sizes, rows: list[Timing]) -> None:
    places = range(len(rows))
    p50 = [t.p50_ms for t in rows]
    over = [[0.0] * len(rows), [max(0.0, t.p95_ms - t.p50_ms) for t in rows]]
    axis.barh(places, p50, xerr=over, color=[COLOURS[t.kind] for t in rows], height=0.7)
    axis.set_yticks(places, [f"{t.method}, {threads_text(t.threads)}" for t in rows], fontsize=8.5)
    for place, t in zip(places, rows, strict=True):
        axis.annotate(
            _ms_text(t.p50_ms),
            (max(t.p50_ms, t.p95_ms), place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
        if t.floor is not None:
            axis.vlines(t.floor.ms, place - 0.42, place + 0.42, color=FLOOR_COLOUR, linewidth=2.5)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.margins(x=0.08)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    axis.set_title(f"RGB {size_text(sizes[0])}, depth {size_text(sizes[1])}", fontsize=10, loc="left")
    axis.set_xlabel("ms a frame, median")
    axis.tick_params(axis="x", labelbottom=True)


def _ms_text(ms: float) -> str:
    return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"
