# SPDX-License-Identifier: Apache-2.0
"""Long recordings: what `depth-sr evaluate` keeps does not grow with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_bag_pairs import DEPTH, RGB, depth_mm, image, picture

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.bag import BagReader, BagWriter
from depth_sr_ros.demo_sequence import COLOR_TOPIC, DEPTH_TOPIC, SHIPPED_SEQUENCE
from depth_sr_ros.replay import Samples, replay
from depth_sr_ros.replay_frames import ReplaySettings

FRAMES = 1000
PERIOD_NS = 10**9 // 15
WARM_FRAMES = 300
ALLOWED_MB = 25  # an image kept for each frame would be 4,000
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_memory_stays_flat_over_a_thousand_frames(tmp_path: Path) -> None:
    with BagReader(SHIPPED_SEQUENCE) as source, BagWriter(tmp_path / "bag") as out:
        images = {
            t: [source.deserialize(m) for m in source.messages([t])] for t in (COLOR_TOPIC, DEPTH_TOPIC)
        }
        for index in range(FRAMES):
            stamp = (index + 1) * PERIOD_NS
            for topic, recorded in images.items():
                message = recorded[index % len(recorded)]
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
                out.write(topic, COMPRESSED, stamp, message)
    memory = []
    resolver = DepthSuperResolver(device="cpu")
    found = replay(
        ReplaySettings(tmp_path / "bag", baselines=False),
        resolver,
        Samples(),
        lambda done: memory.append(resident_mb()),
    )
    assert len(found.records) == FRAMES and not found.problems
    grown = max(memory[WARM_FRAMES:]) - max(memory[:WARM_FRAMES])
    assert grown < ALLOWED_MB, f"{grown:.0f} MB more after {FRAMES} frames"


def test_a_million_other_messages_between_two_frames_are_no_hindrance(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        words = bag.types.serialize_cdr(
            bag.make("std_msgs/msg/String", data="between"), "std_msgs/msg/String"
        )
        for index, seconds in enumerate((1, 2, 1002, 1003)):
            stamp = seconds * 10**9
            for topic, pixels, encoding in (
                (RGB, picture(index), "rgb8"),
                (DEPTH, depth_mm(index)[::4, ::4], "16UC1"),
            ):
                bag.write(topic, IMAGE, stamp, image(bag, stamp, pixels, encoding))
            if index == 1:
                for count in range(1_000_000):
                    bag.write("/words", "std_msgs/msg/String", stamp + (count + 1) * 999_000, bytes(words))
    before = resident_mb()
    resolver = DepthSuperResolver(device="cpu")
    found = replay(ReplaySettings(tmp_path / "bag", baselines=False), resolver, Samples())
    assert [record.stamp_ns // 10**9 for record in found.records] == [1, 2, 1002, 1003]
    assert not found.problems and resident_mb() - before < 400
