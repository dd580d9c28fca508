# SPDX-License-Identifier: Apache-2.0
"""Renders RGB-D frames for training: python training/render/render.py --out DIR --rooms 400 --tracks 400"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if TYPE_CHECKING:
    from training.render.frames import Settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of "HEIGHTxWIDTH"; ConfigError where it is none, or below 32 pixels."""
    from depth_sr_ros.errors import ConfigError

    height, cross, width = text.partition("x")
    if not (cross and height.isdigit() and width.isdigit() and min(int(height), int(width)) >= 32):
        raise ConfigError(f"--size {text!r}: give HEIGHTxWIDTH, each at least 32, such as 480x640")
    return int(height), int(width)


@app.command()
def render(
    out: Annotated[Path, typer.Option(help="folder of the set; frames that are there already are kept")],
    rooms: Annotated[int, typer.Option(min=0, help="frames of furnished rooms")] = 0,
    tracks: Annotated[int, typer.Option(min=0, help="frames of outdoor tracks")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="other frames for another seed")] = 0,
    split: Annotated[
        str, typer.Option(help="train or val: each shows assets that the other never does")
    ] = "train",
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH in pixels")] = "480x640",
    samples: Annotated[int, typer.Option(min=4, help="rays a pixel, a multiple of 4")] = 8,
    workers: Annotated[int, typer.Option(min=1, help="processes, of 1 to 3 GB each")] = 1,
    assets_tracks: Annotated[
        Path, typer.Option(help="data folder of SuperTuxKart (package supertuxkart-data)")
    ] = Path("/usr/share/games/supertuxkart/data"),
    assets_furniture: Annotated[
        Path, typer.Option(help="folder of *.sh3f (package sweethome3d-furniture)")
    ] = Path("/usr/share/sweethome3d/furniture"),
) -> None:
    """Render frames with exact depth from freely licensed game tracks and furniture, on the CPU.

    Needs pip install "depth_sr_ros[render]", and apt install libllvm19 supertuxkart-data
    sweethome3d-furniture. Train on the frames with --set "data.sources=[{kind: rendered, path: DIR}]";
    DIR/CREDITS.md names their sources.
    """
    from depth_sr_ros.config import check_choice
    from depth_sr_ros.errors import ConfigError
    from training.command_line import errors_in_one_sentence
    from training.data.rendered import SPLITS
    from training.render.frames import Settings

    with errors_in_one_sentence():
        check_choice("--split", split, SPLITS)
        if not rooms + tracks:
            raise ConfigError("nothing to render: give --rooms, --tracks or both, in frames")
        if samples % 4:
            raise ConfigError(f"--samples {samples}: give a multiple of 4")
        settings = Settings(out, split, seed, parse_size(size), samples, assets_tracks, assets_furniture)
        _render(settings, rooms, tracks, workers)


def _render(settings: Settings, rooms: int, tracks: int, workers: int) -> None:
    from training.render import backend
    from training.render.credits import write_credits
    from training.render.frames import plan_jobs
    from training.render.furniture import list_furniture
    from training.render.run import render_in_processes, render_jobs
    from training.render.store import FrameStore
    from training.render.tracks import list_tracks

    # what is missing is said before the first frame, not after an hour
    backend.start()
    if rooms:
        list_furniture(settings.furniture, settings.split)
    if tracks:
        list_tracks(settings.tracks, settings.split)
    store = FrameStore(settings.out, settings.split, settings.size)
    jobs = plan_jobs(settings, rooms, tracks, set(store.rows))
    left = sum(len(job.frames) for job in jobs)
    workers = min(workers, len(jobs))
    # An exit, and not an end at once: the credits are written first.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    done = render_in_processes(settings, jobs, workers) if workers > 1 else render_jobs(settings, jobs, store)
    try:
        _show(done, rooms + tracks, rooms + tracks - left)
    finally:
        credit_file = write_credits(settings.out, settings.tracks, settings.furniture)
    typer.echo(f"{settings.out}: {rooms + tracks} frames, {left} of them new; sources in {credit_file}")


def _show(names: Iterator[str], total: int, finished: int) -> None:
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn()) as progress:
        task = progress.add_task("rendering", total=total, completed=finished)
        for name in names:
            progress.update(task, description=name, advance=1)


if __name__ == "__main__":
    app()
