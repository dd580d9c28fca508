# SPDX-License-Identifier: Apache-2.0
"""CompressedImage to NumPy: channel order, depth codes, RVL against a scalar encoder, hostile data."""

from __future__ import annotations

import math
import struct
import tracemalloc
import warnings
import zlib
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from depth_sr_ros.compressed_codec import MAX_DEPTH_PIXELS, MAX_RGB_PIXELS, MAX_SIDE, decode_depth, decode_rgb
from depth_sr_ros.errors import FrameError

DEPTH_MAX, QUANTIZATION = 10.0, 100.0  # the defaults of compressed_depth_image_transport


def message(data: bytes, format: str) -> SimpleNamespace:
    return SimpleNamespace(format=format, data=array("B", data))


def rvl_stream(numbers: Iterable[int]) -> bytes:
    """Whole numbers in nibbles of 3 bits, the low ones first, 8 nibbles to a word from its high end."""
    nibbles: list[int] = []
    for number in numbers:
        while number >= 8:
            nibbles.append(8 | number % 8)
            number //= 8
        nibbles.append(number)
    nibbles += [0] * (-len(nibbles) % 8)
    words = (nibbles[at : at + 8] for at in range(0, len(nibbles), 8))
    return b"".join(struct.pack("<I", int("".join(f"{nibble:x}" for nibble in word), 16)) for word in words)


def encode_depth_rvl(pixels: np.ndarray) -> bytes:
    """RVL of Wilson (2017), pixel by pixel, behind the columns and rows that the plugin puts there."""
    numbers: list[int] = []
    rest, previous = [int(pixel) for pixel in pixels.ravel()], 0
    at = 0
    while at < len(rest):
        zeros = at
        while at < len(rest) and rest[at] == 0:
            at += 1
        depths = at
        while at < len(rest) and rest[at] != 0:
            at += 1
        numbers += [depths - zeros, at - depths]
        for depth in rest[depths:at]:
            step = depth - previous
            numbers.append(2 * step if step >= 0 else -2 * step - 1)
            previous = depth
    return struct.pack("<II", pixels.shape[1], pixels.shape[0]) + rvl_stream(numbers)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def jpeg(pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100, *options])[1].tobytes()


def encode_compressed_depth(
    pixels: np.ndarray, codec: str, a: float = math.nan, b: float = math.nan, suffix: str | None = None
) -> SimpleNamespace:
    """A compressedDepth message of uint16 (millimetres) or float32 (metres, with the default A and B)."""
    encoding, codes = "16UC1", pixels
    if pixels.dtype == np.float32:
        encoding = "32FC1"
        a = QUANTIZATION * (QUANTIZATION + 1)
        b = 1 - a / DEPTH_MAX
        codes = np.zeros(pixels.shape, np.uint16)
        for place, depth in np.ndenumerate(pixels):
            if depth < DEPTH_MAX:
                codes[place] = int(np.float32(a) / depth + np.float32(b))
    body = encode_depth_rvl(codes) if codec == "rvl" else png(codes)
    suffix = f"; compressedDepth {codec}" if suffix is None else suffix
    return message(struct.pack("<iff", 0, a, b) + body, encoding + suffix)


def colours(height: int = 24, width: int = 40) -> np.ndarray:
    """A smooth BGR image, blue on the left and red on the right, that a JPEG keeps within a few levels."""
    across = np.linspace(0, 255, width)
    down = np.linspace(60, 200, height)[:, None]
    return np.dstack(np.broadcast_arrays(255 - across, down, across)).astype(np.uint8)


def depths(height: int = 24, width: int = 40) -> np.ndarray:
    rng = np.random.default_rng(3)
    pixels = (1500 + 10 * np.arange(width) + rng.integers(-9, 10, (height, width))).astype(np.uint16)
    pixels[rng.random((height, width)) < 0.1] = 0
    pixels[5:9, 7:30] = 0
    pixels[0, :2] = 65535, 1
    return pixels


def metres() -> np.ndarray:
    pixels = depths().astype(np.float32) / 1000
    pixels[pixels < 0.16] = np.nan  # nearer than 0.152 m the plugin's 16 bits overflow
    return pixels


