# SPDX-License-Identifier: Apache-2.0
"""A bag with a simulated sensor: the depth that evaluate would make, all else byte for byte, clear errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from depth_sr_ros.bag import BagMessage, BagReader, BagTopic, BagWriter
from depth_sr_ros.bag_pairs import decode_depth, decode_rgb
from depth_sr_ros.bag_simulation import SimulationSettings, simulate_bag
from depth_sr_ros.cli import main
from depth_sr_ros.degradation import degrade
from depth_sr_ros.demo_sequence import COLOR_TOPIC, SHIPPED_SEQUENCE, TRUTH_TOPIC
from depth_sr_ros.errors import ConfigError, DataError

IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
DEPTH, DEPTH_INFO = "/camera/depth/image_raw", "/camera/depth/camera_info"
COLOR, COLOR_INFO = "/camera/color/image_raw", "/camera/color/camera_info"
MS = 1_000_000


def header(bag: BagWriter, stamp_ns: int) -> object:
    stamp = bag.make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return bag.make("std_msgs/msg/Header", stamp=stamp, frame_id="camera_optical_frame")


def image(bag: BagWriter, stamp_ns: int, pixels: np.ndarray, encoding: str) -> object:
    return bag.make(
        IMAGE,
        header=header(bag, stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels[0].nbytes,
        data=np.ascontiguousarray(pixels).view(np.uint8).ravel(),
    )


def camera_info(bag: BagWriter, stamp_ns: int) -> object:
    roi = bag.make(
        "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return bag.make(
        INFO,
        header=header(bag, stamp_ns),
        height=48,
        width=64,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([60.0, 0, 31.5, 0, 58.0, 23.5, 0, 0, 1]),
        r=np.eye(3).ravel(),
        p=np.array([60.0, 0, 31.5, 0, 0, 58.0, 23.5, 0, 0, 0, 1, 0]),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def metres(index: int) -> np.ndarray:
    y, x = np.mgrid[:48, :64].astype(np.float32)
    depth = 1.5 + 0.01 * x + 0.002 * y + 0.1 * index
    depth[10:20, 10 + index : 24 + index] = 0.8
    depth[:4, :4] = np.nan
    return depth.astype(np.float32)


def picture(index: int) -> np.ndarray:
    rgb = np.full((48, 64, 3), 120, np.uint8)
    rgb[:, 32:] = 10  # where a time-of-flight camera sees little
    rgb[..., 0] += index
    return rgb


def write_camera(path: Path, frames: int = 4, without_rgb: tuple[int, ...] = ()) -> Path:
    """RGB and depth at 10 Hz with their CameraInfo, and words on the side."""
    with BagWriter(path) as bag:
        for index in range(frames):
            stamp = (index + 1) * 100 * MS
            bag.write(
                "/words", "std_msgs/msg/String", stamp - 5, bag.make("std_msgs/msg/String", data=f"{index}")
            )
            if index not in without_rgb:
                bag.write(COLOR, IMAGE, stamp, image(bag, stamp, picture(index), "rgb8"))
            for topic in (COLOR_INFO, DEPTH_INFO):
                bag.write(topic, INFO, stamp + 1, camera_info(bag, stamp))
            bag.write(DEPTH, IMAGE, stamp + 2, image(bag, stamp, metres(index), "32FC1"))
    return path


def write_part(path: Path, frames: int) -> Path:
    """The first frames of the shipped sequence."""
    with BagReader(SHIPPED_SEQUENCE) as bag, BagWriter(path) as target:
        times = sorted({message.time_ns for message in bag.messages([TRUTH_TOPIC])})
        for message in bag.messages(stop_ns=times[frames]):
            target.write(message.topic, message.msgtype, message.time_ns, message.raw)
    return path


def read(path: Path) -> list[BagMessage]:
    with BagReader(path) as bag:
        return list(bag.messages())


def depths(path: Path, topic: str = DEPTH) -> list[np.ndarray]:
    with BagReader(path) as bag:
        return [decode_depth(bag, message) for message in bag.messages([topic])]


def settings(bag: Path, out: Path, **changes: object) -> SimulationSettings:
    values: dict[str, object] = {"profile": "noisy", "scale": 4} | changes
    return SimulationSettings(bag, out, **values)  # type: ignore[arg-type]


def run_cli(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["depth-sr", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.mark.parametrize("profile", ["clean", "noisy", "tof", "stereo", "dtof", "lidar"])
def test_the_depth_is_that_of_the_profile_with_the_pair_s_number_as_seed(
    tmp_path: Path, profile: str
) -> None:
    bag = write_camera(tmp_path / "bag")
    simulate_bag(settings(bag, tmp_path / "out", profile=profile, seed=3))
    for index, low in enumerate(depths(tmp_path / "out")):
        rng = np.random.default_rng((3, index))
        np.testing.assert_array_equal(low, degrade(metres(index), 4, profile, rng, picture(index)))
        assert low.shape == (12, 16) and np.isfinite(low).any()


def test_every_other_topic_and_every_time_stays_as_it_was(tmp_path: Path) -> None:
    bag = write_camera(tmp_path / "bag")
    result = simulate_bag(settings(bag, tmp_path / "out", keep_original=True))
    assert (result.frames, result.size, result.info_topic) == (4, (16, 12), DEPTH_INFO)
    before, after = read(bag), read(tmp_path / "out")
    changed = {DEPTH, DEPTH_INFO, f"{DEPTH}_reference"}
    assert [m for m in after if m.topic not in changed] == [m for m in before if m.topic not in changed]
    for topic in (DEPTH, DEPTH_INFO):
        old, new = ([m for m in messages if m.topic == topic] for messages in (before, after))
        assert [m.time_ns for m in new] == [m.time_ns for m in old]
        assert all(b.raw != a.raw for a, b in zip(old, new, strict=True))
    kept = [(m.time_ns, m.raw) for m in after if m.topic == f"{DEPTH}_reference"]
    assert kept == [(m.time_ns, m.raw) for m in before if m.topic == DEPTH]
    with BagReader(tmp_path / "out") as out:
        for message in out.messages([DEPTH]):
            low = out.deserialize(message)
            assert low.header.frame_id == "camera_optical_frame" and low.encoding == "32FC1"
            assert low.header.stamp.nanosec == (message.time_ns - 2) % 10**9


def test_the_camera_info_of_the_depth_alone_is_resized_by_the_half_pixel_rule(tmp_path: Path) -> None:
    simulate_bag(settings(write_camera(tmp_path / "bag"), tmp_path / "out"))
    with BagReader(tmp_path / "out") as out:
        infos = {m.topic: out.deserialize(m) for m in out.messages([COLOR_INFO, DEPTH_INFO])}
    assert (infos[DEPTH_INFO].width, infos[DEPTH_INFO].height) == (16, 12)
    np.testing.assert_allclose(infos[DEPTH_INFO].k, [15, 0, 7.5, 0, 14.5, 5.5, 0, 0, 1])
    np.testing.assert_allclose(infos[DEPTH_INFO].p, [15, 0, 7.5, 0, 0, 14.5, 5.5, 0, 0, 0, 1, 0])
    assert (infos[COLOR_INFO].width, infos[COLOR_INFO].k[0]) == (64, 60)


def test_a_camera_info_that_colour_images_share_stays_as_it_was(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/camera/rgb", IMAGE, 1, image(bag, 1, picture(0), "rgb8"))
        bag.write("/camera/camera_info", INFO, 2, camera_info(bag, 1))
        bag.write("/camera/depth", IMAGE, 3, image(bag, 1, metres(0), "32FC1"))
    assert simulate_bag(settings(tmp_path / "bag", tmp_path / "out")).info_topic is None
    kept = [[m for m in read(tmp_path / name) if m.msgtype == INFO] for name in ("bag", "out")]
    assert kept[0] == kept[1]


def test_frames_without_an_rgb_image_are_degraded_too(tmp_path: Path) -> None:
    bag = write_camera(tmp_path / "bag", without_rgb=(1,))
    simulate_bag(settings(bag, tmp_path / "out", profile="noisy"))
    lows = depths(tmp_path / "out")
    for index, seed in ((0, (0, 0)), (1, (0, 0, 1)), (2, (0, 1)), (3, (0, 2))):
        expected = degrade(metres(index), 4, "noisy", np.random.default_rng(seed))
        np.testing.assert_array_equal(lows[index], expected)
    simulate_bag(settings(write_camera(tmp_path / "dark", without_rgb=(0, 1, 2, 3)), tmp_path / "alone"))
    assert len(depths(tmp_path / "alone")) == 4


def test_the_seed_decides_the_noise(tmp_path: Path) -> None:
    bag = write_camera(tmp_path / "bag", frames=2)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_bag(settings(bag, tmp_path / name, seed=seed))
    raws = {name: [m.raw for m in read(tmp_path / name) if m.topic == DEPTH] for name in "abc"}
    assert raws["a"] == raws["b"] and raws["a"][0] != raws["c"][0] and raws["a"][0] != raws["a"][1]


@pytest.mark.parametrize("whole_message", [True, False])
def test_damaged_frames_are_left_out_and_counted_by_what_is_wrong(
    tmp_path: Path, whole_message: bool
) -> None:
    bag = write_camera(tmp_path / "bag")
    with BagReader(bag) as reader, BagWriter(tmp_path / "hurt") as target:
        for message in reader.messages():
            changed: object = message.raw
            if message.topic == DEPTH and 150 * MS < message.time_ns < 350 * MS:
                changed = reader.deserialize(message)
                changed.data = changed.data[:100]  # type: ignore[attr-defined]
                changed = changed if whole_message else message.raw[:40]
            target.write(message.topic, message.msgtype, message.time_ns, changed)
    result = simulate_bag(settings(tmp_path / "hurt", tmp_path / "out"))
    assert result.frames == 2 and list(result.problems.values()) == [2]
    says = "data has 100 bytes" if whole_message else f"a message on {DEPTH} is damaged: it is not a {IMAGE}"
    assert says in next(iter(result.problems))
    assert len(depths(tmp_path / "out")) == 2


def test_a_recording_whose_pictures_are_all_damaged_is_an_error(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        broken = bag.make(
            "sensor_msgs/msg/CompressedImage", header=header(bag, 1), format="jpeg", data=np.ones(9, np.uint8)
        )
        bag.write("/camera/color/image_raw/compressed", "sensor_msgs/msg/CompressedImage", 1, broken)
        bag.write(DEPTH, IMAGE, 2, image(bag, 1, metres(0), "32FC1"))
    with pytest.raises(DataError, match="no depth frame of .*bag can be used: the RGB data start with"):
        simulate_bag(settings(tmp_path / "bag", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_evaluate_scores_the_result_as_it_scores_its_own_simulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out = write_part(tmp_path / "bag", 3), tmp_path / "tof"
    words = ["--profile", "tof", "--scale", 4, "--depth", TRUTH_TOPIC, "--keep-original", "--seed", 5]
    assert run_cli(monkeypatch, "simulate", bag, out, *words) == 0
    assert f"3 frames of 160x120 on {TRUTH_TOPIC}" in capsys.readouterr().out
    with BagReader(bag) as reader:
        pictures = [decode_rgb(reader, m) for m in reader.messages([COLOR_TOPIC])]
    lows, truths = depths(out, TRUTH_TOPIC), depths(bag, TRUTH_TOPIC)
    for index, (low, truth, rgb) in enumerate(zip(lows, truths, pictures, strict=True)):
        expected = degrade(truth, 4, "tof", np.random.default_rng((5, index)), rgb)
        np.testing.assert_allclose(low, expected, atol=0.000501)  # stored in millimetres
    scores = {}
    for name, recording, choice in (
        ("made", out, ["--reference", f"{TRUTH_TOPIC}_reference"]),
        ("own", bag, ["--simulate", "tof", "--scale", 4, "--seed", 5]),
    ):
        report = tmp_path / f"report-{name}"
        options = ["--depth", TRUTH_TOPIC, "--no-baselines", "--threads", 1, "--out", report, *choice]
        assert run_cli(monkeypatch, "evaluate", recording, *options) == 0
        scores[name] = json.loads((report / "report.json").read_text())["methods"]["ours"]["rmse"]
    assert scores["made"] == pytest.approx(scores["own"], rel=0.01) and 0 < scores["own"] < 10


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"profile": "tofu"}, "profile is 'tofu', but must be one of .*did you mean 'tof'"),
        ({"scale": 3}, "scale is 3, but must be 2, 4, 8 or 16"),
        ({"seed": -1}, "seed is -1, but must be at least 0"),
        ({"depth_topic": "/nowhere"}, r"has no images on '/nowhere'; its image topics: .*\(depth\)"),
        ({"depth_topic": COLOR}, f"{COLOR} in .* has colour images"),
        ({"storage": "sqlite"}, "storage is 'sqlite'"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    bag = write_camera(tmp_path / "bag", frames=1)
    with pytest.raises((ConfigError, DataError), match=says):
        simulate_bag(settings(bag, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_a_scale_that_does_not_divide_the_images_is_refused_with_those_that_do(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write(DEPTH, IMAGE, 1, image(bag, 1, metres(0)[:44], "32FC1"))
    with pytest.raises(ConfigError, match="scale 8 does not divide the 64x44 images .*: use 2 or 4"):
        simulate_bag(settings(tmp_path / "bag", tmp_path / "out", scale=8))


def test_bags_that_cannot_be_used_are_named_and_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a readable rosbag2 recording"):
        simulate_bag(settings(tmp_path / "nowhere", tmp_path / "out"))
    with BagWriter(tmp_path / "empty"):
        pass
    with pytest.raises(DataError, match="empty holds no message"):
        simulate_bag(settings(tmp_path / "empty", tmp_path / "out"))
    with BagWriter(tmp_path / "words") as bag:
        bag.write("/words", "std_msgs/msg/String", 1, bag.make("std_msgs/msg/String", data="x"))
    with pytest.raises(DataError, match="holds no depth images that this package can read"):
        simulate_bag(settings(tmp_path / "words", tmp_path / "out"))
    whole = write_camera(tmp_path / "bag")
    with pytest.raises(DataError, match="cannot write a bag to .*words: choose another folder"):
        simulate_bag(settings(whole, tmp_path / "words"))
    (file,) = whole.glob("*.mcap")
    data = bytearray(file.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 4000] = bytes(4000)  # in the one chunk: the index is still there
    file.write_bytes(data)
    with pytest.raises(DataError, match="bag is damaged: "):
        simulate_bag(settings(whole, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_topic_of_an_unknown_type_is_copied(tmp_path: Path) -> None:
    odd = BagTopic("/odd", "nowhere_msgs/msg/Thing", "int32 a\n", "RIHS01_" + "ab" * 32)
    with BagWriter(tmp_path / "bag") as bag:
        bag.add(odd)
        bag.write("/odd", odd.msgtype, 1, b"\x00\x01\x00\x00\x07\x00\x00\x00")
        bag.write(DEPTH, IMAGE, 2, image(bag, 1, metres(0), "32FC1"))
    simulate_bag(settings(tmp_path / "bag", tmp_path / "out", storage="sqlite3", compression="zstd"))
    with BagReader(tmp_path / "out") as out:
        copied = next(topic for topic in out.recorded if topic.name == "/odd")
        assert (copied.definition, copied.type_hash) == (odd.definition, odd.type_hash)
        assert next(out.messages(["/odd"])).raw == b"\x00\x01\x00\x00\x07\x00\x00\x00"
