# SPDX-License-Identifier: Apache-2.0
"""Stamps: set at all, going forward, of one clock for both streams, and near enough to each other to pair."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from depth_sr_ros.doctor.findings import Finding, Severity
from depth_sr_ros.doctor.samples import Samples, Stream
from depth_sr_ros.stamped_queue import JUMP_NS

# A recording may begin its clock at 0; a driver that sets no stamp leaves all of them there.
MOST_ZERO_STAMPS = 1
# More than any driver, network and recorder between them take from the exposure to the log.
FAR_S = 1.0
# A stamp after the arrival cannot be a delay; clocks that NTP holds together differ by a few milliseconds.
FUTURE_S = 0.02
# The node's diagnostics warn from this on too (ros/diagnostics.py); depth that is computed on the camera's
# host comes up to about so much later than its RGB.
SKEW_S = 0.1
# No depth camera works that long on one frame: it is the clock.
CERTAIN_SKEW_S = 0.5
# Below it the scheduling of this machine looks the same as a drift.
DRIFT_S = 0.01
# And a drift stands out of the changes from one frame's delay to the next by as much.
DRIFT_NOISE_RATIO = 3.0
# Shares of the depth frames that could have a partner. The first frame of a stretch may stay alone until
# the RGB period is known, hence not 1.
GOOD_PAIRED_SHARE = 0.9
# As the node's diagnostics have it.
POOR_PAIRED_SHARE = 0.5
FEW_FRAMES = 10
# A larger slop would pair images of different scenes.
LARGEST_SLOP_S = 0.2

SYNCHRONISE = "synchronise the clocks (chrony, PTP), or have one machine stamp both streams"


def check_stamps(samples: Samples) -> Iterator[Finding]:
    """Stamps that are not set, go back or repeat."""
    sound = True
    for stream in samples.streams:
        for finding in _stamp_faults(stream):
            sound = False
            yield finding
    if sound and any(stream.arrivals for stream in samples.streams):
        yield Finding("stamps", Severity.OK, "all stamps are set and go forward")


def _stamp_faults(stream: Stream) -> Iterator[Finding]:
    total = len(stream.arrivals)
    zeros = zero_stamps(stream)
    if zeros > MOST_ZERO_STAMPS:
        yield Finding(
            "stamps",
            Severity.PROBLEM,
            f"{zeros} of {total} {stream.name} images have the stamp 0",
            "have the driver set header.stamp to the time of the exposure; pairing goes by it",
            {"zero_stamps": zeros, "frames": total},
        )
        return
    steps = stream.steps()
    back, jumps = int((steps < 0).sum()), int((steps < -JUMP_NS).sum())
    if jumps:
        yield Finding(
            "stamps",
            Severity.WARNING,
            f"the {stream.name} stamps go back by more than 1 s, {jumps} times in {total} frames (by "
            f"{_time(float(-steps.min()) / 1e9)} at most): the node starts its pairing anew each time",
            "look for a second publisher, a bag that is played in a loop, or a clock that is set while it "
            "runs",
            {"jumps_back": jumps},
        )
    elif back:
        yield Finding(
            "stamps",
            Severity.WARNING,
            f"{back} of {total} {stream.name} images have an earlier stamp than the one before",
            "have the driver publish in the order of exposure; a frame that comes after a later one has left "
            "stays unpaired",
            {"steps_back": back},
        )
    same = int((steps == 0).sum())
    if same:
        yield Finding(
            "stamps",
            Severity.WARNING,
            f"{same} of {total} {stream.name} images have the same stamp as the one before",
            "look for a second publisher, or a driver that sends frames again to reach its rate",
            {"same_stamps": same},
        )


def check_arrival(samples: Samples) -> Iterator[Finding]:
    """Stamps far from the time of arrival: another clock than this machine's, or the recorder's."""
    clock = "this machine's clock" if samples.is_live else "the log's clock"
    delays = {s.name: float(np.median(_delays(s)[1])) for s in _stamped(samples)}
    if not delays:
        return
    worst = max(delays, key=lambda name: abs(delays[name]))
    values = {f"{name.lower()}_delay_s": round(delay, 6) for name, delay in delays.items()}
    far, future = abs(delays[worst]) > FAR_S, min(delays.values()) < -FUTURE_S
    text = ", ".join(f"{name} stamps lie {_beside_arrival(d)}" for name, d in delays.items())
    if not far and not future:
        yield Finding("stamp age", Severity.OK, text, values=values)
        return
    if len(delays) == 2 and abs(skew_s(samples)) >= SKEW_S:
        # One fault, one finding: the clocks' says it. This tells which of the two.
        yield Finding("stamp age", Severity.NOTE, f"{text}, by {clock}", values=values)
        return
    if future and not far:
        worst = min(delays, key=lambda name: delays[name])
    yield Finding(
        "stamp age",
        Severity.WARNING,
        f"the {worst} stamps lie {_beside_arrival(delays[worst])} by {clock}: two clocks; "
        "pairing works where both streams have the same one, but ages (and TF) mean nothing",
        "set the driver to stamp with the host's time, or synchronise the clocks (chrony, PTP); with a bag "
        "or a simulator, use_sim_time",
        values,
    )


def check_clocks(samples: Samples) -> Iterator[Finding]:
    """Whether the two streams' stamps are of one clock: what they disagree by, constant or drifting."""
    if len(_stamped(samples)) < 2:
        return
    skew, drift, span = skew_s(samples), *_drift(samples)
    values: dict[str, float] = {
        "skew_s": round(skew, 6),
        "drift_s": round(drift, 6),
        "over_s": round(span, 1),
    }
    later = "depth" if skew > 0 else "RGB"
    text = (
        f"{later} images come {_time(abs(skew))} later after their stamps than "
        f"{'RGB' if skew > 0 else 'depth'} images do"
    )
    if drift:
        certain = abs(skew) >= SKEW_S and is_certain_skew(samples)
        yield Finding(
            "clocks",
            Severity.PROBLEM if certain else Severity.WARNING,
            f"{text}, and that changed by {_time(abs(drift))} in {span:.0f} s: the clocks drift apart",
            SYNCHRONISE,
            values,
        )
    elif abs(skew) >= SKEW_S:
        certain = is_certain_skew(samples)
        meaning = "the clocks disagree" if certain else f"the clocks disagree, or {later} takes that long"
        latency = f"; where it is the time that {later} takes, raise sync.max_wait and sync.queue_size"
        yield Finding(
            "clocks",
            Severity.PROBLEM if certain else Severity.WARNING,
            f"{text}, constantly: {meaning}, so pairs show two different moments",
            SYNCHRONISE + ("" if certain else latency),
            values,
        )
    elif samples.rgb and samples.rgb.period_ns and abs(skew) > samples.rgb.period_ns / 2e9:
        yield Finding(
            "clocks",
            Severity.NOTE,
            f"{text}: more than half the RGB period, which is normal where it takes longer to compute",
            values=values,
        )
    else:
        yield Finding("clocks", Severity.OK, f"{text}: one clock, and no drift", values=values)


