# SPDX-License-Identifier: Apache-2.0
"""Make the inference checkpoint of a training run: python training/export.py runs/edge --which best"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(help="run folder of training/train.py")],
    which: Annotated[
        str, typer.Option(help="best: of the best validation; last: of the last epoch")
    ] = "best",
    out: Annotated[
        Path | None, typer.Option(help=".safetensors to write; default: RUN_DIR/WHICH.safetensors")
    ] = None,
) -> None:
    """Write the averaged weights of a run's best.ckpt or last.ckpt as the node and `depth-sr` load them.

    The run may still be under way. Its header says with which configuration, code and steps it was made.
    """
    from training.command_line import errors_in_one_sentence
    from training.exporting import export_run

    with errors_in_one_sentence():
        path = export_run(run_dir, which, out or run_dir / f"{which}.safetensors")
    typer.echo(f"wrote {path}")


if __name__ == "__main__":
    app()
