# SPDX-License-Identifier: Apache-2.0
"""Depth and RGB files keep their units, invalid pixels and colours, or are refused in one sentence."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest

from depth_sr_ros.colorize import colorize
from depth_sr_ros.depth_io import read_depth, read_rgb, to_millimetres, write_depth, write_rgb
from depth_sr_ros.errors import DataError

SUFFIXES = (".png", ".npy", ".exr", ".EXR", ".PNG")


def sample() -> np.ndarray:
    depth = (0.3 + 9 * np.random.default_rng(0).random((13, 17))).astype(np.float32)
    depth[0, :5] = np.nan, 0.0, -1.0, np.inf, -np.inf
    return depth


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_depth_survives_a_round_trip(tmp_path: Path, suffix: str) -> None:
    depth, file = sample(), tmp_path / f"depth{suffix}"
    write_depth(file, depth)
    again = read_depth(file)
    assert again.dtype == np.float32
    assert np.isnan(again[0, :5]).all()
    tolerance = 0.0005001 if suffix.lower() == ".png" else 0
    np.testing.assert_allclose(again.ravel()[5:], depth.ravel()[5:], rtol=0, atol=tolerance)


def test_png_depth_is_rounded_and_clamped_millimetres(tmp_path: Path) -> None:
    depth = np.array([[1.0004, 1.0006, 65.5349, 65.536, 300.0, 1e9, np.nan, np.inf, 0.0, -2.0]], np.float32)
    expected = [1000, 1001, 65535, 65535, 65535, 65535, 0, 0, 0, 0]
    assert to_millimetres(depth).tolist() == [expected]
    write_depth(tmp_path / "depth.png", depth)
    code = cv2.imread(str(tmp_path / "depth.png"), cv2.IMREAD_UNCHANGED)
    assert code is not None and code.dtype == np.uint16 and code.tolist() == [expected]


def test_npy_and_exr_hold_float32_metres_with_nan(tmp_path: Path) -> None:
    depth = sample()
    write_depth(tmp_path / "depth.npy", depth)
    write_depth(tmp_path / "depth.exr", depth)
    array = np.load(tmp_path / "depth.npy")
    pixels = OpenEXR.File(str(tmp_path / "depth.exr")).channels()["Y"].pixels
    for stored in (array, pixels):
        assert stored.dtype == np.float32 and np.isnan(stored[0, :5]).all()
        np.testing.assert_array_equal(stored[1:], depth[1:])


@pytest.mark.parametrize("name", ["Z", "Y", "distance"])
def test_one_exr_channel_of_any_name_is_depth(tmp_path: Path, name: str) -> None:
    file = str(tmp_path / "depth.exr")
    depth = np.full((4, 6), 2.5, np.float16)
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {name: depth}).write(file)
    np.testing.assert_array_equal(read_depth(file), np.full((4, 6), 2.5, np.float32))


def test_the_depth_channel_of_a_colour_exr_is_found(tmp_path: Path) -> None:
    file = str(tmp_path / "both.exr")
    channels = {
        name: np.full((4, 6), value, np.float32) for name, value in zip("RGBZ", range(1, 5), strict=True)
    }
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, channels).write(file)
    assert (read_depth(file) == 4).all()


HUGE_HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000), }"


def huge_png(bits: int, colour: int) -> bytes:
    """60000x60000 pixels, by its header."""
    header = struct.pack(">IIBBBBB", 60000, 60000, bits, colour, 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")):
        out += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return out


def bad_files(folder: Path) -> dict[str, Path]:
    grey8, colour16 = np.ones((4, 6), np.uint8), np.ones((4, 6, 3), np.uint16)
    cv2.imwrite(str(folder / "grey8.png"), grey8)
    cv2.imwrite(str(folder / "colour16.png"), colour16)
    np.save(folder / "integer.npy", np.ones((4, 6), np.uint16))
    np.save(folder / "stack.npy", np.ones((4, 6, 1), np.float32))
    np.save(folder / "objects.npy", np.array([None, {}]), allow_pickle=True)
    rgb = {name: np.ones((4, 6), np.float32) for name in "RGB"}
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, rgb).write(str(folder / "colour.exr"))
    for suffix in ("png", "npy", "exr"):
        (folder / f"junk.{suffix}").write_bytes(b"not an image at all")
    write_depth(folder / "whole.npy", sample())
    (folder / "cut.npy").write_bytes((folder / "whole.npy").read_bytes()[:200])
    (folder / "zip.npy").write_bytes(b"PK\x03\x04 no archive")
    for name, header in {"header": "{'descr': (((", "huge": HUGE_HEADER}.items():
        start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1)
        (folder / f"{name}.npy").write_bytes(start + header.encode() + b"\n" + bytes(64))
    (folder / "huge.png").write_bytes(huge_png(16, 0))
    cv2.imwrite(str(folder / "float.tiff"), np.ones((4, 6), np.float32))
    (folder / "float.tiff").rename(folder / "float.png")
    (folder / "folder.png").mkdir()
    return {file.name: file for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("grey8.png", "16 bits .* this holds uint8"),
        ("float.png", "16 bits .* this holds float32"),
        ("huge.png", "OpenCV cannot read this picture"),
        ("zip.npy", "not a readable .npy"),
        ("header.npy", "not a readable .npy"),
        ("huge.npy", "not a readable .npy"),
        ("colour16.png", "one channel, this has 3"),
        ("integer.npy", "floating-point metres, this holds uint16"),
        ("stack.npy", "HxW"),
        ("objects.npy", "not a readable .npy"),
        ("colour.exr", "one channel"),
        ("junk.png", "not a PNG"),
        ("junk.npy", "not a readable .npy"),
        ("junk.exr", "not a readable .exr"),
        ("cut.npy", "not a readable .npy"),
        ("folder.png", "no such file"),
        ("missing.png", "no such file"),
        ("missing.tiff", "no such file"),
    ],
)
def test_a_bad_depth_file_is_refused_in_one_sentence(tmp_path: Path, name: str, says: str) -> None:
    file = bad_files(tmp_path).get(name, tmp_path / name)
    with pytest.raises(DataError, match=says) as caught:
        read_depth(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["depth.tiff", "depth", "depth.png.txt"])
def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    for refuse in (read_depth, lambda path: write_depth(path, sample())):
        with pytest.raises(DataError, match=r"\.png .*\.npy .*\.exr"):
            refuse(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".npy", ".exr"])
def test_writing_where_it_is_impossible_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match="does not exist"):
        write_depth(tmp_path / "nowhere" / f"depth{suffix}", sample())
    (tmp_path / f"taken{suffix}").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        write_depth(tmp_path / f"taken{suffix}", sample())
    with pytest.raises(DataError, match="HxW"):
        write_depth(tmp_path / f"depth{suffix}", sample()[None])


def test_exr_without_its_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(DataError, match="pip install OpenEXR"):
        write_depth(tmp_path / "depth.exr", sample())
    write_depth(tmp_path / "depth.npy", sample())


def test_rgb_keeps_its_channel_order(tmp_path: Path) -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb[:, :3] = 250, 20, 10
    write_rgb(tmp_path / "a.png", rgb)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), rgb)
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 6), 7, np.uint8))
    assert (read_rgb(tmp_path / "grey.png") == np.full((4, 6, 3), 7)).all()


def test_a_bad_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.jpg").write_bytes(b"junk")
    with pytest.raises(DataError, match="not a picture"):
        read_rgb(tmp_path / "junk.jpg")
    with pytest.raises(DataError, match="no such file"):
        read_rgb(tmp_path / "missing.jpg")
    with pytest.raises(DataError, match="use .png or .jpg"):
        write_rgb(tmp_path / "a.xyz", np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(DataError, match="use .png or .jpg"):
        write_rgb(tmp_path / "a.exr", np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "huge.png").write_bytes(huge_png(8, 2))
    with pytest.raises(DataError, match="OpenCV cannot read this picture"):
        read_rgb(tmp_path / "huge.png")


def test_a_jpeg_stays_as_it_is_stored_whatever_its_orientation(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "plain.jpg"), np.zeros((60, 100, 3), np.uint8))
    data = (tmp_path / "plain.jpg").read_bytes()
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # orientation 6: turn by 90 degrees
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + data[2:]
    (tmp_path / "turned.jpg").write_bytes(turned)
    assert read_rgb(tmp_path / "turned.jpg").shape == (60, 100, 3)


def test_colours_are_warm_near_cold_far_and_black_where_unknown() -> None:
    depth = np.linspace(1, 5, 50, dtype=np.float32)[None].repeat(4, axis=0)
    depth[0, :] = np.nan
    depth[1, 0] = 0
    picture = colorize(depth, 1, 5)
    assert picture.dtype == np.uint8 and picture.shape == (4, 50, 3)
    assert not picture[0].any() and not picture[1, 0].any()
    red, blue = picture[2, :, 0].astype(int), picture[2, :, 2].astype(int)
    assert red[3] > blue[3] + 80 and blue[-8] > red[-8] + 80
    assert picture[2:].any(axis=-1).all()


def test_colours_of_one_range_are_comparable_between_images() -> None:
    depth = np.linspace(1, 5, 50, dtype=np.float32)[None]
    np.testing.assert_array_equal(colorize(depth[:, 10:20], 1, 5), colorize(depth, 1, 5)[:, 10:20])
    assert not np.array_equal(colorize(depth[:, 10:20]), colorize(depth)[:, 10:20])


@pytest.mark.parametrize("value", [np.nan, 2.0])
def test_empty_and_constant_depth_can_be_coloured(value: float) -> None:
    picture = colorize(np.full((5, 5), value, np.float32))
    assert picture.any() == np.isfinite(value)
