# SPDX-License-Identifier: Apache-2.0
"""Pictures of what a network is trained and validated on."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.colorize import colorize, depth_range
from training.data.batches import Batch


def picture_row(
    rgb: npt.NDArray[np.uint8], depths: Sequence[npt.NDArray[np.float32]]
) -> npt.NDArray[np.uint8]:
    """uint8 RGB HxWx3 and depths (metres, NaN = invalid, of any size) beside each other: HxWx3 uint8.

    All depths have the colours of the last one's range.
    """
    height, width = rgb.shape[:2]
    low, high = depth_range(depths[-1])
    columns = [rgb]
    for depth in depths:
        coloured = colorize(depth, low, high)
        columns.append(
            cv2.resize(coloured, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
        )
    return np.hstack(columns)


def batch_picture(batch: Batch) -> npt.NDArray[np.uint8]:
    """A row for each sample: RGB, LR depth, truth, and relative depth where there is one, near = white."""
    rgb = (batch["rgb"] * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    lr, truth = (batch[name][:, 0].cpu().numpy() for name in ("depth_lr", "depth"))
    rows = [picture_row(*sample) for sample in zip(rgb, zip(lr, truth, strict=True), strict=True)]
    if "relative_depth" in batch:
        relative = batch["relative_depth"][:, 0].cpu().numpy()
        rows = [np.hstack([row, _grey(each)]) for row, each in zip(rows, relative, strict=True)]
    return np.vstack(rows)


def _grey(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    levels = np.round(255 * (values - low) / max(high - low, 1e-9)).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)
