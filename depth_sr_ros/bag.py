# SPDX-License-Identifier: Apache-2.0
"""Reads and writes rosbag2 files (mcap, sqlite3) without ROS, through the `rosbags` library."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection, ConnectionExtRosbag2, Qos
from rosbags.rosbag2 import ReaderError, StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from depth_sr_ros.errors import DataError

if TYPE_CHECKING:
    from depth_sr_ros.mcap_recovery import RecoveredReader

# Metadata of version 8 is read by every distribution since Iron; Jazzy and later write version 9.
METADATA_VERSION: Final = 8

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


@dataclass(frozen=True)
class BagMessage:
    """One recorded message: `raw` is its CDR serialisation, as `publisher.publish(bytes)` takes it."""

    topic: str
    msgtype: str
    """For example sensor_msgs/msg/Image."""
    time_ns: int
    """When it was received, in nanoseconds."""
    raw: bytes


def ros2_types() -> Typestore:
    """The standard message types; `ros2_types().types["std_msgs/msg/Header"]` is the class of a Header."""
    return get_typestore(Stores.ROS2_JAZZY)


class BagReader:
    """Iterates a rosbag2 recording; use it as a context manager.

    Args:
        path: the bag's folder (with metadata.yaml), or its .mcap or .db3 file.

    Raises:
        DataError: there is no readable bag at `path`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._reader = self._open()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def _open(self) -> AnyReader | RecoveredReader:
        try:
            # A bag without type definitions (sqlite3 before Jazzy) is read with the standard ones.
            reader = AnyReader([self.path], default_typestore=ros2_types())
            reader.open()
        except (AnyReaderError, ReaderError, OSError) as error:
            files = sorted(self.path.glob("*.mcap")) if self.path.is_dir() else [self.path]
            # What was never closed, for want of power, has no index; its messages are there all the same.
            if files and all(file.suffix == ".mcap" and file.is_file() for file in files):
                with suppress(ReaderError, OSError):
                    return _recovered(files)
            raise DataError(
                f"{self.path} is not a readable rosbag2 recording: give its folder or .mcap file ({error})"
            ) from error
        return reader

    @property
    def topics(self) -> dict[str, str]:
        """The recorded topics and their message types."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    @property
    def duration_s(self) -> float:
        """Time between the first and the last message, in seconds."""
        return self._reader.duration * 1e-9

    @property
    def start_ns(self) -> int:
        """When the first message was received, in nanoseconds."""
        return int(self._reader.start_time)

    def count(self, topic: str) -> int:
        """How many messages of `topic` were recorded; 0 for an unknown topic."""
        return sum(
            connection.msgcount for connection in self._reader.connections if connection.topic == topic
        )

    def offered_qos(self, topic: str) -> list[dict[str, str]]:
        """`reliability` and `durability`, in lower case, of each publisher recorded with `topic`."""
        found: list[Qos] = []
        for connection in self._reader.connections:
            if connection.topic == topic and isinstance(connection.ext, ConnectionExtRosbag2):
                found += connection.ext.offered_qos_profiles
        return [
            {"reliability": qos.reliability.name.lower(), "durability": qos.durability.name.lower()}
            for qos in found
        ]

    def messages(
        self,
        topics: Collection[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[BagMessage]:
        """Messages in the order they were received, of all topics or of those named.

        `start_ns`, `stop_ns`: only those received from the one on, and before the other. An indexed file is
        read only there.

        Raises:
            DataError: a topic that was not recorded, or a damaged file.
        """
        missing = sorted(set(topics or ()) - set(self.topics))
        if missing:
            raise DataError(
                f"{self.path} holds no topic {', '.join(missing)}: it holds {', '.join(sorted(self.topics))}"
            )
        wanted: list[Any] = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not wanted:
            return
        try:
            for connection, time_ns, raw in self._reader.messages(wanted, start_ns, stop_ns):
                yield BagMessage(connection.topic, connection.msgtype, time_ns, bytes(raw))
        except ReaderError as error:
            raise DataError(f"{self.path} is damaged: {error}") from error

    def deserialize(self, message: BagMessage) -> Any:
        """The message as a dataclass of `rosbags`; arrays are NumPy arrays.

        Raises:
            DataError: the bytes are not a message of that type.
        """
        try:
            return self._reader.deserialize(message.raw, message.msgtype)
        except AnyReaderError as error:
            raise DataError(
                f"a message on {message.topic} at {message.time_ns} ns is not a {message.msgtype}: {error}"
            ) from error


def _recovered(files: Sequence[Path]) -> RecoveredReader:
    try:
        from depth_sr_ros.mcap_recovery import RecoveredReader
    except ImportError as error:  # an installation by rosdep, which does not know the package
        raise DataError(
            f"{files[0].parent} was never closed: pip install mcap zstandard, to read what it holds"
        ) from error
    return RecoveredReader(files, ros2_types())


class BagWriter:
    """Writes a rosbag2 recording; use it as a context manager.

    Args:
        path: the bag's folder, which must not exist.
        storage: "mcap" or "sqlite3".

    Raises:
        DataError: the folder exists or cannot be created, or the storage is unknown.
    """

    def __init__(self, path: str | Path, storage: str = "mcap") -> None:
        if storage not in STORAGES:
            raise DataError(f"storage {storage!r} is unknown: use one of {', '.join(STORAGES)}")
        self.types = ros2_types()
        self._connections: dict[str, Connection] = {}
        try:
            self._writer = Writer(path, version=METADATA_VERSION, storage_plugin=STORAGES[storage])
            self._writer.open()
        except (WriterError, OSError) as error:
            raise DataError(f"cannot write a bag to {path}: choose another folder ({error})") from error

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def make(self, msgtype: str, **fields: Any) -> Any:
        """A message of a standard type, for example `make("sensor_msgs/msg/Image", header=..., ...)`."""
        return self.types.types[msgtype](**fields)

    def write(self, topic: str, msgtype: str, time_ns: int, message: Any) -> None:
        """Appends a message: one that `make` made, or the CDR bytes of one as they were received.

        Raises:
            DataError: the topic was written with another type before, or the type is not a standard one.
        """
        connection = self._connections.get(topic) or self._connect(topic, msgtype)
        if connection.msgtype != msgtype:
            raise DataError(f"topic {topic} holds {connection.msgtype}: it cannot take a {msgtype}")
        raw = message if isinstance(message, bytes) else self.types.serialize_cdr(message, msgtype)
        self._writer.write(connection, time_ns, raw)

    def _connect(self, topic: str, msgtype: str) -> Connection:
        if msgtype not in self.types.types:
            raise DataError(f"message type {msgtype!r} on {topic} is not a standard ROS 2 type")
        self._connections[topic] = self._writer.add_connection(topic, msgtype, typestore=self.types)
        return self._connections[topic]
