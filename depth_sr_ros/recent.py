# SPDX-License-Identifier: Apache-2.0
"""A mapping that keeps what was used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """At most `most` values by their keys; a new one takes the place of the least recently used."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Value | None:
        """The value, which counts as used now; None where it is not kept."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def make_room(self) -> None:
        """Let go of what the next new value would replace: of large values, before that one is made."""
        while len(self._values) >= self._most:
            self._values.popitem(last=False)

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value."""
        self._values.pop(key, None)
        self.make_room()
        self._values[key] = value

    def clear(self) -> None:
        """Keep nothing."""
        self._values.clear()
