# SPDX-License-Identifier: Apache-2.0
"""`depth-sr benchmark`: every way to run the networks, filters beside them; no judgement on time."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_guide import save_tiny_guide
from typer.testing import CliRunner

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.benchmark import streamed_hz, synthetic_frame
from depth_sr_ros.benchmark_methods import FILTER, FILTERS, GUIDE, NETWORK, networks
from depth_sr_ros.benchmark_picture import picture
from depth_sr_ros.benchmark_report import FrameCost, Results, Timing, cost_table, time_table
from depth_sr_ros.cli import app
from depth_sr_ros.config import VARIANTS
from depth_sr_ros.cost import Cost, Operation
from depth_sr_ros.errors import CheckpointError, DepthSRError
from depth_sr_ros.image_size import Sizes
from depth_sr_ros.models import checkpoint as checkpoints
from depth_sr_ros.roofline import Ceilings, floor
from depth_sr_ros.trial import MAX_DIFFERENCE
from depth_sr_ros.ways import REFERENCE, ways_on

COMMAND = [sys.executable, "-m", "depth_sr_ros.cli", "benchmark"]
SIZES = ("64x48+16x12", "96x64+24x16")
# Quick by itself, but on a busy machine two threads that wait for each other are not.
pytestmark = pytest.mark.timeout(300)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    """What a run over sizes and threads wrote: JSON, what it printed, and the picture."""
    folder = tmp_path_factory.mktemp("benchmark")
    out, drawn = folder / "numbers.json", folder / "times.png"
    options = [part for size in SIZES for part in ("--size", size)]
    options += ["--threads", "1", "--threads", "2", "--device", "cpu", "--frames", "2"]
    ended = run(*options, "--json", out, "--picture", drawn)
    assert ended.returncode == 0, ended.stderr
    return json.loads(out.read_text()), ended.stdout, drawn


def test_every_way_is_measured_at_every_size_with_every_number_of_threads(
    measured: tuple[dict[str, Any], str, Path],
) -> None:
    content, printed, _ = measured
    timings = content["timings"]
    ways = [f"edge, {way.runtime} {way.precision}" for way in ways_on("cpu", VARIANTS["edge"])]
    expected = {
        (tuple(size), name, threads) for size in ((64, 48), (96, 64)) for name in ways for threads in (1, 2)
    }
    found = {(tuple(t["rgb_size"]), t["method"], t["threads"]) for t in timings if t["method"] in ways}
    assert found == expected
    assert {t["method"] for t in timings} == {*ways, *FILTERS}
    assert all(0 < t["p50_ms"] <= t["p95_ms"] and t["hz"] == 1e3 / t["p50_ms"] for t in timings)
    for text in (*SIZES, *ways, *FILTERS):
        assert text in printed


def test_the_difference_is_from_torch_in_float32(measured: tuple[dict[str, Any], str, Path]) -> None:
    differences = {t["method"]: t["difference"] for t in measured[0]["timings"]}
    # not 0: with more threads the sums are in another order
    assert differences["edge, torch float32"] < 1e-5
    assert differences.get("edge, native float32", 0) < MAX_DIFFERENCE
    assert all(differences[name] is None for name in FILTERS)


def test_floors_follow_from_the_counted_operations_and_the_ceilings(
    measured: tuple[dict[str, Any], str, Path],
) -> None:
    content, printed, _ = measured
    ceilings = {each["threads"]: each for each in content["ceilings"]}
    assert set(ceilings) == {1, 2}
    costs = {(tuple(c["rgb_size"]), c["precision"]): c for c in content["costs"]}
    for t in content["timings"]:
        if t["method"] in FILTERS:
            assert t["flop"] is t["moved_bytes"] is t["floor_ms"] is t["floor_ratio"] is None
            continue
        cost, machine = costs[tuple(t["rgb_size"]), t["method"].split()[-1]], ceilings[t["threads"]]
        least = sum(
            o["number"]
            * max(
                o["bytes"] / machine["copy_bytes_s"],
                o["flop"] / machine["product_flop_s"][o["dtype"]] if o["flop"] else 0,
            )
            for o in cost["operations"]
        )
        assert t["floor_ms"] == pytest.approx(1e3 * least)
        assert t["floor_ratio"] == pytest.approx(t["p50_ms"] / t["floor_ms"])
        assert (t["flop"], t["moved_bytes"]) == (cost["flop"], cost["moved_bytes"])
        assert 0 <= t["floor_memory_ms"] <= t["floor_ms"]
    assert "ceilings, 1 thread: copy" in printed and "GFLOP/s" in printed
    assert content["machine"] in printed


def test_the_memory_holds_the_weights_at_least(measured: tuple[dict[str, Any], str, Path]) -> None:
    if any(t["memory_bytes"] is None for t in measured[0]["timings"]):
        pytest.skip("this system does not let a process reset its peak memory")
    of_networks = [t["memory_bytes"] for t in measured[0]["timings"] if t["kind"] == NETWORK]
    assert all(4 * 1.47e6 < memory < 1e9 for memory in of_networks)  # 1.47 M parameters in float32


def test_the_picture_is_one_and_has_a_bar_for_each_timing(
    measured: tuple[dict[str, Any], str, Path],
) -> None:
    image = cv2.imread(str(measured[2]))
    assert image is not None and image.shape[1] > 1000
    # the colours of bars, filters and floors are in it
    for colour in ("#3b75af", "#9aa0a6", "#b3261e"):
        bgr = [int(colour[i : i + 2], 16) for i in (5, 3, 1)]
        assert (image == bgr).all(2).sum() > 100, colour


def test_variants_with_a_guide_and_depth_anything_alone(tmp_path: Path) -> None:
    guide, out = save_tiny_guide(tmp_path / "guide"), tmp_path / "numbers.json"
    options = ["--size", SIZES[0], "--threads", 1, "--device", "cpu", "--frames", 2, "--json", out]
    options += ["--variant", "edge", "--variant", "fast", "--precision", "float32", "--guide-path", guide]
    ended = run(*options, "--depth-anything", 28)
    assert ended.returncode == 0, ended.stderr
    timings = {t["method"]: t for t in json.loads(out.read_text())["timings"]}
    # the kernels of `native/` are there where a compiler was
    others = {name for name in timings if "native" not in name and name not in FILTERS}
    alone = "Depth Anything Small 28, untrained, torch float32"
    assert others == {"edge, torch float32", "fast + guide, torch float32", alone}
    assert timings[alone]["difference"] is None and timings[alone]["kind"] == GUIDE
    assert timings["fast + guide, torch float32"]["difference"] == 0
    assert timings["fast + guide, torch float32"]["flop"] > timings["edge, torch float32"]["flop"]


def test_the_guides_size_is_that_of_the_image_that_it_sees(tmp_path: Path) -> None:
    guide = str(save_tiny_guide(tmp_path / "guide"))
    flop = {}
    for size in (None, 126, 252):
        edge, fast = networks(["edge", "fast"], None, guide, tmp_path, size)
        assert (edge.name, fast.name) == ("edge", "fast + guide" + (f" {size}" if size else ""))
        flop[size] = fast.costs(((64, 48), (16, 12)), ["float32"], torch.device("cpu"))["float32"].flop
        engine = fast.engine(REFERENCE, torch.device("cpu"), 1)
        assert engine._model.guide is not None and engine._model.guide.short_side == (size or 518)
        assert edge.engine(REFERENCE, torch.device("cpu"), 1)._model.guide is None
    assert flop[126] < flop[252] < flop[None]


def test_untrained_weights_are_named_so_and_never_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_ships(variant: str) -> Path:
        raise CheckpointError(f"no weights ship for variant {variant!r}")

    assert [n.name for n in networks(["fast", "fast", "edge"], None, None, tmp_path)] == [
        "fast U-Net",
        "edge",
    ]
    (trained,) = networks(["fast"], None, "untrained", tmp_path)
    assert (trained.name, trained.is_trained) == ("fast + untrained guide", False)
    guide = trained.guide_path
    assert guide is not None and (guide / "model.safetensors").stat().st_size > 90e6
    monkeypatch.setattr("depth_sr_ros.benchmark_methods.shipped_checkpoint", nothing_ships)
    found = networks(["all"], None, str(guide), tmp_path)
    assert [n.name for n in found] == [
        "challenge + guide, untrained",
        "fast + guide, untrained",
        "edge, untrained",
    ]
    assert not any(n.is_trained for n in found)
    assert checkpoints.read_header(found[0].checkpoint).model == VARIANTS["challenge"]
    assert all(n.checkpoint.parent == tmp_path for n in found)
    (alone,) = networks(["challenge"], None, None, tmp_path)
    assert (alone.name, alone.guide_path) == ("challenge U-Net, untrained", None)
    engine = alone.engine(ways_on("cpu", alone.model)[-1], torch.device("cpu"), 1)
    assert engine(*synthetic_frame((64, 48), (16, 12))).shape == (48, 64)


def results_of(names: list[str], sizes: list[Sizes], streamed_hz: float | None = None) -> Results:
    """A run's results, made up."""
    ceilings = [Ceilings(n, 1e10, {"float32": 1e11}) for n in (1, 16)]
    cost = Cost((Operation("product", "float32", (1,), int(273e9), int(39.7e9)),))
    least = floor(cost, ceilings[0])
    timings = [
        Timing(
            sizes=size,
            method=name,
            kind=kind,
            threads=16,
            p50_ms=p50,
            p95_ms=2 * p50,
            streamed_hz=streamed_hz if difference else None,
            difference=difference,
            memory=int(12.3e9),
            cost=cost,
            floor=least if difference else None,
        )
        for size in sizes
        for name, kind, p50, difference in [
            *((name, NETWORK, 12345.6, 8e-3) for name in names),
            ("bicubic", FILTER, 0.25, None),
        ]
    ]
    costs = [FrameCost(size, name.rpartition(", ")[0], "bfloat16", cost) for size in sizes for name in names]
    return Results("a processor", 2, tuple(timings), tuple(costs), tuple(ceilings))


