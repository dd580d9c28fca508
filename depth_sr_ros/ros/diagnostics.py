# SPDX-License-Identifier: Apache-2.0
"""The node's state as diagnostic_msgs, and as one line for the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue


def diagnostic_array(name: str, snapshot: Mapping[str, Any], stamp: Time) -> DiagnosticArray:
    """One status with every entry of `snapshot` as a key-value pair.

    ERROR once the worker has failed, WARN while an input is silent, OK otherwise.
    """
    level, message = _assess(snapshot)
    status = DiagnosticStatus(level=level, name=name, message=message, hardware_id=str(snapshot["device"]))
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


def _assess(snapshot: Mapping[str, Any]) -> tuple[bytes, str]:
    if snapshot["failed"]:
        return DiagnosticStatus.ERROR, str(snapshot["last_error"])
    silent = [name for name in ("rgb", "depth") if not snapshot[f"{name}_hz"]]
    if silent:
        return DiagnosticStatus.WARN, f"no {' and no '.join(silent)} images arrive"
    return DiagnosticStatus.OK, f"{snapshot['output_hz']:.1f} Hz"


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
