# SPDX-License-Identifier: Apache-2.0
"""A soak: the real node between a camera and a listener for minutes, its memory and its counters watched."""

from __future__ import annotations

import os
import time
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from depth_sr_ros.ros import dds
from depth_sr_ros.ros.main import STOPPED, StopSignals
from depth_sr_ros.ros.probe import Counters, Probe
from depth_sr_ros.ros.processes import Processes
from depth_sr_ros.ros.soak_report import (
    MAX_SLOPE_MB_PER_MINUTE,
    Outcome,
    Sample,
    Settings,
    broken_identities,
    slope,
    table,
    write_json,
)
from depth_sr_ros.ros_domain import isolate
from depth_sr_ros.stats import p50_p95

SAMPLE_PERIOD_S = 1.0
START_TIMEOUT_S = 120.0
# Longer than a loaded machine makes a thread wait.
SILENCE_S = 20.0


def run_soak(settings: Settings, json_file: Path | None, console: Console) -> int:
    """Run it, print the table, write the numbers; returns 0, 1 on a fault, 130 where a signal ended it."""
    isolate(os.environ)
    dds.prepare_process()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signals = StopSignals()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    try:
        with Processes(os.environ) as processes, Progress(*columns, console=console) as progress:
            outcome = Soak(settings, processes, signals).run(progress)
    finally:
        rclpy.try_shutdown()
    console.print(table(outcome))
    for fault in outcome.faults:
        console.print(fault, style="red", markup=False)
    if json_file is not None:
        write_json(json_file, outcome)
    if signals.received:
        return STOPPED
    console.print("failed" if outcome.faults else "passed")
    return 1 if outcome.faults else 0


def read_sample(pid: int, seconds: float) -> Sample | None:
    """RSS in MB (2^20 bytes) and number of threads of a process, as /proc tells them; None once it ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return Sample(seconds, int(values["VmRSS"].split()[0]) / 1024, int(values["Threads"]))
    except (OSError, KeyError):  # KeyError: it has ended, and nobody has asked for its code yet
        return None


class Soak:
    """One run. The processes end with the block of `processes`; `signals` ends it early."""

    def __init__(self, settings: Settings, processes: Processes, signals: StopSignals) -> None:
        self.outcome = Outcome(settings)
        self._processes = processes
        self._signals = signals
        self._probe = Probe(on_counters=self._check)
        self._pid = 0
        self._started = 0.0

    def run(self, progress: Progress) -> Outcome:
        """From the start of the processes to their end."""
        try:
            if self._start():
                self._watch(progress)
        finally:
            self._probe.close()
        codes = self._processes.stop()
        for name, code in codes.items():
            if code:
                self.outcome.add_fault(self._processes.complaint(name))
        return self.outcome

    def _start(self) -> bool:
        settings = self.outcome.settings
        sizes = {"rgb": list(settings.rgb_size), "depth": list(settings.depth_size)}
        warm_up = [part for name, size in sizes.items() for part in ("-p", f"warmup.{name}_size:={size}")]
        variant = ["-p", f"variant:={settings.variant}"]
        self._pid = self._processes.start("node", "depth_sr_ros.ros.main", ["--ros-args", *variant, *warm_up])
        options = {f"--{name}-size": "{}x{}".format(*size) for name, size in sizes.items()}
        options |= {
            "--rate": str(settings.rate),
            "--frames": str(round(settings.minutes * 60 * settings.rate)),
        }
        arguments = [part for option in options.items() for part in option]
        self._processes.start("camera", "depth_sr_ros.ros.synthetic_camera", arguments)
        self._probe.wait(lambda: self._probe.received or self._is_over(), START_TIMEOUT_S)
        if not self._probe.received and not self.outcome.faults and not self._signals.received:
            self.outcome.add_fault(f"no output within {START_TIMEOUT_S:g} s")
        self._started = time.monotonic()
        return bool(self._probe.received)

    def _watch(self, progress: Progress) -> None:
        total = self.outcome.settings.minutes * 60
        task = progress.add_task("", total=total)
        while self._probe.sent is None and not self._is_over():
            seconds = time.monotonic() - self._started
            sample = read_sample(self._pid, seconds)
            if sample is not None:
                self._take(sample)
                text = f"RSS {sample.rss_mb:.1f} MB, {self._probe.received} frames answered"
                progress.update(task, completed=min(seconds, total), description=text)
            self._probe.wait(lambda: self._probe.sent is not None, SAMPLE_PERIOD_S)
        if not self._is_over() and not self._probe.settle(node=True):
            self.outcome.add_fault("the node still works, long after the last frame")
        self._conclude(time.monotonic() - self._started)

    def _take(self, sample: Sample) -> None:
        samples = self.outcome.samples
        if samples and sample.threads < samples[-1].threads:
            self.outcome.add_fault(f"threads of the node: {samples[-1].threads}, then {sample.threads}")
        samples.append(sample)

    def _is_over(self) -> bool:
        """Whether it ends early: by a signal, a process that ended, or silence."""
        dead = [name for name in ("node", "camera") if self._processes.ended(name) is not None]
        for name in dead:
            self.outcome.add_fault(self._processes.complaint(name))
        silent = []
        if self._started and self._probe.sent is None:
            times = {"diagnostics": self._probe.last_report, "output": self._probe.last_image}
            silent = [name for name, last in times.items() if time.monotonic() - last > SILENCE_S]
        for name in silent:
            self.outcome.add_fault(f"no {name} for {SILENCE_S:g} s: a thread has ended or hangs")
        return bool(dead or silent or self._signals.received)

    def _check(self, counters: Counters) -> None:
        if "pairs" in counters:  # not while it is still being configured
            for text in broken_identities(counters):
                self.outcome.add_fault(f"accounting: {text}")
            if counters["failed"]:
                self.outcome.add_fault(f"the worker has ended: {self._probe.values['failure']}")

    def _conclude(self, seconds: float) -> None:
        out, probe = self.outcome, self._probe
        out.counters, out.reports, out.received = probe.counters, probe.reports, probe.received
        out.sent = probe.sent
        out.latency_p50_ms, out.latency_p95_ms = p50_p95(probe.latencies_ms)
        out.slope_mb_per_minute = slope(out.samples, seconds)
        # Of one that was ended early the line is of the settling, or of too few minutes.
        if (
            out.sent is not None
            and out.settings.is_judged
            and not out.slope_mb_per_minute <= MAX_SLOPE_MB_PER_MINUTE
        ):
            out.add_fault(
                f"RSS grows by {out.slope_mb_per_minute:.2f} MB a minute, above {MAX_SLOPE_MB_PER_MINUTE:g}"
            )
        if out.lost and min(out.lost.values()) < 0:
            out.add_fault(f"more came than was sent: {out.lost}")
