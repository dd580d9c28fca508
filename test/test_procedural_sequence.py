# SPDX-License-Identifier: Apache-2.0
"""The procedural sequence: its frames agree with each other under its own poses and intrinsics."""

import numpy as np
import pytest

from training.data.procedural_sequence import Sequence, render_sequence

HEIGHT, WIDTH, FRAMES = 96, 128, 8


@pytest.fixture(scope="module")
def sequence() -> Sequence:
    return Sequence(3, FRAMES, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def frames(sequence: Sequence) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(sequence)


def reproject(sequence: Sequence, depth: np.ndarray, k: int, other: int) -> tuple[np.ndarray, ...]:
    """Return u, v (pixels) and z of frame k's points in the camera of frame `other`, each (H * W,)."""
    i = sequence.intrinsics
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    points = np.stack([(u - i.cx) / i.fx * depth, (v - i.cy) / i.fy * depth, depth], -1).reshape(-1, 3)
    (turn, place), (turn_to, place_to) = sequence.poses[k], sequence.poses[other]
    x, y, z = ((points @ turn + place - place_to) @ turn_to.T).T
    return i.fx * x / z + i.cx, i.fy * y / z + i.cy, z


def agreement(sequence: Sequence, frames: list, k: int, poses: int) -> float:
    """Return the share of frame k's pixels on the surfaces that frame k + 1 sees, posed as `poses`."""
    u, v, z = reproject(sequence, frames[k][1], k, poses)
    column, row = np.rint(u).astype(int), np.rint(v).astype(int)
    inside = (column >= 1) & (column < WIDTH - 1) & (row >= 1) & (row < HEIGHT - 1)
    column, row, z = column[inside], row[inside], z[inside]
    seen = frames[k + 1][1]
    # the 3 x 3 pixels around cover the rounding on slanted surfaces
    around = np.stack([seen[row + a, column + b] for a in (-1, 0, 1) for b in (-1, 0, 1)])
    return float(((z > 0.995 * around.min(0)) & (z < 1.005 * around.max(0))).mean())


@pytest.mark.parametrize("k", [0, 3, 6])
def test_points_of_a_frame_lie_on_the_surfaces_of_the_next(sequence: Sequence, frames: list, k: int) -> None:
    right = agreement(sequence, frames, k, k + 1)
    assert right > 0.9  # the rest is hidden in one of the two
    assert agreement(sequence, frames, k, k) < right - 0.1  # and the motion between them matters


def test_colours_move_with_the_surfaces(sequence: Sequence, frames: list) -> None:
    u, v, _ = reproject(sequence, frames[0][1], 0, 1)
    column, row = np.rint(u).astype(int), np.rint(v).astype(int)
    inside = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
    before, after = frames[0][0].astype(int), frames[1][0].astype(int)
    followed = np.abs(before.reshape(-1, 3)[inside] - after[row[inside], column[inside]]).mean()
    stayed = np.abs(before - after).mean()
    assert followed < 0.7 * stayed


def test_frames_are_what_a_camera_gives(frames: list) -> None:
    for rgb, depth in frames:
        assert (rgb.shape, rgb.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
        assert (depth.shape, depth.dtype) == ((HEIGHT, WIDTH), np.float32)
        assert np.isfinite(depth).all()
        assert 0.3 < depth.min() < depth.max() < 8
        assert 60 < rgb.mean() < 200
        assert (rgb == 255).mean() < 0.05


def test_a_frame_does_not_depend_on_how_many_are_drawn_before_it(frames: list) -> None:
    rgb, depth = next(render_sequence(3, FRAMES, HEIGHT, WIDTH))
    assert np.array_equal(rgb, frames[0][0])
    assert np.array_equal(depth, frames[0][1])


def test_other_seeds_are_other_rooms(frames: list) -> None:
    _, depth = next(render_sequence(4, FRAMES, HEIGHT, WIDTH))
    assert (np.abs(depth - frames[0][1]) > 0.05).mean() > 0.05


def test_the_camera_moves_smoothly(sequence: Sequence) -> None:
    fine = Sequence(3, 60, HEIGHT, WIDTH)
    places = np.array([place for _, place in fine.poses])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert 0.005 < steps.mean() < 0.1
    assert np.linalg.norm(np.diff(places, 2, axis=0), axis=1).max() < 0.3 * steps.mean()
    for turn, _ in sequence.poses:
        assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9)
