# SPDX-License-Identifier: Apache-2.0
"""Message types of recordings: those that a bag defines, the standard ones, and those installed here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat, Nodetype
from rosbags.typesys import (
    Stores,
    TypesysError,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)
from rosbags.typesys.store import Typestore

from depth_sr_ros.errors import DataError

# Between the parts of a definition: that of a type, and those of the types that it holds.
SEPARATOR = "=" * 80 + "\n"


def ros2_types() -> Typestore:
    """The standard message types; `ros2_types().types["std_msgs/msg/Header"]` is the class of a Header."""
    return get_typestore(Stores.ROS2_JAZZY)


def known_types(connections: Iterable[Connection]) -> Typestore:
    """The types that a bag's topics come with, and the standard ones for topics without a definition.

    A definition that cannot be parsed costs its own topic alone.
    """
    types: dict[str, Any] = {}
    for connection in connections:
        try:
            types.update(_parsed(connection.msgdef, connection.msgtype))
        except TypesysError:
            continue
    if not all(connection.msgtype in types for connection in connections):
        types = {**ros2_types().fielddefs, **types}
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store


def definition_text(definition: MessageDefinition, msgtype: str) -> str:
    """A bag's definition as another bag takes it, which knows IDL by its heading; empty where none is."""
    is_bare = definition.format == MessageDefinitionFormat.IDL and not definition.data.startswith(SEPARATOR)
    return f"{SEPARATOR}IDL: {msgtype}\n{definition.data}" if is_bare else definition.data


def type_hash(msgtype: str, types: dict[str, Any]) -> str:
    """RIHS01_... of a type, of all `types` by name as `rosbags` parses them; KeyError where one is missing.

    REP 2011 takes `char` of a .msg file for uint8, `rosbags` does not.
    """
    store = get_typestore(Stores.EMPTY)
    store.register(
        {
            name: (constants, [(field, _char_as_uint8(kind)) for field, kind in fields])
            for name, (constants, fields) in types.items()
        }
    )
    return store.hash_rihs01(msgtype)


def _char_as_uint8(description: Any) -> Any:
    kind, rest = description
    if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return kind, (_char_as_uint8(rest[0]), rest[1])
    return (kind, ("uint8", rest[1])) if kind == Nodetype.BASE and rest[0] == "char" else description


def _parsed(definition: MessageDefinition, msgtype: str) -> dict[str, Any]:
    if definition.format == MessageDefinitionFormat.NONE:
        return {}
    if definition.format == MessageDefinitionFormat.MSG:
        return get_types_from_msg(definition.data, msgtype)
    types: dict[str, Any] = {}
    for part in definition_text(definition, msgtype).split(SEPARATOR)[1:]:
        types.update(get_types_from_idl(part.partition("\n")[2]))
    return types


def installed_definition(msgtype: str) -> tuple[str, str]:
    """The definition and the hash (RIHS01_...) of a message type of an installed package.

    The definition holds those of all types within, as rosbag2 writes it. Packages keep them in
    share/<package>/msg, under a prefix of AMENT_PREFIX_PATH or, from PyPI, of the Python environment.

    Raises:
        DataError: the type is not installed, its definition cannot be parsed, or it holds a wstring.
    """
    parts = {msgtype: _installed_text(msgtype)}
    types: dict[str, Any] = {}
    waiting = [msgtype]
    while waiting:
        name = waiting.pop()
        try:
            found = get_types_from_msg(parts[name], name)
        except TypesysError as error:
            raise DataError(f"the definition of {name} cannot be parsed: {error}") from error
        types.update(found)
        for inner in _named_in(found[name][1]):
            if inner.endswith("/wstring"):  # which `rosbags` takes for a message
                raise DataError(f"{name} holds a wstring, which the library that writes bags does not know")
            if inner not in parts:
                parts[inner] = _installed_text(inner)
                waiting.append(inner)
    first, *others = parts
    sections = [f"{SEPARATOR}MSG: {name.replace('/msg/', '/')}\n{parts[name]}" for name in others]
    return "\n".join([parts[first], *sections]), type_hash(msgtype, types)


def _named_in(fields: Iterable[tuple[str, Any]]) -> list[str]:
    """The message types of a message's fields, in their order."""
    names = []
    for _, (kind, rest) in fields:
        inner, name = rest[0] if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE) else (kind, rest)
        if inner == Nodetype.NAME:
            names.append(name)
    return names


def _installed_text(msgtype: str) -> str:
    package, _, name = msgtype.partition("/msg/")
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    for path in (Path(prefix, "share", package, "msg", f"{name}.msg") for prefix in prefixes if prefix):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise DataError(f"message type {msgtype} is not installed here: source its workspace")
