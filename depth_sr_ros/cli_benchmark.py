# SPDX-License-Identifier: Apache-2.0
"""`depth-sr benchmark`: the engine in every way that it can run, the runtimes of the U-Net, or the node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from depth_sr_ros.cli_options import Checkpoint, Device, JsonFile
from depth_sr_ros.config import GUIDE_SIDE, GUIDE_SIDES
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.image_size import DEFAULT_SIZES, sizes_of
from depth_sr_ros.ros_installation import need_rclpy


def benchmark(
    node: Annotated[
        bool,
        typer.Option("--node", help="Measure the node (needs ROS 2), its engine one that costs nothing."),
    ] = False,
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="Sizes of RGB and depth, as 640x480+160x120; repeat it for more. Default: that and "
            "1280x720+320x180."
        ),
    ] = None,
    rate: Annotated[
        float, typer.Option(help="Of the camera with --node: frames per second, 1 to 240.")
    ] = 15.0,
    frames: Annotated[
        int | None,
        typer.Option(help="Frames per run, from 2; default 150 with --node (three runs per size), else 30."),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(help="CPU threads of the network; repeat it for more. Default: one, and all cores."),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="edge, fast, challenge or all; repeat it for more. Default: edge."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="float32, bfloat16 or float16; repeat it for more. Default: those that the engine would try."
        ),
    ] = None,
    guide_path: Annotated[
        str | None,
        typer.Option(
            help="Folder of Depth Anything for fast and challenge, or `untrained`: one of its size, for its "
            "time. Default: their U-Nets alone."
        ),
    ] = None,
    guide_size: Annotated[
        int | None,
        typer.Option(
            help="Short side in pixels of the image that the guide of --guide-path sees, as the node's "
            f"guide.size: {GUIDE_SIDES[0]} to {GUIDE_SIDES[1]}. Default: {GUIDE_SIDE}."
        ),
    ] = None,
    depth_anything: Annotated[
        list[int] | None,
        typer.Option(
            help="Also time Depth Anything Small alone, untrained, with this short side, such as 518; repeat "
            "it for more."
        ),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Also time torch.compile: a minute or more to start, for each network, size and precision.",
        ),
    ] = False,
    runtimes: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare these instead, in turn: torch, compile (torch.compile: minutes to start), native, "
            "onnxruntime, openvino; repeat it for more."
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    picture: Annotated[Path | None, typer.Option(help="Also draw the times and the floors (.png).")] = None,
    json: JsonFile = None,
) -> None:
    """Measure networks in every way to run them, filters beside them, and how near the machine's limits they
    come; with --node what the node costs."""
    from rich.console import Console

    pairs = [sizes_of(text) for text in size] if size else list(DEFAULT_SIZES)
    only_engine = {
        "--precision": precision,
        "--guide-path": guide_path,
        "--guide-size": guide_size,
        "--depth-anything": depth_anything,
        "--compile": compiled,
        "--picture": picture,
    }
    for name, value in only_engine.items():
        if value not in (None, []) and value is not False and (node or runtimes):
            raise ConfigError(
                f"{name} has no meaning with {'--node' if node else '--runtimes'}: leave one out"
            )
    if json is not None:
        # before anything is measured, which takes minutes
        from depth_sr_ros.depth_io import check_writable

        check_writable(json)
    if node:
        need_rclpy("the node's benchmark")
        from depth_sr_ros.ros.node_benchmark import run_benchmark

        sys.exit(run_benchmark(pairs, rate, 150 if frames is None else frames, json, Console()))

    count = 30 if frames is None else frames
    variants = variant or ["edge"]
    if runtimes:
        from depth_sr_ros.runtime_benchmark import run_runtime_benchmark

        if len(variants) > 1:
            raise ConfigError(f"--runtimes takes one variant, not {', '.join(variants)}")
        only = variants[0]
        run_runtime_benchmark(checkpoint, only, runtimes, pairs, threads or [1], count, json, Console())
        return
    from depth_sr_ros.benchmark import Settings, run_engine_benchmark

    settings = Settings(
        pairs,
        threads or (),
        count,
        variants,
        checkpoint,
        guide_path,
        precision or (),
        depth_anything or (),
        device,
        guide_size,
        compiled,
    )
    run_engine_benchmark(settings, json, picture, Console())
