# SPDX-License-Identifier: Apache-2.0
"""sr.launch.py against the real launch_ros: the processes that it starts, and the node that comes up."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

# The repository's folder launch/ looks like a package of that name, so a module inside it is asked for.
if not all(
    importlib.util.find_spec(name) for name in ("launch", "launch_ros")
) or not importlib.util.find_spec("launch.actions"):
    pytest.skip(
        "launch and launch_ros are not installed: source a ROS 2 distribution", allow_module_level=True
    )

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from ros_helpers import START_TIMEOUT_S, Listener, PythonProcess

from depth_sr_ros.parameters import BY_NAME

pytestmark = pytest.mark.alone

ARGUMENTS = {
    "params_file",
    "rgb_topic",
    "rgb_info_topic",
    "depth_topic",
    "depth_info_topic",
    "namespace",
    "node_name",
    "variant",
    "checkpoint",
    "device",
    "use_sim_time",
    "autostart",
    "respawn",
    "log_level",
    "rviz",
    "dds_profile",
}
TOPICS = ("rgb/image", "rgb/camera_info", "depth/image", "depth/camera_info")

# As a user's launch file includes ours: in one group for each include, or (bare) in none.
PARENT = """
import json
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import GroupAction, IncludeLaunchDescription, OpaqueFunction, SetLaunchConfiguration
from launch.launch_description_sources import PythonLaunchDescriptionSource

file, bare, *includes = sys.argv[1:]
source = PythonLaunchDescriptionSource(file)
included = [
    IncludeLaunchDescription(source, launch_arguments=json.loads(arguments).items()) for arguments in includes
]
actions = included if bare == "bare" else [GroupAction([include]) for include in included]
left = OpaqueFunction(function=lambda context: print("left:", *sorted(context.launch_configurations)))
# A node on a busy machine may need longer to end than the 5 s after which launch sends it the next signal.
patience = [SetLaunchConfiguration(name, "30") for name in ("sigterm_timeout", "sigkill_timeout")]
service = LaunchService()
service.include_launch_description(LaunchDescription([*actions, left, *patience]))
sys.exit(service.run())
"""

NODE_EXECUTABLE = '#!/bin/sh\nexec "{python}" -m depth_sr_ros.ros.main "$@"\n'

# Stands in for an executable: notes how it was started, and ends.
RECORDER = """#!{python} -IS
import json, os, sys
files = [open(after).read() for word, after in zip(sys.argv, sys.argv[1:]) if word == "--params-file"]
record = {{"argv": sys.argv, "environment": dict(os.environ), "files": files}}
print("started " + json.dumps(record), file=open({log!r}, "a"))
"""


@dataclass
class Started:
    """A process that launch has started: its ROS arguments, taken apart, and its environment."""

    program: str
    name: str = ""
    namespace: str = "/"
    arguments: list[str] = field(default_factory=list)
    remappings: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    log_level: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Started:
        program, *words = record["argv"]
        out = cls(Path(program).name, environment=record["environment"])
        rules = [after for word, after in zip(words, words[1:], strict=False) if word == "-r"]
        for source, target in (rule.split(":=", 1) for rule in rules):
            out.remappings[source] = target
        out.name = out.remappings.pop("__node", "")
        out.namespace = out.remappings.pop("__ns", "/")
        out.arguments = words[: words.index("--ros-args")]
        if "--log-level" in words:
            out.log_level = words[words.index("--log-level") + 1]
        # As rcl applies them: a later file wins.
        full_name = f"{out.namespace.rstrip('/')}/{out.name}"
        for text in record["files"]:
            for node, content in yaml.safe_load(text).items():
                assert node in ("/**", full_name)
                out.parameters |= content["ros__parameters"]
        return out


@pytest.fixture
def launch_file(repo_root: Path) -> Path:
    return repo_root / "launch" / "sr.launch.py"


@pytest.fixture
def prefix(tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ament prefix with the package as an installation lays it out, its executable run by this Python."""
    for package in ("depth_sr_ros", "rviz2"):
        marker = tmp_path / "share/ament_index/resource_index/packages" / package
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    share = tmp_path / "share" / "depth_sr_ros"
    share.mkdir()
    for folder in ("config", "rviz"):
        (share / folder).symlink_to(repo_root / folder)
    install(tmp_path, "depth_sr_ros", "depth_sr_node", NODE_EXECUTABLE.format(python=sys.executable))
    others = os.environ.get("AMENT_PREFIX_PATH", sys.prefix)
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join([str(tmp_path), others]))
    return tmp_path


