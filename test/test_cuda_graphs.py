# SPDX-License-Identifier: Apache-2.0
"""What of the CUDA path needs no GPU: which graphs are made and kept, and staging in plain memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny_guide import TINY_DEPTH_ANYTHING
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.answer import Wanted
from depth_sr_ros.config import VARIANTS, model_config
from depth_sr_ros.cuda_graphs import MAX_FAILURES, MAX_GRAPHS, Captured, Function, GraphCache
from depth_sr_ros.errors import ConfigError, FrameError
from depth_sr_ros.image_codec import CHANNEL_ORDERS
from depth_sr_ros.models import fusion_unet
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.models.guide import DepthAnythingGuide
from depth_sr_ros.models.output_maps import OutputMaps
from depth_sr_ros.models.paced_guide import PacedGuide
from depth_sr_ros.recent import Recent
from depth_sr_ros.runner import GUIDE_SHARE, NetworkRunner, Request
from depth_sr_ros.transfer import UNDER_WAY, StagedTransfer
from depth_sr_ros.ways import Way


def test_the_least_recently_used_goes_first() -> None:
    kept: Recent[int] = Recent(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c"), len(kept)) == (1, None, 3, 2)
    kept.put("c", 4)
    assert (kept.get("a"), kept.get("c")) == (1, 4)
    kept.make_room()
    assert (kept.get("a"), len(kept)) == (None, 1)


class Captures:
    """Stands for CUDA: runs the function once, and again with each replay, into the same memory."""

    def __init__(self) -> None:
        self.made: list[tuple[int, ...]] = []

    def __call__(self, function: Function, inputs: tuple[Tensor, ...]) -> Captured:
        self.made.append(tuple(inputs[0].shape))
        outputs = function(*inputs)

        def replay() -> None:
            for out, new in zip(outputs, function(*inputs), strict=True):
                out.copy_(new)

        return Captured(inputs, outputs, replay)


def double(x: Tensor) -> tuple[Tensor, ...]:
    return (2 * x,)


def test_a_graph_is_captured_when_sizes_come_again_and_then_replayed_on_what_is_new() -> None:
    captures, warnings = Captures(), list[str]()
    graphs = GraphCache(warnings.append, captures)
    addresses = set()
    for i in range(5):
        given = torch.full((3,), float(i))
        (out,) = graphs("double", double, given)
        assert torch.equal(given, torch.full((3,), float(i)))
        given.fill_(-1)  # as the next upload would: the graph has memory of its own
        assert torch.equal(out, torch.full((3,), 2.0 * i))
        addresses.add(out.data_ptr()) if i else None
        assert captures.made == ([(3,)] if i else [])
    assert len(addresses) == 1, "all replays write to the same memory"
    assert not warnings


def test_name_size_and_type_each_have_a_graph_and_at_most_four_are_kept() -> None:
    captures = Captures()
    graphs = GraphCache(pytest.fail, captures)
    inputs = [torch.zeros(2), torch.zeros(3), torch.zeros(3, dtype=torch.float64)]
    for _ in range(3):
        for each in inputs:
            graphs("double", double, each)
        graphs("other", double, inputs[0])
    assert len(captures.made) == len(graphs) == MAX_GRAPHS == 4
    graphs("double", double, inputs[0])  # the one used last: the next new one replaces the (3,) of float32
    for _ in range(2):
        graphs("double", double, torch.zeros(9))
    assert len(graphs) == 4
    for each in (inputs[0], inputs[2]):
        graphs("double", double, each)
    assert len(captures.made) == 5
    graphs("double", double, inputs[1])
    assert len(captures.made) == 6


def test_sizes_that_come_once_are_never_captured() -> None:
    captures = Captures()
    graphs = GraphCache(pytest.fail, captures)
    for size in range(1, 200):
        graphs("double", double, torch.zeros(size))
    assert captures.made == [] and len(graphs) == 0


def test_a_capture_that_fails_leaves_the_function_as_it_is_with_one_warning() -> None:
    warnings: list[str] = []

    def capture(function: Function, inputs: tuple[Tensor, ...]) -> Captured:
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nat a long trace")
        finally:
            raise RuntimeError(
                "operation failed due to a previous error during capture"
            )  # as CUDA's end does

    graphs = GraphCache(warnings.append, capture)
    for _ in range(5):
        assert torch.equal(graphs("double", double, torch.ones(4))[0], torch.full((4,), 2.0))
    assert graphs.failures == len(warnings) == 1
    assert (
        "inputs of 4: operation not permitted when stream is capturing (test_cuda_graphs.py," in warnings[0]
    )
    for size in range(1, 20):
        for _ in range(3):
            graphs("double", double, torch.ones(size))
    assert graphs.failures == len(warnings) == MAX_FAILURES


# An index by numbers is a tensor that is uploaded, one by a mask asks the device how many; a constant is
# lifted; the last reads a value.
HOST_BOUND = ("index", "nonzero", "masked_select", "lift_fresh", "_local_scalar_dense")


class Foreign(TorchDispatchMode):
    """Notes operations that wait for the device, or on a tensor that is not on it."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
        name = function.__name__.partition(".")[0]
        if name in HOST_BOUND or any(x.device.type != self.device for x in tensors):
            self.seen.append(str(function))
        return out


