# SPDX-License-Identifier: Apache-2.0
"""Counting FLOPs and bytes, against hand calculations and known figures of Depth Anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.config import VARIANTS, ModelConfig
from depth_sr_ros.cost import Cost, Operation, count
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.models.guide import DepthAnythingGuide
from depth_sr_ros.models.nafnet import Pointwise

FLOAT = 4  # bytes


def only(call: Callable[[], object]) -> Operation:
    """The one operation that `call` is counted as."""
    (found,) = count(call).operations
    return found


def frame(width: int, height: int) -> tuple[Tensor, Tensor]:
    """RGB and depth as DepthSRNet takes them."""
    rgb = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    return rgb, torch.ones(1, 1, height // 4, width // 4)


def challenge() -> DepthSRNet:
    net = DepthSRNet(VARIANTS["challenge"]).eval()
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@pytest.mark.parametrize(("groups", "kind"), [(1, "convolution"), (2, "convolution"), (6, "depthwise")])
def test_a_convolution(groups: int, kind: str) -> None:
    layer = nn.Conv2d(6, 12, 3, padding=1, stride=2, groups=groups)
    found = only(lambda: layer(torch.zeros(2, 6, 10, 8)))
    outputs = 2 * 12 * 5 * 4
    weights = 12 * (6 // groups) * 9
    assert (found.kind, found.shape, found.dtype) == (kind, (2, 12, 5, 4), "float32")
    assert found.flop == 2 * outputs * (6 // groups) * 9
    assert found.bytes == FLOAT * (2 * 6 * 10 * 8 + weights + 12 + outputs)


def test_a_transposed_convolution_counts_from_its_input() -> None:
    layer = nn.ConvTranspose2d(6, 4, 2, stride=2)
    found = only(lambda: layer(torch.zeros(1, 6, 5, 3)))
    assert found.kind == "convolution" and found.shape == (1, 4, 10, 6)
    assert found.flop == 2 * (5 * 3) * 6 * (4 * 2 * 2)


@pytest.mark.parametrize("layer", [nn.Linear(6, 10), nn.Linear(6, 10, bias=False)], ids=["bias", "none"])
def test_a_linear_layer(layer: nn.Linear) -> None:
    found = only(lambda: layer(torch.zeros(2, 7, 6)))
    bias = 0 if layer.bias is None else 10
    assert (found.kind, found.flop) == ("product", 2 * 14 * 6 * 10)
    assert found.bytes == FLOAT * (14 * 6 + 6 * 10 + bias + 14 * 10)


def test_a_pointwise_convolution_by_whatever_kernel() -> None:
    layer = Pointwise(6, 10)
    image = torch.zeros(1, 6, 5, 4).to(memory_format=torch.channels_last)
    found = only(lambda: layer(image))
    assert (found.flop, found.bytes) == (2 * 20 * 6 * 10, FLOAT * (20 * 6 + 60 + 10 + 20 * 10))


@pytest.mark.parametrize(
    "attend",
    [F.scaled_dot_product_attention, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu],
    ids=["as called", "as torch has chosen"],
)
def test_attention_is_one_operation_that_keeps_its_scores_to_itself(attend: Callable[..., object]) -> None:
    query, key, value = torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, 7, 8), torch.zeros(2, 3, 7, 8)
    found = only(lambda: attend(query, key, value))
    scores, values = 2 * 3 * 5 * 7 * 8, 2 * 3 * 5 * 7 * 8
    assert (found.kind, found.flop) == ("attention", 2 * (scores + values))
    assert found.bytes == FLOAT * (2 * query.numel() + key.numel() + value.numel())


def test_eager_attention_has_the_same_flops_and_more_bytes() -> None:
    query, key, value = (torch.zeros(1, 2, 40, 32) for _ in range(3))
    fused = count(lambda: F.scaled_dot_product_attention(query, key, value))
    eager = count(lambda: (query @ key.transpose(2, 3)).softmax(3) @ value)
    assert eager.flop == fused.flop
    assert eager.bytes == fused.bytes + 2 * FLOAT * (2 * 40 * 40)


def test_what_is_done_for_each_pixel_costs_nothing() -> None:
    image = torch.zeros(1, 4, 8, 8)
    layers = (
        lambda: image * 2 + image,
        lambda: F.layer_norm(image.permute(0, 2, 3, 1), (4,)),
        lambda: F.gelu(image).softmax(1).exp(),
        lambda: F.interpolate(image, (16, 16), mode="bilinear"),
        lambda: F.avg_pool2d(F.pixel_shuffle(image, 2), 2),
        lambda: image.mean(1),
        lambda: image.sum(dim=1, keepdim=True),
        lambda: torch.maximum(image, image),
        lambda: torch.max(image, image),
    )
    assert [count(layer).operations for layer in layers] == [()] * len(layers)


@pytest.mark.parametrize(
    "reduce",
    [
        lambda x: x.mean(dim=(2, 3), keepdim=True),
        lambda x: x.mean(dim=(-1, -2), dtype=torch.float32),
        lambda x: x.std(dim=(1, 2, 3), unbiased=False),
        lambda x: x.flatten(1).median(dim=1).values,
        lambda x: x.flatten(1).max(dim=1).values,
        lambda x: x.sum(),
    ],
    ids=["mean", "mean-from-the-end", "std", "median", "max", "sum"],
)
def test_a_reduction_over_the_image_reads_it_once(reduce: Callable[[Tensor], Tensor]) -> None:
    found = only(lambda: reduce(torch.zeros(2, 4, 6, 5)))
    assert (found.kind, found.flop, found.bytes) == ("reduction", 0, FLOAT * 2 * 4 * 6 * 5)


def test_small_products_for_each_pixel_stay_in_registers() -> None:
    small = count(lambda: torch.bmm(torch.zeros(100, 3, 9), torch.zeros(100, 9, 16)))
    assert (small.flop, small.bytes) == (2 * 100 * 3 * 9 * 16, 0)
    large = count(lambda: torch.bmm(torch.zeros(2, 3, 90), torch.zeros(2, 90, 16)))
    assert (large.flop, large.bytes) == (2 * 2 * 3 * 90 * 16, FLOAT * 2 * (270 + 1440 + 48))


def test_a_product_inside_of_a_call_that_fails_does_not_stay_counted() -> None:
    with pytest.raises(RuntimeError):
        count(lambda: torch.zeros(2, 3) @ torch.zeros(2, 3))
    assert count(lambda: torch.zeros(2, 3) @ torch.zeros(3, 2)).flop == 2 * 2 * 3 * 2


def test_alike_operations_are_grouped_and_nothing_is_lost() -> None:
    layer = nn.Linear(4, 4)
    cost = count(lambda: layer(layer(torch.zeros(3, 4))) + torch.zeros(3, 5) @ torch.zeros(5, 4))
    groups = cost.grouped()
    assert [group["number"] for group in groups] == [2, 1]
    assert sum(group["number"] * group["flop"] for group in groups) == cost.flop == 2 * (2 * 48 + 60)
    assert sum(group["number"] * group["bytes"] for group in groups) == cost.bytes


@pytest.fixture(scope="module")
def depth_anything() -> nn.Module:
    """Depth Anything Small without memory: shapes are all that is counted."""
    return DepthAnythingGuide.from_config().model.to("meta").eval()


# SPEC's figures for the published network, and what torch's own counter makes of them without attention.
@pytest.mark.parametrize(
    ("size", "gflop"), [((518, 518), 115.3), ((518, 686), 167.5), ((392, 518), 80.9), ((252, 336), 28.9)]
)
def test_depth_anything_small(depth_anything: nn.Module, size: tuple[int, int], gflop: float) -> None:
    cost = count(lambda: depth_anything(pixel_values=torch.empty(1, 3, *size, device="meta")))
    assert cost.flop / 1e9 == pytest.approx(gflop, abs=0.1)
    attention = sum(each.flop for each in cost.operations if each.kind == "attention")
    # 12 layers, 384 channels, a token for each patch of 14x14 and one more
    tokens = size[0] * size[1] // 14**2 + 1
    assert attention == 12 * 2 * 2 * tokens**2 * 384


def test_the_u_net_of_the_published_size() -> None:
    """About 40 GFLOP at 640x480, fifteen times 160x128."""
    config = ModelConfig(
        "wide",
        (20, 40, 80, 160, 320),
        encoder_blocks=(1, 1, 2, 4),
        middle_blocks=2,
        guide="depth_anything",
    )
    net, inputs = DepthSRNet(config).eval(), frame(160, 128)
    assert 15 * count(lambda: net(*inputs)).flop / 1e9 == pytest.approx(40, rel=0.03)


def test_the_count_of_a_network_is_that_of_its_layers() -> None:
    net, inputs = challenge(), frame(64, 64)
    by_layers = 0

    def hook(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal by_layers
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        by_layers += 2 * out.numel() * layer.weight[0].numel()

    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(hook)
    cost = count(lambda: net(*inputs))
    assert cost.flop == by_layers > 0
    # 13 blocks have channel attention, AdaIN takes four statistics at each of five levels
    assert sum(each.kind == "reduction" for each in cost.operations) == 13 + 4 * 5
    assert sum(each.kind == "depthwise" for each in cost.operations) == 13


def test_half_precision_has_the_flops_of_float32_and_fewer_bytes() -> None:
    net, inputs = challenge(), frame(64, 64)
    costs: dict[str, Cost] = {}
    for name in ("float32", "bfloat16"):
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16"):
            costs[name] = count(lambda: net(*inputs))
    assert costs["bfloat16"].flop == costs["float32"].flop
    assert 0.5 < costs["bfloat16"].bytes / costs["float32"].bytes < 0.65
    # stem and head stay in float32
    assert {each.dtype for each in costs["bfloat16"].operations if each.flop} == {"float32", "bfloat16"}
