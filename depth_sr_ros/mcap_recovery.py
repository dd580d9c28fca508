# SPDX-License-Identifier: Apache-2.0
"""Reads .mcap files that were never closed and break off, as a robot's loss of power leaves them."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.highlevel import AnyReaderError
from rosbags.rosbag2 import ReaderError
from rosbags.serde import SerdeError
from rosbags.typesys import TypesysError, get_types_from_msg
from rosbags.typesys.store import Typestore

MAX_RECORD_BYTES = 2**30  # what follows the break may look like a length
# Of a record that is not all there, or of what lies behind it: the reader's own, zstd's, lz4's and struct's.
BROKEN = (McapError, zstandard.ZstdError, RuntimeError, struct.error, ValueError)


class RecoveredConnection(NamedTuple):
    """A topic; the names are those of rosbags' Connection."""

    topic: str
    msgtype: str
    msgcount: int
    ext: None = None
    """Of the QoS nothing is kept."""


class RecoveredReader:
    """The part of rosbags' AnyReader that BagReader uses, for the .mcap files `paths` of one recording.

    An intact file has an index at its end. Without it the messages are found by reading from the start, once
    here and once for each `messages`. Raises ReaderError where nothing can be read.
    """

    def __init__(self, paths: Sequence[Path], types: Typestore) -> None:
        self._paths, self._types = paths, types
        counts: dict[tuple[str, str], int] = {}
        definitions: dict[str, str] = {}
        first, last = None, 0
        for schema, channel, message in self._records(definitions):
            key = (channel.topic, schema.name)
            counts[key] = counts.get(key, 0) + 1
            first, last = message.log_time if first is None else first, message.log_time
        if first is None:
            raise ReaderError("no message in it is complete")
        self.start_time, self.duration = first, last - first
        self.connections = [RecoveredConnection(*key, count) for key, count in counts.items()]
        for name, text in definitions.items():
            if name not in types.types:
                types.register(get_types_from_msg(text, name))

    def messages(
        self, connections: Collection[RecoveredConnection], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[RecoveredConnection, int, bytes]]:
        """(connection, time of arrival in ns, CDR bytes); ReaderError, where the recording breaks off.

        Those that arrived from `start` on; it ends with the first that arrived at `stop` or later.
        """
        wanted = {connection.topic: connection for connection in connections}
        count = 0
        for _, channel, message in self._records({}):
            count += 1
            if stop is not None and message.log_time >= stop:
                return
            if channel.topic in wanted and message.log_time >= (start or 0):
                yield wanted[channel.topic], message.log_time, message.data
        raise ReaderError(f"the recording breaks off after {count} messages")

    def deserialize(self, raw: bytes, msgtype: str) -> Any:
        """As AnyReader's; AnyReaderError where the bytes are no such message."""
        try:
            return self._types.deserialize_cdr(raw, msgtype)
        except (SerdeError, TypesysError, KeyError) as error:
            raise AnyReaderError(f"{msgtype} cannot be read: {error}") from error

    def close(self) -> None:
        """Nothing stays open."""

    def _records(self, definitions: dict[str, str]) -> Iterator[tuple[Schema, Channel, Message]]:
        for path in self._paths:
            schemas: dict[int, Schema] = {}
            channels: dict[int, Channel] = {}
            with path.open("rb") as file:
                reader = StreamReader(file, record_size_limit=MAX_RECORD_BYTES)
                try:
                    for record in reader.records:
                        if isinstance(record, Schema):
                            schemas[record.id] = record
                            if record.encoding == "ros2msg":
                                definitions[record.name] = record.data.decode()
                        elif isinstance(record, Channel):
                            channels[record.id] = record
                        elif isinstance(record, Message):
                            channel = channels[record.channel_id]
                            yield schemas[channel.schema_id], channel, record
                except BROKEN:
                    continue
