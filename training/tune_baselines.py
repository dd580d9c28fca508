# SPDX-License-Identifier: Apache-2.0
"""Choose the classical baselines' parameters on rendered/val and write depth_sr_ros/baseline_params.json."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
import typer
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from depth_sr_ros.baselines import METHODS, PARAMS_PATH, bicubic, fill_holes
from depth_sr_ros.degradation import crop_to_multiple, degrade
from depth_sr_ros.metrics import BORDER_PX
from training.command_line import errors_in_one_sentence
from training.data.rendered import list_frames, read_frame
from training.data.root import data_root

SCALES = (4, 8, 16)
# an input with exact depth, as the profiles `clean` and `bicubic` give, and one with a sensor's noise
PROFILE_OF_GROUP = {"clean": "clean", "noisy": "noisy"}


def _steps(low: float, high: float, count: int) -> tuple[float, ...]:
    """Geometric steps from low to high, three significant digits."""
    return tuple(float(f"{value:.3g}") for value in np.geomspace(low, high, count))


_UP = ("linear", "cubic")
_GUIDED = {"radius": _steps(0.5, 8, 9), "eps": _steps(1e-6, 0.1, 11), "up": _UP}
_FGS = {"lambda_lr": _steps(0.05, 200, 13), "sigma_color": _steps(1, 32, 11), "up": _UP}
GRIDS: dict[str, dict[str, tuple]] = {
    "bilateral": {
        "sigma_depth": _steps(0.005, 1.28, 17),
        "sigma_px": _steps(0.25, 8, 11),
        "domain": ("depth", "log"),
        "up": _UP,
    },
    "guided": _GUIDED,
    "median_guided": {"ksize": (3, 5), **_GUIDED},
    "fgs": _FGS,
    "despeckle_fgs": {"threshold": _steps(0.01, 5.12, 19), **_FGS},
    "jbu": {"sigma_px": _steps(0.25, 4, 9), "sigma_color": _steps(2, 128, 13)},
}


SLOW = ("bilateral", "jbu")


@dataclass(frozen=True)
class Case:
    """One frame at one scale and profile: a baseline's input, the truth, and bicubic's RMSE (metres)."""

    filled: npt.NDArray[np.float32]
    rgb: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.float32]
    bicubic_rmse: float


def _rmse(pred: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> float:
    # what `depth_metrics` calls rmse, alone: the other metrics would take most of the search's time
    inner = slice(BORDER_PX, -BORDER_PX)
    error = pred[inner, inner] - truth[inner, inner]
    return float(np.sqrt(np.nanmean(np.square(error), dtype=np.float64)))


def choose_frames(root: Path, count: int, seed: int) -> list:
    """`count` frames of rendered/val, half indoor and half outdoor, drawn by `seed`."""
    frames = list_frames(root, "val")
    rng = np.random.default_rng(seed)
    indoor = [frame for frame in frames if "_room_" in frame.name]
    outdoor = [frame for frame in frames if "_room_" not in frame.name]
    halves = ((indoor, count - count // 2), (outdoor, count // 2))
    return [part[i] for part, size in halves for i in sorted(rng.permutation(len(part))[:size])]


def make_cases(frames: list, scale: int, profile: str, seed: int) -> list[Case]:
    """Degrade each frame once, with a noise pattern of its own."""
    cases = []
    for index, frame in enumerate(frames):
        rgb, depth = (crop_to_multiple(array) for array in read_frame(frame))
        filled = fill_holes(degrade(depth, scale, profile, np.random.default_rng([seed, index])))
        cases.append(Case(filled, rgb, depth, _rmse(bicubic(filled, rgb), depth)))
    return cases


def objective(name: str, params: dict[str, Any], cases: list[Case]) -> float:
    """Geometric mean over frames of RMSE / bicubic's RMSE: frames 3 m and 300 m deep weigh the same."""
    ratios = [
        _rmse(METHODS[name](case.filled, case.rgb, **params), case.truth) / case.bicubic_rmse
        for case in cases
    ]
    return float(np.exp(np.mean(np.log(ratios))))


