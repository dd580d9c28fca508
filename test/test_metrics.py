# SPDX-License-Identifier: Apache-2.0
"""The protocol's metrics agree with plain loops, and no invalid value makes a score better."""

from __future__ import annotations

import math

import numpy as np
import pytest

from depth_sr_ros.metrics import METRICS, depth_edges, depth_metrics, dilate, mean_metrics, near_edge_mask


def scene(seed: int = 0, height: int = 30, width: int = 37) -> tuple[np.ndarray, np.ndarray]:
    """Truth with steps either way, texture, holes of every kind, and a prediction some per cent off."""
    rng = np.random.default_rng(seed)
    truth = 0.6 + 0.006 * rng.random((height, width))
    truth[:, width // 2 :] += 1.5
    truth[2 * height // 3 :, width // 4 : width // 2] += 0.2
    for value in (np.nan, 0.0, -1.0, np.inf):
        truth[rng.random(truth.shape) < 0.03] = value
    pred = np.where(np.isfinite(truth), truth, 1.0) * (1 + 0.04 * rng.standard_normal(truth.shape))
    return pred.astype(np.float32), truth.astype(np.float32)


def is_depth(value: float) -> bool:
    return math.isfinite(value) and value > 0


def loop_edges(truth: np.ndarray) -> np.ndarray:
    height, width = truth.shape
    out = np.zeros(truth.shape, bool)
    for y in range(height):
        for x in range(width):
            if not is_depth(truth[y, x]):
                continue
            around = truth[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].ravel()
            valid = [float(value) for value in around if is_depth(value)]
            out[y, x] = max(valid) - min(valid) > 0.04 * truth[y, x]
    return out


def loop_metrics(pred: np.ndarray, truth: np.ndarray, border: int) -> dict[str, float]:
    height, width = truth.shape
    edges = [(y, x) for y, x in zip(*np.nonzero(loop_edges(truth)), strict=True)]
    squares: dict[bool, list[float]] = {True: [], False: []}
    absolute, relative, close = [], [], []
    for y in range(border, height - border):
        for x in range(border, width - border):
            if not is_depth(truth[y, x]):
                continue
            p, t = float(pred[y, x]), float(truth[y, x])
            near = any((y - v) ** 2 + (x - u) ** 2 <= 25 for v, u in edges)
            squares[near].append((p - t) ** 2)
            absolute.append(abs(p - t))
            relative.append(abs(p - t) / t)
            close.append(max(p / t, t / p) < 1.05)
    both = squares[True] + squares[False]
    return {
        "rmse": math.sqrt(sum(both) / len(both)),
        "mae": sum(absolute) / len(absolute),
        "absrel": sum(relative) / len(relative),
        "edge_rmse": math.sqrt(sum(squares[True]) / len(squares[True])),
        "flat_rmse": math.sqrt(sum(squares[False]) / len(squares[False])),
        "delta_105": sum(close) / len(close),
        "missing": 0.0,
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("border", [6, 0])
def test_scores_agree_with_plain_loops(seed: int, border: int) -> None:
    pred, truth = scene(seed)
    expected = loop_metrics(pred, truth, border)
    assert depth_metrics(pred, truth, border=border) == pytest.approx(expected, rel=1e-5)
    assert 0 < expected["delta_105"] < 1


def test_edges_agree_with_plain_loops() -> None:
    _, truth = scene(5)
    assert loop_edges(truth).any()
    np.testing.assert_array_equal(depth_edges(truth), loop_edges(truth))


@pytest.mark.parametrize(("step", "is_edge"), [(0.038, False), (0.044, True)])
def test_a_step_is_an_edge_above_four_percent_of_the_depth(step: float, is_edge: bool) -> None:
    truth = np.full((9, 12), 2.0, np.float32)
    truth[:, 6:] *= 1 + step
    edges = depth_edges(truth)
    assert edges[:, 5:7].all() == is_edge
    assert not edges[:, :5].any() and not edges[:, 7:].any()


def test_the_rim_of_a_hole_is_no_edge() -> None:
    truth = np.full((20, 20), 2.0, np.float32)
    truth[5:10, 5:10] = np.nan
    truth[12:14] = 0
    assert not depth_edges(truth).any()


@pytest.mark.parametrize("shape", [(25, 31), (3, 40), (40, 2), (1, 1)])
def test_dilation_is_a_disc_at_any_size(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    mask = rng.random(shape) < 0.02
    mask[shape[0] // 2, shape[1] // 2] = True
    ys, xs = np.nonzero(mask)
    grid_y, grid_x = np.mgrid[: shape[0], : shape[1]]
    squared = (grid_y[..., None] - ys) ** 2 + (grid_x[..., None] - xs) ** 2
    np.testing.assert_array_equal(dilate(mask, 5), (squared <= 25).any(axis=-1))


def test_the_border_is_not_scored() -> None:
    pred, truth = scene()
    inner = np.zeros(truth.shape, bool)
    inner[6:-6, 6:-6] = True
    edges = near_edge_mask(truth)
    spoilt = np.where(inner, pred, np.float32(np.nan))
    assert depth_metrics(spoilt, truth, edge_mask=edges) == depth_metrics(pred, truth, edge_mask=edges)


def test_a_perfect_prediction_scores_zero_error() -> None:
    _, truth = scene()
    scores = depth_metrics(truth, truth)
    assert [scores[key] for key in METRICS] == [0, 0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("absent", [np.nan, np.inf, -np.inf])
def test_leaving_pixels_out_never_improves_a_score(absent: float) -> None:
    pred, truth = scene()
    scored = np.isfinite(truth) & (truth > 0)
    scored[:6] = scored[-6:] = scored[:, :6] = scored[:, -6:] = False
    worst = np.argsort(np.where(scored, np.abs(pred - truth), -1), axis=None)[-20:]
    hidden = pred.copy()
    hidden.flat[worst] = absent
    before, after = depth_metrics(pred, truth), depth_metrics(hidden, truth)
    assert all(after[key] > before[key] for key in ("rmse", "mae", "absrel"))
    assert after["delta_105"] <= before["delta_105"]
    assert after["missing"] == pytest.approx(20 / scored.sum())


def test_an_absent_prediction_is_scored_as_zero_metres() -> None:
    _, truth = scene()
    zeros, absent = np.zeros_like(truth), np.full_like(truth, np.nan)
    assert depth_metrics(absent, truth) == {**depth_metrics(zeros, truth), "missing": 1.0}
    assert depth_metrics(absent, truth)["absrel"] == 1


@pytest.mark.parametrize(
    "truth", [np.full((30, 30), np.nan), np.zeros((30, 30)), np.ones((12, 12)), np.ones((4, 50))]
)
def test_without_scored_pixels_every_metric_is_nan(truth: np.ndarray) -> None:
    assert all(math.isnan(value) for value in depth_metrics(np.ones_like(truth), truth).values())


def test_a_frame_without_edges_has_no_edge_score() -> None:
    truth = np.full((30, 30), 2.0, np.float32)
    scores = depth_metrics(truth + np.float32(0.5), truth)
    assert math.isnan(scores["edge_rmse"])
    assert scores["flat_rmse"] == scores["rmse"] == 0.5


def test_inputs_are_left_as_they_are() -> None:
    pred, truth = scene()
    pred[8, 8] = np.nan
    copies = pred.copy(), truth.copy()
    depth_metrics(pred, truth)
    np.testing.assert_array_equal(pred, copies[0])
    np.testing.assert_array_equal(truth, copies[1])


@pytest.mark.parametrize("shape", [(30, 36), (1, 30, 37)])
def test_shapes_that_differ_are_refused(shape: tuple[int, ...]) -> None:
    _, truth = scene()
    with pytest.raises(ValueError, match="same HxW shape"):
        depth_metrics(np.ones(shape, np.float32), truth)


def test_the_mean_leaves_out_images_without_the_metric() -> None:
    mean = mean_metrics([{"rmse": 1.0, "edge_rmse": math.nan}, {"rmse": 3.0, "edge_rmse": 4.0}])
    assert mean == {"rmse": 2.0, "edge_rmse": 4.0}
    assert math.isnan(mean_metrics([{"rmse": math.nan}])["rmse"])
    assert mean_metrics([]) == {}
