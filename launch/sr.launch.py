# SPDX-License-Identifier: Apache-2.0
"""Starts the depth_sr node with its parameters, its topics and a process that is fit for images."""

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

Parameter = bool | ParameterValue

# glibc would unmap every freed image and have the kernel clear its pages again; the user's own values win.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "4294967295"}

# Arguments that replace the parameter of their name, where they are not empty, and the parameter's type.
PARAMETERS = {"variant": str, "checkpoint": str, "device": str, "autostart": bool, "use_sim_time": bool}

# Before a process that ended is started again: a start that fails each time must not fill the log.
RESPAWN_DELAY_S = 2.0

# What the node subscribes to, and the argument that says where that is.
REMAPPINGS = {
    "rgb/image": "rgb_topic",
    "rgb/camera_info": "rgb_info_topic",
    "depth/image": "depth_topic",
    "depth/camera_info": "depth_info_topic",
}

# The outputs that rviz/sr.rviz shows, below the node's own name.
SHOWN = ("depth/color", "points")

# Two cameras are two includes with a namespace each. ROS's include writes the arguments it is given into the
# including file's scope, where the next include finds them: put each one into a GroupAction of its own
# (<group> in XML). The group here keeps the defaults, such as node_name, from leaking out in the same way.


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([GroupAction([*_arguments(), OpaqueFunction(function=_nodes)])])


def _arguments() -> list[DeclareLaunchArgument]:
    return [
        _argument(
            "params_file",
            _share("config", "sr.yaml"),
            "YAML file of the node's parameters: a path, or the name of a shipped one, such as zed.yaml",
        ),
        _argument("rgb_topic", "rgb/image", "RGB image; its compressed transport is the topic below it"),
        _argument("rgb_info_topic", "rgb/camera_info", "CameraInfo of the RGB image"),
        _argument(
            "depth_topic", "depth/image", "depth image, in the RGB camera's view or with register: true"
        ),
        _argument(
            "depth_info_topic", "depth/camera_info", "CameraInfo of the depth image, for register: true"
        ),
        _argument("namespace", "", "namespace of the node and of relative topics"),
        _argument("node_name", "depth_sr", "name of the node, which its output topics begin with"),
        _argument("variant", "", "edge, fast or challenge; empty: params_file's"),
        _argument("checkpoint", "", "weights (.safetensors); empty: params_file's"),
        _argument("device", "", "auto, cpu, cuda or cuda:N; empty: params_file's"),
        _argument(
            "use_sim_time",
            "",
            "true: time comes from /clock, as with ros2 bag play --clock; empty: params_file's",
        ),
        _argument("autostart", "", "false: a lifecycle manager starts the node; empty: params_file's"),
        _argument(
            "respawn",
            "false",
            "true: start the node's process again when it ends, as it does when the network breaks down",
        ),
        _argument("log_level", "info", "debug, info, warn, error or fatal"),
        _argument("rviz", "false", "true: show the outputs in RViz, which has to be installed (rviz2)"),
        _argument(
            "dds_profile",
            "",
            "Fast DDS profile (XML); empty: the shipped one, with shared memory for images; off: none",
        ),
    ]


def _argument(name: str, default: object, description: str) -> DeclareLaunchArgument:
    return DeclareLaunchArgument(name, default_value=default, description=description)


def _nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    parameters = _parameters(context)
    sim_time = {name: value for name, value in parameters.items() if name == "use_sim_time"}
    return [_node(context, parameters), _rviz(sim_time)]


def _node(context: LaunchContext, parameters: dict[str, Parameter]) -> Node:
    environment = {name: value for name, value in ALLOCATOR.items() if name not in os.environ}
    profile = LaunchConfiguration("dds_profile").perform(context)
    if profile:
        environment["DEPTH_SR_DDS_PROFILE"] = profile  # the node sets the rest, see depth_sr_ros/ros/dds.py
    # Not a LifecycleNode: the node configures and activates itself (parameter autostart), so there is no
    # transition for launch to drive, and a lifecycle manager finds the node's services either way.
    return Node(
        package="depth_sr_ros",
        executable="depth_sr_node",
        name=LaunchConfiguration("node_name"),
        namespace=LaunchConfiguration("namespace"),
        parameters=[_params_file(context), *_unless_empty(parameters)],
        remappings=[(topic, LaunchConfiguration(argument)) for topic, argument in REMAPPINGS.items()],
        additional_env=environment,
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        respawn=_is_true(context, "respawn"),
        respawn_delay=RESPAWN_DELAY_S,
        output="screen",
        emulate_tty=True,
    )


def _rviz(parameters: dict[str, Parameter]) -> Node:
    # sr.rviz names the topics of a node /depth_sr; RViz's own namespace completes the relative ones here.
    shown = [(f"/depth_sr/{name}", [LaunchConfiguration("node_name"), f"/{name}"]) for name in SHOWN]
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", _share("rviz", "sr.rviz")],
        parameters=_unless_empty(parameters),
        remappings=shown,
        condition=IfCondition(LaunchConfiguration("rviz")),
    )


def _params_file(context: LaunchContext) -> str:
    """The path of the parameters; launch_ros itself only warns about one that is missing."""
    given = LaunchConfiguration("params_file").perform(context)
    shipped = Path(_share("config").perform(context))
    for path in (Path(given), shipped / given):
        if path.is_file():
            return str(path)
    names = ", ".join(sorted(path.name for path in shipped.glob("*.yaml")))
    raise FileNotFoundError(f"params_file is {given!r}, which does not exist; shipped ones: {names}")


def _parameters(context: LaunchContext) -> dict[str, Parameter]:
    """The parameters that arguments replace, by name."""
    out: dict[str, Parameter] = {}
    for name, kind in PARAMETERS.items():
        value = LaunchConfiguration(name).perform(context)
        if kind is bool and value.lower() not in ("true", "false", ""):
            raise ValueError(f"{name} is {value!r}, but must be true, false or empty")
        if value:
            # A plain text would be read as YAML, and a checkpoint named 7 become a number.
            out[name] = value.lower() == "true" if kind is bool else ParameterValue(value, value_type=str)
    return out


def _is_true(context: LaunchContext, name: str) -> bool:
    value = LaunchConfiguration(name).perform(context)
    if value.lower() not in ("true", "false"):
        raise ValueError(f"{name} is {value!r}, but must be true or false")
    return value.lower() == "true"


def _unless_empty(parameters: dict[str, Parameter]) -> list[dict[str, Parameter]]:
    # launch_ros writes a file for each dict: none for one that would say nothing.
    return [parameters] if parameters else []


def _share(*parts: str) -> PathJoinSubstitution:
    return PathJoinSubstitution([FindPackageShare("depth_sr_ros"), *parts])
