# SPDX-License-Identifier: Apache-2.0
"""What a check says: how bad it is, the fact with its value, and the fix; and all of them as a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from depth_sr_ros.errors import DataError

Values = dict[str, float | int | str | None]


class Severity(IntEnum):
    """How bad a finding is. Only a problem makes the exit code 1."""

    OK = 0
    NOTE = 1
    """Worth knowing; nothing has to be done."""
    WARNING = 2
    """The node works, but less well than it could."""
    PROBLEM = 3
    """The depth that comes out will be wrong, or nothing comes out."""


STYLES = {
    Severity.OK: "green",
    Severity.NOTE: "cyan",
    Severity.WARNING: "yellow",
    Severity.PROBLEM: "bold red",
}


@dataclass(frozen=True)
class Finding:
    """One result of a check: `text` states the fact, `fix` what to change, empty where nothing is to be done.

    `check` is the short name that the report groups by; `values` holds what was measured, by name with its
    unit (`rate_hz`).
    """

    check: str
    severity: Severity
    text: str
    fix: str = ""
    values: Mapping[str, float | int | str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All findings of a source, the most severe first. `damage` says why not all of it could be read."""

    source: str
    findings: Sequence[Finding]
    facts: Mapping[str, Any]
    damage: str = ""

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    @property
    def exit_code(self) -> int:
        """2 where the source is damaged, 1 where there is a problem, else 0."""
        return 2 if self.damage else int(bool(self.of(Severity.PROBLEM)))

    @property
    def verdict(self) -> str:
        """One line: whether this setup will work, and what to repair first."""
        problems, warnings = self.of(Severity.PROBLEM), self.of(Severity.WARNING)
        counts = f"{_counted(len(problems), 'problem')}, {_counted(len(warnings), 'warning')}"
        if self.damage:
            counts += " in the part that could be read"
        if problems:
            return f"{counts}: repair {problems[0].check!r} first; until then do not blame the network."
        if warnings:
            return f"{counts}: the setup works; {warnings[0].check!r} is where it can be better."
        return f"{counts}: nothing here stands in the network's way."

    def print_to(self, console: Console) -> None:
        """The table, what it was taken from, and the verdict."""
        table = Table(title=f"doctor: {self.source}", title_justify="left", show_lines=False, pad_edge=False)
        table.add_column("", no_wrap=True)
        table.add_column("check", no_wrap=True)
        table.add_column("what was found, and what to do", overflow="fold")
        for finding in self.findings:
            style = STYLES[finding.severity]
            text = finding.text + (f"\n-> {finding.fix}" if finding.fix else "")
            # Topics in brackets are not markup.
            table.add_row(
                f"[{style}]{finding.severity.name.lower()}[/]", finding.check, text.replace("[", "\\[")
            )
        console.print(table)
        console.print(self.verdict, markup=False, highlight=False, soft_wrap=True)

    def write_json(self, path: Path) -> None:
        """Everything as JSON. Raises DataError where the file cannot be written."""
        findings = [asdict(f) | {"severity": f.severity.name.lower()} for f in self.findings]
        content = {
            "source": self.source,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "damage": self.damage,
            **self.facts,
            "findings": findings,
        }
        try:
            path.write_text(json.dumps(content, indent=1) + "\n")
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}") from error


def _counted(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
