# SPDX-License-Identifier: Apache-2.0
"""Any image message the node can receive -> pixels: by our codecs, or the real cv_bridge for the rest."""

from __future__ import annotations

import importlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CompressedImage

from depth_sr_ros import compressed_codec
from depth_sr_ros.errors import FrameError
from depth_sr_ros.image_codec import DEPTH_ENCODINGS, RGB_ENCODINGS, depth_view, rgb_view


def decode_rgb(message: Any) -> tuple[npt.NDArray[np.uint8], str]:
    """Pixels and channel order, as `image_codec.rgb_view`; FrameError where they cannot be had."""
    if isinstance(message, CompressedImage):
        return compressed_codec.decode_rgb(message)
    if message.encoding in RGB_ENCODINGS:
        return rgb_view(message)
    return _by_cv_bridge(message, "RGB", "rgb8", RGB_ENCODINGS), "rgb"


def decode_depth(message: Any) -> tuple[npt.NDArray[Any], float]:
    """Pixels and metres per unit, as `image_codec.depth_view`; FrameError where they cannot be had."""
    if isinstance(message, CompressedImage):
        return compressed_codec.decode_depth(message)
    if message.encoding in DEPTH_ENCODINGS:
        return depth_view(message)
    return _by_cv_bridge(message, "depth", "32FC1", DEPTH_ENCODINGS), 1.0


def _by_cv_bridge(message: Any, name: str, encoding: str, ours: Any) -> npt.NDArray[Any]:
    cv_bridge = _real_cv_bridge()
    if cv_bridge is None:
        package = os.path.expandvars("ros-$ROS_DISTRO-cv-bridge")
        raise FrameError(
            f"the {name} encoding is {message.encoding!r}, but must be one of {', '.join(ours)}; "
            f"for others install cv_bridge from your ROS 2 distribution: apt install {package}"
        )
    if name == "depth" and not message.encoding.startswith("64FC1"):
        # Whole numbers in an encoding that REP 118 does not name have no known unit.
        raise FrameError(
            f"the depth encoding is {message.encoding!r}, but must be 64FC1, or {', '.join(ours)}"
        )
    try:
        return np.asarray(cv_bridge.CvBridge().imgmsg_to_cv2(message, desired_encoding=encoding))
    except Exception as error:  # it has no base class: its C++ part and old NumPy calls raise what they will
        raise FrameError(
            f"cv_bridge cannot read the {name} image: {type(error).__name__}: {error}"
        ) from error


@lru_cache
def _real_cv_bridge() -> Any:
    """cv_bridge where it is part of a ROS 2 installation; None elsewhere.

    A package of that name on PyPI is a ROS 1 relic that returns wrong images without an error.
    """
    try:
        module = importlib.import_module("cv_bridge")
    except ImportError:
        return None
    if module.__file__ is None:
        return None
    # Its marker in the ament index is what tells an installation from a wheel in the same environment.
    marker = Path("share/ament_index/resource_index/packages/cv_bridge")
    prefixes = [Path(p).resolve() for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    folder = Path(module.__file__).resolve()
    inside = any(prefix in folder.parents and (prefix / marker).is_file() for prefix in prefixes)
    return module if inside else None
