# SPDX-License-Identifier: Apache-2.0
"""The classical baselines fill, upsample and denoise as they should, with parameters for every case."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest

from depth_sr_ros.baselines import (
    BASELINES,
    GROUPS,
    METHODS,
    PARAMS_PATH,
    baseline_params,
    despeckle,
    fill_holes,
    joint_bilateral,
    run_baseline,
)
from depth_sr_ros.degradation import degrade
from depth_sr_ros.errors import ConfigError, FrameError
from depth_sr_ros.metrics import depth_metrics

NEEDS_XIMGPROC = {"guided", "median_guided", "fgs", "despeckle_fgs"}


def scene(height: int = 192, width: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """RGB and depth (metres) of a slanted wall with a disc before it; their edges agree."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 3.3) ** 2
    depth = np.where(disc, 1.2 + 0.001 * y, 2.4 + 0.002 * x).astype(np.float32)
    rgb = np.where(disc[..., None], (200, 60, 40), (60, 110, 160)).astype(np.int64)
    rgb += np.random.default_rng(0).integers(-6, 7, rgb.shape)
    return rgb.astype(np.uint8), depth


def test_holes_take_the_nearest_measurement() -> None:
    rng = np.random.default_rng(1)
    low = (1 + rng.random((17, 23))).astype(np.float32)
    for value in (np.nan, 0.0, -1.0, np.inf):
        low[rng.random(low.shape) < 0.12] = value
    valid = np.isfinite(low) & (low > 0)
    filled = fill_holes(low)
    np.testing.assert_array_equal(filled[valid], low[valid])
    ys, xs = np.nonzero(valid)
    for y, x in zip(*np.nonzero(~valid), strict=True):
        distance = np.hypot(ys - y, xs - x)
        # OpenCV's 5x5 distance transform is off by a few per cent, so a near tie may go either way
        near = distance <= 1.1 * distance.min()
        assert filled[y, x] in low[ys[near], xs[near]]


def test_filling_keeps_full_and_empty_frames() -> None:
    full = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(fill_holes(full), full)
    assert np.isnan(fill_holes(np.zeros((3, 4), np.float32))).all()


def test_despeckling_replaces_lone_outliers_alone() -> None:
    _, depth = scene(48, 64)
    spiked = depth.copy()
    spiked[10, 10], spiked[40, 50] = 9.0, 0.3
    clean = despeckle(spiked, 0.1)
    assert clean[10, 10] == pytest.approx(depth[10, 10], rel=0.01)
    assert clean[40, 50] == pytest.approx(depth[40, 50], rel=0.01)
    changed = clean != spiked
    assert changed.sum() == 2


@pytest.mark.parametrize(("value", "is_dropped"), [(2.18, False), (2.22, True), (1.82, False), (1.78, True)])
def test_a_speckle_is_further_from_the_median_than_the_threshold(value: float, is_dropped: bool) -> None:
    low = np.full((7, 9), 2.0, np.float32)
    low[3, 4] = value
    assert (despeckle(low, 0.1)[3, 4] == 2.0) == is_dropped


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(192, 256), (101, 131)])
def test_every_baseline_fills_the_frame_at_the_size_of_the_rgb(name: str, size: tuple[int, int]) -> None:
    rgb, depth = scene()
    rgb = np.ascontiguousarray(rgb[: size[0], : size[1]])
    low = degrade(depth, 8, "noisy", np.random.default_rng(0))[: -(-size[0] // 8), : -(-size[1] // 8)].copy()
    low[3:7, 4:9] = np.nan
    low[0], low[:, -1] = 0, np.inf
    before = low.copy()
    high = run_baseline(name, low, rgb)
    assert high.shape == size and high.dtype == np.float32
    assert np.isfinite(high).all()
    np.testing.assert_array_equal(low, before)
    np.testing.assert_array_equal(BASELINES[name](low, rgb), high)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("group", GROUPS)
def test_constant_depth_stays_constant(name: str, group: str) -> None:
    rgb, _ = scene()
    high = run_baseline(name, np.full((48, 64), 3.25, np.float32), rgb, group)
    np.testing.assert_allclose(high, 3.25, rtol=2e-4)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "bicubic"])
