# SPDX-License-Identifier: Apache-2.0
"""What a CUDA device must show; skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_sr_ros import DepthSuperResolver
from training.config import TrainConfig
from training.data.batches import BatchMaker

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (480, 640, 3), np.uint8)
DEPTH = (RNG.random((120, 160)) * 2 + 1).astype(np.float32)


@pytest.mark.parametrize(
    ("precision", "relative"), [("float32", 1e-3), ("float16", 1e-2), ("bfloat16", 2e-2)]
)
def test_the_gpu_agrees_with_the_cpu(precision: str, relative: float) -> None:
    expected = DepthSuperResolver(device="cpu", precision="float32")(RGB, DEPTH)
    got = DepthSuperResolver(device="cuda", precision=precision)(RGB, DEPTH)
    assert np.median(np.abs(got - expected) / expected) < relative


def test_auto_chooses_the_gpu_in_half_precision() -> None:
    engine = DepthSuperResolver()
    assert engine.device.startswith("cuda")
    assert "float16" in engine.description


def test_batches_made_on_the_gpu_follow_from_seed_and_step() -> None:
    config = TrainConfig.from_dict(
        {
            "model": {"variant": "edge"},
            "data": {"sources": [{"kind": "procedural"}], "crop": [128, 128], "batch_size": 4},
            "optim": {"steps": 500},
        }
    )
    maker = BatchMaker(config, "cuda")
    first, again = maker(3), maker(3)
    assert first["rgb"].is_cuda
    for name in ("rgb", "depth", "depth_lr"):
        torch.testing.assert_close(first[name], again[name], equal_nan=True)
