# SPDX-License-Identifier: Apache-2.0
"""The engine and the public API: inputs of every kind, sizes, units, errors, and that the weights work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.errors import CheckpointError, ConfigError, FrameError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (96, 128, 3), np.uint8)
DEPTH = (RNG.random((24, 32)) * 2 + 1).astype(np.float32)


@pytest.fixture(scope="module")
def engine() -> DepthSuperResolver:
    return DepthSuperResolver(device="cpu", precision="float32")


def test_output_is_float32_metres_at_the_rgb_size(engine: DepthSuperResolver) -> None:
    out = engine(RGB, DEPTH)
    assert (out.shape, out.dtype) == ((96, 128), np.float32)
    assert 0.5 < out.min() < out.max() < 4


def test_inputs_are_left_alone_and_the_answer_repeats(engine: DepthSuperResolver) -> None:
    rgb, depth = RGB.copy(), DEPTH.copy()
    first = engine(rgb, depth).copy()
    assert np.array_equal(rgb, RGB)
    assert np.array_equal(depth, DEPTH)
    assert np.array_equal(first, engine(rgb, depth))


def test_every_channel_order_sees_the_same_colours(engine: DepthSuperResolver) -> None:
    expected = engine(RGB, DEPTH).copy()
    alpha = np.full((96, 128, 1), 7, np.uint8)
    for order, image in {
        "bgr": RGB[..., ::-1].copy(),
        "rgba": np.concatenate([RGB, alpha], 2),
        "bgra": np.concatenate([RGB[..., ::-1], alpha], 2),
    }.items():
        np.testing.assert_allclose(
            engine(image, DEPTH, channel_order=order), expected, rtol=1e-5, err_msg=order
        )
    grey = RGB[..., 1].copy()
    np.testing.assert_allclose(
        engine(grey, DEPTH, channel_order="mono"), engine(np.repeat(grey[..., None], 3, 2), DEPTH), rtol=1e-5
    )


def test_flipped_views_are_read_as_they_look(engine: DepthSuperResolver) -> None:
    expected = engine(RGB[:, ::-1].copy(), DEPTH[:, ::-1].copy()).copy()
    np.testing.assert_array_equal(engine(RGB[:, ::-1], DEPTH[:, ::-1]), expected)
    bgr = RGB[..., ::-1].copy()
    np.testing.assert_array_equal(engine(bgr[..., ::-1], DEPTH), engine(RGB, DEPTH))


def test_row_padding_is_looked_through(engine: DepthSuperResolver) -> None:
    expected = engine(RGB, DEPTH).copy()
    padded_rgb = np.zeros((96, 140, 3), np.uint8)
    padded_rgb[:, :128] = RGB
    padded_depth = np.zeros((24, 40), np.float32)
    padded_depth[:, :32] = DEPTH
    np.testing.assert_allclose(engine(padded_rgb[:, :128], padded_depth[:, :32]), expected, rtol=1e-5)


def test_millimetres_give_the_same_metres(engine: DepthSuperResolver) -> None:
    millimetres = np.round(DEPTH * 1000).astype(np.uint16)
    millimetres[:4, :4] = 0
    metres = millimetres.astype(np.float32) / 1000
    metres[:4, :4] = np.nan
    np.testing.assert_allclose(engine(RGB, millimetres, depth_unit_m=0.001), engine(RGB, metres), rtol=1e-4)


def test_an_empty_depth_image_is_answered_with_nan(engine: DepthSuperResolver) -> None:
    assert np.isnan(engine(RGB, np.full_like(DEPTH, np.nan))).all()


@pytest.mark.parametrize("size", [(33, 47), (97, 131), (240, 64)])
@pytest.mark.parametrize("metres", [0.1, 300.0])
def test_any_size_and_range(engine: DepthSuperResolver, size: tuple[int, int], metres: float) -> None:
    out = engine(np.zeros((*size, 3), np.uint8), np.full((7, 9), metres, np.float32))
    assert out.shape == size
    # Flat in, flat out: within 5 %, whatever the sizes and the distance are.
    np.testing.assert_allclose(out, metres, rtol=0.05)


@pytest.mark.parametrize(
    ("rgb", "depth", "order", "word"),
    [
        (RGB.astype(np.float32), DEPTH, "rgb", "float32 of shape"),
        (RGB[..., 0], DEPTH, "rgb", "must be uint8 of shape"),
        (RGB, DEPTH[None], "rgb", "depth image is float32 of shape"),
        (RGB, DEPTH.astype(np.float64), "rgb", "float64"),
        (RGB[:0], DEPTH, "rgb", "at least 32"),
        (RGB, DEPTH[:1], "rgb", "at least 32 and 2"),
        (RGB, DEPTH, "yuv", "one of rgb, bgr"),
    ],
)
def test_a_bad_frame_is_refused_by_name(
    engine: DepthSuperResolver, rgb: np.ndarray, depth: np.ndarray, order: str, word: str
) -> None:
    with pytest.raises(FrameError, match=word):
        engine(rgb, depth, channel_order=order)


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"device": "gpu"}, ConfigError, "auto, cpu, cuda"),
        ({"device": "cuda:99"}, ConfigError, "CUDA devices"),
        ({"threads": 0}, ConfigError, "at least 1"),
        ({"precision": "int8"}, ConfigError, "one of auto"),
        ({"variant": "egde"}, ConfigError, "did you mean 'edge'"),
        ({"checkpoint": "/nowhere/x.safetensors"}, CheckpointError, "does not exist"),
        ({"guide_path": "/nowhere"}, CheckpointError, "config.json"),
    ],
)
def test_a_bad_option_stops_the_start(options: dict, error: type, word: str) -> None:
    with pytest.raises(error, match=word):
        DepthSuperResolver(**options)


def test_bfloat16_stays_near_float32(engine: DepthSuperResolver) -> None:
    half = DepthSuperResolver(device="cpu", precision="bfloat16")
    assert np.abs(half(RGB, DEPTH) - engine(RGB, DEPTH)).mean() < 0.02


def test_auto_takes_half_precision_only_where_the_processor_has_it() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    native = bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    description = DepthSuperResolver(device="cpu").description
    assert ("bfloat16" in description, "float32" in description) == (native, not native)


def test_weights_denoise_a_slanted_plane(engine: DepthSuperResolver) -> None:
    """The network must beat its own start, the bilinear picture, by half where that is easiest."""
    import cv2

    y, x = np.mgrid[0:240, 0:320].astype(np.float32)
    truth = 1.5 + 0.002 * x + 0.001 * y
    lr = truth.reshape(60, 4, 80, 4).mean((1, 3))
    lr = (lr + np.random.default_rng(1).normal(0, 0.02, lr.shape)).astype(np.float32)
    start = cv2.resize(lr, (320, 240), interpolation=cv2.INTER_LINEAR)
    rgb = np.full((240, 320, 3), 120, np.uint8)
    ours = engine(rgb, lr)

    def rmse(depth: np.ndarray) -> float:
        return float(np.sqrt(np.mean((depth - truth)[8:-8, 8:-8] ** 2)))

    assert rmse(ours) < 0.5 * rmse(start)


def test_the_public_api_needs_no_ros(repo_root: Path) -> None:
    code = (
        "import sys; sys.modules['rclpy'] = None; "
        "from depth_sr_ros import DepthSuperResolver as D; print(D.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True)
    assert done.stdout.strip() == "DepthSuperResolver", done.stderr
