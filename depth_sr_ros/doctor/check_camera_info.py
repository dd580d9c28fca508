# SPDX-License-Identifier: Apache-2.0
"""Whether the CameraInfos can be believed: there, calibrated, of these images, and free of distortion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from depth_sr_ros.camera import described_size, has_distortion
from depth_sr_ros.doctor.findings import Finding, Severity
from depth_sr_ros.doctor.samples import Samples, Stream

DISTORTION_MODELS = ("plumb_bob", "rational_polynomial", "equidistant")


def check_camera_infos(samples: Samples) -> Iterator[Finding]:
    """CameraInfo missing, of another size or frame, without intrinsics, or with distortion."""
    for stream in samples.streams:
        if not stream.arrivals:
            continue
        if stream.info is None:
            yield _missing_info(samples, stream)
            continue
        faults = list(_info_faults(stream))
        yield from faults
        camera = stream.camera
        if not faults and camera is not None:
            x, y = np.degrees(camera.field_of_view)
            text = (
                f"{stream.info_topic} fits the {stream.name} images; field of view {x:.0f} x {y:.0f} degrees"
            )
            yield Finding("camera info", Severity.OK, text, values={"fx": round(camera.fx, 2)})


def fits_images(stream: Stream) -> bool:
    """Whether the CameraInfo is of images of the size that came; True where one of the two did not come."""
    if stream.info is None or stream.size is None:
        return True
    # Binning may cut a side or round it up.
    return all(abs(a - b) <= 1 for a, b in zip(described_size(stream.info), stream.size, strict=True))


def _missing_info(samples: Samples, stream: Stream) -> Finding:
    silent = f"nothing came on {stream.info_topic}" if stream.info_topic else "it is not there"
    if stream.kind == "rgb":
        return Finding(
            "camera info",
            Severity.WARNING,
            f"no CameraInfo beside {stream.topic} ({silent}): the node publishes neither ~/points nor its "
            "own camera_info",
            "have the driver publish it, and remap rgb/camera_info to it",
        )
    return Finding(
        "camera info",
        Severity.NOTE,
        f"no CameraInfo beside {stream.topic} ({silent}): it is needed for register only"
        + ("" if samples.register else ", and to notice another view"),
    )


def _info_faults(stream: Stream) -> Iterator[Finding]:
    info, name = stream.info, f"the {stream.name} CameraInfo"
    if stream.camera is None:
        yield Finding(
            "camera info",
            Severity.WARNING,
            f"{name} has no intrinsics (fx is {float(info.k[0]):g}): the camera is not calibrated",
            "calibrate it (camera_calibration) and give the driver the file; ~/points and register need it",
        )
        return
    if stream.size and not fits_images(stream):
        (w, h), (image_w, image_h) = described_size(info), stream.size
        yield Finding(
            "camera info",
            Severity.WARNING,
            f"{name} is of a {w}x{h} image, but the images are {image_w}x{image_h}: the node scales it, "
            "which is right only where the image is a resized one, not a cropped one",
            "have whoever resizes the images publish the CameraInfo of the resized ones",
            {"info_size": f"{w}x{h}", "image_size": f"{image_w}x{image_h}"},
        )
    camera = stream.camera
    assert camera is not None
    if not (0 <= camera.cx < camera.width and 0 <= camera.cy < camera.height):
        yield Finding(
            "camera info",
            Severity.WARNING,
            f"{name} has its principal point at ({camera.cx:.0f}, {camera.cy:.0f}), outside of the image",
            "calibrate the camera at the size that it sends",
            {"cx": round(camera.cx, 2), "cy": round(camera.cy, 2)},
        )
    if info.header.frame_id != stream.frame_id:
        yield Finding(
            "camera info",
            Severity.WARNING,
            f"{name} is in frame {info.header.frame_id!r}, its images in {stream.frame_id!r}: most likely of "
            "another camera",
            f"remap {stream.kind}/camera_info to the topic that belongs to {stream.topic}",
        )
    yield from _distortion(stream)


def _distortion(stream: Stream) -> Iterator[Finding]:
    info = stream.info
    if not has_distortion(info):
        return
    values = {"distortion_model": info.distortion_model, "largest": round(float(np.abs(info.d).max()), 5)}
    if info.distortion_model not in DISTORTION_MODELS:
        yield Finding(
            "camera info",
            Severity.WARNING,
            f"the {stream.name} distortion model is {info.distortion_model!r}, which no ROS tool rectifies",
            f"use one of {', '.join(DISTORTION_MODELS)}, or send rectified images",
            values,
        )
    elif "rect" not in stream.topic:
        yield Finding(
            "camera info",
            Severity.NOTE,
            f"the {stream.name} camera has distortion ({info.distortion_model}), which ~/points and register "
            "ignore",
            "where the picture bends visibly, give the node the rectified images (image_proc)",
            values,
        )
