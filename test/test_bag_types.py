# SPDX-License-Identifier: Apache-2.0
"""Message types of bags: definitions and hashes as ROS has them, and odd types that harm nobody else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.typesys import get_types_from_msg

from depth_sr_ros.bag import BagReader, BagTopic, BagWriter
from depth_sr_ros.bag_types import SEPARATOR, installed_definition, type_hash
from depth_sr_ros.errors import DataError

STRING = "std_msgs/msg/String"
FOREVER = QosTime(9223372036, 854775807)
LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    FOREVER,
    FOREVER,
    QosLiveliness.AUTOMATIC,
    FOREVER,
    False,
)


def descriptions() -> list[Path]:
    """What ROS says of each message type of the packages from PyPI."""
    return sorted((Path(sys.prefix) / "share").glob("*/msg/*.json"))


def test_the_hash_of_every_installed_type_is_the_one_that_ros_gave_it() -> None:
    files = descriptions()
    if not files:
        pytest.skip("no message packages are installed in this environment")
    wrong = []
    for file in files:
        msgtype = f"{file.parts[-3]}/msg/{file.stem}"
        hashes = {h["type_name"]: h["hash_string"] for h in json.loads(file.read_text())["type_hashes"]}
        if installed_definition(msgtype)[1] != hashes[msgtype]:
            wrong.append(msgtype)
    assert not wrong and len(files) > 50


def test_a_definition_holds_all_types_within_as_rosbag2_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = {
        "outer_msgs": ("Outer", "# a comment\ninner_msgs/Inner[] parts\nInner[2] more\nchar code 65\n"),
        "inner_msgs": ("Inner", "float64 value\n"),
    }
    for package, (name, text) in messages.items():
        folder = tmp_path / "share" / package / "msg"
        folder.mkdir(parents=True)
        (folder / f"{name}.msg").write_text(text)
    (tmp_path / "share" / "outer_msgs" / "msg" / "Inner.msg").write_text("string name\n")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    text, digest = installed_definition("outer_msgs/msg/Outer")
    first, *others = text.split(SEPARATOR)
    assert first == messages["outer_msgs"][1] + "\n"
    assert others == ["MSG: inner_msgs/Inner\nfloat64 value\n\n", "MSG: outer_msgs/Inner\nstring name\n"]
    assert digest.startswith("RIHS01_") and len(digest) == 71


def test_char_is_hashed_as_the_uint8_that_it_is() -> None:
    char, uint8 = (
        type_hash("a_msgs/msg/A", get_types_from_msg(f"{kind}[4] x\n{kind} y\n", "a_msgs/msg/A"))
        for kind in ("char", "uint8")
    )
    assert char == uint8


def test_a_type_that_is_not_installed_or_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"message type nowhere_msgs/msg/Thing is not installed here"):
        installed_definition("nowhere_msgs/msg/Thing")
    folder = tmp_path / "share" / "odd_msgs" / "msg"
    folder.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    for text, says in (("int32 ???\n", "cannot be parsed"), ("wstring text\n", "holds a wstring")):
        (folder / "Odd.msg").write_text(text)
        with pytest.raises(DataError, match=f"odd_msgs/msg/Odd {says}"):
            installed_definition("odd_msgs/msg/Odd")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_topic_keeps_its_definition_hash_and_qos(tmp_path: Path, storage: str, compression: str) -> None:
    topic = BagTopic("/thing", "nowhere_msgs/msg/Thing", "int32 a\n", "RIHS01_" + "ab" * 32, (LATCHED,))
    with BagWriter(tmp_path / "bag", storage, compression) as bag:
        bag.add(topic)
        bag.write("/thing", topic.msgtype, 5, b"\x00\x01\x00\x00\x07\x00\x00\x00")
    with BagReader(tmp_path / "bag") as reader:
        (read,) = reader.recorded
        assert (read.name, read.msgtype, read.definition) == (topic.name, topic.msgtype, topic.definition)
        assert (read.type_hash, read.qos, read.count) == (topic.type_hash, topic.qos, 1)
        (message,) = reader.messages()
        assert reader.deserialize(message).a == 7


def test_one_odd_type_does_not_make_a_recording_unreadable(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.add(BagTopic("/odd", "odd_msgs/msg/Odd", "wstring text\n", "RIHS01_" + "00" * 32))
        bag.write("/odd", "odd_msgs/msg/Odd", 1, b"\x00\x01\x00\x00")
        bag.write("/text", STRING, 2, bag.make(STRING, data="hello"))
    with BagReader(tmp_path / "bag") as reader:
        odd, text = reader.messages()
        assert reader.deserialize(text).data == "hello"
        with pytest.raises(DataError, match=r"bag does not define odd_msgs/msg/Odd, on /odd"):
            reader.deserialize(odd)


def test_a_topic_of_a_type_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        with pytest.raises(DataError, match="'nowhere_msgs/msg/Thing' on /thing is not a standard"):
            bag.add(BagTopic("/thing", "nowhere_msgs/msg/Thing"))
        bag.add(BagTopic("/text", STRING))
        with pytest.raises(DataError, match="topic /text is in .* already, as std_msgs/msg/String"):
            bag.add(BagTopic("/text", STRING))
