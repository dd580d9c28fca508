# SPDX-License-Identifier: Apache-2.0
"""Writes docs/evaluation_all.md: python docs/make_evaluation_page.py ALL.json GUIDES.json

Every number of the page, those in its sentences too, comes from the two files.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import geometric_mean
from typing import Any

Case = dict[str, Any]
Record = dict[str, Any]

PAGE = Path(__file__).with_name("evaluation_all.md")
BASELINES = ("bicubic", "bilateral", "guided", "median_guided", "fgs", "despeckle_fgs", "jbu")
GUIDES = ("perfect", "noisy", "wrong")
GUIDED = ("fast", "challenge")
DATA = {"motorcycle": "real", "rooms": "rendered-val", "procedural": "procedural"}  # frames that tell a set
ALLOWED = 1.10  # of the RMSE without a guide: what a wrong one may cost
INTRODUCTION = """# Every set, sensor and factor

    python training/evaluate.py --data {data} \\
        --profiles {profiles} --scales {scales} \\
        --seeds {seeds} --limit {limit} --runtime native --others fast --out runs/all
    python training/evaluate.py --data {guide_data} \\
        --profiles {guide_profiles} --scales {guide_scales} \\
        --seeds {guide_seeds} --limit {guide_limit} --runtime native --checkpoint none \\
        --others fast challenge --guides perfect noisy wrong --out runs/guides
    python docs/make_evaluation_page.py runs/all.json runs/guides.json

Weights: {weights}. Motorcycle, aloe and kinect are the real frames; rooms and tracks are
rendered/val, procedural the generator's. Few frames: read the pattern, not the second digit.
The filters' parameters were chosen on these very rooms and tracks: there the filters are at their best, and
not on the real frames.

## `edge`, and `fast` without a guide

RMSE of `edge` in millimetres, its share of the best filter's (of seven, chosen for each case by its
score), of bicubic's, and the share of the best filter's RMSE within 5 px of an edge; last `fast`'s share
of the best filter's RMSE. Below 1 the network is better. Frames: {frames}.

`edge` is behind the best filter, a share above 1.00 as printed, in {behind} of {cases} cases.
By profile: {by_profile}.
By frames: {by_group}. By factor: {by_scale}.
Cells of `dtof` show one surface where all filters and the network take a mean; of the Kinect's depth 40x30
pixels with holes are left at x16. `fast` without a guide is ahead of `edge` in {fast_ahead} of {cases} cases;
[benchmarks/cpu.md](benchmarks/cpu.md) has what it costs.

"""
GUIDED_INTRODUCTION = """
## `fast` and `challenge` with guides made from the truth

No camera has such guides: perfect is inverse true depth, noisy the same with a network's errors
(`training/simulated_guide.py`), wrong another frame's. RMSE without a guide in millimetres and as a share of
the best filter's, then RMSE with each guide over that without. The real Depth Anything was not run.
Frames: {frames}.

{ranges}
In brackets the geometric mean of all cells.

A wrong guide was to cost at most 10 % against none. It costs more, a share above 1.10 as printed, in
{dear} of {cases} cells, each the mean over its frames. By network: {by_network}. By profile: {by_profile}.
By frames: {by_group}. By factor: {by_scale}.

"""


def _value(case: Case, method: str, key: str = "rmse") -> float:
    return float(case["methods"][method][key]["mean"])


def _share(value: float, of: float) -> float:
    """As it is printed: what a sentence counts can be counted in the table."""
    return round(value / of, 2)


def edge_shares(case: Case) -> list[float]:
    """RMSE of `edge` over the best filter's and bicubic's, near edges, and of `fast` over the filter's."""
    ours, best = _value(case, "ours"), _value(case, case["best_baseline"])
    near_edges = min(_value(case, name, "edge_rmse") for name in BASELINES)
    return [
        _share(ours, best),
        _share(ours, _value(case, "bicubic")),
        _share(_value(case, "ours", "edge_rmse"), near_edges),
        _share(_value(case, "fast"), best),
    ]


def guide_shares(case: Case, network: str) -> list[float]:
    """RMSE without a guide over the best filter's, and with each of GUIDES over that without."""
    alone = _value(case, network)
    with_guides = [_share(_value(case, f"{network}, {guide} guide"), alone) for guide in GUIDES]
    return [_share(alone, _value(case, case["best_baseline"])), *with_guides]


