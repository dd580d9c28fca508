# SPDX-License-Identifier: Apache-2.0
"""All checks in one list, and the report of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from depth_sr_ros.doctor.check_alignment import check_alignment
from depth_sr_ros.doctor.check_camera_info import check_camera_infos
from depth_sr_ros.doctor.check_clocks import check_arrival, check_clocks, check_pairing, check_stamps
from depth_sr_ros.doctor.check_encodings import check_encodings, check_units
from depth_sr_ros.doctor.check_pictures import check_exposure, check_frozen, check_holes
from depth_sr_ros.doctor.check_rates import check_rates
from depth_sr_ros.doctor.check_transport import check_dds, check_qos, check_shared_memory, check_topics
from depth_sr_ros.doctor.check_views import check_same_view, check_sizes
from depth_sr_ros.doctor.findings import Finding, Report
from depth_sr_ros.doctor.samples import Samples

Check = Callable[[Samples], Iterator[Finding]]

# Of equal severity, what hides other faults comes first.
CHECKS: tuple[Check, ...] = (
    check_topics,
    check_encodings,
    check_units,
    check_stamps,
    check_clocks,
    check_pairing,
    check_arrival,
    check_rates,
    check_qos,
    check_dds,
    check_shared_memory,
    check_sizes,
    check_same_view,
    check_alignment,
    check_camera_infos,
    check_holes,
    check_frozen,
    check_exposure,
)


def examine(samples: Samples) -> Report:
    """Run all checks; the most severe findings first."""
    findings = [finding for check in CHECKS for finding in check(samples)]
    findings.sort(key=lambda finding: -finding.severity)
    facts: dict[str, Any] = {f"{stream.kind}_topic": stream.topic for stream in samples.streams} | {
        f"{stream.kind}_frames": len(stream.arrivals) for stream in samples.streams
    }
    return Report(samples.source, findings, facts, samples.damage)
