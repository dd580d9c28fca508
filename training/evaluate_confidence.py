# SPDX-License-Identifier: Apache-2.0
"""How well a network's confidence tells its errors: rank correlation, and a table of the pixels' tenths."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from depth_sr_ros.metrics import BORDER_PX
from depth_sr_ros.models.confidence import TOLERANCE

DECILES = 10

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Calibration(NamedTuple):
    """What a confidence is worth.

    `spearman`: of 1 - confidence and the relative error, mean over frames. The rest by tenths of all pixels,
    the least certain first: mean `confidence`, share `within` 5 % of the truth, mean relative `error`.
    """

    spearman: float
    confidence: list[float]
    within: list[float]
    error: list[float]

    @property
    def is_monotone(self) -> bool:
        """Whether each tenth errs less than the one before it."""
        return all(a > b for a, b in zip(self.error, self.error[1:], strict=False))


def spearman(a: npt.NDArray, b: npt.NDArray) -> float:
    """Spearman's rank correlation of two flat arrays; ties keep their order."""
    ranks = np.stack([np.argsort(np.argsort(values, kind="stable")) for values in (a, b)])
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def calibration(scales: list[npt.NDArray], errors: list[npt.NDArray]) -> Calibration:
    """From each frame's predicted scale and relative error at its pixels with a truth, both flat.

    The tenths are in the order of the scale. It is the confidence's, but a confidence in float32 is exactly 1
    where the scale is below 0.3 %, as it is for half of the pixels of clean depth.
    """
    each = [spearman(s, e) for s, e in zip(scales, errors, strict=True)]
    scale, error = np.concatenate(scales), np.concatenate(errors)
    confidence = -np.expm1(-TOLERANCE / scale.astype(np.float64))
    tenths = np.array_split(np.argsort(-scale, kind="stable"), DECILES)
    return Calibration(
        float(np.mean(each)),
        [float(confidence[t].mean()) for t in tenths],
        [float((error[t] < TOLERANCE).mean()) for t in tenths],
        [float(error[t].mean()) for t in tenths],
    )


@app.command()
def main(
    data: Annotated[str, typer.Option(help="real, rendered-val or procedural")] = "rendered-val",
    limit: Annotated[int, typer.Option(help="frames at most")] = 24,
    profiles: Annotated[
        list[str] | None, typer.Option("--profile", help="may repeat; default noisy, clean")
    ] = None,
    scales: Annotated[list[int] | None, typer.Option("--scale", help="may repeat; default 4, 8")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help=".safetensors; default: what ships for edge")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="also write the numbers to this .json file")] = None,
) -> None:
    """Print, for each profile and scale, Spearman's correlation and a table of the confidence's tenths."""
    from depth_sr_ros.depth_io import check_writable
    from training.command_line import errors_in_one_sentence

    with errors_in_one_sentence():
        if out is not None:
            check_writable(out)
        cases = _run(data, limit, profiles or ["noisy", "clean"], scales or [4, 8], checkpoint)
    _print(cases)
    if out is not None:
        record = {name: case._asdict() | {"monotone": case.is_monotone} for name, case in cases.items()}
        out.write_text(json.dumps(record, indent=1) + "\n")


def _run(
    data: str, limit: int, profiles: list[str], scales: list[int], checkpoint: Path | None
) -> dict[str, Calibration]:
    import torch
    from rich.progress import track

    from depth_sr_ros.degradation import crop_to_multiple, degrade
    from depth_sr_ros.errors import ConfigError
    from depth_sr_ros.models.checkpoint import load_checkpoint, shipped_checkpoint
    from training.data.root import data_root
    from training.eval_frames import load_frames

    model, header = load_checkpoint(checkpoint or shipped_checkpoint("edge"))
    if not header.model.confidence:
        raise ConfigError(
            "these weights have no confidence; train them with the configuration edge_confidence"
        )
    frames = load_frames(data, data_root(), limit, seed=0)
    found: dict[str, tuple[list[Any], list[Any]]] = {}
    for number, frame in enumerate(track(frames, "frames")):
        rgb, truth = crop_to_multiple(frame.rgb), crop_to_multiple(frame.depth)
        known = np.isfinite(truth)
        known[:BORDER_PX] = known[-BORDER_PX:] = known[:, :BORDER_PX] = known[:, -BORDER_PX:] = False
        for profile in profiles:
            for scale in scales:
                lr = degrade(truth, scale, profile, np.random.default_rng(number), rgb)
                picture = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]
                with torch.inference_mode():
                    answer = model(picture, torch.from_numpy(lr)[None, None], confidence=True)
                depth, relative = answer.depth[0, 0].numpy(), answer.log_scale[0, 0].exp().numpy()
                kept = found.setdefault(f"{profile} x{scale}", ([], []))
                kept[0].append(relative[known])
                kept[1].append(np.abs(depth - truth)[known] / truth[known])
    return {name: calibration(*kept) for name, kept in found.items()}


def _print(cases: dict[str, Calibration]) -> None:
    from rich.console import Console
    from rich.table import Table

    for name, case in cases.items():
        order = "monotone" if case.is_monotone else "NOT monotone"
        table = Table(title=f"{name}: Spearman {case.spearman:.3f}; errors of the tenths {order}")
        for column in ("tenth", "confidence", "within 5 %", "mean |error| / depth"):
            table.add_column(column, justify="right")
        for i in range(DECILES):
            table.add_row(
                str(i + 1), f"{case.confidence[i]:.3f}", f"{case.within[i]:.3f}", f"{case.error[i]:.4f}"
            )
        Console().print(table)


if __name__ == "__main__":
    app()