@pytest.mark.parametrize("confidence", [False, True])
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_what_is_captured_neither_reads_a_value_back_nor_uploads_a_constant(
    variant: str, confidence: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's meta device, which has no values: an operation that needs one, as `.item()`, raises."""
    # torch knows no autocast there.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(fusion_unet, "in_float16", lambda _: False)
    config = model_config(variant, confidence=confidence, channels=[8, 8, 12, 12, 16])
    guided = config.guide != "none"
    guide = DepthAnythingGuide.from_config(112, **TINY_DEPTH_ANYTHING) if guided else None
    net = DepthSRNet(config, guide).eval().to("meta")
    captures = Captures()
    graphs = GraphCache(pytest.fail, captures)
    runner = NetworkRunner(net, None, PacedGuide(1), graphs, OutputMaps(torch.device("meta")))
    depth = torch.empty(17, 23, dtype=torch.uint16, device="meta")
    foreign = Foreign("meta")
    # The colours' range: of each frame itself, and given.
    wanted = Wanted(True, True, confidence, True, (1.0, 4.0) if confidence else None)
    for order in CHANNEL_ORDERS:
        shape = (90, 70) if order == "mono" else (90, 70, len(order))
        pixels = torch.empty(shape, dtype=torch.uint8, device="meta")
        request = Request(Way("cuda_graph", "float16"), wanted, order, 0.001, (64, 80), 3)
        for _ in range(2):
            with torch.inference_mode(), foreign:
                maps = runner(request, pixels, depth)
        # Of a guide that is checked, how much of it was taken: the decision stays on the device.
        share = {GUIDE_SHARE: (1, 1, 1, 1)} if guided and config.guide_check else {}
        image = (1, 1, 80, 64)
        assert {name: tuple(each.shape) for name, each in maps.items()} == share | {
            name: (*image, 3) if name == "picture" else image for name in wanted.maps
        }
    assert foreign.seen == []
    assert len(captures.made) == len(CHANNEL_ORDERS) * (1 + guided)


@pytest.mark.parametrize(
    "function",
    [lambda x: x[:, (2, 1, 0)], lambda x: x + torch.tensor([1.0]), lambda x: x + torch.ones(1)],
)
def test_an_upload_would_have_been_noticed(function: Callable[[Tensor], Tensor]) -> None:
    foreign = Foreign("meta")
    with foreign, contextlib.suppress(RuntimeError):
        function(torch.empty(1, 3, 4, 4, device="meta"))
    assert foreign.seen


def test_staging_copies_once_each_way_and_keeps_its_memory() -> None:
    staged = StagedTransfer(torch.device("cpu"))
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    depth = np.arange(12 * 9, dtype=np.uint16).reshape(12, 9) * 600
    places = []
    for pixels in (rgb, rgb[::-1], rgb[:, ::-1], np.zeros((40, 64, 3), np.uint8)[:, :50]):
        tensor = staged.upload("rgb", pixels, 0)
        np.testing.assert_array_equal(tensor.numpy(), pixels)
        places.append(tensor.data_ptr())
    assert len(set(places)) == 1
    tensor = staged.upload("depth", depth, 0)
    assert tensor.dtype == torch.uint16
    np.testing.assert_array_equal(tensor.numpy(), depth)
    assert staged.upload("rgb", rgb[:20], 0).data_ptr() not in places
    assert staged.upload("rgb", rgb, 0).data_ptr() == places[0]


def test_frames_under_way_share_no_memory() -> None:
    staged = StagedTransfer(torch.device("cpu"))
    frames = [np.full((4, 6, 3), i, np.uint8) for i in range(UNDER_WAY)]
    tensors = [staged.upload("rgb", pixels, slot) for slot, pixels in enumerate(frames)]
    waits = [staged.download([each[None, None, ..., 0].float()], i) for i, each in enumerate(tensors)]
    for i, wait in enumerate(waits):
        assert tensors[i].unique().tolist() == [i]
        np.testing.assert_array_equal(wait()[0], np.full((4, 6), i, np.float32))


def test_what_is_downloaded_is_the_callers() -> None:
    staged = StagedTransfer(torch.device("cpu"))
    maps = (torch.rand(1, 1, 8, 6), torch.rand(1, 1, 8, 6))
    kept = staged.download(maps, 0)()
    expected = [each[0, 0].numpy().copy() for each in maps]
    staged.download((torch.zeros(1, 1, 8, 6), torch.zeros(1, 1, 8, 6)), 0)()
    for found, right in zip(kept, expected, strict=True):
        np.testing.assert_array_equal(found, right)


def test_frames_are_submitted_ahead_of_their_results() -> None:
    """With the staging of a GPU, in plain memory: what one frame left there another must not find."""
    engine = DepthSuperResolver(device="cpu", runtime="torch", precision="float32")
    engine._transfer = StagedTransfer(torch.device("cpu"))
    rng = np.random.default_rng(0)
    frames = [
        (rng.integers(0, 256, (64, 96, 3), np.uint8), rng.uniform(1, 4, (16, 24)).astype(np.float32))
        for _ in range(5)
    ]
    expected = [engine.with_confidence(*frame) for frame in frames]
    pending = [engine.submit(*frame, Wanted(confidence=True)) for frame in frames]
    assert len(engine._under_way) == UNDER_WAY
    for i in reversed(range(len(frames))):
        for _ in range(2):
            answer = pending[i].result()
            for found, right in zip((answer.metres, answer.confidence), expected[i], strict=True):
                np.testing.assert_array_equal(found, right)
    assert engine._under_way == []
    answer = engine.submit(*frames[0], max_fill_distance=1, output_size=(60, 40)).result()
    assert answer.metres.shape == (40, 60)


def test_cuda_graphs_need_a_cuda_device() -> None:
    with pytest.raises(ConfigError, match="runtime 'cuda_graph' needs a CUDA device, not cpu; use 'torch'"):
        DepthSuperResolver(device="cpu", runtime="cuda_graph")


def error_of_the_cpu() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 46)
    return caught.value


