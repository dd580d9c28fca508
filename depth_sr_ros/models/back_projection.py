# SPDX-License-Identifier: Apache-2.0
"""What was measured is kept: an answer whose mean over an LR pixel is not the measurement is corrected."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_sr_ros.models.nafnet import Pointwise
from depth_sr_ros.models.normalization import DepthNormalizer
from depth_sr_ros.models.portable import area_mean, cell_mean, nearest

HIDDEN = 32
LEAST_SHARE = 0.25  # of the depth before: no step in metres brings it nearer than that


class BackProjection(nn.Module):
    """One step of back-projection (Irani and Peleg, CVGIP 1991), each pixel's share of it set by the network.

    The residual of an LR pixel is its measurement less the mean of the answer over its area, in metres. Of
    exact depth all of it is an error of the answer; of noisy depth most of it is noise, but not at an edge,
    where the answer may err by the height of the edge and the sensor by a hundredth of that. So the share of
    the residual that a pixel is given follows from the network's features and from the residual itself, in
    its surroundings. It is zero at the start.
    """

    def __init__(self, channels: int, unshuffle: int) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.features = Pointwise(channels, HIDDEN)
        self.residual = nn.Conv2d(1, HIDDEN, 3, padding=1, bias=False)
        self.share = Pointwise(HIDDEN, unshuffle**2)
        nn.init.zeros_(self.share.weight)
        nn.init.zeros_(self.share.bias)

    def forward(
        self, features: Tensor, depth: Tensor, filled: Tensor, mask: Tensor, normalizer: DepthNormalizer
    ) -> Tensor:
        """Depth (B, 1, H, W) in metres, corrected.

        features (B, C, h, w) of cells, padded at the right and the bottom; filled (B, 1, lh, lw) the LR
        depth in metres without holes, and mask, 1 where it was measured.
        """
        size, cells = (depth.shape[-2], depth.shape[-1]), features.shape[-2:]
        mean = area_mean(depth, (filled.shape[-2], filled.shape[-1]))
        residual = mask * (filled - mean)
        # In typical corrections; asinh: linear for noise, logarithmic for what is missed at an edge.
        relative = mask * (normalizer.normalize(filled) - normalizer.normalize(mean)) / normalizer.correction
        both = torch.cat([residual, torch.asinh(relative)], 1)
        both = nearest(both, size)
        seen = cell_mean(both[:, 1:], self.unshuffle)
        seen = F.pad(seen, (0, cells[1] - seen.shape[3], 0, cells[0] - seen.shape[2]), mode="replicate")
        hidden = F.relu(self.features(features) + self.residual(seen))
        share = F.pixel_shuffle(self.share(hidden), self.unshuffle)[..., : size[0], : size[1]]
        return torch.maximum(depth + share * both[:, :1], LEAST_SHARE * depth)
