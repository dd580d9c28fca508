# SPDX-License-Identifier: Apache-2.0
"""Installs depth_sr_ros for pip and colcon alike; the metadata is in setup.cfg."""

import hashlib
from glob import glob
from pathlib import Path

from setuptools import Extension, setup

SHARE = "share/depth_sr_ros"

FOLDERS = {"launch": "*.launch.py", "config": "*", "rviz": "*.rviz"}

# Not a Python module but a library that models/native.py opens. Without a C++ compiler the installation goes
# on, and torch runs the network. No -march: the source chooses by the processor it runs on.
SOURCES = ["depth_sr_ros/native/native.cpp", "depth_sr_ros/native/kernels.inc"]
# A test compares it: a build that failed leaves the library of an older one in a source tree.
DIGEST = hashlib.sha256(b"".join(Path(name).read_bytes() for name in SOURCES)).hexdigest()
KERNELS = Extension(
    "depth_sr_ros._native",
    SOURCES[:1],
    depends=SOURCES[1:],
    define_macros=[("DSR_SOURCES", f'"{DIGEST}"')],
    # Last on the command line, so they win over CXXFLAGS: with -ffast-math the rounding of `exponential` is
    # optimized away; linked with it, or with -Ofast, the library turns denormals off in the whole process.
    extra_compile_args=[
        "-std=c++17",
        "-O3",
        "-fopenmp",
        "-fno-fast-math",
        "-ffp-contract=fast",
        "-fno-math-errno",
        "-fno-trapping-math",
    ],
    extra_link_args=["-fopenmp", "-O3", "-fno-fast-math"],
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
