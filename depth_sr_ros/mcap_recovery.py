# SPDX-License-Identifier: Apache-2.0
"""Reads .mcap files from their start: those that break off, as a robot's loss of power leaves them, and a
folder of them without its metadata.yaml."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2 import ReaderError

MAX_RECORD_BYTES = 2**30  # what follows the break may look like a length
# Of a record that is not all there, or of what lies behind it: the reader's own, zstd's, lz4's and struct's;
# of a message whose channel or schema is lost, and of a size or a number that damage made huge.
BROKEN = (
    McapError,
    zstandard.ZstdError,
    RuntimeError,
    struct.error,
    ValueError,
    KeyError,
    MemoryError,
    OverflowError,
)
FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
}


class RecoveredReader:
    """The part of rosbags' Reader that BagReader uses, for the .mcap files `paths` of one recording.

    An intact file has an index at its end. Without it the messages are found by reading from the start, once
    here and once for each `messages`. Files follow each other by the time of their first message. Raises
    ReaderError where nothing can be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._broken: set[Path] = set()
        starts: dict[Path, int] = {}
        counts: dict[tuple[str, str], int] = {}
        definitions: dict[str, MessageDefinition] = {}
        first, last = None, 0
        records = (record for path in paths for record in self._records(path))
        for file, schema, channel, message in records:
            starts.setdefault(file, message.log_time)
            key = (channel.topic, schema.name)
            counts[key] = counts.get(key, 0) + 1
            definitions[schema.name] = _definition(schema)
            first = message.log_time if first is None else min(first, message.log_time)
            last = max(last, message.log_time)
        if first is None:
            raise ReaderError("no message in it is complete")
        self._paths = sorted(starts, key=lambda path: starts[path])
        self.start_time, self.duration = first, last - first
        self.message_count = sum(counts.values())
        unknown = ConnectionExtRosbag2("cdr", [])
        self.connections = [
            Connection(number, topic, kind, definitions[kind], "", count, unknown, self)
            for number, ((topic, kind), count) in enumerate(counts.items())
        ]

    def messages(
        self, connections: Iterable[Connection], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, time of arrival in ns, CDR bytes); at the end ReaderError, where a file broke off.

        Those that arrived from `start` on; of a file none from the first on that arrived at `stop` or later.
        """
        wanted = {connection.topic: connection for connection in connections}
        # A file without a message has no place in the order: it matters to who reads to the end.
        broken = stop is None and not self._broken <= set(self._paths)
        for path in self._paths:
            for _, _, channel, message in self._records(path):
                if stop is not None and message.log_time >= stop:
                    break
                if channel.topic in wanted and message.log_time >= (start or 0):
                    yield wanted[channel.topic], message.log_time, message.data
            else:
                broken = broken or path in self._broken
        if broken:
            raise ReaderError(f"the recording breaks off after {self.message_count} messages")

    def close(self) -> None:
        """Nothing stays open."""

    def _records(self, path: Path) -> Iterator[tuple[Path, Schema, Channel, Message]]:
        """Its messages; it is one of `_broken` then, where it has no end."""
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        with path.open("rb") as file:
            reader = StreamReader(file, record_size_limit=MAX_RECORD_BYTES)
            try:
                for record in reader.records:
                    if isinstance(record, Schema):
                        schemas[record.id] = record
                    elif isinstance(record, Channel):
                        channels[record.id] = record
                    elif isinstance(record, Message):
                        channel = channels[record.channel_id]
                        yield path, schemas[channel.schema_id], channel, record
            except BROKEN:
                self._broken.add(path)


def _definition(schema: Schema) -> MessageDefinition:
    # rosbag2 writes an empty text for a type that it has no definition of.
    known = (
        FORMATS.get(schema.encoding, MessageDefinitionFormat.NONE)
        if schema.data
        else MessageDefinitionFormat.NONE
    )
    return MessageDefinition(known, schema.data.decode(errors="replace"))
