# SPDX-License-Identifier: Apache-2.0
"""The transform from the depth camera into the RGB camera, from parameters or TF, and when it is needed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from rclpy.time import Time

from depth_sr_ros.camera import PinholeCamera, has_distortion, transform_matrix
from depth_sr_ros.errors import ConfigError, FrameError

# rgb_frame, depth_frame -> 4x4 that maps points of the depth frame into the RGB frame, metres
Extrinsics = Callable[[str, str], npt.NDArray[np.float64]]


def make_extrinsics(node: Node, values: dict[str, Any]) -> Extrinsics:
    """The source that `extrinsics.source` names; ConfigError on a bad transform and without tf2_ros."""
    if values["extrinsics.source"] == "parameter":
        matrix = transform_matrix(values["extrinsics.translation"], values["extrinsics.rotation"])
        return lambda rgb_frame, depth_frame: matrix
    try:
        tf2_ros: Any = importlib.import_module("tf2_ros")
    except ImportError as error:
        package = os.path.expandvars("ros-$ROS_DISTRO-tf2-ros-py")
        raise ConfigError(
            f"register with extrinsics.source 'tf' needs tf2_ros, which cannot be imported ({error}): "
            f"apt install {package}, or set extrinsics.source to 'parameter' and extrinsics.translation and "
            "extrinsics.rotation to the transform"
        ) from error
    buffer = tf2_ros.Buffer()
    listener = tf2_ros.TransformListener(buffer, node, spin_thread=False)

    def look_up(rgb_frame: str, depth_frame: str) -> npt.NDArray[np.float64]:
        try:
            # Time 0: the latest, since the cameras are fixed to each other.
            found = buffer.lookup_transform(rgb_frame, depth_frame, Time()).transform
        except tf2_ros.TransformException as error:
            raise FrameError(
                f"no transform from {depth_frame!r} to {rgb_frame!r} on /tf_static: {error}; start the "
                "driver's or robot_state_publisher's, or set extrinsics.source to 'parameter'"
            ) from error
        t, q = found.translation, found.rotation
        return transform_matrix((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))

    look_up.close = listener.unregister  # type: ignore[attr-defined]  # and the listener lives as long as this
    return look_up


class Registrar:
    """Keeps the warp of the last pair of cameras; makes another when a CameraInfo or a size changes.

    `report` is told of a camera with distortion, which the warp ignores, once for each warp.
    """

    def __init__(self, extrinsics: Extrinsics, report: Callable[[str], None]) -> None:
        self._extrinsics = extrinsics
        self._report = report
        self._key: tuple[Any, ...] = ()
        self._registration: Any = None

    def close(self) -> None:
        """Unsubscribe from TF, where that is the source."""
        getattr(self._extrinsics, "close", lambda: None)()

    def __call__(
        self,
        engine: Any,
        frames: tuple[str, str],
        infos: tuple[Any, Any],
        sizes: tuple[tuple[int, int], tuple[int, int]],
    ) -> Any:
        """The warp for one frame, each argument as (RGB's, depth's); sizes are (width, height).

        Raises FrameError while a CameraInfo or the transform is missing.
        """
        for name, info in zip(("rgb", "depth"), infos, strict=True):
            if info is None:
                raise FrameError(
                    f"register is true, but no message has come on {name}/camera_info; remap it, or set "
                    "register to false"
                )
        rgb, depth = (
            PinholeCamera.from_camera_info(info, size) for info, size in zip(infos, sizes, strict=True)
        )
        key = (rgb, depth, frames)
        if key != self._key:
            try:
                self._registration = engine.make_registration(depth, rgb, self._extrinsics(*frames))
            except ConfigError as error:  # a transform that somebody sent, not a parameter: the node lives on
                raise FrameError(str(error)) from error
            self._key = key
            for name, info in zip(("RGB", "depth"), infos, strict=True):
                if has_distortion(info):  # rectified images come with the coefficients of the raw ones
                    self._report(
                        f"register is true, but the {name} camera's distortion is not zero: unless its "
                        "images are rectified already, the depth is off towards the corners"
                    )
        return self._registration
