# SPDX-License-Identifier: Apache-2.0
"""Draws docs/images/degradation.png: a frame of the demo's sequence through every degradation profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from depth_sr_ros.colorize import colorize
from depth_sr_ros.degradation import PROFILES, degrade
from depth_sr_ros.demo_sequence import read_sequence, to_metres

PICTURE = Path(__file__).parent / "images" / "degradation.png"
FRAME, SCALE, COLUMNS = 20, 4, 4


def main() -> None:
    """Write the picture."""
    frame = read_sequence()[FRAME]
    rgb, truth = frame.rgb, to_metres(frame.truth_mm)
    low, high = (float(value) for value in np.nanpercentile(truth, (1, 99)))
    panels = [("RGB", rgb), ("exact depth", colorize(truth, low, high))]
    for profile in PROFILES:
        lr = degrade(truth, SCALE, profile, np.random.default_rng(0), rgb)
        panels.append((f"{profile} x{SCALE}", colorize(lr, low, high)))
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(14, 2.85 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, COLUMNS).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, panel) in zip(axes, panels, strict=False):
        axis.imshow(panel, interpolation="nearest")
        axis.set_title(title)
    figure.savefig(PICTURE, dpi=70)


if __name__ == "__main__":
    main()
