# SPDX-License-Identifier: Apache-2.0
"""Records topics into a rosbag2 file: the bytes as they come, with the publishers' types, hashes and QoS."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from depth_sr_ros.bag import BagTopic, BagWriter
from depth_sr_ros.bag_types import installed_definition
from depth_sr_ros.errors import ConfigError, DataError
from depth_sr_ros.ros.bag_qos import recorded_qos, requested_qos
from depth_sr_ros.ros.endpoints import SubscriptionEventCallbacks
from depth_sr_ros.ros.main import StopSignals
from depth_sr_ros.ros.message_types import message_class, why_no_topic
from depth_sr_ros.ros.peer import initialised

DISCOVERY_PERIOD_S = 0.2
SPIN_TIMEOUT_S = 0.05
HAS_MESSAGE_INFO = hasattr(Subscription, "CallbackType")  # since Iron


@dataclass(frozen=True)
class RecordSettings:
    """What is recorded where: `topics`, or with `all_topics` every one that is not hidden.

    `duration_s`: from the start of the command; None means until a signal. `storage`, `compression`: see
    BagWriter.
    """

    out: Path
    topics: Sequence[str] = ()
    all_topics: bool = False
    duration_s: float | None = None
    storage: str = "mcap"
    compression: str = "none"

    def __post_init__(self) -> None:
        if bool(self.topics) == self.all_topics:
            raise ConfigError("say which topics to record: either --topics with their names, or --all")
        if self.duration_s is not None and not (self.duration_s > 0 and math.isfinite(self.duration_s)):
            raise ConfigError(f"duration is {self.duration_s:g} s, but must be above 0")
        for name in self.topics:
            if reason := why_no_topic(name):
                raise ConfigError(f"the topic {name!r} cannot be recorded: {reason}")


def record_bag(settings: RecordSettings, console: Console) -> int:
    """Record until a signal or the end of the duration; returns how many messages were written.

    The file is whole however it ends, but for a kill or a machine that fails.

    Raises:
        DataError: the output exists, or it could not be written to the end.
        ConfigError: the storage or the compression is unknown.
    """
    signals = StopSignals()
    with BagWriter(settings.out, settings.storage, settings.compression) as writer, initialised():
        node = Node("depth_sr_recorder", start_parameter_services=False, enable_rosout=False)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        columns = (SpinnerColumn(), TextColumn("{task.description}"))
        try:
            with Progress(*columns, console=console, transient=True) as progress:
                recorder = Recorder(node, writer, settings, progress.console)
                _spin(recorder, executor, settings, signals, progress)
        finally:
            executor.shutdown()
            node.destroy_node()
    recorder.say_what_was_recorded(console)
    if recorder.failure is not None:
        raise recorder.failure
    return recorder.total


def _spin(
    recorder: Recorder,
    executor: SingleThreadedExecutor,
    settings: RecordSettings,
    signals: StopSignals,
    progress: Progress,
) -> None:
    task = progress.add_task("waiting for topics")
    start_s = time.monotonic()
    look_s = 0.0
    while not signals.received and recorder.failure is None:
        now_s = time.monotonic()
        if settings.duration_s is not None and now_s - start_s >= settings.duration_s:
            return
        if now_s >= look_s:
            look_s = now_s + DISCOVERY_PERIOD_S
            recorder.look_for_topics()
            progress.update(task, description=recorder.status(now_s - start_s))
        executor.spin_once(timeout_sec=SPIN_TIMEOUT_S)


class Recorder:
    """Subscribes to topics as they appear and writes what comes; names, once, what cannot be recorded."""

    def __init__(self, node: Node, writer: BagWriter, settings: RecordSettings, console: Console) -> None:
        self._node, self._writer, self._console = node, writer, console
        self._wanted = None if settings.all_topics else {node.resolve_topic_name(t) for t in settings.topics}
        self._subscriptions: dict[str, Subscription] = {}
        self._offers: dict[str, list[QoSProfile]] = {}
        self._refused: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._bytes = self._lost = 0
        self.failure: DataError | None = None
        """Why nothing more can be written."""

    @property
    def total(self) -> int:
        """Messages written."""
        return sum(self._counts.values())

    def look_for_topics(self) -> None:
        """Subscribe to what is new, and ask for less where a publisher has come that offers less."""
        for name, _ in self._node.get_topic_names_and_types():
            if name in self._refused or not self._is_wanted(name):
                continue
            offers = [
                info
                for info in self._node.get_publishers_info_by_topic(name)
                if info.node_name != self._node.get_name()
            ]
            if not offers:
                continue
            try:
                self._subscribe(name, offers)
            except DataError as error:
                self._refused.add(name)
                self._console.print(f"{name} is not recorded: {error}", style="yellow", markup=False)

    def status(self, seconds: float) -> str:
        """One line of counters."""
        if not self._subscriptions:
            return f"{seconds:.0f} s, waiting for a topic to appear"
        lost = f", {self._lost} lost" if self._lost else ""
        return (
            f"{seconds:.0f} s, {self.total} messages, {self._bytes / 1e6:.1f} MB, "
            f"{len(self._subscriptions)} topics{lost}"
        )

    def say_what_was_recorded(self, console: Console) -> None:
        """Messages by topic, what was lost, and what never appeared."""
        table = Table("topic", "messages")
        for name in sorted(self._subscriptions):
            table.add_row(name, str(self._counts[name]))
        if self._subscriptions:
            console.print(table)
        if self._lost:
            console.print(f"{self._lost} messages were lost on their way here", markup=False)
        silent = sorted((self._wanted or set()) - set(self._subscriptions) - self._refused)
        if silent:
            console.print(f"no publisher of {', '.join(silent)} appeared", markup=False)

    def _is_wanted(self, name: str) -> bool:
        if self._wanted is not None:
            return name in self._wanted
        return not any(part.startswith("_") for part in name.split("/"))

    def _subscribe(self, name: str, offers: Sequence[Any]) -> None:
        if name not in self._subscriptions:
            self._announce(name, offers)
        # All that ever came count: a subscription never asks for more than before.
        known = self._offers.setdefault(name, [])
        known += [info.qos_profile for info in offers if info.qos_profile not in known]
        asked, present = requested_qos(known), self._subscriptions.get(name)
        if present is not None:
            if _policies(present.qos_profile) == _policies(asked):
                return
            self._node.destroy_subscription(present)
        msgtype = offers[0].topic_type
        self._subscriptions[name] = self._node.create_subscription(
            message_class(msgtype),
            name,
            self._callback(name, msgtype),
            asked,
            raw=True,
            event_callbacks=SubscriptionEventCallbacks(message_lost=self._on_lost),
        )

    def _announce(self, name: str, offers: Sequence[Any]) -> None:
        """Tell the file of a topic; DataError where it cannot be recorded."""
        types = sorted({info.topic_type for info in offers})
        if len(types) > 1:
            raise DataError(f"its publishers disagree about its type: {', '.join(types)}")
        (msgtype,) = types
        message_class(msgtype)
        text, installed = installed_definition(msgtype)
        live = {str(getattr(info, "topic_type_hash", "")) for info in offers}
        if any(h.startswith("RIHS01_") and h != installed for h in live):
            raise DataError(f"its publisher has another definition of {msgtype} than is installed here")
        qos = recorded_qos([info.qos_profile for info in offers])
        self._writer.add(BagTopic(name, msgtype, text, installed, qos))

    def _callback(self, name: str, msgtype: str) -> Callable[..., None]:
        def with_info(raw: bytes, info: Any) -> None:
            # When it arrived, not when this process had time for it.
            self._write(name, msgtype, info["received_timestamp"] or time.time_ns(), raw)

        def alone(raw: bytes) -> None:
            self._write(name, msgtype, time.time_ns(), raw)

        return with_info if HAS_MESSAGE_INFO else alone

    def _write(self, name: str, msgtype: str, time_ns: int, raw: bytes) -> None:
        if self.failure is not None:
            return
        try:
            self._writer.write(name, msgtype, time_ns, raw)
        except DataError as error:
            # The executor's thread has no use for it: what was written before is still to be closed.
            self.failure = error
            return
        self._counts[name] += 1
        self._bytes += len(raw)

    def _on_lost(self, event: Any) -> None:
        self._lost += event.total_count_change


def _policies(qos: QoSProfile) -> tuple[Any, Any]:
    """The policies by which publishers and subscriptions find each other here."""
    return qos.reliability, qos.durability
