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

from depth_sr_ros.camera import (
    FIELD_OF_VIEW_TOLERANCE,
    PinholeCamera,
    described_size,
    is_of_size,
    transform_matrix,
)
from depth_sr_ros.errors import ConfigError, FrameError
from depth_sr_ros.image_size import size_text

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


class Registrar:
    """Keeps the warp of the last pair of cameras; makes another when a CameraInfo or a size changes."""

    def __init__(self, extrinsics: Extrinsics) -> None:
        self._extrinsics = extrinsics
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
        return self._registration
