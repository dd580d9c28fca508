# SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras: intrinsics of the image that arrived, CameraInfo of a resized one, and rigid transforms.

Pixel centres have whole coordinates everywhere, so scaling an image by s moves them by the half-pixel rule
u' = (u + 0.5) * s - 0.5. Nothing here imports ROS: anything with the fields of a sensor_msgs/CameraInfo
serves as one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from depth_sr_ros.errors import ConfigError, FrameError

Info = TypeVar("Info")
# Fields of view that differ by a smaller share come from rounding; an aligned depth image has the RGB's.
FIELD_OF_VIEW_TOLERANCE = 0.03


@dataclass(frozen=True)
class PinholeCamera:
    """A camera without distortion: the image's size and the intrinsics, all in pixels of that image.

    Raises FrameError where a side is below 1, a focal length is not above 0 or a value is not finite.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1:
            raise FrameError(f"a camera's image is {self.width}x{self.height}, but sides must be at least 1")
        values = (self.fx, self.fy, self.cx, self.cy)
        if not (all(map(math.isfinite, values)) and min(self.fx, self.fy) > 0):
            raise FrameError(
                f"a camera has fx, fy, cx, cy = {values}, but focal lengths must be above 0 and all finite; "
                "zeros in a CameraInfo say that the camera is not calibrated"
            )

    @classmethod
    def from_camera_info(cls, info: Any, size: tuple[int, int] | None = None) -> PinholeCamera:
        """The camera of the image that came with a sensor_msgs/CameraInfo, from its P, ROI and binning.

        P, the intrinsics after rectification, as depth_image_proc takes them: they are K's where there is no
        distortion. K, where P is not set. Both are of the full image (REP 104); the image that arrived is its
        region of interest, binned. `size` (width, height) is that image's, where the caller has it: it
        decides where it disagrees with the message, and the image then shows all of the region. Distortion is
        ignored: see `has_distortion`. A binned pixel covers binning x binning full ones, so the half-pixel
        rule holds; image_geometry leaves it out, and its principal point lies 1/2 - 1/(2 * binning) pixels
        higher.

        Raises FrameError where the camera is not calibrated or the image would be empty.
        """
        x, y = _axes(info, size)
        has_p = info.p[0] > 0 and info.p[5] > 0
        rows = (info.p[0:3], info.p[4:7]) if has_p else (info.k[0:3], info.k[3:6])
        u, v = x.map_row(rows[0]), y.map_row(rows[1])
        return cls(width=x.size, height=y.size, fx=u[0], fy=v[1], cx=u[2], cy=v[2])

    @property
    def field_of_view(self) -> tuple[float, float]:
        """Along x and y, in radians, of a camera whose principal point is in the middle."""
        return 2 * math.atan(self.width / (2 * self.fx)), 2 * math.atan(self.height / (2 * self.fy))

    def resized(self, width: int, height: int) -> PinholeCamera:
        """The camera of the same view after its image is resized. Raises FrameError on a side below 1."""
        x, y = width / self.width, height / self.height
        return PinholeCamera(
            width=width,
            height=height,
            fx=self.fx * x,
            fy=self.fy * y,
            cx=(self.cx + 0.5) * x - 0.5,
            cy=(self.cy + 0.5) * y - 0.5,
        )


def resized_camera_info(info: Info, size: tuple[int, int], new_size: tuple[int, int]) -> Info:
    """The CameraInfo of the same view after its image is resized from `size` to `new_size` (width, height).

    `size` is that of the image that arrived with `info`, a region of interest and binning applied. `info`
    has the fields of a sensor_msgs/CameraInfo and stays unchanged. At the same size the result is a
    verbatim copy: the image is the one that `info` describes. Otherwise the result describes an image
    without region and binning: K and P are those of the resized image itself, width and height its size,
    binning 1 (0 stays 0) and the region all zero. So every consumer gets the same, right intrinsics, though
    image_geometry bins without the half-pixel rule, and a scaled region need not have whole borders.
    Distortion works on normalised coordinates and stays.

    Raises FrameError where a side is below 1.
    """
    if min(*size, *new_size) < 1:
        raise FrameError(
            f"cannot resize {size[0]}x{size[1]} to {new_size[0]}x{new_size[1]}: sides must be at least 1"
        )
    out: Any = copy.deepcopy(info)
    if size == new_size:
        return out
    axes = [axis.resized(new) for axis, new in zip(_axes(info, size), new_size, strict=True)]
    out.k = _mapped_matrix(out.k, 3, axes)
    out.p = _mapped_matrix(out.p, 4, axes)
    out.width, out.height = new_size
    out.binning_x, out.binning_y = min(out.binning_x, 1), min(out.binning_y, 1)
    out.roi.x_offset = out.roi.y_offset = out.roi.width = out.roi.height = 0
    out.roi.do_rectify = False
    return out


def described_size(info: Any) -> tuple[int, int]:
    """(width, height) of the image that came with a sensor_msgs/CameraInfo, as that message has it.

    That is its region of interest, binned; not above 0 where the message leaves the size open.
    """
    x, y = _axes(info, None)
    return x.size, y.size


def is_of_size(info: Any, size: tuple[int, int]) -> bool:
    """Whether an image of `size` (width, height) can be the one that a sensor_msgs/CameraInfo describes.

    So it is where the message leaves the size open, and where binning has cut a side or rounded it up.
    """
    return all(axis.agrees for axis in _axes(info, size))


def has_distortion(info: Any) -> bool:
    """Whether a sensor_msgs/CameraInfo has a distortion coefficient that is not zero."""
    return any(value != 0 for value in info.d)


def output_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    """(width, height) shrunk so that the longer side is at most `max_side` pixels; 0 sets no limit.

    Keeps the aspect up to rounding to whole pixels, at least 1 each; never enlarges.

    Raises FrameError where a side is below 1, ConfigError where `max_side` is below 0.
    """
    if min(width, height) < 1:
        raise FrameError(f"the image is {width}x{height}, but sides must be at least 1")
    if max_side < 0:
        raise ConfigError(f"max_side is {max_side}, but must be at least 0; 0 sets no limit")
    longest = max(width, height)
    if max_side == 0 or longest <= max_side:
        return width, height
    return max(1, round(width * max_side / longest)), max(1, round(height * max_side / longest))


def quaternion_to_matrix(x: float, y: float, z: float, w: float) -> npt.NDArray[np.float64]:
    """The 3x3 rotation of a quaternion in geometry_msgs' order, which is normalised first.

    The formula is that of tf2::Matrix3x3::setRotation.

    Raises ConfigError where a value is not finite or the length is (about) zero.
    """
    norm = math.hypot(x, y, z, w)
    if not math.isfinite(norm) or norm < 1e-9:
        raise ConfigError(
            f"the quaternion (x, y, z, w) is {(x, y, z, w)}, but must be finite and not zero; "
            "no rotation is (0, 0, 0, 1)"
        )
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def transform_matrix(translation: Sequence[float], quaternion: Sequence[float]) -> npt.NDArray[np.float64]:
    """The 4x4 matrix of a geometry_msgs/Transform: translation (x, y, z) in metres, quaternion (x, y, z, w).

    It maps points of the transform's child frame into its parent frame (`header.frame_id`).

    Raises ConfigError where a length is wrong, a value is not finite or the quaternion is zero.
    """
    if len(translation) != 3 or len(quaternion) != 4 or not np.isfinite(translation).all():
        raise ConfigError(
            f"the transform has translation {tuple(translation)} and quaternion {tuple(quaternion)}, "
            "but must have 3 and 4 finite values"
        )
    matrix = np.eye(4)
    matrix[:3, :3] = quaternion_to_matrix(*quaternion)
    matrix[:3, 3] = translation
    return matrix


@dataclass(frozen=True)
class _Axis:
    """Where one axis of an image lies in the full image: u' = (u - offset + 0.5) * scale - 0.5.

    `agrees`: whether the CameraInfo is of images of this size.
    """

    size: int
    offset: int
    scale: float
    agrees: bool = True

    @classmethod
    def of(cls, full: int, offset: int, extent: int, binning: int, size: int | None) -> _Axis:
        """From a CameraInfo's fields of one axis (0: not set) and the received image's size, if known."""
        binning = max(binning, 1)
        extent = extent or full - offset
        if size is None:
            size = extent // binning
        # A side that binning does not divide is cut or rounded up; its pixels keep their size. Some
        # publishers set no size, or resize images and send the full one's CameraInfo along.
        agrees = extent <= 0 or abs(size * binning - extent) < binning
        return cls(size, offset, 1 / binning if agrees else size / extent, agrees)

    def resized(self, size: int) -> _Axis:
        return _Axis(size, self.offset, self.scale * size / self.size)

    def map_row(self, row: Sequence[float]) -> list[float]:
        """This axis's row of the full image's K or P, for this image."""
        values = [float(value) * self.scale for value in row]
        values[2] += (0.5 - self.offset) * self.scale - 0.5
        return values


def _axes(info: Any, size: tuple[int, int] | None) -> tuple[_Axis, _Axis]:
    """The two axes of the image that came with a CameraInfo."""
    width, height = size if size is not None else (None, None)
    roi = info.roi
    return (
        _Axis.of(info.width, roi.x_offset, roi.width, info.binning_x, width),
        _Axis.of(info.height, roi.y_offset, roi.height, info.binning_y, height),
    )


def _mapped_matrix(matrix: Sequence[float], columns: int, axes: Sequence[_Axis]) -> list[float]:
    """A row-major 3x3 K or 3x4 P of the full image, for the image with these axes."""
    values = [float(value) for value in matrix]
    if not any(values):
        return values  # all zero says "uncalibrated" (sensor_msgs/CameraInfo); it must stay so
    for row, axis in enumerate(axes):
        start = row * columns
        values[start : start + columns] = axis.map_row(values[start : start + columns])
    return values
