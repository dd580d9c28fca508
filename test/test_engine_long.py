# SPDX-License-Identifier: Apache-2.0
"""Ten thousand frames whose sizes change all the time: the engine keeps nothing of them."""

from __future__ import annotations

import numpy as np
import pytest
from test_replay_long import resident_mb

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.models.native import is_built

FRAMES = {"native": 10_000, "torch": 2_000}
WARM_SHARE = 0.3
ALLOWED_MB = 15  # of 10,000 frames; one frame's maps are some megabytes

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]


@pytest.mark.parametrize("runtime", list(FRAMES))
def test_memory_does_not_grow_over_frames_of_changing_sizes(runtime: str) -> None:
    if runtime == "native" and not is_built():
        pytest.skip("the kernels are not built here")
    resolver = DepthSuperResolver(device="cpu", runtime=runtime, precision="float32")
    rng = np.random.default_rng(0)
    memory = []
    for _ in range(FRAMES[runtime]):
        height, width = rng.integers(48, 160, 2)
        factor = int(rng.choice((2, 4, 8)))
        rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
        depth = rng.uniform(0.5, 4, (height // factor, width // factor)).astype(np.float32)
        assert resolver(rgb, depth).shape == (height, width)
        memory.append(resident_mb())
    warm = int(WARM_SHARE * len(memory))
    grown = max(memory[warm:]) - max(memory[:warm])
    assert grown < ALLOWED_MB, f"{grown:.0f} MB more after {len(memory)} frames"
