# SPDX-License-Identifier: Apache-2.0
"""`depth-sr doctor`: what is wrong with a camera setup, from a recording or from live topics."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_sr_ros.cli_options import JsonFile
from depth_sr_ros.errors import DataError

if TYPE_CHECKING:
    from depth_sr_ros.doctor.samples import Samples

LIVE = "live"


def doctor(
    source: Annotated[
        str,
        typer.Argument(help="A rosbag2 recording (folder, .mcap or .db3), or 'live': the running topics."),
    ],
    rgb: Annotated[str | None, typer.Option(help="Topic of the RGB images; default: the likeliest.")] = None,
    depth: Annotated[
        str | None, typer.Option(help="Topic of the depth images; default: the likeliest.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="live: how long to listen, 1 to 600.")] = 5.0,
    frames: Annotated[
        int,
        typer.Option(
            help="Recording: images read of each stream, from 10; of a long one start, middle, end."
        ),
    ] = 300,
    register: Annotated[
        bool, typer.Option("--register", help="The node runs with register: true, so the views may differ.")
    ] = False,
    json: JsonFile = None,
) -> None:
    """Say in words what is wrong with a camera setup: topics, clocks, units, alignment, QoS, losses.

    Exit code 0: no problem; 1: a problem; 2: the recording is missing or damaged, or an option is wrong.
    """
    from rich.console import Console

    from depth_sr_ros.depth_io import check_writable
    from depth_sr_ros.doctor.checks import examine

    if json is not None:
        check_writable(json)
    samples = _listen(seconds, rgb, depth) if source == LIVE else _read(Path(source), rgb, depth, frames)
    samples.register = register
    report = examine(samples)
    report.print_to(Console())
    if json is not None:
        report.write_json(json)
    if report.damage:
        typer.echo(f"error: {report.damage}", err=True)
    sys.exit(report.exit_code)


def _read(bag: Path, rgb: str | None, depth: str | None, frames: int) -> Samples:
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from depth_sr_ros.doctor.bag_source import sample_bag

    with Progress(TextColumn("{task.completed} images read"), TimeElapsedColumn(), transient=True) as bar:
        task = bar.add_task("images", total=None)
        return sample_bag(bag, rgb, depth, frames, lambda: bar.advance(task))


def _listen(seconds: float, rgb: str | None, depth: str | None) -> Samples:
    from rich.progress import BarColumn, Progress, TimeElapsedColumn

    try:
        from depth_sr_ros.ros.doctor_live import sample_topics
    except ModuleNotFoundError as error:
        raise DataError(
            f"the live doctor needs rclpy and sensor_msgs ({error}): source a ROS 2 distribution, or pip "
            "install 'depth_sr_ros[ros]'"
        ) from error
    with Progress(BarColumn(), TimeElapsedColumn(), transient=True) as bar:
        bar.console.print("looking for topics with images")
        task = bar.add_task("listening", total=seconds)
        return sample_topics(
            seconds,
            rgb,
            depth,
            lambda topics: bar.console.print(f"listening to {' and '.join(topics)}", markup=False),
            lambda done: bar.update(task, completed=done),
        )
