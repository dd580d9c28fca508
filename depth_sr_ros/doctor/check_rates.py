# SPDX-License-Identifier: Apache-2.0
"""Rates of both streams: too slow, uneven, with frames missing, standing still, or unlike each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from depth_sr_ros.doctor.findings import Finding, Severity
from depth_sr_ros.doctor.samples import Samples, Stamps, Stream

# Fewer intervals tell no rhythm.
FEW_INTERVALS = 8
# Below it a robot that moves has left the scene of the frame before.
SLOW_HZ = 2.0
# An interval as long as this many periods holds frames that did not come.
GAP_PERIODS = 1.5
# Intervals are whole multiples of the frame period if so many are within so much of one.
SHORTEST_PERCENTILE, FIT_TOLERANCE, FIT_SHARE = 10, 0.1, 0.9
# A driver drops a frame now and then; in every twentieth there is a cause.
SOME_MISSING, MANY_MISSING = 0.02, 0.2
# Spread (95th percentile from the median) of the intervals, of the period, gaps left out: auto exposure moves
# a stamp by less.
JITTER_SHARE = 0.3
# While other images come evenly, so long a silence is a driver or a disk that was busy.
STALL_S = 1.0
# A stream of this share of the other's rate leaves half of the other's frames without a partner.
RATE_RATIO = 0.6


def check_rates(samples: Samples) -> Iterator[Finding]:
    """Rate, missing frames, jitter and stalls of each stream, and how the two rates fit."""
    sound = True
    for stream in samples.streams:
        if len(stream.intervals()) < FEW_INTERVALS:
            if stream.arrivals:
                sound = False
                yield Finding(
                    "rates",
                    Severity.NOTE,
                    f"only {len(stream.arrivals)} {stream.name} images with stamps that go forward: too few "
                    "to judge a rate",
                    "record or listen for longer",
                    {"frames": len(stream.arrivals)},
                )
            continue
        for finding in (*_missing(samples, stream), *_rhythm(stream), *_stall(stream)):
            sound = False
            yield finding
    for finding in _ratio(samples):
        sound = False
        yield finding
    rates = {s.name: rate_hz(s) for s in samples.streams if s.period_ns}
    if sound and rates:
        text = ", ".join(f"{name} {rate:.1f} Hz" for name, rate in rates.items())
        values = {f"{name.lower()}_hz": round(rate, 3) for name, rate in rates.items()}
        yield Finding("rates", Severity.OK, f"{text}; no frames missing, even intervals", values=values)


def rate_hz(stream: Stream) -> float:
    """By the median interval of the stamps; 0 where it is not known."""
    return 1e9 / stream.period_ns if stream.period_ns else 0.0


def frame_period_ns(intervals: Stamps) -> float:
    """Between two frames that the camera took, though many of them may be missing; nanoseconds."""
    shortest = float(np.percentile(intervals, SHORTEST_PERCENTILE))
    periods = intervals / shortest
    fits = np.abs(periods - np.rint(periods)) < FIT_TOLERANCE
    # Where more than a third of the frames are lost the median is more than a period.
    return shortest if fits.mean() >= FIT_SHARE else float(np.median(intervals))


def _missing(samples: Samples, stream: Stream) -> Iterator[Finding]:
    intervals = stream.intervals()
    period = frame_period_ns(intervals)
    gaps = intervals[intervals > GAP_PERIODS * period]
    in_gaps = int(np.rint(gaps / period).sum()) - len(gaps)
    # A frame that was sent late, with the next ones soon after it, is not missing.
    in_all = round(float((intervals - period).sum()) / period)
    missing = max(min(in_gaps, in_all), 0)
    share = missing / (missing + len(stream.arrivals))
    if share < SOME_MISSING:
        return
    lost = "" if stream.lost is None else f"; the middleware says that it lost {stream.lost}"
    fix = (
        "give the driver's process the DDS profile and the allocator settings of the README, or send smaller "
        "images; where ros2 topic hz shows the same gaps on the driver's machine, it is the driver"
        if samples.is_live
        else "look at the recorder first (a larger --max-cache-size, a faster disk, no compression), then at "
        "the driver and its DDS profile"
    )
    yield Finding(
        "rates",
        Severity.PROBLEM if share >= MANY_MISSING else Severity.WARNING,
        f"{missing} {stream.name} frames are missing between the {len(stream.arrivals)} that came "
        f"({100 * share:.0f} %), by gaps in the stamps; the longest gap is {gaps.max() / 1e9:.2f} s{lost}",
        fix,
        {"missing": missing, "missing_share": round(share, 4), "lost": stream.lost},
    )


def _rhythm(stream: Stream) -> Iterator[Finding]:
    rate, intervals = rate_hz(stream), stream.intervals()
    period = frame_period_ns(intervals)
    if rate < SLOW_HZ:
        yield Finding(
            "rates",
            Severity.WARNING,
            f"{stream.name} comes at {rate:.2f} Hz only",
            "raise the driver's frame rate; for a slow depth sensor beside a faster RGB camera set sync.key "
            "to rgb",
            {"rate_hz": round(rate, 3)},
        )
    even = intervals[intervals <= GAP_PERIODS * period]
    jitter = float(np.percentile(np.abs(even - period), 95) / period)
    if jitter > JITTER_SHARE:
        yield Finding(
            "rates",
            Severity.WARNING,
            f"the intervals of the {stream.name} stamps scatter by {100 * jitter:.0f} % of their usual "
            f"{period / 1e6:.1f} ms",
            "have the driver stamp the exposure, not the arrival of the data on the host; pin the exposure "
            "time below the frame period; or set sync.slop by hand",
            {"jitter_share": round(jitter, 3), "rate_hz": round(rate, 3)},
        )


def _stall(stream: Stream) -> Iterator[Finding]:
    arrivals, stamps = stream.steps(of_arrivals=True), stream.steps()
    # Where the stamps have the gap as well, it has been told as missing frames.
    stalls = arrivals[
        (arrivals > STALL_S * 1e9) & (stamps < GAP_PERIODS * frame_period_ns(stream.intervals()))
    ]
    if len(stalls):
        yield Finding(
            "rates",
            Severity.WARNING,
            f"{len(stalls)} times no {stream.name} image came for up to {stalls.max() / 1e9:.1f} s though "
            "the stamps go on evenly",
            "look at what holds the images up on their way: a busy disk, a full network, a reliable "
            "subscriber that is slow",
            {"stalls": len(stalls)},
        )


def _ratio(samples: Samples) -> Iterator[Finding]:
    if samples.rgb is None or samples.depth is None:
        return
    rgb, depth = rate_hz(samples.rgb), rate_hz(samples.depth)
    values = {"rgb_hz": round(rgb, 3), "depth_hz": round(depth, 3)}
    if not rgb or not depth:
        return
    if depth < RATE_RATIO * rgb:
        yield Finding(
            "rates",
            Severity.NOTE,
            f"depth comes at {depth:.1f} Hz beside RGB at {rgb:.1f} Hz: the output has the depth's rate",
            "set sync.key to rgb where the output is to have the RGB's",
            values,
        )
    elif rgb < RATE_RATIO * depth:
        yield Finding(
            "rates",
            Severity.NOTE,
            f"RGB comes at {rgb:.1f} Hz beside depth at {depth:.1f} Hz: depth frames without a partner are "
            "left out",
            "raise the RGB camera's rate where the output is to have the depth's",
            values,
        )
