# SPDX-License-Identifier: Apache-2.0
"""The CPU kernels compute what the torch modules compute, for each instruction set of this processor."""

from __future__ import annotations

import dataclasses
import importlib.machinery
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.config import VARIANTS, ModelConfig
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.models import native
from depth_sr_ros.models.checkpoint import load_checkpoint, shipped_checkpoint
from depth_sr_ros.models.depth_sr import DepthSRNet, Estimate

needs_kernels = pytest.mark.skipif(not native.is_built(), reason="there is no C++ compiler here")
SMALL = dataclasses.replace(VARIANTS["edge"], channels=(16, 32, 48, 64, 80))


@pytest.fixture(scope="module")
def shipped() -> DepthSRNet:
    return load_checkpoint(shipped_checkpoint("edge"))[0]


@pytest.fixture(autouse=True)
def best_instruction_set() -> Iterator[None]:
    yield
    if native.is_built():
        native.use_instruction_set("best")


def random_net(config: ModelConfig, spread: float = 0.03) -> DepthSRNet:
    """A network none of whose parameters is idle, as many are at the start of a training."""
    torch.manual_seed(0)
    net = DepthSRNet(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * spread)
    return net.eval()


def frame(height: int, width: int, lr_size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height)
    rgb = torch.randint(0, 256, (1, height, width, 3), generator=generator, dtype=torch.uint8)
    depth = torch.rand(1, 1, *lr_size, generator=generator) * 3 + 1
    depth[torch.rand(depth.shape, generator=generator) < 0.2] = torch.nan
    return rgb.permute(0, 3, 1, 2), depth


def test_the_kernels_are_built_where_there_is_a_compiler() -> None:
    if shutil.which("c++"):
        assert native.is_built(), (
            "c++ is here, but the installation built no kernels: pip install -v says why"
        )


@needs_kernels
@pytest.mark.parametrize("name", native.INSTRUCTION_SETS)
@pytest.mark.parametrize(
    "size", [((480, 640), (120, 160)), ((333, 517), (40, 61)), ((96, 75), (6, 5)), ((180, 97), (45, 2))]
)
def test_the_shipped_network_answers_as_with_torch(
    shipped: DepthSRNet, name: str, size: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    try:
        native.use_instruction_set(name)
    except ConfigError as error:
        pytest.skip(str(error))
    rgb, depth = frame(*size[0], size[1])
    found = native.NativeNetwork(shipped, threads=1).upsample(rgb, depth)
    torch.testing.assert_close(found, shipped.upsample(rgb, depth), atol=1e-4, rtol=1e-4)


@needs_kernels
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"fusion": "add"},
        {"head": "residual"},
        {"normalization": "frame"},
        {"encoder_blocks": (2, 1, 1, 3), "middle_blocks": 2, "decoder_blocks": (2, 1, 0, 1)},
    ],
)
def test_every_switch_of_the_network_is_honoured(change: dict) -> None:
    net = random_net(dataclasses.replace(SMALL, **change))
    rgb, depth = frame(200, 136, (25, 17))
    expected = net.upsample(rgb, depth)
    found = native.NativeNetwork(net, threads=2).upsample(rgb, depth)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    # A plain interpolation would be as near to itself: the network must have had a say.
    plain = random_net(SMALL, spread=0.0).upsample(rgb, depth)
    assert (expected - plain).abs().mean() > 0.02


