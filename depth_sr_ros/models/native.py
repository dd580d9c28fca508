# SPDX-License-Identifier: Apache-2.0
"""The network on the CPU kernels of `native/`: what the torch modules compute, in fewer passes over memory.

The kernels are a shared library that the installation builds where it finds a C++ compiler; where it found
none, `library` says so and the engine stays with torch.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.machinery
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.config import ModelConfig
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.models.back_projection import LEAST_SHARE, BackProjection
from depth_sr_ros.models.confidence import confidence_of
from depth_sr_ros.models.depth_sr import DepthSRNet, LRInput, known_depth
from depth_sr_ros.models.fusion_unet import LEVELS_MULTIPLE, Encoder
from depth_sr_ros.models.kernel_head import INITIAL_COLOUR_SHARPNESS, LOGIT_RANGE, KernelHead
from depth_sr_ros.models.nafnet import NAFBlock, NAFStage
from depth_sr_ros.models.normalization import CORRECTION, MIN_DEPTH_M, DepthNormalizer
from depth_sr_ros.models.propagation import Propagation

FOLDER, MODULE = Path(__file__).resolve().parents[1], "_native"
PANEL = 16  # outputs that the kernels take together
CELL_SIDE = 4  # pixels
CELL_FLOATS = 48  # of the kernel head's scratch memory
INTERFACE = 2  # of native.cpp's functions
_P, _I, _L, _F = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_float
# The arguments of native.cpp's functions.
SIGNATURES = {
    "dsr_naf_block": [_P, _P, _P, _P, *[_I] * 6],
    "dsr_convolve": [_P, _I, _I, _I, _I, _P, _P, _I, _P, _I, _P, _I],
    "dsr_upsample": [_P, _I, _I, _I, _P, _I, _P, _I],
    "dsr_fuse": [_P, _P, _P, _P, *[_I] * 7],
    "dsr_kernel_head": [_P, _F, _F, _P, _P, _P, _I, _I, _I, _F, _I, _F, _F, _F, _P, _P, _I, _I, _I],
    "dsr_propagate": [_P, _F, _F, _P, _P, _L, _L, _L, _P, *[_I] * 7, _P, _I],
    "dsr_back_project": [_P, _F, *[_P] * 6, *[_I] * 5, _F, _F, _F, _F, _I, _I, _I, _P, _I],
    "dsr_cells_of_bytes": [_P, _L, _L, _I, _I, _P, _I, _I, _I, _I],
    "dsr_lr_cells": [_P, _P, _P, _P, _P, _I, _I, _I, _I, _I, _F, _F, _F, _P, _I, _I, _I],
}
INSTRUCTION_SETS = ("avx512", "avx2", "baseline")


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels; ConfigError where the installation built none, or they cannot be loaded."""
    names = [FOLDER / (MODULE + suffix) for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    path = next((name for name in names if name.is_file()), None)
    if path is None:
        raise ConfigError(
            "the CPU kernels were not built, since the installation found no C++ compiler; install g++ and "
            "install depth_sr_ros again, or set the runtime to 'torch'"
        )
    try:
        loaded = ctypes.CDLL(str(path))
        if loaded.dsr_interface() != INTERFACE:
            raise OSError(f"its interface is {loaded.dsr_interface()}, not {INTERFACE}")
        for name, arguments in SIGNATURES.items():
            function = getattr(loaded, name)
            function.argtypes, function.restype = arguments, None
        for name in ("dsr_instruction_set", "dsr_sources"):
            getattr(loaded, name).restype = ctypes.c_char_p
    except (OSError, AttributeError) as error:  # a damaged file, a missing library, an older build
        raise ConfigError(
            f"the CPU kernels in {path} cannot be used: {error}; install depth_sr_ros again, or set the "
            "runtime to 'torch'"
        ) from error
    return loaded


def is_built() -> bool:
    """Whether the installation built kernels that can be loaded."""
    try:
        library()
    except ConfigError:
        return False
    return True


def instruction_set() -> str:
    """Which of INSTRUCTION_SETS the kernels use; raises ConfigError where there are none."""
    return str(library().dsr_instruction_set().decode())


def use_instruction_set(name: str) -> None:
    """Take the kernels of another instruction set, or of the `best`; for tests.

    Raises ConfigError where the processor has it not.
    """
    if not library().dsr_use_instruction_set(name.encode()):
        raise ConfigError(f"this processor has no {name}")


def why_unsupported(config: ModelConfig) -> str:
    """Why the kernels cannot run such a network; empty where they can."""
    if config.guide != "none":
        return "it has a guide"
    if config.normalization == "fixed":
        return "its depth is clipped to a fixed range"
    if config.unshuffle != CELL_SIDE:
        return f"its cells have {config.unshuffle} pixels a side instead of {CELL_SIDE}"
    wrong = [c for c in config.channels if c % PANEL]
    return f"its {wrong[0]} channels are not a multiple of {PANEL}" if wrong else ""


class NativeNetwork:
    """A `DepthSRNet` whose float32 inference runs on the kernels; `threads` of them, besides torch's own.

    It keeps its memory from frame to frame, and its own copy of the weights. Not thread-safe. Raises
    ConfigError where the kernels were not built or cannot run this network.
    """

    def __init__(self, net: DepthSRNet, threads: int) -> None:
        reason = why_unsupported(net.config)
        if reason:
            raise ConfigError(f"the CPU kernels cannot run {net.config.variant!r}: {reason}; use 'torch'")
        unet = net.unet
        self._net = net
        self._library = library()
        self._threads = threads
        self._rel, self._lr = _EncoderWeights(unet.rel_encoder), _EncoderWeights(unet.lr_encoder)
        self._middle = _stage_weights(unet.middle)
        self._decoder = [_stage_weights(stage) for stage in unet.decoder]
        self._ups = [_upsample_weights(next(up.parameters())) for up in unet.ups]
        self._head = _Convolution(unet.head, CORRECTION[net.config.normalization])
        self._kernel_head = None if net.kernel_head is None else _kernel_head_weights(net.kernel_head)
        self._steps = [] if net.propagation is None else _step_weights(net.propagation)
        self._shares = None if net.back_projection is None else _share_weights(net.back_projection)
        self._memory: dict[str, Tensor] = {}
        self._sizes: tuple[Any, ...] = ()
        self._lr_size: tuple[int, int] | None = None
        self._nearest: list[Tensor] = []  # of rows and of columns

    @torch.inference_mode()
    def upsample(self, rgb: Tensor, depth_lr: Tensor) -> Tensor:
        """As `DepthSRNet.upsample`: uint8 (1, 3, H, W) and metres (1, 1, h, w) -> metres (1, 1, H, W)."""
        return known_depth(self._answer(rgb, depth_lr)[0], depth_lr)

    @torch.inference_mode()
    def upsample_with_confidence(self, rgb: Tensor, depth_lr: Tensor) -> tuple[Tensor, Tensor]:
        """As `DepthSRNet.upsample_with_confidence`, for one image."""
        head = self._net.confidence_head
        assert head is not None
        depth, features = self._answer(rgb, depth_lr)
        # Small products for each cell, by torch: while nobody listens to it, nothing is computed.
        log_scale = head(features.permute(2, 0, 1)[None], depth)
        return known_depth(depth, depth_lr), known_depth(confidence_of(log_scale), depth_lr)

    def _answer(self, rgb: Tensor, depth_lr: Tensor) -> tuple[Tensor, Tensor]:
        """Depth (1, 1, H, W) and the features (h, w, C) behind it, which the next frame overwrites."""
        size = (rgb.shape[2], rgb.shape[3])
        # Maps of one size are kept; a stream rarely changes it, and two sets would double the memory.
        if size != self._sizes:
            self._memory.clear()
            self._sizes, self._lr_size = size, None
        seen = LRInput.from_depth(depth_lr.float(), self._net.config)
        # The answer is the caller's: it must not lie in memory that the next frame takes.
        return self._depth(rgb, seen, size, torch.empty(1, 1, *size, dtype=torch.float32, device="cpu"))

    def _depth(self, rgb: Tensor, seen: LRInput, size: tuple[int, int], out: Tensor) -> tuple[Tensor, Tensor]:
        sizes = [(-(-size[0] // s), -(-size[1] // s)) for s in (CELL_SIDE << i for i in range(5))]
        height, width = (-(-side // LEVELS_MULTIPLE) * LEVELS_MULTIPLE for side in sizes[0])
        pixels = self._map("rgb cells", height, width, 3 * CELL_SIDE**2)
        self._rgb_cells(rgb, pixels)
        lr = self._map("lr cells", height, width, 3 * CELL_SIDE**2)
        unit = _unit(seen.normalizer)
        self._lr_cells(seen, size, unit, lr)
        rel_features = self._encode("rel", self._rel, pixels, sizes)
        lr_features = self._encode("lr", self._lr, lr, sizes)
        x = self._fuse(rel_features[4], lr_features[4], None, sizes[4])
        x = self._stage("middle", self._middle, x, sizes[4])
        for level in reversed(range(4)):
            up = self._upsample(level, x)
            x = self._fuse(rel_features[level], lr_features[level], up, sizes[level])
            x = self._stage(f"decoder {level}", self._decoder[level], x, sizes[level])
        # The first plane of `lr` is the depth that the network corrects.
        depth = self._convolve("head", self._head, x, residual=lr)
        if self._kernel_head is None:
            depth = F.pixel_shuffle(depth.permute(2, 0, 1)[None], CELL_SIDE)[..., : size[0], : size[1]]
            out = seen.normalizer.denormalize(depth).contiguous()
        else:
            self._mix(self._kernel_head, x, pixels, depth, unit, out)
        self._propagate(x, rgb, out)
        if self._shares is not None:
            self._back_project(self._shares, x, out, seen, unit)
        return out, x

    def _map(self, name: str, height: int, width: int, channels: int) -> Tensor:
        """Memory for a map (height, width, channels), its own for each name."""
        found = self._memory.get(name)
        if found is None:
            found = self._memory[name] = torch.empty(
                height, width, channels, dtype=torch.float32, device="cpu"
            )
        return found

    def _rgb_cells(self, rgb: Tensor, out: Tensor) -> None:
        """(1, 3, H, W) uint8 of any strides."""
        for i, plane in enumerate(rgb[0]):
            self._library.dsr_cells_of_bytes(
                plane.data_ptr(),
                *plane.stride(),
                *plane.shape,
                out[0, 0, CELL_SIDE**2 * i :].data_ptr(),
                *out.shape,
                self._threads,
            )

    def _lr_cells(self, seen: LRInput, size: tuple[int, int], unit: _Unit, out: Tensor) -> None:
        planes = [plane.contiguous() for plane in (seen.filled, seen.detail, seen.mask)]
        lr_size = (seen.mask.shape[2], seen.mask.shape[3])
        if lr_size != self._lr_size:
            self._lr_size = lr_size
            self._memory.pop("residuals", None)
            self._nearest = [_nearest(outer, inner) for outer, inner in zip(size, lr_size, strict=True)]
        self._library.dsr_lr_cells(
            *(plane.data_ptr() for plane in planes),
            *(index.data_ptr() for index in self._nearest),
            *lr_size,
            *size,
            *unit,
            out.data_ptr(),
            *out.shape[:2],
            self._threads,
        )

    def _encode(
        self, name: str, weights: _EncoderWeights, x: Tensor, sizes: list[tuple[int, int]]
    ) -> list[Tensor]:
        x = self._convolve(f"{name} stem", weights.stem, x)
        features = []
        for i, (blocks, down) in enumerate(zip(weights.stages, weights.downs, strict=True)):
            x = self._stage(f"{name} {i}", blocks, x, sizes[i])
            features.append(x)
            x = self._convolve(f"{name} down {i}", down, x)
        return [*features, x]

    def _stage(self, name: str, blocks: list[_Pointers], x: Tensor, size: tuple[int, int]) -> Tensor:
        height, width, channels = x.shape
        gated = self._map(f"gated {height}", *x.shape)
        for i, block in enumerate(blocks):
            out = self._map(f"{name} {i}", *x.shape)
            self._library.dsr_naf_block(
                block.array,
                x.data_ptr(),
                out.data_ptr(),
                gated.data_ptr(),
                height,
                width,
                *size,
                channels,
                self._threads,
            )
            x = out
        return x

    def _convolve(self, name: str, layer: _Convolution, x: Tensor, residual: Tensor | None = None) -> Tensor:
        height, width, channels = x.shape
        stride = 2 if layer.kernel == 2 else 1
        out = self._map(name, height // stride, width // stride, layer.outputs)
        self._library.dsr_convolve(
            x.data_ptr(),
            height,
            width,
            channels,
            layer.kernel,
            *layer.pointers.array,
            layer.outputs,
            None if residual is None else residual.data_ptr(),
            0 if residual is None else residual.shape[2],
            out.data_ptr(),
            self._threads,
        )
        return out

    def _upsample(self, level: int, x: Tensor) -> Tensor:
        height, width, channels = x.shape
        weights = self._ups[level]
        outputs = weights.tensors[0].shape[1] * PANEL
        out = self._map(f"up {level}", 2 * height, 2 * width, outputs)
        self._library.dsr_upsample(
            x.data_ptr(), height, width, channels, *weights.array, outputs, out.data_ptr(), self._threads
        )
        return out

    def _fuse(self, rel: Tensor, lr: Tensor, up: Tensor | None, size: tuple[int, int]) -> Tensor:
        height, width, channels = rel.shape
        out = self._map(f"fused {height}", *rel.shape)
        self._library.dsr_fuse(
            rel.data_ptr(),
            lr.data_ptr(),
            None if up is None else up.data_ptr(),
            out.data_ptr(),
            height,
            width,
            *size,
            channels,
            int(self._net.config.fusion == "adain"),
            self._threads,
        )
        return out

    def _mix(
        self, weights: _Pointers, features: Tensor, pixels: Tensor, depth: Tensor, unit: _Unit, out: Tensor
    ) -> None:
        height, width, channels = features.shape
        cells = self._map("kernel head", height, width, CELL_FLOATS)
        self._library.dsr_kernel_head(
            weights.array,
            *LOGIT_RANGE,
            features.data_ptr(),
            pixels.data_ptr(),
            depth.data_ptr(),
            height,
            width,
            channels,
            CORRECTION[self._net.config.normalization],
            *unit,
            cells.data_ptr(),
            out.data_ptr(),
            *out.shape[2:],
            self._threads,
        )

    def _propagate(self, features: Tensor, rgb: Tensor, depth: Tensor) -> None:
        """Changes `depth` where it lies."""
        height, width = depth.shape[2:]
        dilations = self._net.config.propagation
        margin = max(dilations, default=0)
        pitch = -(-width // PANEL) * PANEL + 2 * margin
        for step, (weights, dilation) in enumerate(zip(self._steps, dilations, strict=True)):
            self._library.dsr_propagate(
                weights.array,
                *LOGIT_RANGE,
                features.data_ptr(),
                rgb.data_ptr(),
                *rgb.stride()[1:],
                depth.data_ptr(),
                height,
                width,
                dilation,
                margin,
                int(step == 0),
                *features.shape[1:],
                self._map("propagation", 4, height + 2 * margin, pitch).data_ptr(),
                self._threads,
            )

    def _back_project(
        self, weights: _Pointers, features: Tensor, depth: Tensor, seen: LRInput, unit: _Unit
    ) -> None:
        """Corrects `depth` where it lies."""
        height, width, channels = features.shape
        lr_height, lr_width = seen.mask.shape[2:]
        memory = self._map("residuals", 1, 1, 2 * lr_height * lr_width + height * width)
        filled, mask = seen.filled.contiguous(), seen.mask.contiguous()
        self._library.dsr_back_project(
            weights.array,
            LEAST_SHARE,
            features.data_ptr(),
            depth.data_ptr(),
            filled.data_ptr(),
            mask.data_ptr(),
            *(index.data_ptr() for index in self._nearest),
            lr_height,
            lr_width,
            *depth.shape[2:],
            *unit,
            CORRECTION[self._net.config.normalization],
            height,
            width,
            channels,
            memory.data_ptr(),
            self._threads,
        )


def _nearest(outputs: int, inputs: int) -> Tensor:
    """Which of `inputs` pixels each of `outputs` takes, int32: torch's own choice, ties and all."""
    index = torch.arange(inputs, dtype=torch.float32, device="cpu")[None, None]
    return F.interpolate(index, outputs, mode="nearest-exact")[0, 0].to(torch.int32)


class _Unit(NamedTuple):
    """native.cpp's `Unit`."""

    is_log: bool
    shift: float
    scale: float
    nearest: float


def _unit(normalizer: DepthNormalizer) -> _Unit:
    return _Unit(normalizer.kind == "log", normalizer.shift.item(), normalizer.scale.item(), MIN_DEPTH_M)


class _Pointers:
    """Weights as the kernels take them, kept alive beside their addresses."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = [t.detach().float().contiguous() for t in tensors]
        self.array = (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in self.tensors))


class _Convolution:
    """A convolution, its answer times `scale`."""

    def __init__(self, layer: nn.Conv2d, scale: float = 1.0) -> None:
        self.kernel, self.outputs = layer.kernel_size[0], layer.out_channels
        # (out, in, rows, columns) -> (out, rows, columns, in): what is beside each other in a map's row.
        weight = layer.weight.permute(0, 2, 3, 1).flatten(1)
        assert layer.bias is not None
        self.pointers = _Pointers(_panels(weight * scale), layer.bias * scale)


class _EncoderWeights:
    """One path of the U-Net."""

    def __init__(self, encoder: Encoder) -> None:
        self.stem = _Convolution(encoder.stem)
        self.stages = [_stage_weights(stage) for stage in encoder.stages]
        self.downs = [_Convolution(down) for down in encoder.downs if isinstance(down, nn.Conv2d)]


def _panels(weight: Tensor) -> Tensor:
    """(outputs, inputs) -> [outputs / PANEL][inputs][PANEL]."""
    return weight.unflatten(0, (-1, PANEL)).transpose(1, 2)


def _stage_weights(stage: nn.Module) -> list[_Pointers]:
    assert isinstance(stage, NAFStage)
    return [_block_weights(block) for block in stage.blocks if isinstance(block, NAFBlock)]


def _block_weights(block: NAFBlock) -> _Pointers:
    """In the order of native.cpp's `Block`. What scales a product's inputs or outputs is in its weights."""
    beta, gamma = block.beta.flatten(), block.gamma.flatten()
    weights = []
    for layer, norm in ((block.expand, block.norm1), (block.expand2, block.norm2)):
        weights.append(_panels(layer.weight * norm.weight))
        weights.append(layer.bias + layer.weight @ norm.bias)
    assert block.depthwise.bias is not None
    return _Pointers(
        *weights[:2],
        block.depthwise.weight.flatten(1).t(),
        block.depthwise.bias,
        block.attention.weight,
        block.attention.bias,
        _panels(block.project.weight * beta[:, None]),
        block.project.bias * beta,
        *weights[2:],
        _panels(block.project2.weight * gamma[:, None]),
        block.project2.bias * gamma,
    )


def _upsample_weights(weight: Tensor) -> _Pointers:
    """(4 C', C), whose outputs PixelShuffle(2) distributes, as four layers: one for each subpixel."""
    layers = weight.unflatten(0, (-1, 4)).transpose(0, 1)
    return _Pointers(torch.stack([_panels(layer) for layer in layers]))


def _kernel_head_weights(head: KernelHead) -> _Pointers:
    """Gate, shift and sharpness as one layer of two panels; the logits, a neighbour's pixels together."""
    shift, sharpness = head.cell.weight
    offset = shift.new_tensor([0.0, INITIAL_COLOUR_SHARPNESS])
    idle = shift.new_zeros(2 * PANEL - CELL_SIDE**2 - 2, shift.shape[0])
    cell = torch.cat([head.gate.weight, shift[None], sharpness[None], idle])
    bias = torch.cat([head.gate.bias, head.cell.bias + offset, idle[:, 0]])
    weight, logits_bias = head.logit_layer()
    return _Pointers(_panels(cell), bias, _panels(weight), logits_bias)


def _step_weights(layers: Propagation) -> list[_Pointers]:
    """The logits, those of all steps, beside each step's gates and sharpness, a layer of two panels."""
    pixels = CELL_SIDE**2
    gates, gate_bias = layers.gate.weight.split(pixels), layers.gate.bias.split(pixels)
    steps = []
    for i in range(len(layers.dilations)):
        idle = gates[i].new_zeros(2 * PANEL - pixels - 1, gates[i].shape[1])
        weight = torch.cat([gates[i], layers.sharpness.weight[i : i + 1], idle])
        sharpness = layers.sharpness.bias[i : i + 1] + INITIAL_COLOUR_SHARPNESS
        bias = torch.cat([gate_bias[i], sharpness, idle[:, 0]])
        steps.append(_Pointers(_panels(layers.logits.weight), layers.logits.bias, _panels(weight), bias))
    return steps


def _share_weights(layers: BackProjection) -> _Pointers:
    residual = layers.residual.weight.flatten(1).t()
    return _Pointers(
        _panels(layers.features.weight),
        layers.features.bias,
        residual,
        _panels(layers.share.weight),
        layers.share.bias,
    )
