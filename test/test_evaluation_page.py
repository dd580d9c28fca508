# SPDX-License-Identifier: Apache-2.0
"""docs/evaluation_all.md: what its sentences count is what its tables show."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from statistics import geometric_mean
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from script_module import load_script

from depth_sr_ros.baselines import PARAMS_PATH
from training.data.root import data_root
from training.eval_frames import rendered_frames

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "make_evaluation_page.py"
GUIDES = ("perfect", "noisy", "wrong")
LABELS = {"By profile": "profile", "By frames": "group", "By factor": "factor"}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return load_script(SCRIPT)


class Cell(NamedTuple):
    """What a table says of one case; `numbers` as its columns have them."""

    network: str
    group: str
    profile: str
    factor: str
    numbers: list[float]


def cells(page: str, network: str, heading: str) -> list[Cell]:
    """All of the page's table whose head begins so."""
    _, _, rest = page.partition(f"| {heading}frames, profile |")
    head, _, *rows = rest.partition("\n\n")[0].splitlines()
    scales = re.findall(r"(x\d+): mm", head)
    out = []
    for row in rows:
        name, *values = [part.strip() for part in row.strip("|").split("|")]
        group, profile = name.split()
        width = len(values) // len(scales)
        for number, scale in enumerate(scales):
            numbers = [float(value) for value in values[width * number : width * (number + 1)]]
            out.append(Cell(network, group, profile, scale, numbers))
    return out


def counts(page: str, label: str, after: str) -> dict[str, int]:
    """Of a sentence such as "By profile: `dtof` 10, `tof` 2." that comes after some words."""
    found = re.search(rf"{label}: ([^.]*)\.", page.partition(after)[2])
    assert found is not None
    return {name: int(count) for name, count in re.findall(r"`?(\w+)`? (\d+)", found[1])}


def tally(found: list[Cell], field: str) -> Counter[str]:
    return Counter(getattr(cell, field) for cell in found)


def check(page: str) -> None:
    """Counts again, from the tables alone, what the sentences say."""
    text = " ".join(page.split())
    alone = cells(page, "edge", "")
    behind = [cell for cell in alone if cell.numbers[1] > 1]
    assert f"in {len(behind)} of {len(alone)} cases. By profile" in text
    fast = sum(cell.numbers[4] < cell.numbers[1] for cell in alone)
    assert f"`fast` without a guide is ahead of `edge` in {fast} of {len(alone)} cases" in text
    for label, field in LABELS.items():
        assert counts(text, label, "is behind the best filter") == tally(behind, field)
    with_guides = [cell for name in ("fast", "challenge") for cell in cells(page, name, f"`{name}`: ")]
    dear = [cell for cell in with_guides if cell.numbers[4] > 1.10]
    assert f"as printed, in {len(dear)} of {len(with_guides)} cells" in text
    for label, field in {"By network": "network", **LABELS}.items():
        assert counts(text, label, "at most 10 %") == tally(dear, field)
    for name in ("fast", "challenge"):
        for number, guide in enumerate(GUIDES, 2):
            values = [cell.numbers[number] for cell in with_guides if cell.network == name]
            said = text.partition(f"`{name}`: perfect guide ")[2].partition("best filter")[0]
            found = f"{min(values):.2f} to {max(values):.2f} ({geometric_mean(values):.2f})"
            assert f"{guide} guide {found}" in f"perfect guide {said}"


def case(group: str, profile: str, scale: int, rmse: dict[str, float]) -> dict[str, Any]:
    methods = {name: {key: {"mean": value} for key in ("rmse", "edge_rmse")} for name, value in rmse.items()}
    return {
        "group": group,
        "profile": profile,
        "scale": scale,
        "seeds": 2,
        "frames": ["a", "b", "c"],
        "methods": methods,
        "best_baseline": "guided",
    }


def records(generator: ModuleType) -> tuple[dict[str, Any], dict[str, Any]]:
    filters = dict.fromkeys(generator.BASELINES, 0.2) | {"guided": 0.1}
    alone, with_guides = [], []
    for number, (profile, scale) in enumerate((p, s) for p in ("clean", "tof") for s in (4, 8)):
        networks = {"ours": 0.09 + 0.005 * number, "fast": 0.1, "challenge": 0.1}
        given = {f"{n}, {g} guide": 0.05 + 0.02 * number for n in ("fast", "challenge") for g in GUIDES}
        alone.append(case("aloe", profile, scale, filters | networks))
        with_guides.append(case("aloe", profile, scale, filters | networks | given))
    weights = {name: {"variant": name, "sha256": f"{name}0"} for name in ("edge", "fast", "challenge")}
    return {"weights": weights, "cases": alone}, {"weights": weights, "cases": with_guides}


def test_the_sentences_follow_the_numbers(generator: ModuleType) -> None:
    everything, guides = records(generator)
    page = generator.page(everything, guides)
    check(page)
    assert "in 1 of 4 cases. By profile: `tof` 1." in " ".join(page.split()), "1.00 is not behind"
    assert "--seeds 2 --limit 3" in page and "`edge` `edge0`" in page
    everything["cases"][0]["methods"]["ours"]["rmse"]["mean"] = 0.2
    guides["cases"][0]["methods"]["fast, wrong guide"]["rmse"]["mean"] = 0.2
    changed = generator.page(everything, guides)
    check(changed)
    assert "in 2 of 4 cases" in changed and changed.count("`fast` 1") == 1
    with pytest.raises(AssertionError):
        check(changed.replace("in 2 of 4 cases", "in 3 of 4 cases"))


def test_the_page_says_on_which_frames_the_filters_were_tuned(generator: ModuleType) -> None:
    for page in (generator.page(*records(generator)), SCRIPT.with_name("evaluation_all.md").read_text()):
        assert "parameters were chosen on these very rooms and tracks" in " ".join(page.split())
    root = data_root() / "rendered"
    if not (root / "val" / "index.jsonl").is_file():
        pytest.skip("no rendered set")
    tuned = json.loads(PARAMS_PATH.read_text())["frames"]
    assert {frame.name for frame in rendered_frames(root, 4, seed=0)} <= set(tuned)


def test_the_page_counts_what_its_tables_show() -> None:
    check(SCRIPT.with_name("evaluation_all.md").read_text())
