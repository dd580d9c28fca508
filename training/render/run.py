# SPDX-License-Identifier: Apache-2.0
"""Renders jobs in this process or in several, and tells of each finished frame."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections.abc import Iterator
from typing import Any

from depth_sr_ros.errors import DepthSRError, TrainingError
from training.render import backend
from training.render.frames import (
    SceneJob,
    Settings,
    build_scene,
    facts,
    frame_name,
    render_frames,
    scene_name,
)
from training.render.store import FrameStore

STILL_ALIVE_S = 2.0  # how often a silent worker is looked after


def render_jobs(settings: Settings, jobs: list[SceneJob], store: FrameStore) -> Iterator[str]:
    """Render and write all frames of the jobs; yields the name of each as soon as it is finished."""
    for job in jobs:
        scene, assets = build_scene(settings, job)
        store.credit(scene_name(settings, job), assets)
        for frame in render_frames(settings, job, scene):
            name = frame_name(settings, job, frame.number)
            store.write(name, frame.rgb, frame.depth, **facts(frame, scene))
            yield name


def render_in_processes(settings: Settings, jobs: list[SceneJob], workers: int) -> Iterator[str]:
    """As `render_jobs`, with the jobs dealt out to `workers` processes, which share the cores.

    The first error of a worker ends all of them; TrainingError where one was killed.
    """
    context = multiprocessing.get_context("spawn")
    reports: Any = context.Queue()
    processes = [
        context.Process(target=_work, args=(settings, jobs[number::workers], workers, reports), daemon=True)
        for number in range(workers)
    ]
    # Ctrl-C goes to all processes: the workers inherit that it is ignored, and the parent ends them
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for process in processes:
            process.start()
    finally:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield from _collect(processes, reports)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _collect(processes: list[Any], reports: Any) -> Iterator[str]:
    busy = len(processes)
    while busy:
        try:
            report = reports.get(timeout=STILL_ALIVE_S)
        except queue.Empty:
            dead = [process for process in processes if process.exitcode not in (None, 0)]
            if dead:
                raise TrainingError(
                    f"a rendering process ended with {dead[0].exitcode}: too little memory for its scene? "
                    "Run the command again with fewer --workers; it goes on where it stopped"
                ) from None
            continue
        if isinstance(report, DepthSRError):
            raise report
        if report is None:
            busy -= 1
        else:
            yield report


def _work(settings: Settings, jobs: list[SceneJob], workers: int, reports: Any) -> None:
    try:
        backend.limit_threads(max(1, (os.cpu_count() or 1) // workers))
        # the caller has tidied the index, and the other workers write to it
        store = FrameStore(settings.out, settings.split, settings.size, tidy=False)
        for name in render_jobs(settings, jobs, store):
            reports.put(name)
        reports.put(None)
    except DepthSRError as error:
        reports.put(error)
