# SPDX-License-Identifier: Apache-2.0
"""Plays a recording: its messages as they were recorded, at its own pace or another, once or for ever."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rclpy.duration import Duration
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.publisher import Publisher
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rosgraph_msgs.msg import Clock

from depth_sr_ros.bag import BagMessage, BagReader, BagTopic
from depth_sr_ros.errors import ConfigError, DataError
from depth_sr_ros.keyboard import Keyboard
from depth_sr_ros.playback_clock import PlaybackClock
from depth_sr_ros.ros.bag_qos import is_latched, played_qos
from depth_sr_ros.ros.main import StopSignals
from depth_sr_ros.ros.message_types import message_class, why_no_topic
from depth_sr_ros.ros.messages import NS_PER_S, header
from depth_sr_ros.ros.peer import initialised

CLOCK_TOPIC = "/clock"
CLOCK_PERIOD_S = 0.01
POLL_PERIOD_S = 0.02
SHOW_PERIOD_S = 0.1
# A subscriber discovers this side by itself, maybe later; if it is best effort, it misses what came before.
SETTLE_S = 1.0
# A process that ends takes with it what its subscribers have not fetched yet.
LINGER_S = 0.5
ACKNOWLEDGE_S = 2.0


@dataclass(frozen=True)
class PlaySettings:
    """What is played, and how. `topics`: these alone; none named means all.

    `rate`: seconds of the recording in a second. `start_s`: how far into the recording it begins.
    `with_clock`: publish /clock too. `is_paused`: until a key. `wait_s`: how long to wait, at most, until
    each topic has a subscriber.
    """

    bag: Path
    rate: float = 1.0
    loop: bool = False
    start_s: float = 0.0
    topics: Sequence[str] = ()
    with_clock: bool = False
    is_paused: bool = False
    wait_s: float = 3.0

    def __post_init__(self) -> None:
        for name, value in (("start", self.start_s), ("wait-for-subscribers", self.wait_s)):
            if not 0 <= value < float("inf"):
                raise ConfigError(f"{name} is {value:g} s, but must be at least 0")


def play_bag(settings: PlaySettings, console: Console) -> int:
    """Play until the end or a signal; returns how many messages were published.

    Raises:
        DataError: no such bag or topic, an empty or damaged bag, or nothing in it that can be played.
        ConfigError: the rate or the start cannot be.
    """
    clock = PlaybackClock(settings.rate, settings.is_paused)
    signals = StopSignals()
    with BagReader(settings.bag) as bag:
        _check(settings, bag)
        with initialised(), Keyboard() as keyboard:
            node = Node("depth_sr_player", start_parameter_services=False)
            try:
                player = BagPlayer(node, bag, settings, clock, signals, keyboard, console)
                return player.play()
            finally:
                node.destroy_node()


def _check(settings: PlaySettings, bag: BagReader) -> None:
    """Say what the recording cannot give before ROS starts."""
    bag.check_not_empty()
    if settings.start_s > bag.duration_s:
        raise ConfigError(f"start is {settings.start_s:g} s, but {bag.path} lasts {bag.duration_s:.1f} s")
    missing = sorted(set(settings.topics) - set(bag.topics))
    if missing:
        known = ", ".join(sorted(bag.topics))
        raise DataError(f"{bag.path} holds no topic {', '.join(missing)}: it holds {known}")


class BagPlayer:
    """The publishers of a recording's topics; a topic that cannot be played is named, and left out.

    Args:
        clock: gives the pace; space and SIGUSR1 stop it and let it go on.
        signals: end it.

    Raises:
        DataError: no topic can be played.
    """

    def __init__(
        self,
        node: Node,
        bag: BagReader,
        settings: PlaySettings,
        clock: PlaybackClock,
        signals: StopSignals,
        keyboard: Keyboard,
        console: Console,
    ) -> None:
        self._node, self._bag, self._settings, self._clock = node, bag, settings, clock
        self._signals, self._keyboard, self._console = signals, keyboard, console
        self._toggles = 0
        signal.signal(signal.SIGUSR1, self._on_toggle)  # whose default effect is to end the process
        self._first_ns = bag.start_ns + round(settings.start_s * NS_PER_S)
        self._latched: list[str] = []
        self._publishers = self._make_publishers()
        self._clock_publisher = node.create_publisher(Clock, CLOCK_TOPIC, 10) if settings.with_clock else None
        self._next_tick_s = self._next_show_s = 0.0
        self._sent = self._failed = 0

    def play(self) -> int:
        """Publish everything at its time; returns how many messages that were."""
        with self._console.status("waiting for subscribers"):
            self._wait_for_subscribers()
        columns = (TextColumn("{task.description}"), BarColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            length = max(self._bag.duration_s - self._settings.start_s, 1e-9)
            task = progress.add_task("playing", total=length)
            while self._play_once(progress, task) and self._settings.loop:
                pass
        if not self._signals.received:
            self._wait_until_fetched()
        self._say_what_was_played()
        return self._sent

    def _make_publishers(self) -> dict[str, Publisher]:
        wanted = self._settings.topics or self._bag.topics
        publishers: dict[str, Publisher] = {}
        skipped = []
        for topic in self._bag.recorded:
            if topic.name not in wanted or not topic.count:
                continue
            try:
                publishers[topic.name] = self._publisher(topic)
            except DataError as error:
                skipped.append(f"{topic.name} is not played: {error}")
                continue
            if is_latched(topic):
                self._latched.append(topic.name)
        if not publishers:
            raise DataError(
                f"nothing of {self._bag.path} can be played: {'; '.join(skipped) or 'no message'}"
            )
        for sentence in skipped:
            self._console.print(sentence, style="yellow", markup=False)
        return publishers

    def _publisher(self, topic: BagTopic) -> Publisher:
        if topic.name == CLOCK_TOPIC and self._settings.with_clock:
            raise DataError("--clock publishes its own")
        if reason := why_no_topic(topic.name):
            raise DataError(reason)
        kind = message_class(topic.msgtype)
        publisher: Publisher = self._node.create_publisher(kind, topic.name, played_qos(topic))
        installed = {
            str(getattr(info, "topic_type_hash", ""))  # since Iron
            for info in self._node.get_publishers_info_by_topic(topic.name)
            if info.node_name == self._node.get_name()
        }
        # The bytes would be taken for another message.
        differs = topic.type_hash and any(h.startswith("RIHS01_") and h != topic.type_hash for h in installed)
        if differs:
            self._node.destroy_publisher(publisher)
            raise DataError(f"it was recorded with another definition of {topic.msgtype} than is installed")
        return publisher

    def _wait_for_subscribers(self) -> None:
        deadline = time.monotonic() + self._settings.wait_s
        while self._unheard() and time.monotonic() < deadline and not self._signals.received:
            time.sleep(POLL_PERIOD_S)
        if len(self._unheard()) < len(self._publishers) and not self._signals.received:
            time.sleep(SETTLE_S)

    def _unheard(self) -> list[str]:
        return [name for name, p in self._publishers.items() if not p.get_subscription_count()]

    def _publish_latched(self) -> None:
        """What late subscribers would have got at the start: /tf_static comes before all that needs it."""
        if self._latched and self._settings.start_s:
            for message in self._bag.messages(self._latched, stop_ns=self._first_ns):
                self._publish(message)

    def _play_once(self, progress: Progress, task: TaskID) -> bool:
        """One round; False where a signal ended it."""
        self._clock.start(self._first_ns)
        begun = False
        for message in self._bag.messages(self._publishers, self._first_ns):
            # The keys come before the look at the clock: after a pause nothing goes out, however late it is.
            while self._go_on(progress, task, message.time_ns):
                left_s = self._clock.seconds_until(message.time_ns)
                if left_s <= 0:
                    break
                time.sleep(min(left_s, CLOCK_PERIOD_S if self._clock_publisher else POLL_PERIOD_S))
            else:
                return False
            if not begun:
                self._publish_latched()
            begun = True
            self._publish(message)
        if not begun:
            names = ", ".join(self._publishers)
            raise DataError(f"{self._bag.path} holds no message on {names} from --start on")
        return True

    def _go_on(self, progress: Progress, task: TaskID, next_ns: int) -> bool:
        """What is to be done between two messages; False where it is to end."""
        for _ in range(self._toggles + self._keyboard.pressed().count(" ")):
            self._clock.toggle()
        self._toggles = 0
        now_s = time.monotonic()
        # Where the machine is too slow, the messages are late, and the clock must not be ahead of them.
        time_ns = min(self._clock.now_ns, next_ns)
        if self._clock_publisher and not self._clock.is_paused and now_s >= self._next_tick_s:
            self._next_tick_s = now_s + CLOCK_PERIOD_S
            self._clock_publisher.publish(Clock(clock=header(time_ns, "").stamp))
        if now_s >= self._next_show_s:
            self._next_show_s = now_s + SHOW_PERIOD_S
            seconds = (time_ns - self._first_ns) / NS_PER_S
            progress.update(task, description=self._status(seconds), completed=seconds)
        return not self._signals.received

    def _status(self, seconds: float) -> str:
        if self._clock.is_paused:
            key = "space goes on" if self._keyboard.is_there else "SIGUSR1 goes on"
            return f"paused at {seconds:.1f} s, {key}"
        key = ", space pauses" if self._keyboard.is_there else ""
        return f"{seconds:.1f} s, {self._sent} messages{key}"

    def _publish(self, message: BagMessage) -> None:
        try:
            self._publishers[message.topic].publish(message.raw)
            self._sent += 1
        except rclpy_implementation.RCLError:  # a full queue; the others are worth going on for
            self._failed += 1

    def _wait_until_fetched(self) -> None:
        deadline = time.monotonic() + ACKNOWLEDGE_S
        for publisher in self._publishers.values():
            left_s = max(0.0, deadline - time.monotonic())
            publisher.wait_for_all_acked(Duration(nanoseconds=round(left_s * NS_PER_S)))
        time.sleep(LINGER_S)

    def _say_what_was_played(self) -> None:
        failed = f", {self._failed} could not be sent" if self._failed else ""
        count = len(self._publishers)
        topics = "1 topic" if count == 1 else f"{count} topics"
        self._console.print(f"{self._sent} messages on {topics}{failed}", markup=False)
        unheard = self._unheard()
        if unheard:
            self._console.print(f"nobody listens to {', '.join(unheard)}", markup=False)

    def _on_toggle(self, number: int, frame: FrameType | None) -> None:
        self._toggles += 1