def search(
    name: str, start: dict[str, int], cases: list[Case], report: Callable[[float], None]
) -> tuple[dict[str, int], float]:
    """Pattern search on the grid: try one step up and down in each parameter until no step helps.

    A position is {parameter: index into its grid}. Returns the best position and its objective; `report` gets
    the best objective after each trial.
    """
    grid = GRIDS[name]
    seen: dict[tuple[int, ...], float] = {}

    def score(position: dict[str, int]) -> float:
        key = tuple(position[parameter] for parameter in grid)
        if key not in seen:
            seen[key] = objective(name, {p: grid[p][position[p]] for p in grid}, cases)
        return seen[key]

    best, best_score = dict(start), score(start)
    improved = True
    while improved:
        improved = False
        for parameter, step in itertools.product(grid, (1, -1)):
            while 0 <= best[parameter] + step < len(grid[parameter]):
                trial = {**best, parameter: best[parameter] + step}
                trial_score = score(trial)
                if trial_score >= best_score:
                    break
                best, best_score, improved = trial, trial_score, True
                report(best_score)
    return best, best_score


def _position(grid: dict[str, tuple], share: float) -> dict[str, int]:
    return {parameter: int(len(values) * share) for parameter, values in grid.items()}


def tune(frames: list, seed: int, progress: Progress) -> tuple[dict, dict]:
    """Search every baseline, group and scale. Returns (params, scores), each [group][name][scale]."""
    params: dict[str, dict] = {group: {name: {} for name in GRIDS} for group in PROFILE_OF_GROUP}
    scores: dict[str, dict] = {group: {name: {} for name in GRIDS} for group in PROFILE_OF_GROUP}
    task = progress.add_task("tuning", total=len(PROFILE_OF_GROUP) * len(SCALES) * len(GRIDS))
    for group, profile in PROFILE_OF_GROUP.items():
        # a pattern search can stall, so it starts from several places; the slow methods start from the scale
        # before's optimum alone, which is near since lengths are in LR pixels
        fixed = {name: [_position(grid, share) for share in (0.5, 0.75)] for name, grid in GRIDS.items()}
        starts = dict(fixed)
        for scale in SCALES:
            cases = make_cases(frames, scale, profile, seed)
            for name, grid in GRIDS.items():

                def report(score: float, label: str = f"{group} x{scale} {name}") -> None:
                    progress.update(task, description=f"{label} {score:.3f}")

                found = [search(name, start, cases, report) for start in starts[name]]
                best, best_score = min(found, key=lambda result: result[1])
                starts[name] = [best] if name in SLOW else [best, *fixed[name]]
                params[group][name][str(scale)] = {p: grid[p][i] for p, i in best.items()}
                scores[group][name][str(scale)] = round(best_score, 4)
                progress.advance(task)
    return params, scores


def main(
    frames: Annotated[
        int, typer.Option(min=2, help="Frames of rendered/val, half indoor, half outdoor.")
    ] = 24,
    seed: Annotated[int, typer.Option(help="Seed of the choice of frames and of their noise.")] = 0,
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = PARAMS_PATH,
) -> None:
    """Tune the baselines for x4, x8 and x16 on clean and on noisy input, on one core."""
    cv2.setNumThreads(1)
    with errors_in_one_sentence():
        chosen = choose_frames(data_root() / "rendered", frames, seed)
        with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn()) as progress:
            params, scores = tune(chosen, seed, progress)
    record = {
        "command": f"python training/tune_baselines.py --frames {frames} --seed {seed}",
        "objective": "geometric mean over frames of RMSE / bicubic RMSE",
        "frames": [frame.name for frame in chosen],
        "opencv": cv2.__version__,
        "params": params,
        "scores": scores,
    }
    out.write_text(json.dumps(record, indent=1) + "\n")
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
