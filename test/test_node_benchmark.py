# SPDX-License-Identifier: Apache-2.0
"""`depth-sr benchmark --node` with few frames: all runs of all sizes, their figures, no judgement on time."""

from __future__ import annotations

import json
import signal
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from ros_helpers import PythonProcess, has_ended

from depth_sr_ros.errors import ConfigError
from depth_sr_ros.image_size import sizes_of
from depth_sr_ros.ros.node_benchmark import DIRECT, KINDS, MIDDLEWARE, NO_PROFILE, NODE, STAGES
from depth_sr_ros.ros.pass_through import PassThrough
from depth_sr_ros.ros.soak_report import broken_identities

pytestmark = [pytest.mark.alone, pytest.mark.timeout(400)]

RUN = ["-m", "depth_sr_ros.cli", "benchmark"]
FRAMES = 10


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What it prints and the numbers that it writes."""
    out = tmp_path_factory.mktemp("benchmark") / "numbers.json"
    sizes = ["--size", "64x48+16x12", "--size", "96x64+24x16"]
    with PythonProcess([*RUN, "--node", *sizes, "--frames", FRAMES, "--json", out]) as process:
        assert process.wait(360) == 0, process.output
        return process.output, json.loads(out.read_text())


def test_every_size_is_run_in_every_way_and_frames_arrive(found: tuple[str, dict[str, Any]]) -> None:
    runs = found[1]["runs"]
    assert [(run["rgb_size"], run["kind"]) for run in runs] == [
        (size, kind) for size in ([64, 48], [96, 64]) for kind in KINDS
    ]
    for run in runs:
        assert run["sent"] == FRAMES
        assert 0 < run["received"] <= FRAMES
        assert run["received"] == FRAMES - run["lost"]["output"] or run["kind"] != DIRECT
        assert 0 < run["latency_ms"][0] <= run["latency_ms"][1]


def test_runs_through_the_node_have_its_stages_and_counters(found: tuple[str, dict[str, Any]]) -> None:
    for run in found[1]["runs"]:
        if run["kind"] == DIRECT:
            assert run["node_ms"] is None and not run["stages_ms"]
            continue
        assert list(run["stages_ms"]) == [*STAGES, MIDDLEWARE]
        assert 0 < run["node_ms"][0] <= run["node_ms"][1]
        assert not broken_identities(run["counters"])
        assert run["counters"]["published"] == run["received"] + run["lost"]["output"]


def test_the_table_has_a_column_a_kind_and_a_section_a_size(found: tuple[str, dict[str, Any]]) -> None:
    text = found[0]
    for part in (
        "64x48+16x12",
        "96x64+24x16",
        NODE,
        DIRECT,
        NO_PROFILE,
        "callback to publish()",
        "publish()",
        *STAGES,
        "messages lost",
    ):
        assert part in text
    assert text.count("camera to listener") == 2
    assert "…" not in text  # nothing is cut at 80 columns


def test_a_signal_ends_all_of_its_processes() -> None:
    with PythonProcess([*RUN, "--node", "--frames", "1000"]) as process:
        children = process.wait_for_children("latency_listener", "pass_through", "synthetic_camera")
        process.send(signal.SIGTERM)
        assert process.wait(60) == 130, process.output
        assert "Traceback" not in process.output
        assert all(has_ended(pid) for pid in children)


@pytest.mark.parametrize("text", ["640x480", "640x480+160", "0x480+160x120", "a+b", "640x480+160x120+1x1"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="size"):
        sizes_of(text)


def test_the_engine_repeats_pixels_in_metres() -> None:
    depth = np.array([[1000, 2000], [0, 4000]], np.uint16)
    out = PassThrough().answer(np.zeros((4, 6, 3), np.uint8), depth, depth_unit_m=0.001).metres
    assert np.allclose(out[::2, ::3], np.array([[1, 2], [np.nan, 4]]), equal_nan=True)
    assert out.dtype == np.float32 and out.shape == (4, 6)
