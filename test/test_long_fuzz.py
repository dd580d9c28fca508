# SPDX-License-Identifier: Apache-2.0
"""Long: 2,000 malformed image messages through the codec: each is an array of its size or a FrameError."""

from __future__ import annotations

from array import array
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from depth_sr_ros.errors import FrameError
from depth_sr_ros.image_codec import DEPTH_ENCODINGS, RGB_ENCODINGS, depth_view, rgb_view

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ENCODINGS = [*RGB_ENCODINGS, *DEPTH_ENCODINGS, "", "yuv422", "8UC3", "32FC2"]
MESSAGES = st.builds(
    lambda height, width, encoding, big, step, data: SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=big, step=step, data=array("B", data)
    ),
    height=st.integers(0, 9),
    width=st.integers(0, 9),
    encoding=st.sampled_from(ENCODINGS),
    big=st.integers(0, 1),
    step=st.integers(0, 48),
    data=st.binary(max_size=400),
)


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MESSAGES)
def test_every_message_is_read_or_refused(message: SimpleNamespace) -> None:
    for view in (rgb_view, depth_view):
        try:
            pixels, _ = view(message)
        except FrameError as error:
            assert str(error)
            continue
        assert pixels.shape[:2] == (message.height, message.width)
        assert message.height * message.step <= len(message.data) + message.step
        assert pixels.dtype in (np.uint8, np.uint16, np.float32)
