# SPDX-License-Identifier: Apache-2.0
"""What a network is made of: one frozen, validated dataclass and the three published variants."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from depth_sr_ros.errors import ConfigError

GUIDES = ("none", "depth_anything")
FUSIONS = ("adain", "add")
HEADS = ("residual", "kernel")
PRECISIONS = ("float32", "bfloat16", "float16")  # names of torch types
# torch's own operations; the CPU kernels of native/; torch's operations as a CUDA graph; torch.compile
RUNTIMES = ("torch", "native", "cuda_graph", "compile")
NORMALIZATIONS = ("fixed", "frame", "log")
# The guide's short side in pixels: the published one, and from eight patches of Depth Anything to twice that.
GUIDE_SIDE = 518
GUIDE_SIDES = (112, 1036)
GUIDE_PACES = (1, 1000)  # frames for which one relative depth serves


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise ConfigError unless `value` is one of `choices`, naming the nearest one."""
    options = list(choices)
    if value in options:
        return
    near = difflib.get_close_matches(str(value), options, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{name} is {value!r}, but must be one of {', '.join(options)}{hint}")


def check_range(name: str, value: int, limits: tuple[int, int]) -> None:
    """Raise ConfigError unless `value` is one of the lowest to the highest of `limits`."""
    if not limits[0] <= value <= limits[1]:
        raise ConfigError(f"{name} is {value}, but must be from {limits[0]} to {limits[1]}")


def check_keys(where: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise ConfigError on the first key of `given` that is not in `allowed`, naming the nearest one."""
    options = list(allowed)
    for key in given:
        if key not in options:
            near = difflib.get_close_matches(str(key), options, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(options)}"
            raise ConfigError(f"unknown key {key!r} in {where}; {hint}")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of the fusion U-Net and of what feeds it.

    `channels` holds the width of the five levels, finest first. `encoder_blocks` and `decoder_blocks`
    hold the number of NAFNet blocks of the four upper levels, finest first; `rel_encoder_blocks` those of the
    relative-depth path, () for as many as in the LR path; `middle_blocks` those of the bottleneck.
    `unshuffle` is the pixel-unshuffle factor of the stem (1 = full resolution).

    `head`: `residual`, published, a correction of the upsampled depth; `kernel`, ours, a mixture of
    neighbouring cells' depths beside it. What comes after it, both ours: `propagation`, the dilations of the
    steps in which depth spreads among pixels of like colour (none: (), no such steps); `back_projection`,
    whether the answer is corrected by what was measured; `confidence`, whether it says how far off it may be.
    `guide_check`, ours: whether a guide that disagrees with the LR depth is left out.

    `normalization` says how metres become the network's unit:
    `fixed`: z / (depth_clip * unit_m), the published range; `frame`: the frame's valid minimum and
    maximum to [0, 1]; `log`: natural logarithm of z over the frame's median.
    """

    variant: str
    channels: tuple[int, ...]
    unshuffle: int = 1
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 1)
    rel_encoder_blocks: tuple[int, ...] = ()
    middle_blocks: int = 1
    decoder_blocks: tuple[int, ...] = (1, 1, 1, 1)
    guide: str = "none"
    fusion: str = "adain"
    head: str = "residual"
    propagation: tuple[int, ...] = ()
    back_projection: bool = False
    confidence: bool = False
    guide_check: bool = False
    normalization: str = "log"
    unit_m: float = 0.1
    depth_clip: float = 300.0

    def __post_init__(self) -> None:
        check_choice("guide", self.guide, GUIDES)
        check_choice("fusion", self.fusion, FUSIONS)
        check_choice("head", self.head, HEADS)
        check_choice("normalization", self.normalization, NORMALIZATIONS)
        if self.unshuffle not in (1, 2, 4, 8):
            raise ConfigError(f"unshuffle is {self.unshuffle!r}, but must be 1, 2, 4 or 8")
        _check_sizes("channels", self.channels, length=5, low=1)
        _check_sizes("encoder_blocks", self.encoder_blocks, length=4, low=0)
        if self.rel_encoder_blocks:
            _check_sizes("rel_encoder_blocks", self.rel_encoder_blocks, length=4, low=0)
        _check_sizes("decoder_blocks", self.decoder_blocks, length=4, low=0)
        _check_sizes("propagation", self.propagation, length=len(self.propagation), low=1)
        _check_sizes("middle_blocks", (self.middle_blocks,), length=1, low=0)
        for name in ("unit_m", "depth_clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, but must be above 0")

    @property
    def guide_channels(self) -> int:
        """Input channels of the relative-depth path: RGB, and D_rel where there is a foundation model."""
        return 3 if self.guide == "none" else 4

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_dict` reads it back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Build from a dict, refusing unknown and missing keys with a ConfigError."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        check_keys("the model configuration", values, fields)
        missing = [name for name in ("variant", "channels") if name not in values]
        if missing:
            raise ConfigError(f"the model configuration lacks the key {missing[0]!r}")
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)


def _check_sizes(name: str, values: tuple[int, ...], length: int, low: int) -> None:
    good = len(values) == length and all(isinstance(v, int) and v >= low for v in values)
    if not good:
        raise ConfigError(f"{name} is {values!r}, but must hold {length} whole numbers of at least {low}")


def _doubling(width: int) -> tuple[int, ...]:
    return tuple(width * 2**level for level in range(5))


# No foundation model: RGB alone guides. Narrow at depth, where parameters are many and pixels few. No blocks
# at the coarse levels of the relative-depth path: those that were trained there came to add nothing.
EDGE = ModelConfig(
    "edge",
    (32, 48, 96, 128, 192),
    unshuffle=4,
    rel_encoder_blocks=(1, 1, 0, 0),
    head="kernel",
    propagation=(1, 2),
    back_projection=True,
)

VARIANTS: dict[str, ModelConfig] = {
    # The published network: 29 M parameters with Depth Anything Small, full resolution, fixed range.
    "challenge": ModelConfig(
        "challenge", _doubling(28), unshuffle=1, guide="depth_anything", normalization="fixed"
    ),
    # `edge` with Depth Anything as its guide, and twice its blocks: what it costs is little beside the guide.
    "fast": dataclasses.replace(
        EDGE,
        variant="fast",
        encoder_blocks=(2, 2, 2, 2),
        rel_encoder_blocks=(),
        middle_blocks=2,
        decoder_blocks=(2, 2, 2, 2),
        guide="depth_anything",
        guide_check=True,
    ),
    "edge": EDGE,
}


def model_config(variant: str, **overrides: Any) -> ModelConfig:
    """The configuration of a published variant, with fields replaced; ConfigError on a wrong name or key."""
    check_choice("variant", variant, VARIANTS)
    return ModelConfig.from_dict({**VARIANTS[variant].to_dict(), **overrides})
