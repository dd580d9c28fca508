# SPDX-License-Identifier: Apache-2.0
"""The engine and the public API: inputs of every kind, sizes, units, errors, and that the weights work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.config import VARIANTS
from depth_sr_ros.demo_sequence import read_sequence
from depth_sr_ros.errors import CheckpointError, ConfigError, FrameError
from depth_sr_ros.image_size import MIN_RGB_SIDE
from depth_sr_ros.models.checkpoint import load_checkpoint, save_checkpoint, shipped_checkpoint

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


@pytest.mark.parametrize("size", [(40, 47), (97, 131), (240, 64)])
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
        (RGB[:0], DEPTH, "rgb", "at least 40"),
        (RGB, DEPTH[:1], "rgb", "at least 40 and 2"),
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
        ({"guide_size": 14}, ConfigError, "guide_size is 14, but must be from 112 to 1036"),
        ({"guide_every_n": 0}, ConfigError, "guide_every_n is 0, but must be from 1 to 1000"),
    ],
)
def test_a_bad_option_stops_the_start(options: dict, error: type, word: str) -> None:
    with pytest.raises(error, match=word):
        DepthSuperResolver(**options)


def test_bfloat16_stays_near_float32(engine: DepthSuperResolver) -> None:
    half = DepthSuperResolver(device="cpu", precision="bfloat16")
    assert np.abs(half(RGB, DEPTH) - engine(RGB, DEPTH)).mean() < 0.02


@pytest.mark.parametrize("variant", ["edge", "fast"])
def test_float16_stays_near_float32_with_the_weights_that_ship(variant: str) -> None:
    """The relative-depth features of `edge` reach 1e7; float16 ends at 65504."""
    frame = read_sequence(frames=1)[0]
    rgb, depth = np.ascontiguousarray(frame.rgb[:240, :320]), frame.depth_m[:60, :80]
    exact, half = (
        DepthSuperResolver(device="cpu", variant=variant, runtime="torch", precision=name)(rgb, depth)
        for name in ("float32", "float16")
    )
    assert np.isfinite(half).all()
    assert float(np.median(np.abs(half - exact) / exact)) < 1e-3


def test_half_precision_that_breaks_the_answer_is_refused_at_the_warm_up(tmp_path: Path) -> None:
    model, _ = load_checkpoint(shipped_checkpoint("edge"))
    state = model.unet.lr_encoder.downs.state_dict()
    state["2.weight"] *= 1e9  # beyond float16's range, not beyond float32's
    model.unet.lr_encoder.downs.load_state_dict(state)
    path = tmp_path / "wild.safetensors"
    save_checkpoint(path, model, training={}, metrics={}, version="0", dtype=torch.float32)
    resolver = DepthSuperResolver(path, device="cpu", runtime="torch", precision="float16")
    resolver.warm_up((96, 64), (24, 16))
    assert resolver.precision == "float32"
    (said,) = resolver.warnings
    assert said.startswith("float16 differs from torch in float32 by nan of the depth, more than 0.02")


def test_bfloat16_answers_on_frames_whose_coarsest_features_are_flat() -> None:
    """Where a map hardly varies AdaIN's scale is large; in half precision its product and shift cancelled."""
    engine, half = (DepthSuperResolver(device="cpu", precision=name) for name in ("float32", "bfloat16"))
    rgb, depth = np.zeros((64, 96, 3), np.uint8), np.full((16, 24), 2.0, np.float32)
    np.testing.assert_allclose(half(rgb, depth), engine(rgb, depth), rtol=0.02)


def test_torch_is_float32_until_a_warm_up_and_then_the_faster_of_what_the_processor_has() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    resolver = DepthSuperResolver(device="cpu", runtime="torch")
    assert resolver.precision == "float32" and ", float32," in resolver.description
    resolver.warm_up((96, 64), (24, 16))
    has_bfloat16 = bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    assert resolver.precision in (("float32", "bfloat16") if has_bfloat16 else ("float32",))
    assert f", {resolver.precision}," in resolver.description


def test_a_given_precision_is_kept_by_the_warm_up() -> None:
    resolver = DepthSuperResolver(device="cpu", precision="bfloat16")
    resolver.warm_up((96, 64), (24, 16))
    assert resolver.precision == "bfloat16"


def test_pixels_far_from_every_measurement_come_back_nan_and_no_others() -> None:
    resolver = DepthSuperResolver(device="cpu")
    depth = np.full((24, 32), np.nan, np.float32)
    depth[10, 5] = 2.0
    out = resolver(np.zeros((96, 128, 3), np.uint8), depth, max_fill_distance=3)
    known = np.zeros((24, 32), bool)
    known[7:14, 2:9] = True
    np.testing.assert_array_equal(np.isfinite(out), known.repeat(4, 0).repeat(4, 1))
    assert np.isfinite(resolver(np.zeros((96, 128, 3), np.uint8), depth)).all()


def test_a_smaller_output_has_its_size_and_nearly_the_depth_of_the_large_one() -> None:
    resolver = DepthSuperResolver(device="cpu")
    rgb = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    depth = np.full((24, 32), 3.0, np.float32)
    small = resolver(rgb, depth, output_size=(64, 48))
    assert small.shape == (48, 64) and small.dtype == np.float32
    np.testing.assert_allclose(small, resolver(rgb, depth)[::2, ::2], rtol=0.05)


def test_an_output_that_is_too_small_is_refused(engine: DepthSuperResolver) -> None:
    with pytest.raises(
        FrameError, match="would be 39x64, but sides must be at least 40 pixels: raise output"
    ):
        engine(RGB, DEPTH, output_size=(39, 64))


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_the_smallest_frames_are_answered_near_what_was_measured(variant: str) -> None:
    """On noise, whose features are unlike any that was trained on."""
    resolver = DepthSuperResolver(device="cpu", variant=variant)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        for height, width in ((MIN_RGB_SIDE, MIN_RGB_SIDE), (MIN_RGB_SIDE, 64), (320, MIN_RGB_SIDE)):
            rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
            depth = rng.uniform(1, 4, (height // 4, width // 4)).astype(np.float32)
            out = resolver(rgb, depth)
            assert out.min() > 0.2 and out.max() < 20, (height, width)


def test_a_registration_is_applied_before_the_network() -> None:
    resolver = DepthSuperResolver(device="cpu")
    camera = PinholeCamera(32, 24, 30.0, 30.0, 15.5, 11.5)
    shift = np.eye(4)
    shift[2, 3] = 0.5  # the depth camera stands half a metre before the RGB camera
    warp = resolver.make_registration(camera, camera.resized(128, 96), shift)
    out = resolver(np.zeros((96, 128, 3), np.uint8), np.full((24, 32), 2.0, np.float32), registration=warp)
    np.testing.assert_allclose(np.median(out), 2.5, rtol=0.02)
    np.testing.assert_allclose(out, 2.5, rtol=0.15)  # an untextured black image says little at the borders


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
