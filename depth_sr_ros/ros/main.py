# SPDX-License-Identifier: Apache-2.0
"""The executable `depth_sr_node`: prepares the process, runs the node, ends cleanly on a signal."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from depth_sr_ros import shared_memory
from depth_sr_ros.errors import DepthSRError
from depth_sr_ros.ros import dds
from depth_sr_ros.ros_installation import need_rclpy

if TYPE_CHECKING:
    from rclpy.executors import SingleThreadedExecutor

    from depth_sr_ros.ros.node import DepthSRNode

SPIN_TIMEOUT_S = 0.2
MIXED_LIST = "Sequence should be of same type"
STOPPED = 130  # what a shell reports for a process that SIGINT ended


class StopSignals:
    """Turns SIGINT, SIGTERM and SIGHUP into a flag, so that no cleanup is ever interrupted.

    rclpy's own handlers let a second SIGINT raise KeyboardInterrupt wherever the cleanup is. The third
    signal has its default effect again: a process that hangs can be ended. A terminal that is closed sends
    SIGHUP, often more than once, which counts once; under nohup it is ignored, and stays so.
    """

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self.count:
            return
        self.count += 1
        if self.count == 2:
            for handled in (signal.SIGINT, signal.SIGTERM):
                signal.signal(handled, signal.SIG_DFL)

    @property
    def received(self) -> bool:
        """Whether the process is to end."""
        return self.count > 0


def main(args: list[str] | None = None, make_engine: Callable[[dict[str, Any]], Any] | None = None) -> int:
    """Run the node until a signal (returns 0) or an error (returns 1, after one sentence on stderr).

    With `autostart` a network that breaks down is such an error; else a lifecycle manager has to recover it.

    `make_engine` replaces the network by another engine, as for DepthSRNode: to measure the node alone.
    """
    signals = StopSignals()
    try:
        need_rclpy("the node")
        profile = dds.prepare_process()
    except DepthSRError as error:
        return _complain(str(error))
    memory = shared_memory.measure() if profile else None  # before this process takes some of it
    import rclpy  # reads the environment: after prepare_process
    import rclpy.logging
    from rclpy.impl.implementation_singleton import rclpy_implementation

    try:
        rclpy.init(args=args, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    except (rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError) as error:
        text = " ".join(str(error).split())
        # rcl takes no list of both kinds, as [0.015, 0, 0], and does not say what to write.
        hint = "; write 0.0 for 0 in a list of numbers that are not whole" if MIXED_LIST in text else ""
        return _complain(f"the ROS arguments cannot be used: {text}{hint}")
    if memory is not None and memory.complaint:
        rclpy.logging.get_logger("depth_sr").warning(f"{memory.complaint}; {memory.remedy}")
    try:
        return _run(signals, make_engine)
    finally:
        rclpy.try_shutdown()


def _run(signals: StopSignals, make_engine: Callable[[dict[str, Any]], Any] | None) -> int:
    from rclpy.exceptions import ParameterException
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.logging import get_logger

    from depth_sr_ros.ros.engine_loader import load_engine
    from depth_sr_ros.ros.node import SUCCESS, DepthSRNode

    node: DepthSRNode | None = None
    executor = SingleThreadedExecutor()
    try:
        node = DepthSRNode(make_engine or load_engine)
        executor.add_node(node)
        autostart = node.parameters["autostart"]
        if autostart:
            for trigger in (node.trigger_configure, node.trigger_activate):
                if signals.received:
                    break
                if trigger() != SUCCESS:
                    get_logger("depth_sr").fatal(f"the start failed: {node.failure}")
                    return 1
        while not signals.received:
            _spin_once(executor)
            if autostart and node.broken:
                why = node.broken.splitlines()[0]  # CUDA's errors have more, and the log has them already
                get_logger("depth_sr").fatal(
                    f"the network failed: {why}; the process ends, so that it can be started anew"
                )
                return 1
        return 0
    except (DepthSRError, ParameterException) as error:
        get_logger("depth_sr").fatal(str(error))
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except Exception:  # not foreseen: the traceback is what helps
        get_logger("depth_sr").fatal("the node failed:\n" + traceback.format_exc())
        return 1
    finally:
        if node is not None:
            executor.shutdown()
            node.destroy_node()


def _spin_once(executor: SingleThreadedExecutor) -> None:
    import rclpy
    from rclpy.impl.implementation_singleton import rclpy_implementation
    from rclpy.logging import get_logger

    try:
        executor.spin_once(timeout_sec=SPIN_TIMEOUT_S)
    except rclpy_implementation.RCLError as error:
        # Before ros2/rclpy#1319 a lifecycle request that the state does not allow comes out here.
        if not rclpy.ok():
            raise
        get_logger("depth_sr").error(f"a request was refused: {error}")


def _complain(text: str) -> int:
    print(f"depth_sr: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
