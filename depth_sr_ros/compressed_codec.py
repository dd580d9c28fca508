# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/CompressedImage -> NumPy: JPEG and PNG colour, PNG and RVL depth; and depth back into PNG.

Nothing here imports ROS: anything with a `format` and `data` serves as a message. The data are not trusted:
sizes are checked against limits, and against what so few bytes can hold, before memory is taken for them.
"""

from __future__ import annotations

import struct
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros import image_codec
from depth_sr_ros.errors import FrameError
from depth_sr_ros.image_codec import DEPTH_ENCODINGS
from depth_sr_ros.rvl import SIZE_BYTES, decode_rvl, rvl_size

MAX_SIDE = 16384
MAX_RGB_PIXELS = 1 << 26
MAX_DEPTH_PIXELS = 3840 * 2160

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = struct.Struct(">8sI4sIIBB")  # magic, chunk length and name, width, height, bits, colour type
_PNG_FIRST_CHUNK_END = 33
_PNG_CHUNK = struct.Struct(">I4s")
_PNG_CHUNKS = (b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type; a palette has one index per pixel
_DEFLATE_RATIO = 1032  # 258 bytes from two bits
_JPEG_SEGMENT = struct.Struct(">BBHBHH")  # 255, marker, length; in a frame header: bits, height, width
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_PIXELS_PER_BYTE = 512  # no block of 8x8 takes less than one bit
_MAX_JPEG_SEGMENTS = 1024
# Each scan of a progressive JPEG costs a pass over the whole image for a few bytes; encoders write ten.
_MAX_JPEG_SCANS = 64
_DEPTH_HEADER = struct.Struct("<iff")  # a C enum; A and B of the code for 32FC1


class CompressedImageLike(Protocol):
    """The fields of a sensor_msgs/CompressedImage that the codec reads."""

    format: str
    data: Any


def decode_rgb(message: CompressedImageLike) -> tuple[npt.NDArray[np.uint8], str]:
    """Decode a JPEG or 8-bit PNG, whichever the data are: `format` tells only the channel order.

    Returns uint8 HxWx3, HxWx4 (PNG with transparency) or HxW (grey), and the channel order: `bgr`, `bgra`,
    `mono`, or `rgb`, `rgba` where the format says `compressed rgb8`: so old publishers stored RGB unswapped.
    An EXIF orientation is ignored, since the camera's calibration is of the unrotated image.

    Raises FrameError on other data, a Bayer mosaic, 16 bits, a side above MAX_SIDE, more pixels than
    MAX_RGB_PIXELS, or a damaged or truncated file. A JPEG has no checksum: damage inside it may show as
    wrong pixels.
    """
    data = _bytes_of(message, "RGB")
    encoding, _, stored = message.format.partition(";")
    if data[:3].tobytes() == _JPEG_MAGIC:
        size = _jpeg_size(data)
    elif data[:8].tobytes() == _PNG_MAGIC:
        size, bits, _ = _png_header(data, "RGB")
        data = _bare_png(data, "RGB")
        if bits > 8:
            raise FrameError(f"the RGB PNG has {bits} bits per channel, but must have 8")
    else:
        raise FrameError(_wrong_start("RGB", "JPEG (ffd8ff) or PNG (89504e47)", data, message))
    pixels = _imdecode(data, "RGB", size, np.uint8)
    if pixels.ndim == 2:
        # A publisher stores a mosaic as it is; three channels have been made from it already.
        if encoding.strip().startswith("bayer"):
            raise FrameError(f"the RGB image is a Bayer mosaic ({_shown(message)}): debayer it first")
        return pixels, "mono"
    order = "rgb" if "compressed rgb" in stored else "bgr"
    return pixels, order + ("a" if pixels.shape[2] == 4 else "")


def decode_depth(message: CompressedImageLike) -> tuple[Array, float]:
    """Decode depth of compressed_depth_image_transport (PNG or RVL), or a plain 16-bit grey PNG.

    Returns HxW in the host's byte order and the metres in one unit: uint16 and 0.001 for 16UC1 and mono16;
    float32 and 1.0 for 32FC1, which is stored as 16-bit inverse depth: code 0 becomes NaN.

    Raises FrameError on another format, a PNG that is not 16-bit grey, A or B that is not finite, a side
    above MAX_SIDE, more pixels than MAX_DEPTH_PIXELS, or damaged or truncated data.
    """
    data = _bytes_of(message, "depth")
    encoding, codec = _depth_format(message)
    if codec == "png" and data[:8].tobytes() == _PNG_MAGIC:
        if encoding == "32FC1":
            raise FrameError(f"a 32FC1 depth PNG needs compressedDepth's header ({_shown(message)})")
        return _png_depth(data), DEPTH_ENCODINGS[encoding][1]
    if data.size < _DEPTH_HEADER.size + SIZE_BYTES:
        raise FrameError(f"the compressed depth has {data.size} bytes, but its headers alone have 20")
    _, a, b = _DEPTH_HEADER.unpack_from(data.data)
    body = data[_DEPTH_HEADER.size :]
    if codec == "png" and body[:8].tobytes() != _PNG_MAGIC:
        raise FrameError(_wrong_start("depth", "PNG (89504e47) at byte 0 or 12", data, message))
    # Publishers of 16UC1 leave A and B unset: they are read for 32FC1 only.
    if encoding == "32FC1" and not (np.isfinite(a) and np.isfinite(b) and a > 0):
        raise FrameError(f"the depth code's A, B are {a}, {b}, but must be finite and A above 0")
    pixels = _png_depth(body) if codec == "png" else _rvl_depth(body)
    return (_metres(pixels, a, b) if encoding == "32FC1" else pixels), DEPTH_ENCODINGS[encoding][1]


def encode_depth(metres: npt.NDArray[np.float32], like: CompressedImageLike) -> tuple[str, Bytes]:
    """The format and the data of depth (float32 HxW metres, invalid = NaN) in the manner of a message.

    16UC1 stays 16UC1 and 32FC1 stays 32FC1, with or without compressedDepth's header; RVL becomes PNG, which
    loses nothing either. Raises FrameError where `like` is no depth that `decode_depth` knows.
    """
    encoding, _ = _depth_format(like)
    if encoding == "32FC1":
        codes, a, b = _codes(metres)
        return "32FC1; compressedDepth png", _png_with_header(codes, a, b)
    millimetres = np.frombuffer(image_codec.encode_depth(metres, "16UC1"), np.uint16).reshape(metres.shape)
    if _bytes_of(like, "depth")[:8].tobytes() == _PNG_MAGIC:
        return like.format, cv2.imencode(".png", millimetres)[1].ravel()
    return f"{encoding}; compressedDepth png", _png_with_header(millimetres, 0.0, 0.0)


def _png_with_header(pixels: npt.NDArray[np.uint16], a: float, b: float) -> Bytes:
    header = np.frombuffer(_DEPTH_HEADER.pack(0, a, b), np.uint8)
    return np.concatenate([header, cv2.imencode(".png", pixels)[1].ravel()])


def _codes(metres: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint16], float, float]:
    """Inverse-depth codes 1 to 65,535 over the frame's own range, 0 = invalid; and A and B, see `_metres`."""
    codes = np.zeros(metres.shape, np.uint16)
    valid = (metres > 0) & (metres < np.inf)
    if not valid.any():
        return codes, 1.0, 0.0
    inverse = 1 / metres[valid].astype(np.float64)
    # A frame of one depth has no range; A and B must fit the 32 bits that the header has for each.
    span = max(float(np.ptp(inverse)), 1e-3 * float(inverse.max()))
    a = float(np.float32(65534 / span))
    b = float(np.float32(65535 - a * inverse.max()))
    codes[valid] = np.clip(np.rint(a * inverse + b), 1, 65535)
    return codes, a, b


