# SPDX-License-Identifier: Apache-2.0
"""What a guide of an earlier frame costs: a moving camera, and relative depth that is k frames old."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from depth_sr_ros.depth_io import check_writable
from depth_sr_ros.errors import ConfigError
from training.command_line import errors_in_one_sentence

if TYPE_CHECKING:
    from depth_sr_ros.models.depth_sr import DepthSRNet
    from training.data.procedural_sequence import Sequence

KINDS = ("perfect", "noisy")
PACES = (1, 2, 3, 5, 9)  # every_n
MOST_AGE = max(PACES) - 1
CASES = (("noisy", 4), ("clean", 4), ("noisy", 8))  # profile and factor
NO_GUIDE = "none"
GUIDE_SEED = 0x6D1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Depth = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """Rooms by their seeds, frames of each, `loop` frames a turn of the camera's way, size in pixels."""

    rooms: int
    frames: int
    loop: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if min(self.rooms, self.frames) < 1:
            raise ConfigError(f"rooms {self.rooms} and frames {self.frames} must be at least 1")
        if self.loop <= MOST_AGE:
            raise ConfigError(f"loop is {self.loop}, but must be above {MOST_AGE}, the oldest guide")
        if self.width % 16 or self.height % 16 or min(self.width, self.height) < 32:
            raise ConfigError(f"the size is {self.width}x{self.height}, but must be multiples of 16, from 32")


def motion(sequence: Sequence, k: int, earlier: int) -> float:
    """The median way, in pixels, of frame k's points in the image since frame `earlier`."""
    i, depth = sequence.intrinsics, sequence.depth(k)
    v, u = np.mgrid[: sequence.height, : sequence.width].astype(float)
    points = np.stack([(u - i.cx) / i.fx * depth, (v - i.cy) / i.fy * depth, depth], -1)
    (turn, place), (turn_to, place_to) = sequence.poses[k], sequence.poses[earlier]
    x, y, z = np.moveaxis((points @ turn + place - place_to) @ turn_to.T, -1, 0)
    before_u, before_v = i.fx * x / z + i.cx, i.fy * y / z + i.cy
    return float(np.median(np.hypot(u - before_u, v - before_v)[z > 0]))


def guides(sequence: Sequence, k: int, seed: int) -> Iterator[tuple[str, int, Any]]:
    """(kind, age, relative depth (1, 1, H, W)) of frame k and of those before it.

    The errors of a noisy one are drawn alike for all ages of one frame: what differs is the age alone.
    """
    import torch

    from training.simulated_guide import GuideErrors, perfect_guide, simulated_guide

    for age in range(MOST_AGE + 1):
        depth = torch.from_numpy(sequence.depth((k - age) % len(sequence)))[None, None]
        yield "perfect", age, perfect_guide(depth)
        generator = torch.Generator().manual_seed(GUIDE_SEED + seed)
        yield "noisy", age, simulated_guide(depth, GuideErrors(), generator)


def score(net: DepthSRNet, sequence: Sequence, k: int, seed: int) -> dict[tuple[str, str, int], float]:
    """RMSE in metres of frame k by (case, kind of guide, its age); without a guide the age is 0."""
    import torch

    from depth_sr_ros.degradation import degrade
    from depth_sr_ros.metrics import depth_metrics

    rgb, truth = sequence.color(k), sequence.depth(k).astype(np.float32)
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    made = [(NO_GUIDE, 0, None), *guides(sequence, k, seed)]
    out = {}
    for profile, factor in CASES:
        lr = degrade(truth, factor, profile, np.random.default_rng(seed), rgb)
        for kind, age, relative in made:
            answer = net.upsample(image, torch.from_numpy(lr)[None, None], relative)[0, 0].numpy()
            out[f"{profile} x{factor}", kind, age] = depth_metrics(answer, truth)["rmse"]
    return out


