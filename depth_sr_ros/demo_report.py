# SPDX-License-Identifier: Apache-2.0
"""What the demo shows in the end: the table of methods and the picture of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from rich.table import Table

from depth_sr_ros.colorize import colorize
from depth_sr_ros.demo_sequence import SequenceFrame

Depth = npt.NDArray[np.float32]


class Row(NamedTuple):
    """One method's errors in metres; the live figures are None for a method that ran after the stream."""

    name: str
    rmse: float
    mae: float
    edge_rmse: float
    rate_hz: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None


def table(rows: Sequence[Row], title: str) -> Table:
    """The methods side by side: errors in millimetres, rate in Hz, latency in milliseconds."""
    out = Table(title=title, title_justify="left", caption="errors in mm, latency in ms")
    out.add_column("method", no_wrap=True)
    for heading in ("RMSE", "MAE", "edge RMSE", "Hz", "p50", "p95"):
        out.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        errors = [f"{1000 * value:.1f}" for value in (row.rmse, row.mae, row.edge_rmse)]
        live = [
            "-" if value is None else f"{value:.1f}"
            for value in (row.rate_hz, row.latency_p50_ms, row.latency_p95_ms)
        ]
        out.add_row(row.name, *errors, *live, style="bold" if row is rows[-1] else None)
    return out


def save_picture(path: Path, frame: SequenceFrame, bicubic: Depth, ours: Depth) -> None:
    """Writes RGB, LR depth, bicubic, ours, truth and our error side by side, in one common depth range.

    `bicubic` and `ours` are float32 HxW metres; the format follows the suffix of `path`.
    """
    truth = frame.truth_m
    low, high = (float(value) for value in np.nanpercentile(truth, (1, 99)))
    error = np.abs(ours - truth)
    scale = float(np.nanpercentile(np.abs(bicubic - truth), 95))
    height, width = frame.depth_mm.shape
    panels = [
        ("RGB", frame.rgb),
        (f"depth in, {width}x{height}", colorize(frame.depth_m, low, high)),
        ("bicubic", colorize(bicubic, low, high)),
        (f"depth_sr_ros, {ours.shape[1]}x{ours.shape[0]}", colorize(ours, low, high)),
        ("ground truth", colorize(truth, low, high)),
        ("our error", None),
    ]
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).ravel()
    for axis, (title, image) in zip(axes, panels, strict=True):
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
        if image is None:
            axis.imshow(error, cmap="magma", vmin=0, vmax=scale)
        else:
            axis.imshow(image, interpolation="nearest")
    depth_scale = ScalarMappable(Normalize(low, high), "turbo_r")
    figure.colorbar(depth_scale, ax=axes[:3].tolist(), label="depth, m")
    error_scale = ScalarMappable(Normalize(0, scale), "magma")
    figure.colorbar(error_scale, ax=axes[3:].tolist(), label="error, m")
    figure.savefig(path, dpi=110)
