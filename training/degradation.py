# SPDX-License-Identifier: Apache-2.0
"""Random sensor degradation of batches (torch, any device): true depth -> low-resolution, noisy depth.

The evaluation protocol's own, NumPy degradations are in `depth_sr_ros.degradation`; strengths here are drawn
around them, so that the network meets the protocol's sensor, weaker and stronger ones, and sometimes none.
Models of other sensors (depth_sr_ros/sensor_profiles.py) are mixed in, one sample at a time and in NumPy:
beside a GPU that is work for loader processes (`data.workers`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from depth_sr_ros.config import check_choice
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.models.normalization import fill_holes, valid_mask
from depth_sr_ros.sensor_profiles import SENSORS
from training.draws import log_uniform, normal, uniform

METHODS = ("area", "nearest", "bicubic")


@dataclass(frozen=True)
class DegradationConfig:
    """What is drawn, and how often.

    `scales`: RGB pixels per LR pixel, one a batch. `methods`: share of area / nearest / bicubic resampling.
    `clean_share`: samples with no degradation but the resampling. Noise is `noise_strength` (range,
    log-uniform) times the protocol's sigma(z), and `correlated_share` of the noisy samples have blotchy
    noise. `outlier_share` is the largest share of replaced pixels, `bits` the choices of quantisation
    (0 = none). `sensor_share` of the samples are instead seen by one of `sensors`, at `sensor_strength`
    (range, log-uniform); only where the scale is whole and divides the crop. `hole_share` of all samples get
    holes of up to `hole_area` of the frame.
    """

    scales: tuple[float, ...] = (2, 3, 4, 4, 4, 6, 8, 8, 8, 12, 16)
    methods: tuple[float, float, float] = (0.7, 0.15, 0.15)
    clean_share: float = 0.25
    noise_strength: tuple[float, float] = (0.1, 2.5)
    correlated_share: float = 0.2
    outlier_share: float = 0.05
    bits: tuple[int, ...] = (0, 0, 8, 9, 10, 10, 12)
    sensor_share: float = 0.0
    sensors: tuple[str, ...] = tuple(SENSORS)
    sensor_strength: tuple[float, float] = (0.4, 2.0)
    hole_share: float = 0.35
    hole_area: float = 0.6

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) < 1:
            raise ConfigError(f"degradation.scales is {self.scales}, but every scale must be at least 1")
        for sensor in self.sensors:
            check_choice("degradation.sensors", sensor, SENSORS)
        shares = (
            "clean_share",
            "correlated_share",
            "outlier_share",
            "sensor_share",
            "hole_share",
            "hole_area",
        )
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"degradation.{name} is {getattr(self, name)}, but must be between 0 and 1")
        if len(self.methods) != len(METHODS) or min(self.methods) < 0 or sum(self.methods) <= 0:
            raise ConfigError(f"degradation.methods is {self.methods}; give one share for each of {METHODS}")
        if not self.sensors and self.sensor_share > 0:
            raise ConfigError("degradation.sensors is [], but sensor_share asks for some")
        if not self.bits or any(bits < 0 or bits > 24 for bits in self.bits):
            raise ConfigError(
                f"degradation.bits is {self.bits}, but must be a list of choices from 0 (none) to 24"
            )
        for name in ("noise_strength", "sensor_strength"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"degradation.{name} is {(low, high)}; give 0 < low <= high")


def noise_sigma(depth: Tensor) -> Tensor:
    """The protocol's depth-dependent standard deviation, metres in and out."""
    return 0.0012 + 0.0019 * (depth.clamp_max(5.0) - 0.4).square() + 0.01 * depth


