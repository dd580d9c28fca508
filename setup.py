# SPDX-License-Identifier: Apache-2.0
"""Installs depth_sr_ros for pip and colcon alike; the metadata is in setup.cfg."""

from glob import glob

from setuptools import Extension, setup

SHARE = "share/depth_sr_ros"

FOLDERS = {"launch": "*.launch.py", "config": "*", "rviz": "*.rviz"}

# Not a Python module but a library that models/native.py opens. Without a C++ compiler the installation goes
# on, and torch runs the network. No -march: the source chooses by the processor it runs on.
KERNELS = Extension(
    "depth_sr_ros._native",
    ["depth_sr_ros/native/native.cpp"],
    depends=["depth_sr_ros/native/kernels.inc"],
    extra_compile_args=[
        "-std=c++17",
        "-O3",
        "-fopenmp",
        "-ffp-contract=fast",
        "-fno-math-errno",
        "-fno-trapping-math",
    ],
    extra_link_args=["-fopenmp"],
    language="c++",
    optional=True,
)

setup(
    ext_modules=[KERNELS],
    # Here and not in setup.cfg: setuptools parses it there into an object that colcon cannot read.
    python_requires=">=3.10",
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/depth_sr_ros"]),
        (SHARE, ["package.xml"]),
        *((f"{SHARE}/{folder}", sorted(glob(f"{folder}/{pattern}"))) for folder, pattern in FOLDERS.items()),
    ],
)
