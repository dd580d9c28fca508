# SPDX-License-Identifier: Apache-2.0
"""The `depth-sr` command line: super-resolve image files without ROS, say what is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from depth_sr_ros import cli_bags
from depth_sr_ros.cli_benchmark import benchmark
from depth_sr_ros.cli_doctor import doctor
from depth_sr_ros.cli_evaluate import evaluate
from depth_sr_ros.cli_export import export
from depth_sr_ros.cli_options import Checkpoint, Device, JsonFile, Threads, Variant
from depth_sr_ros.errors import DataError, DepthSRError
from depth_sr_ros.ros_installation import need_rclpy

# torch and OpenCV take seconds to import: each command imports what it needs, so that --help is immediate

app = typer.Typer(
    name="depth-sr",
    help="Super-resolve and denoise depth images with the RGB image of the same view.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (evaluate, benchmark, doctor, export, cli_bags.play, cli_bags.record, cli_bags.simulate):
    app.command()(command)


@app.command()
def upsample(
    rgb: Annotated[Path, typer.Option(help="Colour picture.")],
    depth: Annotated[Path, typer.Option(help="Low-resolution depth: 16-bit .png (mm), .npy or .exr (m).")],
    out: Annotated[Path, typer.Option(help="Depth to write: .png (mm), .npy or .exr (m).")],
    colour: Annotated[Path | None, typer.Option(help="Also write a colour picture of the result.")] = None,
    checkpoint: Checkpoint = None,
    variant: Variant = "edge",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Super-resolve one depth image to the size of its RGB image."""
    import numpy as np

    from depth_sr_ros import depth_io
    from depth_sr_ros.colorize import colorize

    # everything that can be wrong with the files is said before the network loads
    depth_io.check_depth_suffix(out)
    depth_io.check_writable(out)
    if colour is not None:
        depth_io.check_picture_suffix(colour)
        depth_io.check_writable(colour)
    picture, low = depth_io.read_rgb(rgb), depth_io.read_depth(depth)
    if not np.isfinite(low).any():
        raise DataError(f"{depth}: no pixel holds a measurement, so there is nothing to upsample")

    from depth_sr_ros.engine import DepthSuperResolver

    resolver = DepthSuperResolver(checkpoint, variant=variant, device=device, threads=threads)
    result = resolver(picture, low)
    depth_io.write_depth(out, result)
    if colour is not None:
        depth_io.write_rgb(colour, colorize(result))
    height, width = result.shape
    typer.echo(f"{out}: {low.shape[1]}x{low.shape[0]} -> {width}x{height}, {resolver.description}")


@app.command()
def info(
    checkpoint: Checkpoint = None, variant: Variant = "edge", device: Device = "auto", threads: Threads = None
) -> None:
    """Say which device and weights would be used, and what the weights' header holds."""
    import json

    from depth_sr_ros.engine import DepthSuperResolver

    resolver = DepthSuperResolver(checkpoint, variant=variant, device=device, threads=threads)
    typer.echo(resolver.description)
    typer.echo(json.dumps(resolver.info, indent=1, default=str))


@app.command("fetch-guide")
def fetch_guide(
    out: Annotated[Path, typer.Option(help="Folder to make; the node's guide.path then names it.")],
    model: Annotated[
        str, typer.Option(help="v2-small or v1-small: Depth Anything, both Apache-2.0.")
    ] = "v2-small",
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A hub cache copied from a machine with a network; default: download."),
    ] = None,
) -> None:
    """Fetch Depth Anything's weights (99 MB, a pinned revision) for the variants `fast` and `challenge`.

    Nothing else in this package downloads: the node loads what lies in the folder.
    """
    from depth_sr_ros.models.guide_files import fetch_guide as fetch

    taken = fetch(model, out, source)
    typer.echo(f"{out}: {taken.repository}, revision {taken.revision[:12]}, {taken.licence}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture, the numbers and the logs.")] = Path(
        "out/demo"
    ),
    rate: Annotated[float, typer.Option(help="Frames per second, 1 to 60.")] = 15.0,
    frames: Annotated[int | None, typer.Option(help="How many frames to play; default: all.")] = None,
) -> None:
    """Play a shipped sequence through the live node (needs ROS 2) and score what comes back."""
    from depth_sr_ros.demo import run_demo

    sys.exit(run_demo(out, rate, frames))


@app.command()
def soak(
    minutes: Annotated[
        float, typer.Option(help="How long, from 0.1; memory is judged from 5 minutes on.")
    ] = 10.0,
    rate: Annotated[float, typer.Option(help="Frames per second, 1 to 240.")] = 30.0,
    rgb_size: Annotated[str, typer.Option(help="Width and height of the RGB images.")] = "640x480",
    depth_size: Annotated[str, typer.Option(help="Width and height of the depth images.")] = "160x120",
    variant: Variant = "edge",
    json: JsonFile = None,
) -> None:
    """Run the live node for minutes (needs ROS 2): frames accounted for, memory steady, else exit code 1."""
    from depth_sr_ros.depth_io import check_writable

    if json is not None:
        check_writable(json)
    need_rclpy("the soak")
    from rich.console import Console

    from depth_sr_ros.image_size import size_of
    from depth_sr_ros.ros.soak import run_soak
    from depth_sr_ros.ros.soak_report import Settings

    settings = Settings(minutes, rate, size_of(rgb_size), size_of(depth_size), variant)
    sys.exit(run_soak(settings, json, Console()))


@app.command()
def version() -> None:
    """Print the version of the package."""
    import depth_sr_ros

    typer.echo(depth_sr_ros.__version__)


def main() -> None:
    """Entry point: bad input is one sentence on stderr and exit code 2, never a traceback."""
    try:
        app()
    except DepthSRError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
