# SPDX-License-Identifier: Apache-2.0
"""Functions of CUDA tensors as CUDA graphs: one launch a frame in place of hundreds, nothing allocated."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from depth_sr_ros.recent import Recent

MAX_GRAPHS = 4  # each keeps the memory of a frame's maps
MAX_FAILURES = 3  # captures that failed; what fails for so many kinds of frames fails for all
WARM_UP_RUNS = 3  # libraries choose kernels and take their workspaces in the first ones

Function = Callable[..., tuple[Tensor, ...]]


class Captured(NamedTuple):
    """A captured function: `replay` reads `inputs` and writes `outputs`, which lie where they are."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    replay: Callable[[], None]


class GraphCache:
    """Runs functions of tensors, from the second time on as CUDA graphs.

    `warn` is told of captures that failed; such a function is then run as it is. `capture` makes the graphs.
    Not thread-safe: CUDA graphs belong to the thread that captured them.
    """

    def __init__(
        self,
        warn: Callable[[str], None],
        capture: Callable[[Function, tuple[Tensor, ...]], Captured] | None = None,
    ) -> None:
        self._warn = warn
        self._capture = capture or capture_cuda_graph
        self._graphs: Recent[Captured] = Recent(MAX_GRAPHS)
        self._seen: Recent[bool] = Recent(MAX_GRAPHS)
        self._failed: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self._graphs)

    @property
    def failures(self) -> int:
        """Captures that failed."""
        return len(self._failed)

    def clear(self) -> None:
        """Let go of all graphs and their memory."""
        self._graphs.clear()

    def __call__(self, name: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """`function(*inputs)`; what it gives is overwritten by the next call with this name and these sizes.

        `name` stands for all that `function` depends on beside the sizes and types of its inputs. These are
        copied to where the graph reads them, on the device: their own memory may be that of the next frame's
        upload while the graph still runs.
        """
        key = (name, *((tuple(each.shape), each.dtype) for each in inputs))
        graph = self._graphs.get(key) or self._captured(key, function, inputs)
        if graph is None:
            return function(*inputs)
        for mine, given in zip(graph.inputs, inputs, strict=True):
            mine.copy_(given)
        graph.replay()
        return graph.outputs

    def _captured(self, key: Hashable, function: Function, inputs: tuple[Tensor, ...]) -> Captured | None:
        if key in self._failed or len(self._failed) >= MAX_FAILURES:
            return None
        # A capture takes as long as several frames: sizes that come once are not worth it.
        if self._seen.get(key) is None:
            self._seen.put(key, True)
            return None
        self._graphs.make_room()
        try:
            graph = self._capture(function, tuple(each.clone() for each in inputs))
        except RuntimeError as error:  # torch's and CUDA's, out of memory among them
            reason = _first_cause(error)
        else:
            self._graphs.put(key, graph)
            return graph
        # Out of the handler: the traceback, which holds the capture's tensors, is gone. What was short may be
        # memory: the other graphs are made again.
        self._failed.add(key)
        self.clear()
        sizes = ", ".join("x".join(map(str, each.shape)) for each in inputs)
        self._warn(
            f"no CUDA graph could be made for inputs of {sizes}: {reason}; such frames run without, slower; "
            "please report this"
        )
        return None


def _first_cause(error: BaseException) -> str:
    """What broke a capture, and where; the error that arrives says only that it was broken."""
    while error.__context__ is not None:
        error = error.__context__
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return str(error).strip().partition("\n")[0] + where


def capture_cuda_graph(function: Function, inputs: tuple[Tensor, ...]) -> Captured:
    """Capture `function(*inputs)` on the current device; RuntimeError where it synchronizes or allocates."""
    before = torch.cuda.current_stream()
    side = torch.cuda.Stream()
    side.wait_stream(before)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                function(*inputs)
        # So that the workspace of cuBLAS lies in the graph's own memory, as in torch's own cudagraph_trees:
        # that of a stream is freed with any graph captured there, and torch gives out 32 streams in turn.
        torch._C._cuda_clearCublasWorkspaces()
        # Other threads of the process may use the device meanwhile. A pool of memory of its own, torch's
        # default: with a shared one a replay could overwrite what another graph gave.
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            outputs = function(*inputs)
    finally:
        torch._C._cuda_clearCublasWorkspaces()
        # Where a capture fails torch leaves the side stream the current one.
        torch.cuda.set_stream(before)
    before.wait_stream(side)
    return Captured(inputs, outputs, graph.replay)
