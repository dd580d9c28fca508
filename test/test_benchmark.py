# SPDX-License-Identifier: Apache-2.0
"""`depth-sr benchmark`: every way to run the network, filters beside it; no judgement on time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from depth_sr_ros.benchmark import FILTERS, synthetic_frame
from depth_sr_ros.config import VARIANTS
from depth_sr_ros.engine import MAX_DIFFERENCE
from depth_sr_ros.ways import ways_on

COMMAND = [sys.executable, "-m", "depth_sr_ros.cli", "benchmark"]
SIZES = ("64x48+16x12", "96x64+24x16")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def test_every_way_is_measured_at_every_size_with_every_number_of_threads(tmp_path: Path) -> None:
    out = tmp_path / "numbers.json"
    sizes = [part for size in SIZES for part in ("--size", size)]
    ended = run(*sizes, "--threads", 1, "--threads", 2, "--device", "cpu", "--frames", 2, "--json", out)
    assert ended.returncode == 0, ended.stderr
    timings = json.loads(out.read_text())["timings"]
    ways = [f"edge, {way.runtime} {way.precision}" for way in ways_on("cpu", VARIANTS["edge"])]
    expected = {
        (tuple(size), name, threads) for size in ((64, 48), (96, 64)) for name in ways for threads in (1, 2)
    }
    found = {(tuple(t["rgb_size"]), t["method"], t["threads"]) for t in timings if t["method"] in ways}
    assert found == expected
    assert {t["method"] for t in timings} == {*ways, *FILTERS}
    assert all(0 < t["p50_ms"] <= t["p95_ms"] for t in timings)
    for text in (*SIZES, *ways, *FILTERS):
        assert text in ended.stdout


def test_the_difference_is_from_torch_in_float32(tmp_path: Path) -> None:
    out = tmp_path / "numbers.json"
    assert run("--size", SIZES[0], "--device", "cpu", "--frames", 2, "--json", out).returncode == 0
    differences = {t["method"]: t["difference"] for t in json.loads(out.read_text())["timings"]}
    # not 0: with more threads the sums are in another order
    assert differences["edge, torch float32"] < 1e-5
    assert differences.get("edge, native float32", 0) < MAX_DIFFERENCE
    assert all(differences[name] is None for name in FILTERS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--frames", 1), "frames 1 must be at least 2"),
        (("--threads", 0), "at least 1"),
        (("--size", "64x48"), "such as 640x480+160x120"),
        (("--size", "8x8+2x2"), "at least 32 pixels"),
        (("--variant", "egde"), "did you mean 'edge'"),
        (("--device", "cuda:99"), "cuda:99"),
        (("--checkpoint", "absent.safetensors"), "does not exist"),
        (("--runtimes", "onnxrt"), "did you mean 'onnxruntime'"),
    ],
)
def test_a_figure_out_of_range_is_one_sentence(arguments: tuple[object, ...], words: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert words in ended.stderr and "Traceback" not in ended.stderr


def test_the_frame_is_the_same_every_time_and_has_edges() -> None:
    rgb, depth = synthetic_frame((96, 64), (24, 16))
    again = synthetic_frame((96, 64), (24, 16))
    np.testing.assert_array_equal(rgb, again[0])
    np.testing.assert_array_equal(depth, again[1])
    assert rgb.shape == (64, 96, 3) and depth.shape == (16, 24)
    assert depth.min() < 1.3 and depth.max() > 3.5


def test_runtimes_are_compared_and_agree_where_they_compute_in_float32(tmp_path: Path) -> None:
    pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed: pip install 'depth_sr_ros[onnx]'"
    )
    out = tmp_path / "numbers.json"
    names = [word for name in ("torch", "onnxruntime") for word in ("--runtimes", name)]
    ended = run(*names, "--size", SIZES[1], "--threads", 1, "--frames", 2, "--json", out)
    assert ended.returncode == 0, ended.stderr
    timings = {t["name"]: t for t in json.loads(out.read_text())["timings"]}
    assert set(timings) == {"torch float32", "torch bfloat16", "onnxruntime float32"}
    assert all(0 < t["least_ms"] <= t["median_ms"] for t in timings.values())
    assert timings["torch float32"]["difference"] == 0
    assert timings["onnxruntime float32"]["difference"] < 1e-4
