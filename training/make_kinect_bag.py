# SPDX-License-Identifier: Apache-2.0
"""A Kinect sequence as a rosbag2: python training/make_kinect_bag.py FOLDER --out BAG

FOLDER holds NNNNNN.color.jpg and NNNNNN.depth.png, 16 bit, mm.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from depth_sr_ros.bag import BagWriter
from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.demo_sequence import (
    COLOR_INFO_TOPIC,
    COLOR_TOPIC,
    DEPTH_TOPIC,
    IMAGE_TYPE,
    INFO_TYPE,
    camera_info_message,
    color_message,
    depth_message,
    header_message,
)
from depth_sr_ros.depth_io import read_depth, read_rgb, to_millimetres
from depth_sr_ros.errors import DataError, DepthSRError

PERIOD_NS = 10**9 // 30
START_NS = 1_700_000_000 * 10**9  # a stamp of 0 would say that there is none
CAMERA = PinholeCamera(640, 480, 585.0, 585.0, 320.0, 240.0)  # the depth camera of 7-Scenes
UNKNOWN_M = 65.0  # 65535 mm, the set's second code for "unknown"


def frame_names(folder: Path, frames: int | None = None) -> list[str]:
    """NNNNNN of the first `frames` (None: all). Raises DataError where there is none."""
    names = sorted(path.name.removesuffix(".color.jpg") for path in folder.glob("*.color.jpg"))[:frames]
    if not names:
        raise DataError(f"{folder} holds no NNNNNN.color.jpg")
    return names


def read_frame(folder: Path, name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """(rgb uint8 HxWx3, depth float32 HxW metres, NaN = unknown). Raises DataError."""
    depth = read_depth(folder / f"{name}.depth.png")
    depth[depth > UNKNOWN_M] = np.nan
    return read_rgb(folder / f"{name}.color.jpg"), depth


def write_kinect_bag(folder: Path, out: Path, frames: int | None = None) -> int:
    """Write the first `frames` (None: all) at 30 Hz; returns how many. Raises DataError."""
    names = frame_names(folder, frames)
    with BagWriter(out) as bag:
        for index, name in enumerate(track(names, description="writing")):
            stamp = START_NS + index * PERIOD_NS
            rgb, depth = read_frame(folder, name)
            header = header_message(bag, stamp)
            bag.write(COLOR_INFO_TOPIC, INFO_TYPE, stamp, camera_info_message(bag, header, CAMERA))
            bag.write(COLOR_TOPIC, IMAGE_TYPE, stamp, color_message(bag, header, rgb))
            image = depth_message(bag, header, to_millimetres(depth), compression=1)
            bag.write(DEPTH_TOPIC, IMAGE_TYPE, stamp, image)
    return len(names)


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the frames.")],
    out: Annotated[Path, typer.Option(help="Folder of the bag; must not exist.")],
    frames: Annotated[int | None, typer.Option(help="Frames at most.", min=1)] = None,
) -> None:
    """Write the frames of a Kinect sequence to a bag, as a camera driver would have recorded them."""
    try:
        count = write_kinect_bag(folder, out, frames)
    except DepthSRError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{out}: {count} frames")


if __name__ == "__main__":
    typer.run(main)
