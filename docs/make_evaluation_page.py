# SPDX-License-Identifier: Apache-2.0
"""Writes docs/evaluation_all.md: python docs/make_evaluation_page.py ALL.json GUIDES.json"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("evaluation_all.md")
BASELINES = ("bicubic", "bilateral", "guided", "median_guided", "fgs", "despeckle_fgs", "jbu")
GUIDES = ("perfect", "noisy", "wrong")
INTRODUCTION = """# Every set, sensor and factor

    python training/evaluate.py --data real rendered-val procedural \\
        --profiles clean bicubic noisy challenge tof stereo dtof --scales 4 8 16 \\
        --seeds 2 --limit 4 --runtime native --others fast --out runs/all
    python training/evaluate.py --data real rendered-val --profiles noisy clean --scales 4 8 16 \\
        --seeds 1 --limit 2 --runtime native --others fast challenge \\
        --guides perfect noisy wrong --out runs/guides
    python docs/make_evaluation_page.py runs/all.json runs/guides.json

Weights: {weights}. The real frames are motorcycle, aloe and kinect; rooms and tracks are
rendered/val, procedural the generator's. Few frames: read the pattern, not the second digit.

## `edge`, and `fast` without a guide

RMSE of `edge` in millimetres, its share of the best filter's (of seven, chosen for each case by its
score), of bicubic's, and the share of the best filter's RMSE within 5 px of an edge; last `fast`'s share
of the best filter's RMSE. Below 1 the network is better. Four frames of Kinect and procedural scenes, two of
rooms and two of tracks.

`edge` is behind the best filter in 21 of 126 cases: `dtof` (12), whose cells show one surface where all
filters and the network take a mean; the Kinect at x16 (6 more), where 40x30 pixels with holes are left of the
depth; `challenge` on tracks at x16; `tof` and `stereo` on procedural frames (2, by 1 and 3 %). `fast` without
a guide is not worth its time.

"""
GUIDED = """
## `fast` and `challenge` with guides made from the truth

No camera has such guides: perfect is inverse true depth, noisy the same with a network's errors
(`training/simulated_guide.py`), wrong another frame's. RMSE without a guide in millimetres and as a share of
the best filter's, then RMSE with each guide over that without. The real Depth Anything was not run.

"""


def _value(case: dict[str, Any], method: str, key: str = "rmse") -> float:
    return float(case["methods"][method][key]["mean"])


def edge_cell(case: dict[str, Any]) -> list[str]:
    """What is said of a case without guides."""
    ours, best = _value(case, "ours"), _value(case, case["best_baseline"])
    edge = _value(case, "ours", "edge_rmse") / min(_value(case, name, "edge_rmse") for name in BASELINES)
    ratios = (ours / best, ours / _value(case, "bicubic"), edge, _value(case, "fast") / best)
    return [f"{1e3 * ours:.1f}", *(f"{ratio:.2f}" for ratio in ratios)]


def guide_cell(network: str) -> Callable[[dict[str, Any]], list[str]]:
    """What is said of a network with guides."""

    def cell(case: dict[str, Any]) -> list[str]:
        alone = _value(case, network)
        with_guides = [_value(case, f"{network}, {guide} guide") / alone for guide in GUIDES]
        shares = (alone / _value(case, case["best_baseline"]), *with_guides)
        return [f"{1e3 * alone:.1f}", *(f"{share:.2f}" for share in shares)]

    return cell


def table(
    record: dict[str, Any],
    columns: tuple[str, ...],
    cell: Callable[[dict[str, Any]], list[str]],
    label: str = "",
) -> list[str]:
    """A row for each set and profile; the columns come once for each factor."""
    cases = {(c["group"], c["profile"], c["scale"]): c for c in record["cases"]}
    scales = sorted({scale for _, _, scale in cases})
    heads = [f"x{scale}: {' | '.join(columns)}" for scale in scales]
    lines = [f"| {label}frames, profile | {' | '.join(heads)} |"]
    lines.append("| --- |" + " ---: |" * (len(columns) * len(scales)))
    for group, profile in dict.fromkeys((group, profile) for group, profile, _ in cases):
        cells = [text for scale in scales for text in cell(cases[group, profile, scale])]
        lines.append(f"| {group} {profile} | {' | '.join(cells)} |")
    return lines


def page(everything: dict[str, Any], guides: dict[str, Any]) -> str:
    """The page as Markdown."""
    known = {
        about["variant"]: about["sha256"]
        for record in (guides, everything)
        for about in record["weights"].values()
    }
    weights = ", ".join(f"`{name}` `{known[name]}`" for name in ("edge", "fast", "challenge"))
    lines = table(everything, ("mm", "filter", "bicubic", "edges", "`fast`"), edge_cell)
    text = INTRODUCTION.format(weights=weights) + "\n".join(lines) + "\n" + GUIDED
    columns = ("mm", "filter", *GUIDES)
    tables = ["\n".join(table(guides, columns, guide_cell(n), f"`{n}`: ")) for n in ("fast", "challenge")]
    return text + "\n\n".join(tables) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(*(json.loads(Path(name).read_text()) for name in sys.argv[1:3])))