def refusal(decode: Callable, bad: SimpleNamespace) -> str:
    with pytest.raises(FrameError) as caught:
        decode(bad)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
    return str(caught.value)


@pytest.mark.parametrize(
    "format",
    [
        "rgb8; jpeg compressed bgr8",
        "bgr8; jpeg compressed bgr8",
        "rgba8; jpeg compressed bgr8",
        "rgb16; jpeg compressed bgr8",
        "bgr8; png compressed bgr8",
        "jpeg",
        "jpg",
        "png",
        "JPEG",
        "",
    ],
)
def test_colours_come_out_as_bgr_whatever_the_source_was(format: str) -> None:
    pixels = colours()
    for data, tolerance in ((jpeg(pixels), 6), (png(pixels), 0)):
        decoded, order = decode_rgb(message(data, format))
        assert order == "bgr"
        assert decoded.dtype == np.uint8
        np.testing.assert_allclose(decoded.astype(int), pixels, atol=tolerance)


def test_an_old_publisher_that_stored_rgb_unswapped_is_taken_at_its_word() -> None:
    rgb = colours()[:, :, ::-1]
    decoded, order = decode_rgb(message(png(rgb), "rgb8; png compressed rgb8"))
    assert order == "rgb"
    np.testing.assert_array_equal(decoded, rgb)


@pytest.mark.parametrize("format", ["mono8; jpeg compressed ", "mono8; png compressed mono8", "jpeg", "png"])
def test_grey_images_come_out_as_mono(format: str) -> None:
    pixels = colours()[:, :, 2]
    for data, tolerance in ((jpeg(pixels), 2), (png(pixels), 0)):
        decoded, order = decode_rgb(message(data, format))
        assert order == "mono"
        assert decoded.shape == pixels.shape
        np.testing.assert_allclose(decoded.astype(int), pixels, atol=tolerance)


def test_a_png_with_transparency_keeps_its_fourth_channel() -> None:
    pixels = np.dstack([colours(), np.full((24, 40), 7, np.uint8)])
    decoded, order = decode_rgb(message(png(pixels), "png"))
    assert order == "bgra"
    np.testing.assert_array_equal(decoded, pixels)


def test_progressive_and_restarting_jpegs_are_read() -> None:
    for option in ((cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)):
        decoded, _ = decode_rgb(message(jpeg(colours(), *option), "jpeg"))
        np.testing.assert_allclose(decoded.astype(int), colours(), atol=6)


def test_a_flat_jpeg_that_packs_many_pixels_in_a_byte_is_read() -> None:
    options = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
    for shape in ((4000, 6000), (4000, 6000, 3)):
        data = jpeg(np.full(shape, 90, np.uint8), *options)
        assert decode_rgb(message(data, "jpeg"))[0].shape == shape


def test_an_exif_orientation_does_not_turn_the_image() -> None:
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff
    data = jpeg(colours())
    turned = data[:2] + exif + data[2:]
    by_default = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert by_default is not None and by_default.shape == (40, 24, 3)
    assert decode_rgb(message(turned, "jpeg"))[0].shape == (24, 40, 3)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_the_data_may_be_any_buffer_of_bytes(kind: Callable) -> None:
    assert decode_rgb(SimpleNamespace(format="png", data=kind(png(colours()))))[0].shape == (24, 40, 3)
    depth = encode_compressed_depth(depths(), "rvl")
    depth.data = kind(depth.data.tobytes())
    np.testing.assert_array_equal(decode_depth(depth)[0], depths())


