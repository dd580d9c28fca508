# SPDX-License-Identifier: Apache-2.0
"""From the scores of single images to the protocol's tables: means, spread over seeds, ratios and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table as RichTable

from depth_sr_ros.baselines import METHODS
from depth_sr_ros.metrics import METRICS, mean_metrics

OURS = "ours"
LR_ERROR = "LR error at the LR pixels"
OURS_AT_LR = "ours at the LR pixels"
# Given to a network beside none; made from the truth, which no camera has: such rows meet no target.
GUIDES = ("perfect", "noisy", "wrong")
# rows that are neither a baseline nor ours at full resolution
EXTRA_ROWS = (LR_ERROR, OURS_AT_LR)
TARGET = 0.6  # of the best filter's RMSE under noise, of bicubic's on clean depth; near edges likewise
TARGET_SCALES = (4, 8, 16)
TARGET_PROFILES = ("noisy", "clean")

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


def guided(network: str, guide: str) -> str:
    """The row of a network with one of GUIDES."""
    return f"{network}, {guide} guide"


def networks_of(case: dict[str, Any]) -> list[str]:
    """The rows of a case that are networks without a guide, ours first."""
    ends = tuple(guided("", guide) for guide in GUIDES)
    return [m for m in case["methods"] if m not in (*METHODS, *EXTRA_ROWS) and not m.endswith(ends)]


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
    baselines = [name for name in methods if name in METHODS]
    best = min(baselines, key=lambda name: methods[name]["rmse"]["mean"])
    out: dict[str, Any] = {"best_baseline": best}
    if OURS not in methods:
        return out
    rival = best if profile == "noisy" else "bicubic"
    out["rival"] = rival
    for name, metric in (("ratio", "rmse"), ("edge_ratio", "edge_rmse")):
        out[name] = methods[OURS][metric]["mean"] / methods[rival][metric]["mean"]
    if profile in TARGET_PROFILES and scale in TARGET_SCALES:
        met = {"met": out["ratio"] <= TARGET, "edge_met": out["edge_ratio"] <= TARGET}
        out |= {"target": TARGET, **met}
    return out


def _spread(values: list[float]) -> dict[str, float]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std}


def verdict_table(cases: Sequence[dict[str, Any]]) -> TextTable:
    """Each case in a row: RMSE of bicubic, of the best baseline and of ours, the ratio of RMSE, that within
    a few pixels of an edge, and their target.

    Other networks have a column each: RMSE and, in brackets, that over the same rival's.
    """
    others = dict.fromkeys(name for case in cases for name in networks_of(case) if name != OURS)
    rows = []
    for case in cases:
        rmse = {name: metrics["rmse"] for name, metrics in case["methods"].items()}
        best = case["best_baseline"]
        row = [_title(case), _with_spread(rmse["bicubic"]), best, _with_spread(rmse[best])]
        if "ratio" in case:
            row += [_with_spread(rmse[OURS]), f"{case['ratio']:.3f} of {case['rival']}"]
            row += [f"{case['edge_ratio']:.3f}", _target_text(case)]
            row += [_over(rmse[name], rmse[case["rival"]]) if name in rmse else "-" for name in others]
        rows.append(row)
    header = [
        "case",
        "bicubic",
        "best baseline",
        "its RMSE m",
        "ours",
        "ratio",
        "near edges",
        "target",
        *others,
    ]
    return TextTable("RMSE against the targets", header[: max(map(len, rows), default=4)], rows)


def guide_table(cases: Sequence[dict[str, Any]]) -> TextTable:
    """RMSE of each network with each guide, and over that with none, for what was run with guides."""
    rows, used = (
        [],
        [g for g in GUIDES if any(guided(n, g) in c["methods"] for c in cases for n in c["methods"])],
    )
    for case in cases:
        rmse = {name: metrics["rmse"] for name, metrics in case["methods"].items()}
        for network in networks_of(case):
            with_guides = [rmse[guided(network, g)] for g in used if guided(network, g) in rmse]
            if with_guides:
                cells = [_over(value, rmse[network]) for value in with_guides]
                rows.append([f"{network}: {_title(case)}", _with_spread(rmse[network]), *cells])
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
    return TextTable(f"{_title(case)} ({size}{seeds})", ["method", *_TITLES.values()], rows)


def _target_text(case: dict[str, Any]) -> str:
    """Met, missed, or which of the two is missed."""
    if "target" not in case:
        return "-"
    missed = [name for name, key in (("all", "met"), ("edges", "edge_met")) if not case[key]]
    verdict = "met" if not missed else "MISSED" if len(missed) == 2 else f"MISSED ({missed[0]})"
    return f"<= {case['target']:.1f} {verdict}"


def _title(case: dict[str, Any]) -> str:
    return f"{case['group']} x{case['scale']} {case['profile']}"


def _over(value: dict[str, float], other: dict[str, float]) -> str:
    return f"{_with_spread(value)} ({value['mean'] / other['mean']:.3f})"


def _with_spread(value: dict[str, float]) -> str:
    text = f"{value['mean']:.4g}"
    return f"{text} ± {value['std']:.1g}" if value["std"] > 0 else text
