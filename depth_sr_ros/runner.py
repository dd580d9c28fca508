# SPDX-License-Identifier: Apache-2.0
"""Runs the network on a frame's pixels, all on the device, in one of the ways to run it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from depth_sr_ros.answer import METRES, Wanted
from depth_sr_ros.compiled import CompiledNetwork
from depth_sr_ros.cuda_graphs import Function, GraphCache
from depth_sr_ros.models.depth_sr import DepthSRNet, Estimate
from depth_sr_ros.models.native import NativeNetwork
from depth_sr_ros.models.output_maps import OutputMaps
from depth_sr_ros.models.paced_guide import PacedGuide
from depth_sr_ros.models.pixels import image_of, metres_of, without_far_pixels
from depth_sr_ros.ways import Way

GUIDE_SHARE = "guide_share"  # the name of what is downloaded beside the maps


class Request(NamedTuple):
    """What an answer depends on beside the frame's pixels, and with it a CUDA graph."""

    way: Way
    wanted: Wanted = METRES
    channel_order: str = "rgb"
    depth_unit_m: float = 1.0
    output_size: tuple[int, int] | None = None
    max_fill_distance: int | None = None


class NetworkRunner:
    """The network with what is kept from frame to frame: the guide's relative depth, and CUDA graphs.

    `native`: the same network on the CPU kernels, `compiled`: by torch.compile, for the ways of these names.
    `output_maps`: makes all that is wanted on the device; without it, metres and confidence alone are made
    there. Called in inference mode, with the network's device the current one.
    """

    def __init__(
        self,
        model: DepthSRNet,
        native: NativeNetwork | None,
        guide: PacedGuide,
        graphs: GraphCache,
        output_maps: OutputMaps | None = None,
    ) -> None:
        self._model = model
        self.native = native
        self.compiled: CompiledNetwork | None = None
        self.guide = guide
        self.graphs = graphs
        self.output_maps = output_maps

    @property
    def guide_every_n(self) -> int:
        """How many frames have one relative depth; 1 without a guide."""
        return 1 if self._model.guide is None else self.guide.every_n

    def compile(self, warn: Callable[[str], None]) -> None:
        """Make the network for ways with torch.compile, which its first frame compiles; it tells `warn`."""
        self.compiled = CompiledNetwork(self._model, warn)

    def keep_only(self, way: Way) -> None:
        """Let go of the kernels' copy of the weights and of compiled code, unless `way` needs them."""
        if way.runtime != "native":
            self.native = None
        if way.runtime != "compile":
            self.compiled = None

    def __call__(self, request: Request, pixels: Tensor, raw: Tensor) -> dict[str, Tensor]:
        """Of uint8 pixels (H, W, C) and raw depth (h, w), the maps by their names in `answer.MAPS`, as
        OutputMaps has them; and, of a guide that is checked, how much of it was taken as GUIDE_SHARE, (1, 1,
        1, 1). What a way with graphs gives is overwritten by its next frame.
        """
        run = self.graphs if request.way.has_graphs(pixels.device) else _run_as_it_is
        inputs = [pixels, raw]
        if self._model.guide is not None:
            seen = request._replace(depth_unit_m=1.0, max_fill_distance=None, wanted=METRES)
            function = functools.partial(self._relative_depth, seen)
            view = (pixels.shape, request.output_size)
            inputs.append(self.guide(view, lambda: run(("guide", seen), function, pixels)[0]))
        request = request._replace(wanted=self._made_here(request.wanted))
        maps = run(request, functools.partial(self._answer, request), *inputs)
        checked = self._model.guide is not None and self._model.config.guide_check
        names = (*request.wanted.maps, GUIDE_SHARE) if checked else request.wanted.maps
        return dict(zip(names, maps, strict=True))

    def _made_here(self, wanted: Wanted) -> Wanted:
        """What is made on the device for what is wanted."""
        if self.output_maps is None:
            return Wanted(confidence=wanted.confidence)
        return self.output_maps.prepare(wanted)

    def _relative_depth(self, request: Request, pixels: Tensor) -> tuple[Tensor, ...]:
        """The guide's answer (1, 1, H, W)."""
        assert self._model.guide is not None
        image = image_of(pixels, request.channel_order, request.output_size)
        with self._autocast(request.way):
            return (self._model.guide(image.float() / 255),)

    def _answer(
        self, request: Request, pixels: Tensor, raw: Tensor, relative: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """From a camera's pixels to the maps that are made here. On CUDA it must not wait for the device."""
        image = image_of(pixels, request.channel_order, request.output_size)
        lr = metres_of(raw, request.depth_unit_m)
        estimate = self._network(request, image, lr, relative)
        maps = tuple(each for each in (estimate.depth, estimate.confidence) if each is not None)
        distance = request.max_fill_distance
        if distance is not None:
            maps = without_far_pixels(maps, lr, distance)
        maps = maps if self.output_maps is None else self.output_maps(request.wanted, *maps)
        return maps if estimate.guide_share is None else (*maps, estimate.guide_share)

    def _network(self, request: Request, image: Tensor, lr: Tensor, relative: Tensor | None) -> Estimate:
        if request.way.runtime == "native" and self.native is not None:
            return self.native.estimate(image, lr, relative, confidence=request.wanted.confidence)
        compiled = self.compiled if request.way.runtime == "compile" else None
        with self._autocast(request.way):
            network = compiled or self._model
            return network.estimate(image, lr, relative, confidence=request.wanted.confidence)

    def _autocast(self, way: Way) -> contextlib.AbstractContextManager[Any]:
        if way.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(next(self._model.parameters()).device.type, getattr(torch, way.precision))


def _run_as_it_is(name: object, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
    """As a GraphCache, without graphs."""
    return function(*inputs)
