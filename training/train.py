# SPDX-License-Identifier: Apache-2.0
"""Train a depth super-resolution network from a YAML configuration: python training/train.py --config edge"""

from __future__ import annotations

import dataclasses
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

# A clean checkout works without installing the package: `depth_sr_ros` and `training` lie beside each other.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def train(
    config: Annotated[str, typer.Option(help="a YAML file, or a name in training/configs/")] = "smoke",
    run_dir: Annotated[Path | None, typer.Option(help="run folder; default runs/<config>-<time>")] = None,
    resume: Annotated[bool, typer.Option(help="go on from the run folder's last checkpoint")] = False,
    data: Annotated[
        Path | None, typer.Option(help="folder of the sources that name none: MVS-Synth, an RGB-D folder")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="stop after this many steps in all, rounded up to run.epoch_steps")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(help="GPUs, or processes of a CPU, that train together; as run.devices")
    ] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, may repeat")] = None,
    init_from: Annotated[Path | None, typer.Option(help="start from this .safetensors checkpoint")] = None,
) -> None:
    """Train a network. Without arguments: the smoke configuration, two minutes on a CPU.

    The run folder gets config.yaml, logs/*/metrics.csv, TensorBoard events, last.ckpt, from which
    --resume goes on, best.ckpt (copy it over last.ckpt to go on from there), and model.safetensors, the
    checkpoint that the node and `depth-sr` load.
    """
    from training.config import load_config, with_path
    from training.explain import explain, report
    from training.runner import run_training

    folder = run_dir or Path("runs") / f"{Path(config).stem}-{datetime.now():%Y%m%d-%H%M%S}"
    from training.command_line import errors_in_one_sentence

    with errors_in_one_sentence():
        together = () if devices is None else (f"run.devices={devices}",)
        loaded = load_config(config, (*(change or ()), *together))
        if data is not None:
            sources = with_path(loaded.data.sources, str(data.resolve()))
            loaded = dataclasses.replace(loaded, data=dataclasses.replace(loaded.data, sources=sources))
        explain(config, loaded, folder)
        run_training(loaded, folder, resume=resume, stop_after=steps, init_from=init_from)
        report(folder)


if __name__ == "__main__":
    app()
