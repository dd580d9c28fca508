# SPDX-License-Identifier: Apache-2.0
"""How far each runtime's and precision's RMSE on the real frames is from torch's in float32.

    python docs/compare_runtimes.py --runtime native --runtime onnxruntime --runtime openvino

prints a table for docs/evaluation.md. Needs DEPTH_SR_DATA, and what the runtimes need.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from depth_sr_ros.config import VARIANTS, check_choice
from depth_sr_ros.degradation import crop_to_multiple, degrade
from depth_sr_ros.metrics import depth_metrics
from depth_sr_ros.models.checkpoint import load_checkpoint, shipped_checkpoint
from depth_sr_ros.onnx_check import Inputs, inputs_of
from depth_sr_ros.onnx_export import export_onnx
from depth_sr_ros.runtime_benchmark import COMPARED, runs_of
from training.command_line import errors_in_one_sentence
from training.data.root import data_root
from training.eval_frames import load_frames

SCALES, PROFILES = (4, 8, 16), ("noisy", "clean")
REFERENCE = "torch float32"

app = typer.Typer(add_completion=False)


@app.command()
def main(
    runtime: Annotated[list[str], typer.Option(help=f"Beside torch, of {', '.join(COMPARED)}.")],
    variant: Annotated[list[str] | None, typer.Option(help="Default: edge.")] = None,
    threads: Annotated[int, typer.Option(help="Of each runtime.")] = 1,
    limit: Annotated[int, typer.Option(help="Kinect frames at most.")] = 4,
) -> None:
    """Compare runtimes on the real frames, noisy and clean, at x4, x8 and x16, by their RMSE."""
    with errors_in_one_sentence():
        for name in runtime:
            check_choice("runtime", name, COMPARED)
        print("| variant, runtime | RMSE changes by at most | in the mean |\n| --- | ---: | ---: |")
        for name in variant or ["edge"]:
            for way, changes in compare(
                name, list(dict.fromkeys(["torch", *runtime])), threads, limit
            ).items():
                print(f"| `{name}`, {way} | {max(map(abs, changes)):.4%} | {np.mean(changes):+.4%} |")


def compare(variant: str, runtimes: list[str], threads: int, limit: int) -> dict[str, list[float]]:
    """By runtime and precision, how much RMSE differs from torch's in float32 in each case, as a share of it.

    A case is a frame at one factor with one profile, noise seed 0. Raises DataError without the data.
    """
    path = shipped_checkpoint(variant)
    net, _ = load_checkpoint(path, variant=variant)
    changes: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "open.onnx"
        if {"onnxruntime", "openvino"} & set(runtimes):
            export_onnx(file, path, variant=variant)
        runs = runs_of(net, file, runtimes, threads)
        for truth, inputs in track(list(cases(limit, variant)), description=variant):
            rmse = {name: depth_metrics(run(inputs)[0, 0], truth)["rmse"] for name, run in runs.items()}
            for name, value in rmse.items():
                if name != REFERENCE:
                    changes.setdefault(name, []).append(value / rmse[REFERENCE] - 1)
    return changes


def cases(limit: int, variant: str) -> list[tuple[np.ndarray, Inputs]]:
    """Truth (H, W) and the network's inputs."""
    out = []
    for frame in load_frames("real", data_root(), limit, seed=0):
        rgb, truth = crop_to_multiple(frame.rgb), crop_to_multiple(frame.depth)
        for scale in SCALES:
            for profile in PROFILES:
                lr = degrade(truth, scale, profile, np.random.default_rng(0), rgb)
                out.append((truth, inputs_of(rgb, lr, VARIANTS[variant])))
    return out


if __name__ == "__main__":
    app()
