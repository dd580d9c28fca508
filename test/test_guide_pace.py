# SPDX-License-Identifier: Apache-2.0
"""The guide at its own pace: when Depth Anything really runs, and that a stale map is used as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from test_models import _trained_like as random_net
from tiny_guide import save_tiny_guide

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.models import native
from depth_sr_ros.models.checkpoint import save_checkpoint
from depth_sr_ros.models.paced_guide import PacedGuide

RNG = np.random.default_rng(0)
FRAMES = [RNG.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(6)]
DEPTH = (RNG.random((16, 24)) + 1).astype(np.float32)
SIZE = 112


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Weights of a small `fast`, and a folder with a small Depth Anything."""
    folder = tmp_path_factory.mktemp("guided")
    # An untrained guide shows nothing of the scene, and the check would leave it out.
    net = random_net("fast", confidence=True, guide_check=False)
    save_checkpoint(folder / "fast.safetensors", net, training={}, metrics={}, version="0")
    return folder / "fast.safetensors", save_tiny_guide(folder / "guide")


def resolver(
    files: tuple[Path, Path], every_n: int, size: int = SIZE, device: str = "cpu", runtime: str = "torch"
) -> DepthSuperResolver:
    checkpoint, guide = files
    return DepthSuperResolver(
        checkpoint,
        variant="fast",
        device=device,
        precision="float32",
        guide_path=guide,
        guide_size=size,
        guide_every_n=every_n,
        runtime=runtime,
    )


@contextmanager
def counted(engine: DepthSuperResolver) -> Iterator[list[tuple[int, int]]]:
    """The sizes of the images that Depth Anything's backbone was really run on."""
    seen: list[tuple[int, int]] = []
    guide = engine._model.guide
    assert guide is not None
    hook = guide.model.register_forward_pre_hook(
        lambda module, args, options: seen.append(tuple(options["pixel_values"].shape[-2:])), with_kwargs=True
    )
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize(("every_n", "runs"), [(1, 6), (2, 3), (4, 2), (1000, 1)])
def test_depth_anything_runs_on_every_nth_frame(files: tuple[Path, Path], every_n: int, runs: int) -> None:
    engine = resolver(files, every_n)
    with counted(engine) as seen:
        for rgb in FRAMES:
            engine(rgb, DEPTH)
    assert len(seen) == runs


def test_a_stale_map_gives_the_answer_of_a_network_that_is_handed_that_map(files: tuple[Path, Path]) -> None:
    engine = resolver(files, 3)
    answers = [engine(rgb, DEPTH) for rgb in FRAMES]
    model = engine._model
    assert model.guide is not None
    images = [torch.from_numpy(rgb).permute(2, 0, 1)[None] for rgb in FRAMES]
    depth = torch.from_numpy(DEPTH)[None, None]
    with torch.inference_mode():
        maps = [model.guide(image.float() / 255) for image in images]
        for i, image in enumerate(images):
            expected = model.upsample(image, depth, maps[i - i % 3])[0, 0].numpy()
            np.testing.assert_array_equal(answers[i], expected, err_msg=str(i))
    fresh = resolver(files, 1)(FRAMES[1], DEPTH)
    assert np.abs(answers[1] - fresh).max() > 1e-4, "the map must matter for this test to say anything"


@pytest.mark.skipif(not native.is_built(), reason="there is no C++ compiler here")
def test_the_kernels_are_given_the_same_map(files: tuple[Path, Path]) -> None:
    kernels, torchs = (resolver(files, 3, runtime=name) for name in ("native", "torch"))
    with counted(kernels) as seen:
        for rgb in FRAMES:
            np.testing.assert_allclose(kernels(rgb, DEPTH), torchs(rgb, DEPTH), rtol=1e-3)
        for found, right in zip(
            *(e.with_confidence(FRAMES[1], DEPTH) for e in (kernels, torchs)), strict=True
        ):
            np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-3)
    assert len(seen) == 3


def test_the_confidence_is_given_with_the_same_map(files: tuple[Path, Path]) -> None:
    engine = resolver(files, 2)
    with counted(engine) as seen:
        first = engine(FRAMES[0], DEPTH)
        again, confidence = engine.with_confidence(FRAMES[0], DEPTH)
    assert len(seen) == 1
    np.testing.assert_array_equal(again, first)
    assert np.isfinite(confidence).all()


def test_a_map_of_another_size_is_never_used(files: tuple[Path, Path]) -> None:
    engine = resolver(files, 1000)
    frame = FRAMES[0]
    with counted(engine) as seen:
        for rgb in (frame, frame[:, :64].copy(), frame[:, :64].copy(), frame):
            engine(rgb, DEPTH)
        assert len(seen) == 3
        # The same size of the answer, but a camera of another: it may show something else.
        engine(np.repeat(np.repeat(frame, 2, 0), 2, 1), DEPTH, output_size=(96, 64))
        engine(frame, DEPTH)
    assert len(seen) == 5


def test_what_is_forgotten_is_not_used(files: tuple[Path, Path]) -> None:
    engine, fresh = resolver(files, 1000), resolver(files, 1)
    engine(FRAMES[0], DEPTH)
    engine.forget()
    np.testing.assert_array_equal(engine(FRAMES[1], DEPTH), fresh(FRAMES[1], DEPTH))


def test_a_guide_that_failed_leaves_no_map_behind() -> None:
    paced = PacedGuide(2)
    first, second = torch.zeros(1), torch.ones(1)

    def fail() -> torch.Tensor:
        raise RuntimeError("out of memory")

    assert paced("a", lambda: first) is first
    with pytest.raises(RuntimeError):
        paced("b", fail)
    assert paced("a", lambda: second) is second


def test_the_size_is_the_short_side_that_depth_anything_sees(files: tuple[Path, Path]) -> None:
    engine = resolver(files, 1, size=120)
    with counted(engine) as seen:
        engine(FRAMES[0], DEPTH)
    assert seen == [(126, 182)]  # multiples of 14 near 120 x 180


def test_the_warm_up_runs_frames_with_and_without_it_and_leaves_no_map(files: tuple[Path, Path]) -> None:
    engine = resolver(files, 3)
    networks: list[int] = []
    hook = engine._model.unet.register_forward_hook(lambda *_: networks.append(1))
    with counted(engine) as seen:
        engine.warm_up((96, 64), (24, 16))
        hook.remove()
        assert 0 < len(seen) < len(networks)
        seen.clear()
        answer = engine(FRAMES[0], DEPTH)
        assert len(seen) == 1
    np.testing.assert_array_equal(answer, resolver(files, 1)(FRAMES[0], DEPTH))
