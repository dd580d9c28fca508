# SPDX-License-Identifier: Apache-2.0
"""Python processes that end with the block that started them, however it ends, and keep their output."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType

STOP_TIMEOUT_S = 15.0
LOG_LINES = 15


def end(processes: Collection[subprocess.Popen], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End what still runs: by SIGTERM, after `timeout_s` by SIGKILL."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Processes:
    """Starts modules as processes in sessions of their own: Ctrl-C in the terminal reaches this one alone.

    Args:
        environment: of all of them.
        logs: the folder that keeps their output; where None it goes with the block.
    """

    def __init__(self, environment: Mapping[str, str], logs: Path | None = None) -> None:
        self._environment = dict(environment)
        self._folder = tempfile.TemporaryDirectory(prefix="depth_sr_")
        self._logs = logs or Path(self._folder.name)
        self._processes: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def start(
        self, name: str, module: str, arguments: Sequence[object] = (), has_terminal: bool = False
    ) -> int:
        """Start `python -m module arguments`; returns its process id.

        `has_terminal`: it prints where this process does, and has no log.
        """
        with open(os.devnull) if has_terminal else self._log(name).open("wb") as log:
            stream = None if has_terminal else log
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        return self._processes[name].pid

    def ended(self, name: str) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._processes[name].poll()

    def complaint(self, name: str) -> str:
        """That it has ended, with what code and last words."""
        lines = self._log(name).read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join([f"the {name} process ended with code {self.ended(name)}; its last output:", *lines])

    def stop(self) -> dict[str, int]:
        """End all that run, by SIGTERM, then by SIGKILL; returns the exit codes. Safe to call again."""
        end(self._processes.values())
        return {name: process.returncode for name, process in self._processes.items()}

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"
