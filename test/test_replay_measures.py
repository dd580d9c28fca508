# SPDX-License-Identifier: Apache-2.0
"""What a replay measures without a truth: each says what it is for, or nothing where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest

from depth_sr_ros.degradation import degrade
from depth_sr_ros.replay_measures import (
    RANGE_BINS_M,
    edge_alignment,
    flicker,
    lr_error,
    picture_edges,
    squares_by_range,
    static_mask,
    thinned_grey,
)

SIZE = (96, 128)


def scene(shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A near, bright square before a far, dark wall; the depth's `shift` pixels beside the picture's."""
    rgb, depth = np.full((*SIZE, 3), 40, np.uint8), np.full(SIZE, 3.0, np.float32)
    rgb[24:72, 40:90] = 200
    depth[24:72, 40 + shift : 90 + shift] = 1.0
    return rgb, depth


def test_squares_by_range_are_those_of_the_pixels_in_each_range() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.1, 60, SIZE).astype(np.float32)
    truth[:4] = np.nan
    answer = truth + rng.normal(0, 0.1, SIZE).astype(np.float32)
    answer[5] = np.nan
    known = np.isfinite(truth) & np.isfinite(answer)
    counts, _ = np.histogram(truth[known], RANGE_BINS_M)
    squares, _ = np.histogram(truth[known], RANGE_BINS_M, weights=np.square(answer - truth)[known])
    sums = squares_by_range(answer, truth)
    np.testing.assert_array_equal(sums[1], counts)
    np.testing.assert_allclose(sums[0], squares, rtol=1e-5)


def test_the_lr_error_is_that_of_the_means_over_lr_pixels() -> None:
    truth = np.random.default_rng(1).uniform(1, 2, SIZE).astype(np.float32)
    low = degrade(truth, 4, "clean", np.random.default_rng(0))
    assert lr_error(truth, low) < 1e-6
    assert lr_error(truth * np.float32(1.02), low) == pytest.approx(0.02, rel=1e-3)
    assert np.isnan(lr_error(truth, np.full_like(low, np.nan)))


def test_a_moving_picture_is_not_static_and_a_still_one_with_noise_is() -> None:
    rgb, _ = scene()
    noisy = np.clip(rgb.astype(int) + np.random.default_rng(0).integers(-4, 5, rgb.shape), 0, 255)
    before = thinned_grey(rgb)
    still = static_mask(thinned_grey(noisy.astype(np.uint8)), before)
    assert still is not None and still.all()
    moved = static_mask(thinned_grey(np.roll(rgb, 6, 1)), before)
    assert moved is not None and not moved[15:30, 20].any() and moved[15:30, 4].all()
    assert static_mask(thinned_grey(rgb[:48]), before) is None
    assert static_mask(thinned_grey(255 - rgb), before) is None


def test_flicker_is_the_relative_change_where_nothing_moved() -> None:
    _, depth = scene()
    still = np.ones((48, 64), bool)
    assert flicker(depth, depth, still) == 0
    assert flicker(depth, depth * np.float32(1.1), still) == pytest.approx(0.1, rel=1e-3)
    still[:, 32:] = False
    changed = depth.copy()
    changed[:, 64:] += 1
    assert flicker(changed, depth, still) == 0
    assert np.isnan(flicker(np.full_like(depth, np.nan), depth, still))


def test_depth_whose_edges_lie_beside_the_pictures_is_less_aligned() -> None:
    rgb, depth = scene()
    edges = picture_edges(thinned_grey(rgb))
    right, beside = edge_alignment(depth, edges), edge_alignment(scene(shift=12)[1], edges)
    assert right > 5 and beside < 0.7 * right
    assert np.isnan(edge_alignment(np.full(SIZE, 2.0, np.float32), edges))
    assert np.isnan(edge_alignment(depth, picture_edges(thinned_grey(np.full_like(rgb, 90)))))
