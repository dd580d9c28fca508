# SPDX-License-Identifier: Apache-2.0
"""A process made fit for images: the shared-memory profile, which variable names it, and the allocator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from depth_sr_ros.errors import ConfigError
from depth_sr_ros.ros.dds import (
    FAST_DDS_2_VARIABLE,
    FAST_DDS_VARIABLE,
    LOCALHOST_PROFILE_FILE,
    PROFILE_FILE,
    PROFILE_VARIABLE,
    shipped_profile,
    use_profile,
)

pytestmark = pytest.mark.alone

# Rewrites a 4 MB block fifty times, and prints how many pages the kernel had to hand out for it.
FAULTS = """
import resource, sys
from depth_sr_ros.ros.dds import keep_large_blocks
if sys.argv[1] == "keep":
    assert keep_large_blocks()
block = bytearray(4 << 20)
del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    block = bytearray(4 << 20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

# Prints the size of the shared-memory segment that Fast DDS has mapped.
SEGMENT = """
import os
from depth_sr_ros.ros.dds import prepare_process
prepare_process()
import rclpy
rclpy.init()
node = rclpy.create_node("segment")
maps = [line.split()[-1] for line in open("/proc/self/maps") if "/dev/shm/fast" in line]
print(max(os.path.getsize(path) for path in maps))
rclpy.shutdown()
"""


def run(script: str, *arguments: str, **variables: str) -> str:
    # Other tests of this process may have set the profile already.
    clean = {k: v for k, v in os.environ.items() if k not in (FAST_DDS_VARIABLE, FAST_DDS_2_VARIABLE)}
    out = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return out.stdout.strip()


def test_the_shipped_profile_is_found_in_the_source_tree(repo_root: Path) -> None:
    assert shipped_profile() == repo_root / "config" / "fastdds_shm.xml"


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, FAST_DDS_VARIABLE),
        ({"ROS_DISTRO": "kilted"}, FAST_DDS_VARIABLE),
        ({"ROS_DISTRO": "humble"}, FAST_DDS_2_VARIABLE),
        ({"ROS_DISTRO": "jazzy", "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}, FAST_DDS_2_VARIABLE),
        ({"RMW_IMPLEMENTATION": "rmw_fastrtps_dynamic_cpp"}, FAST_DDS_VARIABLE),
    ],
)
def test_the_profile_is_named_in_the_variable_that_this_fast_dds_reads(
    environment: dict[str, str], variable: str
) -> None:
    before = dict(environment)
    path = use_profile(environment)
    assert environment == {**before, variable: str(path)}


@pytest.mark.parametrize(
    ("distribution", "only", "name"),
    [
        ("humble", "1", LOCALHOST_PROFILE_FILE),
        ("humble", "0", PROFILE_FILE),
        ("jazzy", "1", PROFILE_FILE),
    ],
)
def test_on_humble_a_localhost_only_node_opens_no_other_interface(
    distribution: str, only: str, name: str, repo_root: Path
) -> None:
    path = use_profile({"ROS_DISTRO": distribution, "ROS_LOCALHOST_ONLY": only})
    assert path == repo_root / "config" / name


def test_the_profiles_differ_in_the_udp_transport_alone(repo_root: Path) -> None:
    space = "{http://www.eprosima.com}"
    kinds, shm = {}, {}
    for name in (PROFILE_FILE, LOCALHOST_PROFILE_FILE):
        root = ElementTree.parse(repo_root / "config" / name).getroot()
        transports = {
            each.findtext(f"{space}transport_id"): {part.tag: part.text for part in each}
            for each in root.iter(f"{space}transport_descriptor")
        }
        used = [each.text for each in root.find(f".//{space}userTransports")]  # type: ignore[union-attr]
        assert used == list(transports)
        kinds[name] = [each[f"{space}type"] for each in transports.values()]
        shm[name] = transports["depth_sr_shm"]
    assert kinds == {PROFILE_FILE: ["SHM", "UDPv4"], LOCALHOST_PROFILE_FILE: ["SHM"]}
    assert shm[PROFILE_FILE] == shm[LOCALHOST_PROFILE_FILE]


@pytest.mark.parametrize(
    "environment",
    [
        {FAST_DDS_VARIABLE: "/my/profile.xml"},
        {FAST_DDS_2_VARIABLE: "/my/profile.xml"},
        {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
        {"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"},
        {PROFILE_VARIABLE: "off"},
    ],
)
def test_the_users_choice_and_another_middleware_are_left_alone(environment: dict[str, str]) -> None:
    before = dict(environment)
    assert use_profile(environment) is None
    assert environment == before


def test_a_profile_of_the_users_own_is_taken_and_a_missing_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.xml"
    with pytest.raises(ConfigError, match="own.xml', but must be off or the path of an XML file"):
        use_profile({PROFILE_VARIABLE: str(path)})
    path.touch()
    environment = {PROFILE_VARIABLE: str(path)}
    assert use_profile(environment) == path
    assert environment[FAST_DDS_VARIABLE] == str(path)


def test_fast_dds_takes_the_segment_of_the_profile() -> None:
    pytest.importorskip("rclpy", reason="needs rclpy")
    assert int(run(SEGMENT)) > 60_000_000
    assert int(run(SEGMENT, **{PROFILE_VARIABLE: "off"})) < 4_000_000


def test_freed_image_size_blocks_are_kept() -> None:
    pages = 50 * (4 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert int(run(FAULTS, "default", MALLOC_MMAP_THRESHOLD_="131072")) > pages // 2
    assert int(run(FAULTS, "keep")) < pages // 20