@pytest.mark.parametrize("scale", [4, 8])
def test_every_baseline_beats_bicubic_on_noisy_depth(name: str, scale: int) -> None:
    rgb, depth = scene()
    low = degrade(depth, scale, "noisy", np.random.default_rng(2))
    rmse = {
        method: depth_metrics(run_baseline(method, low, rgb), depth)["rmse"] for method in ("bicubic", name)
    }
    assert rmse[name] < 0.95 * rmse["bicubic"]


def test_joint_bilateral_upsampling_agrees_with_plain_loops() -> None:
    rgb, depth = scene(32, 48)
    low = degrade(depth, 4, "noisy", np.random.default_rng(3))
    cells = rgb.reshape(8, 4, 12, 4, 3).mean(axis=(1, 3)).round()
    expected = np.zeros((32, 48))
    for y in range(32):
        for x in range(48):
            v, u = (y + 0.5) / 4 - 0.5, (x + 0.5) / 4 - 0.5
            total = weight = 0.0
            for j in range(round(v) - 2, round(v) + 3):
                for i in range(round(u) - 2, round(u) + 3):
                    at = min(max(j, 0), 7), min(max(i, 0), 11)
                    colour = float(((rgb[y, x].astype(float) - cells[at]) ** 2).sum())
                    share = math.exp(-((j - v) ** 2 + (i - u) ** 2) / (2 * 0.8**2) - colour / (2 * 15.0**2))
                    total += share * float(low[at])
                    weight += share
            expected[y, x] = total / weight
    np.testing.assert_allclose(joint_bilateral(low, rgb, sigma_px=0.8, sigma_color=15.0), expected, atol=2e-3)


@pytest.mark.parametrize("name", METHODS)
def test_depth_without_a_measurement_gives_nan(name: str) -> None:
    rgb, _ = scene(32, 48)
    assert np.isnan(run_baseline(name, np.zeros((8, 12), np.float32), rgb)).all()


def test_parameters_are_stored_for_every_case_with_the_command_that_made_them() -> None:
    record = json.loads(PARAMS_PATH.read_text())
    assert record["command"].startswith("python training/tune_baselines.py")
    assert len(record["frames"]) >= 24 and all(name.startswith("val_") for name in record["frames"])
    for group in GROUPS:
        assert set(record["params"][group]) == set(METHODS) - {"bicubic"}
        assert all(set(scales) == {"4", "8", "16"} for scales in record["params"][group].values())


@pytest.mark.parametrize(
    ("scale", "tuned"), [(2, "4"), (4, "4"), (5.3, "4"), (6, "8"), (12, "16"), (20, "16")]
)
def test_the_nearest_tuned_scale_is_used(scale: float, tuned: str) -> None:
    record = json.loads(PARAMS_PATH.read_text())["params"]["noisy"]["fgs"]
    assert baseline_params("fgs", scale, "noisy") == record[tuned]


@pytest.mark.parametrize("name", METHODS)
def test_missing_ximgproc_is_one_clear_error_where_it_is_needed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cv2, "ximgproc")
    rgb, depth = scene(32, 48)
    low = degrade(depth, 4, "clean", np.random.default_rng(0))
    if name not in NEEDS_XIMGPROC:
        assert np.isfinite(run_baseline(name, low, rgb)).all()
        return
    with pytest.raises(ConfigError, match="opencv-contrib-python-headless") as caught:
        run_baseline(name, low, rgb)
    assert "\n" not in str(caught.value)


def test_wrong_arguments_are_refused() -> None:
    rgb, depth = scene(32, 48)
    with pytest.raises(ConfigError, match="did you mean 'guided'"):
        run_baseline("guide", depth, rgb)
    with pytest.raises(ConfigError, match="clean, noisy"):
        run_baseline("fgs", depth, rgb, "outdoor")
    with pytest.raises(FrameError, match="RGB HxWx3"):
        run_baseline("bicubic", depth, rgb[..., 0])
