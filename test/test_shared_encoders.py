# SPDX-License-Identifier: Apache-2.0
"""An evaluation that encodes once what its inputs have in common answers to the bit as one that does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_sr_ros.models import native
from depth_sr_ros.models.checkpoint import load_checkpoint, shipped_checkpoint
from depth_sr_ros.models.native import NativeNetwork
from depth_sr_ros.models.native_weights import EncoderWeights
from training.shared_encoders import SharedEncoders

pytestmark = pytest.mark.skipif(not native.is_built(), reason="there is no C++ compiler here")


@pytest.mark.parametrize("variant", ["edge", "fast", "challenge"])
def test_shared_features_change_no_answer(variant: str) -> None:
    net, _ = load_checkpoint(shipped_checkpoint(variant), "cpu")
    plain, shared = NativeNetwork(net, 1), SharedEncoders(net, 1)
    rng = np.random.default_rng(0)
    for size in ((64, 96), (96, 64), (64, 96)):
        depth = torch.from_numpy(rng.uniform(1, 3, (1, 1, *size)).astype(np.float32))
        guides = [None, 1 / depth, 1 / depth.roll(1, -1), depth.flip(-1)]
        rgb = torch.from_numpy(rng.integers(0, 256, (1, 3, *size), np.uint8))
        for scale in (4, 8):
            lr = torch.nn.functional.avg_pool2d(depth, scale)
            for guide in (*guides, *reversed(guides)):
                assert torch.equal(plain.upsample(rgb, lr, guide), shared.upsample(rgb, lr, guide))


def test_a_picture_and_its_guides_are_encoded_once_for_all_lr_depths(monkeypatch: pytest.MonkeyPatch) -> None:
    net, _ = load_checkpoint(shipped_checkpoint("fast"), "cpu")
    encoded: list[str] = []
    encode = NativeNetwork._encode

    def count(
        network: NativeNetwork, name: str, weights: EncoderWeights, x: torch.Tensor, sizes: list
    ) -> list[torch.Tensor]:
        encoded.append(name[:3].strip())
        return encode(network, name, weights, x, sizes)

    monkeypatch.setattr(NativeNetwork, "_encode", count)
    shared, rgb = SharedEncoders(net, 1), torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    rng = np.random.default_rng(0)
    depth = torch.from_numpy(rng.uniform(1, 3, (1, 1, 16, 24)).astype(np.float32))
    guide = 1 / torch.nn.functional.interpolate(depth, (64, 96), mode="nearest")
    for seed in range(3):
        lr = depth + 0.001 * torch.rand(depth.shape, generator=torch.Generator().manual_seed(seed))
        for given in (None, guide):
            shared.upsample(rgb, lr, given)
    assert encoded.count("rel") == 2 and encoded.count("lr") == 3