def check_pairing(samples: Samples) -> Iterator[Finding]:
    """How many depth frames the node's own pairer, with its defaults, finds an RGB frame for."""
    if len(_stamped(samples)) < 2 or not samples.possible:
        return
    share, offsets = samples.paired / samples.possible, _nearest(samples)
    # `possible` pairs are there, so both streams have frames in one segment at least.
    p95 = float(np.percentile(np.abs(offsets), 95))
    values = {"paired": samples.paired, "possible": samples.possible, "offset_p95_s": round(p95, 6)}
    text = f"{samples.paired} of {samples.possible} possible pairs are made with the default sync.slop"
    if share >= GOOD_PAIRED_SHARE:
        median = float(np.median(offsets))
        text += f"; RGB minus depth stamp is {1000 * median:.1f} ms in the median"
        yield Finding("pairing", Severity.OK, text, values=values)
    elif samples.possible < FEW_FRAMES:
        yield Finding("pairing", Severity.NOTE, f"{text}: too few frames to judge", values=values)
    elif abs(skew_s(samples)) >= SKEW_S:
        # One fault, one finding: the clocks' says it.
        yield Finding("pairing", Severity.NOTE, f"{text}: see clocks", values=values)
    else:
        near = p95 <= LARGEST_SLOP_S
        fix = f"set sync.slop to {np.ceil(p95 * 100) / 100:.2f}" if near else SYNCHRONISE
        if not near:
            text += f"; the nearest RGB stamp is {_time(p95)} away"
        severity = Severity.PROBLEM if share < POOR_PAIRED_SHARE else Severity.WARNING
        yield Finding("pairing", severity, text, fix, values)