def table(
    record: Record,
    network: str,
    columns: tuple[str, ...],
    shares: Callable[[Case], list[float]],
    label: str = "",
) -> list[str]:
    """A row for each set and profile: RMSE of `network` in mm, and `shares`, for each factor."""
    cases = {(c["group"], c["profile"], c["scale"]): c for c in record["cases"]}
    scales = sorted({scale for _, _, scale in cases})
    heads = [f"x{scale}: {' | '.join(columns)}" for scale in scales]
    lines = [f"| {label}frames, profile | {' | '.join(heads)} |"]
    lines.append("| --- |" + " ---: |" * (len(columns) * len(scales)))
    for group, profile in dict.fromkeys((group, profile) for group, profile, _ in cases):
        cells = []
        for case in (cases[group, profile, scale] for scale in scales):
            cells += [f"{1e3 * _value(case, network):.1f}", *(f"{share:.2f}" for share in shares(case))]
        lines.append(f"| {group} {profile} | {' | '.join(cells)} |")
    return lines


def counted(names: Iterable[str]) -> str:
    """How often each name comes, the most frequent first."""
    return ", ".join(f"{name} {count}" for name, count in Counter(names).most_common()) or "none"


def _options(record: Record) -> dict[str, Any]:
    """What the command was told, and the frames that it scored."""
    cases = record["cases"]
    frames = {case["group"]: len(case["frames"]) for case in cases}
    return {
        "data": " ".join(name for group, name in DATA.items() if group in frames),
        "profiles": " ".join(dict.fromkeys(case["profile"] for case in cases)),
        "scales": " ".join(str(scale) for scale in dict.fromkeys(case["scale"] for case in cases)),
        "seeds": max(case["seeds"] for case in cases),
        "limit": max(frames.values()),
        "frames": ", ".join(f"{group} {count}" for group, count in frames.items()),
    }


def introduction(everything: Record, guides: Record) -> str:
    """All before the first table."""
    known = {
        about["variant"]: about["sha256"]
        for record in (guides, everything)
        for about in record["weights"].values()
    }
    cases = everything["cases"]
    behind = [case for case in cases if edge_shares(case)[0] > 1]
    return INTRODUCTION.format(
        **_options(everything),
        **{f"guide_{name}": value for name, value in _options(guides).items()},
        weights=", ".join(f"`{name}` `{known[name]}`" for name in ("edge", *GUIDED)),
        behind=len(behind),
        cases=len(cases),
        by_profile=counted(f"`{case['profile']}`" for case in behind),
        by_group=counted(case["group"] for case in behind),
        by_scale=counted(f"x{case['scale']}" for case in behind),
        fast_ahead=sum(share[3] < share[0] for share in map(edge_shares, cases)),
    )


def guided_introduction(guides: Record) -> str:
    """All between the first table and those with guides."""
    cells = [(name, case, guide_shares(case, name)) for name in GUIDED for case in guides["cases"]]
    dear = [(name, case) for name, case, shares in cells if shares[-1] > ALLOWED]
    return GUIDED_INTRODUCTION.format(
        frames=_options(guides)["frames"],
        ranges="\n".join(_ranges(name, [s for each, _, s in cells if each == name]) for name in GUIDED),
        dear=len(dear),
        cases=len(cells),
        by_network=counted(f"`{name}`" for name, _ in dear),
        by_profile=counted(f"`{case['profile']}`" for _, case in dear),
        by_group=counted(case["group"] for _, case in dear),
        by_scale=counted(f"x{case['scale']}" for _, case in dear),
    )


def _ranges(network: str, shares: list[list[float]]) -> str:
    """What each guide brings or costs a network, from its best cell to its worst, and the geometric mean."""
    alone, *columns = zip(*shares, strict=True)
    said = [
        f"{guide} guide {min(each):.2f} to {max(each):.2f} ({geometric_mean(each):.2f})"
        for guide, each in zip(GUIDES, columns, strict=True)
    ]
    share = f"{min(alone):.2f} to {max(alone):.2f}"
    return f"`{network}`: {', '.join(said)}; without one {share} of the best filter's."


def page(everything: Record, guides: Record) -> str:
    """The page as Markdown."""
    first = table(everything, "ours", ("mm", "filter", "bicubic", "edges", "`fast`"), edge_shares)
    second = [
        table(guides, n, ("mm", "filter", *GUIDES), lambda case, n=n: guide_shares(case, n), f"`{n}`: ")
        for n in GUIDED
    ]
    parts = [introduction(everything, guides) + "\n".join(first), guided_introduction(guides)]
    return "\n".join(parts) + "\n\n".join("\n".join(lines) for lines in second) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(*(json.loads(Path(name).read_text()) for name in sys.argv[1:3])))