@pytest.mark.parametrize(
    ("data", "format", "said"),
    [
        (b"", "jpeg", "0 bytes"),
        (b"\xff", "jpeg", "start with ff, not as JPEG"),
        (b"\xff\xd8\xff", "jpeg", "JPEG of 3 bytes has no frame header"),
        (b"\xff\xd8" + b"\xff" * 5000, "jpeg", "no frame header"),
        (jpeg(colours())[:-2], "jpeg", "no end marker"),
        (jpeg(colours())[:400], "jpeg", "JPEG of 400 bytes"),
        (jpeg(colours()) + b"\xff\xda" * 64, "jpeg", "more than 64 scans"),
        (png(colours())[:20], "png", "PNG has 20 bytes"),
        (png(colours())[:-20], "png", "no end chunk"),
        (png(depths()), "16UC1; png compressed ", "16 bits per channel"),
        (png(depths().astype(np.uint8)), "bayer_rggb8; png compressed ", "Bayer mosaic"),
        (jpeg(depths().astype(np.uint8)), "bayer_rggb8; jpeg compressed ", "Bayer mosaic"),
        (
            encode_compressed_depth(depths(), "png").data.tobytes(),
            "16UC1; compressedDepth png",
            "'16UC1; compr",
        ),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp", "'webp'"),
        (b"II*\0\x08\0\0\0", "bgr8; tiff compressed ", "'bgr8; tiff compressed '"),
        (b"\0\0\0\x01\x67", "h264\n" * 100, "start with 00000001"),
    ],
)
def test_a_malformed_colour_image_is_refused_by_a_sentence_with_the_value(
    data: bytes, format: str, said: str
) -> None:
    assert said in refusal(decode_rgb, message(data, format))


@pytest.mark.parametrize(("encode", "name"), [(png, "png"), (jpeg, "jpeg")])
def test_a_picture_in_colour_that_was_made_from_a_mosaic_is_taken(encode: Callable, name: str) -> None:
    pixels, order = decode_rgb(message(encode(colours()), f"bayer_rggb8; {name} compressed bgr8"))
    assert (pixels.shape, order) == ((24, 40, 3), "bgr")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_other_chunks_of_a_png_are_not_read_and_may_not_lie_about_their_length() -> None:
    file = png(depths())
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**22)))
    for other in (30 * bomb, chunk(b"ABCD", b""), file[8:33]):
        decoded, _ = decode_depth(message(file[:33] + other + file[33:], "png"))
        np.testing.assert_array_equal(decoded, depths())
    for length in (2**31 - 1, 2**32 - 1):
        lying = file[:33] + struct.pack(">I", length) + file[37:]
        assert "no end chunk" in refusal(decode_depth, message(lying, "png"))


