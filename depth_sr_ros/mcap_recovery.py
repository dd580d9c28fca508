# SPDX-License-Identifier: Apache-2.0
"""Reads .mcap files that were never closed and break off, as a robot's loss of power leaves them."""

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
# Of a record that is not all there, or of what lies behind it: the reader's own, zstd's, lz4's and struct's.
BROKEN = (McapError, zstandard.ZstdError, RuntimeError, struct.error, ValueError)
FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
}


class RecoveredReader:
    """The part of rosbags' Reader that BagReader uses, for the .mcap files `paths` of one recording.

    An intact file has an index at its end. Without it the messages are found by reading from the start, once
    here and once for each `messages`. Raises ReaderError where nothing can be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        counts: dict[tuple[str, str], int] = {}
        definitions: dict[str, MessageDefinition] = {}
        first, last = None, 0
        for schema, channel, message in self._records():
            key = (channel.topic, schema.name)
            counts[key] = counts.get(key, 0) + 1
            definitions[schema.name] = _definition(schema)
            first = message.log_time if first is None else min(first, message.log_time)
            last = max(last, message.log_time)
        if first is None:
            raise ReaderError("no message in it is complete")
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
        """(connection, time of arrival in ns, CDR bytes); ReaderError, where the recording breaks off.

        Those that arrived from `start` on; it ends with the first that arrived at `stop` or later.
        """
        wanted = {connection.topic: connection for connection in connections}
        for _, channel, message in self._records():
            if stop is not None and message.log_time >= stop:
                return
            if channel.topic in wanted and message.log_time >= (start or 0):
                yield wanted[channel.topic], message.log_time, message.data
        raise ReaderError(f"the recording breaks off after {self.message_count} messages")

    def close(self) -> None:
        """Nothing stays open."""

    def _records(self) -> Iterator[tuple[Schema, Channel, Message]]:
        for path in self._paths:
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
                            yield schemas[channel.schema_id], channel, record
                except BROKEN:
                    continue


def _definition(schema: Schema) -> MessageDefinition:
    # rosbag2 writes an empty text for a type that it has no definition of.
    known = (
        FORMATS.get(schema.encoding, MessageDefinitionFormat.NONE)
        if schema.data
        else MessageDefinitionFormat.NONE
    )
    return MessageDefinition(known, schema.data.decode())
