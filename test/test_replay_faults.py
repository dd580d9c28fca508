# SPDX-License-Identifier: Apache-2.0
"""`depth-sr evaluate` on recordings that are not as they should be: one sentence, and what can be used is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from test_bag_pairs import DEPTH, PERIOD, RGB, depth_mm, image, picture, write_bag

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.bag import BagReader, BagWriter, ros2_types
from depth_sr_ros.cli import main
from depth_sr_ros.errors import DataError
from depth_sr_ros.replay import Replay, Samples, replay
from depth_sr_ros.replay_frames import ReplaySettings

IMAGE = "sensor_msgs/msg/Image"


@pytest.fixture(scope="module")
def resolver() -> DepthSuperResolver:
    return DepthSuperResolver(device="cpu", runtime="torch")


def evaluated(bag: Path, resolver: DepthSuperResolver, **settings: object) -> Replay:
    return replay(ReplaySettings(bag, baselines=False, **settings), resolver, Samples())  # type: ignore[arg-type]


def test_stamps_of_zero_are_said_and_left_out(tmp_path: Path, resolver: DepthSuperResolver) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for index in range(5):
            for topic, pixels, encoding in (
                (RGB, picture(index), "rgb8"),
                (DEPTH, depth_mm(index)[::4, ::4], "16UC1"),
            ):
                bag.write(topic, IMAGE, (index + 1) * PERIOD, image(bag, 0, pixels, encoding))
    found = evaluated(tmp_path / "bag", resolver)
    assert len(found.records) == 1, "the first of each may be the start of a recording"
    said = {text: count for text, count in found.problems.items() if "stamp" in text}
    assert said == {
        f"the stamp of a message on {topic} is 0: its driver sets none": 4 for topic in (RGB, DEPTH)
    }


def test_a_bag_without_depth_names_what_it_holds(tmp_path: Path, resolver: DepthSuperResolver) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write(RGB, IMAGE, PERIOD, image(bag, PERIOD, picture(0), "rgb8"))
    with pytest.raises(DataError, match=rf"holds no depth images .* it holds {RGB} \({IMAGE}\)"):
        evaluated(tmp_path / "bag", resolver)


@pytest.mark.parametrize("defined", [True, False])
def test_topics_of_unknown_types_are_no_hindrance(
    tmp_path: Path, resolver: DepthSuperResolver, defined: bool
) -> None:
    with BagReader(write_bag(tmp_path / "bag")) as bag, (tmp_path / "odd.mcap").open("wb") as file:
        writer = McapWriter(file, compression=CompressionType.ZSTD)
        writer.start("ros2")
        text, _ = ros2_types().generate_msgdef(IMAGE, ros_version=2)
        schema = writer.register_schema(IMAGE, "ros2msg", text.encode())
        channels = {topic: writer.register_channel(topic, "cdr", schema) for topic in (RGB, DEPTH)}
        odd = writer.register_schema("odd_msgs/msg/Odd", "ros2msg", b"uint8 value" if defined else b"")
        channels["/odd"] = writer.register_channel("/odd", "cdr", odd)
        for message in bag.messages():
            writer.add_message(channels[message.topic], message.time_ns, message.raw, message.time_ns)
            writer.add_message(channels["/odd"], message.time_ns, b"\0\1\0\0\7", message.time_ns)
        writer.finish()
    assert len(evaluated(tmp_path / "odd.mcap", resolver).records) == 6


def test_a_recording_that_breaks_off_is_evaluated_up_to_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (whole,) = write_bag(tmp_path / "bag", frames=60).glob("*.mcap")
    data = whole.read_bytes()
    (tmp_path / "cut.mcap").write_bytes(data[: len(data) * 2 // 3])
    out = tmp_path / "report"
    arguments = [str(tmp_path / "cut.mcap"), "--out", str(out), "--no-baselines", "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["depth-sr", "evaluate", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    found = json.loads((out / "report.json").read_text())
    assert 10 < found["frames"] < 60
    assert not found["problems"] and "breaks off after" in found["damage"]
    said = f"The rest of the recording was not read: {found['damage']}."
    assert said == found["verdict"][-1] and said in " ".join(capsys.readouterr().out.split())
    assert found["damage"] in (out / "report.html").read_text()


@pytest.mark.parametrize("where", [0, 2])
def test_a_message_that_cannot_be_decoded_costs_its_own_frame_alone(
    tmp_path: Path, resolver: DepthSuperResolver, where: int
) -> None:
    with BagReader(write_bag(tmp_path / "whole")) as whole, BagWriter(tmp_path / "bag") as bag:
        for message in whole.messages():
            is_hurt = message.topic == DEPTH and message.time_ns == (where + 1) * PERIOD
            raw = message.raw[:40] if is_hurt else message.raw
            bag.write(message.topic, message.msgtype, message.time_ns, raw)
    found = evaluated(tmp_path / "bag", resolver)
    assert len(found.records) == 5 and not found.damage
    assert found.problems == {f"a message on {DEPTH} is damaged: it is not a {IMAGE}": 1}


def test_depth_without_an_image_and_a_gap_of_an_hour_are_counted(
    tmp_path: Path, resolver: DepthSuperResolver
) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for index in range(12):
            stamp = (index + 1) * PERIOD + (3600 * 10**9 if index >= 6 else 0)
            if index not in (3, 8):
                bag.write(RGB, IMAGE, stamp, image(bag, stamp, picture(index), "rgb8"))
            low = image(bag, stamp, depth_mm(index)[::4, ::4], "16UC1")
            bag.write(DEPTH, IMAGE, stamp + 1, low)
    found = evaluated(tmp_path / "bag", resolver)
    assert [round(record.stamp_ns / PERIOD) % 36000 for record in found.records] == [
        1, 2, 3, 5, 6, 7, 8, 10, 11, 12,
    ]  # fmt: skip
    assert sum(record.lost for record in found.records) == 2 and not found.problems


def test_several_recordings_are_evaluated_beside_each_other_and_one_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = [write_bag(tmp_path / name / "bag", frames=4 + i) for i, name in enumerate("ab")]
    line = ["depth-sr", "evaluate", *map(str, bags), str(tmp_path / "none"), "--workers", "2"]
    options = ["--out", str(tmp_path / "out"), "--simulate", "clean", "--scale", "2", "--no-baselines"]
    monkeypatch.setattr("sys.argv", [*line, *options])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2 and f"{tmp_path / 'none'} is not a readable" in said.err
    overview = json.loads((tmp_path / "out" / "overview.json").read_text())
    assert [found["frames"] for found in overview] == [4, 5]
    for name, frames in (("bag", 4), ("bag-2", 5)):
        report = json.loads((tmp_path / "out" / name / "report.json").read_text())
        assert report["frames"] == frames and report["methods"]["ours"]["rmse"] < 0.05
        assert (tmp_path / "out" / name / "report.html").is_file()


def test_recorded_answers_are_scored_without_a_network(tmp_path: Path) -> None:
    """Each answer is 10 mm too far; one never came, and all took 25 ms."""
    with BagWriter(tmp_path / "bag") as bag:
        for index in range(6):
            stamp = (index + 1) * PERIOD
            bag.write(RGB, IMAGE, stamp, image(bag, stamp, picture(index), "rgb8"))
            bag.write(DEPTH, IMAGE, stamp, image(bag, stamp, depth_mm(index)[::4, ::4], "16UC1"))
            bag.write("/truth", IMAGE, stamp, image(bag, stamp, depth_mm(index), "16UC1"))
            if index != 2:
                answer = (depth_mm(index) + np.uint16(10)).astype(np.uint16)
                arrival = stamp + 25_000_000
                bag.write("/out", IMAGE, arrival, image(bag, stamp, answer, "16UC1"))
    settings = ReplaySettings(
        tmp_path / "bag", depth_topic=DEPTH, reference_topic="/truth", answer_topic="/out", baselines=False
    )
    found = replay(settings, None, Samples())
    assert len(found.records) == 5
    for record in found.records:
        assert record.metrics["ours"]["rmse"] == pytest.approx(0.01, rel=1e-3)
        assert record.time_ms == pytest.approx(25) and record.arrival_ns is not None
    assert found.problems == {"no answer on /out belongs to a pair": 1}
