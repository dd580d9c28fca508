# SPDX-License-Identifier: Apache-2.0
"""Writes docs/evaluation_all.md from the .json of an evaluation: python docs/make_evaluation_page.py FILE"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("evaluation_all.md")
COMMAND = """    python training/evaluate.py --data real rendered-val procedural \\
        --profiles clean bicubic noisy challenge tof stereo dtof --scales 4 8 16 \\
        --seeds 2 --limit 4 --runtime native --out runs/all
    python docs/make_evaluation_page.py runs/all.json"""
INTRODUCTION = """# Every set, sensor and factor

{command}

Weights `{weights}`. RMSE of ours in millimetres, its share of the best filter's (of seven, chosen for each
case by its score), of bicubic's, and the share of the best filter's RMSE within 5 px of a depth edge. Below 1
ours is better. The real frames are motorcycle, aloe and kinect (4 frames); rooms and tracks (2 each) are
rendered/val, procedural (4) the generator's. Four frames are few: read the pattern, not the second digit.

Ahead nearly everywhere at x4 and x8, by most under noise. Behind: `dtof`, whose cells show one surface where
all filters and the network take a mean; the Kinect at x16, where 40x30 pixels with holes are left of the
depth; `challenge` on the tracks at x16 and `stereo` on procedural frames.

"""
BASELINES = ("bicubic", "bilateral", "guided", "median_guided", "fgs", "despeckle_fgs", "jbu")


def cell(case: dict[str, Any]) -> str:
    """What is said of a case."""
    methods = case["methods"]

    def of(name: str, key: str) -> float:
        return float(methods[name][key]["mean"])

    ours, best = of("ours", "rmse"), of(case["best_baseline"], "rmse")
    edge = of("ours", "edge_rmse") / min(of(name, "edge_rmse") for name in BASELINES)
    return f"{1e3 * ours:.1f} | {ours / best:.2f} | {ours / of('bicubic', 'rmse'):.2f} | {edge:.2f}"


def page(record: dict[str, Any]) -> str:
    """The page as Markdown."""
    cases = {(c["group"], c["profile"], c["scale"]): c for c in record["cases"]}
    scales = sorted({scale for _, _, scale in cases})
    heads = [f"x{s}: mm | filter | bicubic | edges" for s in scales]
    lines = [f"| frames, profile | {' | '.join(heads)} |", "| --- |" + " ---: |" * (4 * len(scales))]
    for group, profile in dict.fromkeys((group, profile) for group, profile, _ in cases):
        cells = " | ".join(cell(cases[group, profile, scale]) for scale in scales)
        lines.append(f"| {group} {profile} | {cells} |")
    weights = record["weights"]["ours"]["sha256"]
    return INTRODUCTION.format(command=COMMAND, weights=weights) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(Path(sys.argv[1]).read_text())))
