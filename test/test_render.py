# SPDX-License-Identifier: Apache-2.0
"""training/render: meshes, scenes and cameras by seed, held-out assets, camera effects, the folder of frames."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from depth_sr_ros.errors import ConfigError, DataError
from render_assets import CUBE, make_furniture, make_game, plane, spm, vertex
from training.data.procedural_random import Draw
from training.data.rendered import list_frames, read_frame
from training.data.root import data_root
from training.render import backend
from training.render.camera_effects import Blur, defocus, photograph, smear
from training.render.credits import read_copyright, terms_of, write_credits
from training.render.frames import FRAMES_A_SCENE, Settings, frame_name, is_worth_it, plan_jobs
from training.render.furniture import list_furniture, load_model
from training.render.geometry import camera_at
from training.render.obj import read_obj
from training.render.placements import read_placements
from training.render.quads import read_quads, spot
from training.render.rooms import plan_room
from training.render.splits import furniture_split, scene_seed, track_split, tracks_of
from training.render.spm import read_spm
from training.render.store import FrameStore
from training.render.tracks import TrackScene, list_tracks

SCRIPT = Path(__file__).resolve().parents[1] / "training" / "render" / "render.py"


# --- meshes ---------------------------------------------------------------------------------------------------


def test_an_spm_mesh_is_read_vertex_by_vertex(tmp_path: Path) -> None:
    up, down = 511 << 10, (512 | 1) << 10  # +1 and -1 in ten bits, along y
    colored = [
        vertex((0, 0, 0), (0.0, 0.5), b"\x00\x0a\x14\x1e", up),
        vertex((1, 0, 0), (1.0, 0.5), b"\x80", down),
        vertex((0, 0, 2), (0.0, -3.0), b"\x00\xff\x00\x01", up),
    ]
    bare = [data[:16] + data[16 : len(data) - 4] for data in colored]
    path = tmp_path / "mesh.spm"
    path.write_bytes(
        spm(3, [("a.png", ""), ("", "")], [(0, colored, [0, 1, 2]), (1, bare, [2, 1, 0, 0, 1, 2])])
    )
    textured, plain = read_spm(path)
    assert textured.texture == "a.png" and plain.texture == ""
    np.testing.assert_allclose(textured.vertices, [[0, 0, 0], [1, 0, 0], [0, 0, 2]])
    np.testing.assert_allclose(textured.normals, [[0, 1, 0], [0, -1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(textured.colors, [[10, 20, 30], [255, 255, 255], [255, 0, 1]])
    np.testing.assert_allclose(textured.uv, [[0, 0.5], [1, 0.5], [0, -3]])
    np.testing.assert_array_equal(plain.faces, [[2, 1, 0], [0, 1, 2]])
    assert not plain.uv.any()


def test_a_mesh_of_more_than_255_vertices_has_indices_of_two_bytes(tmp_path: Path) -> None:
    many = [vertex((k, 0, 0), (0, 0), b"\x80", 0) for k in range(300)]
    path = tmp_path / "mesh.spm"
    path.write_bytes(spm(3, [("a.png", "")], [(0, many, [0, 256, 299])]))
    np.testing.assert_array_equal(read_spm(path)[0].faces, [[0, 256, 299]])


@pytest.mark.parametrize("damage", [lambda d: d[:-3], lambda d: b"XX" + d[2:], lambda d: d[:-1] + b"\x09"])
def test_a_damaged_mesh_is_named(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "mesh.spm"
    path.write_bytes(damage(plane([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], "a.png")))
    with pytest.raises(DataError, match="mesh.spm: not an SPM mesh"):
        read_spm(path)


def test_obj_corners_are_told_apart_by_uv_and_normal() -> None:
    parts, libraries = read_obj(CUBE.splitlines())
    assert libraries == ["box.mtl"]
    by_name = {part.material: part for part in parts}
    assert len(by_name["paint"].faces) == 4 and len(by_name["paint"].vertices) == 8
    # the face "-5 -1 -2 -6" counts from the end: vertices 4, 8, 7 and 3
    glass = by_name["glass"]
    np.testing.assert_array_equal(glass.vertices[glass.faces[2]], [[0, 1, 0], [0, 1, 2], [1, 1, 2]])


# --- tracks ---------------------------------------------------------------------------------------------------


def test_quads_repeat_corners_of_earlier_ones_and_point_ahead(tmp_path: Path) -> None:
    quads = read_quads(make_game(tmp_path) / "tracks" / "field" / "quads.xml")
    np.testing.assert_array_equal(quads[1, 0], quads[0, 3])
    point, forward = spot(quads, 1, along=0.5, across=0.25)
    np.testing.assert_allclose(point, [-2, 1, 15])
    np.testing.assert_allclose(forward, np.array([0, 2, 10]) / math.hypot(2, 10))


def test_a_damaged_quad_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "quads.xml"
    path.write_text('<quads><quad p0="0 0 0" p1="1 0 0" p2="1 0 1" p3="7:0"/></quads>')
    with pytest.raises(DataError, match="quad 0 cannot be read"):
        read_quads(path)


def test_a_scene_places_what_can_be_seen_at_its_finest_level(tmp_path: Path) -> None:
    data = make_game(tmp_path)
    placements = read_placements(data, "field", lambda library: True)
    assert [placement.model.name for placement in placements] == [
        "ground.spm",
        "wall.spm",
        "near.spm",
        "hut.spm",
    ]
    wall, hut = placements[1].matrix, placements[3].matrix
    # turned by 90 degrees about y after the stretch along x
    np.testing.assert_allclose(wall @ [1, 0, 0, 1], [0, 0, 8, 1], atol=1e-9)
    np.testing.assert_allclose(hut @ [0, 0, 0, 1], [1, 0, 6, 1])
    assert [p.model.name for p in read_placements(data, "field", lambda library: False)][-1] == "near.spm"


def test_a_track_is_mirrored_into_a_right_handed_world(tmp_path: Path) -> None:
    track = TrackScene(make_game(tmp_path), "field", "train", seed=1)
    triangles = track.scene.triangles()
    wall = triangles.vertices[4:8]
    np.testing.assert_allclose(wall[:, 2].min(), -16, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(triangles.normals, axis=1), 1, atol=1e-5)
    names = {path.name for path in track.files}
    assert {"ground.spm", "grass.png", "bricks.png", "hut.spm"} <= names and "blueSky.spm" not in names
    # a camera on the road that looks ahead looks along the road: -z after the mirror
    ahead = [track.camera(seed).rotation[2, 2] for seed in range(40)]
    assert np.mean(np.array(ahead) < -0.5) > 0.6


def test_a_camera_has_axes_right_down_and_forward() -> None:
    camera = camera_at([0, 1, 0], yaw=0.0, pitch=0.0, roll=0.0, fov_x_deg=60)
    np.testing.assert_allclose(camera.rotation, np.diag([1, -1, -1]), atol=1e-6)
    turned = camera_at([0, 1, 0], yaw=0.7, pitch=0.3, roll=0.2, fov_x_deg=60).rotation
    np.testing.assert_allclose(turned.T @ turned, np.eye(3), atol=1e-6)
    assert np.linalg.det(turned) == pytest.approx(1, abs=1e-5)
    assert turned[1, 2] == pytest.approx(math.sin(0.3), abs=1e-6)


# --- held-out assets --------------------------------------------------------------------------------------------


def test_no_name_belongs_to_both_splits_and_about_a_fifth_to_val() -> None:
    names = [f"asset {k}" for k in range(1000)]
    train, val = tracks_of(names, "train"), tracks_of(names, "val")
    assert not set(train) & set(val) and len(train) + len(val) == 1000
    assert 150 < len(val) < 250
    assert 150 < sum(furniture_split(name) == "val" for name in names) < 250


def test_the_splits_of_the_installed_assets_share_none() -> None:
    settings = {split: default_settings(Path("unused"), split) for split in ("train", "val")}
    try:
        tracks = {split: list_tracks(s.tracks, split) for split, s in settings.items()}
        pieces = {split: list_furniture(s.furniture, split) for split, s in settings.items()}
    except ConfigError as error:
        pytest.skip(str(error))
    assert not set(tracks["train"]) & set(tracks["val"])
    assert not {p.name for p in pieces["train"]} & {p.name for p in pieces["val"]}
    data = settings["train"].tracks
    own = {
        split: {
            placement.asset or f"track {name}"
            for name in names
            for placement in read_placements(data, name, lambda library, s=split: track_split(library) == s)
        }
        for split, names in tracks.items()
    }
    assert own["train"] and own["val"] and not own["train"] & own["val"]


def test_training_frames_show_nothing_that_the_frames_of_rendered_val_do() -> None:
    if not (data_root() / "rendered" / "val" / "index.jsonl").is_file():
        pytest.skip(f"no rendered set in {data_root()}")
    for split in ("train", "val"):
        rows = map(json.loads, (data_root() / "rendered" / split / "index.jsonl").read_text().splitlines())
        for row in rows:
            if "_track_" in row["name"]:
                assert track_split(row["scene"]) == split, row["scene"]
            for piece in row.get("credits", []):
                assert furniture_split(piece.split("[")[0]) == split, piece


def test_seeds_of_scenes_differ_by_seed_split_kind_and_number() -> None:
    seeds = {
        scene_seed(seed, split, kind, scene)
        for seed in (0, 1)
        for split in ("train", "val")
        for kind in ("room", "track")
        for scene in (0, 1)
    }
    assert len(seeds) == 16


# --- rooms ------------------------------------------------------------------------------------------------------


def test_pieces_of_a_catalogue_have_their_real_size(tmp_path: Path) -> None:
    box, cup, picture = list_furniture(make_furniture(tmp_path / "furniture"), "train")
    assert (box.name, cup.creator, picture.elevation) == ("Box", "René", 1.3)
    model = load_model(box)
    points = np.concatenate([part.vertices for part in model.parts])
    np.testing.assert_allclose(points.min(0), [-0.4, 0, -0.2], atol=1e-6)
    np.testing.assert_allclose(points.max(0), [0.4, 1, 0.2], atol=1e-6)
    assert model.textures["paint.png"].shape == (8, 8, 4)
    assert model.materials["glass"].opacity == 0.25


def test_a_room_is_a_function_of_its_seed_and_its_pieces_fit(tmp_path: Path) -> None:
    pieces = list_furniture(make_furniture(tmp_path / "furniture"), "train")
    plans = [plan_room(Draw(seed), pieces) for seed in range(30)]
    assert plans[3] == plan_room(Draw(3), pieces)
    assert plans[3] != plans[4]
    assert sum(len(plan.placed) for plan in plans) > 100
    assert any(plan.windows for plan in plans) and not all(plan.windows for plan in plans)
    for plan in plans:
        standing = [p for p in plan.placed if p.y == 0]
        for placed in plan.placed:
            assert abs(placed.x) < plan.half[0] and abs(placed.z) < plan.half[1]
            assert placed.y + placed.piece.size[1] < plan.height
        for first in standing:
            for second in standing:
                apart = math.hypot(first.x - second.x, first.z - second.z)
                # nearer than half of both smallest sides, boxes would be in each other
                sides = (min(first.piece.size[::2]) + min(second.piece.size[::2])) / 2
                assert first is second or apart > sides


# --- camera effects ---------------------------------------------------------------------------------------------


def checkers(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.repeat((((x // 4 + y // 4) % 2) * 0.8 + 0.1)[..., None], 3, 2).astype(np.float32)


def test_defocus_blurs_what_is_not_at_the_focus() -> None:
    radiance = np.tile(checkers(), (1, 10, 1))
    depth = np.full(radiance.shape[:2], 2.0, np.float32)
    depth[:, 320:] = 8.0
    blurred = defocus(radiance, depth, Blur(aperture=8.0, focus=2.0, streak=(0, 0)))
    np.testing.assert_allclose(blurred[:, :310], radiance[:, :310], atol=1e-5)
    assert blurred[:, 340:].std() < 0.6 * radiance[:, 340:].std()


def test_motion_blurs_along_its_direction_alone() -> None:
    stripes = np.zeros((48, 640, 3), np.float32)
    stripes[::2] = 1
    np.testing.assert_allclose(smear(stripes, (6.0, 0.0))[8:-8, 8:-8], stripes[8:-8, 8:-8], atol=1e-5)
    assert smear(stripes, (0.0, 6.0))[8:-8].std() < 0.3


def test_a_photograph_is_a_function_of_its_seed() -> None:
    radiance, depth = checkers(), np.full((48, 64), 3.0, np.float32)
    first = photograph(radiance, depth, seed=5)
    assert first.dtype == np.uint8 and first.shape == (48, 64, 3)
    np.testing.assert_array_equal(first, photograph(radiance, depth, seed=5))
    assert np.abs(first.astype(int) - photograph(radiance, depth, seed=6)).mean() > 2
    # twice the light is the same picture: exposure is the camera's
    brighter = photograph(2 * radiance, depth, seed=5).astype(int)
    assert np.abs(first.astype(int) - brighter).mean() < 1


# --- the folder of frames -----------------------------------------------------------------------------------------


def default_settings(out: Path, split: str = "train") -> Settings:
    games, furniture = "/usr/share/games/supertuxkart/data", "/usr/share/sweethome3d/furniture"
    return Settings(out, split, 3, (48, 64), 4, Path(games), Path(furniture))


def test_frames_are_written_as_the_reader_of_rendered_sets_takes_them(tmp_path: Path) -> None:
    store = FrameStore(tmp_path, "train", (48, 64))
    depth = np.geomspace(0.2, 5000, 48 * 64).astype(np.float32).reshape(48, 64)
    depth[0, :5] = np.nan
    store.write("train_room_a", (checkers() * 255).astype(np.uint8), depth, scene="room", fov_x_deg=60.0)
    (frame,) = list_frames(tmp_path, "train")
    rgb, read = read_frame(frame)
    assert (frame.name, frame.scene, rgb.shape) == ("train_room_a", "room", (48, 64, 3))
    np.testing.assert_allclose(read, depth, rtol=2e-4)
    np.testing.assert_array_equal(np.isnan(read), np.isnan(depth))


def test_a_run_takes_up_where_one_ended(tmp_path: Path) -> None:
    settings = default_settings(tmp_path)
    each = FRAMES_A_SCENE["room"]
    first, second = plan_jobs(settings, rooms=each + 3, tracks=0, finished=set())
    assert (first.frames, second.frames) == (tuple(range(each)), (0, 1, 2))
    store = FrameStore(tmp_path, "train", (48, 64))
    rgb, depth = np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), np.float32)
    names = [frame_name(settings, first, k) for k in first.frames]
    for name in names:
        store.write(name, rgb, depth, scene="room", fov_x_deg=60.0)
    (tmp_path / "train" / f"{names[2]}.png").unlink()
    with (tmp_path / "train" / "index.jsonl").open("a") as index:
        index.write('{"name": "train_ro')  # a line that was cut off
    left = plan_jobs(settings, each + 3, 0, set(FrameStore(tmp_path, "train", (48, 64)).rows))
    assert [job.frames for job in left] == [(2,), (0, 1, 2)]
    assert len(list_frames(tmp_path, "train")) == each - 1


def test_a_set_has_one_size(tmp_path: Path) -> None:
    store = FrameStore(tmp_path, "val", (48, 64))
    store.write(
        "a", np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), np.float32), scene="room", fov_x_deg=1.0
    )
    with pytest.raises(DataError, match="holds frames of 48x64"):
        FrameStore(tmp_path, "val", (96, 128))


def test_a_view_of_sky_of_a_wall_or_into_an_object_is_not_worth_a_frame() -> None:
    scene = np.geomspace(1, 30, 400).reshape(20, 20).astype(np.float32)
    assert is_worth_it(scene)
    assert not is_worth_it(np.where(np.arange(400).reshape(20, 20) < 300, np.nan, scene))
    assert not is_worth_it(np.full((20, 20), 2, np.float32))
    assert not is_worth_it(scene * 0.1)


# --- credits ------------------------------------------------------------------------------------------------------


def test_the_last_stanza_that_matches_a_file_holds(tmp_path: Path) -> None:
    make_game(tmp_path)
    stanzas = read_copyright((tmp_path / "share/doc/supertuxkart-data/copyright").read_text())
    assert terms_of("data/tracks/field/grass.png", stanzas).license == "CC0"
    wall = terms_of("data/tracks/field/wall.spm", stanzas)
    assert (wall.license, wall.copyright) == ("CC-BY-SA-4.0", "2021 Ann; 2022 Bob")
    assert terms_of("data/textures/x.png", stanzas).license == "GPL-3+"


def test_credits_name_every_asset_once_with_its_licence(tmp_path: Path) -> None:
    data, furniture = make_game(tmp_path), make_furniture(tmp_path / "furniture")
    for split, asset in (("train", "data/tracks/field/wall.spm"), ("val", "Things.sh3f#Box#Ann")):
        store = FrameStore(tmp_path / "set", split, (48, 64))
        for scene in ("one", "two", "two"):
            store.credit(scene, [asset])
    text = write_credits(tmp_path / "set", data, furniture).read_text()
    assert "Track `field`, designed by Ann" in text
    assert "- **CC-BY-SA-4.0**, 2021 Ann; 2022 Bob: data/tracks/field/ wall.spm" in text
    assert "Licence: CC-BY 3.0" in text and "- Ann: Box\n" in text
    assert len((tmp_path / "set" / "train" / "assets.jsonl").read_text().splitlines()) == 2


# --- what is missing ------------------------------------------------------------------------------------------------


def test_an_old_llvm_is_refused_and_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DRJIT_LIBLLVM_PATH", raising=False)
    with pytest.raises(ConfigError, match="apt install libllvm19"):
        backend.find_llvm(tmp_path)
    folder = tmp_path / "lib" / "x86_64-linux-gnu"
    folder.mkdir(parents=True)
    (folder / "libLLVM-15.so.1").touch()
    with pytest.raises(ConfigError, match="no LLVM 16 or newer"):
        backend.find_llvm(tmp_path)
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", str(folder / "libLLVM-15.so.1"))
    with pytest.raises(ConfigError, match="is LLVM 15"):
        backend.find_llvm(tmp_path)
    monkeypatch.delenv("DRJIT_LIBLLVM_PATH")
    (folder / "libLLVM.so.19.1").touch()
    assert backend.find_llvm(tmp_path).name == "libLLVM.so.19.1"


def test_missing_mitsuba_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "libLLVM.so.19.1"
    library.touch()
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", str(library))
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    monkeypatch.setitem(sys.modules, "drjit", None)
    with pytest.raises(ConfigError, match=r'pip install "depth_sr_ros\[render\]"'):
        backend.start.__wrapped__()


def test_missing_assets_name_their_packages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="apt install supertuxkart-data"):
        list_tracks(tmp_path, "train")
    with pytest.raises(ConfigError, match="apt install sweethome3d-furniture"):
        list_furniture(tmp_path, "train")
    with pytest.raises(ConfigError, match="none of the 1 tracks"):
        list_tracks(make_game(tmp_path), "val")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rooms", "0"], "nothing to render"),
        (["--rooms", "1", "--split", "test"], "--split"),
        (["--rooms", "1", "--size", "480"], "HEIGHTxWIDTH"),
        (["--rooms", "1", "--samples", "6"], "multiple of 4"),
    ],
)
def test_a_wrong_argument_is_one_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2 and message in run.stderr
    assert "Traceback" not in run.stderr and len(run.stderr.strip().splitlines()) == 1
