# SPDX-License-Identifier: Apache-2.0
"""Frames that Mitsuba renders here: exact depth, leaves that are not black, one frame from one seed."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from render_assets import default_settings, make_furniture, make_game

from depth_sr_ros.errors import ConfigError
from training.data.rendered import list_frames, read_frame
from training.data.sources import RenderedSource
from training.render import backend
from training.render.frames import ROOM, TRACK, SceneJob, Settings, build_scene, render_frames
from training.render.furniture import list_furniture
from training.render.geometry import Camera, Lighting, Material, SceneBuilder, camera_at
from training.render.integrator import Integrator
from training.render.tracks import list_tracks

SCRIPT = Path(__file__).resolve().parents[1] / "training" / "render" / "render.py"
SIZE = (48, 64)


@pytest.fixture(scope="module", autouse=True)
def mitsuba() -> Any:
    try:
        return backend.start()
    except ConfigError as error:
        pytest.skip(str(error))


def daylight(**changes: Any) -> Lighting:
    white, none = np.ones(3, np.float32), np.zeros(3, np.float32)
    up = np.array([0, 1, 0], np.float32)
    base = Lighting(up, none, 0.0, np.stack([white] * 3), none)
    return dataclasses.replace(base, **changes)


def upright(scene: SceneBuilder, z: float, material: int, half: float = 50.0) -> None:
    """A square that faces the camera at distance -z; its uv goes once from 0 to 1."""
    corners = np.array([[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]], np.float32)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    scene.add(corners, np.array([[0, 1, 2], [0, 2, 3]]), material, uv=uv)


def ahead() -> Camera:
    return camera_at([0, 0, 0], 0.0, 0.0, 0.0, fov_x_deg=60)


def test_depth_is_along_the_optical_axis() -> None:
    scene = SceneBuilder()
    upright(scene, -3.0, 0)
    np.testing.assert_allclose(Integrator(scene, daylight()).depth(ahead(), SIZE), 3.0, rtol=1e-5)


def test_depth_of_a_floor_is_exact_and_the_sky_has_none() -> None:
    scene = SceneBuilder()
    floor = np.array([[-900, -1.5, -900], [900, -1.5, -900], [900, -1.5, 900], [-900, -1.5, 900]], np.float32)
    scene.add(floor, np.array([[0, 1, 2], [0, 2, 3]]), 0)
    depth = Integrator(scene, daylight()).depth(ahead(), SIZE)
    focal = SIZE[1] / 2 / np.tan(np.radians(30))
    below = np.arange(SIZE[0]) + 0.5 - SIZE[0] / 2
    expected = np.where(below > 0, 1.5 * focal / below, np.nan)
    np.testing.assert_allclose(depth, np.repeat(expected[:, None], SIZE[1], 1), rtol=1e-4)


def test_what_lies_behind_the_holes_of_a_cutout_is_seen_and_lit() -> None:
    scene = SceneBuilder()
    leaf = np.zeros((2, 2, 4), np.uint8)
    leaf[:, 1] = (40, 200, 40, 255)  # the left half is a hole
    leaves = scene.material(Material(texture=scene.texture(leaf)))
    for layer in range(3):
        upright(scene, -2.0 - 0.1 * layer, leaves, half=4.0)
    upright(scene, -5.0, scene.material(Material(color=(0.9, 0.1, 0.1))))
    integrator = Integrator(scene, daylight())
    depth = integrator.depth(ahead(), SIZE)
    np.testing.assert_allclose(depth[:, :30], 5.0, rtol=1e-5)
    np.testing.assert_allclose(depth[:, 34:], 2.0, rtol=1e-5)
    radiance = integrator.picture(ahead(), SIZE, samples=16, seed=1).radiance
    red, green = radiance[:, :30].mean((0, 1)), radiance[:, 34:].mean((0, 1))
    assert red[0] > 3 * red[1] and red[0] > 0.1
    assert green[1] > 3 * green[0] and green[1] > 0.1


def test_a_half_clear_surface_lets_half_of_the_light_through() -> None:
    def seen(opacity: float) -> float:
        scene = SceneBuilder()
        upright(scene, -2.0, scene.material(Material(color=(0, 0, 0), opacity=opacity)), half=4.0)
        return float(Integrator(scene, daylight()).picture(ahead(), SIZE, 16, 2).radiance.mean())

    assert seen(0.0) == pytest.approx(1.0, abs=0.01)
    assert seen(0.5) == pytest.approx(0.5, abs=0.02)


def test_the_sun_casts_shadows() -> None:
    scene = SceneBuilder()
    floor = np.array([[-9, -1, -20], [9, -1, -20], [9, -1, 1], [-9, -1, 1]], np.float32)
    scene.add(floor, np.array([[0, 1, 2], [0, 2, 3]]), 0)
    roof = np.array([[-9, 3, -20], [0, 3, -20], [0, 3, 1], [-9, 3, 1]], np.float32)
    scene.add(roof, np.array([[0, 1, 2], [0, 2, 3]]), 0)
    dark = np.zeros((3, 3), np.float32)
    lighting = daylight(sun=np.full(3, 3, np.float32), sky=dark)
    radiance = Integrator(scene, lighting).picture(ahead(), SIZE, 16, 3).radiance[36:]
    # white in the sun, up to the highest albedo that there is; the shade gets what the roof throws back
    assert radiance[:, 48:].mean() == pytest.approx(0.95 * 3 / np.pi, rel=0.1)
    assert radiance[:, :16].mean() < 0.3 * radiance[:, 48:].mean()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A run on the assets that the tests write themselves."""
    root = tmp_path_factory.mktemp("assets")
    settings = default_settings(root / "set")
    return dataclasses.replace(settings, tracks=make_game(root), furniture=make_furniture(root / "furniture"))


