# SPDX-License-Identifier: Apache-2.0
"""Whether ROS 2 is there, asked before anything of it is imported."""

from __future__ import annotations

import importlib.util

from depth_sr_ros.errors import DataError


def need_rclpy(what: str) -> None:
    """Raise DataError, with how to install it, where rclpy is missing; `what` needs it."""
    if importlib.util.find_spec("rclpy") is None:
        raise DataError(
            f"{what} needs rclpy: source a ROS 2 distribution, or pip install 'depth_sr_ros[ros]'"
        )
