# SPDX-License-Identifier: Apache-2.0
"""From the scores of single images to the protocol's tables: means, spread over seeds, ratios and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table as RichTable

from depth_sr_ros.metrics import METRICS, mean_metrics

OURS = "ours"
LR_ERROR = "LR error at the LR pixels"
OURS_AT_LR = "ours at the LR pixels"
# Ours with a guide made from the truth, which no camera has: these rows meet no target.
GUIDES = ("missing", "perfect", "noisy", "wrong")
GUIDED = {guide: f"ours, {guide} guide" for guide in GUIDES if guide != "missing"}
# rows that are neither a baseline nor ours at full resolution
EXTRA_ROWS = (LR_ERROR, OURS_AT_LR)
TARGET_SCALES = (4, 8)
NOISY_TARGET = 0.8
CLEAN_TARGET = 1.0

_TITLES = {
    "rmse": "RMSE m",
    "mae": "MAE m",
    "absrel": "AbsRel",
    "edge_rmse": "edge RMSE m",
    "flat_rmse": "flat RMSE m",
    "delta_105": "d1.05",
    "missing": "missing",
    "vs_bicubic": "RMSE/bicubic",
}


@dataclass(frozen=True)
class Score:
    """One method on one image: `metrics` as `depth_metrics` returns them."""

    group: str
    frame: str
    scale: int
    profile: str
    seed: int
    method: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class TextTable:
    """A table as text, for the terminal and for Markdown."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def to_markdown(self) -> str:
        lines = [f"### {self.title}", "", "| " + " | ".join(self.header) + " |"]
        lines.append("|" + " --- |" + " ---: |" * (len(self.header) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"

    def to_rich(self) -> RichTable:
        table = RichTable(title=self.title, title_justify="left")
        for index, name in enumerate(self.header):
            table.add_column(name, justify="right" if index else "left", no_wrap=index == 0)
        for row in self.rows:
            table.add_row(*row)
        return table


def summarise(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """One record per group, scale and profile: each method's metrics, ours against its rival, the target.

    A metric is {"mean", "std"}: images are averaged first, then the seeds; std is the spread over seeds
    (0 for one). `vs_bicubic` is the geometric mean over images of RMSE / bicubic's RMSE on the same
    input.
    """
    cases: dict[tuple[str, int, str], list[Score]] = {}
    for score in scores:
        cases.setdefault((score.group, score.scale, score.profile), []).append(score)
    return [_summarise_case(*key, part) for key, part in cases.items()]


def _summarise_case(group: str, scale: int, profile: str, scores: list[Score]) -> dict[str, Any]:
    bicubic = {(s.frame, s.seed): s.metrics["rmse"] for s in scores if s.method == "bicubic"}
    seeds = sorted({score.seed for score in scores})
    methods: dict[str, dict[str, dict[str, float]]] = {}
    for method in dict.fromkeys(score.method for score in scores):
        mine = [score for score in scores if score.method == method]
        per_seed = [mean_metrics([s.metrics for s in mine if s.seed == seed]) for seed in seeds]
        methods[method] = {key: _spread([row[key] for row in per_seed]) for key in METRICS}
        if method not in EXTRA_ROWS:
            ratios = np.array([s.metrics["rmse"] / bicubic[s.frame, s.seed] for s in mine])
            with np.errstate(divide="ignore"):
                methods[method]["vs_bicubic"] = {"mean": float(np.exp(np.log(ratios).mean())), "std": 0.0}
    record = {
        "group": group,
        "scale": scale,
        "profile": profile,
        "seeds": len(seeds),
        "frames": sorted({score.frame for score in scores}),
        "methods": methods,
    }
    return record | _verdict(methods, scale, profile)


def _verdict(methods: dict[str, dict], scale: int, profile: str) -> dict[str, Any]:
    """Ours against the best baseline on noisy input, against bicubic on exact input; the target if any."""
    baselines = [name for name in methods if name not in (OURS, *GUIDED.values(), *EXTRA_ROWS)]
    best = min(baselines, key=lambda name: methods[name]["rmse"]["mean"])
    out: dict[str, Any] = {"best_baseline": best}
    if OURS not in methods:
        return out
    rival = best if profile == "noisy" else "bicubic"
    out["rival"] = rival
    out["ratio"] = methods[OURS]["rmse"]["mean"] / methods[rival]["rmse"]["mean"]
    target = {"noisy": NOISY_TARGET, "clean": CLEAN_TARGET}.get(profile)
    if target is not None and scale in TARGET_SCALES:
        out |= {"target": target, "met": out["ratio"] <= target}
    return out


def _spread(values: list[float]) -> dict[str, float]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std}


def verdict_table(cases: Sequence[dict[str, Any]]) -> TextTable:
    """Each case in a row: RMSE of bicubic, of the best baseline and of ours, the ratio and its target."""
    rows = []
    for case in cases:
        rmse = {name: metrics["rmse"] for name, metrics in case["methods"].items()}
        best = case["best_baseline"]
        row = [f"{case['group']} x{case['scale']} {case['profile']}", _with_spread(rmse["bicubic"])]
        row += [best, _with_spread(rmse[best])]
        if "ratio" in case:
            row += [_with_spread(rmse[OURS]), f"{case['ratio']:.3f} of {case['rival']}"]
            row.append(
                f"<= {case['target']:.1f} {'met' if case['met'] else 'MISSED'}" if "target" in case else "-"
            )
        rows.append(row)
    header = ["case", "bicubic", "best baseline", "its RMSE m", "ours", "ratio", "target"]
    return TextTable("RMSE against the targets", header[: max(map(len, rows), default=4)], rows)


def guide_table(cases: Sequence[dict[str, Any]]) -> TextTable:
    """RMSE of ours with each guide, and over that with none, for the cases that were run with guides."""
    used = [guide for guide in GUIDED if any(GUIDED[guide] in case["methods"] for case in cases)]
    rows = []
    for case in cases:
        rmse = {name: metrics["rmse"] for name, metrics in case["methods"].items()}
        row = [f"{case['group']} x{case['scale']} {case['profile']}", _with_spread(rmse[OURS])]
        for guide in used:
            ratio = rmse[GUIDED[guide]]["mean"] / rmse[OURS]["mean"]
            row.append(f"{_with_spread(rmse[GUIDED[guide]])} ({ratio:.3f})")
        rows.append(row)
    header = ["case", "no guide, RMSE m", *(f"{guide} guide (over none)" for guide in used)]
    return TextTable("Guides made from the truth: no camera has them", header, rows)


def case_table(case: dict[str, Any]) -> TextTable:
    """Every method and metric of one case."""
    rows = []
    for name, metrics in case["methods"].items():
        cells = [_with_spread(metrics[key]) if key in metrics else "-" for key in _TITLES]
        rows.append([f"**{name}**" if name == OURS else name, *cells])
    size = f"{len(case['frames'])} frame{'s' if len(case['frames']) > 1 else ''}"
    seeds = f", {case['seeds']} seeds" if case["seeds"] > 1 else ""
    title = f"{case['group']} x{case['scale']} {case['profile']} ({size}{seeds})"
    return TextTable(title, ["method", *_TITLES.values()], rows)


def _with_spread(value: dict[str, float]) -> str:
    text = f"{value['mean']:.4g}"
    return f"{text} ± {value['std']:.1g}" if value["std"] > 0 else text
