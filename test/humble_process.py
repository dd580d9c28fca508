# SPDX-License-Identifier: Apache-2.0
"""Runs a Python script with what rclpy has in Humble: `SCRIPT ARGUMENTS...`.

Humble's rclpy differs from later ones, where this package uses it, in that it has `rclpy.qos_event` in place
of `rclpy.event_handler`, no event for a matched subscriber, and no Subscription.get_publisher_count.
"""

from __future__ import annotations

import runpy
import sys
from types import ModuleType
from typing import Any

import rclpy.event_handler
import rclpy.lifecycle
import rclpy.node
from rclpy.subscription import Subscription

NEWER = "rclpy.event_handler"


class PublisherEventCallbacks(rclpy.event_handler.PublisherEventCallbacks):
    """With the arguments that Humble takes."""

    def __init__(
        self,
        *,
        deadline: Any = None,
        liveliness: Any = None,
        incompatible_qos: Any = None,
        use_default_callbacks: bool = True,
    ) -> None:
        super().__init__(
            deadline=deadline,
            liveliness=liveliness,
            incompatible_qos=incompatible_qos,
            use_default_callbacks=use_default_callbacks,
        )


class NotInHumble:
    """Finds no module that Humble has not; for sys.meta_path."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Raise where `name` is such a module."""
        if name == NEWER:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def become_humble() -> None:
    """Take away what Humble has not; rclpy itself has imported it before and keeps it."""
    qos_event = ModuleType("rclpy.qos_event")
    qos_event.__dict__.update(vars(rclpy.event_handler), PublisherEventCallbacks=PublisherEventCallbacks)
    sys.modules["rclpy.qos_event"] = qos_event
    del sys.modules[NEWER], rclpy.event_handler
    sys.meta_path.insert(0, NotInHumble())  # type: ignore[arg-type]
    del Subscription.get_publisher_count


if __name__ == "__main__":
    become_humble()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