def paces(rmse: dict[tuple[str, str, int], float]) -> list[dict[str, Any]]:
    """A row for each case and kind of guide: mean RMSE of frames at each pace, and without a guide.

    At a pace of n the ages are 0 to n - 1, each as often. Relative to a guide for every frame.
    """
    rows = []
    for case, kind in itertools.product(dict.fromkeys(case for case, _, _ in rmse), KINDS):
        by_age = [rmse[case, kind, age] for age in range(MOST_AGE + 1)]
        rows.append(
            {
                "case": case,
                "guide": kind,
                "rmse_m": by_age[0],
                "every_n": {n: float(np.mean(by_age[:n])) / by_age[0] for n in PACES},
                "oldest": {n: by_age[n - 1] / by_age[0] for n in PACES},
                "no_guide": rmse[case, NO_GUIDE, 0] / by_age[0],
            }
        )
    return rows


@app.command()
def main(
    rooms: Annotated[int, typer.Option(help="procedural rooms, by their seeds")] = 3,
    frames: Annotated[int, typer.Option(help="frames of each, evenly along the camera's way")] = 4,
    loop: Annotated[int, typer.Option(help="frames in which the camera ends where it began")] = 45,
    width: Annotated[int, typer.Option(help="pixels, a multiple of 16")] = 320,
    height: Annotated[int, typer.Option(help="pixels, a multiple of 16")] = 240,
    checkpoint: Annotated[
        Path | None, typer.Option(help=".safetensors; default: what ships for fast")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="also write the numbers to this .json file")] = None,
) -> None:
    """Print RMSE of a network with relative depth of earlier frames, made from their truth."""
    with errors_in_one_sentence():
        if out is not None:
            check_writable(out)
        settings = Settings(rooms, frames, loop, width, height)
        rows, moved = _run(settings, checkpoint)
    _print(rows, moved)
    if out is not None:
        record = {**asdict(settings), "motion_px": moved, "rows": rows}
        out.write_text(json.dumps(record, indent=1) + "\n")


def _run(settings: Settings, checkpoint: Path | None) -> tuple[list[dict[str, Any]], float]:
    from rich.progress import track

    from depth_sr_ros.models.checkpoint import load_checkpoint, shipped_checkpoint
    from training.data.procedural_sequence import Sequence

    net, header = load_checkpoint(checkpoint or shipped_checkpoint("fast"))
    if header.model.guide == "none":
        raise ConfigError(
            f"the weights are of {header.variant!r}, which takes no guide; give those of 'fast'"
        )
    found: dict[tuple[str, str, int], list[float]] = {}
    moved = []
    jobs = list(itertools.product(range(settings.rooms), range(settings.frames)))
    sequences: dict[int, Sequence] = {}
    for room, part in track(jobs, "frames"):
        if room not in sequences:
            sequences = {room: Sequence(room, settings.loop, settings.height, settings.width)}
        sequence, k = sequences[room], part * settings.loop // settings.frames
        moved.append(motion(sequence, k, (k - 1) % settings.loop))
        for key, value in score(net, sequence, k, room * settings.frames + part).items():
            found.setdefault(key, []).append(value)
    return paces({key: float(np.mean(values)) for key, values in found.items()}), float(np.median(moved))


def _print(rows: list[dict[str, Any]], moved: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"RMSE relative to a guide for every frame; the image moves by {moved:.1f} px a frame"
    )
    table.caption = "n: every_n, the frames that one map serves"
    for name in ("LR depth", "guide", "RMSE, mm", *(f"n = {n}" for n in PACES[1:]), "no guide"):
        table.add_column(name, justify="left" if name in ("LR depth", "guide") else "right", no_wrap=True)
    for row in rows:
        ratios = [*(row["every_n"][n] for n in PACES[1:]), row["no_guide"]]
        cells = (row["case"], row["guide"], f"{1e3 * row['rmse_m']:.1f}", *(f"{r:.3f}" for r in ratios))
        table.add_row(*cells, end_section=row["guide"] == KINDS[-1])
    Console().print(table)


if __name__ == "__main__":
    app()
