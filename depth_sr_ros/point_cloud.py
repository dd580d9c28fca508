# SPDX-License-Identifier: Apache-2.0
"""Metric depth and colour -> the bytes of an organised, coloured sensor_msgs/PointCloud2."""

from __future__ import annotations

import sys
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.errors import FrameError
from depth_sr_ros.image_codec import CHANNEL_ORDERS, check_rgb

# sensor_msgs/PointField: (name, offset in bytes, datatype, count); 7 is FLOAT32. `rgb` holds the bits of
# the integer 0x00RRGGBB in a float, as PCL and RViz expect it.
POINT_FIELDS = (("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1), ("rgb", 12, 7, 1))
POINT_STEP = 16  # bytes in a point
IS_BIGENDIAN = sys.byteorder == "big"  # the message's flag: the bytes are in the host's order

# Bytes of red, green and blue within a point.
_COLOUR_BYTES = (13, 14, 15) if IS_BIGENDIAN else (14, 13, 12)
# Rows are written in blocks of about this many points, so that the passes over a block find it in the
# processor's cache.
_BLOCK_POINTS = 16384


class PointCloudBuilder:
    """Builds clouds frame after frame; keeps the rays of the last camera and the buffer that it fills."""

    def __init__(self) -> None:
        self._camera: PinholeCamera | None = None
        self._rays = (np.empty(0, np.float32), np.empty((0, 1), np.float32))
        self._buffer = array("B")

    def __call__(
        self,
        depth: npt.NDArray[np.float32],
        camera: PinholeCamera,
        rgb: npt.NDArray[np.uint8],
        channel_order: str = "rgb",
    ) -> array:
        """The data of a PointCloud2 of height H and width W, row_step W * POINT_STEP, is_dense False.

        depth: float32 HxW in metres along the optical axis; NaN, infinite and non-positive pixels are
        invalid and become points of NaN, so the cloud stays organised. camera: of that depth image. rgb:
        uint8 pixels of the same view as `image_codec.rgb_view` gives them, with its `channel_order`; at
        another size, each point takes the pixel at its centre. Points are in metres in the camera's
        optical frame (x right, y down, z forward).

        The result is an `array.array('B')`, the one type that rclpy takes over without a check of each
        byte; the next call with the same size fills it again. Raises FrameError where shapes, types or
        the channel order do not fit.
        """
        _check(depth, camera, rgb, channel_order)
        height, width = depth.shape
        if camera != self._camera:
            self._camera, self._rays = camera, _rays(camera)
        if len(self._buffer) != depth.size * POINT_STEP:
            # Zeros: the byte beside red, green and blue is never written.
            self._buffer = array("B", bytes(depth.size * POINT_STEP))
        cloud = np.frombuffer(self._buffer, np.uint8).reshape(height, width, POINT_STEP)
        if rgb.shape[:2] != depth.shape:
            # Twice `take` needs a quarter of the time of one two-dimensional index.
            rgb = rgb.take(_nearest(rgb.shape[0], height), axis=0).take(_nearest(rgb.shape[1], width), axis=1)
        step = max(1, _BLOCK_POINTS // width)
        for start in range(0, height, step):
            rows = slice(start, start + step)
            _write_points(cloud[rows].view(np.float32), depth[rows], self._rays[0], self._rays[1][rows])
            _write_colours(cloud[rows], rgb[rows], channel_order)
        return self._buffer


def _write_points(
    points: npt.NDArray[np.float32],
    depth: npt.NDArray[np.float32],
    rays_x: npt.NDArray[np.float32],
    rays_y: npt.NDArray[np.float32],
) -> None:
    """Fill x, y and z of HxWx4 points: z times the pixel's ray (x / z, y / z, 1)."""
    # NaN stays NaN by itself, and fmin and fmax pass over it; most blocks hold nothing else invalid.
    z = depth
    if not (np.fmin.reduce(depth, axis=None) > 0 and np.fmax.reduce(depth, axis=None) < np.inf):
        z = np.where((depth > 0) & (depth < np.inf), depth, np.float32(np.nan))
    np.multiply(z, rays_x, out=points[..., 0])
    np.multiply(z, rays_y, out=points[..., 1])
    points[..., 2] = z


def _write_colours(cloud: npt.NDArray[np.uint8], rgb: npt.NDArray[np.uint8], channel_order: str) -> None:
    """Fill red, green and blue of HxWx16 bytes."""
    for byte, channel in zip(_COLOUR_BYTES, CHANNEL_ORDERS[channel_order], strict=True):
        cloud[..., byte] = rgb if channel_order == "mono" else rgb[..., channel]


def _rays(camera: PinholeCamera) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """x / z of each column (W,) and y / z of each row (H, 1)."""
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = (np.arange(camera.height) - camera.cy) / camera.fy
    return x.astype(np.float32), y.astype(np.float32)[:, None]


def _nearest(size: int, new_size: int) -> npt.NDArray[np.intp]:
    """For each of `new_size` pixels, the one of `size` in which its centre lies (half-pixel rule)."""
    return (np.arange(new_size) * 2 + 1) * size // (2 * new_size)


def _check(depth: npt.NDArray[Any], camera: PinholeCamera, rgb: npt.NDArray[Any], channel_order: str) -> None:
    check_rgb(rgb, channel_order, min_side=1)
    if depth.dtype != np.float32 or depth.shape != (camera.height, camera.width):
        raise FrameError(
            f"the depth image is {depth.dtype} of shape {depth.shape}, but must be float32 of the camera's "
            f"shape {(camera.height, camera.width)}"
        )
