# SPDX-License-Identifier: Apache-2.0
"""The network's weights in the order of the kernels of `native/`: in panels of outputs, scales folded in."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.models.back_projection import BackProjection
from depth_sr_ros.models.fusion_unet import Encoder
from depth_sr_ros.models.kernel_head import INITIAL_COLOUR_SHARPNESS, KernelHead
from depth_sr_ros.models.nafnet import NAFBlock, NAFStage
from depth_sr_ros.models.propagation import Propagation

PANEL = 16  # outputs that the kernels take together


def padded(count: int) -> int:
    """The next multiple of PANEL: how many floats a pixel of so many channels takes in a map."""
    return -(-count // PANEL) * PANEL


class Pointers:
    """Weights as the kernels take them, kept alive beside their addresses."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = [t.detach().float().contiguous() for t in tensors]
        self.array = (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in self.tensors))


class Convolution:
    """A convolution of pixels `pitch` floats apart, its answer times `scale`; `outputs` as in memory."""

    def __init__(self, layer: nn.Conv2d, pitch: int, scale: float = 1.0) -> None:
        self.kernel, self.outputs = layer.kernel_size[0], padded(layer.out_channels)
        # (out, in, rows, columns) -> (out, rows, columns, in): what is beside each other in a map's row.
        weight = F.pad(layer.weight.permute(0, 2, 3, 1), (0, pitch - layer.in_channels)).flatten(1)
        assert layer.bias is not None
        self.pointers = Pointers(*_product(weight * scale, layer.bias * scale))


class EncoderWeights:
    """One path of the U-Net."""

    def __init__(self, encoder: Encoder) -> None:
        self.stem = Convolution(encoder.stem, encoder.stem.in_channels)
        self.stages = [stage_weights(stage) for stage in encoder.stages]
        downs = [down for down in encoder.downs if isinstance(down, nn.Conv2d)]
        self.downs = [Convolution(down, padded(down.in_channels)) for down in downs]


class BlockWeights(Pointers):
    """A NAFNet block, in the order of native.cpp's `Block`. What scales a product is in its weights."""

    def __init__(self, block: NAFBlock) -> None:
        beta, gamma = block.beta.flatten(), block.gamma.flatten()
        self.channels = len(beta)
        expansions = []
        for layer, norm in ((block.expand, block.norm1), (block.expand2, block.norm2)):
            weight, bias = layer.weight * norm.weight, layer.bias + layer.weight @ norm.bias
            expansions.append((_panels(_halves(weight)), _halves(bias)))
        assert block.depthwise.bias is not None
        super().__init__(
            *expansions[0],
            _halves(block.depthwise.weight.flatten(1)).t(),
            _halves(block.depthwise.bias),
            block.attention.weight,
            block.attention.bias,
            *_product(block.project.weight * beta[:, None], block.project.bias * beta),
            *expansions[1],
            *_product(block.project2.weight * gamma[:, None], block.project2.bias * gamma),
        )


def _with_zeros(weight: Tensor) -> Tensor:
    """(outputs, ...) with outputs of zeros up to a multiple of PANEL."""
    zeros = weight.new_zeros(padded(len(weight)) - len(weight), *weight.shape[1:])
    return torch.cat([weight, zeros])


def _halves(weight: Tensor) -> Tensor:
    """(outputs, ...) whose halves a gate multiplies, each half `_with_zeros`."""
    return torch.cat([_with_zeros(half) for half in weight.chunk(2)])


def _panels(weight: Tensor) -> Tensor:
    """(outputs, inputs) -> [outputs, padded / PANEL][inputs][PANEL]."""
    return _with_zeros(weight).unflatten(0, (-1, PANEL)).transpose(1, 2)


def _product(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (outputs, inputs) and bias (outputs,) of a matrix product as the kernels take them."""
    return _panels(weight), _with_zeros(bias)


def stage_weights(stage: nn.Module) -> list[BlockWeights]:
    """Its blocks' weights, the first block first."""
    assert isinstance(stage, NAFStage)
    return [BlockWeights(block) for block in stage.blocks if isinstance(block, NAFBlock)]


class UpsampleWeights(Pointers):
    """(4 C', C), whose outputs PixelShuffle(2) distributes, as four layers: one for each subpixel."""

    def __init__(self, weight: Tensor) -> None:
        layers = weight.unflatten(0, (-1, 4)).transpose(0, 1)
        self.inputs, self.outputs = weight.shape[1], padded(layers.shape[1])
        super().__init__(torch.stack([_panels(layer) for layer in layers]))


def kernel_head_weights(head: KernelHead) -> Pointers:
    """Gates, shift and sharpness as one layer; the logits, a neighbour's pixels together."""
    offset = head.cell.bias.new_tensor([0.0, INITIAL_COLOUR_SHARPNESS])
    cell = torch.cat([head.gate.weight, head.cell.weight])
    bias = torch.cat([head.gate.bias, head.cell.bias + offset])
    return Pointers(*_product(cell, bias), *_product(*head.logit_layer()))


def step_weights(layers: Propagation) -> list[Pointers]:
    """The logits, those of all steps, beside each step's gates and sharpness, one layer."""
    pixels = layers.unshuffle**2
    gates, gate_bias = layers.gate.weight.split(pixels), layers.gate.bias.split(pixels)
    steps = []
    for i in range(len(layers.dilations)):
        weight = torch.cat([gates[i], layers.sharpness.weight[i : i + 1]])
        sharpness = layers.sharpness.bias[i : i + 1] + INITIAL_COLOUR_SHARPNESS
        bias = torch.cat([gate_bias[i], sharpness])
        logits = _product(layers.logits.weight, layers.logits.bias)
        steps.append(Pointers(*logits, *_product(weight, bias)))
    return steps


def share_weights(layers: BackProjection) -> Pointers:
    """In the order of native.cpp's `Shares`."""
    return Pointers(
        *_product(layers.features.weight, layers.features.bias),
        layers.residual.weight.flatten(1).t(),
        *_product(layers.share.weight, layers.share.bias),
    )
