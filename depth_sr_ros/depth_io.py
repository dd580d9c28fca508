# SPDX-License-Identifier: Apache-2.0
"""Read and write RGB and depth image files: 16-bit PNG millimetres, .npy and .exr metres."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.errors import DataError
from depth_sr_ros.metrics import valid_mask

DEPTH_SUFFIXES = (".png", ".npy", ".exr")
_UINT16_MAX = 65535

Depth = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


def read_rgb(path: str | Path) -> Image:
    """Read a colour picture as uint8 HxWx3 RGB, as it is stored: an EXIF orientation turns nothing.

    Raises DataError when it is missing or no picture.
    """
    file = _existing(path)
    # The camera's calibration, and the depth, are of the picture as it is stored: see compressed_codec.py.
    bgr = _imread(file, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None:
        raise DataError(f"{file}: not a picture that OpenCV can read: give a .png or .jpg file")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8)


def write_rgb(path: str | Path, rgb: Image) -> None:
    """Write a uint8 HxWx3 RGB picture in the format of the suffix; DataError when that fails."""
    check_picture_suffix(path)
    _write_image(check_writable(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def read_depth(path: str | Path) -> Depth:
    """Read a depth image as float32 HxW metres with NaN where it is invalid (0, negative, not finite).

    `.png`: 16 bit, one channel, millimetres. `.npy`: HxW floating point, metres. `.exr`: one channel, or
    one called Z or Y, metres. Raises DataError when the file is missing, of another kind, or has another
    number of channels.
    """
    file = _existing(path)
    reader = {".png": _read_png, ".npy": _read_npy, ".exr": read_exr_channel}[check_depth_suffix(file)]
    depth = reader(file)
    return np.where(valid_mask(depth), depth, np.nan).astype(np.float32)


def write_depth(path: str | Path, depth: npt.NDArray[np.floating]) -> None:
    """Write an HxW depth image (metres; NaN, infinite and not above 0 = invalid) in the format of the suffix.

    `.png`: 16-bit millimetres (see `to_millimetres`). `.npy` and `.exr`: float32 metres, invalid = NaN.
    Raises DataError on another suffix, on an array that is not HxW, or when the file cannot be written.
    """
    suffix = check_depth_suffix(path)
    file = check_writable(path)
    if depth.ndim != 2:
        raise DataError(f"{file}: a depth image is HxW, this array has the shape {depth.shape}")
    metres = np.where(valid_mask(depth), depth, np.nan).astype(np.float32)
    if suffix == ".png":
        _write_image(file, to_millimetres(metres))
    elif suffix == ".npy":
        try:
            with file.open("wb") as stream:
                np.save(stream, metres)
        except OSError as error:
            raise DataError(f"{file}: cannot be written: {error.strerror}") from error
    else:
        _write_exr(file, metres)


def to_millimetres(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
    """Metres to uint16 millimetres (REP 118): rounded, at most 65,535; invalid = 0."""
    valid = valid_mask(depth)
    millimetres = np.rint(np.where(valid, depth, 0).astype(np.float64) * 1000.0)
    return np.minimum(millimetres, _UINT16_MAX).astype(np.uint16)


def check_depth_suffix(path: str | Path) -> str:
    """The lower-case suffix of a depth file. Raises DataError unless it is one of DEPTH_SUFFIXES."""
    suffix = Path(path).suffix.lower()
    if suffix not in DEPTH_SUFFIXES:
        raise DataError(
            f"{path}: depth files end in .png (16-bit millimetres), .npy or .exr (metres), not {suffix!r}"
        )
    return suffix


def check_picture_suffix(path: str | Path) -> None:
    """Raise DataError unless OpenCV writes pictures of this suffix."""
    try:
        known = cv2.haveImageWriter(str(path))
    except cv2.error:  # of a format that this build has switched off, as .exr
        known = False
    if not known:
        raise DataError(f"{path}: OpenCV writes no {Path(path).suffix!r} pictures: use .png or .jpg")


def check_writable(path: str | Path) -> Path:
    """The path, when a file can be written there. Raises DataError otherwise."""
    file = Path(path)
    if not file.parent.is_dir():
        raise DataError(f"{file}: the folder {file.parent} does not exist: make it first")
    if file.is_dir():
        raise DataError(f"{file}: cannot be written: it is a folder")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise DataError(f"{file}: cannot be written: permission denied")
    return file


def make_folder(path: str | Path) -> Path:
    """The path as a folder to write into, made where it is none. Raises DataError where that fails."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise DataError(f"{folder}: nothing can be written there: permission denied")
    return folder


def _imread(file: Path, flags: int) -> npt.NDArray | None:
    try:
        return cv2.imread(str(file), flags)
    except cv2.error as error:  # more pixels than OpenCV takes
        raise DataError(f"{file}: OpenCV cannot read this picture: {error.err}") from error


def _read_png(file: Path) -> npt.NDArray:
    code = _imread(file, cv2.IMREAD_UNCHANGED)
    if code is None:
        raise DataError(f"{file}: not a PNG that OpenCV can read, or damaged")
    if code.ndim != 2:
        raise DataError(f"{file}: a depth PNG has one channel, this has {code.shape[2]}: give the raw one")
    if code.dtype != np.uint16:
        raise DataError(
            f"{file}: a depth PNG has 16 bits (millimetres), this holds {code.dtype}: give the raw one"
        )
    return code.astype(np.float32) * np.float32(0.001)


def _read_npy(file: Path) -> npt.NDArray:
    try:
        array = np.load(file, allow_pickle=False)
    except Exception as error:  # NumPy takes it for a pickle or a zip, parses its header, reserves memory
        raise DataError(f"{file}: not a readable .npy array, or damaged") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise DataError(f"{file}: a depth .npy holds HxW floating-point metres, this holds {found}")
    return array


def read_exr_channel(path: str | Path) -> npt.NDArray:
    """The only channel of an .exr, or the one called Z or Y, as it is: HxW floating point.

    Raises DataError when the file is missing or damaged, or has other channels.
    """
    file = _existing(path)
    openexr = _openexr()
    try:
        channels = openexr.File(str(file), separate_channels=True).channels()
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{file}: not a readable .exr file, or damaged") from error
    names = list(channels) if len(channels) == 1 else [name for name in ("Z", "Y") if name in channels]
    if not names:
        raise DataError(
            f"{file}: a depth .exr has one channel, or one called Z or Y, this has {', '.join(channels)}"
        )
    return np.asarray(channels[names[0]].pixels)


def _write_exr(file: Path, metres: Depth) -> None:
    openexr = _openexr()
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    try:
        openexr.File(header, {"Y": np.ascontiguousarray(metres)}).write(str(file))
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{file}: cannot be written: {error}") from error


def _openexr() -> Any:
    # imported here, so that .png and .npy files work without it
    try:
        import OpenEXR
    except ImportError as error:
        raise DataError(".exr files need the OpenEXR package: pip install OpenEXR") from error
    return OpenEXR


def _existing(path: str | Path) -> Path:
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    return file


def _write_image(file: Path, image: npt.NDArray) -> None:
    try:
        written = cv2.imwrite(str(file), image)
    except cv2.error as error:
        raise DataError(f"{file}: OpenCV cannot write this picture: {error.err}") from error
    if not written:
        raise DataError(f"{file}: cannot be written")
