# SPDX-License-Identifier: Apache-2.0
"""Decodes RVL, the lossless depth compression of A. D. Wilson (ISS 2017), without a loop over pixels."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_sr_ros.errors import FrameError

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

_SIZE = struct.Struct("<II")  # columns, rows
SIZE_BYTES = _SIZE.size
_MAX_BYTES_PER_PIXEL = 3
_MAX_ZIGZAG = 2 * 65535
_TOO_LARGE = 0xFFFFFFFF
_BLOCK = 1 << 16  # small enough that what is computed of it stays in the processor's cache
_STEPS = 2048  # in Python, 0.1 ms


def rvl_size(body: Bytes) -> tuple[int, int]:
    """Width and height that the first SIZE_BYTES of `body` (uint8, at least so many) say."""
    width, height = _SIZE.unpack_from(body.data)
    return width, height


def decode_rvl(body: Bytes, width: int, height: int) -> npt.NDArray[np.uint16]:
    """Pixels (height x width) of an RVL stream behind its size; the caller has checked that the size is sane.

    The stream holds runs of zeros, and of differences between the depths that are not zero. Where a number
    lies depends on all before it. So each is read first, then told what it means.

    Raises FrameError where the stream does not hold just the pixels of its size.
    """
    count = width * height
    numbers = _numbers(body[_SIZE.size :][: _MAX_BYTES_PER_PIXEL * count + 16])
    starts = _run_starts(numbers)
    zeros, nonzeros = numbers[starts].astype(np.int64), numbers[starts + 1].astype(np.int64)
    covered = np.cumsum(zeros + nonzeros)
    used = int(np.searchsorted(covered, count)) + 1
    end = int(starts[used - 1] + 2 + nonzeros[used - 1]) if used <= len(starts) else len(numbers) + 1
    if end > len(numbers) or covered[used - 1] != count:
        raise FrameError(f"the RVL depth's {body.size} bytes do not hold just its {width}x{height} pixels")
    is_difference = np.ones(end, bool)
    is_difference[starts[:used]] = is_difference[starts[:used] + 1] = False
    # By index, not by mask: half the time on a frame full of holes.
    zigzag = numbers[np.flatnonzero(is_difference)]
    if zigzag.max(initial=0) > _MAX_ZIGZAG:
        raise FrameError(f"the RVL depth has {zigzag.max()} for a difference, above {_MAX_ZIGZAG}")
    # Modulo 2^16, as the pixels are: a negative difference needs no sign.
    differences = ((zigzag >> 1) ^ (np.uint32(0) - (zigzag & 1))).astype(np.uint16)
    is_valid = np.repeat(np.tile([False, True], used), np.stack([zeros, nonzeros], axis=1)[:used].ravel())
    pixels = np.zeros(count, np.uint16)
    pixels[np.flatnonzero(is_valid)] = np.cumsum(differences, dtype=np.uint16)
    return pixels.reshape(height, width)


def _numbers(stream: Bytes) -> npt.NDArray[np.uint32]:
    """All whole numbers in an RVL stream: 3 bits a nibble, the low ones first, the high bit set in all but
    the last nibble. Past 8 nibbles: _TOO_LARGE."""
    # Nibbles fill words from their high end; words are stored with the low byte first.
    words = stream[: stream.size // 4 * 4].view("<u4").astype(">u4").view(np.uint8)
    count = 2 * words.size
    # A zero before, for the first number to start behind; zeros after, to end what the stream leaves open.
    nibbles = np.zeros(1 + count + 8, np.uint8)
    np.right_shift(words, 4, out=nibbles[1 : count + 1 : 2])
    np.bitwise_and(words, 15, out=nibbles[2 : count + 2 : 2])
    blocks = [_block(nibbles[at : at + _BLOCK + 9]) for at in range(0, count, _BLOCK)]
    numbers = np.concatenate([np.empty(0, np.uint32), *blocks])
    return numbers[:-1] if nibbles[count] > 7 else numbers


def _block(nibbles: Bytes) -> npt.NDArray[np.uint32]:
    """The numbers that start behind the first nibble and before the last 8."""
    more = nibbles > 7
    starts = np.flatnonzero(~more[:-9])
    # The number that starts at each nibble, as far as 2, 4, then 8 nibbles tell it.
    two, more_than_two = _joined(nibbles[1:] & 7, more[1:], 1, np.uint8)
    four, more_than_four = _joined(two, more_than_two, 2, np.uint16)
    eight, more_than_eight = _joined(four, more_than_four, 4, np.uint32)
    eight[more_than_eight] = _TOO_LARGE
    return eight[starts]


def _joined(low: Array, more: Array, size: int, dtype: type) -> tuple[Array, Array]:
    """Numbers of up to 2 * `size` nibbles from those of up to `size`; `more`: whether the number goes on."""
    joined: Array = low[size:].astype(dtype)
    joined <<= 3 * size
    joined *= more[:-size]
    joined |= low[:-size]
    return joined, more[:-size] & more[size:]


def _run_starts(numbers: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
    """Where runs start: at 0, then behind each run's two counts (zeros, differences) and its differences."""
    blocks, at = [np.empty(0, np.intp)], 0
    while at < len(numbers) - 1:
        blocks.append(at + _chain(numbers[at + 1 : at + 1 + _BLOCK]))
        last = int(blocks[-1][-1])
        at = last + 2 + int(numbers[last + 1])
    return np.concatenate(blocks)


def _chain(differences: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
    """The places i from 0 on, each followed by i + 2 + differences[i], as far as they lie in the block.

    Up to _STEPS places are found in Python. More are found in longer jumps, each made of two of the
    level before, and the places jumped over are put back.
    """
    size = len(differences)
    jump = np.arange(2, size + 3)
    jump[:size] += differences
    levels = [np.minimum(jump, size, out=jump)]
    while True:
        found: list[int] = []
        at, jump_from = 0, levels[-1].data
        while at < size and len(found) < _STEPS:
            found.append(at)
            at = jump_from[at]
        if at >= size:
            break
        levels.append(levels[-1][levels[-1]])
    starts = np.array(found, np.intp)
    for level in reversed(levels[:-1]):
        starts = np.stack([starts, level[starts]], axis=1).ravel()
    return starts[starts < size]