NO_MEMORY = (
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    error_of_the_cpu(),
    # What is left of it when a convolution's workspace does not fit.
    RuntimeError("GET was unable to find an engine to execute this computation"),
)


@pytest.mark.parametrize("error", NO_MEMORY, ids=["out of memory", "on a CPU", "no engine"])
@pytest.mark.parametrize("call", [lambda e, *frame: e(*frame), lambda e, *frame: e.with_confidence(*frame)])
def test_out_of_memory_is_a_bad_frame_and_the_next_one_is_answered(
    call: Callable[..., Any], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DepthSuperResolver(device="cpu", runtime="torch", precision="float32")
    frame = np.zeros((64, 96, 3), np.uint8), np.full((16, 24), 2.0, np.float32)

    def fail(*arguments: Any) -> Tensor:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(type(engine._model.unet), "forward", fail)
        with pytest.raises(
            FrameError, match="RGB image of 96x64 .* depth image of 24x16: lower output.max_side"
        ):
            call(engine, *frame)
    assert np.isfinite(call(engine, *frame)).all()


def test_out_of_memory_loses_no_frame_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DepthSuperResolver(device="cpu", runtime="torch", precision="float32")
    engine._transfer = StagedTransfer(torch.device("cpu"))
    frame = np.zeros((64, 96, 3), np.uint8), np.full((16, 24), 2.0, np.float32)
    expected = engine(*frame)
    first = engine.submit(*frame)

    def fail(*arguments: Any) -> Tensor:
        raise NO_MEMORY[0]

    with monkeypatch.context() as patch:
        patch.setattr(type(engine._model.unet), "forward", fail)
        with pytest.raises(FrameError, match="out of memory"):
            engine.submit(*frame)
    assert engine._under_way == []
    np.testing.assert_array_equal(engine(np.flip(frame[0]), 2 * frame[1]), 2 * expected)
    np.testing.assert_array_equal(first.result().metres, expected)
