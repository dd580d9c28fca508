# SPDX-License-Identifier: Apache-2.0
"""Whether RGB and depth show the same view, at sizes that fit each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from depth_sr_ros.camera import FIELD_OF_VIEW_TOLERANCE
from depth_sr_ros.doctor.check_camera_info import fits_images
from depth_sr_ros.doctor.findings import Finding, Severity, Values
from depth_sr_ros.doctor.samples import Samples
from depth_sr_ros.image_size import MIN_DEPTH_SIDE, MIN_RGB_SIDE

# RGB pixels per depth pixel that the network is made for, as `depth-sr evaluate --scale` has them.
SMALLEST_RATIO, LARGEST_RATIO = 2.0, 16.0
# Of the ratios along x and y: rounding and cropping to a multiple of 16 stay below.
ASPECT_TOLERANCE = 0.08
ALIGN = (
    "have the driver align the depth with the RGB (align_depth, depth_registration), or set register to true"
)


def check_sizes(samples: Samples) -> Iterator[Finding]:
    """Sizes that the network takes, and how many RGB pixels a depth pixel stands for."""
    for stream in samples.streams:
        sizes = sorted({picture.shape[1::-1] for picture in stream.decoded.pictures})
        if len(sizes) > 1:
            yield Finding(
                "sizes",
                Severity.WARNING,
                f"the {stream.name} images change their size: {', '.join(f'{w}x{h}' for w, h in sizes)}",
                "look for a second publisher on the topic; the first frame of each new size is slow",
            )
    if samples.rgb is None or samples.depth is None or not (samples.rgb.size and samples.depth.size):
        return
    rgb, depth = samples.rgb.size, samples.depth.size
    ratio = rgb[0] / depth[0]
    text = f"RGB {rgb[0]}x{rgb[1]}, depth {depth[0]}x{depth[1]}"
    values: Values = {
        "rgb_size": f"{rgb[0]}x{rgb[1]}",
        "depth_size": f"{depth[0]}x{depth[1]}",
        "ratio": round(ratio, 3),
    }
    if min(rgb) < MIN_RGB_SIDE or min(depth) < MIN_DEPTH_SIDE:
        limits = f"{MIN_RGB_SIDE} and {MIN_DEPTH_SIDE} pixels"
        yield Finding("sizes", Severity.PROBLEM, f"{text}: sides must be at least {limits}", "", values)
    elif ratio < 1:
        fix = "raise the RGB camera's resolution, or lower the depth's: the output has the RGB's size"
        yield Finding("sizes", Severity.WARNING, f"{text}: the depth is larger than the RGB", fix, values)
    elif ratio > LARGEST_RATIO:
        fix = "set output.max_side to shrink the RGB before the network, or raise the depth's resolution"
        text += f": {ratio:.1f} RGB pixels a depth pixel, more than the {LARGEST_RATIO:g} it is made for"
        yield Finding("sizes", Severity.WARNING, text, fix, values)
    elif ratio < SMALLEST_RATIO:
        text += (
            ": nothing to enlarge, the network only denoises; depth that a driver has enlarged has no more"
        )
        fix = (
            "where the driver enlarges it to align it, let it send the sensor's own and set register to true"
        )
        yield Finding("sizes", Severity.NOTE, f"{text} detail", fix, values)
    else:
        yield Finding("sizes", Severity.OK, f"{text}: {ratio:.3g} RGB pixels a depth pixel", values=values)


def check_same_view(samples: Samples) -> Iterator[Finding]:
    """Frames, aspect ratios and fields of view: what says that the depth is not aligned with the RGB."""
    if samples.rgb is None or samples.depth is None or not (samples.rgb.arrivals and samples.depth.arrivals):
        return
    frames = (samples.rgb.frame_id, samples.depth.frame_id)
    values: Values = {"rgb_frame": frames[0], "depth_frame": frames[1]}
    difference = _difference(samples, frames)
    if samples.register:
        yield from _registration_needs(samples)
    elif difference:
        yield Finding("views", Severity.PROBLEM, f"{difference}: they see different views", ALIGN, values)
    elif not all(frames):
        empty = samples.rgb if not frames[0] else samples.depth
        fix = "set the driver's frame_id; RViz and TF need it, and the node copies the RGB's"
        yield Finding("views", Severity.NOTE, f"the {empty.name} images have no frame_id", fix, values)
    else:
        yield Finding("views", Severity.OK, f"both images are in frame {frames[0]!r}", values=values)


def _difference(samples: Samples, frames: tuple[str, str]) -> str:
    """How the views differ, in words; empty where nothing says that they do."""
    assert samples.rgb is not None and samples.depth is not None
    if all(frames) and frames[0] != frames[1]:
        return f"the RGB image is in frame {frames[0]!r} and the depth image in {frames[1]!r}"
    rgb, depth = samples.rgb.size, samples.depth.size
    if rgb and depth and abs(np.log(rgb[0] * depth[1] / (rgb[1] * depth[0]))) > ASPECT_TOLERANCE:
        return f"the RGB image is {rgb[0]}x{rgb[1]} and the depth image {depth[0]}x{depth[1]}, another shape"
    cameras = [stream.camera if fits_images(stream) else None for stream in (samples.rgb, samples.depth)]
    if cameras[0] is None or cameras[1] is None:
        return ""  # said by the check of the CameraInfos
    for axis, wide, deep in zip("xy", cameras[0].field_of_view, cameras[1].field_of_view, strict=True):
        if abs(wide - deep) > FIELD_OF_VIEW_TOLERANCE * wide:
            return (
                f"the field of view in {axis} is {np.degrees(wide):.1f} degrees for RGB and "
                f"{np.degrees(deep):.1f} for depth"
            )
    return ""


def _registration_needs(samples: Samples) -> Iterator[Finding]:
    """With `register: true` both cameras must be known, and free of distortion."""
    missing = [stream for stream in samples.streams if stream.camera is None]
    for stream in missing:
        yield Finding(
            "views",
            Severity.PROBLEM,
            f"register is true, but the {stream.name} camera is not known: no CameraInfo with intrinsics",
            f"start the driver's calibration and remap {stream.kind}/camera_info, or set register to false",
        )
    if not missing:
        text = "register is true, and both cameras are known; the transform is not looked at here"
        yield Finding("views", Severity.OK, text)