def _depth_format(message: CompressedImageLike) -> tuple[str, str]:
    """Pixel encoding (a key of DEPTH_ENCODINGS) and codec (`png` or `rvl`) that the format string tells."""
    encoding, _, stored = (part.strip() for part in message.format.partition(";"))
    if encoding == "png" and not stored:
        return "16UC1", "png"
    if encoding in DEPTH_ENCODINGS:
        # Releases before RVL name no codec, and the oldest write the encoding alone.
        if stored in ("", "compressedDepth", "compressedDepth png") or stored.startswith("png compressed"):
            return encoding, "png"
        if stored == "compressedDepth rvl":
            return encoding, "rvl"
    raise FrameError(
        f"the depth format is {_shown(message)}, but must be png, or {', '.join(DEPTH_ENCODINGS)} with "
        "'; compressedDepth png', '; compressedDepth rvl' or '; png compressed'"
    )


def _metres(codes: npt.NDArray[np.uint16], a: float, b: float) -> npt.NDArray[np.float32]:
    """Inverse-depth codes to metres, A / (code - B); NaN for code 0 and where that is no positive number."""
    with np.errstate(all="ignore"):
        metres = np.float32(a) / (codes.astype(np.float32) - np.float32(b))
    metres[(codes == 0) | ~((metres > 0) & (metres < np.inf))] = np.nan
    return metres


def _png_depth(data: Bytes) -> npt.NDArray[np.uint16]:
    size, bits, channels = _png_header(data, "depth")
    if (bits, channels) != (16, 1):
        raise FrameError(f"the depth PNG has {channels} channels of {bits} bits, but must have 1 of 16")
    return _imdecode(_bare_png(data, "depth"), "depth", size, np.uint16)


