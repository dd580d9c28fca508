# SPDX-License-Identifier: Apache-2.0
"""CameraInfo for an image of another size than the one the camera was calibrated at."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from depth_sr_ros.errors import FrameError

Info = TypeVar("Info")


def resized_camera_info(info: Info, size: tuple[int, int], new_size: tuple[int, int]) -> Info:
    """The CameraInfo of the same view after its image is resized from `size` to `new_size` (width, height).

    `info` has the fields of a sensor_msgs/CameraInfo and stays unchanged. At the same size the result is a
    verbatim copy. Otherwise K, P, the full resolution and the region of interest are scaled; a pixel's
    centre has whole coordinates, so u' = (u + 0.5) * scale - 0.5. Distortion works on normalised
    coordinates and stays.

    Raises FrameError where a side is below 1.
    """
    if min(*size, *new_size) < 1:
        raise FrameError(
            f"cannot resize {size[0]}x{size[1]} to {new_size[0]}x{new_size[1]}: sides must be at least 1"
        )
    out: Any = copy.deepcopy(info)
    if size == new_size:
        return out
    x, y = new_size[0] / size[0], new_size[1] / size[1]
    out.k = _scaled_matrix(out.k, 3, x, y)
    out.p = _scaled_matrix(out.p, 4, x, y)
    out.width, out.height = round(out.width * x), round(out.height * y)
    roi = out.roi
    roi.x_offset, roi.width = round(roi.x_offset * x), round(roi.width * x)
    roi.y_offset, roi.height = round(roi.y_offset * y), round(roi.height * y)
    return out


def _scaled_matrix(matrix: Any, columns: int, x: float, y: float) -> list[float]:
    """A row-major 3x3 K or 3x4 P: rows scale with their axis, the principal point by the half-pixel rule."""
    values = [float(value) for value in matrix]
    if not any(values):
        return values  # all zero says "uncalibrated" (sensor_msgs/CameraInfo); it must stay so
    for row, scale in ((0, x), (1, y)):
        start = row * columns
        values[start : start + columns] = [value * scale for value in values[start : start + columns]]
        values[start + 2] += (scale - 1) / 2
    return values
