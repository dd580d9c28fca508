# SPDX-License-Identifier: Apache-2.0
"""Where training images come from: sources of RGB and true depth, and their mixture by weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from depth_sr_ros.errors import DataError
from training.data.procedural import SceneGenerator
from training.data.rendered import list_frames, read_frames

Frame = TypeVar("Frame")
View = tuple[Tensor, Tensor]  # rgb (1, 3, H, W) in [0, 1]; depth (1, 1, H, W) metres, NaN = no surface


class Source(Protocol):
    """Draws a view of `size` from each generator; it follows from its own alone, whatever the others are."""

    def views(self, size: tuple[int, int], generators: Sequence[Generator]) -> list[View]: ...


class ProceduralSource:
    """Endless scenes from `SceneGenerator`, made on `device`."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._generator = SceneGenerator(device=device)

    def views(self, size: tuple[int, int], generators: Sequence[Generator]) -> list[View]:
        seeds = [int(torch.randint(2**62, (), generator=each, device=each.device)) for each in generators]
        rgb, depth = self._generator.scenes(seeds, *size)
        depth = torch.where(torch.isfinite(depth), depth, torch.nan)
        return list(zip(rgb.split(1), depth.split(1), strict=True))


class ViewSource:
    """Random views with photometric changes; a subclass draws the views, one at a time."""

    def views(self, size: tuple[int, int], generators: Sequence[Generator]) -> list[View]:
        out = []
        for generator in generators:
            rgb, depth = self._view(size, generator)
            out.append((photometric(rgb, generator), depth))
        return out

    def _view(self, size: tuple[int, int], generator: Generator) -> View:
        raise NotImplementedError


class RenderedSource(ViewSource):
    """Random zooms, crops and photometric changes of a folder of rendered frames, kept in memory.

    The memory taken is 7 bytes a pixel: 1.2 GB for 569 frames of 640x480.
    """

    def __init__(self, root: str | Path, split: str = "train", device: torch.device | str = "cpu") -> None:
        frames = read_frames(list_frames(root, split))
        if not frames:
            raise DataError(f"the rendered set at {str(root)!r} has no frame in its {split!r} split")
        self._rgb = torch.stack([torch.from_numpy(rgb) for rgb, _ in frames]).permute(0, 3, 1, 2).to(device)
        self._depth = torch.stack([torch.from_numpy(depth) for _, depth in frames])[:, None].to(device)

    def _view(self, size: tuple[int, int], generator: Generator) -> View:
        index, *draws = _draws(generator)
        number = int(index * len(self._rgb))
        return random_view(self._rgb[number : number + 1], self._depth[number : number + 1], size, draws)


class FileSource(ViewSource, Generic[Frame]):
    """Random views, as `RenderedSource` takes them, of frames that are read from files each time.

    Args:
        frames: what `read` takes.
        read: (rgb uint8 HxWx3, depth float32 HxW metres, NaN = no surface) of one of them.
        stretch: change the distances, by a half to twice; not where the depth was clipped.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        read: Callable[[Frame], tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]],
        stretch: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        self._frames, self._read, self._stretch, self._device = frames, read, stretch, device

    def _view(self, size: tuple[int, int], generator: Generator) -> View:
        index, *draws, stretch = _draws(generator)
        rgb, depth = self._read(self._frames[int(index * len(self._frames))])
        pixels = torch.from_numpy(rgb).to(self._device).permute(2, 0, 1)[None]
        metres = torch.from_numpy(depth).to(self._device)[None, None]
        return random_view(pixels, metres, size, [*draws, stretch if self._stretch else 0.5])


def _draws(generator: Generator) -> list[float]:
    """Which frame, and what `random_view` takes."""
    return torch.rand(6, generator=generator, device=generator.device).tolist()


def random_view(rgb: Tensor, depth: Tensor, size: tuple[int, int], draws: Sequence[float]) -> View:
    """A view of `size` of rgb (1, 3, H, W) uint8 and depth (1, 1, H, W) metres; rgb comes back in [0, 1].

    Five numbers in [0, 1) say which: zoom, top, left, flip and stretch.
    """
    zoom, top, left, flip, stretch = draws
    height, width = rgb.shape[-2:]
    # A view of 0.7 to 2 times the crop's size, shrunk or enlarged to it: texture of all frequencies.
    ratio = min(0.7 * (2 / 0.7) ** zoom, height / size[0], width / size[1])
    h, w = int(size[0] * ratio), int(size[1] * ratio)
    y, x = int(top * (height - h + 1)), int(left * (width - w + 1))
    pixels = rgb[..., y : y + h, x : x + w].float() / 255
    pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
    depth = F.interpolate(depth[..., y : y + h, x : x + w], size, mode="nearest-exact")
    if flip < 0.5:
        pixels, depth = pixels.flip(-1), depth.flip(-1)
    # The same scene at half to twice its size: a sensor's noise depends on the distance.
    return pixels, depth * math.exp((stretch - 0.5) * 2 * math.log(2))


def photometric(rgb: Tensor, generator: Generator) -> Tensor:
    """Random exposure, white balance, gamma, saturation and sensor noise, a sample each; stays in [0, 1]."""
    rows = (rgb.shape[0], 1, 1, 1)

    def draw(shape: tuple[int, ...], low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, device=rgb.device)

    gain = draw(rows, 0.6, 1.4) * draw((rgb.shape[0], 3, 1, 1), 0.88, 1.12)
    rgb = (rgb * gain).clamp(0, 1) ** torch.exp(draw(rows, -0.4, 0.4))
    grey = rgb.mean(1, keepdim=True)
    rgb = grey + (rgb - grey) * draw(rows, 0.0, 1.4)
    noise = torch.randn(rgb.shape, generator=generator, device=rgb.device)
    return (rgb + noise * draw(rows, 0.0, 0.03)).clamp(0, 1)


class Mixture:
    """Draws each view from one of several sources, by their weights."""

    def __init__(self, sources: list[tuple[float, Source]]) -> None:
        if not sources or min(weight for weight, _ in sources) <= 0:
            raise DataError("a mixture needs at least one source, each with a weight above 0")
        # A whole number in YAML is an int, of which torch draws no sample.
        self._weights = torch.tensor([float(weight) for weight, _ in sources])
        self._sources = [source for _, source in sources]

    def views(self, size: tuple[int, int], generators: Sequence[Generator]) -> list[View]:
        picks = [self._pick(generator) for generator in generators]
        found: dict[int, View] = {}
        for number, source in enumerate(self._sources):
            mine = [index for index, pick in enumerate(picks) if pick == number]
            if mine:
                views = source.views(size, [generators[index] for index in mine])
                found.update(zip(mine, views, strict=True))
        return [found[index] for index in range(len(generators))]

    def _pick(self, generator: Generator) -> int:
        weights = self._weights.to(generator.device)
        return int(torch.multinomial(weights, 1, generator=generator))
