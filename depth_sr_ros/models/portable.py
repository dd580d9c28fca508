# SPDX-License-Identifier: Apache-2.0
"""Operations that ONNX, its runtimes or Inductor lack: torch's own, or, while the network is exported or
compiled, plain ones.

The plain forms hold for sizes that an export leaves open: their loops are as long as any image needs, and
they divide no negative number, which ONNX rounds the other way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Of the search for a median, between bounds of which it halves the logarithm's distance.
BISECTIONS = 30
MOST_HALVINGS = 12  # 4096 pixels a side become one


def halvings(size: torch.Size) -> int:
    """How often the last two sides are halved, rounding up, until both are 1.

    While exporting it is MOST_HALVINGS: one pixel halved is that pixel.
    """
    return MOST_HALVINGS if torch.onnx.is_in_onnx_export() else (max(size[-2:]) - 1).bit_length()


def halved(x: Tensor) -> Tensor:
    """Mean of 2x2 pixels of x (B, C, H, W), at an odd border of those that there are."""
    if not torch.onnx.is_in_onnx_export():
        return F.avg_pool2d(x, 2, ceil_mode=True)
    # ceil_mode means different things to different runtimes.
    return F.avg_pool2d(extended(extended(x, -1, 2), -2, 2), 2)


def median(x: Tensor) -> Tensor:
    """The lower median of each row of x (B, N), all positive: (B,)."""
    if not torch.onnx.is_in_onnx_export():
        # On CUDA a row's median is the work of one block.
        return x.sort(dim=1).values[:, (x.shape[1] - 1) // 2] if x.is_cuda else x.median(dim=1).values
    # Not by sorting, which TensorRT does for 3840 values at most. The median lies above `low`, up to `high`.
    low, high = x.amin(1, keepdim=True) / 2, x.amax(1, keepdim=True)
    half = (x.shape[1] + 1) // 2
    for _ in range(BISECTIONS):
        middle = low.sqrt() * high.sqrt()
        enough = (x <= middle).int().sum(1, keepdim=True) >= half
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return torch.where(x <= high, x, 0.0).amax(1)


def area_mean(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean of x (B, C, H, W) over the area of each pixel of `size` (h, w): (B, C, h, w)."""
    if not torch.onnx.is_in_onnx_export():
        return F.interpolate(x, size, mode="area")
    for axis, outputs in ((2, size[0]), (3, size[1])):
        inputs = x.shape[axis]
        i = torch.arange(outputs)[:, None]
        first, end = i * inputs // outputs, ((i + 1) * inputs + outputs - 1) // outputs
        x = _mean_between(x, axis, first, end, (inputs + outputs - 1) // outputs + 1)
    return x


def cell_mean(x: Tensor, side: int) -> Tensor:
    """Mean of x (B, C, H, W) over cells of `side` pixels, those at the border smaller: (B, C, h, w)."""
    if not torch.onnx.is_in_onnx_export():
        return F.avg_pool2d(x, side, ceil_mode=True, count_include_pad=False)
    for axis in (2, 3):
        first = torch.arange((x.shape[axis] + side - 1) // side)[:, None] * side
        x = _mean_between(x, axis, first, (first + side).clamp(0, x.shape[axis]), side)
    return x


def _mean_between(x: Tensor, axis: int, first: Tensor, end: Tensor, most: int) -> Tensor:
    """Means of rows (axis 2) or columns (3) of x from `first` to before `end`, (outputs, 1) each.

    `most`: how many rows or columns at most.
    """
    index = first + torch.arange(most)
    shares = (index < end).float() / (end - first).float()
    index = index.clamp(0, x.shape[axis] - 1)
    if axis == 2:
        return (x[:, :, index] * shares[:, :, None]).sum(3)
    return (x[:, :, :, index] * shares).sum(4)


def nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    """x (B, C, h, w), its nearest pixel for each of `size` (H, W): (B, C, H, W)."""
    if not torch.onnx.is_in_onnx_export():
        return F.interpolate(x, size, mode="nearest-exact")
    for axis, outputs in ((3, size[1]), (2, size[0])):  # columns first, while the image is small
        inputs = x.shape[axis]
        # In float32, as torch has it: ties between two pixels are then decided alike.
        scale = torch.full((1,), inputs, dtype=torch.float32) / outputs
        index = ((torch.arange(outputs) + 0.5) * scale).long()
        x = x.index_select(axis, index.clamp(0, inputs - 1))
    return x


def bordered(x: Tensor, margin: int) -> Tensor:
    """x (B, C, H, W), its border repeated `margin` pixels further on all sides."""
    if not torch.compiler.is_compiling():
        return F.pad(x, (margin,) * 4, mode="replicate")
    # Inductor of torch 2.13 fails on that where slices of it follow: "vr must not be None for symbol q0".
    for axis in (2, 3):
        ends = (x.narrow(axis, place, 1) for place in (0, x.shape[axis] - 1))
        first, last = (end.repeat_interleave(margin, axis) for end in ends)
        x = torch.cat([first, x, last], axis)
    return x


def extended(x: Tensor, axis: int, multiple: int) -> Tensor:
    """x (B, C, H, W), of any type, its last row (axis -2) or column (-1) repeated up to a multiple."""
    side = x.shape[axis]
    if torch.onnx.is_in_onnx_export():
        missing = (side + multiple - 1) // multiple * multiple - side
        ends = (0, missing) if axis == -1 else (0, 0, 0, missing)
        return F.pad(x.float(), ends + (0,) * (4 - len(ends)), mode="replicate").to(x.dtype)
    missing = -side % multiple
    if not missing:
        return x
    last = x.narrow(axis, side - 1, 1)
    last = last.expand(*(missing if i == x.ndim + axis else -1 for i in range(x.ndim)))
    if x.is_contiguous(memory_format=torch.channels_last):
        # Of an expanded view torch.cat would not know that, and give another layout.
        last = last.contiguous(memory_format=torch.channels_last)
    return torch.cat([x, last], axis)
