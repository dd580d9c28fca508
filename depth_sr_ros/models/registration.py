# SPDX-License-Identifier: Apache-2.0
"""Depth registration: warp the image of a depth camera into the view of an RGB camera, on the device."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.errors import ConfigError, FrameError
from depth_sr_ros.models.normalization import MIN_DEPTH_M

# The most output pixels that a sample covers along an axis. Surfaces stretched further than that show gaps;
# neighbours further apart than that are taken for two surfaces, with unseen space between them.
FOOTPRINT = 2
# How far a rotation read from a calibration file may be from orthonormal.
ROTATION_TOLERANCE = 1e-3


class DepthRegistration:
    """Maps depth images (B, 1, h, w) of `depth_camera` to what `rgb_camera` would measure, (B, 1, h', w').

    `rgb_from_depth` (4x4, metres) maps points of the depth camera's optical frame into the RGB camera's.
    Both images must be free of distortion. `camera` is the camera of the result: the RGB camera's view at
    the density of the depth samples (of the sparser axis, where they differ), and never above the RGB's.

    Each valid sample is projected with the cell that it stands for: the bounding box of its pixel at its
    depth, widened to reach its neighbours on the same surface, 1 to FOOTPRINT output pixels a side. It
    covers the pixel centres in that box (its upper borders excluded), and the nearest sample wins, so a
    surface has no cracks through which the background would show. The depth is the sample's own, not
    interpolated.

    Raises FrameError on a depth image of another size, ConfigError where `rgb_from_depth` is not rigid.
    """

    def __init__(
        self,
        depth_camera: PinholeCamera,
        rgb_camera: PinholeCamera,
        rgb_from_depth: npt.ArrayLike,
        device: torch.device | str = "cpu",
    ) -> None:
        pose = _checked_pose(rgb_from_depth)
        self.camera = _registered_camera(depth_camera, rgb_camera)
        self.source_shape = (depth_camera.height, depth_camera.width)
        projection = _matrix(self.camera) @ pose[:3, :3] @ np.linalg.inv(_matrix(depth_camera))
        v, u = np.indices(self.source_shape, np.float64)
        # A sample of depth z in column u, row v has the homogeneous image point z * directions + origin,
        # whose third coordinate is the depth in the RGB camera. All in float64 until here.
        directions = np.einsum("ij,jvu->ivu", projection, np.stack([u, v, np.ones_like(u)]))
        origin = _matrix(self.camera) @ pose[:3, 3]
        self._directions = torch.tensor(directions, dtype=torch.float32, device=device)
        self._origin = torch.tensor(origin[:, None, None], dtype=torch.float32, device=device)
        # What one column, and one row, of the depth image adds to `directions`.
        self._columns = torch.tensor(projection[:2, 0, None, None], dtype=torch.float32, device=device)
        self._rows = torch.tensor(projection[:2, 1, None, None], dtype=torch.float32, device=device)
        self._column_depth, self._row_depth = float(projection[2, 0]), float(projection[2, 1])
        spare = torch.arange(depth_camera.width, dtype=torch.float32, device=device)
        self._spare_columns = spare.remainder_(self.camera.width)

    def __call__(self, depth: Tensor) -> Tensor:
        """(B, 1, h, w) in metres along the depth camera's axis, invalid NaN, infinite or <= 0, becomes
        float32 (B, 1, h', w') in metres along the RGB camera's axis, NaN where no sample falls.

        Nothing is read back by the host, so a GPU is not synchronised.
        """
        if depth.ndim != 4 or depth.shape[1] != 1 or tuple(depth.shape[2:]) != self.source_shape:
            raise FrameError(
                f"the depth has shape {tuple(depth.shape)}, but must have shape "
                f"(B, 1, {self.source_shape[0]}, {self.source_shape[1]})"
            )
        # What is invalid becomes NaN in `points`, an infinite depth by inf / inf. F.threshold is a `where`
        # that takes a tenth of its time on a CPU.
        z = F.threshold(depth.float(), 0.0, math.nan)
        point = torch.addcmul(self._origin, self._directions, z)
        depth_in_rgb = F.threshold(point[:, 2:], MIN_DEPTH_M, math.nan)
        points = point[:, :2] / depth_in_rgb
        half = self._extents(points, z / depth_in_rgb) / 2
        return self._splat(torch.ceil(points - half), torch.ceil(points + half) - 1, depth_in_rgb)

    def _extents(self, points: Tensor, magnification: Tensor) -> Tensor:
        """Sides (B, 2, h, w) of the samples' cells along x and y in output pixels.

        points: (B, 2, h, w), the x and y of each sample; magnification: (B, 1, h, w), depth in the depth
        camera over depth in the RGB camera.
        """
        # The derivative of the projection by u, at constant depth: magnification * (columns - x * dZ/du).
        along_u = torch.sub(self._columns, points, alpha=self._column_depth).mul_(magnification).abs_()
        along_v = torch.sub(self._rows, points, alpha=self._row_depth).mul_(magnification).abs_()
        steps_u = _steps(points[..., :, 1:] - points[..., :, :-1])
        steps_v = _steps(points[..., 1:, :] - points[..., :-1, :])
        for sides in (along_u[..., :, 1:], along_u[..., :, :-1]):
            torch.maximum(sides, steps_u, out=sides)
        for sides in (along_v[..., 1:, :], along_v[..., :-1, :]):
            torch.maximum(sides, steps_v, out=sides)
        return along_u.add_(along_v).clamp_(1, FOOTPRINT)

    def _splat(self, first: Tensor, last: Tensor, depth: Tensor) -> Tensor:
        """Z-buffer over the pixels `first` to `last` (B, 2, h, w: columns and rows) of each sample."""
        width, height = self.camera.width, self.camera.height
        # A border of one pixel takes what lies outside the image, so no sample needs a mask. Samples that
        # are NaN go there too, spread over its columns: a GPU's atomic operations on one address queue up.
        (first_x, first_y), (last_x, last_y) = first.unbind(1), last.unbind(1)
        invalid = (first_x + first_y).isnan()
        ranges = (
            (torch.where(invalid, self._spare_columns, first_x), torch.nan_to_num(last_x, width), width),
            (first_y, torch.where(invalid, -1.0, last_y), height),
        )
        columns, rows = (
            [
                torch.nan_to_num_(torch.minimum(start + step, end), -1).clamp_(-1, side).add_(1).long()
                for step in range(FOOTPRINT)
            ]
            for start, end, side in ranges
        )
        values = depth.flatten(1)
        buffer = values.new_full((len(values), (height + 2) * (width + 2)), math.inf)
        for row in rows:
            row *= width + 2
            for column in columns:
                buffer.scatter_reduce_(1, (row + column).flatten(1), values, "amin")
        image = buffer.view(-1, 1, height + 2, width + 2)[..., 1:-1, 1:-1]
        # x - x is 0 where x is finite and NaN where it is infinite.
        return image + (image - image)


def _steps(difference: Tensor) -> Tensor:
    """Distance between neighbouring samples; 0 where they lie on two surfaces or one of them is invalid."""
    # hardshrink is the identity above FOOTPRINT and 0 below, so this zeroes what is above.
    near = difference - F.hardshrink(difference, FOOTPRINT)
    return torch.nan_to_num_(near, nan=0.0).abs_()


def _registered_camera(depth: PinholeCamera, rgb: PinholeCamera) -> PinholeCamera:
    scale = min(1.0, depth.fx / rgb.fx, depth.fy / rgb.fy)
    return rgb.resized(max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))


def _matrix(camera: PinholeCamera) -> npt.NDArray[np.float64]:
    return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], np.float64)


def _checked_pose(rgb_from_depth: npt.ArrayLike) -> npt.NDArray[np.float64]:
    pose = np.asarray(rgb_from_depth, np.float64)
    good = pose.shape == (4, 4) and np.isfinite(pose).all() and np.array_equal(pose[3], [0, 0, 0, 1])
    if good:
        rotation = pose[:3, :3]
        good = np.allclose(rotation @ rotation.T, np.eye(3), atol=ROTATION_TOLERANCE)
        good = good and np.linalg.det(rotation) > 0
    if not good:
        raise ConfigError(
            f"rgb_from_depth is {pose.tolist()}, but must be a 4x4 rotation and translation; "
            "transform_matrix builds one"
        )
    return pose