@pytest.mark.parametrize("streamed_hz", [None, 1234.5])
def test_the_tables_fit_110_columns_with_the_longest_names(streamed_hz: float | None) -> None:
    names = [
        "challenge + guide 1036, untrained, torch bfloat16",
        "Depth Anything Small 518, untrained, torch float32",
    ]
    results = results_of(names, [((1920, 1080), (480, 270))], streamed_hz)
    for table in (time_table(results.timings), cost_table(results)):
        console = Console(width=110, record=True, file=io.StringIO())
        console.print(table)
        text = console.export_text()
        assert "…" not in text
        assert "1920x1080+480x270" in text and all(name.rpartition(", ")[0] in text for name in names)
    console.print(time_table(results.timings))
    row = next(line for line in console.export_text().splitlines() if names[0] in line)
    rate = "0.1" if streamed_hz is None else "1234.5"
    assert row.split()[-7:] == ["16", "12345.6", "24691.2", rate, "3.11", "12300", "8.0e-03"]


def test_frames_begun_ahead_are_timed() -> None:
    engine = DepthSuperResolver(device="cpu")
    assert 1 < streamed_hz(engine, synthetic_frame((64, 48), (16, 12)), 3) < 1e5
    assert engine._under_way == []


def test_the_panels_of_the_picture_are_ordered_by_size_and_marked_with_floors() -> None:
    sizes: list[Sizes] = [((1280, 720), (320, 180)), ((640, 480), (160, 120))]
    figure = picture(results_of(["edge, torch float32"], sizes))
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "RGB 640x480, depth 160x120",
        "RGB 1280x720, depth 320x180",
    ]
    for axis in figure.axes:
        assert "ms" in axis.get_xlabel()
        labels = [label.get_text() for label in axis.get_yticklabels()]
        assert labels == ["edge, torch float32, 16 threads", "bicubic, 16 threads"]
        lengths = [bar.get_width() for bar in axis.containers[-1] if hasattr(bar, "get_width")]
        assert lengths == [12345.6, 0.25]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--frames", 1), "frames 1 must be at least 2"),
        (("--threads", 0), "at least 1"),
        (("--size", "64x48"), "such as 640x480+160x120"),
        (("--size", "8x8+2x2"), "at least 40 pixels"),
        (("--variant", "egde"), "did you mean 'edge'"),
        (("--device", "cuda:99"), "cuda:99"),
        (("--checkpoint", "absent.safetensors"), "does not exist"),
        (("--checkpoint", "a.safetensors", "--variant", "all"), "a checkpoint holds one variant"),
        (("--precision", "float23"), "did you mean 'float32'"),
        (("--guide-path", "GUIDE"), "edge takes no guide"),
        (("--variant", "fast", "--guide-path", "absent"), "has no config.json"),
        (
            ("--variant", "fast", "--guide-path", "untrained", "--guide-size", 14),
            "guide_size is 14, but must be from 112 to 1036",
        ),
        (("--variant", "fast", "--guide-size", 252), "guide_size is 252, but no guide is given: add guide_p"),
        (
            ("--guide-path", "untrained", "--guide-size", 252),
            "edge takes no guide",
        ),
        (("--node", "--compile"), "--compile has no meaning with --node"),
        (("--runtimes", "torch", "--guide-size", 0), "--guide-size has no meaning with --runtimes"),
        (("--depth-anything", 8), "depth_anything is 8, but must be at least 14"),
        (("--picture", "absent/times.png"), "the folder absent does not exist"),
        (("--picture", "times.txt"), "use .png or .jpg"),
        (("--json", "absent/numbers.json"), "the folder absent does not exist"),
        (("--json", "."), "cannot be written: it is a folder"),
        (("--runtimes", "torch", "--json", "absent/numbers.json"), "the folder absent does not exist"),
        (("--node", "--json", "absent/numbers.json"), "the folder absent does not exist"),
        (("--runtimes", "onnxrt"), "did you mean 'onnxruntime'"),
        (("--runtimes", "torch", "--picture", "a.png"), "--picture has no meaning with --runtimes"),
        (("--runtimes", "torch", "--variant", "edge", "--variant", "fast"), "--runtimes takes one variant"),
        (("--node", "--precision", "float32"), "--precision has no meaning with --node"),
    ],
)
def test_a_figure_out_of_range_is_said(arguments: tuple[object, ...], words: str) -> None:
    ended = CliRunner().invoke(app, ["benchmark", *map(str, arguments)])
    assert isinstance(ended.exception, DepthSRError)
    assert words in str(ended.exception)


def test_an_error_is_one_sentence_and_exit_code_2() -> None:
    ended = run("--frames", 1)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: frames 1 must be at least 2") and ended.stderr.count("\n") == 1


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
