# SPDX-License-Identifier: Apache-2.0
"""Depth written back as a CompressedImage: in the manner of the message that it replaces."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from depth_sr_ros.compressed_codec import decode_depth, encode_depth
from depth_sr_ros.errors import FrameError


def depth(far: float = 30.0) -> np.ndarray:
    """float32 24x32 metres from 0.3 to `far`, with holes of each kind."""
    metres = np.geomspace(0.3, far, 24 * 32, dtype=np.float32).reshape(24, 32)
    metres[0, :4] = np.nan, 0, -1, np.inf
    return metres


def like(encoding: str, stored: str) -> SimpleNamespace:
    """A message of that format; only what its data start with matters."""
    png = cv2.imencode(".png", np.ones((4, 4), np.uint16))[1].ravel()
    header = np.frombuffer(struct.pack("<iff", 0, 1.0, 0.0), np.uint8)
    data = np.concatenate([header, png]) if "compressedDepth" in stored else png
    return SimpleNamespace(format=f"{encoding}; {stored}" if stored else encoding, data=data)


def read_back(metres: np.ndarray, message: SimpleNamespace) -> tuple[str, np.ndarray]:
    kind, data = encode_depth(metres, message)
    pixels, unit = decode_depth(SimpleNamespace(format=kind, data=data))
    out = pixels.astype(np.float64) * unit
    return kind, np.where(out > 0, out, np.nan)


@pytest.mark.parametrize(
    ("encoding", "stored", "kind"),
    [
        ("16UC1", "png compressed ", "16UC1; png compressed "),
        ("png", "", "png"),
        ("16UC1", "compressedDepth", "16UC1; compressedDepth png"),
        ("mono16", "compressedDepth rvl", "mono16; compressedDepth png"),
    ],
)
def test_millimetres_come_back_to_half_a_millimetre(encoding: str, stored: str, kind: str) -> None:
    metres = depth()
    written, back = read_back(metres, like(encoding, stored))
    assert written == kind
    assert np.isnan(back[0, :4]).all() and np.isfinite(back).sum() == back.size - 4
    np.testing.assert_allclose(back.ravel()[4:], metres.ravel()[4:], atol=0.000501)


@pytest.mark.parametrize("far", [0.3, 0.300001, 5.0, 300.0])
def test_metres_come_back_to_a_code_of_their_own_range(far: float) -> None:
    metres = depth(far)
    kind, back = read_back(metres, like("32FC1", "compressedDepth png"))
    assert kind == "32FC1; compressedDepth png"
    assert np.isnan(back[0, :4]).all()
    # A step of the code is a step of inverse depth, so the error grows with the square of the distance.
    allowed = np.square(metres.ravel()[4:]) / 0.3 / 65534 + 1e-6
    assert (np.abs(back.ravel()[4:] - metres.ravel()[4:]) < allowed).all()


def test_a_frame_without_depth_stays_one() -> None:
    for message in (like("32FC1", "compressedDepth png"), like("16UC1", "png compressed ")):
        assert np.isnan(read_back(np.full((3, 5), np.nan, np.float32), message)[1]).all()


def test_what_is_no_depth_is_refused() -> None:
    with pytest.raises(FrameError, match="the depth format is 'bgr8; jpeg compressed bgr8'"):
        encode_depth(depth(), like("bgr8", "jpeg compressed bgr8"))
