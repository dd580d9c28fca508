# SPDX-License-Identifier: Apache-2.0
"""Plays a bag into the depth_sr node, records what comes out, and reports: how well, how fast, what was lost.

The exit code is 1 where a threshold (max_rmse, min_rate) is missed, so that it can gate a robot's CI.
"""

import shutil
import signal
from pathlib import Path

import yaml
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import matches_action
from launch.events.process import ProcessExited, ProcessIO, SignalProcess
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

READY = b"ready: "  # the node's last word before it listens
DISCOVERY_S = 3.0  # before the first message: until then the recorder and the node may not know the player
LAST_ANSWER_S = 2.0  # after the last message: the answer to it is still to come

# Of this file; all arguments of sr.launch.py can be given as well.
ARGUMENTS = {
    "bag": (None, "rosbag2 recording to play"),
    "out": ("replay", "folder to make, for the report and the recording of what came out"),
    "rate": ("1.0", "speed: 1 is the recording's own"),
    "loop": ("1", "rounds: how often the recording is played"),
    "reference": ("", "topic of depth in the bag to score against; empty: a report without scores"),
    "max_rmse": ("", "exit code 1 where RMSE is above this, m"),
    "min_rate": ("", "exit code 1 where the answers come at a lower rate, Hz"),
    "player": ("auto", "ros2 (ros2 bag play), depth-sr (depth-sr play), or auto: ros2 where it is installed"),
    "rgb_topic": ("rgb/image", "as in sr.launch.py"),
    "rgb_info_topic": ("rgb/camera_info", "as in sr.launch.py"),
    "depth_topic": ("depth/image", "as in sr.launch.py"),
    "rgb_transport": ("raw", "raw or compressed; params_file has to set input.rgb_transport to the same"),
    "depth_transport": ("raw", "raw, compressed or compressedDepth; likewise input.depth_transport"),
    "namespace": ("", "as in sr.launch.py"),
    "node_name": ("depth_sr", "as in sr.launch.py"),
    "log_level": ("info", "debug or info: the node's log says when to begin"),
}


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    node = PythonLaunchDescriptionSource(
        PathJoinSubstitution([FindPackageShare("depth_sr_ros"), "launch", "sr.launch.py"])
    )
    include = IncludeLaunchDescription(node, launch_arguments={"use_sim_time": "true"}.items())
    # Before the node: the handlers have to see its first words.
    return LaunchDescription([*declared, OpaqueFunction(function=_replay), include])


def _replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    rounds, out = _checked(values), Path(values["out"])
    out.mkdir(parents=True)
    recording = out / "recording"
    topics = _topics(values)
    depth_sr = ExecutableInPackage("depth-sr", "depth_sr_ros")
    record = _process([depth_sr, "record", "--out", str(recording), "--topics", ",".join(topics.values())])
    evaluate = _process([depth_sr, "evaluate", *_evaluation(values, topics, recording, out)])
    started: list[ExecuteProcess] = []

    def play() -> list[LaunchDescriptionEntity]:
        started.append(_process(_player(values, topics, out)))
        return [RegisterEventHandler(OnProcessExit(target_action=started[-1], on_exit=played)), started[-1]]

    def on_output(event: ProcessIO) -> list[LaunchDescriptionEntity] | None:
        return play() if READY in event.text and not started else None

    def played(event: ProcessExited, _: LaunchContext) -> list[LaunchDescriptionEntity]:
        if event.returncode:
            raise RuntimeError(f"playing {values['bag']} ended with exit code {event.returncode}")
        if len(started) < rounds:
            return play()
        stop = SignalProcess(signal_number=signal.SIGINT, process_matcher=matches_action(record))
        return [TimerAction(period=LAST_ANSWER_S, actions=[EmitEvent(event=stop)])]

    def ended(event: ProcessExited, context: LaunchContext) -> None:
        # Without the node nothing ends the recording. After the evaluation it is launch that ends the node.
        if not context.is_shutdown:
            raise RuntimeError(
                f"the node ended with exit code {event.returncode} before the evaluation was done: see above"
            )

    def evaluated(event: ProcessExited, _: LaunchContext) -> list[LaunchDescriptionEntity]:
        if event.returncode:  # launch's own exit code is 1 after an exception, and 0 otherwise
            raise RuntimeError(f"the evaluation ended with exit code {event.returncode}: see above")
        return [Shutdown(reason=f"the report is {out / 'report.html'}")]

    return [
        RegisterEventHandler(OnProcessIO(target_action=_is_node, on_stdout=on_output, on_stderr=on_output)),
        RegisterEventHandler(OnProcessExit(target_action=_is_node, on_exit=ended)),
        RegisterEventHandler(OnProcessExit(target_action=record, on_exit=[evaluate])),
        RegisterEventHandler(OnProcessExit(target_action=evaluate, on_exit=evaluated)),
        record,
    ]


