# SPDX-License-Identifier: Apache-2.0
"""Show what a run was trained on: python training/show_batch.py runs/edge --step 1200 --out batch.png"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def show(
    run_dir: Annotated[Path, typer.Argument(help="run folder of training/train.py")],
    step: Annotated[int, typer.Option(help="number of the step, from 0, as in metrics.csv")] = 0,
    rank: Annotated[int, typer.Option(help="which process, where several trained together")] = 0,
    index: Annotated[int | None, typer.Option(help="one sample of the batch alone, from 0")] = None,
    out: Annotated[Path, typer.Option(help="picture to write")] = Path("batch.png"),
) -> None:
    """Make the batch of any step of a run again, or one sample of it, and write it as a picture.

    A row for each sample: RGB, LR depth, true depth, simulated guide. The run's config.yaml has the seed; its
    git.txt names the code that made the batch, and the data must be where they were.
    """
    from depth_sr_ros.depth_io import write_rgb
    from training.command_line import errors_in_one_sentence
    from training.pictures import batch_picture
    from training.run_batches import run_batch

    with errors_in_one_sentence():
        write_rgb(out, batch_picture(run_batch(run_dir, step, rank, index)))
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    app()
