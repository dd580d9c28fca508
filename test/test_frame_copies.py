# SPDX-License-Identifier: Apache-2.0
"""Copies of a frame on a CPU, counted: a new one that nobody meant fails here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.answer import METRES, Wanted
from depth_sr_ros.models import native
from depth_sr_ros.models.output_maps import OutputMaps
from depth_sr_ros.transfer import StagedTransfer

WIDTH, HEIGHT, FACTOR = 160, 128, 4
PIXELS = WIDTH * HEIGHT
# What only moves or converts values, and what may be a view or not.
COPIES = ("_to_copy", "copy_", "clone", "cat", "stack", "constant_pad_nd", "flip", "index", "index_select")
PERHAPS = ("reshape", "contiguous", "to", "flatten", "unflatten", "expand")


class Copies(TorchDispatchMode):
    """The copies whose result has at least as many values as the image has pixels: "name shape type"."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = function.__name__.partition(".")[0]
        if name not in COPIES + PERHAPS or not isinstance(out, Tensor) or out.numel() < PIXELS:
            return out
        sources = {x.untyped_storage().data_ptr() for x in tree_leaves(args) if isinstance(x, Tensor)}
        if name in COPIES or out.untyped_storage().data_ptr() not in sources:
            kind = str(out.dtype).removeprefix("torch.")
            self.seen.append(f"{name} {'x'.join(map(str, out.shape))} {kind}")
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


# What the confidence head reads beside the features: the answer's logarithm and steepness, as cells.
CONFIDENCE = ["cat 1x2x128x160 float32", "reshape 1x32x48x32 float32", "cat 1x64x32x48 float32"]
TORCH = [
    # The RGB: to cells while it is bytes, then numbers, then padded for the U-Net (40 cells to 48).
    "reshape 1x32x40x48 uint8",
    "to 1x48x32x40 float32",
    "cat 1x48x32x48 float32",
    # The LR depth, its detail and mask: one image, to cells, padded.
    "cat 1x3x128x160 float32",
    "reshape 1x32x40x48 float32",
    "cat 1x48x32x48 float32",
    # The depth that is corrected: to cells, padded.
    "reshape 1x32x40x16 float32",
    "cat 1x16x32x48 float32",
    # The kernel head: the operands of its products, in blocks of rows, and the blocks together again.
    "stack 1x26x48x9x6 float32",
    "cat 1248x5x16 float32",
    "stack 1248x3x9 float32",
    "cat 288x5x16 float32",
    "cat 1x16x32x48 float32",
    # The RGB once more as numbers: propagation compares colours at full resolution.
    "to 1x3x128x160 float32",
]


@pytest.mark.skipif(not native.is_built(), reason="there is no C++ compiler here")
def test_the_kernels_read_the_callers_pixels_and_write_the_answer() -> None:
    engine = DepthSuperResolver(device="cpu", runtime="native")
    for order in ("rgb", "rgba", "mono"):
        assert copies(engine, order) == [], order
    for order in ("bgr", "bgra"):
        # torch has no negative strides, by which the kernels could read it backwards.
        assert copies(engine, order) == ["flip 1x3x128x160 uint8"], order
    assert copies(engine, "rgb", confidence=True) == CONFIDENCE


def test_torch_copies_what_its_operations_need() -> None:
    engine = DepthSuperResolver(device="cpu", runtime="torch", precision="float32")
    for order in ("rgb", "rgba", "mono"):
        assert copies(engine, order) == TORCH, order
    assert copies(engine, "bgr") == ["flip 1x3x128x160 uint8", *TORCH]
    assert copies(engine, "rgb", confidence=True) == TORCH + CONFIDENCE


class Moves(TorchDispatchMode):
    """What is copied into memory that is there already, "shape type": each upload and each download."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.__name__.partition(".")[0] == "copy_":
            self.seen.append(
                f"{'x'.join(map(str, args[0].shape))} {str(args[0].dtype).removeprefix('torch.')}"
            )
        return function(*args, **(kwargs or {}))


DOWN = {
    "metres": "1x1x128x160 float32",
    "millimetres": "1x1x128x160 uint16",
    "confidence": "1x1x128x160 float32",
    "picture": "1x1x128x160x3 uint8",
}
NODE = [
    METRES,  # 32FC1
    Wanted(metres=False, millimetres=True),  # 16UC1
    Wanted(metres=False, millimetres=True, picture=True),
    Wanted(metres=True, millimetres=True, picture=True, color_range=(1.0, 4.0)),  # and ~/points
    Wanted(metres=False, millimetres=True, confidence=True, picture=True),
]


def test_on_the_way_of_a_gpu_inputs_go_up_once_and_what_is_wanted_comes_down_once() -> None:
    """With its staging and its maps, in plain memory. test_cuda.py counts the same on a GPU."""
    engine = DepthSuperResolver(device="cpu", runtime="torch", precision="float32")
    engine._transfer = StagedTransfer(torch.device("cpu"))
    engine._runner.output_maps = OutputMaps(torch.device("cpu"))
    rgb, depth = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.full((32, 40), 1500, np.uint16)
    for wanted in NODE:
        with Moves() as mode:
            engine.answer(rgb, depth, wanted, depth_unit_m=0.001, max_fill_distance=8)
        up = ["128x160x3 uint8", "32x40 uint16"]
        assert mode.seen == up + [DOWN[name] for name in wanted.maps], wanted