@pytest.mark.parametrize("kind", [ROOM, TRACK])
def test_a_frame_depends_on_its_seed_and_number_alone(small: Settings, kind: str) -> None:
    def frames(wanted: tuple[int, ...], seed: int = 3) -> list:
        settings, job = dataclasses.replace(small, seed=seed), SceneJob(kind, 0, wanted)
        scene, assets = build_scene(settings, job)
        assert assets
        return list(render_frames(settings, job, scene))

    first, second = frames((0, 1))
    (again,) = frames((1,))
    np.testing.assert_array_equal(second.depth, again.depth)
    np.testing.assert_array_equal(second.rgb, again.rgb)
    assert second.fov_x_deg == again.fov_x_deg
    assert np.isfinite(second.depth).mean() > 0.2 and second.rgb.std() > 3
    assert not np.array_equal(first.rgb, second.rgb)
    (other,) = frames((1,), seed=4)
    assert not np.array_equal(other.depth, again.depth)


def command(settings: Settings, *arguments: str) -> list[str]:
    words = [sys.executable, str(SCRIPT), "--out", str(settings.out), "--size", "96x128", "--samples", "4"]
    words += ["--assets-tracks", str(settings.tracks), "--assets-furniture", str(settings.furniture)]
    return [*words, *arguments]


def render(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(settings, *arguments), capture_output=True, text=True, timeout=600)


@pytest.mark.timeout(600)
def test_the_command_renders_what_training_reads_and_only_what_is_missing(small: Settings) -> None:
    run = render(small, "--rooms", "1", "--tracks", "1")
    assert run.returncode == 0, run.stderr
    run = render(small, "--rooms", "2", "--tracks", "2", "--workers", "2")
    assert run.returncode == 0, run.stderr
    assert "4 frames, 2 of them new" in run.stdout
    names = [frame.name for frame in list_frames(small.out, "train")]
    assert len(names) == 4 and sum("_room_" in name for name in names) == 2
    ((rgb, depth),) = RenderedSource(small.out).views((64, 64), [torch.Generator().manual_seed(0)])
    assert rgb.shape == (1, 3, 64, 64) and depth.isfinite().any()
    assert "Track `field`" in (small.out / "CREDITS.md").read_text()


@pytest.mark.timeout(600)
def test_frames_of_a_run_that_was_ended_have_their_credits(small: Settings) -> None:
    settings = dataclasses.replace(small, out=small.out.with_name("ended"))
    run = subprocess.Popen(command(settings, "--rooms", "500"), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(settings.out.glob("train/*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    run.terminate()
    assert run.wait(60) == 128 + signal.SIGTERM
    assert "Sources of these frames" in (settings.out / "CREDITS.md").read_text()


@pytest.mark.timeout(600)
def test_a_room_and_a_track_of_the_installed_assets(tmp_path: Path) -> None:
    settings = default_settings(tmp_path)
    try:
        list_tracks(settings.tracks, "val")
        list_furniture(settings.furniture, "val")
    except ConfigError as error:
        pytest.skip(str(error))
    run = render(settings, "--rooms", "1", "--tracks", "1", "--split", "val")
    assert run.returncode == 0, run.stderr
    for frame in list_frames(tmp_path, "val"):
        rgb, depth = read_frame(frame)
        assert rgb.shape == (96, 128, 3) and rgb.std() > 5
        known = depth[np.isfinite(depth)]
        assert known.size > 0.3 * depth.size and known.min() > 0.1 and known.max() < 5000
    text = (tmp_path / "CREDITS.md").read_text()
    assert "## SuperTuxKart" in text and "## Furniture" in text and "unknown" not in text
