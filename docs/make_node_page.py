# SPDX-License-Identifier: Apache-2.0
"""Writes the table of parameters in docs/node.md from depth_sr_ros/parameters.py; --check only compares."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from depth_sr_ros.parameters import Spec

REPO_ROOT = Path(__file__).resolve().parents[1]
PAGE = REPO_ROOT / "docs" / "node.md"
BEGIN = "<!-- parameters: written by docs/make_node_page.py -->"
END = "<!-- end of parameters -->"
COLUMNS = ("name", "type", "default", "allowed", "changes", "")


def table() -> str:
    """The parameters as a Markdown table."""
    sys.path.insert(0, str(REPO_ROOT))  # this checkout's parameters, installed or not
    from depth_sr_ros.parameters import TABLE

    lines = [_row(COLUMNS), _row(["---"] * len(COLUMNS)), *(_row(_cells(spec)) for spec in TABLE)]
    return "\n".join(lines)


def updated(page: str) -> str:
    """The page with what is between the markers replaced; ValueError where they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} must hold {BEGIN!r} and, after it, {END!r}")
    return f"{before}{begin}\n\n{table()}\n\n{end}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns 1 where --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where the page differs"
    )
    check = parser.parse_args(arguments).check
    old = PAGE.read_text(encoding="utf-8")
    new = updated(old)
    if new == old:
        return 0
    if check:
        print("docs/node.md is not up to date: run python docs/make_node_page.py", file=sys.stderr)
        return 1
    PAGE.write_text(new, encoding="utf-8")
    return 0


def _cells(spec: Spec) -> list[str]:
    return [
        f"`{spec.name}`",
        spec.type_name,
        f"`{_yaml(spec.default)}`",
        spec.allowed,
        "at any time" if spec.dynamic else "unconfigured",
        spec.description,
    ]


def _yaml(value: object) -> str:
    """A default as it is written in a file of parameters; a text without quotes, unless it is empty."""
    return value if isinstance(value, str) and value else json.dumps(value)


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
