# SPDX-License-Identifier: Apache-2.0
"""What a CUDA device must show; skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_guide_pace import files, resolver  # noqa: F401  files is a fixture
from test_output_maps import check_that_both_make_the_same

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.answer import Answer, Wanted
from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.colorize import colorize
from depth_sr_ros.compiled import why_not_compiled
from depth_sr_ros.cuda_graphs import MAX_GRAPHS, Captured, Function
from depth_sr_ros.errors import FrameError
from depth_sr_ros.image_codec import to_millimetres
from training.config import TrainConfig
from training.data.batches import BatchMaker

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (480, 640, 3), np.uint8)
DEPTH = (RNG.random((120, 160)) * 2 + 1).astype(np.float32)


@pytest.mark.parametrize(
    ("precision", "relative"), [("float32", 1e-3), ("float16", 1e-2), ("bfloat16", 2e-2)]
)
def test_the_gpu_agrees_with_the_cpu(precision: str, relative: float) -> None:
    expected = DepthSuperResolver(device="cpu", precision="float32")(RGB, DEPTH)
    got = DepthSuperResolver(device="cuda", precision=precision)(RGB, DEPTH)
    assert np.median(np.abs(got - expected) / expected) < relative


def test_auto_chooses_the_gpu_in_half_precision() -> None:
    engine = DepthSuperResolver()
    assert engine.device.startswith("cuda")
    assert "float16" in engine.description


class Brightness(torch.nn.Module):
    """In place of Depth Anything."""

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        return rgb.mean(1, keepdim=True)


def sized(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame of that size: RGB, and depth of a quarter of it."""
    rng = np.random.default_rng(width)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    return rgb, (rng.random((height // 4, width // 4)) * 2 + 1).astype(np.float32)


def captured(engine: DepthSuperResolver) -> int:
    """How many graphs the engine keeps; that none failed."""
    assert engine.warnings == []
    return len(engine._runner.graphs)


@pytest.mark.parametrize("variant", ["edge", "fast"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_graphs_answer_as_eager_on_every_kind_of_frame(variant: str, precision: str) -> None:
    graph, eager = (
        DepthSuperResolver(device="cuda", variant=variant, precision=precision, runtime=runtime)
        for runtime in ("cuda_graph", "torch")
    )
    millimetres = np.round(DEPTH * 1000).astype(np.uint16)
    options = {"max_fill_distance": 4, "output_size": (320, 240)}
    kinds: list[tuple[np.ndarray, np.ndarray, dict]] = [
        (RGB, DEPTH, {}),
        (RGB, millimetres, {"depth_unit_m": 0.001, "channel_order": "bgr"}),
        (RGB[..., 0].copy(), DEPTH, {"channel_order": "mono", **options}),
    ]
    for rgb, depth, more in kinds:
        for shift in range(4):  # run as it is, captured, replayed on two other frames
            rolled = np.roll(rgb, 50 * shift, 1), np.roll(depth, 13 * shift, 1)
            np.testing.assert_allclose(
                graph(*rolled, **more), eager(*rolled, **more), rtol=2e-3, err_msg=f"{more} {shift}"
            )
    assert captured(graph) == 3
    if graph.has_confidence:
        for _ in range(3):
            found, right = (engine.with_confidence(RGB, DEPTH) for engine in (graph, eager))
            for a, b in zip(found, right, strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-3)


def test_the_warm_up_takes_the_graph_or_says_why_not() -> None:
    engine = DepthSuperResolver(device="cuda")
    engine.warm_up((640, 480), (160, 120))
    assert captured(engine) >= 1
    assert (engine.runtime, engine.precision) == ("cuda_graph", "float16")
    assert "float16, CUDA graph" in engine.description


def test_the_first_frame_is_of_the_kind_that_the_warm_up_captured() -> None:
    engine = DepthSuperResolver(device="cuda", runtime="cuda_graph")
    engine.warm_up((RGB.shape[1], RGB.shape[0]), (DEPTH.shape[1], DEPTH.shape[0]), max_fill_distance=8)
    graphs = captured(engine)
    for _ in range(2):
        engine(RGB, DEPTH, max_fill_distance=8)
    assert captured(engine) == graphs >= 1


def test_a_change_of_size_captures_anew_and_at_most_four_are_kept() -> None:
    engine = DepthSuperResolver(device="cuda", runtime="cuda_graph")
    eager = DepthSuperResolver(device="cuda", runtime="torch")
    frames = [sized(160 + 32 * i, 128) for i in range(MAX_GRAPHS + 2)]
    for frame in frames + frames[:2]:
        for _ in range(3):
            answer = engine(*frame)
        np.testing.assert_allclose(answer, eager(*frame), rtol=2e-3)
        assert captured(engine) <= MAX_GRAPHS
    assert captured(engine) == MAX_GRAPHS


def test_memory_does_not_grow_over_changing_sizes() -> None:
    engine = DepthSuperResolver(device="cuda", runtime="cuda_graph")
    frames = [sized(160 + 32 * i, 128) for i in range(8)]
    used = []
    for _ in range(6):
        for frame in frames:
            for _ in range(3):
                engine(*frame)
        torch.cuda.synchronize()
        used.append(torch.cuda.memory_allocated())
    assert used[-1] <= used[1] + 2**20, used


def test_a_stale_guide_survives_the_network_s_replays(files: tuple[Path, Path]) -> None:  # noqa: F811
    graph, eager = (resolver(files, 3, device="cuda", runtime=name) for name in ("cuda_graph", "torch"))
    for i in range(14):
        frame = np.roll(RGB, 40 * i, 1), DEPTH
        np.testing.assert_allclose(graph(*frame), eager(*frame), rtol=5e-3, err_msg=str(i))
    assert captured(graph) == 2


def pad_profile() -> None:
    """Some CUPTI versions lose the first records of a session: these are kernels that nobody counts."""
    pad = torch.zeros(1 << 20, device="cuda")
    for _ in range(64):
        pad.add_(1)
    torch.cuda.synchronize()


WANTED = {
    "float": Wanted(),
    "uint16": Wanted(),
    "registered": Wanted(),
    "confidence": Wanted(confidence=True),
    "16UC1": Wanted(metres=False, millimetres=True),
    "picture": Wanted(metres=False, millimetres=True, picture=True),
    "everything": Wanted(True, True, True, True, (1.0, 4.0)),
}
BYTES = {"metres": 4, "millimetres": 2, "confidence": 4, "picture": 3}  # of a pixel


@pytest.mark.parametrize("runtime", ["cuda_graph", "torch"])
@pytest.mark.parametrize("kind", list(WANTED))
def test_a_frame_is_uploaded_once_and_each_map_downloaded_once(runtime: str, kind: str) -> None:
    engine = DepthSuperResolver(device="cuda", runtime=runtime)
    more: dict = {"max_fill_distance": 8, "channel_order": "bgr"}
    depth = DEPTH
    if kind == "uint16":
        depth, more["depth_unit_m"] = np.round(DEPTH * 1000).astype(np.uint16), 0.001
    if kind == "registered":
        camera = PinholeCamera(160, 120, 150.0, 150.0, 79.5, 59.5)
        more["registration"] = engine.make_registration(camera, camera.resized(640, 480), np.eye(4))
    wanted = WANTED[kind]
    for _ in range(4):
        engine.answer(RGB, depth, wanted, **more)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        pad_profile()
        answer = engine.answer(RGB, depth, wanted, **more)
    names = [event.name for event in profile.events() if event.name.startswith("Memcpy")]
    assert sum("HtoD" in name for name in names) == 2, names
    assert sum("DtoH" in name for name in names) == len(wanted.maps), names
    assert not any("Pageable" in name for name in names), names
    sizes = {name: each.nbytes for name, each in answer.made.items()}
    assert sizes == {name: BYTES[name] * 480 * 640 for name in wanted.maps}


def test_output_type_and_colours_are_the_hosts_bit_for_bit() -> None:
    check_that_both_make_the_same(torch.device("cuda"))


def assert_consistent(answer: Answer) -> None:
    """Millimetres and picture are those of the metres."""
    np.testing.assert_array_equal(answer.millimetres, to_millimetres(answer.metres))
    expected = colorize(answer.metres, *(answer.wanted.color_range or (None, None)))
    np.testing.assert_array_equal(answer.picture, expected)


@pytest.mark.parametrize("runtime", ["cuda_graph", "torch"])
def test_frames_under_way_have_each_its_own_colour_range(runtime: str) -> None:
    engine = DepthSuperResolver(device="cuda", runtime=runtime)
    ranges = [(1.0 + 0.1 * i, 4.0) for i in range(8)]
    begun = [
        engine.submit(np.roll(RGB, 30 * i, 1), DEPTH, Wanted(True, True, False, True, each))
        for i, each in enumerate(ranges)
    ]
    for each in begun:
        assert_consistent(each.result())
    assert captured(engine) == (runtime == "cuda_graph"), "a colour range must not need a graph of its own"
    for i in range(4):
        depth = np.full_like(DEPTH, np.nan) if i == 3 else np.roll(DEPTH, 7 * i, 1)
        assert_consistent(engine.answer(RGB, depth, Wanted(True, True, False, True), max_fill_distance=4))
    assert captured(engine) == 2 * (runtime == "cuda_graph")


@contextmanager
def sync_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("variant", ["edge", "fast"])
@pytest.mark.parametrize("runtime", ["cuda_graph", "torch"])
def test_a_frame_waits_for_the_device_at_its_end_alone(runtime: str, variant: str) -> None:
    """The one wait is an event's, which torch's sync-debug mode lets pass."""
    engine = DepthSuperResolver(device="cuda", runtime=runtime, variant=variant)
    for order in ("rgb", "bgr", "rgba"):
        rgb = np.concatenate([RGB, RGB[..., :1]], 2) if order == "rgba" else RGB
        more: dict = {"channel_order": order, "max_fill_distance": 8, "output_size": (320, 240)}
        for wanted in (Wanted(), Wanted(True, True, variant == "edge", True)):
            for _ in range(3):
                engine.answer(rgb, DEPTH, wanted, **more)  # a capture waits, and may
            with sync_is_an_error():
                engine.answer(rgb, DEPTH, wanted, **more)
    assert engine.warnings == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("variant", "precision"), [("edge", "float32"), ("edge", "float16"), ("fast", "float16")]
)
def test_compiled_code_is_captured_and_answers_as_eager(variant: str, precision: str) -> None:
    if reason := why_not_compiled(torch.device("cuda")):
        pytest.skip(reason)
    options: dict[str, Any] = {"device": "cuda", "variant": variant, "precision": precision}
    compiled, eager = (DepthSuperResolver(runtime=name, **options) for name in ("compile", "torch"))
    compiled.warm_up((640, 480), (160, 120))
    assert (compiled.runtime, captured(compiled)) == ("compile", 1)
    for shift in range(4):
        frame = np.roll(RGB, 50 * shift, 1), np.roll(DEPTH, 13 * shift, 1)
        relative = np.abs(compiled(*frame) - eager(*frame)) / eager(*frame)
        assert np.median(relative) < (1e-4 if precision == "float32" else 1e-2)
    with sync_is_an_error():
        compiled(RGB, DEPTH)


@pytest.mark.timeout(900)
def test_auto_compiles_where_a_frame_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("depth_sr_ros.trial.WORTH_COMPILING_S", 0.0)
    engine = DepthSuperResolver(device="cuda")
    engine.warm_up((640, 480), (160, 120), said.append)
    assert engine.runtime in ("cuda_graph", "compile")
    assert len(engine._runner.graphs) == 1, "that of the slower way is let go"
    possible = not why_not_compiled(torch.device("cuda"))
    assert (len(said), len(engine.warnings)) == ((1, 0) if possible else (0, 1))


@pytest.mark.parametrize("runtime", ["cuda_graph", "torch"])
def test_the_guides_check_is_read_without_a_wait_of_its_own(runtime: str) -> None:
    engine = DepthSuperResolver(device="cuda", runtime=runtime, variant="fast")
    # of RGB alone: here it only matters that there is one, and that it is checked
    engine._model.guide = Brightness()  # type: ignore[assignment]
    for _ in range(3):
        engine(RGB, DEPTH)
    engine.guide_share = None
    with sync_is_an_error():
        engine(RGB, DEPTH)
    assert engine.guide_share == 0  # noise shows nothing of noise
    assert engine.warnings == []


@pytest.mark.parametrize("runtime", ["cuda_graph", "torch"])
def test_frames_submitted_ahead_are_uploaded_while_others_are_computed(runtime: str) -> None:
    engine = DepthSuperResolver(device="cuda", runtime=runtime)
    frames = [(np.roll(RGB, 30 * i, 1), np.roll(DEPTH, 7 * i, 1)) for i in range(6)]
    expected = [engine(*frame) for frame in frames]
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    for pending in [engine.submit(*frame) for frame in frames[:2]]:  # their memory is made
        pending.result()
    with torch.profiler.profile(activities=activities) as profile:
        pad_profile()
        torch.cuda._sleep(100_000_000)  # some 50 ms: the first frame is not done before the second is here
        with sync_is_an_error():
            begun = [engine.submit(*frame) for frame in frames]
            found = [each.result().metres for each in begun]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3)
    copies = sorted(
        (event.time_range.start, event.name) for event in profile.events() if event.name.startswith("Memcpy")
    )
    ways = ["H" if "HtoD" in name else "D" for _, name in copies if "DtoD" not in name]
    assert ways.count("H") == 2 * len(frames) and ways.count("D") == len(frames)
    assert ways[:5] == list("HHHHD"), "the second frame is there before the first is done"


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(False, True, True, True), WANTED["everything"]], ids=str)
def test_nothing_is_allocated_on_the_device_for_a_frame(wanted: Wanted) -> None:
    engine = DepthSuperResolver(device="cuda", runtime="cuda_graph")
    for _ in range(4):
        engine.answer(RGB, DEPTH, wanted, max_fill_distance=8)
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for i in range(5):
        # Another colour range with each frame, where there is one.
        moved = wanted if wanted.color_range is None else replace(wanted, color_range=(1.0, 3.0 + i))
        engine.answer(RGB, DEPTH, moved, max_fill_distance=8)
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_an_answer_is_the_callers_own() -> None:
    engine = DepthSuperResolver(device="cuda", runtime="cuda_graph")
    kept = [engine(np.roll(RGB, 30 * i, 1), DEPTH) for i in range(5)]
    again = [engine(np.roll(RGB, 30 * i, 1), DEPTH) for i in range(5)]
    for a, b in zip(kept, again, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3)
    assert not np.array_equal(kept[3], kept[4])


def test_a_real_capture_that_fails_leaves_the_engine_running() -> None:
    engine = DepthSuperResolver(device="cuda", runtime="cuda_graph")
    expected = DepthSuperResolver(device="cuda", runtime="torch")(RGB, DEPTH)
    graphs = engine._runner.graphs
    capture = graphs._capture

    def capture_with_a_wait(function: Function, inputs: tuple[torch.Tensor, ...]) -> Captured:
        def waits(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            out = function(*given)
            out[0].sum().item()
            return out

        return capture(waits, inputs)

    graphs._capture = capture_with_a_wait
    stream = torch.cuda.current_stream()
    for _ in range(4):
        np.testing.assert_allclose(engine(RGB, DEPTH), expected, rtol=2e-3)
    assert torch.cuda.current_stream() == stream
    assert len(engine.warnings) == 1 and engine.warnings[0].startswith("no CUDA graph could be made")
    graphs._capture = capture
    other = sized(320, 240)
    for _ in range(3):
        engine(*other)
    assert len(graphs) == 1, "a capture after one that failed must work"


def test_out_of_memory_is_a_bad_frame_and_smaller_ones_are_answered() -> None:
    engine = DepthSuperResolver(device="cuda", runtime="cuda_graph")
    for _ in range(3):
        engine(RGB, DEPTH)
    total = torch.cuda.get_device_properties(0).total_memory
    large = np.zeros((4320, 7680, 3), np.uint8), np.ones((1080, 1920), np.float32)
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**28) / total)
    try:
        with pytest.raises(FrameError, match="out of memory on cuda.* RGB image of 7680x4320 .* max_side"):
            engine(*large)
        for _ in range(3):
            assert np.isfinite(engine(RGB, DEPTH)).all()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_batches_made_on_the_gpu_follow_from_seed_and_step() -> None:
    config = TrainConfig.from_dict(
        {
            "model": {"variant": "edge"},
            "data": {"sources": [{"kind": "procedural"}], "crop": [128, 128], "batch_size": 4},
            "optim": {"steps": 500},
        }
    )
    maker = BatchMaker(config, "cuda")
    first, again = maker(3), maker(3)
    assert first["rgb"].is_cuda
    for name in ("rgb", "depth", "depth_lr"):
        torch.testing.assert_close(first[name], again[name], equal_nan=True)
    # Scenes are rendered together there: rounding may differ, and with it a pixel of a silhouette or two.
    alone = maker.sample(3, 0, 2)
    for name in ("rgb", "depth", "depth_lr"):
        difference = (alone[name] - first[name][2:3]).nan_to_num().abs()
        assert float((difference > 1e-3).float().mean()) < 0.01, name
