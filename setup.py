# SPDX-License-Identifier: Apache-2.0
"""Installs depth_sr_ros for pip and colcon alike; the metadata is in setup.cfg."""

from glob import glob

from setuptools import setup

SHARE = "share/depth_sr_ros"

FOLDERS = {"launch": "*.launch.py", "config": "*", "rviz": "*.rviz"}

setup(
    # Here and not in setup.cfg: setuptools parses it there into an object that colcon cannot read.
    python_requires=">=3.10",
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/depth_sr_ros"]),
        (SHARE, ["package.xml"]),
        *((f"{SHARE}/{folder}", sorted(glob(f"{folder}/{pattern}"))) for folder, pattern in FOLDERS.items()),
    ],
)
