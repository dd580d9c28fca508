# SPDX-License-Identifier: Apache-2.0
"""Single keys from the terminal while a command runs; none where its input is no terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from types import TracebackType


class Keyboard:
    """Reads keys as they are pressed, as a context manager that leaves the terminal as it was.

    A process in the background does not touch the terminal: the shell would stop it.
    """

    def __init__(self) -> None:
        self._terminal = _foreground_terminal()
        self._before: list | None = None

    def __enter__(self) -> Keyboard:
        if self._terminal is not None:
            self._before = termios.tcgetattr(self._terminal)
            tty.setcbreak(self._terminal)  # Ctrl-C stays a signal
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal is not None and self._before is not None:
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)

    @property
    def is_there(self) -> bool:
        """Whether keys can come at all."""
        return self._terminal is not None

    def pressed(self) -> str:
        """The keys since the last call, in their order; does not wait."""
        if self._terminal is None or not select.select([self._terminal], [], [], 0)[0]:
            return ""
        return os.read(self._terminal, 64).decode(errors="ignore")


def _foreground_terminal() -> int | None:
    try:
        descriptor = sys.stdin.fileno()
        return descriptor if os.tcgetpgrp(descriptor) == os.getpgrp() else None
    except (AttributeError, OSError, ValueError):  # no stdin, no terminal, a closed or captured one
        return None
