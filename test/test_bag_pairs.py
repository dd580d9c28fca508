# SPDX-License-Identifier: Apache-2.0
"""RGB-D pairs of real bags: which topics, how paired, how decoded; and bags as training images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from depth_sr_ros.bag import BagReader, BagWriter
from depth_sr_ros.bag_pairs import PairReader, RgbdTopics, decode_depth, decode_rgb, find_topics
from depth_sr_ros.demo_sequence import COLOR_TOPIC, DEPTH_TOPIC, SHIPPED_SEQUENCE, TRUTH_TOPIC, read_sequence
from depth_sr_ros.errors import ConfigError, DataError
from training.config import SourceConfig, load_config
from training.data.bag_frames import BagFrames
from training.data.batches import BatchMaker

PERIOD = 100_000_000  # ns
RGB, DEPTH = "/camera/color", "/camera/aligned_depth"


def picture(index: int, height: int = 96, width: int = 128) -> np.ndarray:
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[...] = (200, 20 + index, 60)
    return rgb


def depth_mm(index: int) -> np.ndarray:
    depth = np.full((96, 128), 1000 + index, np.uint16)
    depth[:8] = 0
    return depth


def image(bag: BagWriter, stamp: int, pixels: np.ndarray, encoding: str):
    time = bag.make("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
    data = np.ascontiguousarray(pixels).view(np.uint8).ravel()
    return bag.make(
        "sensor_msgs/msg/Image",
        header=bag.make("std_msgs/msg/Header", stamp=time, frame_id="camera"),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=data.size // pixels.shape[0],
        data=data,
    )


def write_bag(
    path: Path, frames: int = 6, offset: int = 0, encoding: str = "bgr8", size: tuple[int, int] = (96, 128)
) -> Path:
    """RGB at 10 Hz, depth `offset` ns later; the RGB bag time is that of its stamp."""
    with BagWriter(path) as bag:
        for index in range(frames):
            stamp = (index + 1) * PERIOD
            pixels = picture(index, *size)
            pixels = pixels[..., ::-1] if encoding == "bgr8" else pixels[..., 1]
            bag.write(RGB, "sensor_msgs/msg/Image", stamp, image(bag, stamp, pixels, encoding))
            late = stamp + offset
            bag.write(DEPTH, "sensor_msgs/msg/Image", late, image(bag, late, depth_mm(index), "16UC1"))
    return path


def test_the_only_topics_of_their_kind_are_found_and_paired(tmp_path: Path) -> None:
    with BagReader(write_bag(tmp_path / "bag", offset=PERIOD // 5)) as bag:
        topics = find_topics(bag)
        assert topics == RgbdTopics(RGB, DEPTH)
        pairs = list(PairReader(bag, topics))
        assert [pair.stamp_ns for pair in pairs] == [PERIOD * (i + 1) for i in range(6)]
        for index, pair in enumerate(pairs):
            np.testing.assert_array_equal(decode_rgb(bag, pair.rgb), picture(index))
            depth = decode_depth(bag, pair.depth)
            assert depth.dtype == np.float32 and np.isnan(depth[:8]).all()
            np.testing.assert_allclose(depth[8:], 1 + index / 1000, rtol=1e-6)


def test_a_slop_that_nothing_meets_pairs_nothing(tmp_path: Path) -> None:
    with BagReader(write_bag(tmp_path / "bag", offset=PERIOD // 5)) as bag:
        assert not list(PairReader(bag, RgbdTopics(RGB, DEPTH), slop=0.001))
        assert len(list(PairReader(bag, RgbdTopics(RGB, DEPTH), slop=0.03))) == 6


def test_compressed_images_of_the_shipped_sequence_are_decoded() -> None:
    frames = read_sequence(frames=3)
    with BagReader(SHIPPED_SEQUENCE) as bag:
        pairs = list(PairReader(bag, RgbdTopics(COLOR_TOPIC, TRUTH_TOPIC)))
        assert len(pairs) == bag.count(COLOR_TOPIC)
        for frame, pair in zip(frames, pairs, strict=False):
            np.testing.assert_array_equal(decode_rgb(bag, pair.rgb), frame.rgb)
            np.testing.assert_allclose(decode_depth(bag, pair.depth), frame.truth_m, rtol=1e-6)


def test_two_topics_of_a_kind_must_be_chosen_from_by_name(tmp_path: Path) -> None:
    with BagReader(SHIPPED_SEQUENCE) as bag:
        with pytest.raises(DataError, match=f"{DEPTH_TOPIC}, {TRUTH_TOPIC} all might; name one"):
            find_topics(bag)
        assert find_topics(bag, depth=TRUTH_TOPIC) == RgbdTopics(COLOR_TOPIC, TRUTH_TOPIC)
        with pytest.raises(DataError, match=rf"no images on '/odd'.*{COLOR_TOPIC} \(rgb\)"):
            find_topics(bag, rgb="/odd")
    with BagWriter(tmp_path / "empty") as writer:
        writer.write("/words", "std_msgs/msg/String", 1, writer.make("std_msgs/msg/String", data="no image"))
    with BagReader(tmp_path / "empty") as bag, pytest.raises(DataError, match="no rgb images.*/words"):
        find_topics(bag)


def test_grey_images_become_three_channels(tmp_path: Path) -> None:
    with BagReader(write_bag(tmp_path / "bag", encoding="mono8")) as bag:
        (first, *_) = PairReader(bag, find_topics(bag))
        grey = decode_rgb(bag, first.rgb)
        assert grey.shape == (96, 128, 3) and (grey == 20).all()


def test_training_takes_pairs_some_time_apart_and_shrinks_the_rgb(tmp_path: Path) -> None:
    frames = BagFrames(write_bag(tmp_path / "bag", frames=10, size=(192, 256)), interval_s=0.3)
    assert [pair.stamp_ns // PERIOD for pair in frames.pairs] == [1, 4, 7, 10]
    rgb, depth = frames.read(frames.pairs[1])
    np.testing.assert_array_equal(rgb, picture(3))
    assert float(depth[20, 20]) == pytest.approx(1.003)


def test_images_of_two_views_are_refused(tmp_path: Path) -> None:
    frames = BagFrames(write_bag(tmp_path / "bag", size=(96, 200)))
    with pytest.raises(DataError, match="200x96 beside depth of 128x96"):
        frames.read(frames.pairs[0])


def test_a_bag_without_a_pair_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pair"):
        BagFrames(write_bag(tmp_path / "bag", frames=1, offset=PERIOD))
    with pytest.raises(DataError, match="not a readable rosbag2"):
        BagFrames(tmp_path / "absent")


def test_batches_come_from_a_bag(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    source = f"data.sources=[{{kind: rosbag2, path: {bag}, interval_s: 0.0}}]"
    config = load_config("smoke", [source, "data.crop=[64, 64]", "data.batch_size=2"])
    batch = BatchMaker(config)(0)
    again = BatchMaker(config)(0)
    assert batch["rgb"].shape == (2, 3, 64, 64) and torch.equal(batch["rgb"], again["rgb"])
    depth = batch["depth"][torch.isfinite(batch["depth"])]
    assert float(depth.min()) > 0.49 and float(depth.max()) < 2.02, "1 m, stretched by a half to twice"
    assert float(batch["rgb"][:, 0].mean()) > float(batch["rgb"][:, 2].mean()), "red stays red"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"kind": "rosbag2", "interval_s": -1.0}, "at least 0"),
        ({"kind": "rendered", "rgb_topic": "/x"}, "for rosbag2"),
    ],
)
def test_options_that_make_no_sense_are_named(options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        SourceConfig(**options)


def test_a_damaged_picture_is_named_by_its_stamp(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for index in range(3):
            stamp = (index + 1) * PERIOD
            time = bag.make("builtin_interfaces/msg/Time", sec=0, nanosec=stamp)
            ok, jpeg = cv2.imencode(".jpg", picture(index))
            assert ok
            compressed = bag.make(
                "sensor_msgs/msg/CompressedImage",
                header=bag.make("std_msgs/msg/Header", stamp=time, frame_id="camera"),
                format="bgr8; jpeg compressed bgr8",
                data=jpeg.ravel()[:100],
            )
            bag.write(RGB, "sensor_msgs/msg/CompressedImage", stamp, compressed)
            bag.write(DEPTH, "sensor_msgs/msg/Image", stamp, image(bag, stamp, depth_mm(index), "16UC1"))
    frames = BagFrames(tmp_path / "bag")
    with pytest.raises(DataError, match=f"the pair at {PERIOD} ns cannot be decoded"):
        frames.read(frames.pairs[0])
