# SPDX-License-Identifier: Apache-2.0
"""Starts the depth_sr node with its parameters, its topics and a process that is fit for images."""

import os

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# glibc would unmap every freed image and have the kernel clear its pages again; the user's own values win.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "4294967295"}

# Arguments that replace the parameter of their name, where they are not empty.
PARAMETERS = ("checkpoint", "variant", "device")


def generate_launch_description() -> LaunchDescription:
    params_file = PathJoinSubstitution([FindPackageShare("depth_sr_ros"), "config", "sr.yaml"])
    return LaunchDescription(
        [
            _argument("params_file", params_file, "YAML file of the node's parameters"),
            _argument("rgb_topic", "rgb/image", "RGB image, sensor_msgs/Image"),
            _argument("rgb_info_topic", "rgb/camera_info", "CameraInfo of the RGB image"),
            _argument(
                "depth_topic", "depth/image", "depth image in the view of the RGB camera, sensor_msgs/Image"
            ),
            _argument("namespace", "", "namespace of the node and of relative topics"),
            _argument("checkpoint", "", "weights (.safetensors); empty: params_file's"),
            _argument("variant", "", "edge, fast or challenge; empty: params_file's"),
            _argument("device", "", "auto, cpu, cuda or cuda:N; empty: params_file's"),
            _argument("use_sim_time", "false", "true: time comes from /clock, as with ros2 bag play --clock"),
            _argument("log_level", "info", "debug, info, warn, error or fatal"),
            _argument(
                "dds_profile",
                "",
                "Fast DDS profile (XML); empty: the shipped one, with shared memory for images; off: none",
            ),
            OpaqueFunction(function=_node),
        ]
    )


def _argument(name: str, default: object, description: str) -> DeclareLaunchArgument:
    return DeclareLaunchArgument(name, default_value=default, description=description)


def _node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
    # As text: a checkpoint named 7 would become a number.
    overrides = {name: ParameterValue(value, value_type=str) for name, value in given.items() if value}
    sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    environment = {name: value for name, value in ALLOCATOR.items() if name not in os.environ}
    profile = LaunchConfiguration("dds_profile").perform(context)
    if profile:
        environment["DEPTH_SR_DDS_PROFILE"] = profile  # the node sets the rest, see depth_sr_ros/ros/dds.py
    return [
        Node(
            package="depth_sr_ros",
            executable="depth_sr_node",
            name="depth_sr",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), {**overrides, "use_sim_time": sim_time}],
            remappings=[
                ("rgb/image", LaunchConfiguration("rgb_topic")),
                ("rgb/camera_info", LaunchConfiguration("rgb_info_topic")),
                ("depth/image", LaunchConfiguration("depth_topic")),
            ],
            additional_env=environment,
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            output="screen",
            emulate_tty=True,
        )
    ]
