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
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from depth_sr_ros.config import ModelConfig
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.models.back_projection import LEAST_SHARE
from depth_sr_ros.models.depth_sr import DepthSRNet, Estimate, LRInput
from depth_sr_ros.models.fusion_unet import LEVELS_MULTIPLE
from depth_sr_ros.models.kernel_head import LOGIT_RANGE
from depth_sr_ros.models.native_weights import (
    PANEL,
    BlockWeights,
    Convolution,
    EncoderWeights,
    Pointers,
    UpsampleWeights,
    kernel_head_weights,
    padded,
    share_weights,
    stage_weights,
    step_weights,
)
from depth_sr_ros.models.normalization import CORRECTION, MIN_DEPTH_M, DepthNormalizer

FOLDER, MODULE = Path(__file__).resolve().parents[1], "_native"
CELL_SIDES = (1, 2, 4)  # pixels
CELL_FLOATS = 48  # of the kernel head's scratch memory
INTERFACE = 4  # of native.cpp's functions
_P, _I, _L, _F = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_float
# The arguments of native.cpp's functions.
SIGNATURES = {
    "dsr_naf_block": [_P, _P, _P, _P, *[_I] * 6],
    "dsr_convolve": [_P, _I, _I, _I, _I, _P, _P, _I, _P, _I, _P, _I],
    "dsr_upsample": [_P, _I, _I, _I, _P, _I, _P, _I],
    "dsr_fuse": [_P, _P, _P, _P, *[_I] * 7],
    "dsr_kernel_head": [_I, _P, _F, _F, _P, _P, _I, _P, _I, _I, _I, _F, _I, _F, _F, _F, _P, _P, _I, _I, _I],
    "dsr_propagate": [_I, _P, _F, _F, _F, _P, _P, _L, _L, _L, _P, *[_I] * 7, _P, _I],
    "dsr_back_project": [_I, _P, _F, *[_P] * 6, *[_I] * 5, _F, _F, _F, _F, _I, _I, _I, _P, _I],
    "dsr_cells_of_bytes": [_I, _P, _L, _L, _I, _I, _P, _I, _I, _I, _I],
    "dsr_lr_cells": [_I, _P, _P, _P, _P, _P, _I, _I, _I, _I, _I, _F, _F, _F, _P, _I, _I, _I],
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
    if config.unshuffle in CELL_SIDES:
        return ""
    sides = ", ".join(str(side) for side in CELL_SIDES[:-1])
    return f"its cells have {config.unshuffle} pixels a side instead of {sides} or {CELL_SIDES[-1]}"


class NativeNetwork:
    """A `DepthSRNet` whose float32 inference runs on the kernels; `threads` of them, besides torch's own.

    Its guide, where it has one, runs in torch. It keeps its memory from frame to frame, and its own copy of
    the weights. Not thread-safe. Raises ConfigError where the kernels were not built or cannot run this
    network.
    """

    def __init__(self, net: DepthSRNet, threads: int) -> None:
        reason = why_unsupported(net.config)
        if reason:
            raise ConfigError(f"the CPU kernels cannot run {net.config.variant!r}: {reason}; use 'torch'")
        unet = net.unet
        self._net = net
        self._library = library()
        self._threads = threads
        self._side = net.config.unshuffle
        self._correction = CORRECTION[net.config.normalization]
        self._rel, self._lr = EncoderWeights(unet.rel_encoder), EncoderWeights(unet.lr_encoder)
        self._middle = stage_weights(unet.middle)
        self._decoder = [stage_weights(stage) for stage in unet.decoder]
        self._ups = [UpsampleWeights(next(up.parameters())) for up in unet.ups]
        self._head = Convolution(unet.head, padded(unet.head.in_channels), self._correction)
        self._kernel_head = None if net.kernel_head is None else kernel_head_weights(net.kernel_head)
        self._steps = [] if net.propagation is None else step_weights(net.propagation)
        self._shares = None if net.back_projection is None else share_weights(net.back_projection)
        self._memory: dict[str, Tensor] = {}
        self._size = (0, 0)

    @torch.inference_mode()
    def estimate(
        self,
        rgb: Tensor,
        depth_lr: Tensor,
        relative_depth: Tensor | None = None,
        *,
        confidence: bool = False,
    ) -> Estimate:
        """As `DepthSRNet.estimate`, for one image: uint8 (1, 3, H, W) and metres (1, 1, h, w) -> metres.

        relative_depth (1, 1, H, W) replaces the guide's own answer.
        """
        depth, features, share = self._answer(rgb, depth_lr, relative_depth)
        # The confidence is small products for each cell, by torch: while nobody listens, nothing is computed.
        features = features.permute(2, 0, 1)[None]
        return self._net.estimate_of(depth, features, share, depth_lr, confidence=confidence)

    def upsample(self, rgb: Tensor, depth_lr: Tensor, relative_depth: Tensor | None = None) -> Tensor:
        """The depth of `estimate`."""
        return self.estimate(rgb, depth_lr, relative_depth).depth

    def _answer(
        self, rgb: Tensor, depth_lr: Tensor, relative_depth: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Depth (1, 1, H, W), the features (h, w, C) behind it, which the next frame overwrites, and how
        much of the guide was taken.
        """
        size = (rgb.shape[2], rgb.shape[3])
        # Maps of one size are kept; a stream rarely changes it, and two sets would double the memory.
        if size != self._size:
            self._memory.clear()
            self._size = size
        if relative_depth is None and self._net.guide is not None:
            relative_depth = self._net.guide(rgb.float() / 255)
        seen = LRInput.from_depth(depth_lr.float(), self._net.config)
        # The answer is the caller's: it must not lie in memory that the next frame takes.
        out = torch.empty(1, 1, *size, dtype=torch.float32, device="cpu")
        guide_map, share = self._net.guide_map(relative_depth, seen)
        depth, features = self._depth(rgb, guide_map, seen, out)
        return depth, features[..., : self._net.config.channels[0]], share

    def _depth(
        self, rgb: Tensor, guide_map: Tensor | None, seen: LRInput, out: Tensor
    ) -> tuple[Tensor, Tensor]:
        size = (rgb.shape[2], rgb.shape[3])
        sizes = [(-(-size[0] // s), -(-size[1] // s)) for s in (self._side << i for i in range(5))]
        height, width = (-(-side // LEVELS_MULTIPLE) * LEVELS_MULTIPLE for side in sizes[0])
        guided = self._net.config.guide_channels - 3
        pixels = self._map("rgb cells", height, width, (guided + 3) * self._side**2)
        colours = pixels[..., guided * self._side**2 :]
        self._guide_cells(guide_map, pixels[..., : guided * self._side**2])
        self._rgb_cells(rgb, colours)
        lr = self._map("lr cells", height, width, 3 * self._side**2)
        unit = _unit(seen.normalizer)
        self._lr_cells(seen, size, unit, lr)
        # The first plane is the depth that the network corrects.
        base = self._clipped(lr) if seen.normalizer.kind == "fixed" else lr
        rel_features = self._encode("rel", self._rel, pixels, sizes)
        lr_features = self._encode("lr", self._lr, lr, sizes)
        x = self._fuse(rel_features[4], lr_features[4], None, sizes[4])
        self._stage(self._middle, x, sizes[4])
        for level in reversed(range(4)):
            up = self._upsample(level, x)
            x = self._fuse(rel_features[level], lr_features[level], up, sizes[level])
            self._stage(self._decoder[level], x, sizes[level])
        depth = self._convolve("head", self._head, x, residual=base)
        if self._kernel_head is None:
            depth = depth[..., : self._side**2].permute(2, 0, 1)[None]
            depth = F.pixel_shuffle(depth, self._side)[..., : size[0], : size[1]]
            out = seen.normalizer.denormalize(depth).contiguous()
        else:
            self._mix(self._kernel_head, x, colours, depth, unit, out)
        self._propagate(x, rgb, out)
        if self._shares is not None:
            self._back_project(self._shares, x, out, seen, unit)
        return out, x

    def _map(self, name: str, height: int, width: int, channels: int) -> Tensor:
        """Memory for a map (height, width, channels), its own for each name."""
        found = self._memory.get(name)
        if found is None or found.shape != (height, width, channels):
            self._memory.pop(name, None)  # before its successor takes as much
            # A panel more: the kernels read whole vectors, of a narrow map's last pixel beyond its end.
            floats = height * width * channels
            memory = torch.empty(floats + PANEL, dtype=torch.float32, device="cpu")
            found = self._memory[name] = memory[:floats].view(height, width, channels)
        return found

    def _guide_cells(self, guide_map: Tensor | None, out: Tensor) -> None:
        """(1, 1, H, W), of `DepthSRNet.guide_map`; zeros say that there is no guide."""
        if guide_map is None:
            out.zero_()
        else:
            out.copy_(self._net.unet.cells(guide_map)[0].permute(1, 2, 0))

    def _clipped(self, lr: Tensor) -> Tensor:
        """Clip the depth in the cells `lr` to the published range; returns it as it was, for the residual."""
        depth = lr[..., : self._side**2]
        base = self._map("base", *depth.shape).copy_(depth)
        depth.clamp_(0, 1)
        return base

    def _rgb_cells(self, rgb: Tensor, out: Tensor) -> None:
        """(1, 3, H, W) uint8 of any strides."""
        for i, plane in enumerate(rgb[0]):
            self._library.dsr_cells_of_bytes(
                self._side,
                plane.data_ptr(),
                *plane.stride(),
                *plane.shape,
                out[0, 0, self._side**2 * i :].data_ptr(),
                *out.shape[:2],
                out.stride(1),
                self._threads,
            )

    def _lr_cells(self, seen: LRInput, size: tuple[int, int], unit: _Unit, out: Tensor) -> None:
        planes = [plane.contiguous() for plane in (seen.filled, seen.detail, seen.mask)]
        lr_size = (seen.mask.shape[2], seen.mask.shape[3])
        nearest = _nearest(size, lr_size)  # held here: another thread's frames may push it out of the cache
        self._library.dsr_lr_cells(
            self._side,
            *(plane.data_ptr() for plane in planes),
            *(index.data_ptr() for index in nearest),
            *lr_size,
            *size,
            *unit,
            out.data_ptr(),
            *out.shape[:2],
            self._threads,
        )

    def _encode(
        self, name: str, weights: EncoderWeights, x: Tensor, sizes: list[tuple[int, int]]
    ) -> list[Tensor]:
        x = self._convolve(f"{name} stem", weights.stem, x)
        features = []
        for i, (blocks, down) in enumerate(zip(weights.stages, weights.downs, strict=True)):
            self._stage(blocks, x, sizes[i])
            features.append(x)
            x = self._convolve(f"{name} down {i}", down, x)
        return [*features, x]

    def _stage(self, blocks: list[BlockWeights], x: Tensor, size: tuple[int, int]) -> None:
        """Changes `x` where it lies: each map less in use leaves more of the others in the cache."""
        height, width = x.shape[:2]
        gated = self._map(f"gated {height}", *x.shape)
        for block in blocks:
            self._library.dsr_naf_block(
                block.array,
                x.data_ptr(),
                x.data_ptr(),
                gated.data_ptr(),
                height,
                width,
                *size,
                block.channels,
                self._threads,
            )

    def _convolve(self, name: str, layer: Convolution, x: Tensor, residual: Tensor | None = None) -> Tensor:
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
        height, width = x.shape[:2]
        weights = self._ups[level]
        out = self._map(f"up {level}", 2 * height, 2 * width, weights.outputs)
        self._library.dsr_upsample(
            x.data_ptr(),
            height,
            width,
            weights.inputs,
            *weights.array,
            weights.outputs,
            out.data_ptr(),
            self._threads,
        )
        return out

    def _fuse(self, rel: Tensor, lr: Tensor, up: Tensor | None, size: tuple[int, int]) -> Tensor:
        """The decoder's input, in the memory of `up` where there is one."""
        height, width, channels = rel.shape
        out = self._map("fused", *rel.shape) if up is None else up
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
        self, weights: Pointers, features: Tensor, colours: Tensor, depth: Tensor, unit: _Unit, out: Tensor
    ) -> None:
        height, width = features.shape[:2]
        cells = self._map("kernel head", height, width, CELL_FLOATS)
        self._library.dsr_kernel_head(
            self._side,
            weights.array,
            *LOGIT_RANGE,
            features.data_ptr(),
            colours.data_ptr(),
            colours.stride(1),
            depth.data_ptr(),
            height,
            width,
            self._net.config.channels[0],
            self._correction,
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
        pitch = padded(width) + 2 * margin
        for step, (weights, dilation) in enumerate(zip(self._steps, dilations, strict=True)):
            self._library.dsr_propagate(
                self._side,
                weights.array,
                *LOGIT_RANGE,
                LEAST_SHARE,
                features.data_ptr(),
                rgb.data_ptr(),
                *rgb.stride()[1:],
                depth.data_ptr(),
                height,
                width,
                dilation,
                margin,
                int(step == 0),
                features.shape[1],
                self._net.config.channels[0],
                self._map("propagation", 4, height + 2 * margin, pitch).data_ptr(),
                self._threads,
            )

    def _back_project(
        self, weights: Pointers, features: Tensor, depth: Tensor, seen: LRInput, unit: _Unit
    ) -> None:
        """Corrects `depth` where it lies."""
        height, width = features.shape[:2]
        lr_height, lr_width = seen.mask.shape[2:]
        size = (depth.shape[2], depth.shape[3])
        memory = self._map("residuals", 1, 1, 2 * lr_height * lr_width + height * width)
        filled, mask = seen.filled.contiguous(), seen.mask.contiguous()
        nearest = _nearest(size, (lr_height, lr_width))  # held here, as in _lr_cells
        self._library.dsr_back_project(
            self._side,
            weights.array,
            LEAST_SHARE,
            features.data_ptr(),
            depth.data_ptr(),
            filled.data_ptr(),
            mask.data_ptr(),
            *(index.data_ptr() for index in nearest),
            lr_height,
            lr_width,
            *size,
            *unit,
            self._correction,
            height,
            width,
            self._net.config.channels[0],
            memory.data_ptr(),
            self._threads,
        )


# Kept under its sizes. One that outlived a frame that was interrupted or found no memory would, for an image
# of another size, have the kernels read beyond the depth's end.
@functools.lru_cache(maxsize=4)
def _nearest(outputs: tuple[int, int], inputs: tuple[int, int]) -> list[Tensor]:
    """Which of `inputs` rows, and which of its columns, those of `outputs` take, int32: torch's own choice.

    Of whole images: of rows alone, or in an image of another size, torch decides some ties otherwise.
    """
    sides = [torch.arange(side, dtype=torch.float32, device="cpu") for side in inputs]
    places = torch.stack(torch.meshgrid(*sides, indexing="ij"))[None]
    rows, columns = F.interpolate(places, outputs, mode="nearest-exact")[0].to(torch.int32)
    return [rows[:, 0].contiguous(), columns[0].contiguous()]


class _Unit(NamedTuple):
    """native.cpp's `Unit`."""

    is_log: bool
    shift: float
    scale: float
    nearest: float


def _unit(normalizer: DepthNormalizer) -> _Unit:
    return _Unit(normalizer.kind == "log", normalizer.shift.item(), normalizer.scale.item(), MIN_DEPTH_M)