def install(prefix: Path, package: str, name: str, text: str) -> None:
    executable = prefix / "lib" / package / name
    executable.parent.mkdir(parents=True, exist_ok=True)
    executable.write_text(text)
    executable.chmod(0o755)


def parent(
    prefix: Path, launch_file: Path, *includes: dict[str, str], bare: bool = False
) -> list[str | Path]:
    """What the interpreter runs: a launch file that includes ours once for each set of arguments."""
    script = prefix / "parent.py"
    script.write_text(PARENT)
    return [script, launch_file, "bare" if bare else "grouped", *map(json.dumps, includes)]


@pytest.fixture
def start(prefix: Path, launch_file: Path) -> Any:
    """Includes our launch file once for each set of arguments; returns what it starts, and the output.

    The executables are stand-ins, which only note how they were started.
    """
    log = prefix / "started.log"
    recorder = RECORDER.format(python=sys.executable, log=str(log))
    install(prefix, "depth_sr_ros", "depth_sr_node", recorder)
    install(prefix, "rviz2", "rviz2", recorder)

    def run(*includes: dict[str, str], bare: bool = False) -> tuple[list[Started], str]:
        with PythonProcess(parent(prefix, launch_file, *(includes or ({},)), bare=bare)) as process:
            process.wait()
            output = process.output
        lines = log.read_text().splitlines() if log.exists() else []
        records = [json.loads(line.removeprefix("started ")) for line in lines]
        return sorted(
            map(Started.from_record, records), key=lambda item: (item.program, item.namespace)
        ), output

    return run


def interrupt(process: PythonProcess) -> None:
    """As Ctrl-C does: a terminal sends SIGINT to launch and to the nodes, which launch relies on."""
    for pid in re.findall(r"process started with pid \[(\d+)\]", process.output):
        os.kill(int(pid), signal.SIGINT)
    process.send(signal.SIGINT)


def only_node(started: list[Started]) -> Started:
    (node,) = started
    assert node.program == "depth_sr_node"
    return node


def test_every_argument_is_described_and_has_a_default(launch_file: Path) -> None:
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    # As `ros2 launch --show-args` finds them.
    arguments = get_launch_description_from_python_launch_file(str(launch_file)).get_launch_arguments()
    assert {argument.name for argument in arguments} == ARGUMENTS
    for argument in arguments:
        assert argument.default_value is not None
        assert len(argument.description) > 10


def test_without_arguments_the_node_gets_its_defaults_and_relative_topics(start: Any) -> None:
    started, _ = start()
    node = only_node(started)
    assert (node.name, node.namespace, node.log_level) == ("depth_sr", "/", "info")
    assert node.arguments == []
    assert node.parameters == {name: spec.default for name, spec in BY_NAME.items()}
    assert node.remappings == {topic: topic for topic in TOPICS}


def test_names_and_topics_go_to_the_node(start: Any) -> None:
    started, _ = start(
        {
            "namespace": "robot",
            "node_name": "upsampler",
            "rgb_topic": "/cam/rgb",
            "rgb_info_topic": "/cam/rgb_info",
            "depth_topic": "tof/depth",
            "depth_info_topic": "tof/info",
            "log_level": "depth_sr:=debug",
        }
    )
    node = only_node(started)
    assert (node.name, node.namespace, node.log_level) == ("upsampler", "/robot", "depth_sr:=debug")
    assert node.remappings == dict(
        zip(TOPICS, ("/cam/rgb", "/cam/rgb_info", "tof/depth", "tof/info"), strict=True)
    )


