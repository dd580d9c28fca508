# SPDX-License-Identifier: Apache-2.0
"""What the engine takes: a frame's images, and the options to answer it with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from depth_sr_ros.errors import FrameError
from depth_sr_ros.image_codec import check_rgb
from depth_sr_ros.image_size import MIN_DEPTH_SIDE, MIN_RGB_SIDE

# (1, 1, h, w) metres -> (1, 1, h', w') metres in the RGB's view
Registration = Callable[[Tensor], Tensor]


class FrameOptions(TypedDict, total=False):
    """How a frame is to be read, and what its answer is to be like."""

    channel_order: str
    """rgb (the default), bgr, rgba, bgra or mono."""
    depth_unit_m: float
    """Metres that a depth value of 1 stands for; 1 by default."""
    output_size: tuple[int, int] | None
    """(width, height) of the result, at most the RGB's; by default the RGB's own."""
    max_fill_distance: int | None
    """In depth pixels: what is further from every measurement, by rows or by columns, comes back NaN."""


def check_frame(
    rgb: npt.NDArray[Any],
    depth: npt.NDArray[Any],
    channel_order: str,
    output_size: tuple[int, int] | None = None,
) -> None:
    """FrameError on images that DepthSuperResolver cannot take, or an answer's size that it cannot give."""
    check_rgb(rgb, channel_order)
    if depth.dtype not in (np.float32, np.uint16) or depth.ndim != 2:
        raise FrameError(
            f"the depth image is {depth.dtype} of shape {depth.shape}, but must be float32 or uint16 of "
            "shape (height, width)"
        )
    if min(rgb.shape[:2]) < MIN_RGB_SIDE or min(depth.shape) < MIN_DEPTH_SIDE:
        raise FrameError(
            f"the RGB image is {rgb.shape[1]}x{rgb.shape[0]} and the depth "
            f"{depth.shape[1]}x{depth.shape[0]}, "
            f"but sides must be at least {MIN_RGB_SIDE} and {MIN_DEPTH_SIDE} pixels"
        )
    if output_size is not None and min(output_size) < MIN_RGB_SIDE:
        raise FrameError(
            f"the output of the RGB image of {rgb.shape[1]}x{rgb.shape[0]} would be "
            f"{output_size[0]}x{output_size[1]}, but sides must be at least {MIN_RGB_SIDE} pixels: raise "
            "output.max_side (output_size)"
        )


# torch has no type for these errors: of a CPU's allocator, and of cuDNN's convolutions, which hide that their
# workspace did not fit.
NO_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "unable to find an engine")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a frame was too large for the device's memory."""
    said = str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(text in said for text in NO_MEMORY)


def too_large(rgb: npt.NDArray[Any], depth: npt.NDArray[Any], device: str, variant: str) -> FrameError:
    """The error of images for which the device's memory does not do."""
    return FrameError(
        f"out of memory on {device} with an RGB image of {rgb.shape[1]}x{rgb.shape[0]} and a depth "
        f"image of {depth.shape[1]}x{depth.shape[0]}: lower output.max_side (output_size) or guide.size "
        f"(guide_size), or take a smaller variant than {variant!r}"
    )
