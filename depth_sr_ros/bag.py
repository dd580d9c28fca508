# SPDX-License-Identifier: Apache-2.0
"""Reads and writes rosbag2 files (mcap, sqlite3) without ROS, through the `rosbags` library."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import (
    CompressionFormat,
    CompressionMode,
    Reader,
    StoragePlugin,
    Writer,
    WriterError,
)
from rosbags.serde import SerdeError

from depth_sr_ros.bag_types import definition_text, known_types, ros2_types
from depth_sr_ros.bag_types import type_hash as hash_of
from depth_sr_ros.config import check_choice
from depth_sr_ros.errors import DataError

if TYPE_CHECKING:
    from depth_sr_ros.mcap_recovery import RecoveredReader

# Metadata of version 8 is read by every distribution since Iron; Jazzy and later write version 9.
METADATA_VERSION: Final = 8

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
# mcap compresses its chunks, sqlite3 cannot: each message by itself then.
ZSTD_MODES = {"mcap": CompressionMode.STORAGE, "sqlite3": CompressionMode.MESSAGE}
COMPRESSIONS = ("none", "zstd")


@dataclass(frozen=True)
class BagMessage:
    """One recorded message: `raw` is its CDR serialisation, as `publisher.publish(bytes)` takes it."""

    topic: str
    msgtype: str
    """For example sensor_msgs/msg/Image."""
    time_ns: int
    """When it was received, in nanoseconds."""
    raw: bytes


@dataclass(frozen=True)
class BagTopic:
    """A topic as it is recorded."""

    name: str
    msgtype: str
    definition: str = ""
    """The text of the type and of all that it holds, as rosbag2 writes it; empty where it is not known."""
    type_hash: str = ""
    """RIHS01_..., empty where it is not known."""
    qos: tuple[Qos, ...] = ()
    """What its publishers offered, of which there may be several; empty where that was not recorded."""
    count: int = 0
    """How many messages were recorded."""


class BagReader:
    """Iterates a rosbag2 recording; use it as a context manager.

    Args:
        path: the bag's folder (with metadata.yaml), or its .mcap or .db3 file.

    Raises:
        DataError: there is no readable bag at `path`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._reader: Reader | RecoveredReader = Reader(_without_metadata(self.path))
            self._reader.open()
        except Exception as error:  # a damaged file makes the parsers below raise whatever they stumble over
            # What was never closed, for want of power, has no index; its messages are there all the same.
            recovered = _recovered(self.path)
            if recovered is None:
                raise DataError(
                    f"{self.path} is not a readable rosbag2 recording: give its folder, or its .mcap or "
                    f".db3 file ({_reason(error)})"
                ) from error
            self._reader = recovered
        try:
            self._types = known_types(self._reader.connections)
        except Exception as error:  # as above
            self._reader.close()
            raise DataError(
                f"{self.path} is damaged: its message types cannot be read ({_reason(error)})"
            ) from error

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    @property
    def topics(self) -> dict[str, str]:
        """The recorded topics and their message types."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    @property
    def recorded(self) -> list[BagTopic]:
        """The recorded topics with all that is known of them.

        A file may hold several channels of one topic and type, as of several publishers: they are one here.
        """
        out: dict[tuple[str, str], BagTopic] = {}
        for connection in self._reader.connections:
            found = self._describe(connection)
            key = found.name, found.msgtype
            if (earlier := out.get(key)) is not None:
                qos, count = earlier.qos + found.qos, earlier.count + found.count
                found = replace(earlier, qos=qos, count=count)
            out[key] = found
        return list(out.values())

    @property
    def start_ns(self) -> int:
        """The time of the first message, in nanoseconds; only where there is one."""
        return self._reader.start_time

    @property
    def duration_s(self) -> float:
        """Time between the first and the last message, in seconds."""
        return self._reader.duration * 1e-9

    @property
    def message_count(self) -> int:
        """Messages of all topics."""
        return self._reader.message_count

    def check_not_empty(self) -> None:
        """DataError where no message was recorded."""
        if not self.message_count:
            raise DataError(f"{self.path} holds no message: record it again")

    def count(self, topic: str) -> int:
        """How many messages of `topic` were recorded; 0 for an unknown topic."""
        return sum(
            connection.msgcount for connection in self._reader.connections if connection.topic == topic
        )

    def offered_qos(self, topic: str) -> list[dict[str, str]]:
        """`reliability` and `durability`, in lower case, of each publisher recorded with `topic`."""
        return [
            {"reliability": qos.reliability.name.lower(), "durability": qos.durability.name.lower()}
            for connection in self._reader.connections
            if connection.topic == topic
            for qos in connection.ext.offered_qos_profiles  # type: ignore[union-attr]
        ]

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Messages in the order they were received, of all topics or of those named.

        Only those received at `start_ns` or later, and before `stop_ns`, where these are given.

        Raises:
            DataError: a topic that was not recorded, or a damaged file.
        """
        missing = sorted(set(topics or ()) - set(self.topics))
        if missing:
            raise DataError(
                f"{self.path} holds no topic {', '.join(missing)}: it holds {', '.join(sorted(self.topics))}"
            )
        wanted = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not wanted:
            return
        try:
            for connection, time_ns, raw in self._reader.messages(wanted, start_ns, stop_ns):
                yield BagMessage(connection.topic, connection.msgtype, time_ns, bytes(raw))
        except Exception as error:  # see __init__
            raise DataError(f"{self.path} is damaged: {_reason(error)}") from error

    def deserialize(self, message: BagMessage) -> Any:
        """The message as a dataclass of `rosbags`; arrays are NumPy arrays.

        Raises:
            DataError: the bytes are not a message of that type, or the bag does not define the type.
        """
        try:
            return self._types.deserialize_cdr(message.raw, message.msgtype)
        except KeyError as error:
            raise DataError(f"{self.path} does not define {message.msgtype}, on {message.topic}") from error
        except SerdeError as error:
            raise DataError(
                # Without its time: who counts such messages counts equal sentences.
                f"a message on {message.topic} is damaged: it is not a {message.msgtype} ({error})"
            ) from error

    def _describe(self, connection: Connection) -> BagTopic:
        kind = connection.msgtype
        try:
            # Not in a lone .mcap file, nor in bags before Iron.
            type_hash = connection.digest or hash_of(kind, self._types.fielddefs)
        except KeyError:
            type_hash = ""
        qos = tuple(connection.ext.offered_qos_profiles)  # type: ignore[union-attr]
        text = definition_text(connection.msgdef, kind)
        return BagTopic(connection.topic, kind, text, type_hash, qos, connection.msgcount)