class RandomDegradation:
    """Draws low-resolution sensor images of true depth images."""

    def __init__(self, config: DegradationConfig = DegradationConfig()) -> None:
        self.config = config

    def draw_scale(self, generator: Generator) -> float:
        """RGB pixels per LR pixel: for a whole batch, whose LR images have one size."""
        return _choice(self.config.scales, generator)

    def __call__(self, depth: Tensor, rgb: Tensor, scale: float, generator: Generator) -> Tensor:
        """depth (B, 1, H, W) metres, NaN = invalid -> (B, 1, h, w) metres, NaN = invalid; h = H / scale.

        rgb (B, 3, H, W) in [0, 1] says which surfaces are dark. All B are resampled alike.
        """
        size = tuple(max(2, round(side / scale)) for side in depth.shape[-2:])
        method = METHODS[_draw_index(self.config.methods, generator)]
        lr = resample(depth, size, method)
        rows = (depth.shape[0], 1, 1, 1)
        noisy = uniform(rows, lr, generator) >= self.config.clean_share
        if bool(noisy.any()):
            lr = torch.where(noisy, self._sense(lr, generator), lr)
        divides = scale == int(scale) and all(side % scale == 0 for side in depth.shape[-2:])
        if self.config.sensor_share and divides:
            lr = self._by_sensors(lr, depth, rgb, int(scale), generator)
        return self._punch_holes(lr, generator)

    def _sense(self, lr: Tensor, generator: Generator) -> Tensor:
        """Noise, outliers, quantisation: the order of the protocol."""
        c, rows = self.config, (lr.shape[0], 1, 1, 1)
        strength = log_uniform(c.noise_strength, rows, lr, generator)
        blotchy = uniform(rows, lr, generator) < c.correlated_share
        noise = torch.where(blotchy, _blotches(lr, generator), normal(lr.shape, lr, generator))
        lr = lr + strength * noise_sigma(lr) * noise
        lr = torch.where(lr > 0, lr, torch.nan)
        low, high = quantiles(lr, (0.1, 0.9))
        share = c.outlier_share * uniform(rows, lr, generator)
        hit = uniform(lr.shape, lr, generator) < share
        drawn = low + (high - low) * uniform(lr.shape, lr, generator)
        lr = torch.where(hit & valid_mask(lr), drawn, lr)
        return self._quantise(lr, generator)

    def _by_sensors(self, lr: Tensor, depth: Tensor, rgb: Tensor, scale: int, generator: Generator) -> Tensor:
        """`lr`, some of its samples replaced by what a sensor model makes of their true depth."""
        c = self.config
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device=lr.device)))
        out = lr.clone()
        for i in np.flatnonzero(rng.random(len(lr)) < c.sensor_share):
            sensor = SENSORS[c.sensors[rng.integers(len(c.sensors))]]
            strength = float(np.exp(rng.uniform(*np.log(c.sensor_strength))))
            truth = torch.where(valid_mask(depth[i, 0]), depth[i, 0], torch.nan).cpu().numpy()
            picture = (rgb[i].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
            out[i, 0] = torch.from_numpy(sensor(truth, scale, picture, rng, strength)).to(lr)
        return out

    def _quantise(self, lr: Tensor, generator: Generator) -> Tensor:
        bits = torch.tensor(self.config.bits, device=lr.device)
        index = torch.randint(len(bits), (lr.shape[0], 1, 1, 1), generator=generator, device=lr.device)
        steps = torch.exp2(bits[index].float()) - 1
        valid = valid_mask(lr)
        start = torch.where(valid, lr, torch.inf).amin((1, 2, 3), keepdim=True)
        stop = torch.where(valid, lr, -torch.inf).amax((1, 2, 3), keepdim=True)
        step = (stop - start) / steps
        quantised = start + step * torch.round((lr - start) / step)
        return torch.where((steps > 0) & (step > 0), quantised, lr)

    def _punch_holes(self, lr: Tensor, generator: Generator) -> Tensor:
        """Blobs of missing pixels, as dark or shiny surfaces leave them, and single lost pixels."""
        c, rows = self.config, (lr.shape[0], 1, 1, 1)
        holed = uniform(rows, lr, generator) < c.hole_share
        if not bool(holed.any()):
            return lr
        area = c.hole_area * uniform(rows, lr, generator)
        coarse = normal((lr.shape[0], 1, 5, 6), lr, generator)
        field = F.interpolate(coarse, lr.shape[-2:], mode="bicubic", align_corners=False)
        field = field + 0.15 * normal(lr.shape, lr, generator)
        rank = field.flatten(1).argsort(dim=1).argsort(dim=1).view_as(field)
        hole = rank < area * rank[0].numel()
        return torch.where(holed & hole, torch.nan, lr)


def resample(depth: Tensor, size: tuple[int, ...], method: str) -> Tensor:
    """Shrink (B, 1, H, W) metres to `size`; a pixel of which less than half was measured is NaN."""
    valid = valid_mask(depth)
    share = F.interpolate(valid.float(), size, mode="area")
    if method == "nearest":
        return F.interpolate(torch.where(valid, depth, torch.nan), size, mode="nearest-exact")
    if method == "area":
        lr = F.interpolate(torch.where(valid, depth, 0.0), size, mode="area") / share.clamp_min(1e-6)
    else:
        filled = fill_holes(torch.where(valid, depth, 0.0), valid)
        lr = F.interpolate(filled, size, mode="bicubic", align_corners=False, antialias=True)
    return torch.where((share >= 0.5) & (lr > 0), lr, torch.nan)


def _blotches(like: Tensor, generator: Generator) -> Tensor:
    """Unit-variance noise with a correlation length of two or three LR pixels."""
    height, width = like.shape[-2:]
    coarse = normal((like.shape[0], 1, -(-height // 2) + 1, -(-width // 2) + 1), like, generator)
    smooth = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return smooth / smooth.std((1, 2, 3), keepdim=True).clamp_min(1e-6)


def quantiles(lr: Tensor, q: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Two per-sample quantiles over (B, 1, H, W) less NaN, (B, 1, 1, 1) each; NaN where nothing is valid."""
    values = torch.nanquantile(lr.flatten(1), torch.tensor(q, device=lr.device), dim=1)
    return values[0].view(-1, 1, 1, 1), values[1].view(-1, 1, 1, 1)


def _choice(values: tuple[float, ...], generator: Generator) -> float:
    return values[_draw_index((1.0,) * len(values), generator)]


def _draw_index(shares: tuple[float, ...], generator: Generator) -> int:
    weights = torch.tensor(shares, dtype=torch.float32, device=generator.device)
    return int(torch.multinomial(weights, 1, generator=generator))
