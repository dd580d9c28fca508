# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 side: the only place of this package that imports rclpy."""
