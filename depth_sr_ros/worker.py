# SPDX-License-Identifier: Apache-2.0
"""The one thread that owns the engine: it loads, warms up and runs there; CUDA graphs are thread-local."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from depth_sr_ros.errors import FrameError
from depth_sr_ros.mailbox import Mailbox

Engine = TypeVar("Engine")
Job = TypeVar("Job")


class WorkerCounts(NamedTuple):
    """Jobs taken and ended: `done` well, `bad` with a FrameError, `failed` with any other exception."""

    done: int
    bad: int
    failed: int


class EngineWorker(Generic[Engine, Job]):
    """Takes jobs from a mailbox and handles each with the engine, on a thread of its own.

    Args:
        factory: makes the engine, warm-up included; called once, on the worker's thread.
        mailbox: where the jobs come from; `stop` closes it.
        handle: does one job with the engine. A FrameError means that the job's frames are at fault: it
            counts as bad and the next job follows. Any other exception is the end: the thread reports it
            and stops, since a broken device answers every further frame with the same error.
        on_bad: told of each FrameError.
        on_error: told of the exception that ended the thread.

    All four callables run on the worker's thread.
    """

    def __init__(
        self,
        factory: Callable[[], Engine],
        mailbox: Mailbox[Job],
        handle: Callable[[Engine, Job], None],
        on_bad: Callable[[FrameError], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._factory = factory
        self._mailbox = mailbox
        self._handle = handle
        self._on_bad = on_bad
        self._on_error = on_error
        self._done = self._bad = self._failed = 0
        self._ended = threading.Condition()
        self._ready = threading.Event()
        self._factory_error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="depth_sr_worker")

    def start(self) -> None:
        """Start the thread and wait until the engine is ready; raises what the factory raised."""
        self._thread.start()
        self._ready.wait()
        if self._factory_error is not None:
            self._thread.join()
            # Its traceback holds what the factory had built: a GPU's memory must not wait for the next
            # garbage collection.
            error, self._factory_error = self._factory_error, None
            try:
                raise error
            finally:
                del error

    def stop(self) -> None:
        """Close the mailbox and wait for the job under way; safe to call twice, and before `start`."""
        self._mailbox.close()
        if self._thread.ident is not None:
            self._thread.join()

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until no job is under way; False when `timeout` seconds are over. Empty the mailbox first."""
        with self._ended:
            return self._ended.wait_for(lambda: self._mailbox.counts().taken == sum(self._counts()), timeout)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def counts(self) -> WorkerCounts:
        """The counters, of one moment. Taken from the mailbox minus their sum: the jobs under way, 0 or 1."""
        with self._ended:
            return self._counts()

    def _run(self) -> None:
        try:
            engine = self._factory()
        except BaseException as error:  # raised again by start()
            self._factory_error = error
            return
        finally:
            self._ready.set()
        while (job := self._mailbox.take()) is not None:
            if not self._do(engine, job):
                return
            # The job holds two images: they must not stay alive until the next one comes.
            del job

    def _do(self, engine: Engine, job: Job) -> bool:
        try:
            self._handle(engine, job)
        except FrameError as error:
            self._count(bad=1)
            self._on_bad(error)
        except BaseException as error:  # the boundary of the thread: counted, reported, then the end
            self._count(failed=1)
            if not isinstance(error, Exception):
                raise
            self._on_error(error)
            return False
        else:
            self._count(done=1)
        return True

    def _count(self, done: int = 0, bad: int = 0, failed: int = 0) -> None:
        with self._ended:
            self._done += done
            self._bad += bad
            self._failed += failed
            self._ended.notify_all()

    def _counts(self) -> WorkerCounts:
        return WorkerCounts(self._done, self._bad, self._failed)
