# SPDX-License-Identifier: Apache-2.0
"""What the benchmark times: networks in every way that they can run, filters, Depth Anything alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from depth_sr_ros.baselines import run_baseline
from depth_sr_ros.compiled import why_not_compiled
from depth_sr_ros.config import GUIDE_SIDE, GUIDE_SIDES, VARIANTS, ModelConfig, check_choice, check_range
from depth_sr_ros.cost import Cost, count
from depth_sr_ros.engine import DepthSuperResolver
from depth_sr_ros.errors import CheckpointError, ConfigError
from depth_sr_ros.image_size import Sizes
from depth_sr_ros.models.checkpoint import load_checkpoint, read_header, save_checkpoint, shipped_checkpoint
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.models.guide import PATCH, DepthAnythingGuide
from depth_sr_ros.ways import Way, ways_on

NETWORK, GUIDE, FILTER = "network", "guide", "filter"
FILTERS = ("bicubic", "guided", "fgs", "jbu")
ALL_VARIANTS = "all"
UNTRAINED = "untrained"

Rgb = npt.NDArray[np.uint8]
Depth = npt.NDArray[np.float32]
Run = Callable[[Rgb, Depth], Depth]


@dataclass(frozen=True)
class Network:
    """A network to time. `is_trained`: it and its guide; where it is False nothing but time is taken."""

    name: str
    variant: str
    model: ModelConfig
    checkpoint: Path
    guide_path: Path | None
    is_trained: bool
    guide_size: int = GUIDE_SIDE

    def engine(self, way: Way, device: torch.device, threads: int) -> DepthSuperResolver:
        """Raises what the engine raises."""
        return DepthSuperResolver(
            self.checkpoint,
            variant=self.variant,
            device=str(device),
            threads=threads,
            guide_path=self.guide_path,
            guide_size=self.guide_size,
            **way._asdict(),
        )

    def costs(self, sizes: Sizes, precisions: Sequence[str], device: torch.device) -> dict[str, Cost]:
        """Of a frame in each of torch's precisions, counted by running it."""
        folder, size = self.guide_path, self.guide_size
        guide = None if folder is None else DepthAnythingGuide.from_folder(folder, size)
        net, _ = load_checkpoint(self.checkpoint, device, variant=self.variant, guide=guide)
        (width, height), (lr_width, lr_height) = sizes
        rgb = torch.zeros(1, height, width, 3, dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
        depth = torch.ones(1, 1, lr_height, lr_width, device=device)
        return {name: _cost_in(name, device, lambda: net.upsample(rgb, depth)) for name in precisions}


@dataclass(frozen=True)
class Method:
    """One way to make depth of a frame; `make` prepares it, with a number of CPU threads."""

    name: str
    kind: str
    """NETWORK, GUIDE or FILTER."""
    make: Callable[[int], Run]
    subject: str
    """The name of what it runs; with `precision` it says which count holds for it."""
    precision: str = "float32"


def networks(
    variants: Sequence[str],
    checkpoint: Path | None,
    guide_path: str | None,
    folder: Path,
    guide_size: int | None = None,
) -> list[Network]:
    """The variants with their weights; `folder` takes untrained ones where none ship.

    `variants` may say "all"; `guide_path` is a folder of Depth Anything's, "untrained" (one made here, as
    fast as any) or None (the U-Nets alone); `guide_size` is the short side in pixels of the image that it
    sees (None: GUIDE_SIDE). Raises ConfigError and CheckpointError.
    """
    if guide_size is not None:
        check_range("guide_size", guide_size, GUIDE_SIDES)
        if guide_path is None:
            raise ConfigError(
                f"guide_size is {guide_size}, but no guide is given: add guide_path (a folder of Depth "
                f"Anything's, or {UNTRAINED!r}), or leave guide_size out"
            )
    chosen = list(VARIANTS) if ALL_VARIANTS in variants else list(dict.fromkeys(variants))
    for name in chosen:
        check_choice("variant", name, (*VARIANTS, ALL_VARIANTS))
    if checkpoint is not None and len(chosen) > 1:
        raise ConfigError(f"a checkpoint holds one variant, but {', '.join(chosen)} were asked for; name one")
    found = [_weights(name, checkpoint, folder) for name in chosen]
    if guide_path is not None and all(model.guide == "none" for model, _, _ in found):
        raise ConfigError(
            f"guide_path is {guide_path!r}, but {', '.join(chosen)} takes no guide; add variant 'fast' or "
            "'challenge'"
        )
    guide = _guide_folder(guide_path, folder)
    out = []
    for variant, (model, path, is_trained) in zip(chosen, found, strict=True):
        with_guide = guide is not None and model.guide != "none"
        is_guide_trained = not with_guide or guide_path != UNTRAINED
        if model.guide == "none":
            name = variant
        elif not with_guide:
            name = f"{variant} U-Net"
        else:
            name = f"{variant} + {'' if is_guide_trained or not is_trained else f'{UNTRAINED} '}guide"
            name += "" if guide_size is None else f" {guide_size}"
        name += "" if is_trained else f", {UNTRAINED}"
        trained = is_trained and is_guide_trained
        size = guide_size or GUIDE_SIDE
        out.append(Network(name, variant, model, path, guide if with_guide else None, trained, size))
    return out


def network_ways(
    network: Network, device: torch.device, precisions: Sequence[str], compiled: bool = False
) -> list[Way]:
    """Those that the engine would try, or, where `precisions` are named, all of theirs; with `compiled` also
    torch.compile in each precision.

    Raises ConfigError where torch.compile cannot work.
    """
    possible = ways_on(str(device), network.model)
    runtimes = dict.fromkeys(way.runtime for way in possible)
    asked = [Way(runtime, name) for name in precisions for runtime in runtimes] or list(possible)
    ways = [way for way in asked if way.runtime != "native" or way in possible]
    if not compiled:
        return ways
    if reason := why_not_compiled(device):
        raise ConfigError(f"--compile is not possible here: {reason}")
    return ways + [Way("compile", name) for name in dict.fromkeys(way.precision for way in ways)]


def network_methods(network: Network, ways: Sequence[Way], device: torch.device) -> list[Method]:
    """One for each way, through the engine."""
    return [
        Method(
            f"{network.name}, {way.runtime} {way.precision}",
            NETWORK,
            functools.partial(network.engine, way, device),
            network.name,
            way.precision,
        )
        for way in ways
    ]


def filter_methods() -> list[Method]:
    """The classical filters. They know no threads of ours: as OpenCV comes, with all cores."""

    def run(name: str, threads: int) -> Run:
        return lambda rgb, depth: run_baseline(name, depth, rgb)

    return [Method(name, FILTER, functools.partial(run, name), name) for name in FILTERS]


class DepthAnythingAlone:
    """An untrained Depth Anything Small: RGB in memory -> relative depth in memory, for its time alone."""

    def __init__(self, short_side: int, device: torch.device) -> None:
        if short_side < PATCH:
            raise ConfigError(
                f"depth_anything is {short_side}, but must be at least {PATCH} pixels, such as 518"
            )
        self.name = f"Depth Anything Small {short_side}, {UNTRAINED}"
        self._short_side = short_side
        self._device = device

    def methods(self, precisions: Sequence[str]) -> list[Method]:
        """One for each of torch's precisions."""
        return [
            Method(f"{self.name}, torch {name}", GUIDE, functools.partial(self._make, name), self.name, name)
            for name in precisions
        ]

    def costs(self, sizes: Sizes, precisions: Sequence[str], device: torch.device) -> dict[str, Cost]:
        """As Network.costs."""
        guide = self._guide()
        (width, height), _ = sizes
        rgb = torch.zeros(1, 3, height, width, device=device)
        return {name: _cost_in(name, device, lambda: guide(rgb)) for name in precisions}

    def _guide(self) -> DepthAnythingGuide:
        guide = DepthAnythingGuide.from_config(self._short_side)
        return guide.to(self._device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def _make(self, precision: str, threads: int) -> Run:
        torch.set_num_threads(threads)
        guide = self._guide()

        def run(rgb: Rgb, depth: Depth) -> Depth:
            with torch.inference_mode(), _autocast(self._device, precision):
                image = torch.from_numpy(rgb).to(self._device).permute(2, 0, 1)[None].float() / 255
                return guide(image)[0, 0].cpu().numpy()

        return run


def torch_precisions(device: torch.device, precisions: Sequence[str]) -> list[str]:
    """Those asked for, or those in which the engine would try torch on `device`."""
    ways = ways_on(str(device), VARIANTS["fast"])
    return list(precisions) or [way.precision for way in ways if way.runtime == "torch"]


def _cost_in(precision: str, device: torch.device, call: Callable[[], object]) -> Cost:
    with _autocast(device, precision):
        return count(call)


def _autocast(device: torch.device, precision: str) -> Any:
    return torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")


def _weights(variant: str, checkpoint: Path | None, folder: Path) -> tuple[ModelConfig, Path, bool]:
    """What the network is made of, its file, and whether that was trained."""
    if checkpoint is not None:
        return read_header(checkpoint).model, checkpoint, True
    try:
        path = shipped_checkpoint(variant)
    except CheckpointError:
        path = folder / f"{variant}.safetensors"
        save_checkpoint(path, DepthSRNet(VARIANTS[variant]), training={}, metrics={}, version=UNTRAINED)
        return VARIANTS[variant], path, False
    return read_header(path).model, path, True


def _guide_folder(guide_path: str | None, folder: Path) -> Path | None:
    if guide_path != UNTRAINED:
        return None if guide_path is None else Path(guide_path)
    made = folder / "guide"
    DepthAnythingGuide.from_config().model.save_pretrained(made)  # type: ignore[operator]
    return made
