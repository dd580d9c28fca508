# SPDX-License-Identifier: Apache-2.0
"""What is wanted of an answer, made of metres on the device: millimetres, colour picture.

As image_codec.to_millimetres and colorize.colorize make them on the host, bit for bit: each operation is one
of theirs, rounded to float32 as theirs is. Nothing is read back by the host and no constant is uploaded, so
all of it can be part of a CUDA graph.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from depth_sr_ros.answer import Wanted
from depth_sr_ros.colorize import COLORS, MIN_SPAN_M, TAIL_PERCENT
from depth_sr_ros.image_codec import MAX_MILLIMETRES

BLACK = len(COLORS)  # the row of the table that follows the colours
GIVEN = (0.0, 0.0)  # stands for every colour range that does not follow from the frame


class OutputMaps:
    """The maps that are wanted of an answer, on `device`."""

    def __init__(self, device: torch.device) -> None:
        self._table = torch.from_numpy(np.concatenate([COLORS, np.zeros((1, 3), np.uint8)])).to(device)
        self._range = torch.zeros(2, device=device)
        self._held: tuple[float, float] | None = None  # what `_range` holds

    def prepare(self, wanted: Wanted) -> Wanted:
        """What to call it with for `wanted`: the same for every colour range that is given.

        To be called before each frame, on the stream that computes it. A CUDA graph then reads the range from
        where it lies, and another range needs no other graph.
        """
        given = wanted.color_range if wanted.picture else None
        if given is None:
            return dataclasses.replace(wanted, color_range=None)
        if given != self._held:
            # A kernel's argument, unlike a tensor's copy, is no upload. The frame before has read its own.
            for i, metres in enumerate(given):
                self._range[i].fill_(metres)
            self._held = given
        return dataclasses.replace(wanted, color_range=GIVEN)

    def __call__(
        self, wanted: Wanted, metres: Tensor, confidence: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The maps of `wanted`, as `prepare` gave it, in its order.

        metres and confidence are float32 (1, 1, H, W), and so are the maps but millimetres, which are uint16,
        and the picture, uint8 (1, 1, H, W, 3).
        """
        made = [metres] if wanted.metres else []
        if wanted.millimetres:
            made.append(millimetres_of(metres))
        if confidence is not None:
            made.append(confidence)
        if wanted.picture:
            limits = range_of(metres) if wanted.color_range is None else self._range
            made.append(picture_of(metres, limits, self._table))
        return tuple(made)


def millimetres_of(metres: Tensor) -> Tensor:
    """float32 metres -> uint16 millimetres, invalid = 0; see image_codec.to_millimetres."""
    known = torch.where(_answered(metres), metres, 0)
    return known.clamp_(max=MAX_MILLIMETRES / 1000).mul_(1000).round_().to(torch.uint16)


def _answered(metres: Tensor) -> Tensor:
    """Where there is depth to show: `valid_mask` also asks whether a sensor can have measured it."""
    return torch.isfinite(metres) & (metres > 0)


def range_of(metres: Tensor) -> Tensor:
    """The depths (2,) between which `colorize` colours by default; infinite where no pixel is valid.

    How many are valid only the device knows: it sorts them all, the invalid ones last.
    """
    valid = _answered(metres)
    ordered = torch.where(valid, metres, torch.inf).flatten().sort().values
    last = (valid.sum() - 1).clamp_(min=0)
    tail = last * TAIL_PERCENT // 100
    return ordered.gather(0, torch.stack((tail, last - tail)))


def picture_of(metres: Tensor, limits: Tensor, table: Tensor) -> Tensor:
    """float32 metres (1, 1, H, W) -> uint8 RGB (1, 1, H, W, 3).

    limits: the depths (2,) of the first and the last colour; table: uint8 (257, 3), black last.
    """
    near, far = limits[0], limits[1]
    span = (far - near).clamp_(min=MIN_SPAN_M)
    # A division by a number, or of one, would be a product with a reciprocal, which is rounded once more.
    scale = torch.full_like(span, 255) / span
    level = ((far - metres) * scale).clamp_(0, 255).round_()
    index = torch.where(_answered(metres), level, BLACK).int()
    return table.index_select(0, index.flatten()).view(*metres.shape, 3)
