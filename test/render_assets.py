# SPDX-License-Identifier: Apache-2.0
"""A game track and a furniture catalogue of a few triangles, in the formats of the real ones."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import cv2
import numpy as np

from training.render.frames import Settings

NORMALS, COLORS = 1, 2

SCENE = """<scene>
  <lod><group name="post">
    <static-object lod_distance="90" model="far.spm"/>
    <static-object lod_distance="30" model="near.spm"/>
  </group></lod>
  <track model="ground.spm" x="0" y="0" z="0">
    <static-object model="wall.spm" xyz="0 0 10" hpr="0 90 0" scale="2 1 1"/>
    <static-object model="wall.spm" xyz="0 0 0" interaction="physics-only"/>
    <static-object model="blueSky.spm" xyz="0 0 0"/>
    <static-object lod_instance="true" lod_group="post" xyz="5 0 5"/>
  </track>
  <object type="animation" model="wall.spm" xyz="0 0 20" if="isReverse"/>
  <library name="shed" xyz="1 0 0" hpr="0 0 0" scale="3 3 3"/>
</scene>"""
QUADS = """<quads>
  <quad p0="-4 0 0" p1="4 0 0" p2="4 0 10" p3="-4 0 10"/>
  <quad p0="0:3" p1="0:2" p2="4 2 20" p3="-4 2 20"/>
</quads>"""
COPYRIGHT = """Format: x

Files: *
Copyright: 2020 The Team
License: GPL-3+

Files:
 data/tracks/field/*
Copyright: 2021 Ann
           2022 Bob
License: CC-BY-SA-4.0

Files: data/tracks/field/grass.png
Copyright: 2019 Cid
License: CC0
"""
CATALOGUE = """license=CC-BY 3.0
id#1=a
name#1=Box
category#1=Living room
model#1=/things/box.obj
width#1=80.0
depth#1=40.0
height#1=100.0
dropOnTopElevation#1=100.0
creator#1=Ann
id#2=b
name#2=Cup
category#2=Kitchen
model#2=/things/box.obj
width#2=10.0
depth#2=10.0
height#2=12.0
creator#2=Ren\\u00e9
id#3=c
name#3=Picture
category#3=Living room
model#3=/things/box.obj
width#3=60.0
depth#3=4.0
height#3=40.0
elevation#3=130.0
creator#3=Ann
id#4=d
name#4=Tree
category#4=Exterior
model#4=/things/box.obj
width#4=100.0
depth#4=100.0
height#4=200.0
creator#4=Ann
"""
CUBE = """mtllib box.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 2
v 1 0 2
v 1 1 2
v 0 1 2
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl paint
f 1/1 4/4 3/3 2/2
f 5/1 6/2 7/3 8/4
usemtl glass
f 1 2 6 5
f -5 -1 -2 -6
f 1 5 8 4
f 2 3 7 6
"""
MATERIALS = """newmtl paint
Kd 0.5 0.5 0.5
Ks 1 1 1
Ns 100
map_Kd paint.png
newmtl glass
Kd 0 0 1
d 0.25
"""


def spm(
    flags: int, materials: list[tuple[str, str]], buffers: list[tuple[int, list[bytes], list[int]]]
) -> bytes:
    """A mesh of one sector; a buffer is (material, vertices as bytes, indices)."""
    data = b"SP" + struct.pack("<BB6f", 1 << 3 | 2, flags, *[0.0] * 6) + struct.pack("<H", len(materials))
    for first, second in materials:
        data += b"".join(struct.pack("<B", len(name)) + name.encode() for name in (first, second))
    data += struct.pack("<HH", 1, len(buffers))
    for material, vertices, indices in buffers:
        data += struct.pack("<IIH", len(vertices), len(indices), material) + b"".join(vertices)
        data += struct.pack(f"<{len(indices)}{'H' if len(vertices) > 255 else 'B'}", *indices)
    return data


def vertex(position: tuple[float, float, float], uv: tuple[float, float], color: bytes, normal: int) -> bytes:
    """One vertex with a normal, a colour (its marker, and r, g, b where that is not white) and one uv."""
    return struct.pack("<3fI", *position, normal) + color + np.array(uv, "<f2").tobytes()


def plane(corners: list[tuple[float, float, float]], texture: str) -> bytes:
    """A white rectangle with one texture over it."""
    uv = [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)]
    vertices = [vertex(corner, at, b"\x80", 0) for corner, at in zip(corners, uv, strict=True)]
    return spm(NORMALS | COLORS, [(texture, "")], [(0, vertices, [0, 1, 2, 0, 2, 3])])


def png(color: tuple[int, int, int], alpha: int = 255) -> bytes:
    image = np.zeros((8, 8, 4), np.uint8)
    image[:] = (*color[::-1], alpha)
    image[::2, :, :3] //= 2
    return bytes(cv2.imencode(".png", image)[1])


def make_game(root: Path, track: str = "field", library: str = "shed") -> Path:
    """DIR/share/games/supertuxkart/data with one track and one library object; returns that folder."""
    data = root / "share" / "games" / "supertuxkart" / "data"
    folder, shed = data / "tracks" / track, data / "library" / library
    for path in (folder, shed, data / "textures", root / "share" / "doc" / "supertuxkart-data"):
        path.mkdir(parents=True)
    (folder / "scene.xml").write_text(SCENE.replace("shed", library))
    (folder / "quads.xml").write_text(QUADS)
    (folder / "track.xml").write_text('<track name="Field" designer="Ann"/>')
    (folder / "materials.xml").write_text(
        '<m><material name="Fence.png" shader="alphatest"/><material name="glow.png" shader="additive"/></m>'
    )
    ground = plane([(-50, 0, -50), (-50, 0, 50), (50, 0, 50), (50, 0, -50)], "grass.png")
    upright: list[tuple[float, float, float]] = [(-3, 0, 0), (3, 0, 0), (3, 4, 0), (-3, 4, 0)]
    (folder / "ground.spm").write_bytes(ground)
    (folder / "wall.spm").write_bytes(plane(upright, "bricks.png"))
    (folder / "near.spm").write_bytes(plane(upright, "fence.png"))
    (folder / "far.spm").write_bytes(plane(upright, "bricks.png"))
    (folder / "blueSky.spm").write_bytes(ground)
    (folder / "grass.png").write_bytes(png((60, 140, 50)))
    (folder / "fence.png").write_bytes(png((140, 100, 60), alpha=90))
    (data / "textures" / "bricks.png").write_bytes(png((170, 80, 60)))
    (shed / "node.xml").write_text('<scene><object type="animation" model="hut.spm" xyz="0 0 2"/></scene>')
    (shed / "hut.spm").write_bytes(plane(upright, "bricks.png"))
    (root / "share/doc/supertuxkart-data/copyright").write_text(COPYRIGHT)
    return data


def make_furniture(folder: Path) -> Path:
    """A folder with one catalogue of four pieces, all of one box of 1 x 1 x 2; returns it."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "Things.sh3f", "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", CATALOGUE.encode("latin-1"))
        archive.writestr("things/box.obj", CUBE)
        archive.writestr("things/box.mtl", MATERIALS)
        archive.writestr("things/paint.png", png((200, 180, 40)))
    return folder


def default_settings(out: Path, split: str = "train") -> Settings:
    """A run of small frames with the assets where Debian installs them."""
    games, furniture = "/usr/share/games/supertuxkart/data", "/usr/share/sweethome3d/furniture"
    return Settings(out, split, 3, (48, 64), 4, Path(games), Path(furniture))
