# SPDX-License-Identifier: Apache-2.0
"""sr.launch.py against the real launch_ros: its arguments, and a node that it starts."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

# The repository's folder launch/ looks like a package of that name, so a module inside it is asked for.
if not all(
    importlib.util.find_spec(name) for name in ("launch", "launch_ros")
) or not importlib.util.find_spec("launch.actions"):
    pytest.skip(
        "launch and launch_ros are not installed: source a ROS 2 distribution", allow_module_level=True
    )

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from ros_helpers import Listener, PythonProcess

ARGUMENTS = {
    "params_file",
    "rgb_topic",
    "rgb_info_topic",
    "depth_topic",
    "namespace",
    "checkpoint",
    "variant",
    "device",
    "use_sim_time",
    "log_level",
    "dds_profile",
}

# As a user's launch file includes ours; the arguments are name:=value.
INCLUDE = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

source = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [tuple(argument.split(":=", 1)) for argument in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


@pytest.fixture
def launch_file(repo_root: Path) -> Path:
    return repo_root / "launch" / "sr.launch.py"


@pytest.fixture
def prefix(tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ament prefix with the package as an installation lays it out, its executable run by this Python."""
    marker = tmp_path / "share/ament_index/resource_index/packages/depth_sr_ros"
    marker.parent.mkdir(parents=True)
    marker.touch()
    share = tmp_path / "share" / "depth_sr_ros"
    share.mkdir()
    (share / "config").symlink_to(repo_root / "config")
    executable = tmp_path / "lib" / "depth_sr_ros" / "depth_sr_node"
    executable.parent.mkdir(parents=True)
    executable.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m depth_sr_ros.ros.main "$@"\n')
    executable.chmod(0o755)
    others = os.environ.get("AMENT_PREFIX_PATH", sys.prefix)
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join([str(tmp_path), others]))
    return tmp_path


def entities(launch_file: Path) -> list[Any]:
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    return get_launch_description_from_python_launch_file(str(launch_file)).entities


def test_every_argument_is_described_and_has_a_default(launch_file: Path) -> None:
    from launch.actions import DeclareLaunchArgument

    arguments = [entity for entity in entities(launch_file) if isinstance(entity, DeclareLaunchArgument)]
    assert {argument.name for argument in arguments} == ARGUMENTS
    for argument in arguments:
        assert argument.default_value is not None
        assert len(argument.description) > 10


def test_the_node_runs_in_its_namespace_on_the_given_topics_and_ends_with_the_launch(
    launch_file: Path, prefix: Path, tmp_path: Path
) -> None:
    script = tmp_path / "include.py"
    script.write_text(INCLUDE)
    arguments = [
        "namespace:=robot",
        "rgb_topic:=/cam/rgb",
        "depth_topic:=cam/depth",
        "variant:=edge",
        "device:=cpu",
    ]
    listener = Listener(namespace="/robot", name="launch_listener")
    try:
        with PythonProcess([script, launch_file, *arguments]) as process:
            listener.wait_for_node(process)
            assert listener.node.count_subscribers("/cam/rgb") == 1
            assert listener.node.count_subscribers("/robot/cam/depth") == 1
            assert listener.node.count_subscribers("/robot/rgb/camera_info") == 1
            assert listener.values["device"] == "cpu"
            process.send(signal.SIGINT)
            assert process.wait() == 0, process.output
            assert "process has finished cleanly" in process.output
            assert "Traceback" not in process.output
    finally:
        listener.close()


def test_an_argument_that_is_wrong_ends_the_launched_node_with_one_sentence(
    launch_file: Path, prefix: Path, tmp_path: Path
) -> None:
    script = tmp_path / "include.py"
    script.write_text(INCLUDE)
    with PythonProcess([script, launch_file, "variant:=edgy"]) as process:
        process.wait()
        assert "must be one of challenge, fast, edge; did you mean 'edge'?" in process.output
        assert "exit code 1" in process.output
        assert "Traceback" not in process.output