def _without_metadata(path: Path) -> Path:
    """The .db3 file of a folder that lacks metadata.yaml, as a killed recorder leaves it; else `path`."""
    files = list(path.glob("*.db3"))
    return files[0] if len(files) == 1 and not (path / "metadata.yaml").exists() else path


def _recovered(path: Path) -> RecoveredReader | None:
    """A reader of the .mcap files at `path`, where anything can be read of them."""
    files = sorted(path.glob("*.mcap")) if path.is_dir() else [path]
    if not files or not all(file.suffix == ".mcap" and file.is_file() for file in files):
        return None
    try:
        from depth_sr_ros.mcap_recovery import RecoveredReader
    except ImportError as error:  # an installation by rosdep, which does not know the package
        raise DataError(
            f"{path} is damaged or was never closed: pip install mcap zstandard, to read what it holds"
        ) from error
    try:
        return RecoveredReader(files)
    except Exception:  # as BagReader.__init__ says
        return None


def _reason(error: Exception) -> str:
    """What a library says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


class BagWriter:
    """Writes a rosbag2 recording; use it as a context manager.

    Args:
        path: the bag's folder, which must not exist.
        storage: "mcap" or "sqlite3".
        compression: "none" or "zstd".

    Raises:
        DataError: the folder exists or cannot be created.
        ConfigError: the storage or the compression is unknown.
    """

    def __init__(self, path: str | Path, storage: str = "mcap", compression: str = "none") -> None:
        check_choice("storage", storage, STORAGES)
        check_choice("compression", compression, COMPRESSIONS)
        self.path = Path(path)
        self.types = ros2_types()
        self._connections: dict[str, Connection] = {}
        try:
            self._writer = Writer(path, version=METADATA_VERSION, storage_plugin=STORAGES[storage])
            if compression == "zstd":
                self._writer.set_compression(ZSTD_MODES[storage], CompressionFormat.ZSTD)
            self._writer.open()
        except (WriterError, OSError) as error:
            raise DataError(f"cannot write a bag to {path}: choose another folder ({error})") from error

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.__exit__(kind, error, trace)
        except (OSError, sqlite3.Error) as failure:
            raise self._cannot_write(failure) from failure

    def make(self, msgtype: str, **fields: Any) -> Any:
        """A message of a standard type, for example `make("sensor_msgs/msg/Image", header=..., ...)`."""
        return self.types.types[msgtype](**fields)

    def add(self, topic: BagTopic) -> None:
        """Announces a topic, with its definition and QoS; `write` does so by itself for standard types.

        Raises:
            DataError: the topic was added before, or nobody knows the definition of its type.
        """
        if topic.name in self._connections:
            raise DataError(f"topic {topic.name} is in {self.path} already, as {self._type_of(topic.name)}")
        known: dict[str, Any] = {"msgdef": topic.definition, "rihs01": topic.type_hash}
        if not (topic.definition and topic.type_hash):
            if topic.msgtype not in self.types.types:
                raise DataError(
                    f"message type {topic.msgtype!r} on {topic.name} is not a standard ROS 2 type"
                )
            known = {"typestore": self.types}
        self._connections[topic.name] = self._writer.add_connection(
            topic.name, topic.msgtype, offered_qos_profiles=topic.qos, **known
        )

    def write(self, topic: str, msgtype: str, time_ns: int, message: Any) -> None:
        """Appends a message: one that `make` made, or the CDR bytes of one as they were received.

        Raises:
            DataError: the topic was written with another type before, the type is not a standard one and the
                topic was not added, or the disk is full.
        """
        if topic not in self._connections:
            self.add(BagTopic(topic, msgtype))
        if self._type_of(topic) != msgtype:
            raise DataError(f"topic {topic} holds {self._type_of(topic)}: it cannot take a {msgtype}")
        raw = message if isinstance(message, bytes) else self.types.serialize_cdr(message, msgtype)
        try:
            self._writer.write(self._connections[topic], time_ns, raw)
        except (OSError, sqlite3.Error) as error:
            raise self._cannot_write(error) from error

    def _type_of(self, topic: str) -> str:
        return self._connections[topic].msgtype

    def _cannot_write(self, error: Exception) -> DataError:
        return DataError(f"cannot write to {self.path}: {_reason(error)}")