def resized(data: bytes, width: int, height: int) -> bytes:
    """The PNG or JPEG with another size in its header; a PNG's checksum is made to fit."""
    if data.startswith(b"\x89PNG"):
        return data[:8] + chunk(b"IHDR", struct.pack(">II", width, height) + data[24:29]) + data[33:]
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.parametrize(
    ("width", "height", "said"),
    [
        (0, 24, "0x24"),
        (40, 0, "40x0"),
        (MAX_SIDE + 1, 1, "16385x1"),
        (1, MAX_SIDE + 1, "1x16385"),
        (MAX_SIDE, MAX_SIDE, "pixels at most"),
        (MAX_SIDE, MAX_DEPTH_PIXELS // MAX_SIDE, "16384x506, more than its"),
        (41, 24, ""),
    ],
)
def test_a_size_that_the_file_cannot_hold_is_refused_before_it_is_decoded(
    width: int, height: int, said: str
) -> None:
    assert said in refusal(decode_rgb, message(resized(png(colours()), width, height), "png"))
    assert said in refusal(decode_depth, message(resized(png(depths()), width, height), "png"))
    if width != 41:  # a JPEG of 41 columns may well have as many blocks as one of 40
        assert said in refusal(decode_rgb, message(resized(jpeg(colours()), width, height), "jpeg"))


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_millimetres_come_out_as_they_went_in_whatever_the_unset_code_parameters(codec: str) -> None:
    for encoding in ("16UC1", "mono16"):
        sent = encode_compressed_depth(depths(), codec)
        sent.format = sent.format.replace("16UC1", encoding)
        decoded, unit = decode_depth(sent)
        np.testing.assert_array_equal(decoded, depths())
        assert (decoded.dtype, unit) == (np.uint16, 0.001)


@pytest.mark.parametrize("suffix", ["; compressedDepth", "; compressedDepth ", "", ";compressedDepth png"])
def test_a_format_without_a_codec_means_png_as_in_old_releases(suffix: str) -> None:
    for pixels in (depths(), metres()):
        new = decode_depth(encode_compressed_depth(pixels, "png"))
        old = decode_depth(encode_compressed_depth(pixels, "png", suffix=suffix))
        np.testing.assert_array_equal(old[0], new[0])
        assert old[1] == new[1]


@pytest.mark.parametrize("format", ["png", "16UC1; png compressed ", "mono16; png compressed mono16"])
def test_a_plain_png_of_16_bits_is_depth_in_millimetres(format: str) -> None:
    decoded, unit = decode_depth(message(png(depths()), format))
    np.testing.assert_array_equal(decoded, depths())
    assert (decoded.dtype, unit) == (np.uint16, 0.001)


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_metres_come_out_within_the_step_of_the_inverse_depth_code(codec: str) -> None:
    sent = metres()
    sent[1, :3] = DEPTH_MAX, np.inf, 9.99
    decoded, unit = decode_depth(encode_compressed_depth(sent, codec))
    assert (decoded.dtype, unit) == (np.float32, 1.0)
    lost = ~(sent < DEPTH_MAX)
    np.testing.assert_array_equal(np.isnan(decoded), lost)
    step = sent[~lost] ** 2 / (QUANTIZATION * (QUANTIZATION + 1))
    assert (decoded[~lost] >= sent[~lost] - 1e-5).all()  # the encoder rounds the inverse down
    assert (decoded[~lost] - sent[~lost] <= 1.01 * step + 1e-5).all()


def test_every_code_becomes_the_metres_that_the_formula_says() -> None:
    a, b = np.float32(10100), np.float32(-1009)
    codes = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    decoded, _ = decode_depth(
        message(struct.pack("<iff", 0, a, b) + png(codes), "32FC1; compressedDepth png")
    )
    assert np.isnan(decoded[0, 0])
    expected = [a / (np.float32(code) - b) for code in range(1, 65536)]
    np.testing.assert_array_equal(decoded.ravel()[1:], np.array(expected, np.float32))


def test_codes_that_would_be_no_positive_depth_become_nan() -> None:
    codes = np.array([[1, 4, 5, 6]], np.uint16)
    body = struct.pack("<iff", 0, 2.0, 5.0) + png(codes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded, _ = decode_depth(message(body, "32FC1; compressedDepth png"))
    np.testing.assert_array_equal(decoded, np.array([[np.nan, np.nan, np.nan, 2.0]], np.float32))


@pytest.mark.parametrize("codec", ["png", "rvl"])
@pytest.mark.parametrize(
    ("a", "b"), [(math.nan, 1), (1, math.nan), (math.inf, 1), (1, -math.inf), (0, 1), (-2, 1)]
)
def test_metres_with_unusable_code_parameters_are_refused(codec: str, a: float, b: float) -> None:
    sent = encode_compressed_depth(depths(), codec, a, b)
    sent.format = sent.format.replace("16UC1", "32FC1")
    assert f"A, B are {float(a)}, {float(b)}" in refusal(decode_depth, sent)


def size(width: int, height: int) -> bytes:
    return struct.pack("<II", width, height)


def rvl(data: bytes) -> SimpleNamespace:
    return message(bytes(12) + data, "16UC1; compressedDepth rvl")


def test_rvl_is_read_as_the_plugin_writes_it() -> None:
    # Written by compressed_depth_image_transport's own encoder.
    stream = bytes.fromhex("63f38a33f38ccd1225f3ffbfef0820c1000020f1")
    pixels = [[0, 0, 0, 1000, 1003, 1001], [0, 65535, 1, 0, 0, 7], [8, 8, 8, 4096, 0, 0]]
    assert encode_depth_rvl(np.array(pixels, np.uint16)) == size(6, 3) + stream
    assert decode_depth(rvl(size(6, 3) + stream))[0].tolist() == pixels


SPECIAL = {
    "one zero": np.zeros((1, 1), np.uint16),
    "one depth": np.full((1, 1), 65535, np.uint16),
    "all zero": np.zeros((480, 640), np.uint16),
    "no zero": np.full((60, 80), 1234, np.uint16),
    "a zero first": np.array([[0, 5, 6]], np.uint16),
    "a zero last": np.array([[5], [6], [0]], np.uint16),
    "the longest steps": np.tile(np.array([1, 65535], np.uint16), (30, 20)),
    "every second pixel": np.tile(np.array([0, 700, 0, 65535], np.uint16), (120, 160)),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_rvl_of_a_special_frame_is_read_exactly(name: str) -> None:
    np.testing.assert_array_equal(decode_depth(rvl(encode_depth_rvl(SPECIAL[name])))[0], SPECIAL[name])


def test_the_longest_run_of_zeros_is_read() -> None:
    width, height = MAX_SIDE, MAX_DEPTH_PIXELS // MAX_SIDE
    zeros = width * height - 3
    decoded, _ = decode_depth(rvl(size(width, height) + rvl_stream([zeros, 1, 84, 2, 0])))
    assert decoded.shape == (height, width)
    assert np.flatnonzero(decoded).tolist() == [zeros]
    assert decoded.ravel()[zeros] == 42


def test_rvl_of_real_frames_is_read_exactly(data_dir: Path) -> None:
    files = sorted((data_dir / "kinect").glob("*.depth.png"))[:2]
    assert files
    for file in files:
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        np.testing.assert_array_equal(decode_depth(rvl(encode_depth_rvl(pixels)))[0], pixels)


def test_bytes_behind_the_last_rvl_number_do_not_matter() -> None:
    for extra in (b"\x01", b"\xff" * 7, bytes(40), b"\x11" * 400):
        decoded, _ = decode_depth(rvl(encode_depth_rvl(depths()) + extra))
        np.testing.assert_array_equal(decoded, depths())


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    holes=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    spread=st.sampled_from([1, 8, 300, 65534]),
    seed=st.integers(0, 2**32 - 1),
)
def test_rvl_gives_back_every_frame(height: int, width: int, holes: float, spread: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 1 + spread, (height, width), endpoint=True).clip(1, 65535).astype(np.uint16)
    pixels[rng.random(pixels.shape) < holes] = 0
    np.testing.assert_array_equal(decode_depth(rvl(encode_depth_rvl(pixels)))[0], pixels)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "12 bytes"),
        (size(4, 2)[:7], "19 bytes"),
        (size(0, 2) + rvl_stream([8, 0]), "0x2"),
        (size(4, 0) + rvl_stream([8, 0]), "4x0"),
        (size(MAX_SIDE + 1, 1) + rvl_stream([8, 0]), "16385x1"),
        (size(4001, 4000) + rvl_stream([4001 * 4000, 0]), "4001x4000"),
        (size(2**32 - 1, 2**32 - 1), "4294967295x4294967295"),
        (size(4, 2), "8 bytes do not hold just its 4x2 pixels"),
        (size(4, 2) + rvl_stream([7, 0]), "4x2"),
        (size(4, 2) + rvl_stream([9, 0]), "4x2"),
        (size(4, 2) + rvl_stream([0, 9] + [2] * 9), "4x2"),
        (size(4, 2) + rvl_stream([0, 8] + [2] * 5), "4x2"),
        (size(4, 2) + b"\xff" * 12, "4x2"),
        (size(3, 1) + struct.pack("<I", 0x032A1FFF), "3x1"),  # the last difference has no end
        (size(4, 2) + rvl_stream([0, 8, 131071] + [2] * 7), "131071"),
        (size(4, 2) + rvl_stream([0, 8, 2**24 - 1] + [2] * 7), "16777215"),
        (size(4, 2) + rvl_stream([0, 8, 2**24] + [2] * 7), "4294967295"),
        (size(4, 2) + rvl_stream([0, 8, 2**40 + 6] + [2] * 7), "4294967295"),
        (size(4, 2) + rvl_stream([2**32 + 8, 0]), "4x2"),
        (size(4, 2) + rvl_stream([2**32, 2**32 + 8] + [2] * 8), "4x2"),
    ],
)
def test_malformed_rvl_is_refused_by_a_sentence_with_the_value(data: bytes, said: str) -> None:
    assert said in refusal(decode_depth, rvl(data))


