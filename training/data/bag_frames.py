# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 recording as training images: its depth, as the camera measured it, is taken for the truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.bag import BagReader
from depth_sr_ros.bag_pairs import BagPair, PairReader, decode_depth, decode_rgb, find_topics
from depth_sr_ros.errors import DataError, FrameError

MAX_BYTES = 4 << 30  # of the messages kept in memory


class BagFrames:
    """Pairs of a recording at least `interval_s` apart, kept in memory as they were recorded.

    Depth must be registered to the RGB's view (as `aligned_depth_to_color` is). Its resolution is that of the
    images: a larger RGB is shrunk to it.
    Raises DataError where there is no such recording, or no pair in it.
    """

    def __init__(
        self,
        path: str | Path,
        rgb_topic: str | None = None,
        depth_topic: str | None = None,
        interval_s: float = 0.5,
    ) -> None:
        self._bag = BagReader(path)
        topics = find_topics(self._bag, rgb_topic, depth_topic)
        self.pairs: list[BagPair] = []
        size, last = 0, None
        for pair in PairReader(self._bag, topics):
            # A stamp that went back: the recording was looped, or its clock was set.
            if last is not None and 0 <= pair.stamp_ns - last < interval_s * 1e9:
                continue
            last = pair.stamp_ns
            self.pairs.append(pair)
            size += len(pair.rgb.raw) + len(pair.depth.raw)
            if size > MAX_BYTES:
                raise DataError(
                    f"{path} has more than {MAX_BYTES >> 30} GiB of pairs {interval_s} s apart; raise "
                    "data.sources.interval_s"
                )
        if not self.pairs:
            raise DataError(
                f"{path} holds no pair of {topics.rgb} and {topics.depth}: their stamps are too far apart, "
                "or one of them has no message"
            )

    def read(self, pair: BagPair) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """(rgb uint8 HxWx3, depth float32 HxW metres, NaN = invalid); DataError on undecodable images."""
        try:
            rgb, depth = decode_rgb(self._bag, pair.rgb), decode_depth(self._bag, pair.depth)
        except FrameError as error:
            raise DataError(
                f"{self._bag.path}: the pair at {pair.stamp_ns} ns cannot be decoded: {error}"
            ) from error
        height, width = depth.shape
        ratios = rgb.shape[0] / height, rgb.shape[1] / width
        if min(ratios) < 1 or abs(ratios[0] / ratios[1] - 1) > 0.02:
            raise DataError(
                f"{self._bag.path}: RGB of {rgb.shape[1]}x{rgb.shape[0]} beside depth of {width}x{height}; "
                "depth must be registered to the RGB's view and no larger: record the aligned depth topic"
            )
        if rgb.shape[:2] != depth.shape:
            rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
        return rgb, depth
