# SPDX-License-Identifier: Apache-2.0
"""NAFNet blocks: parameter count, identity at the start, attention over real pixels only."""

from __future__ import annotations

import pytest
import torch

from depth_sr_ros.models.nafnet import LayerNorm2d, NAFBlock, Pointwise, downsample, upsample


@pytest.mark.parametrize("channels", [8, 28])
def test_block_has_7c2_plus_33c_parameters(channels: int) -> None:
    count = sum(p.numel() for p in NAFBlock(channels).parameters())
    assert count == 7 * channels**2 + 33 * channels


def test_a_new_block_is_the_identity() -> None:
    x = torch.randn(2, 8, 12, 10)
    assert torch.equal(NAFBlock(8)(x, (12, 10)), x)


def _trained_like_block() -> NAFBlock:
    torch.manual_seed(0)
    block = NAFBlock(8)
    torch.nn.init.normal_(block.beta)
    torch.nn.init.normal_(block.gamma)
    return block


def test_block_statistics_leave_the_padding_out() -> None:
    block = _trained_like_block()
    x = torch.randn(1, 8, 16, 16)
    changed = x.clone()
    # From 13 on: the depthwise 3x3 of a real pixel may look one pixel into the padding.
    changed[..., 13:, :] = 50.0
    changed[..., :, 13:] = -50.0
    expected = block(x, (12, 12))[..., :12, :12]
    torch.testing.assert_close(block(changed, (12, 12))[..., :12, :12], expected)
    assert not torch.allclose(block(changed, (16, 16))[..., :12, :12], expected)


def test_layer_norm_is_per_pixel_over_channels() -> None:
    norm = LayerNorm2d(6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 3, 4) * 5 + 2
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    expected = (x - mean) / torch.sqrt(var + 1e-6) * norm.weight.view(1, -1, 1, 1) + norm.bias.view(
        1, -1, 1, 1
    )
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_pointwise_equals_a_1x1_convolution(bias: bool, inference: bool) -> None:
    layer = Pointwise(5, 7, bias=bias)
    x = torch.randn(2, 5, 6, 8).contiguous(memory_format=torch.channels_last)
    expected = torch.nn.functional.conv2d(x, layer.weight[:, :, None, None], layer.bias)
    with torch.inference_mode(inference):
        torch.testing.assert_close(layer(x), expected)


def test_down_and_up_halve_and_double() -> None:
    x = torch.randn(1, 8, 12, 20)
    assert downsample(8, 16)(x).shape == (1, 16, 6, 10)
    assert upsample(8, 4)(x).shape == (1, 4, 24, 40)
    assert all(name.endswith("weight") for name, _ in upsample(8, 4).named_parameters())
