# SPDX-License-Identifier: Apache-2.0
"""Between a camera's pixels and the network's: colour order, size, units, and which answers are kept.

Nothing is read back by the host and no constant is uploaded, so all of it can be part of a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from depth_sr_ros.image_codec import CHANNEL_ORDERS
from depth_sr_ros.models.normalization import valid_mask


def image_of(pixels: Tensor, channel_order: str, size: tuple[int, int] | None = None) -> Tensor:
    """uint8 (H, W, C), or (H, W) for mono, in `channel_order` -> uint8 (1, 3, H', W') RGB.

    `size` (width, height), at most the image's own, which is the default.
    """
    if channel_order == "mono":
        image = pixels.expand(1, 3, *pixels.shape)
    else:
        image = pixels.permute(2, 0, 1)[None, :3]
        # Not by an index: that would be a tensor, to be uploaded with each frame.
        image = image if CHANNEL_ORDERS[channel_order] == (0, 1, 2) else image.flip(1)
    return image if size in (None, (image.shape[3], image.shape[2])) else _shrink(image, size)


def metres_of(depth: Tensor, unit_m: float) -> Tensor:
    """Raw depth (h, w), float32 or uint16, times `unit_m`: float32 (1, 1, h, w)."""
    return depth.float()[None, None] * unit_m


def without_far_pixels(maps: Sequence[Tensor], lr: Tensor, distance: int) -> tuple[Tensor, ...]:
    """`maps` (B, 1, H, W) with NaN where no valid pixel of `lr` (B, 1, h, w) is within `distance` of them.

    The distance is that of a chess king, in pixels of `lr`: two passes of a one-dimensional maximum.
    """
    near = valid_mask(lr).float()
    side = 2 * distance + 1
    near = F.max_pool2d(near, (1, side), stride=1, padding=(0, distance))
    near = F.max_pool2d(near, (side, 1), stride=1, padding=(distance, 0))
    near = F.interpolate(near, maps[0].shape[-2:], mode="nearest-exact")
    return tuple(torch.where(near > 0, each, torch.nan) for each in maps)


def _shrink(image: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (1, 3, H, W) resized to (width, height), each pixel a weighted mean of its surroundings."""
    # On a CPU torch has a fast path for uint8; CUDA has none.
    source = image if image.device.type == "cpu" else image.float()
    out = F.interpolate(source, size[::-1], mode="bilinear", align_corners=False, antialias=True)
    return out if out.dtype == torch.uint8 else out.round_().clamp_(0, 255).byte()
