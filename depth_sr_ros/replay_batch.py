# SPDX-License-Identifier: Apache-2.0
"""Evaluate several recordings, in processes of this machine or of a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depth_sr_ros.errors import ConfigError, DataError, DepthSRError
from depth_sr_ros.replay_frames import ReplaySettings


@dataclass(frozen=True)
class EngineSettings:
    """Arguments of DepthSuperResolver."""

    checkpoint: Path | None = None
    variant: str = "edge"
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Job:
    """One recording; its report goes into `folder`."""

    settings: ReplaySettings
    engine: EngineSettings
    folder: Path


def report_name(bag: Path) -> str:
    """A recording's name: that of its folder, or of its file without .mcap or .db3."""
    if bag.name in ("", ".."):
        bag = bag.resolve()
    return bag.stem if bag.suffix in (".mcap", ".db3") and not bag.is_dir() else bag.name


def report_folders(bags: Sequence[Path], out: Path) -> list[Path]:
    """A folder below `out` for each bag, by its name; a name that comes again gets a number."""
    taken: set[str] = set()
    folders = []
    for bag in bags:
        number, name = 1, report_name(bag)
        while name in taken:
            number += 1
            name = f"{report_name(bag)}-{number}"
        taken.add(name)
        folders.append(out / name)
    return folders


def run_job(job: Job, on_frame: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
    """Evaluate one recording and write its report; returns the summary. Raises DepthSRError."""
    from depth_sr_ros.depth_io import make_folder

    is_new = not job.folder.exists()
    make_folder(job.folder)  # a report without a place is said before the first frame
    try:
        return _evaluated(job, on_frame)
    except DepthSRError:
        if is_new:
            with suppress(OSError):  # it holds part of a report
                job.folder.rmdir()
        raise


def _evaluated(job: Job, on_frame: Callable[[int], None]) -> dict[str, Any]:
    from depth_sr_ros.engine import DepthSuperResolver
    from depth_sr_ros.replay import Samples, replay
    from depth_sr_ros.replay_report import write

    engine, resolver = job.engine, None
    if job.settings.answer_topic is None:
        resolver = DepthSuperResolver(
            engine.checkpoint,
            variant=engine.variant,
            device=engine.device,
            threads=engine.threads,
        )
    samples = Samples()
    result = replay(job.settings, resolver, samples, on_frame)
    return write(result, samples.chosen(), job.folder)


def run_jobs(
    jobs: Sequence[Job], workers: int, dask: str | None, on_done: Callable[[], None]
) -> list[dict[str, Any] | DepthSRError]:
    """The summary of each job, or what was wrong with its recording; one does not stop the others.

    `workers` processes of this machine, or, with its scheduler's address, the workers of a Dask cluster: they
    need this package and the same paths. Raises ConfigError.
    """
    with _executor(workers, dask) as executor:
        futures: dict[Future[dict[str, Any]], int] = {
            executor.submit(run_job, j): i for i, j in enumerate(jobs)
        }
        out: list[dict[str, Any] | DepthSRError] = [DataError("not run")] * len(jobs)
        for future in as_completed(futures):
            try:
                out[futures[future]] = future.result()
            except DepthSRError as error:
                out[futures[future]] = error
            on_done()
    return out


@contextmanager
def _executor(workers: int, dask: str | None) -> Iterator[Executor]:
    if dask is not None:
        with _dask_client(dask) as client:
            yield client.get_executor()
        return
    # Spawned: torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield pool


def _dask_client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("--dask needs the package distributed: pip install 'depth_sr_ros[dask]'") from error
    try:
        return Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at {address}: start one by dask scheduler") from error


def threads_for(workers: int) -> int | None:
    """CPU threads of each of several workers; of one alone, torch's choice."""
    return None if workers == 1 else max(1, (os.cpu_count() or 1) // workers)
