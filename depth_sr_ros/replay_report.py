# SPDX-License-Identifier: Apache-2.0
"""What `depth-sr evaluate` leaves: a verdict, a table, JSON and CSV for machines, HTML for people."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table

from depth_sr_ros.baselines import run_baseline
from depth_sr_ros.colorize import colorize, depth_range
from depth_sr_ros.errors import DataError
from depth_sr_ros.metrics import mean_metrics
from depth_sr_ros.replay import OURS, FrameRecord, Replay
from depth_sr_ros.replay_frames import Frame
from depth_sr_ros.replay_measures import RANGE_BINS_M
from depth_sr_ros.stats import p50_p95

TEMPLATE = "replay.html.j2"
SHOWN_METRICS = {"rmse": "RMSE", "mae": "MAE", "edge_rmse": "edge RMSE", "flat_rmse": "flat RMSE"}  # in mm
HEADINGS = [*SHOWN_METRICS.values(), "within 5 %"]
MIN_BIN_PIXELS = 1000
JPEG_QUALITY = 88

Picture = npt.NDArray[np.uint8]


def summary(replay: Replay) -> dict[str, Any]:
    """Everything but the single frames, ready for JSON."""
    records = replay.records
    times = p50_p95([record.time_ms for record in records])
    recorded = replay.settings.answer_topic is not None
    methods = {
        name: mean_metrics([record.metrics[name] for record in records])
        for name in (records[0].metrics or ())
    }
    out: dict[str, Any] = {
        "bag": str(replay.settings.bag),
        "topics": asdict(replay.topics)
        | {"reference": replay.settings.reference_topic, "answers": replay.settings.answer_topic},
        "simulate": replay.settings.simulate,
        "scale": replay.settings.scale if replay.settings.simulate else None,
        "engine": replay.engine,
        "frames": len(records),
        "problems": dict(replay.problems),
        "damage": replay.damage or None,
        "sizes": {f"{w}x{h} and {lw}x{lh}": n for (w, h, lw, lh), n in replay.sizes.items()},
        "time_of": "latency" if recorded else "network",
        "time_p50_ms": times[0],
        "time_p95_ms": times[1],
        "rate_hz": _recorded_rate(records) if recorded else 1e3 / times[0],
        "seconds": replay.seconds,
        "lost": sum(record.lost for record in records),
        "valid_in": float(np.mean([record.valid_in for record in records])),
        "valid_out": float(np.mean([record.valid_out for record in records])),
        "lr_error": _median([record.lr_error for record in records]),
        "offset_p50_ms": float(np.median([record.offset_ms for record in records])),
        "methods": methods,
        "flicker": _mean_by_method([record.flicker for record in records]),
        "alignment": _mean_by_method([record.alignment for record in records]),
        "range": {name: _range_rmse(sums) for name, sums in replay.range_errors.items()},
    }
    return out | {"verdict": verdict(out)}


def verdict(found: dict[str, Any]) -> list[str]:
    """In words, what the figures mean; the first sentence is the answer."""
    out = []
    methods = found["methods"]
    if methods:
        rivals = {name: m["rmse"] for name, m in methods.items() if name != OURS}
        ours = methods[OURS]["rmse"]
        if rivals:
            best = min(rivals, key=lambda name: rivals[name])
            share = _ratio(ours, rivals[best])
            beside = f"{share:.2f} of" if np.isfinite(share) else "beside"
            out.append(
                f"RMSE is {1e3 * ours:.0f} mm, {beside} the best filter's ({best}, "
                f"{1e3 * rivals[best]:.0f} mm): "
                + ("the network helps here." if share < 0.97 else "the network does not help here.")
            )
        else:
            out.append(f"RMSE is {1e3 * ours:.0f} mm.")
    else:
        out.append("Nothing to score against: name a reference topic, or simulate a sensor by a profile.")
    out.append(_speed(found) + f" {100 * found['valid_in']:.0f} % of the depth pixels were measured.")
    if found["lost"]:
        out.append(
            f"{found['lost']} depth frames found no RGB image: depth-sr doctor says whether clocks or rates "
            "are to blame."
        )
    flicker = found["flicker"]
    if OURS in flicker and flicker.get("bicubic", 0) > 0:
        ratio = flicker[OURS] / flicker["bicubic"]
        out.append(
            f"Where nothing moves the depth flickers {ratio:.2f} times as much as without the network."
        )
    if found["problems"]:
        count = sum(found["problems"].values())
        out.append(
            f"{count} frame{'s' if count > 1 else ''} could not be used: {next(iter(found['problems']))}."
        )
    if found["damage"]:
        out.append(f"The rest of the recording was not read: {found['damage']}.")
    return out


def _ratio(ours: float, rival: float) -> float:
    """Infinite or NaN where the rival has no error at all, as a filter on constant depth."""
    if rival == 0:
        return float("inf") if ours > 0 else float("nan")
    return ours / rival


def _speed(found: dict[str, Any]) -> str:
    p50, rate = found["time_p50_ms"], found["rate_hz"]
    if found["time_of"] == "network":
        return f"The network takes {p50:.0f} ms a frame here ({rate:.0f} Hz)."
    at = "" if rate is None else f", at {rate:.1f} Hz"
    return f"The answers came {p50:.0f} ms after their RGB images{at}."


def table(found: dict[str, Any]) -> Table:
    """The methods side by side, errors in millimetres."""
    out = Table(title=f"{found['frames']} frames, errors in mm", title_justify="left")
    out.add_column("method", no_wrap=True)
    for heading in HEADINGS:
        out.add_column(heading, justify="right")
    for name, metrics in found["methods"].items():
        out.add_row(name, *_cells(metrics), style="bold" if name == OURS else None)
    return out


def overview(summaries: Sequence[dict[str, Any]]) -> Table:
    """One line a recording."""
    out = Table(title="recordings", title_justify="left")
    out.add_column("recording")
    for heading in ("frames", "RMSE, mm", "best filter", "of it", "rate, Hz", "left out"):
        out.add_column(heading, justify="right")
    for found in summaries:
        rivals = {name: m["rmse"] for name, m in found["methods"].items() if name != OURS}
        ours = found["methods"].get(OURS, {}).get("rmse")
        best = min(rivals, key=lambda name: rivals[name], default=None)
        rate = found["rate_hz"]
        out.add_row(
            escape(found["bag"]),  # a folder may be called [old]
            str(found["frames"]),
            "-" if ours is None else f"{1e3 * ours:.1f}",
            "-" if best is None else best,
            "-" if best is None else f"{_ratio(ours, rivals[best]):.2f}",
            "-" if rate is None else f"{rate:.1f}",
            str(sum(found["problems"].values())),
        )
    return out


def write_overview(summaries: Sequence[dict[str, Any]], folder: Path) -> None:
    """overview.json: the summaries of all recordings. Raises DataError where it cannot be written."""
    try:
        (folder / "overview.json").write_text(json.dumps(_plain(list(summaries)), indent=1) + "\n")
    except OSError as error:
        raise DataError(f"{folder}: overview.json cannot be written: {error.strerror}") from error


def _cells(metrics: dict[str, float]) -> list[str]:
    """A method's figures under HEADINGS."""
    return [*(f"{1e3 * metrics[key]:.1f}" for key in SHOWN_METRICS), f"{100 * metrics['delta_105']:.1f} %"]