def test_arguments_replace_the_parameters_of_the_file_in_the_right_type(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    content = {"variant": "fast", "device": "cuda", "sync.max_wait": 0.5}
    file.write_text(yaml.dump({"/**": {"ros__parameters": content}}))
    given = {"device": "cpu", "checkpoint": "7", "autostart": "false", "use_sim_time": "True"}
    started, _ = start({"params_file": str(file), **given})
    changed = {"device": "cpu", "checkpoint": "7", "autostart": False, "use_sim_time": True}
    assert only_node(started).parameters == content | changed


def test_empty_arguments_keep_the_parameters_of_the_file(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    content = {
        "variant": "fast",
        "checkpoint": "a",
        "device": "cuda",
        "autostart": False,
        "use_sim_time": True,
    }
    file.write_text(yaml.dump({"/**": {"ros__parameters": content}}))
    started, _ = start({"params_file": str(file), **dict.fromkeys(content, "")})
    assert only_node(started).parameters == content


def test_a_shipped_parameter_file_is_found_by_its_name(start: Any, repo_root: Path) -> None:
    started, _ = start({"params_file": "lidar.yaml"})
    content = yaml.safe_load((repo_root / "config" / "lidar.yaml").read_text())
    assert only_node(started).parameters == content["/**"]["ros__parameters"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"params_file": "/nowhere/my.yaml"},
            "params_file is '/nowhere/my.yaml', which does not exist; "
            "shipped ones: azure_kinect.yaml, lidar.yaml, realsense_d435.yaml, sr.yaml, zed.yaml",
        ),
        ({"autostart": "maybe"}, "autostart is 'maybe', but must be true, false or empty"),
        ({"respawn": "yes"}, "respawn is 'yes', but must be true or false"),
        ({"use_sim_time": "1"}, "use_sim_time is '1', but must be true, false or empty"),
    ],
)
def test_a_wrong_argument_stops_the_launch_with_one_sentence(
    start: Any, arguments: dict[str, str], said: str
) -> None:
    started, output = start(arguments)
    assert said in output
    assert "Traceback" not in output
    assert output.count("[ERROR]") == 1
    assert started == []


def test_with_respawn_a_node_that_has_ended_is_started_again_until_the_launch_ends(
    launch_file: Path, prefix: Path
) -> None:
    log = prefix / "started.log"
    install(prefix, "depth_sr_ros", "depth_sr_node", RECORDER.format(python=sys.executable, log=str(log)))
    with PythonProcess(parent(prefix, launch_file, {"respawn": "true"})) as process:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not log.exists() or len(log.read_text().splitlines()) < 3:
            assert process.is_running and time.monotonic() < deadline, process.output
            time.sleep(0.1)
        process.send(signal.SIGINT)
        process.wait()
        assert "Traceback" not in process.output


def test_the_node_gets_an_allocator_that_is_fit_for_images_and_the_chosen_dds_profile(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "5")
    monkeypatch.delenv("DEPTH_SR_DDS_PROFILE", raising=False)
    started, _ = start({"namespace": "a"}, {"namespace": "b", "dds_profile": "off"})
    first, second = started
    assert first.environment["MALLOC_MMAP_THRESHOLD_"] == "1073741824"
    assert first.environment["MALLOC_TRIM_THRESHOLD_"] == "5"  # the user's own
    assert "DEPTH_SR_DDS_PROFILE" not in first.environment
    assert second.environment["DEPTH_SR_DDS_PROFILE"] == "off"


def test_rviz_starts_only_when_asked_for_and_shows_the_outputs_of_this_node(start: Any, prefix: Path) -> None:
    started, _ = start({"rviz": "true", "namespace": "robot", "node_name": "up", "use_sim_time": "true"})
    node, rviz = started
    assert (node.program, rviz.program) == ("depth_sr_node", "rviz2")
    assert rviz.arguments == ["-d", str(prefix / "share/depth_sr_ros/rviz/sr.rviz")]
    assert Path(rviz.arguments[1]).is_file()
    assert rviz.namespace == "/robot"
    # Relative targets: below /robot.
    assert rviz.remappings == {"/depth_sr/depth/color": "up/depth/color", "/depth_sr/points": "up/points"}
    assert rviz.parameters == {"use_sim_time": True}