@needs_kernels
@pytest.mark.parametrize(
    "size", [((41, 43), (2, 2)), ((83, 45), (2, 3)), ((82, 46), (4, 2)), ((96, 82), (3, 4))]
)
def test_small_images_take_their_lr_pixels_as_with_torch(
    size: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    """Between two pixels torch decides by the size of the image."""
    net = random_net(SMALL)
    rgb, depth = frame(*size[0], size[1])
    found = native.NativeNetwork(net, threads=1).upsample(rgb, depth)
    torch.testing.assert_close(found, net.upsample(rgb, depth), atol=1e-3, rtol=1e-3)


@needs_kernels
def test_depth_that_propagation_would_turn_negative_is_kept_as_with_torch() -> None:
    net = random_net(SMALL)
    assert net.propagation is not None
    with torch.no_grad():
        net.propagation.gate.bias.add_(8.0)
    rgb, depth = frame(96, 136, (12, 17))
    expected = net.upsample(rgb, depth)
    found = native.NativeNetwork(net, threads=1).upsample(rgb, depth)
    assert (found > 0).all()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@needs_kernels
def test_threads_and_frames_before_do_not_change_the_answer(shipped: DepthSRNet) -> None:
    one, three = (native.NativeNetwork(shipped, threads) for threads in (1, 3))
    first, second, other = frame(96, 160, (24, 40)), frame(100, 160, (25, 40)), frame(64, 64, (8, 8))
    before = one.upsample(*first)
    kept = before.clone()
    for each in (second, other, first):
        torch.testing.assert_close(three.upsample(*each), one.upsample(*each), atol=1e-5, rtol=1e-5)
    assert torch.equal(before, kept), "an answer must not lie in memory that the next frame takes"
    assert torch.equal(one.upsample(*first), kept)


@needs_kernels
def test_a_frame_after_one_that_was_interrupted_is_answered(
    shipped: DepthSRNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl-C in a notebook, say. Of other sizes than the frame before: what was kept is of no use."""
    network = native.NativeNetwork(shipped, threads=1)
    network.upsample(*frame(96, 160, (48, 80)))
    rgb, depth = frame(100, 164, (11, 17))
    interpolate = F.interpolate

    def interrupted(x: torch.Tensor, *given: Any, **options: Any) -> torch.Tensor:
        if options["mode"] == "nearest-exact":
            raise KeyboardInterrupt
        return interpolate(x, *given, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(F, "interpolate", interrupted)
        network.upsample(rgb, depth)
    expected = shipped.upsample(rgb, depth)
    torch.testing.assert_close(network.upsample(rgb, depth), expected, atol=1e-4, rtol=1e-4)


@needs_kernels
def test_a_frame_without_any_measurement_is_all_nan(shipped: DepthSRNet) -> None:
    rgb, depth = frame(64, 96, (16, 24))
    network = native.NativeNetwork(shipped, threads=1)
    assert torch.isnan(network.upsample(rgb, torch.full_like(depth, torch.nan))).all()
    assert torch.isfinite(network.upsample(rgb, depth)).all()


@needs_kernels
@pytest.mark.parametrize("order", ["rgb", "bgr", "rgba", "bgra", "mono"])
def test_every_channel_order_reaches_the_kernels(order: str) -> None:
    rng = np.random.default_rng(0)
    shape = (96, 160) if order == "mono" else (96, 160, len(order))
    image = rng.integers(0, 256, shape, np.uint8)
    depth = rng.uniform(1, 4, (24, 40)).astype(np.float32)
    answers = [
        DepthSuperResolver(device="cpu", runtime=runtime)(image, depth, channel_order=order)
        for runtime in ("native", "torch")
    ]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-4)


@needs_kernels
def test_auto_begins_with_the_kernels_and_says_so() -> None:
    engine = DepthSuperResolver(device="cpu")
    assert engine.runtime == "native" and f"{native.instruction_set()} kernels" in engine.description
    assert DepthSuperResolver(device="cpu", runtime="torch").runtime == "torch"
    assert DepthSuperResolver(device="cpu", precision="bfloat16").runtime == "torch"


@needs_kernels
def test_a_warm_up_keeps_what_was_asked_for_by_name() -> None:
    engine = DepthSuperResolver(device="cpu", runtime="native")
    engine.warm_up((96, 64), (24, 16))
    assert engine.runtime == "native" and not engine.warnings


@needs_kernels
@pytest.mark.parametrize("runtime", ["auto", "native"])
def test_kernels_that_differ_from_torch_are_refused(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = native.NativeNetwork.estimate

    def wrong(*given: Any, **options: Any) -> Estimate:
        found = right(*given, **options)
        return found._replace(depth=found.depth * 1.01)

    monkeypatch.setattr(native.NativeNetwork, "estimate", wrong)
    engine = DepthSuperResolver(device="cpu", runtime=runtime)
    engine.warm_up((96, 64), (24, 16))
    assert engine.runtime == "torch"
    assert len(engine.warnings) == 1 and "differ from torch in float32 by 0.01" in engine.warnings[0]
    _, depth = frame(64, 96, (16, 24))
    assert np.isfinite(engine(np.zeros((64, 96, 3), np.uint8), depth[0, 0].numpy())).all()


def assert_torch_alone_runs(said: str) -> None:
    """Where the library is looked for anew: "auto" takes torch, and "native" is an error that says why."""
    native.library.cache_clear()
    try:
        assert DepthSuperResolver(device="cpu").runtime == "torch"
        with pytest.raises(ConfigError, match=said):
            DepthSuperResolver(device="cpu", runtime="native")
    finally:
        native.library.cache_clear()


def test_without_the_kernels_torch_runs_and_asking_for_them_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "MODULE", "_absent")
    assert_torch_alone_runs("install g\\+\\+")


@pytest.mark.parametrize("content", [b"", b"not a library", None])
def test_a_library_that_cannot_be_loaded_leaves_torch(
    content: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Damaged, or a library that is none of ours."""
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    other = next((Path(torch.__file__).parent / "lib").glob("libshm*.so"))
    (tmp_path / f"_native{suffix}").write_bytes(other.read_bytes() if content is None else content)
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    assert_torch_alone_runs("cannot be used: .* install depth_sr_ros again")


@needs_kernels
def test_a_process_with_other_defaults_of_torch_gets_the_same_answer(shipped: DepthSRNet) -> None:
    rgb, depth = frame(64, 96, (16, 24))
    expected = native.NativeNetwork(shipped, threads=1).upsample(rgb, depth)
    torch.set_default_dtype(torch.float64)
    try:
        found = native.NativeNetwork(shipped, threads=1).upsample(rgb, depth)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@needs_kernels
def test_a_network_that_the_kernels_cannot_run_is_named() -> None:
    with pytest.raises(ConfigError, match="8 pixels a side instead of 1, 2 or 4"):
        native.NativeNetwork(DepthSRNet(dataclasses.replace(SMALL, unshuffle=8)), threads=1)


def test_native_takes_float32_on_a_cpu_alone() -> None:
    with pytest.raises(ConfigError, match="float32 on a CPU, not in bfloat16"):
        DepthSuperResolver(device="cpu", runtime="native", precision="bfloat16")
    with pytest.raises(ConfigError, match="did you mean 'native'"):
        DepthSuperResolver(device="cpu", runtime="natve")
