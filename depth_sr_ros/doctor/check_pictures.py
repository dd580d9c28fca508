# SPDX-License-Identifier: Apache-2.0
"""What the pictures show: holes, constant depth, a frozen stream, dark and saturated RGB."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from depth_sr_ros.doctor.findings import Finding, Severity
from depth_sr_ros.doctor.samples import Samples, Stream

# Any sensor leaves a few per cent; a fifth shows in the picture; from half on the network mostly guesses.
SOME_HOLES, MANY_HOLES, ALL_HOLES = 0.2, 0.5, 0.98
# Of consecutive images that are equal to the last bit. Noise makes that impossible for a sensor that works.
SOME_REPEATED, FROZEN = 0.05, 0.5
# Of 255. A lens cap gives about 0 to 5, a dim room 20 to 40.
BLACK, DARK = 6.0, 20.0
SATURATED_LEVEL = 250
SATURATED_SHARE = 0.3  # of the pixels, all channels: a window in the picture has less
# Standard deviation of a picture of nothing.
FLAT_RGB = 1.0


def check_holes(samples: Samples) -> Iterator[Finding]:
    """Pixels without a measurement, and depth that is the same everywhere."""
    frames = [] if samples.depth is None else samples.depth.decoded.pictures
    if not frames:
        return
    share = float(np.median([1 - np.isfinite(frame).mean() for frame in frames]))
    values = {"invalid_share": round(share, 4)}
    text = f"{100 * share:.0f} % of the depth pixels hold no measurement"
    if share >= ALL_HOLES:
        fix = "uncover the sensor, start its emitter, or look at its range: nearer or further than it sees?"
        yield Finding("holes", Severity.PROBLEM, text, fix, values)
    elif share >= SOME_HOLES:
        many = share >= MANY_HOLES
        fix = (
            "for sparse depth raise output.max_fill_distance, as config/lidar.yaml does; else look at the "
            "sensor's exposure, emitter and filters"
        )
        severity = Severity.WARNING if many else Severity.NOTE
        yield Finding("holes", severity, text, fix if many else "", values)
    else:
        yield Finding("holes", Severity.OK, text, values=values)
    measured = [frame[np.isfinite(frame)] for frame in frames if np.isfinite(frame).any()]
    if measured and all(np.ptp(frame) == 0 for frame in measured):
        yield Finding(
            "holes",
            Severity.PROBLEM,
            f"every depth pixel is {float(measured[0].flat[0]):.3f} m: that is no measurement",
            "look at the driver: such images come from a sensor that did not start, or from a test pattern",
            values,
        )


def check_frozen(samples: Samples) -> Iterator[Finding]:
    """The same image again and again."""
    moving = [s for s in samples.streams if len(s.arrivals) > 2 and not _is_blank(s)]
    shares = {stream.name: repeated_share(stream) for stream in moving}
    both = len(shares) == 2 and min(shares.values()) >= FROZEN
    for name, share in shares.items():
        if share < SOME_REPEATED:
            continue
        severity = Severity.PROBLEM if share >= FROZEN and not both else Severity.WARNING
        doubt = "; where it is a simulator of a still scene, that is right" if both else ""
        yield Finding(
            "frozen",
            severity,
            f"{100 * share:.0f} % of the {name} images are the one before, to the last bit{doubt}",
            "restart the driver; look at its USB connection, or for a node that sends the last frame again",
            {"repeated_share": round(share, 4)},
        )
    if shares and max(shares.values()) < SOME_REPEATED:
        worst = round(max(shares.values()), 4)
        yield Finding("frozen", Severity.OK, "the images change", values={"repeated_share": worst})


def _is_blank(stream: Stream) -> bool:
    """Whether all pictures are empty or of one value, which the other checks say."""
    pictures = [picture[np.isfinite(picture)] for picture in stream.decoded.pictures]
    return bool(pictures) and all(not p.size or np.ptp(p) == 0 for p in pictures)


def repeated_share(stream: Stream) -> float:
    """Of the images that follow another: the share that has the same bytes."""
    pairs = [
        (a, b) for a, b in zip(stream.arrivals, stream.arrivals[1:], strict=False) if a.segment == b.segment
    ]
    return sum(a.digest == b.digest for a, b in pairs) / len(pairs) if pairs else 0.0


def check_exposure(samples: Samples) -> Iterator[Finding]:
    """RGB that is black, dark, saturated or a picture of nothing."""
    pictures = [] if samples.rgb is None else samples.rgb.decoded.pictures
    if not pictures:
        return
    level = float(np.median([picture.mean() for picture in pictures]))
    spread = float(np.median([picture.std() for picture in pictures]))
    white = float(np.median([(picture.min(axis=2) >= SATURATED_LEVEL).mean() for picture in pictures]))
    values = {"mean_level": round(level, 2), "saturated_share": round(white, 4), "spread": round(spread, 2)}
    fix = "open the lens, switch the light on, or raise exposure and gain of the RGB camera"
    if level < BLACK:
        text = f"the RGB image is black: {level:.0f} of 255 in the mean"
        yield Finding("exposure", Severity.PROBLEM, text, fix, values)
    elif spread < FLAT_RGB:
        text = f"the RGB image shows one colour: it varies by {spread:.1f} of 255"
        yield Finding("exposure", Severity.PROBLEM, text, "look at the RGB camera's lens and driver", values)
    elif level < DARK:
        text = f"the RGB image is dark: {level:.0f} of 255 in the mean"
        yield Finding("exposure", Severity.WARNING, text, fix, values)
    elif white > SATURATED_SHARE:
        yield Finding(
            "exposure",
            Severity.WARNING,
            f"{100 * white:.0f} % of the RGB pixels are saturated: there are no edges to go by in them",
            "lower exposure and gain of the RGB camera, or switch its automatic on",
            values,
        )
    else:
        text = f"RGB is {level:.0f} of 255 in the mean, {100 * white:.0f} % saturated"
        yield Finding("exposure", Severity.OK, text, values=values)