def write(replay: Replay, samples: Sequence[tuple[str, Frame, Any]], folder: Path) -> dict[str, Any]:
    """Write report.html, report.json and frames.csv into `folder`, which exists; returns the summary.

    Raises DataError where they cannot be written.
    """
    found = summary(replay)
    try:
        (folder / "report.json").write_text(json.dumps(_plain(found), indent=1) + "\n")
        _write_csv(replay, folder / "frames.csv")
        (folder / "report.html").write_text(_html(replay, found, samples))
    except OSError as error:
        raise DataError(f"{folder}: the report cannot be written: {error.strerror}") from error
    return found


def _write_csv(replay: Replay, path: Path) -> None:
    with path.open("w", newline="") as file:
        names = list(replay.records[0].metrics)
        keys = list(replay.records[0].metrics[names[0]]) if names else []
        columns = ["stamp_ns", "offset_ms", "lost", "time_ms", "valid_in", "valid_out", "lr_error"]
        writer = csv.writer(file)
        writer.writerow(
            [*columns, "flicker", "alignment", *(f"{name}_{key}" for name in names for key in keys)]
        )
        for record in replay.records:
            row: list[Any] = [getattr(record, column) for column in columns]
            row += [record.flicker.get(OURS, ""), record.alignment[OURS]]
            writer.writerow([*row, *(record.metrics[name][key] for name in names for key in keys)])


