# SPDX-License-Identifier: Apache-2.0
"""Copies of a frame on a CPU, counted: a new one that nobody meant fails here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.models import native

WIDTH, HEIGHT, FACTOR = 160, 128, 4
PIXELS = WIDTH * HEIGHT
# What only moves or converts values. With `out=` or of views of one's own the kernels have other names.
COPIES = ("_to_copy", "copy_", "clone", "contiguous", "cat", "stack", "constant_pad_nd", "flip", "index")


class Copies(TorchDispatchMode):
    """The copies whose result has at least as many values as the image has pixels: "name shape"."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = function.__name__.partition(".")[0]
        for each in (x for x in tree_leaves(out) if isinstance(x, Tensor)):
            if name in COPIES and each.numel() >= PIXELS:
                kind = str(each.dtype).removeprefix("torch.")
                self.seen.append(f"{name} {'x'.join(map(str, each.shape))} {kind}")
        return out


def copies(engine: DepthSuperResolver, order: str, confidence: bool = False) -> list[str]:
    rng = np.random.default_rng(0)
    shape = (HEIGHT, WIDTH) if order == "mono" else (HEIGHT, WIDTH, len(order))
    rgb = rng.integers(0, 256, shape, np.uint8)
    depth = rng.uniform(1, 4, (HEIGHT // FACTOR, WIDTH // FACTOR)).astype(np.float32)
    run = engine.with_confidence if confidence else engine
    run(rgb, depth, channel_order=order)  # what is kept from frame to frame is made
    with Copies() as mode:
        run(rgb, depth, channel_order=order, max_fill_distance=8)
    return mode.seen


@pytest.mark.skipif(not native.is_built(), reason="there is no C++ compiler here")
def test_the_kernels_read_the_callers_pixels_and_write_the_answer() -> None:
    engine = DepthSuperResolver(device="cpu", runtime="native")
    for order in ("rgb", "rgba", "mono"):
        assert copies(engine, order) == [], order
    for order in ("bgr", "bgra"):
        # torch has no negative strides, by which the kernels could read it backwards.
        assert copies(engine, order) == [f"flip 1x3x{HEIGHT}x{WIDTH} uint8"], order


def test_torch_copies_what_its_operations_need() -> None:
    engine = DepthSuperResolver(device="cpu", runtime="torch", precision="float32")
    assert copies(engine, "rgb") == []
