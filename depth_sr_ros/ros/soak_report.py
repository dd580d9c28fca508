# SPDX-License-Identifier: Apache-2.0
"""What a soak found: accounting identities, the growth of memory, the table and the file of numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table

from depth_sr_ros.errors import ConfigError
from depth_sr_ros.image_size import Size, check_sides, size_text

MAX_SLOPE_MB_PER_MINUTE = 0.2
JUDGED_FROM_MINUTES = 5.0
# The slope is fitted behind the time in which caches and pools fill.
SETTLE_S, SETTLE_SHARE = 120.0, 0.4
ENDED = ("published", "publish_errors", "bad", "failed")
SHOWN = ("rgb_received", "depth_received", "pairs", "depth_unpaired", "depth_evicted", "overwritten", *ENDED)


@dataclass(frozen=True)
class Settings:
    """What to run: minutes, frames per second, sizes in pixels (width, height). Raises ConfigError."""

    minutes: float = 10.0
    rate: float = 30.0
    rgb_size: Size = (640, 480)
    depth_size: Size = (160, 120)
    variant: str = "edge"

    def __post_init__(self) -> None:
        for name, value, low, high in (("minutes", self.minutes, 0.1, 10080), ("rate", self.rate, 1, 240)):
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value:g}, but must be from {low:g} to {high:g}")
        check_sides(self.rgb_size, self.depth_size)

    @property
    def is_judged(self) -> bool:
        """Whether it is long enough for a verdict on the growth of memory."""
        return self.minutes >= JUDGED_FROM_MINUTES

    @property
    def text(self) -> str:
        """In words."""
        sizes = " and ".join(map(size_text, (self.rgb_size, self.depth_size)))
        return f"{self.variant}, {sizes} at {self.rate:g} Hz for {self.minutes:g} minutes"


class Sample(NamedTuple):
    """The node's process at one moment."""

    seconds: float
    """Since the first output."""
    rss_mb: float
    threads: int


@dataclass
class Outcome:
    """What a soak found; `faults` are the reasons for its failure, in words."""

    settings: Settings
    faults: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    reports: int = 0
    sent: int | None = None
    """None where a signal ended it before the camera said so."""
    received: int = 0
    latency_p50_ms: float = float("nan")
    latency_p95_ms: float = float("nan")
    slope_mb_per_minute: float = float("nan")

    def add_fault(self, text: str) -> None:
        """Remember it once."""
        if text not in self.faults:
            self.faults.append(text)

    @property
    def lost(self) -> dict[str, int]:
        """Messages that the transport lost, by the way they took; empty where that is not known."""
        if not self.counters or self.sent is None:
            return {}
        return {
            "rgb": self.sent - self.counters["rgb_received"],
            "depth": self.sent - self.counters["depth_received"],
            "output": self.counters["published"] - self.received,
        }


def broken_identities(now: Mapping[str, int]) -> list[str]:
    """The accounting identities that the counters of a report do not fulfil, with the numbers."""
    out = []
    for name in ("rgb", "depth"):
        parts = {key: now[f"{name}_{key}"] for key in ("paired", "unpaired", "evicted", "queued")}
        if now[f"{name}_received"] != sum(parts.values()):
            out.append(f"{name}_received {now[f'{name}_received']} is not the sum of {parts}")
    parts = {key: now[key] for key in ("overwritten", "waiting", "processing", *ENDED)}
    if now["pairs"] != sum(parts.values()):
        out.append(f"pairs {now['pairs']} is not the sum of {parts}")
    if min(parts.values()) < 0:
        out.append(f"a counter is negative: {parts}")
    return out


def slope(samples: list[Sample], duration_s: float) -> float:
    """The growth of RSS in MB a minute, a line fitted behind the settling time; NaN with too few samples."""
    start = min(SETTLE_S, SETTLE_SHARE * duration_s)
    kept = np.array([(s.seconds / 60, s.rss_mb) for s in samples if s.seconds >= start])
    return float(np.polyfit(kept[:, 0], kept[:, 1], 1)[0]) if len(kept) > 2 else float("nan")


def table(outcome: Outcome) -> Table:
    """All figures of the run, a line each."""
    samples, settings = outcome.samples, outcome.settings
    out = Table(title=f"soak: {settings.text}", title_justify="left")
    out.add_column("figure", no_wrap=True)
    out.add_column("value", justify="right")
    rows: dict[str, object] = {"frames sent": "-" if outcome.sent is None else outcome.sent}
    rows |= {name: outcome.counters.get(name, "-") for name in SHOWN}
    rows |= {"outputs received": outcome.received}
    rows |= {f"lost by the transport: {name}": number for name, number in outcome.lost.items()}
    rows["sent to received, p50 / p95, ms"] = f"{outcome.latency_p50_ms:.1f} / {outcome.latency_p95_ms:.1f}"
    rows["diagnostics reports checked"] = outcome.reports
    if samples:
        memory, threads = [s.rss_mb for s in samples], [s.threads for s in samples]
        rows["RSS first / last / largest, MB"] = f"{memory[0]:.1f} / {memory[-1]:.1f} / {max(memory):.1f}"
        rows["threads least / most"] = f"{min(threads)} / {max(threads)}"
    judged = "" if settings.is_judged else f" (judged from {JUDGED_FROM_MINUTES:g} minutes on)"
    rows[f"RSS slope, MB a minute{judged}"] = f"{outcome.slope_mb_per_minute:+.3f}"
    for name, value in rows.items():
        out.add_row(name, str(value))
    return out


def write_json(path: Path, outcome: Outcome) -> None:
    """The whole outcome, samples included, NaN as null; so is `passed` of a soak that a signal ended."""
    passed = None if outcome.sent is None and not outcome.faults else not outcome.faults
    content = asdict(outcome) | {"lost": outcome.lost, "passed": passed}
    content["samples"] = [sample._asdict() for sample in outcome.samples]
    finite = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in content.items()}
    path.write_text(json.dumps(finite, indent=1) + "\n")