def _rvl_depth(body: Bytes) -> npt.NDArray[np.uint16]:
    width, height = rvl_size(body)
    _check_size("depth", "RVL", width, height)
    return decode_rvl(body, width, height)


def _png_header(data: Bytes, name: str) -> tuple[tuple[int, int], int, int]:
    """Width and height, bits per channel, channels."""
    if data.size < _PNG_HEADER.size:
        raise FrameError(f"the {name} PNG has {data.size} bytes, but its header alone has {_PNG_HEADER.size}")
    _, length, chunk, width, height, bits, colour = _PNG_HEADER.unpack_from(data.data)
    if length != 13 or chunk != b"IHDR" or colour not in _PNG_CHANNELS or bits not in (1, 2, 4, 8, 16):
        raise FrameError(f"the {name} PNG's header is damaged: {chunk!r}, {bits} bits, colour type {colour}")
    _check_size(name, "PNG", width, height)
    raw = height * (1 + (width * bits * _PNG_CHANNELS[colour] + 7) // 8)
    if raw > _DEFLATE_RATIO * data.size:
        raise FrameError(f"the {name} PNG says {width}x{height}, more than its {data.size} bytes can hold")
    return (width, height), bits, _PNG_CHANNELS[colour]


def _bare_png(data: Bytes, name: str) -> Bytes:
    """The PNG's pixels alone: other chunks may hold gigabytes of text, or say that they do."""
    at, kept = _PNG_FIRST_CHUNK_END, [data[:_PNG_FIRST_CHUNK_END]]
    while at + _PNG_CHUNK.size <= data.size:
        length, chunk = _PNG_CHUNK.unpack_from(data.data, at)
        end = at + 12 + length
        if chunk in _PNG_CHUNKS:
            kept.append(data[at:end])
        if chunk == b"IEND" and end <= data.size:
            return np.concatenate(kept)
        at = end
    raise FrameError(f"the {name} PNG of {data.size} bytes is damaged or cut short: it has no end chunk")


def _jpeg_size(data: Bytes) -> tuple[int, int]:
    """Width and height, after a check of what follows them."""
    at = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        if at + _JPEG_SEGMENT.size > data.size:
            break
        start, marker, length, _, height, width = _JPEG_SEGMENT.unpack_from(data.data, at)
        if start == marker == 0xFF:  # a fill byte
            at += 1
            continue
        if start != 0xFF or marker < 0xC0 or 0xD0 <= marker <= 0xDA or length < 2:
            break
        if marker in _JPEG_FRAME_MARKERS:
            _check_size("RGB", "JPEG", width, height)
            _check_jpeg_scans(data, at + 2 + length, width, height)
            return width, height
        at += 2 + length
    raise FrameError(f"the RGB JPEG of {data.size} bytes has no frame header where one must be, at byte {at}")


def _check_jpeg_scans(data: Bytes, start: int, width: int, height: int) -> None:
    if width * height > _JPEG_PIXELS_PER_BYTE * data.size:
        raise FrameError(f"the RGB JPEG says {width}x{height}, more than its {data.size} bytes can hold")
    scans = data[start:].tobytes()
    # Older releases of OpenCV return a cut JPEG with its lower part grey or unset.
    if b"\xff\xd9" not in scans:
        raise FrameError(f"the RGB JPEG of {data.size} bytes is truncated: it has no end marker")
    if scans.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise FrameError(f"the RGB JPEG has more than {_MAX_JPEG_SCANS} scans, which no camera needs")


def _imdecode(data: Bytes, name: str, size: tuple[int, int], dtype: type) -> Array:
    """The file's pixels as they are stored, of the type and size that its header announced."""
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape[1::-1] != size or pixels.dtype != dtype:
        raise FrameError(f"the {name} image ({size[0]}x{size[1]}, {data.size} bytes) is damaged or cut short")
    return pixels


def _bytes_of(message: CompressedImageLike, name: str) -> Bytes:
    if not len(message.data):
        raise FrameError(f"the compressed {name} image ({_shown(message)}) has 0 bytes")
    return np.frombuffer(message.data, np.uint8)


def _check_size(name: str, kind: str, width: int, height: int) -> None:
    most = MAX_RGB_PIXELS if name == "RGB" else MAX_DEPTH_PIXELS
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= most):
        allowed = f"1 to {MAX_SIDE} a side, {most} pixels at most"
        raise FrameError(f"the {name} {kind} says {width}x{height}, but must have {allowed}")


def _wrong_start(name: str, wanted: str, data: Bytes, message: CompressedImageLike) -> str:
    return f"the {name} data start with {data[:4].tobytes().hex()}, not as {wanted}; format {_shown(message)}"


def _shown(message: CompressedImageLike) -> str:
    """The format string, short enough for a log line."""
    return repr(message.format[:60])
