# SPDX-License-Identifier: Apache-2.0
"""Renders the sequence that ships for `make demo`: python training/make_demo_bag.py --out FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.degradation import degrade
from depth_sr_ros.demo_sequence import SequenceFrame, write_sequence
from depth_sr_ros.depth_io import to_millimetres
from depth_sr_ros.errors import DepthSRError
from training.data.procedural_sequence import Sequence

WIDTH, HEIGHT = 640, 480
RATE_HZ = 15
SCALE = 4
PROFILE = "noisy"


def render(sequence: Sequence, seed: int) -> Iterator[SequenceFrame]:
    """The frames with their depth as a coarse, noisy sensor would see it; `seed` draws the noise."""
    rng = np.random.default_rng(seed)
    for index, (rgb, depth) in enumerate(track(sequence, description="rendering", total=len(sequence))):
        coarse = degrade(depth, SCALE, PROFILE, rng)
        stamp_ns = index * 10**9 // RATE_HZ
        yield SequenceFrame(stamp_ns, rgb, to_millimetres(coarse), to_millimetres(depth))


def main(
    out: Annotated[Path, typer.Option(help="Folder of the bag; must not exist.")],
    frames: Annotated[int, typer.Option(help="Number of frames, 15 a second.", min=2)] = 45,
    seed: Annotated[int, typer.Option(help="Of the room and of the noise.")] = 7,
) -> None:
    """Render a camera's way through a procedural room and write it as a rosbag2."""
    sequence = Sequence(seed, frames, HEIGHT, WIDTH)
    camera = sequence.intrinsics
    intrinsics = PinholeCamera(WIDTH, HEIGHT, camera.fx, camera.fy, camera.cx, camera.cy)
    try:
        write_sequence(out, list(render(sequence, seed)), intrinsics)
    except DepthSRError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    size = sum(path.stat().st_size for path in out.iterdir())
    typer.echo(f"{out}: {frames} frames, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
