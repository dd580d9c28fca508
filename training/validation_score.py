# SPDX-License-Identifier: Apache-2.0
"""What a run's validation says of finished weights: python training/validation_score.py WEIGHTS..."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def score(
    weights: Annotated[list[Path], typer.Argument(help=".safetensors files, such as averages")],
    frames: Annotated[int, typer.Option(help="as run.validation_frames of a run")] = 24,
) -> None:
    """Print val/score of each, without a guide, and its cases: RMSE over the untrained network's."""
    import lightning.pytorch as pl

    from depth_sr_ros.models.checkpoint import load_checkpoint
    from training.command_line import errors_in_one_sentence
    from training.config import OptimConfig, RunConfig, TrainConfig
    from training.module import DepthSRModule
    from training.process import process_settings

    with errors_in_one_sentence():
        run = RunConfig(validation_frames=frames)
        for path in weights:
            net, header = load_checkpoint(path)
            # The schedule is not used: nothing is trained.
            module = DepthSRModule(
                TrainConfig(header.model, OptimConfig(steps=run.epoch_steps), run=run), net
            )
            with process_settings(run.threads):
                trainer = pl.Trainer(accelerator="cpu", logger=False, enable_model_summary=False)
                (found,) = trainer.validate(module, verbose=False)
            cases = ", ".join(f"{name} {value:.4f}" for name, value in sorted(found.items()))
            typer.echo(f"{path.name}: {cases}")


if __name__ == "__main__":
    app()
