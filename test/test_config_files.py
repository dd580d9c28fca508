# SPDX-License-Identifier: Apache-2.0
"""config/*.yaml and rviz/sr.rviz: the parameters, topics and launch arguments that they name exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from depth_sr_ros.parameters import BY_NAME

REPO_ROOT = Path(__file__).resolve().parents[1]
CONFIG_FILES = sorted((REPO_ROOT / "config").glob("*.yaml"))
CAMERA_FILES = [path for path in CONFIG_FILES if path.name != "sr.yaml"]
RVIZ_FILE = REPO_ROOT / "rviz" / "sr.rviz"
LAUNCH_FILE = REPO_ROOT / "launch" / "sr.launch.py"
OUR_LAUNCH = ["ros2", "launch", "depth_sr_ros", "sr.launch.py"]


def parameters_in(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    assert list(content) == ["/**"]
    assert list(content["/**"]) == ["ros__parameters"]
    return content["/**"]["ros__parameters"]


def commands_in(path: Path) -> list[list[str]]:
    """The words of each `ros2` command in the comments; a line that ends with a backslash goes on."""
    comments = [
        line.strip().removeprefix("#").strip() for line in path.read_text().splitlines() if "#" in line
    ]
    lines = "\n".join(comments).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("ros2 ")]


def our_arguments(path: Path) -> list[dict[str, str]]:
    """The arguments of each command that starts sr.launch.py."""
    commands = [command for command in commands_in(path) if command[:4] == OUR_LAUNCH]
    return [dict(word.split(":=", 1) for word in command[4:]) for command in commands]


def calls_in(path: Path, function: str) -> list[str]:
    """The first argument of each call of `function`, where it is a constant."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == function]
    first = [call.args[0] for call in named]
    return [str(argument.value) for argument in first if isinstance(argument, ast.Constant)]


def rviz_displays() -> dict[str, dict[str, Any]]:
    content = yaml.safe_load(RVIZ_FILE.read_text())
    displays = content["Visualization Manager"]["Displays"]
    return {display["Class"].removeprefix("rviz_default_plugins/"): display for display in displays}


def test_the_common_cameras_have_a_file() -> None:
    names = {path.name for path in CAMERA_FILES}
    assert names == {"azure_kinect.yaml", "lidar.yaml", "realsense_d435.yaml", "zed.yaml"}


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.name)
def test_a_file_holds_only_parameters_of_the_node_with_values_that_it_takes(path: Path) -> None:
    for name, value in parameters_in(path).items():
        assert name in BY_NAME
        assert BY_NAME[name].check(value) == value


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.name)
def test_ros_reads_the_values_as_they_stand(path: Path) -> None:
    # Its own parser takes some plain words, such as nan, for numbers.
    node_module = pytest.importorskip("rclpy.node")
    from ros_helpers import start_ros

    start_ros()
    node = node_module.Node(
        "depth_sr",
        cli_args=["--ros-args", "--params-file", str(path)],
        automatically_declare_parameters_from_overrides=True,
    )
    try:
        for name, value in parameters_in(path).items():
            read = node.get_parameter(name).value
            read = list(read) if isinstance(value, list) else read
            assert (type(read), read) == (type(value), value)
    finally:
        node.destroy_node()


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.name)
def test_a_parameter_that_stands_as_a_comment_is_one_too(path: Path) -> None:
    for name, text in re.findall(r"^ +# ([a-z_.]+): (\[.*\]|\S+)$", path.read_text(), re.MULTILINE):
        assert name in BY_NAME
        BY_NAME[name].check(yaml.safe_load(text))


@pytest.mark.parametrize("path", CAMERA_FILES, ids=lambda path: path.name)
def test_a_camera_file_holds_only_what_differs_from_the_defaults(path: Path) -> None:
    given = parameters_in(path)
    assert given
    assert {name for name, value in given.items() if value == BY_NAME[name].default} == set()


@pytest.mark.parametrize("path", CAMERA_FILES, ids=lambda path: path.name)
def test_the_commands_of_a_camera_file_use_arguments_of_the_launch_file_and_name_all_topics(
    path: Path,
) -> None:
    known = set(calls_in(LAUNCH_FILE, "_argument"))
    topics = {"rgb_topic", "rgb_info_topic", "depth_topic", "depth_info_topic"}
    assert our_arguments(path)
    for arguments in our_arguments(path):
        assert set(arguments) <= known
        assert topics <= set(arguments)
        assert all(arguments[topic].startswith("/") for topic in topics)
        assert Path(arguments["params_file"]).name == path.name


def test_the_parameters_that_launch_arguments_replace_exist() -> None:
    tree = ast.parse(LAUNCH_FILE.read_text())
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if node.targets[0].id == "PARAMETERS"
    )
    assert isinstance(table, ast.Dict)
    pairs = zip(table.keys, table.values, strict=True)
    names = {ast.literal_eval(key): ast.unparse(kind) for key, kind in pairs if key is not None}
    assert names.pop("use_sim_time") == "bool"  # rclpy's own
    assert names == {name: type(BY_NAME[name].default).__name__ for name in names}


def test_rviz_shows_topics_that_the_node_publishes_as_it_publishes_them() -> None:
    sources = [path.read_text() for path in (REPO_ROOT / "depth_sr_ros" / "ros").glob("*.py")]
    shown = {kind: display["Topic"] for kind, display in rviz_displays().items() if "Topic" in display}
    assert {kind: topic["Value"] for kind, topic in shown.items()} == {
        "PointCloud2": "/depth_sr/points",
        "Image": "/depth_sr/depth/color",
    }
    for topic in shown.values():
        assert topic["Reliability Policy"] == "Reliable"
        assert topic["Durability Policy"] == "Volatile"
        private = topic["Value"].replace("/depth_sr/", "~/", 1)
        assert any(f'"{private}"' in source for source in sources), f"no node publishes {private}"


def test_rviz_has_the_displays_to_look_at_a_cloud_from_its_camera() -> None:
    displays = rviz_displays()
    assert set(displays) == {"Grid", "TF", "PointCloud2", "Image"}
    assert all(display["Enabled"] for display in displays.values())
    assert displays["PointCloud2"]["Color Transformer"] == "RGB8"
    manager = yaml.safe_load(RVIZ_FILE.read_text())["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "camera_color_optical_frame"
    assert manager["Views"]["Current"]["Class"] == "rviz_default_plugins/Orbit"