def test_rvl_cut_anywhere_is_refused() -> None:
    whole = encode_depth_rvl(depths(6, 9))
    for end in range(len(whole)):
        refusal(decode_depth, rvl(whole[:end]))


@pytest.mark.parametrize(
    ("data", "format", "said"),
    [
        (b"", "png", "0 bytes"),
        (png(depths()), "32FC1; png compressed ", "compressedDepth's header"),
        (png(depths()), "16UC1; jpeg compressed ", "'16UC1; jpeg compressed '"),
        (png(depths()), "16UC1; compressedDepth zstd", "zstd"),
        (png(depths()), "8UC1; compressedDepth png", "'8UC1; "),
        (png(depths()), "rvl", "'rvl'"),
        (png(depths()), "x\n" * 500, "'x\\nx\\n"),
        (png(colours()), "png", "3 channels of 8 bits"),
        (png(depths().astype(np.uint8)), "16UC1; png compressed ", "1 channels of 8 bits"),
        (bytes(12) + png(colours()), "16UC1; compressedDepth png", "3 channels of 8 bits"),
        (png(depths())[:-30], "png", "cut short"),
        (bytes(12) + png(depths())[:-30], "16UC1; compressedDepth png", "cut short"),
        (bytes(12) + png(depths())[:25], "16UC1; compressedDepth png", "PNG has 25 bytes"),
        (bytes(11) + png(depths()), "16UC1; compressedDepth png", "start with 00000000, not as PNG"),
        (jpeg(depths().astype(np.uint8)), "16UC1; compressedDepth png", "ffd8ffe0"),
    ],
)
def test_malformed_depth_is_refused_by_a_sentence_with_the_value(data: bytes, format: str, said: str) -> None:
    assert said in refusal(decode_depth, message(data, format))