def _html(replay: Replay, found: dict[str, Any], samples: Sequence[tuple[str, Frame, Any]]) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = (resources.files("depth_sr_ros") / "templates" / TEMPLATE).read_text()
    methods = [
        {"name": name, "ours": name == OURS, "cells": _cells(metrics)}
        for name, metrics in found["methods"].items()
    ]
    return environment.from_string(source).render(
        found=found,
        headings=HEADINGS,
        methods=methods,
        charts=[{"title": title, "svg": svg} for title, svg in _charts(replay, found)],
        samples=[_sample(name, *rest) for name, *rest in samples],
    )


def _sample(name: str, frame: Frame, answer: Any) -> dict[str, Any]:
    truth = frame.truth if frame.truth is not None else answer
    low, high = depth_range(truth)
    size = frame.rgb.shape[1::-1]
    before = cv2.resize(colorize(frame.depth, low, high), size, interpolation=cv2.INTER_NEAREST)
    pictures = {"RGB": frame.rgb, "truth": None if frame.truth is None else colorize(frame.truth, low, high)}
    pictures["bicubic"] = colorize(run_baseline("bicubic", frame.depth, frame.rgb), low, high)
    return {
        "name": name,
        "stamp": f"{frame.stamp_ns / 1e9:.3f}",
        "range": f"{low:.2f} to {high:.2f} m",
        "width": size[0],
        "before": _data_url(before.astype(np.uint8)),
        "after": _data_url(colorize(answer, low, high)),
        "others": [(title, _data_url(p)) for title, p in pictures.items() if p is not None],
    }


def _data_url(picture: Picture) -> str:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    ok, stream = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert ok
    return "data:image/jpeg;base64," + base64.b64encode(stream.tobytes()).decode()


def _charts(replay: Replay, found: dict[str, Any]) -> list[tuple[str, str]]:
    records = replay.records
    seconds = (np.array([record.stamp_ns for record in records]) - records[0].stamp_ns) / 1e9
    out = []
    if found["range"]:
        centres = [(a + b) / 2 for a, b in zip(RANGE_BINS_M, RANGE_BINS_M[1:], strict=False)]
        figure, axis = _axes("distance, m", "RMSE, mm")
        for name, values in found["range"].items():
            known = [(c, 1e3 * v) for c, v in zip(centres, values, strict=True) if v is not None]
            if known:
                axis.plot(
                    *zip(*known, strict=True), marker="o", label=name, linewidth=3 if name == OURS else 1.2
                )
        axis.set_xscale("log")
        axis.legend()
        out.append(("Error against distance", _svg(figure)))
        figure, axis = _axes("time, s", "RMSE, mm")
        for name in records[0].metrics:
            values = [1e3 * record.metrics[name]["rmse"] for record in records]
            axis.plot(seconds, values, label=name, linewidth=2 if name == OURS else 1)
        axis.legend()
        out.append(("Error over time", _svg(figure)))
    figure, axis = _axes(f"{found['time_of']}, ms", "frames")
    axis.hist([record.time_ms for record in records], bins=30)
    out.append(("Time of a frame", _svg(figure)))
    figure, axis = _axes("time, s", "depth stamp - RGB stamp, ms")
    axis.plot(seconds, [record.offset_ms for record in records], ".", markersize=3)
    lost = [(at, record) for at, record in zip(seconds, records, strict=True) if record.lost]
    for at, _ in lost:
        axis.axvline(at, color="tab:red", linewidth=0.8, alpha=0.6)
    out.append(
        (f"Offset of the pairs{'; red: depth frames without an RGB image' if lost else ''}", _svg(figure))
    )
    return out


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    axis = figure.subplots()
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.3)
    return figure, axis


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    # Without its date the same recording gives the same file.
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _range_rmse(sums: npt.NDArray[np.float64]) -> list[float | None]:
    """RMSE of each bin, m; None where there are too few pixels to say anything."""
    return [
        float(np.sqrt(total / count)) if count >= MIN_BIN_PIXELS else None
        for total, count in zip(*sums, strict=True)
    ]


def _recorded_rate(records: Sequence[FrameRecord]) -> float | None:
    """Hz, by the arrival of the first and the last answer; None of a single one."""
    arrivals = [record.arrival_ns for record in records if record.arrival_ns is not None]
    seconds = (max(arrivals) - min(arrivals)) / 1e9
    return (len(arrivals) - 1) / seconds if seconds > 0 else None


def _mean_by_method(values: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean over the frames that have one, where any has."""
    return {name: value for name, value in mean_metrics(values).items() if np.isfinite(value)}


def _median(values: Sequence[float]) -> float | None:
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else None


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
