# SPDX-License-Identifier: Apache-2.0
"""Whether the node can read the images, and whether depth is in the unit that its encoding says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from depth_sr_ros.bag_pairs import is_compressed
from depth_sr_ros.doctor.findings import Finding, Severity
from depth_sr_ros.doctor.samples import Picture, Samples, Stream
from depth_sr_ros.image_codec import DEPTH_ENCODINGS, MAX_MILLIMETRES, RGB_ENCODINGS

# What cv_bridge converts to rgb8 and to 32FC1 that the package does not read itself, by how the names begin.
CV_BRIDGE_RGB = ("bayer_", "yuv422", "uyvy", "yuyv", "nv21", "nv24", "rgb16", "bgr16", "mono16")
CV_BRIDGE_DEPTH = ("64FC1",)
# Whole millimetres all below 50: no depth sensor sees so near; whole metres look so.
METRES_BELOW_MM = 50
# Half the pixels further than 100 m: no depth image, but millimetres.
MILLIMETRES_ABOVE = 100.0
# An 8-bit code has 256 levels; a smooth sensor image of some metres has thousands.
CODE_LEVELS = 256
CODE_PIXELS = 5000  # fewer pixels may have as few values by themselves
CODE_RANGE_M = 1.0  # so that a step is above 4 mm
# The Kinect's and some other drivers' second code for "unknown".
CODE_UNKNOWN_SHARE = 0.005


def check_encodings(samples: Samples) -> Iterator[Finding]:
    """Whether the node can read the images, and all of them."""
    for stream in samples.streams:
        if stream.damaged:
            yield Finding(
                "encodings",
                Severity.PROBLEM,
                f"{stream.damaged} {stream.name} messages are damaged; the first: {stream.damage}",
                "record again: look for a full or failing disk, or for a publisher with another definition",
                {"damaged": stream.damaged},
            )
        faults = stream.decoded.faults
        known = RGB_ENCODINGS if stream.kind == "rgb" else DEPTH_ENCODINGS
        shown = ", ".join(code.strip() for code in stream.encodings)
        values = {"encodings": shown}
        if faults:
            advice = (
                f"set the driver to one of {', '.join(known)}; others are read only where cv_bridge of a ROS "
                "2 distribution is installed"
            )
            text, number = faults.most_common(1)[0]
            yield Finding(
                "encodings",
                Severity.WARNING if _is_for_cv_bridge(stream) else Severity.PROBLEM,
                f"{number} of {len(stream.pictures.items)} {stream.name} images cannot be read: {text}",
                advice,
                values,
            )
        elif len(stream.encodings) > 1:
            yield Finding(
                "encodings",
                Severity.WARNING,
                f"the {stream.name} images change their encoding: {shown}",
                "look for a second publisher on the topic",
                values,
            )
        elif stream.arrivals:
            transport = transport_of(stream)
            hint = f"; set input.{stream.kind}_transport to {transport}" if transport != "raw" else ""
            yield Finding("encodings", Severity.OK, f"{stream.name} is {shown}{hint}", values=values)


def _is_for_cv_bridge(stream: Stream) -> bool:
    """Whether all images are in encodings that the node leaves to cv_bridge, which may be where it runs."""
    kinds = CV_BRIDGE_RGB if stream.kind == "rgb" else CV_BRIDGE_DEPTH
    raw = not any(is_compressed(picture) for picture in stream.pictures.items)
    return raw and all(code.startswith(kinds) for code in stream.encodings)


def check_units(samples: Samples) -> Iterator[Finding]:
    """Whether the depth is in the unit that its encoding says (REP 118), and as fine as it should be."""
    stream = samples.depth
    frames = [] if stream is None else stream.decoded.pictures
    if stream is None or not frames:
        return
    known = np.concatenate([frame[np.isfinite(frame)] for frame in frames])
    if not known.size:
        return  # said by the check of holes
    median, top = float(np.median(known)), float(np.percentile(known, 99))
    values = {"median_m": round(median, 4), "p99_m": round(top, 4)}
    whole = any(np.dtype(DEPTH_ENCODINGS[code][0]) == np.uint16 for code in _stored_encodings(stream))
    if whole and known.max() * 1000 < METRES_BELOW_MM:
        yield Finding(
            "units",
            Severity.PROBLEM,
            f"no depth value is above {round(float(known.max()) * 1000)}: metres are stored where the "
            "encoding says millimetres",
            "have the source publish millimetres in 16UC1, or metres in 32FC1 (REP 118); the node has no "
            "scale parameter",
            values,
        )
    elif not whole and median > MILLIMETRES_ABOVE:
        yield Finding(
            "units",
            Severity.PROBLEM,
            f"the median depth is {median:.0f} m: millimetres are stored where 32FC1 says metres",
            "have the source publish metres in 32FC1, or millimetres in 16UC1 (REP 118); the node has no "
            "scale parameter",
            values,
        )
    else:
        yield from _resolution(frames, values)
    if whole:
        yield from _unknown_code(known)


def _resolution(frames: list[Picture], values: dict[str, float]) -> Iterator[Finding]:
    """Depth that went through 8 bits, or the all-clear."""
    frame = max(frames, key=lambda f: np.isfinite(f).sum())
    known = frame[np.isfinite(frame)]
    levels = len(np.unique(known))
    low, high = np.percentile(known, (1, 99))
    if levels <= CODE_LEVELS and known.size >= CODE_PIXELS and high - low > CODE_RANGE_M:
        yield Finding(
            "units",
            Severity.WARNING,
            f"a depth image of {known.size} pixels has {levels} values only, from {low:.2f} to {high:.2f} m: "
            "it went through 8 bits",
            "have the source publish 16UC1 or 32FC1; as a transport use compressedDepth, not compressed",
            values | {"levels": levels},
        )
    else:
        text = f"depth is {values['median_m']:.2f} m in the median, {values['p99_m']:.2f} m at most (99 %)"
        yield Finding("units", Severity.OK, text, values=values | {"levels": levels})


def _unknown_code(known: Picture) -> Iterator[Finding]:
    share = float((known > (MAX_MILLIMETRES - 0.5) / 1000).mean())
    if share > CODE_UNKNOWN_SHARE:
        yield Finding(
            "units",
            Severity.WARNING,
            f"{100 * share:.1f} % of the depth pixels are {MAX_MILLIMETRES}, a code for 'unknown' that the "
            "node takes for 65.5 m",
            "have the driver write 0 where nothing was measured (REP 118)",
            {"code_share": round(share, 4)},
        )


def transport_of(stream: Stream) -> str:
    """What `input.rgb_transport` or `input.depth_transport` must be for this topic."""
    if not any(is_compressed(picture) for picture in stream.pictures.items):
        return "raw"
    return "compressedDepth" if any("compressedDepth" in code for code in stream.encodings) else "compressed"


def _stored_encodings(stream: Stream) -> list[str]:
    """The pixel encodings; compressed depth that names none is 16UC1."""
    found = [code.partition(";")[0].strip() for code in stream.encodings]
    return [code if code in DEPTH_ENCODINGS else "16UC1" for code in found]
