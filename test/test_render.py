# SPDX-License-Identifier: Apache-2.0
"""training/render: meshes, scenes and cameras by seed, held-out assets."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from render_assets import CUBE, default_settings, make_furniture, make_game, plane, spm, vertex

from depth_sr_ros.errors import ConfigError, DataError
from training.data.procedural_random import Draw
from training.data.root import data_root
from training.render.furniture import list_furniture, load_model
from training.render.geometry import camera_at
from training.render.obj import read_obj
from training.render.placements import read_placements
from training.render.quads import read_quads, spot
from training.render.rooms import plan_room
from training.render.splits import furniture_split, scene_seed, track_split, tracks_of
from training.render.spm import read_spm
from training.render.tracks import TrackScene, list_tracks

SCRIPT = Path(__file__).resolve().parents[1] / "training" / "render" / "render.py"


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
    np.testing.assert_allclose(textured.uv, [[0.0, 0.5], [1.0, 0.5], [0.0, -3.0]])
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

    def shown(split: str) -> set[str]:
        return {
            placement.asset or f"track {name}"
            for name in tracks[split]
            for placement in read_placements(data, name, lambda library: track_split(library) == split)
        }

    own = {split: shown(split) for split in tracks}
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