def test_a_size_that_rvl_data_do_not_fill_takes_no_memory() -> None:
    bad = [
        rvl(size(4000, 4000) + encode_depth_rvl(depths())[8:]),
        rvl(size(4000, 4000) + rvl_stream([MAX_DEPTH_PIXELS - 1, 0])),
        rvl(size(4000, 4000) + rvl_stream([0, MAX_DEPTH_PIXELS])),
    ]
    tracemalloc.start()
    for each in bad:
        refusal(decode_depth, each)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


VALID = [
    encode_compressed_depth(depths(8, 11), "rvl"),
    encode_compressed_depth(depths(8, 11), "png"),
    encode_compressed_depth(metres()[:8, :11], "rvl"),
    encode_compressed_depth(metres()[:8, :11], "png"),
    message(png(depths(8, 11)), "16UC1; png compressed "),
    message(png(colours(8, 11)), "rgb8; png compressed bgr8"),
    message(jpeg(colours(8, 11)), "rgb8; jpeg compressed bgr8"),
    message(jpeg(colours(8, 11), cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "mono8; jpeg compressed mono8"),
]
FORMATS = [each.format for each in VALID]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    source=st.sampled_from(VALID),
    format=st.none() | st.sampled_from(FORMATS),
    changes=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), max_size=6),
    cut=st.none() | st.integers(0, 400),
    tail=st.binary(max_size=24),
)
def test_damaged_data_give_a_whole_image_or_a_frame_error(
    source: SimpleNamespace,
    format: str | None,
    changes: list[tuple[int, int]],
    cut: int | None,
    tail: bytes,
) -> None:
    data = bytearray(source.data)
    for place, value in changes:
        data[place % len(data)] = value
    damaged = message(bytes(data[:cut]) + tail, source.format if format is None else format)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for decode, dtypes in ((decode_rgb, (np.uint8,)), (decode_depth, (np.uint16, np.float32))):
            try:
                pixels = decode(damaged)[0]
            except FrameError as error:
                assert str(error)
                continue
            assert pixels.dtype in dtypes
            assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_RGB_PIXELS
            assert pixels.ndim == 2 or decode is decode_rgb
            assert pixels.copy().shape == pixels.shape  # every pixel can be read
