# SPDX-License-Identifier: Apache-2.0
"""The node's state as diagnostic_msgs, once a second whatever the executor does, and as a log line."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from depth_sr_ros.stats import RECENT

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True)
class Thresholds:
    """When a number is worth a warning."""

    silent_s: float = 2.0  # without a frame while subscribed
    skew_s: float = 0.1  # between what the two streams' clocks say, while nothing pairs
    unpaired_share: float = 0.5  # of the pairs that there could have been since the last report
    overwritten_share: float = 0.5  # of the pairs since the last report
    guide_share: float = 0.5  # of the last RECENT frames, left without their guide


THRESHOLDS = Thresholds()


class Assessor:
    """Level and message of a snapshot; keeps the last one, since shares are taken between two reports."""

    def __init__(self, thresholds: Thresholds = THRESHOLDS) -> None:
        self._limits = thresholds
        self._last: Mapping[str, Any] = {}

    def __call__(self, now: Mapping[str, Any]) -> tuple[bytes, str]:
        """ERROR once something failed, WARN where the robot's owner should look, else OK with the rate."""
        last, self._last = self._last, now
        state = now["state"]
        if now["failure"]:
            return ERROR, f"{state}: {now['failure']}"
        if state != "active":
            return OK, state
        if not now["subscribed"]:
            return OK, "no subscribers"
        new = {key: now[key] - last.get(key, 0) for key in COUNTED}
        if any(value < 0 for value in new.values()):  # configured anew: the counters began again
            new = {key: now[key] for key in COUNTED}
        warning = (
            self._silence(now)
            or self._stamps(now, new)
            or self._clocks(now, new)
            or self._losses(now, new)
            or now["view_mismatch"]
            or self._guide(now)
        )
        return (WARN, warning) if warning else (OK, f"{now['output_hz']:.1f} Hz")

    def _silence(self, now: Mapping[str, Any]) -> str:
        silent = {name: now[f"{name}_silent_s"] for name in ("rgb", "depth")}
        late = {name: s for name, s in silent.items() if s >= self._limits.silent_s}
        if len(late) == 2:
            shortest = min(late.values())
            return f"no images on {now['rgb_topic']} and {now['depth_topic']} for {shortest:.0f} s"
        for name, other in (("rgb", "depth"), ("depth", "rgb")):
            if name in late:
                return f"no {name} on {now[f'{name}_topic']} for {late[name]:.0f} s while {other} arrives"
        return ""

    def _stamps(self, now: Mapping[str, Any], new: Mapping[str, int]) -> str:
        # Frames that all have the same stamp make one pair: the others are taken for repetitions.
        if now["unstamped"] and new["depth_received"] and not new["pairs"]:
            return (
                f"the stamps of {now['unstamped']} are 0, so nothing pairs: have the publisher set "
                "header.stamp; with use_sim_time it needs /clock"
            )
        return ""

    def _clocks(self, now: Mapping[str, Any], new: Mapping[str, int]) -> str:
        skew = now["stamp_skew_s"]
        if new["depth_received"] and not new["pairs"] and abs(skew) >= self._limits.skew_s:
            return f"stamps differ by {abs(skew):.2g} s: clocks not synchronised?"
        return ""

    def _losses(self, now: Mapping[str, Any], new: Mapping[str, int]) -> str:
        if new["bad"]:
            return f"{new['bad']} bad frames: {now['last_error']}"
        unpaired = new["depth_unpaired"] + new["depth_evicted"]
        # The slower stream sets how many pairs there can be: of a fast depth stream most are left over.
        possible = min(new["rgb_received"], new["depth_received"])
        if unpaired and new["pairs"] < (1 - self._limits.unpaired_share) * possible:
            return f"{unpaired} of {new['depth_received']} depth frames found no RGB frame within sync.slop"
        if new["overwritten"] > self._limits.overwritten_share * max(new["pairs"], 1):
            return (
                f"{new['overwritten']} of {new['pairs']} pairs were overwritten: the network is slower than "
                "the camera"
            )
        return ""

    def _guide(self, now: Mapping[str, Any]) -> str:
        # Not of the frames since the last report: that may be one, where the network is slow.
        left_out = now["guide_left_out_recent"]
        if left_out > self._limits.guide_share * RECENT:
            return (
                f"the guide was left out of {left_out} of the last {RECENT} frames, since it does not show "
                "what the depth sensor measured: align the depth image (register), or check guide.path"
            )
        return ""


COUNTED = ("rgb_received", "depth_received", "depth_unpaired", "depth_evicted", "pairs", "overwritten", "bad")


def diagnostic_array(
    name: str, level: bytes, message: str, snapshot: Mapping[str, Any], stamp: Time
) -> DiagnosticArray:
    """One status with every entry of `snapshot` as a key-value pair."""
    hardware = str(snapshot.get("device", ""))
    status = DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware)
    status.values = [KeyValue(key=key, value=_text(value)) for key, value in snapshot.items()]
    out = DiagnosticArray(status=[status])
    out.header.stamp = stamp
    return out


def log_line(snapshot: Mapping[str, Any]) -> str:
    """The rates, the latency and the counters that tell whether frames are lost, and where."""
    return (
        "rgb {rgb_hz:.1f} Hz, depth {depth_hz:.1f} Hz, out {output_hz:.1f} Hz; "
        "latency p50 {latency_p50_ms:.0f} ms, p95 {latency_p95_ms:.0f} ms; "
        "pairs {pairs}, unpaired {depth_unpaired}, evicted {depth_evicted}, overwritten {overwritten}, "
        "bad {bad}, published {published}"
    ).format(**snapshot)


class Ticker:
    """Calls something once a `period_s` by the steady clock, on a thread of its own.

    A timer of the executor would stop while a transition loads a network for a minute. `on_error` is told of
    an exception, and the next call follows: a node without diagnostics is worse than one with a bad minute.
    """

    def __init__(
        self, call: Callable[[], None], period_s: float, on_error: Callable[[Exception], None]
    ) -> None:
        self._call = call
        self._on_error = on_error
        self._period = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="depth_sr_diagnostics")
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; safe to call again."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._period):
            try:
                self._call()
            except Exception as error:  # the boundary of the thread
                self._on_error(error)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3f}"
    return str(value)