def zero_stamps(stream: Stream) -> int:
    """How many images have the stamp 0."""
    return sum(arrival.stamp_ns == 0 for arrival in stream.arrivals)


def skew_s(samples: Samples) -> float:
    """How much longer depth takes from its stamp to its arrival than RGB, seconds, by the medians."""
    assert samples.rgb is not None and samples.depth is not None
    return float(np.median(_delays(samples.depth)[1]) - np.median(_delays(samples.rgb)[1]))


def is_certain_skew(samples: Samples) -> bool:
    """Whether a skew can only be the clocks': too long for a delay, a stamp of the future, or no pairs."""
    earliest = min(float(np.median(_delays(stream)[1])) for stream in samples.streams)
    paired = samples.paired >= POOR_PAIRED_SHARE * samples.possible
    return abs(skew_s(samples)) >= CERTAIN_SKEW_S or earliest < -FUTURE_S or not paired


def _stamped(samples: Samples) -> list[Stream]:
    """The streams that came and have stamps."""
    return [s for s in samples.streams if s.arrivals and zero_stamps(s) <= MOST_ZERO_STAMPS]


def _delays(stream: Stream) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Arrivals since the first, and what each image took from its stamp to its arrival, seconds."""
    times = np.array([(a.arrival_ns, a.arrival_ns - a.stamp_ns) for a in stream.arrivals], np.int64)
    return (times[:, 0] - times[0, 0]) / 1e9, times[:, 1] / 1e9


def _beside_arrival(delay: float) -> str:
    return f"{_time(abs(delay))} {'before' if delay >= 0 else 'after'} the arrival"


def _drift(samples: Samples) -> tuple[float, float]:
    """Change of the skew from the first to the last third (0 where it is none) and its time, seconds."""
    assert samples.rgb is not None and samples.depth is not None
    change, noise, span = 0.0, 0.0, 0.0
    for sign, stream in ((-1, samples.rgb), (1, samples.depth)):
        times, delays = _delays(stream)
        third = len(delays) // 3
        if third < 3:
            return 0.0, float(times[-1])
        change += sign * float(np.median(delays[-third:]) - np.median(delays[:third]))
        noise = max(noise, float(np.median(np.abs(np.diff(delays)))))
        span = float(np.median(times[-third:]) - np.median(times[:third]))
    return (change if abs(change) > max(DRIFT_S, DRIFT_NOISE_RATIO * noise) else 0.0), span


def _nearest(samples: Samples) -> npt.NDArray[np.float64]:
    """RGB minus depth stamp of each depth frame's nearest RGB frame of the same stretch, seconds."""
    assert samples.rgb is not None and samples.depth is not None
    found = []
    rgb_segments = samples.rgb.segments()
    for segment, (depth, _) in samples.depth.segments().items():
        if segment in rgb_segments:
            rgb = np.sort(rgb_segments[segment][0])
            after = np.searchsorted(rgb, depth)
            sides = rgb[np.clip(np.stack([after - 1, after]), 0, len(rgb) - 1)] - depth
            found.append(np.where(np.abs(sides[0]) <= np.abs(sides[1]), *sides) / 1e9)
    return np.concatenate(found)


def _time(seconds: float) -> str:
    """A duration as one says it."""
    size = abs(seconds)
    for limit, unit, name in ((1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if size < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:.4g} days"
