# SPDX-License-Identifier: Apache-2.0
"""Message classes by the names that recordings and the ROS graph have for them, and names of topics."""

from __future__ import annotations

import importlib

from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name

from depth_sr_ros.errors import DataError


def message_class(msgtype: str) -> type:
    """The class of, for example, sensor_msgs/msg/Image.

    Raises:
        DataError: its package is not installed here, or the name is not that of a message.
    """
    package, _, name = msgtype.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise DataError(f"message type {msgtype} is not installed here: source its workspace") from error


def why_no_topic(name: str) -> str:
    """Why ROS 2 takes no topic of this name; empty where it does. Other recorders write any."""
    try:
        validate_topic_name(name)
    except InvalidTopicNameException as error:
        return str(error).splitlines()[0].removeprefix("Invalid topic name: ").rstrip(":")
    return ""
