# SPDX-License-Identifier: Apache-2.0
"""Whole frames against crops: attention and AdaIN take statistics over the image, which differ in a crop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Depth = npt.NDArray[np.float32]


def crops(height: int, width: int, side: int) -> list[tuple[slice, slice]]:
    """Crops of side x side, as many as fit, in the middle of a height x width image."""
    top, left = (height % side) // 2 // 16 * 16, (width % side) // 2 // 16 * 16
    return [
        (slice(y, y + side), slice(x, x + side))
        for y in range(top, height - side + 1, side)
        for x in range(left, width - side + 1, side)
    ]


@app.command()
def main(
    side: Annotated[int, typer.Option(help="of a crop, pixels; a multiple of 16")] = 240,
    margin: Annotated[int, typer.Option(help="pixels at a crop's border that are not compared")] = 32,
    limit: Annotated[int, typer.Option(help="frames of rendered/val")] = 24,
    checkpoint: Annotated[
        Path | None, typer.Option(help=".safetensors; default: what ships for edge")
    ] = None,
) -> None:
    """Print RMSE of whole frames and of their crops over the same pixels, geometric means over frames.

    The LR depth is the same: a crop gets its part of the frame's.
    """
    from training.command_line import errors_in_one_sentence

    with errors_in_one_sentence():
        _run(side, margin, limit, checkpoint)


def _run(side: int, margin: int, limit: int, checkpoint: Path | None) -> None:
    from rich.progress import track

    from depth_sr_ros.degradation import crop_to_multiple, degrade
    from depth_sr_ros.errors import ConfigError
    from training.data.root import data_root
    from training.data.validation import CASES
    from training.eval_frames import load_frames
    from training.evaluate import load_network

    if side % 16 or not 0 <= 2 * margin < side:
        raise ConfigError(
            f"side is {side} and margin {margin}: give a multiple of 16 and less than half of it"
        )
    resolver = load_network(None if checkpoint is None else str(checkpoint), "cpu", "float32")[0].upsample
    logs: dict[str, list[float]] = {}
    for number, frame in enumerate(track(load_frames("rendered-val", data_root(), limit, seed=0), "frames")):
        rgb, truth = crop_to_multiple(frame.rgb), crop_to_multiple(frame.depth)
        places = crops(truth.shape[0], truth.shape[1], side)
        if not places:
            height, width = truth.shape
            raise ConfigError(
                f"side is {side}, but {frame.name} has {height}x{width} pixels: give a smaller one"
            )
        for profile, scale in CASES:
            lr = degrade(truth, scale, profile, np.random.default_rng(number))
            whole = resolver(lr, rgb, None)
            squares = np.zeros(2)
            for rows, columns in places:
                small = tuple(slice(s.start // scale, s.stop // scale) for s in (rows, columns))
                if not np.isfinite(lr[small]).any():
                    continue
                answer = resolver(np.ascontiguousarray(lr[small]), rgb[rows, columns], None)
                inner = (slice(margin, side - margin),) * 2
                exact = truth[rows, columns][inner]
                for i, found in enumerate((whole[rows, columns], answer)):
                    squares[i] += np.nansum(np.square(found[inner] - exact, dtype=np.float64))
            logs.setdefault(f"{profile} x{scale}", []).append(0.5 * float(np.log(squares[0] / squares[1])))
    for name, values in logs.items():
        typer.echo(
            f"{name}: RMSE of whole frames {100 * (np.exp(np.mean(values)) - 1):+.2f} % of that of crops"
        )


if __name__ == "__main__":
    app()
