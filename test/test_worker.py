# SPDX-License-Identifier: Apache-2.0
"""The worker: one thread makes and runs the engine; bad frames are counted, any other error ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from depth_sr_ros.errors import CheckpointError, FrameError
from depth_sr_ros.mailbox import Mailbox
from depth_sr_ros.worker import EngineWorker, WorkerCounts


class Doubler:
    """An engine that a queue can be tested with: doubles an array, refuses a negative one, breaks on NaN."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()

    def __call__(self, values: np.ndarray) -> np.ndarray:
        assert threading.get_ident() == self.thread
        if np.isnan(values).any():
            raise RuntimeError("CUDA error: device-side assert triggered")
        if (values < 0).any():
            raise FrameError(f"the smallest value is {values.min():g}, but must be at least 0")
        return values * 2


class Bench:
    """A worker with all that it reports."""

    def __init__(self, factory: Callable[[], Doubler] = Doubler) -> None:
        self.box: Mailbox[np.ndarray] = Mailbox()
        self.results: list[np.ndarray] = []
        self.bad: list[FrameError] = []
        self.errors: list[Exception] = []
        self.worker = EngineWorker(factory, self.box, self._handle, self.bad.append, self.errors.append)

    def _handle(self, engine: Doubler, job: np.ndarray) -> None:
        self.results.append(engine(job))

    def give(self, *values: float) -> None:
        """Put a job and wait until it has ended."""
        ended = sum(self.worker.counts())
        self.box.put(np.array(values))
        deadline = time.monotonic() + 5
        while sum(self.worker.counts()) == ended:
            assert time.monotonic() < deadline, "the worker did not end the job"
            time.sleep(0.001)


@pytest.fixture
def bench():
    out = Bench()
    yield out
    out.worker.stop()
    assert not out.worker.is_alive


def test_the_engine_is_made_and_used_on_the_workers_thread(bench: Bench) -> None:
    bench.worker.start()
    bench.give(1.0, 2.0)
    assert bench.results[0].tolist() == [2.0, 4.0]
    assert bench.worker.counts() == WorkerCounts(done=1, bad=0, failed=0)


def test_start_returns_when_the_engine_is_ready() -> None:
    made = threading.Event()

    def slow() -> Doubler:
        time.sleep(0.05)
        made.set()
        return Doubler()

    bench = Bench(slow)
    bench.worker.start()
    assert made.is_set()
    bench.worker.stop()


def test_start_raises_what_the_factory_raised_and_leaves_no_thread() -> None:
    def broken() -> Doubler:
        raise CheckpointError("no checkpoint at 'edge.safetensors'")

    bench = Bench(broken)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        bench.worker.start()
    assert not bench.worker.is_alive
    bench.worker.stop()


def test_a_bad_frame_is_counted_and_the_next_one_answered(bench: Bench) -> None:
    bench.worker.start()
    bench.give(-3.0)
    bench.give(4.0)
    assert [str(error) for error in bench.bad] == ["the smallest value is -3, but must be at least 0"]
    assert bench.results[0].tolist() == [8.0]
    assert bench.errors == []
    assert bench.worker.counts() == WorkerCounts(done=1, bad=1, failed=0)


def test_any_other_error_is_reported_once_and_ends_the_thread(bench: Bench) -> None:
    bench.worker.start()
    bench.give(float("nan"))
    bench.worker.stop()
    bench.box.put(np.array([1.0]))
    assert [str(error) for error in bench.errors] == ["CUDA error: device-side assert triggered"]
    assert bench.results == []
    assert bench.worker.counts() == WorkerCounts(done=0, bad=0, failed=1)


def test_stop_waits_for_the_job_under_way() -> None:
    bench = Bench()
    entered, leave = threading.Event(), threading.Event()
    ended: list[bool] = []

    def handle(engine: Doubler, job: np.ndarray) -> None:
        entered.set()
        leave.wait(5)
        ended.append(True)

    worker = EngineWorker(Doubler, bench.box, handle, bench.bad.append, bench.errors.append)
    worker.start()
    bench.box.put(np.zeros(1))
    assert entered.wait(5)
    threading.Timer(0.05, leave.set).start()
    worker.stop()
    assert ended == [True]
    assert not worker.is_alive


def test_waiting_until_idle_waits_for_the_job_under_way_at_most_as_long_as_it_is_told() -> None:
    entered, leave = threading.Event(), threading.Event()

    def handle(engine: Doubler, job: float) -> None:
        entered.set()
        leave.wait(5)

    box: Mailbox[float] = Mailbox()
    worker = EngineWorker(Doubler, box, handle, lambda error: None, lambda error: None)
    worker.start()
    try:
        assert worker.wait_idle(0.0), "nothing is under way"
        box.put(1.0)
        assert entered.wait(5)
        assert not worker.wait_idle(0.01)
        threading.Timer(0.02, leave.set).start()
        start = time.monotonic()
        assert worker.wait_idle(60.0)
        assert time.monotonic() - start < 30, "the end of the job wakes who waits"
        assert worker.counts() == WorkerCounts(done=1, bad=0, failed=0)
    finally:
        leave.set()
        worker.stop()


def test_stop_is_safe_before_start_and_twice() -> None:
    bench = Bench()
    bench.worker.stop()
    started = Bench()
    started.worker.start()
    started.worker.stop()
    started.worker.stop()
    assert not started.worker.is_alive


def test_a_job_is_let_go_before_the_next_one_comes() -> None:
    gone = threading.Event()

    class Image:
        def __del__(self) -> None:
            gone.set()

    box: Mailbox[Image] = Mailbox()
    worker = EngineWorker(Doubler, box, lambda engine, job: None, lambda error: None, lambda error: None)
    worker.start()
    box.put(Image())
    assert gone.wait(5)
    worker.stop()
