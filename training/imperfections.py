# SPDX-License-Identifier: Apache-2.0
"""What real RGB-D pairs are like and synthetic ones are not: soft pictures, shifted and stepped truth.

A network that has only seen edges of depth exactly under crisp edges of colour puts them there. Real ones
lie a few pixels beside; the LR depth, which was measured, says where. All choices are ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from training.data.procedural_sensor import compress
from training.draws import log_uniform, normal, uniform
from training.filters import gaussian_blur

BLUR_PX = 1.3  # largest standard deviation
SHARPEN = 1.0  # largest share of the high frequencies that a camera adds
SHIFT_PX, MAX_SHIFT_PX = (0.4, 3.0), 6  # standard deviation of the misregistration; its bound
COMPRESSION = (0.005, 0.05)  # step of the lowest frequencies
DISPARITY_STEPS = (60.0, 400.0)  # of the nearest surface


def imperfect(rgb: Tensor, depth: Tensor, share: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """`share` of the samples as a real camera and a real reference sensor would have delivered them.

    rgb (B, 3, H, W) in [0, 1] and depth (B, 1, H, W) metres, NaN = no surface, in and out. Each sample gets
    a picture blurred or sharpened, or compressed, or none of it; and true depth that lies whole pixels
    beside its picture, or in steps of disparity, or neither.
    """
    rows = (len(rgb), 1, 1, 1)

    def chosen(part: float) -> Tensor:
        return (uniform(rows, rgb, generator) < share) & (uniform(rows, rgb, generator) < part)

    soft = torch.where(chosen(0.6), BLUR_PX * uniform(rows, rgb, generator), 0.0)
    crisp = torch.where(chosen(0.3), SHARPEN * uniform(rows, rgb, generator), 0.0)
    rgb = gaussian_blur(rgb, soft)
    if bool((crisp > 0).any()):  # most samples go without, and a sample alone saves the time
        rgb = (rgb + crisp * (rgb - gaussian_blur(rgb, torch.ones_like(crisp)))).clamp(0, 1)
    step = torch.where(chosen(0.4), log_uniform(COMPRESSION, rows, rgb, generator), 0.0)
    if bool((step > 0).any()):
        rgb = compress(rgb, step).clamp(0, 1)
    spread = log_uniform(SHIFT_PX, rows, rgb, generator)
    shift = spread * normal((len(rgb), 2, 1, 1), rgb, generator)
    shift = shift.round().clamp(-MAX_SHIFT_PX, MAX_SHIFT_PX)
    shift = torch.where(chosen(0.6), shift, 0.0)
    if bool(shift.any()):
        depth = _shifted(depth, shift)
    stepped = chosen(0.25)
    return rgb, torch.where(stepped, _stepped(depth, generator), depth) if bool(stepped.any()) else depth


def _shifted(depth: Tensor, shift: Tensor) -> Tensor:
    """Moved by whole pixels (B, 2, 1, 1), down and right; the border repeats."""
    margin = MAX_SHIFT_PX
    padded = F.pad(depth, (margin,) * 4, mode="replicate")
    height, width = depth.shape[-2:]
    out = []
    for sample, (down, right) in zip(padded, shift.view(-1, 2).long().tolist(), strict=True):
        top, left = margin - down, margin - right
        out.append(sample[:, top : top + height, left : left + width])
    return torch.stack(out)


def _stepped(depth: Tensor, generator: Generator) -> Tensor:
    """In whole steps of disparity, as the truth of stereo sets and of structured light is."""
    rows = (len(depth), 1, 1, 1)
    steps = log_uniform(DISPARITY_STEPS, rows, depth, generator)
    valid = torch.isfinite(depth)
    nearest = torch.where(valid, depth, torch.inf).amin((1, 2, 3), keepdim=True)
    scale = torch.where(torch.isfinite(nearest), nearest, 1.0) * steps
    # What lies beyond the last step stays as it is: a set would not know it.
    disparity = torch.round(scale / depth)
    return torch.where(disparity >= 1, scale / disparity.clamp_min(1), depth)
