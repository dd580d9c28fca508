# SPDX-License-Identifier: Apache-2.0
"""Whether CameraInfos are of the images that come, and whether the two images show the same view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo

from depth_sr_ros.camera import FIELD_OF_VIEW_TOLERANCE, PinholeCamera, described_size, is_of_size
from depth_sr_ros.errors import FrameError
from depth_sr_ros.image_size import size_text


class ViewCheck:
    """Compares when a frame_id, a CameraInfo or a size has changed, not for every frame.

    `registers`: depth is warped into the RGB's view, so their own may differ. `report` is told of a mismatch.
    """

    def __init__(self, registers: bool, report: Callable[[str], None]) -> None:
        self._registers = registers
        self._report = report
        self._compared: tuple[Any, ...] = ()
        self.mismatch = ""
        """What does not fit, in one sentence; empty where nothing says so."""

    def __call__(
        self,
        sizes: tuple[tuple[int, int], tuple[int, int]],
        rgb: Any,
        depth: Any,
        rgb_info: CameraInfo | None,
        depth_info: CameraInfo | None,
    ) -> None:
        """Of a frame: `sizes` as (RGB's, depth's), each (width, height); its images as messages."""
        infos = (rgb_info, depth_info)
        views = (_view(info) if info else None for info in infos)
        key = (sizes, rgb.header.frame_id, depth.header.frame_id, *views)
        if key == self._compared:
            return
        self._compared = key
        self.mismatch = size_mismatch(infos, sizes)
        if not self.mismatch and not self._registers:
            self.mismatch = view_mismatch(rgb, depth, rgb_info, depth_info)
        if self.mismatch:
            self._report(self.mismatch)


def _view(info: CameraInfo) -> tuple[Any, ...]:
    """What of a CameraInfo the field of view follows from."""
    roi = info.roi
    part = (roi.x_offset, roi.y_offset, roi.width, roi.height, info.binning_x, info.binning_y)
    return (tuple(info.k), tuple(info.p), info.width, info.height, *part)


def size_mismatch(infos: tuple[Any, Any], sizes: tuple[tuple[int, int], tuple[int, int]]) -> str:
    """Which CameraInfo is not of images of the size that comes, in one sentence; empty where none is known.

    Both arguments as (RGB's, depth's); an info is a message or None, a size (width, height).
    """
    effects = {
        "rgb": "~/depth/camera_info copies it as it is, ~/points and register scale it",
        "depth": "register scales it",
    }
    for (name, effect), info, size in zip(effects.items(), infos, sizes, strict=True):
        if info is not None and not is_of_size(info, size):
            return (
                f"{name}/camera_info is of {size_text(described_size(info))} images, but the {name} image is "
                f"{size_text(size)}: {effect}; have whoever resizes or crops the images publish their own"
            )
    return ""


def view_mismatch(rgb: Any, depth: Any, rgb_info: Any, depth_info: Any) -> str:
    """How the two images differ in view, in one sentence; empty where nothing says that they do.

    Images and CameraInfos as messages, with headers; an info may be None.
    """
    rgb_frame, depth_frame = rgb.header.frame_id, depth.header.frame_id
    if rgb_frame and depth_frame and rgb_frame != depth_frame:
        return (
            f"the depth image is in frame {depth_frame!r} and the RGB image in {rgb_frame!r}: they see "
            "different views; have the driver align the depth, or set register to true"
        )
    if rgb_info is None or depth_info is None:
        return ""
    try:
        cameras = [PinholeCamera.from_camera_info(info) for info in (rgb_info, depth_info)]
    except FrameError:
        return ""  # not calibrated: nothing is known
    views = zip("xy", *(camera.field_of_view for camera in cameras), strict=True)
    for axis, wide, deep in views:
        if abs(wide - deep) > FIELD_OF_VIEW_TOLERANCE * wide:
            return (
                f"the field of view in {axis} is {np.degrees(wide):.1f} degrees for RGB ({rgb_frame!r}) and "
                f"{np.degrees(deep):.1f} for depth ({depth_frame!r}): they see different views; have the "
                "driver align the depth, or set register to true"
            )
    return ""
