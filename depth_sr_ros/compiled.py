# SPDX-License-Identifier: Apache-2.0
"""The network by torch.compile, for one kind of frame: what comes in other sizes runs as it is."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from depth_sr_ros.errors import ConfigError
from depth_sr_ros.models.depth_sr import DepthSRNet, Estimate

LEAST_CAPABILITY = (7, 0)  # of a CUDA device, for Triton


def why_not_compiled(device: torch.device) -> str:
    """Why torch.compile cannot work for `device` here, and what helps; empty where nothing is known of it."""
    if device.type != "cuda":
        name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        return "" if shutil.which(name) else f"there is no C++ compiler {name!r}: install it, or set CXX"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton"
    if not any(shutil.which(name) for name in (os.environ.get("CC") or "", "gcc", "clang")):
        return "Triton finds no C compiler: install gcc, or set CC to one"
    if torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        return "the GPU is too old for Triton, which needs compute capability 7.0"
    return ""


class CompiledOnce:
    """A function of contiguous tensors by torch.compile, for the sizes and types of its first call alone.

    Not with dynamic shapes: most of what this network does depends on its sizes (the levels of the hole
    filling, what is padded, how cells are blocked), so that other sizes would be compiled anew all the same,
    and a live node would stand still for tens of seconds. The first call takes that long. A compilation that
    fails raises ConfigError. Not thread-safe.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        # A code object of its own: torch keeps what it compiled with the code, and takes at most eight of
        # one code in a process, those of networks that are gone among them.
        code, parts = function.__code__.replace(), (function.__defaults__, function.__closure__)
        own = types.FunctionType(code, function.__globals__, function.__name__, *parts)
        # Without Inductor's CUDA graphs: cuda_graphs.py captures the whole frame.
        self._run: Any = torch.compile(
            own, fullgraph=True, dynamic=False, options={"triton.cudagraphs": False}
        )
        self.kind: tuple[Any, ...] | None = None
        """Sizes and types of what it was compiled for; None: it was not yet called."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...] | None:
        """The function's answer; None for inputs of another kind than the first."""
        kind = tuple((tuple(each.shape), each.dtype) for each in inputs)
        if self.kind is None:
            answer = self._first(inputs)
            self.kind = kind
            return answer
        return self._run(*inputs) if kind == self.kind else None

    def _first(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        try:
            return self._run(*inputs)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # torch's compiler and those that it calls: whatever they raise
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ConfigError(
                f"torch.compile failed: {reason}; use another runtime than 'compile' (engine.runtime)"
            ) from error


class CompiledNetwork:
    """A `DepthSRNet` whose U-Net, with what follows it, is compiled for the sizes of its first frame.

    Its guide runs as it is, and so does the confidence head, which frames have and have not. `warn` is told
    once of a frame of other sizes, which is answered as the network itself does.
    """

    def __init__(self, net: DepthSRNet, warn: Callable[[str], None]) -> None:
        self._net = net
        self._warn = warn
        self._has_warned = False

        def run(pixels: Tensor, lr: Tensor, relative: Tensor | None = None) -> tuple[Tensor, ...]:
            guide = None if relative is None else relative[None, None]
            said = net(pixels.permute(2, 0, 1)[None], lr[None, None], guide)
            found = (said.depth, said.features)
            return found if said.guide_share is None else (*found, said.guide_share)

        self._run = CompiledOnce(run)

    def estimate(
        self,
        rgb: Tensor,
        depth_lr: Tensor,
        relative_depth: Tensor | None = None,
        *,
        confidence: bool = False,
    ) -> Estimate:
        """As `DepthSRNet.estimate`, for one image: uint8 (1, 3, H, W) and metres (1, 1, h, w) -> metres."""
        # As contiguous planes, whatever a camera's channel order made of them: compiled code holds for one
        # layout. Of rgb8 none of them is a copy.
        given = [rgb[0].permute(1, 2, 0), depth_lr[0, 0]]
        given += [] if relative_depth is None else [relative_depth[0, 0]]
        found = self._run(*(each.contiguous() for each in given))
        if found is None:
            self._tell_once(rgb, depth_lr)
            return self._net.estimate(rgb, depth_lr, relative_depth, confidence=confidence)
        depth, features, *rest = found
        share = rest[0] if rest else None
        return self._net.estimate_of(depth, features, share, depth_lr, confidence=confidence)

    def _tell_once(self, rgb: Tensor, depth_lr: Tensor) -> None:
        if self._has_warned or self._run.kind is None:
            return
        self._has_warned = True
        (height, width, _), (lr_height, lr_width) = (shape for shape, _ in self._run.kind[:2])
        self._warn(
            f"the network is compiled for RGB {width}x{height} and depth {lr_width}x{lr_height}, and answers "
            f"RGB {rgb.shape[3]}x{rgb.shape[2]} and depth {depth_lr.shape[3]}x{depth_lr.shape[2]} by torch "
            "without, slower: set warmup.rgb_size and warmup.depth_size to these and configure again"
        )
