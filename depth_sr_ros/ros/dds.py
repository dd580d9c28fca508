# SPDX-License-Identifier: Apache-2.0
"""Makes a process fit for image-size messages, before rclpy starts: DDS transport, allocator, OpenMP.

Out of the box Fast DDS loses best-effort images of 640x480 rgb8 and larger, and glibc hands every
image-size block back to the kernel. Both cost frames and milliseconds; both are settings of the process,
not of the node.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from depth_sr_ros.errors import ConfigError

# `off`, or the path of a profile to use in place of the shipped one.
PROFILE_VARIABLE = "DEPTH_SR_DDS_PROFILE"
PROFILE_FILE = "fastdds_shm.xml"
LOCALHOST_PROFILE_FILE = "fastdds_shm_localhost.xml"  # its comment says why Humble needs one
# What Fast DDS reads. Its version 3 (Kilted and later) warns about the old name, version 2 ignores the new
# one.
FAST_DDS_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
FAST_DDS_2_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
FAST_DDS_2_DISTRIBUTIONS = ("humble", "iron", "jazzy")

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def prepare_process() -> Path | None:
    """Set all of it for this process and its children; call it before rclpy.init and `import torch`.

    Returns the shared-memory profile as `use_profile` does. Raises ConfigError where DEPTH_SR_DDS_PROFILE
    names a file that does not exist.
    """
    # A worker thread that spins after each operation would take the core that DDS needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_large_blocks()
    return use_profile(os.environ)


def use_profile(environment: MutableMapping[str, str]) -> Path | None:
    """Name the shared-memory profile in `environment`; returns its path, or None where it is not ours to set.

    A profile variable that the user set wins, another middleware than Fast DDS needs none, and
    DEPTH_SR_DDS_PROFILE=off turns it off.

    Raises ConfigError where DEPTH_SR_DDS_PROFILE names a file that does not exist.
    """
    chosen = environment.get(PROFILE_VARIABLE, "")
    middleware = environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    set_by_user = environment.get(FAST_DDS_VARIABLE) or environment.get(FAST_DDS_2_VARIABLE)
    if chosen == "off" or set_by_user or not middleware.startswith("rmw_fastrtps"):
        return None
    localhost = environment.get("ROS_DISTRO") == "humble" and environment.get("ROS_LOCALHOST_ONLY") == "1"
    path = Path(chosen) if chosen else shipped_profile(LOCALHOST_PROFILE_FILE if localhost else PROFILE_FILE)
    if path is None:
        return None
    if not path.is_file():
        raise ConfigError(f"{PROFILE_VARIABLE} is {chosen!r}, but must be off or the path of an XML file")
    old = environment.get("ROS_DISTRO") in FAST_DDS_2_DISTRIBUTIONS
    environment[FAST_DDS_2_VARIABLE if old else FAST_DDS_VARIABLE] = str(path)
    return path


def shipped_profile(name: str = PROFILE_FILE) -> Path | None:
    """A profile that comes with the package, in a source tree or installed; None where it is missing."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    folders = [Path(__file__).resolve().parents[2] / "config"]
    folders += [Path(prefix) / "share" / "depth_sr_ros" / "config" for prefix in prefixes if prefix]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def keep_large_blocks() -> bool:
    """Tell glibc to keep freed image-size blocks instead of unmapping them; False where there is no glibc.

    The kernel would clear the pages of every new image: about 1 ms a megabyte. The user's MALLOC_*
    variables win.
    """
    if any(name in os.environ for name in _MALLOC_VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    # glibc before 2.35 takes at most 32 MB (half a heap) as threshold, later ones anything.
    mapped = mallopt(_M_MMAP_THRESHOLD, 1 << 30) or mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    return bool(mapped and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