def test_arguments_of_one_include_do_not_reach_the_next(start: Any) -> None:
    special = {
        "namespace": "ns1",
        "node_name": "first",
        "rgb_topic": "/cam1/rgb",
        "depth_info_topic": "/cam1/info",
        "params_file": "zed.yaml",
        "variant": "fast",
        "checkpoint": "a.safetensors",
        "device": "cuda:1",
        "use_sim_time": "true",
        "autostart": "false",
        "log_level": "debug",
        "rviz": "true",
        "dds_profile": "off",
    }
    started, output = start(special, {"namespace": "ns2"})
    first, second, rviz = started
    assert (rviz.program, rviz.namespace) == ("rviz2", "/ns1")
    assert (first.namespace, first.name, first.log_level) == ("/ns1", "first", "debug")
    assert (second.namespace, second.name, second.log_level) == ("/ns2", "depth_sr", "info")
    assert second.parameters == {name: spec.default for name, spec in BY_NAME.items()}
    assert second.remappings == {topic: topic for topic in TOPICS}
    assert "DEPTH_SR_DDS_PROFILE" not in second.environment
    assert "left:\n" in output.replace("left: \n", "left:\n")


def test_defaults_stay_inside_even_where_the_include_stands_in_no_group(start: Any) -> None:
    started, output = start({"namespace": "ns1"}, {"namespace": "ns2", "device": "cpu"}, bare=True)
    assert [node.namespace for node in started] == ["/ns1", "/ns2"]
    # What ROS's own include writes into the including file, and nothing of ours.
    assert "left: device namespace" in output


def test_the_node_runs_in_its_namespace_on_the_given_topics_and_ends_with_the_launch(
    launch_file: Path, prefix: Path
) -> None:
    arguments = {
        "namespace": "robot",
        "rgb_topic": "/cam/rgb",
        "depth_topic": "cam/depth",
        "variant": "edge",
        "device": "cpu",
    }
    listener = Listener(namespace="/robot", name="launch_listener")
    try:
        with PythonProcess(parent(prefix, launch_file, arguments)) as process:
            listener.wait_for_node(process)
            topics = ("/cam/rgb", "/robot/cam/depth", "/robot/rgb/camera_info", "/robot/depth/camera_info")
            listener.spin_until(
                lambda: all(map(listener.node.count_subscribers, topics)), START_TIMEOUT_S, process
            )
            listener.spin_until(lambda: listener.values.get("device") == "cpu", process=process)
            interrupt(process)
            assert process.wait() == 0, process.output
            assert "process has finished cleanly" in process.output, process.output
            assert "Traceback" not in process.output
    finally:
        listener.close()


def test_an_argument_wins_over_a_parameter_that_the_file_gives_to_this_very_node(
    launch_file: Path, prefix: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        yaml.dump({node: {"ros__parameters": {"autostart": True}} for node in ("/**", "/depth_sr")})
    )
    arguments = {"params_file": str(file), "autostart": "false"}
    listener = Listener(name="override_listener")
    try:
        with PythonProcess(parent(prefix, launch_file, arguments)) as process:
            listener.spin_until(lambda: listener.values, process=process)
            assert listener.values["state"] == "unconfigured"
            interrupt(process)
            assert process.wait() == 0, process.output
    finally:
        listener.close()


def test_two_cameras_run_side_by_side(launch_file: Path, prefix: Path) -> None:
    arguments = [
        {"namespace": name, "rgb_topic": f"/cam{name}/rgb", "device": "cpu"} for name in ("ns1", "ns2")
    ]
    listeners = [Listener(namespace=f"/{name}", name=f"{name}_listener") for name in ("ns1", "ns2")]
    try:
        with PythonProcess(parent(prefix, launch_file, *arguments)) as process:
            for listener, name in zip(listeners, ("ns1", "ns2"), strict=True):
                listener.wait_for_node(process)
                topics = (f"/cam{name}/rgb", f"/{name}/depth/image")
                listener.spin_until(
                    lambda node=listener.node, topics=topics: all(map(node.count_subscribers, topics)),
                    START_TIMEOUT_S,
                    process,
                )
            interrupt(process)
            assert process.wait() == 0, process.output
            assert process.output.count("process has finished cleanly") == 2, process.output
            assert "Traceback" not in process.output
    finally:
        for listener in listeners:
            listener.close()


def test_an_argument_that_is_wrong_ends_the_launched_node_with_one_sentence(
    launch_file: Path, prefix: Path
) -> None:
    with PythonProcess(parent(prefix, launch_file, {"variant": "edgy"})) as process:
        process.wait()
        assert "must be one of challenge, fast, edge; did you mean 'edge'?" in process.output
        assert "exit code 1" in process.output
        assert "Traceback" not in process.output