def _is_node(action: Action) -> bool:
    """Whether a process is the one that sr.launch.py starts."""
    return isinstance(action, Node) and action.node_executable == "depth_sr_node"


def _checked(values: dict[str, str]) -> int:
    """The number of rounds. Raises what launch prints, where an argument makes no sense."""
    if not Path(values["bag"]).exists():
        raise FileNotFoundError(f"bag is {values['bag']!r}, which does not exist")
    if Path(values["out"]).exists():
        raise FileExistsError(f"out is {values['out']!r}, which exists: name another folder")
    if values["player"] not in ("auto", "ros2", "depth-sr"):
        raise ValueError(f"player is {values['player']!r}, but must be auto, ros2 or depth-sr")
    if not values["loop"].isdigit() or int(values["loop"]) < 1:
        raise ValueError(f"loop is {values['loop']!r}, but must be a number of rounds, 1 or more")
    if values["max_rmse"] and not values["reference"]:
        raise ValueError("max_rmse needs something to score against: name a reference topic")
    # Also of one logger: name:=level.
    if values["log_level"].rpartition(":=")[2].lower() not in ("debug", "info"):
        raise ValueError(
            f"log_level is {values['log_level']!r}, but must be debug or info: playing begins at the node's "
            f"line '{READY.decode().strip()} ...'"
        )
    return int(values["loop"])


def _topics(values: dict[str, str]) -> dict[str, str]:
    """Full names of what is recorded."""
    namespace = "/" + values["namespace"].strip("/")

    def full(name: str) -> str:
        return name if name.startswith("/") else f"{namespace.rstrip('/')}/{name}"

    names = {"info": values["rgb_info_topic"]}
    for kind in ("rgb", "depth"):
        transport = values[f"{kind}_transport"]
        names[kind] = values[f"{kind}_topic"] + ("" if transport == "raw" else f"/{transport}")
    names["answers"] = f"{values['node_name']}/depth/image"
    if values["reference"]:
        names["reference"] = values["reference"]
    return {kind: full(name) for kind, name in names.items()}


def _player(values: dict[str, str], topics: dict[str, str], out: Path) -> list[object]:
    player = values["player"]
    if player == "auto":
        player = "ros2" if shutil.which("ros2") else "depth-sr"
    if player == "depth-sr":
        play = [ExecutableInPackage("depth-sr", "depth_sr_ros"), "play", values["bag"], "--clock"]
        return [*play, "--rate", values["rate"]]
    # A best-effort publisher may lose images, and the report would blame the node.
    profile = {"reliability": "reliable", "history": "keep_last", "depth": 30, "durability": "volatile"}
    overrides = out / "qos_overrides.yaml"
    overrides.write_text(yaml.safe_dump({topics[kind]: profile for kind in topics if kind != "answers"}))
    play = ["ros2", "bag", "play", values["bag"], "--clock", "100", "--rate", values["rate"]]
    return [*play, "--delay", str(DISCOVERY_S), "--qos-profile-overrides-path", str(overrides)]


def _evaluation(values: dict[str, str], topics: dict[str, str], recording: Path, out: Path) -> list[str]:
    words = [str(recording), "--out", str(out), "--rgb", topics["rgb"], "--depth", topics["depth"]]
    words += ["--answers", topics["answers"]]
    for name, option in (("reference", topics.get("reference")), ("max_rmse", values["max_rmse"])):
        words += [f"--{name.replace('_', '-')}", option] if option else []
    return [*words, "--min-rate", values["min_rate"]] if values["min_rate"] else words


def _process(words: list[object]) -> ExecuteProcess:
    # A recorder needs a moment to close its file; launch would send it the next signal after 5 s.
    return ExecuteProcess(cmd=words, output="screen", sigterm_timeout="30", sigkill_timeout="30")
