# SPDX-License-Identifier: Apache-2.0
"""What the processes around the node share, cameras and listeners: their start, their end, who listens."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rclpy
from rclpy.publisher import Publisher
from rclpy.signals import SignalHandlerOptions

from depth_sr_ros.errors import DataError, DepthSRError
from depth_sr_ros.ros import dds

START_TIMEOUT_S = 90.0
POLL_PERIOD_S = 0.02


@contextmanager
def initialised() -> Iterator[None]:
    """rclpy in a process fit for images, until the end of the block; it takes no signals."""
    dds.prepare_process()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield
    finally:
        rclpy.try_shutdown()


def run_peer(work: Callable[[], int]) -> int:
    """Call `work` with rclpy initialised in a process fit for images; returns what it returns.

    rclpy takes no signals. A DepthSRError becomes one line on stderr and 1.
    """
    try:
        with initialised():
            return work()
    except DepthSRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def wait_for_subscriber(
    publisher: Publisher, hint: str = "", is_stopped: Callable[[], bool] = lambda: False
) -> None:
    """Wait until somebody listens to `publisher`, or `is_stopped` says that it is to end.

    Raises DataError, which ends with `hint`, when nobody does in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while not publisher.get_subscription_count() and not is_stopped():
        if time.monotonic() > deadline:
            raise DataError(f"nobody listens to {publisher.topic_name} after {START_TIMEOUT_S:g} s{hint}")
        time.sleep(POLL_PERIOD_S)
