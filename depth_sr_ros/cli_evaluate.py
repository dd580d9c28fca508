# SPDX-License-Identifier: Apache-2.0
"""`depth-sr evaluate`: recordings through the network offline, scored and reported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from depth_sr_ros.cli_options import Checkpoint, Device, Threads, Variant
from depth_sr_ros.errors import ConfigError, DepthSRError


def evaluate(
    bags: Annotated[
        list[Path], typer.Argument(help="rosbag2 recordings: their folders, or .mcap or .db3 files.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the report; default: replay-<bag>. Of several: a folder of folders."),
    ] = None,
    rgb: Annotated[str | None, typer.Option(help="Topic of the RGB images; default: the only one.")] = None,
    depth: Annotated[
        str | None, typer.Option(help="Topic of the depth images; default: the only one.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Topic of depth to score against.")] = None,
    answers: Annotated[
        str | None,
        typer.Option(help="Topic of a node's output that was recorded too: score it, run no network."),
    ] = None,
    simulate: Annotated[
        str | None,
        typer.Option(help="Degrade the bag's depth by this profile (docs/degradation.md), score against it."),
    ] = None,
    scale: Annotated[int, typer.Option(help="With --simulate: RGB pixels per depth pixel, 2, 4, 8, 16.")] = 4,
    baselines: Annotated[bool, typer.Option(help="Also run bicubic, guided filter and FGS.")] = True,
    limit: Annotated[int | None, typer.Option(help="Frames at most, of each recording.")] = None,
    seed: Annotated[int, typer.Option(help="Of the simulated noise.")] = 0,
    max_rmse: Annotated[float | None, typer.Option(help="Exit code 1 where RMSE is above this, m.")] = None,
    min_rate: Annotated[float | None, typer.Option(help="Exit code 1 where the rate is lower, Hz.")] = None,
    workers: Annotated[int, typer.Option(help="Recordings at the same time, each in a process.", min=1)] = 1,
    dask: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler, whose machines take the recordings instead."),
    ] = None,
    checkpoint: Checkpoint = None,
    variant: Variant = "edge",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Run recordings through the network offline, score every pair, write a report (HTML, JSON, CSV).

    Exit code 1: a threshold is missed; 2: a recording cannot be used, what could be was.
    """
    from depth_sr_ros.replay_batch import EngineSettings, Job, report_folders, report_name, threads_for
    from depth_sr_ros.replay_frames import ReplaySettings

    if max_rmse is not None and reference is None and simulate is None:
        raise ConfigError("--max-rmse needs something to score against: --reference or --simulate")
    several = len(bags) > 1
    if several:
        folders = report_folders(bags, out or Path("replays"))
    else:
        folders = [out or Path(f"replay-{report_name(bags[0])}")]
    if threads is None:
        threads = threads_for(workers)
    engine = EngineSettings(checkpoint, variant, device, threads)
    jobs = [
        Job(
            ReplaySettings(bag, rgb, depth, reference, answers, simulate, scale, baselines, limit, seed),
            engine,
            folder,
        )
        for bag, folder in zip(bags, folders, strict=True)
    ]
    if several or dask is not None:
        sys.exit(_evaluate_all(jobs, workers, dask, max_rmse, min_rate))
    sys.exit(_evaluate_one(jobs[0], max_rmse, min_rate))


def _evaluate_one(job: Any, max_rmse: float | None, min_rate: float | None) -> int:
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from depth_sr_ros.replay_batch import run_job
    from depth_sr_ros.replay_report import table

    with Progress(TextColumn("{task.completed} frames"), TimeElapsedColumn(), transient=True) as bar:
        task = bar.add_task("frames", total=None)
        found = run_job(job, lambda done: bar.update(task, completed=done))
    if found["methods"]:
        Console().print(table(found))
    for line in found["verdict"]:
        typer.echo(line)
    typer.echo(f"wrote {job.folder / 'report.html'}, report.json and frames.csv")
    return int(_misses(found, max_rmse, min_rate))


def _evaluate_all(
    jobs: list[Any], workers: int, dask: str | None, max_rmse: float | None, min_rate: float | None
) -> int:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from depth_sr_ros.replay_batch import run_jobs
    from depth_sr_ros.replay_report import overview, write_overview

    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), transient=True) as bar:
        task = bar.add_task("recordings", total=len(jobs))
        results = run_jobs(jobs, workers, dask, lambda: bar.advance(task))
    usable = [found for found in results if not isinstance(found, DepthSRError)]
    if usable:
        Console().print(overview(usable))
    if usable and len(jobs) == 1:  # by --dask: what lies beside its folder is none of ours
        typer.echo(f"wrote {jobs[0].folder / 'report.html'}, report.json and frames.csv")
    elif usable:
        folder = jobs[0].folder.parent
        write_overview(usable, folder)
        typer.echo(f"wrote {folder / 'overview.json'}, and a report of each recording beside it")
    for error in (each for each in results if isinstance(each, DepthSRError)):
        typer.echo(f"error: {error}", err=True)
    missed = [_misses(found, max_rmse, min_rate) for found in usable]
    return 2 if len(usable) < len(results) else int(any(missed))


def _misses(found: dict[str, Any], max_rmse: float | None, min_rate: float | None) -> bool:
    """Whether a threshold is missed, said on stderr."""
    missed, bag = False, found["bag"]
    if max_rmse is not None:
        rmse = found["methods"]["ours"]["rmse"]
        if not rmse <= max_rmse:
            typer.echo(f"{bag}: RMSE is {rmse:.4f} m, above --max-rmse {max_rmse:g}", err=True)
            missed = True
    rate = found["rate_hz"]
    if min_rate is not None and (rate is None or rate < min_rate):
        said = "unknown, of a single frame" if rate is None else f"{rate:.1f} Hz"
        typer.echo(f"{bag}: the rate is {said}, below --min-rate {min_rate:g}", err=True)
        missed = True
    return missed
