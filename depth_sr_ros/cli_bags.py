# SPDX-License-Identifier: Apache-2.0
"""The commands `play`, `record` and `simulate` of `depth-sr`: rosbag2 files without the ros2 command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from depth_sr_ros.ros_installation import need_rclpy

Bag = Annotated[Path, typer.Argument(help="rosbag2 recording: its folder, or its .mcap or .db3 file.")]
Topics = Annotated[
    list[str] | None, typer.Option(help="Topics, with commas between them; or repeat the option.")
]
Storage = Annotated[str, typer.Option(help="mcap or sqlite3.")]
Compress = Annotated[str, typer.Option(help="none or zstd.")]


def play(
    bag: Bag,
    rate: Annotated[float, typer.Option(help="Speed: 1 is the recording's own.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Start again at the end, until Ctrl-C.")] = False,
    start: Annotated[float, typer.Option(help="Seconds of the recording to leave out.")] = 0.0,
    topics: Topics = None,
    clock: Annotated[
        bool, typer.Option("--clock", help="Publish the recording's time on /clock, 100 times a second.")
    ] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Start paused.")] = False,
    wait_for_subscribers: Annotated[
        float, typer.Option(help="Seconds to wait, at most, until each topic has a subscriber.")
    ] = 3.0,
) -> None:
    """Publish what a rosbag2 file holds, as `ros2 bag play` does (needs ROS 2).

    Space pauses and goes on, and so does the signal SIGUSR1; Ctrl-C ends it. Publishers are reliable, and
    keep messages for late subscribers where the recorded ones did (/tf_static).
    """
    need_rclpy("playing a bag")
    from rich.console import Console

    from depth_sr_ros.ros.bag_player import PlaySettings, play_bag

    names = _names(topics)
    play_bag(
        PlaySettings(bag, rate, loop, start, names, clock, pause, wait_for_subscribers),
        Console(stderr=True, highlight=False),
    )


def record(
    out: Annotated[Path, typer.Option(help="Folder to make; it must not exist.")],
    topics: Topics = None,
    all_topics: Annotated[bool, typer.Option("--all", help="Every topic that is not hidden.")] = False,
    duration: Annotated[float | None, typer.Option(help="Seconds; default: until Ctrl-C.")] = None,
    storage: Storage = "mcap",
    compress: Compress = "none",
) -> None:
    """Write topics into a rosbag2 file, as `ros2 bag record` does (needs ROS 2).

    Topics may appear later. The file is whole after Ctrl-C; exit code 1 where no message came.
    """
    need_rclpy("recording a bag")
    from rich.console import Console

    from depth_sr_ros.ros.bag_recorder import RecordSettings, record_bag

    settings = RecordSettings(out, _names(topics), all_topics, duration, storage, compress)
    count = record_bag(settings, Console(stderr=True, highlight=False))
    typer.echo(f"{out}: {count} messages")
    sys.exit(0 if count else 1)


def simulate(
    bag: Bag,
    out: Annotated[Path, typer.Argument(help="Folder of the new recording; it must not exist.")],
    profile: Annotated[
        str,
        typer.Option(help="tof, stereo, dtof, lidar, noisy, clean, ... (docs/degradation.md)."),
    ],
    scale: Annotated[int, typer.Option(help="By how much the depth shrinks: 2, 4, 8 or 16.")] = 4,
    depth: Annotated[
        str | None, typer.Option(help="Topic of the depth images; default: the only one.")
    ] = None,
    rgb: Annotated[
        str | None,
        typer.Option(help="Topic of the RGB images, whose darkness some sensors see; default: the only one."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    keep_original: Annotated[
        bool, typer.Option("--keep-original", help="Keep the depth as it was, on <topic>_reference.")
    ] = False,
    storage: Storage = "mcap",
    compress: Compress = "none",
) -> None:
    """Make a bag's depth what a coarse, noisy sensor would have measured; everything else stays as it is."""
    from rich.progress import Progress

    from depth_sr_ros.bag import BagReader
    from depth_sr_ros.bag_simulation import SimulationSettings, simulate_bag

    settings = SimulationSettings(
        bag, out, profile, scale, depth, rgb, seed, keep_original, storage, compress
    )
    with BagReader(bag) as reader:
        total = reader.message_count
    with Progress(transient=True) as progress:
        task = progress.add_task("simulating", total=total)
        result = simulate_bag(settings, lambda: progress.advance(task))
    width, height = result.size
    typer.echo(f"{out}: {result.frames} frames of {width}x{height} on {result.depth_topic}")
    if result.info_topic is None:
        typer.echo(f"{result.depth_topic} has no CameraInfo of its own beside it: none was resized")
    else:
        typer.echo(f"resized the CameraInfo on {result.info_topic}")
    for reason, count in result.problems.most_common():
        typer.echo(f"left out {count} depth frames: {reason}", err=True)


def _names(topics: list[str] | None) -> tuple[str, ...]:
    return tuple(name for text in topics or () for name in text.replace(",", " ").split())
