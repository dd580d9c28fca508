# SPDX-License-Identifier: Apache-2.0
"""`depth-sr doctor`: the command, what it reads of a recording, which topics it takes, what it names."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from doctor_bags import PERIOD_NS, Camera, write
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import Writer

from depth_sr_ros.bag import BagReader, BagWriter, ros2_types
from depth_sr_ros.bag_pairs import camera_info_topic
from depth_sr_ros.cli import main
from depth_sr_ros.demo_sequence import SHIPPED_SEQUENCE, read_sequence
from depth_sr_ros.depth_io import read_depth, read_rgb
from depth_sr_ros.doctor.bag_source import sample_bag
from depth_sr_ros.doctor.check_alignment import estimate_shift
from depth_sr_ros.doctor.check_transport import check_dds, check_qos
from depth_sr_ros.doctor.checks import examine
from depth_sr_ros.doctor.findings import Finding, Severity
from depth_sr_ros.doctor.samples import Endpoint, Samples, Stream, Thinned, Transport
from depth_sr_ros.doctor.topics import Candidate, choose
from depth_sr_ros.errors import ConfigError, DataError
from depth_sr_ros.parameters import BY_NAME

PACKAGE = Path(__file__).resolve().parents[1] / "depth_sr_ros"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["depth-sr", "doctor", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_shipped_recording_has_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "doctor.json"
    assert run(monkeypatch, SHIPPED_SEQUENCE, "--json", out) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "no problems, no warnings: nothing here stands in the network's way."
    found = json.loads(out.read_text())
    assert found["exit_code"] == 0 and found["verdict"] == printed[-1] and found["depth_frames"] == 45
    by_check = {finding["check"]: finding for finding in found["findings"]}
    assert by_check["rates"]["values"]["rgb_hz"] == pytest.approx(15, abs=0.01)
    assert by_check["alignment"]["severity"] == "ok"
    assert {finding["severity"] for finding in found["findings"]} == {"ok", "note"}


def test_a_problem_is_exit_code_1_and_stands_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write(tmp_path / "bag", Camera(frame_ids=("rgb_frame", "depth_frame")))
    assert run(monkeypatch, bag) == 1
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "problem" in line and "views" in line)
    assert lines[-1].startswith("1 problem, no warnings: repair 'views' first")
    assert run(monkeypatch, bag, "--register") == 0


def test_a_recording_that_breaks_off_is_checked_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write(tmp_path / "bag", Camera(depth=lambda depth: depth // 1000))
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    assert run(monkeypatch, bag) == 2
    out, err = capsys.readouterr()
    assert "metres are stored" in out and "1 problem, no warnings in the part that could be read" in out
    assert err.startswith("error: ") and "breaks off" in err and len(err.splitlines()) == 1


def test_damaged_messages_are_a_problem_and_the_others_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, bag = write(tmp_path / "whole", Camera()), tmp_path / "bag"
    seen: Counter[str] = Counter()
    with BagReader(whole) as reader, BagWriter(bag) as writer:
        for topic in reader.recorded:
            writer.add(topic)
        for message in reader.messages():
            seen[message.topic] += 1
            # The first as well, which tells what the topic holds.
            is_damaged = message.topic == "/depth/image" and seen[message.topic] in (1, 5, 9)
            raw = message.raw[:30] if is_damaged else message.raw
            writer.write(message.topic, message.msgtype, message.time_ns, raw)
    assert run(monkeypatch, bag) == 1
    out, err = capsys.readouterr()
    text = " ".join(out.replace("│", " ").split())
    assert "3 depth messages are damaged; the first: a message on /depth/image is damaged: it is" in text
    assert "1 problem" in text and "depth is 16UC1" in text and not err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "not a readable rosbag2 recording"),
        ([SHIPPED_SEQUENCE, "--frames", "3"], "at least 10"),
        ([SHIPPED_SEQUENCE, "--depth", "/odd"], "no images on /odd; topics with images: /camera/color"),
        ([SHIPPED_SEQUENCE, "--json", "nowhere/doctor.json"], "does not exist"),
        (["live", "--seconds", "0"], "between 1 and 600"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[object],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if arguments[0] == "live":
        pytest.importorskip("rclpy", reason="needs rclpy")
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and says in err and len(err.strip().splitlines()) == 1


def test_of_a_long_recording_start_middle_and_end_are_read(tmp_path: Path) -> None:
    """And a drift that no part shows by itself."""
    camera = Camera(
        frames=90,
        rgb=lambda rgb: rgb[::4, ::4],
        stamp=lambda kind, time: time + time // 200 * (kind == "depth"),
    )
    samples = sample_bag(write(tmp_path / "bag", camera), frames=30)
    assert samples.rgb is not None and samples.depth is not None
    segments = samples.rgb.segments()
    assert [len(stamps) for stamps, _ in segments.values()] == [10, 10, 10]
    first = [(stamps[0] - segments[0][0][0]) // PERIOD_NS for stamps, _ in segments.values()]
    assert first[0] == 0 and 38 <= first[1] <= 41 and first[2] == 80
    assert samples.possible == 30 and samples.rgb.period_ns == pytest.approx(PERIOD_NS)
    drift = next(finding for finding in examine(samples).findings if finding.check == "clocks")
    assert "drift apart" in drift.text
    assert drift.values["drift_s"] == pytest.approx(-0.005 * PERIOD_NS * 80 / 1e9, rel=0.05)


def test_pictures_kept_stay_few_and_spread_over_the_stream() -> None:
    kept: Thinned[int] = Thinned(6)
    for number in range(10_000):
        kept.add(number)
        assert len(kept.items) <= 12
    steps = set(np.diff(kept.items))
    assert len(kept.items) >= 6 and len(steps) == 1 and kept.items[0] == 0 and kept.items[-1] > 7_000


def test_the_qos_and_the_publishers_that_were_recorded_are_told(tmp_path: Path) -> None:
    types = ros2_types()
    time = QosTime(0, 0)
    qos = Qos(
        QosHistory.KEEP_LAST,
        5,
        QosReliability.BEST_EFFORT,
        QosDurability.VOLATILE,
        time,
        time,
        QosLiveliness.AUTOMATIC,
        time,
        False,
    )
    source = write(tmp_path / "source", Camera(frames=12, topics={"rgb": "/rgb/image"}))
    from depth_sr_ros.bag import BagReader

    with BagReader(source) as bag, Writer(tmp_path / "bag", version=8) as writer:
        topics = {}
        for message in bag.messages(["/rgb/image"]):
            if message.topic not in topics:
                topics[message.topic] = writer.add_connection(
                    message.topic, message.msgtype, typestore=types, offered_qos_profiles=[qos, qos]
                )
            writer.write(topics[message.topic], message.time_ns, message.raw)
    samples = sample_bag(tmp_path / "bag")
    assert samples.rgb is not None
    assert samples.rgb.publishers == [Endpoint("", "best_effort", "volatile")] * 2
    (finding,) = check_qos(samples)
    assert finding.severity == Severity.WARNING and "2 publishers" in finding.text


def stream_with(publisher: Endpoint, *subscribers: Endpoint) -> Samples:
    return Samples("test", rgb=Stream("rgb", "/rgb", publishers=[publisher], subscribers=list(subscribers)))


@pytest.mark.parametrize(
    ("publisher", "subscriber", "says"),
    [
        (("best_effort", "volatile"), ("reliable", "volatile"), "subscription.reliability of /viewer"),
        (("reliable", "volatile"), ("reliable", "transient_local"), "have /viewer subscribe volatile"),
        (("reliable", "transient_local"), ("best_effort", "volatile"), ""),
        (("best_effort", "volatile"), ("best_effort", "volatile"), ""),
    ],
)
def test_a_subscriber_that_asks_for_too_much_is_named(
    publisher: tuple[str, str], subscriber: tuple[str, str], says: str
) -> None:
    findings = list(check_qos(stream_with(Endpoint("/camera", *publisher), Endpoint("/viewer", *subscriber))))
    assert len(findings) == 1 and says in findings[0].fix
    assert findings[0].severity == (Severity.PROBLEM if says else Severity.OK)


def dds_finding(transport: Transport, size: int) -> Finding:
    samples = stream_with(Endpoint("/camera", "best_effort", "volatile"))
    assert samples.rgb is not None
    samples.rgb.largest_bytes, samples.transport = size, transport
    (finding,) = check_dds(samples)
    return finding


def test_a_missing_dds_profile_is_told_where_the_images_need_one() -> None:
    bare = Transport("rmw_fastrtps_cpp", "", False)
    assert dds_finding(bare, 100_000).severity == Severity.OK
    assert dds_finding(bare, 900_000).severity == Severity.NOTE
    assert "fastdds_shm.xml" in dds_finding(bare, 900_000).fix
    off = dds_finding(bare._replace(is_switched_off=True), 900_000)
    assert off.severity == Severity.WARNING and "DEPTH_SR_DDS_PROFILE=off" in off.text
    assert dds_finding(bare._replace(profile="/my.xml"), 900_000).severity == Severity.OK
    assert "Images over DDS" in dds_finding(bare._replace(middleware="rmw_zenoh_cpp"), 900_000).fix


def test_the_likeliest_topics_are_taken_and_the_others_named() -> None:
    candidates = [
        Candidate("/depth_sr/depth/image", "32FC1"),
        Candidate("/depth_sr/depth/color", "rgb8"),
        Candidate("/camera/depth/image_rect_raw", "16UC1"),
        Candidate("/camera/aligned_depth_to_color/image_raw", "16UC1"),
        Candidate("/camera/aligned_depth_to_color/image_raw/compressedDepth", "16UC1; compressedDepth png"),
        Candidate("/camera/infra1/image_rect_raw", "mono8"),
        Candidate("/camera/color/image_raw/compressed", "rgb8; jpeg compressed bgr8"),
        Candidate("/camera/color/image_raw", "rgb8"),
    ]
    rgb, rgb_bases = choose("bag", "rgb", candidates, None)
    depth, depth_bases = choose("bag", "depth", candidates, None)
    assert rgb is not None and rgb.topic == "/camera/color/image_raw"
    assert rgb_bases[:2] == ["/camera/color/image_raw", "/camera/infra1/image_rect_raw"]
    assert depth is not None and depth.topic == "/camera/aligned_depth_to_color/image_raw"
    assert depth_bases == [
        "/camera/aligned_depth_to_color/image_raw",
        "/camera/depth/image_rect_raw",
        "/depth_sr/depth/image",
    ]
    assert choose("bag", "depth", candidates, "/camera/depth/image_rect_raw")[0] == candidates[2]
    assert camera_info_topic("/camera/color/image_raw/compressed") == "/camera/color/camera_info"
    with pytest.raises(DataError, match="no images on /odd"):
        choose("bag", "rgb", candidates, "/odd")


def test_edges_tell_a_shift_and_two_scenes_tell_nothing(data_dir: Path) -> None:
    demo = [(frame.rgb, frame.depth_m) for frame in read_sequence(frames=9)[::4]]
    aloe_rgb = read_rgb(data_dir / "aloe" / "rgb.jpg")
    aloe = read_depth(data_dir / "aloe" / "depth.npy")[::4, ::4]
    assert demo[0][1].shape == (120, 160)
    for pairs in (demo, [(aloe_rgb, aloe)]):
        aligned = estimate_shift(pairs)
        assert aligned is not None and aligned.is_conclusive and aligned.work_pixels <= 1
        wide = pairs[0][0].shape[1]
        shifted = estimate_shift([(np.roll(rgb, 5 * wide // 160, axis=1), depth) for rgb, depth in pairs])
        assert shifted is not None and shifted.is_conclusive
        assert shifted.x == pytest.approx(5 * pairs[0][1].shape[1] / 160, rel=0.21) and shifted.y == 0
    for pair in ((demo[0][0], aloe), (aloe_rgb, demo[0][1])):
        foreign = estimate_shift([pair])
        assert foreign is not None and not foreign.is_conclusive
    assert estimate_shift([(demo[0][0], np.full((20, 20), 2.0, np.float32))]) is None


def test_every_parameter_that_a_finding_names_exists() -> None:
    prefixes = "|".join(sorted({name.partition(".")[0] for name in BY_NAME if "." in name}))
    named = set()
    for path in (PACKAGE / "doctor").glob("check_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= set(re.findall(rf"\b(?:{prefixes})\.[a-z_]+[a-z]\b", node.value))
    assert {"sync.slop", "sync.key", "output.max_side", "output.max_fill_distance"} <= named
    assert named <= BY_NAME.keys()
    assert "register" in BY_NAME and {"input.rgb_transport", "input.depth_transport"} <= BY_NAME.keys()


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ConfigError, match="frames is 9, but must be at least 10"):
        sample_bag(SHIPPED_SEQUENCE, frames=9)


def test_the_page_has_the_thresholds_of_the_code_and_the_output_of_the_command() -> None:
    page = (PACKAGE.parent / "docs" / "doctor.md").read_text()
    modules = [
        import_module(f"depth_sr_ros.doctor.{path.stem}") for path in (PACKAGE / "doctor").glob("check_*")
    ]
    told = re.findall(r"`([A-Z_]+)` = ([\d.]+)", page)
    assert len(told) > 20
    for name, value in told:
        assert [float(value)] == [vars(module)[name] for module in modules if name in vars(module)], name
    checks = {finding.check for finding in examine(sample_bag(SHIPPED_SEQUENCE)).findings}
    checks |= {"qos", "dds", "shared memory"}  # of live topics alone
    rows = re.findall(r"^\| ([a-z ]+) \|", page.partition("## What")[2], re.M)
    assert rows[0] == "check" and checks == set(rows[1:])
    command = [sys.executable, "-m", "depth_sr_ros.cli", "doctor", "depth_sr_ros/demo_data/sequence"]
    environment = os.environ | {"COLUMNS": "110"}
    run = subprocess.run(command, cwd=PACKAGE.parent, env=environment, capture_output=True, text=True)
    printed = "\n".join(line.rstrip() for line in run.stdout.strip().splitlines())
    assert f"```\n{printed}\n```" in page, "run the command of the page with COLUMNS=110 and put it there"
