# SPDX-License-Identifier: Apache-2.0
"""A mailbox with one slot: the newest item wins, and what it overwrote is counted."""

from __future__ import annotations

import threading
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class MailboxCounts(NamedTuple):
    """At every moment: put = taken + overwritten + waiting."""

    put: int
    taken: int
    overwritten: int
    waiting: int


class Mailbox(Generic[Item]):
    """Hands items from the threads that produce them to the one that consumes them, latest only."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._slot: list[Item] = []
        self._closed = False
        self._put = 0
        self._taken = 0
        self._overwritten = 0

    def put(self, item: Item) -> None:
        """Leave an item, over the one that waits if any; on a closed mailbox it counts as overwritten."""
        with self._changed:
            self._put += 1
            if self._closed:
                self._overwritten += 1
                return
            self._overwritten += len(self._slot)
            self._slot = [item]
            self._changed.notify()

    def take(self, timeout: float | None = None) -> Item | None:
        """Wait for an item, at most `timeout` seconds; None when the mailbox is closed or the time over."""
        with self._changed:
            self._changed.wait_for(lambda: self._slot or self._closed, timeout)
            if not self._slot:
                return None
            self._taken += 1
            return self._slot.pop()

    def clear(self) -> None:
        """Drop the item that waits, if any; it counts as overwritten."""
        with self._changed:
            self._overwritten += len(self._slot)
            self._slot.clear()

    def close(self) -> None:
        """Wake whoever waits, for good; an item still in the slot counts as overwritten."""
        with self._changed:
            self._closed = True
            self._overwritten += len(self._slot)
            self._slot.clear()
            self._changed.notify_all()

    def counts(self) -> MailboxCounts:
        """The counters, of one moment."""
        with self._changed:
            return MailboxCounts(self._put, self._taken, self._overwritten, len(self._slot))
