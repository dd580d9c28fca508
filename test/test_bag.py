# SPDX-License-Identifier: Apache-2.0
"""rosbag2 files: what is written is read back bit-exactly, and live ROS types agree with what is stored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter

from depth_sr_ros.bag import BagMessage, BagReader, BagWriter, ros2_types
from depth_sr_ros.errors import ConfigError, DataError

REPO_ROOT = Path(__file__).resolve().parents[1]
IMAGE = "sensor_msgs/msg/Image"


def write_images(path: Path, storage: str = "mcap", count: int = 3) -> list[np.ndarray]:
    frames = [np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8) for seed in range(count)]
    with BagWriter(path, storage) as bag:
        for index, frame in enumerate(frames):
            stamp = bag.make("builtin_interfaces/msg/Time", sec=index, nanosec=7)
            header = bag.make("std_msgs/msg/Header", stamp=stamp, frame_id="camera_optical_frame")
            message = bag.make(
                IMAGE,
                header=header,
                height=4,
                width=5,
                encoding="rgb8",
                is_bigendian=0,
                step=15,
                data=frame.ravel(),
            )
            bag.write("/rgb", IMAGE, index * 10**9 + 7, message)
    return frames


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_messages_come_back_as_they_were_written(tmp_path: Path, storage: str) -> None:
    frames = write_images(tmp_path / "bag", storage)
    with BagReader(tmp_path / "bag") as bag:
        assert bag.topics == {"/rgb": IMAGE}
        assert bag.count("/rgb") == len(frames)
        assert bag.duration_s == pytest.approx(2.0, abs=1e-6)
        for index, message in enumerate(bag.messages()):
            image = bag.deserialize(message)
            assert message.time_ns == index * 10**9 + 7
            assert (image.header.stamp.sec, image.header.stamp.nanosec) == (index, 7)
            np.testing.assert_array_equal(image.data.reshape(4, 5, 3), frames[index])


def test_raw_messages_copied_from_bag_to_bag_stay_bit_exact(tmp_path: Path) -> None:
    write_images(tmp_path / "first")
    with BagReader(tmp_path / "first") as source, BagWriter(tmp_path / "second") as target:
        first = list(source.messages(["/rgb"]))
        for message in first:
            target.write(message.topic, message.msgtype, message.time_ns, message.raw)
    with BagReader(tmp_path / "second") as copy:
        assert list(copy.messages()) == first


def test_rclpy_reads_the_stored_bytes(tmp_path: Path) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="no ROS 2 is installed")
    from sensor_msgs.msg import Image

    frames = write_images(tmp_path / "bag", count=1)
    with BagReader(tmp_path / "bag") as bag:
        (message,) = bag.messages()
    image = serialization.deserialize_message(message.raw, Image)
    assert (image.width, image.height, image.encoding) == (5, 4, "rgb8")
    np.testing.assert_array_equal(np.frombuffer(image.data, np.uint8).reshape(4, 5, 3), frames[0])


def test_a_missing_or_damaged_bag_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a readable"):
        BagReader(tmp_path / "nowhere")
    write_images(tmp_path / "bag")
    (file,) = (tmp_path / "bag").glob("*.mcap")
    file.write_bytes(file.read_bytes()[:200])
    with (
        pytest.raises(DataError, match="bag is not a readable"),
        BagReader(tmp_path / "bag") as bag,
    ):
        list(bag.messages())


@pytest.mark.parametrize("compression", list(CompressionType))
def test_a_recording_that_breaks_off_is_read_up_to_the_break(
    tmp_path: Path, compression: CompressionType
) -> None:
    """As a robot's loss of power leaves it: in the middle of a chunk, without index and metadata.yaml."""
    write_images(tmp_path / "whole", count=40)
    with BagReader(tmp_path / "whole") as bag:
        messages = list(bag.messages())
    folder = tmp_path / "cut"
    folder.mkdir()
    with (folder / "cut_0.mcap").open("wb") as file:
        write_chunks(file, messages, compression)
    size = (folder / "cut_0.mcap").stat().st_size
    seen = set()
    for cut in range(size // 20, size, size // 20):
        data = (folder / "cut_0.mcap").read_bytes()[:cut]
        (tmp_path / "now.mcap").write_bytes(data)
        try:
            reader = BagReader(tmp_path / "now.mcap")
        except DataError:
            seen.add(0)
            continue
        read = []
        with reader as bag, pytest.raises(DataError, match=r"breaks off after \d+ messages"):
            for message in bag.messages(["/rgb"]):
                read.append(message)
                assert bag.deserialize(message).width == 5
        assert read == messages[: len(read)] and bag.count("/rgb") == len(read)
        seen.add(len(read))
    assert len(seen) > 5 and max(seen) > 30, seen
    (folder / "cut_0.mcap").write_bytes(data)
    with BagReader(folder) as bag:
        assert bag.count("/rgb") == max(seen), "the folder without metadata.yaml is read as well"


def write_split(folder: Path, count: int = 12) -> list[BagMessage]:
    """One message a file, s_0.mcap to s_11.mcap, which no metadata.yaml binds together."""
    write_images(folder.with_name("whole"), count=count)
    with BagReader(folder.with_name("whole")) as bag:
        messages = list(bag.messages())
    folder.mkdir()
    for index, message in enumerate(messages):
        with (folder / f"s_{index}.mcap").open("wb") as file:
            write_chunks(file, [message], CompressionType.NONE)
    return messages


def test_a_folder_of_whole_files_without_metadata_is_read_in_the_order_of_time(tmp_path: Path) -> None:
    messages = write_split(tmp_path / "split")
    with BagReader(tmp_path / "split") as bag:
        assert list(bag.messages()) == messages
        assert (
            list(bag.messages(start_ns=messages[2].time_ns, stop_ns=messages[11].time_ns)) == messages[2:11]
        )


def test_a_sqlite3_folder_without_metadata_is_read(tmp_path: Path) -> None:
    write_images(tmp_path / "whole", "sqlite3")
    with BagReader(tmp_path / "whole") as bag:
        messages = list(bag.messages())
    (tmp_path / "whole" / "metadata.yaml").unlink()
    with BagReader(tmp_path / "whole") as bag:
        assert messages and list(bag.messages()) == messages
        assert bag.deserialize(messages[0]).width == 5


@pytest.mark.parametrize("hurt", ["cut", "empty"])
def test_of_several_files_one_that_breaks_off_is_said_once_the_others_are_read(
    tmp_path: Path, hurt: str
) -> None:
    messages = write_split(tmp_path / "split")
    file = tmp_path / "split" / "s_4.mcap"
    # Cut behind its message, in the index.
    file.write_bytes(file.read_bytes()[:-30] if hurt == "cut" else b"")
    expected = messages if hurt == "cut" else messages[:4] + messages[5:]
    read = []
    with BagReader(tmp_path / "split") as bag:
        with pytest.raises(DataError, match="breaks off after 1[12] messages"):
            for message in bag.messages():
                read.append(message)
        assert read == expected
        assert list(bag.messages(stop_ns=messages[3].time_ns)) == messages[:3]


@pytest.mark.parametrize(
    ("schema", "text", "says"),
    [
        (None, b"uint8 value \xff", None),
        (None, b"uint8 value\nuint8 value", "odd.mcap is damaged: its message types cannot be read"),
        (99, b"", "odd.mcap is not a readable rosbag2 recording: give its folder, or its .mcap or .db3 file"),
    ],
)
def test_a_damaged_definition_or_channel_is_one_sentence(
    tmp_path: Path, schema: int | None, text: bytes, says: str | None
) -> None:
    with (tmp_path / "odd.mcap").open("wb") as file:
        writer = McapWriter(file, compression=CompressionType.NONE)
        writer.start("ros2")
        known = writer.register_schema("odd_msgs/msg/Odd", "ros2msg", text)
        writer.add_message(writer.register_channel("/odd", "cdr", schema or known), 1, b"\0\1\0\0\7", 1)
        writer.finish()
    data = (tmp_path / "odd.mcap").read_bytes()
    (tmp_path / "odd.mcap").write_bytes(data[:-30])  # no index: it is read from its start
    if says is None:
        with BagReader(tmp_path / "odd.mcap") as bag:
            assert bag.count("/odd") == 1 and "value" in bag.recorded[0].definition
    else:
        with pytest.raises(DataError, match=says) as caught:
            BagReader(tmp_path / "odd.mcap")
        assert "\n" not in str(caught.value)


def write_chunks(file: BinaryIO, messages: list[BagMessage], compression: CompressionType) -> None:
    writer = McapWriter(file, chunk_size=600, compression=compression)
    writer.start("ros2")
    text, _ = ros2_types().generate_msgdef(IMAGE, ros_version=2)
    schema = writer.register_schema(IMAGE, "ros2msg", text.encode())
    channel = writer.register_channel("/rgb", "cdr", schema)
    for message in messages:
        writer.add_message(channel, message.time_ns, message.raw, message.time_ns)
    writer.finish()


def test_two_channels_of_one_topic_are_one_topic(tmp_path: Path) -> None:
    write_images(tmp_path / "bag", count=4)
    with BagReader(tmp_path / "bag") as bag:
        messages = list(bag.messages())
    with (tmp_path / "two.mcap").open("wb") as file:
        writer = McapWriter(file)
        writer.start("ros2")
        text, _ = ros2_types().generate_msgdef(IMAGE, ros_version=2)
        schema = writer.register_schema(IMAGE, "ros2msg", text.encode())
        channels = [writer.register_channel("/rgb", "cdr", schema, {"node": name}) for name in "ab"]
        for index, message in enumerate(messages):
            writer.add_message(channels[index % 3 == 0], message.time_ns, message.raw, message.time_ns)
        writer.finish()
    with BagReader(tmp_path / "two.mcap") as bag, BagWriter(tmp_path / "copy") as copy:
        (topic,) = bag.recorded
        assert topic.count == bag.count("/rgb") == 4
        copy.add(topic)
        assert list(bag.messages()) == messages


def test_a_topic_that_was_not_recorded_is_named_with_those_that_were(tmp_path: Path) -> None:
    write_images(tmp_path / "bag")
    with BagReader(tmp_path / "bag") as bag, pytest.raises(DataError, match="no topic /depth: it holds /rgb"):
        list(bag.messages(["/depth"]))


def test_a_bag_is_never_overwritten(tmp_path: Path) -> None:
    write_images(tmp_path / "bag")
    with pytest.raises(DataError, match="choose another folder"):
        BagWriter(tmp_path / "bag")


def test_a_topic_keeps_its_type(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/a", "std_msgs/msg/String", 0, bag.make("std_msgs/msg/String", data="x"))
        with pytest.raises(DataError, match="cannot take"):
            bag.write("/a", "std_msgs/msg/Bool", 1, bag.make("std_msgs/msg/Bool", data=True))
        with pytest.raises(DataError, match="not a standard ROS 2 type"):
            bag.write("/b", "my_msgs/msg/Thing", 1, b"")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_file_that_ends_early_is_an_error_wherever_it_ends(
    tmp_path: Path, storage: str, compression: str
) -> None:
    with BagWriter(tmp_path / "bag", storage, compression) as bag:
        for index in range(40):
            data = np.random.default_rng(index).bytes(3000).hex()
            bag.write("/text", "std_msgs/msg/String", index, bag.make("std_msgs/msg/String", data=data))
    (file,) = (path for path in (tmp_path / "bag").iterdir() if path.suffix != ".yaml")
    whole = file.read_bytes()
    for size in range(0, len(whole) * 19 // 20, len(whole) // 37):
        file.write_bytes(whole[:size])
        for path in (tmp_path / "bag", file):
            says = "bag.* is not a readable|bag.* is damaged"
            with pytest.raises(DataError, match=says) as caught, BagReader(path) as reader:
                list(reader.messages())
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_an_empty_bag_is_readable_and_says_so(tmp_path: Path, storage: str) -> None:
    with BagWriter(tmp_path / "bag", storage):
        pass
    with BagReader(tmp_path / "bag") as bag:
        assert (bag.topics, bag.message_count, list(bag.messages())) == ({}, 0, [])
        with pytest.raises(DataError, match="bag holds no message"):
            bag.check_not_empty()


def test_a_part_of_a_bag_is_read_by_time(tmp_path: Path) -> None:
    write_images(tmp_path / "bag", count=5)
    with BagReader(tmp_path / "bag") as bag:
        assert bag.start_ns == 7 and bag.message_count == 5
        times = [message.time_ns for message in bag.messages(start_ns=10**9 + 7, stop_ns=3 * 10**9 + 7)]
    assert times == [10**9 + 7, 2 * 10**9 + 7]


def test_an_unknown_storage_or_compression_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="storage is 'msqlite', but must be one of mcap, sqlite3"):
        BagWriter(tmp_path / "bag", "msqlite")
    with pytest.raises(ConfigError, match="compression is 'lz4', but must be one of none, zstd"):
        BagWriter(tmp_path / "bag", "mcap", "lz4")
    assert not (tmp_path / "bag").exists()


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_the_mcap_library_reads_what_we_write(tmp_path: Path, compression: str) -> None:
    mcap_reader = pytest.importorskip("mcap.reader", reason="the mcap library is not installed")
    frames = []
    with BagWriter(tmp_path / "bag", compression=compression) as bag:
        for index in range(60):  # several chunks
            text = np.random.default_rng(index).bytes(20_000).hex()
            message = bag.types.serialize_cdr(
                bag.make("std_msgs/msg/String", data=text), "std_msgs/msg/String"
            )
            frames.append(bytes(message))
            bag.write("/text", "std_msgs/msg/String", index, frames[-1])
    with (tmp_path / "bag" / "bag.mcap").open("rb") as file:
        reader = mcap_reader.make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        read = list(reader.iter_messages())
    assert len(summary.chunk_indexes) > 1
    assert {chunk.compression for chunk in summary.chunk_indexes} == {"zstd" if compression == "zstd" else ""}
    assert [message.data for _, _, message in read] == frames
    assert {(s.name, s.encoding, c.topic, c.message_encoding) for s, c, _ in read} == {
        ("std_msgs/msg/String", "ros2msg", "/text", "cdr")
    }


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_full_disk_is_one_sentence(tmp_path: Path, storage: str) -> None:
    script = f"""
import resource
from depth_sr_ros.bag import BagWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    with BagWriter({str(tmp_path / "bag")!r}, {storage!r}) as bag:
        for index in range(2000):
            bag.write("/a", "std_msgs/msg/String", index, bag.make("std_msgs/msg/String", data="x" * 1000))
except Exception as error:
    print(type(error).__name__, error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPO_ROOT)
    assert run.stdout.startswith(f"DataError cannot write to {tmp_path / 'bag'}: "), run.stdout + run.stderr
