# SPDX-License-Identifier: Apache-2.0
"""The images that the evaluation protocol is run on: real, rendered and procedural frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_sr_ros.config import check_choice
from depth_sr_ros.depth_io import read_depth, read_rgb
from depth_sr_ros.errors import DataError
from training.data.rendered import list_frames, read_frame

SOURCES = ("real", "rendered-val", "procedural")
REAL_GROUPS = ("motorcycle", "aloe", "kinect")
KINECT_STRIDE = 30
PROCEDURAL_SIZE = (480, 640)


@dataclass(frozen=True)
class EvalFrame:
    """One image of the protocol.

    `group` names the row group it is averaged in, `rgb` is uint8 HxWx3, `depth` float32 HxW metres with
    NaN where the truth is unknown.
    """

    name: str
    group: str
    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]


def misregistered(frame: EvalFrame, pixels: int) -> EvalFrame:
    """The frame with its depth moved `pixels` right and down beside its picture; the border repeats."""
    height, width = frame.depth.shape
    moved = np.pad(frame.depth, ((pixels, 0), (pixels, 0)), mode="edge")[:height, :width]
    return dataclasses.replace(frame, depth=moved)


def load_frames(source: str, root: Path, limit: int, seed: int) -> list[EvalFrame]:
    """All frames of `source` (one of SOURCES) under the data folder `root`; `seed` draws from the big sets.

    `limit` bounds the number of rendered, procedural and Kinect frames. Raises DataError when files are
    missing.
    """
    check_choice("data", source, SOURCES)
    if limit < 1:
        raise DataError(f"limit is {limit}, but at least 1 frame is needed")
    if source == "real":
        return list(real_frames(root, limit))
    if source == "rendered-val":
        return list(rendered_frames(root / "rendered", limit, seed))
    return list(procedural_frames(limit, seed))


def real_frames(root: Path, limit: int) -> Iterator[EvalFrame]:
    """Middlebury motorcycle and aloe, and up to `limit` Kinect frames, one second apart.

    The Kinect's own depth is its truth, with its holes, noise and registration error.
    """
    for name, picture in (("motorcycle", "rgb.png"), ("aloe", "rgb.jpg")):
        yield EvalFrame(name, name, read_rgb(root / name / picture), read_depth(root / name / "depth.npy"))
    for depth_file in sorted((root / "kinect").glob("*.depth.png"))[::KINECT_STRIDE][:limit]:
        name = depth_file.name.removesuffix(".depth.png")
        rgb = read_rgb(depth_file.with_name(f"{name}.color.jpg"))
        yield EvalFrame(f"kinect-{name}", "kinect", rgb, read_depth(depth_file))


def rendered_frames(rendered: Path, limit: int, seed: int) -> Iterator[EvalFrame]:
    """`limit` frames of rendered/val drawn by `seed`: half rooms, half outdoor tracks."""
    frames = list_frames(rendered, "val")
    rng = np.random.default_rng(seed)
    for group, share in (("rooms", limit - limit // 2), ("tracks", limit // 2)):
        part = [frame for frame in frames if ("_room_" in frame.name) == (group == "rooms")]
        for i in sorted(rng.permutation(len(part))[:share]):
            yield EvalFrame(part[i].name, group, *read_frame(part[i]))


def procedural_frames(limit: int, seed: int) -> Iterator[EvalFrame]:
    """`limit` scenes of the procedural generator drawn by `seed`."""
    # torch and the generator's textures take seconds to load, and the other sources do without
    import torch

    from training.data.procedural import SceneGenerator

    scenes, generator = SceneGenerator(), torch.Generator().manual_seed(seed)
    for index in range(limit):
        rgb, depth = scenes(1, *PROCEDURAL_SIZE, generator)
        picture = (rgb[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        metres = depth[0, 0].numpy().astype(np.float32)
        yield EvalFrame(
            f"procedural-{index}", "procedural", picture, np.where(np.isfinite(metres), metres, np.nan)
        )
