# SPDX-License-Identifier: Apache-2.0
"""The node's parameters in one table: names, types, defaults, ranges, descriptions, and when each can change.

The descriptors that ROS tools show, the checks of YAML files and docs/node.md are made from it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from depth_sr_ros.config import (
    GUIDE_PACES,
    GUIDE_SIDE,
    GUIDE_SIDES,
    PRECISIONS,
    RUNTIMES,
    VARIANTS,
    check_choice,
)
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.image_codec import OUTPUT_ENCODINGS
from depth_sr_ros.image_size import MIN_DEPTH_SIDE, MIN_RGB_SIDE
from depth_sr_ros.pairing import KEYS

Value = bool | str | int | float | list[int] | list[float]

POLICIES = ("nearest", "approximate", "exact")
RGB_TRANSPORTS = ("raw", "compressed")
DEPTH_TRANSPORTS = ("raw", "compressedDepth", "compressed")
UNKNOWN = ("nan", "fill")
EXTRINSICS = ("tf", "parameter")
MAX_SIDE = 16384  # pixels


@dataclass(frozen=True)
class Spec:
    """One parameter. The type is the default's; `low` and `high` bound a number, or each number of a list.

    `automatic` is a number outside of them that is allowed too. A `dynamic` parameter acts on the next frame;
    the others can change while the node is unconfigured.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False
    automatic: float | None = None

    @property
    def type_name(self) -> str:
        """As a user writes it in YAML."""
        if isinstance(self.default, list):
            return f"{len(self.default)} {'whole ' if isinstance(self.default[0], int) else ''}numbers"
        return {bool: "true or false", str: "text", int: "whole number", float: "number"}[type(self.default)]

    @property
    def allowed(self) -> str:
        """What a value may be, in words; empty where the type says it all."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.low is None or self.high is None:
            return ""
        also = "" if self.automatic is None else f", or {self.automatic:g}"
        return f"{'each ' if isinstance(self.default, list) else ''}from {self.low:g} to {self.high:g}{also}"

    def check(self, value: Any) -> Any:
        """The value in the parameter's type; ConfigError where type, range or choice are wrong."""
        if isinstance(self.default, list):
            return self._check_list(value)
        if isinstance(value, float) and math.isnan(value) and "nan" in self.choices:
            value = "nan"  # ROS's YAML reads the word as a number
        if isinstance(self.default, float) and type(value) is int:
            value = float(value)  # YAML reads 1 as a whole number
        if type(value) is not type(self.default):
            kind = {"text": "text", "true or false": "true or false"}.get(
                self.type_name, f"a {self.type_name}"
            )
            raise ConfigError(f"parameter {self.name} is {value!r}, but must be {kind}")
        if self.choices:
            check_choice(f"parameter {self.name}", value, self.choices)
        self._check_range(value)
        return value

    def _check_list(self, value: Any) -> list[Any]:
        assert isinstance(self.default, list)
        kind = type(self.default[0])
        numbers = list(value) if hasattr(value, "__len__") and not isinstance(value, str) else [value]
        if kind is float:
            numbers = [float(number) if type(number) is int else number for number in numbers]
        if len(numbers) != len(self.default) or any(type(number) is not kind for number in numbers):
            raise ConfigError(f"parameter {self.name} is {value!r}, but must hold {self.type_name}")
        for number in numbers:
            self._check_range(number)
        return numbers

    def _check_range(self, value: Any) -> None:
        if self.low is None or self.high is None or value == self.automatic:
            return
        if not self.low <= value <= self.high or math.isnan(value):
            raise ConfigError(
                f"parameter {self.name} is {value}, but must be {self.allowed.removeprefix('each ')}"
            )


TABLE: tuple[Spec, ...] = (
    Spec("autostart", True, "Configure and activate at the start; false: a lifecycle manager does it"),
    Spec("lazy", True, "Unsubscribe and compute nothing while nobody listens to an output", dynamic=True),
    Spec(
        "variant",
        "edge",
        "The network: edge runs on a CPU, fast and challenge want a GPU",
        choices=(*VARIANTS,),
    ),
    Spec("checkpoint", "", "Weights (.safetensors); empty: those that ship with the package for the variant"),
    Spec("guide.path", "", "Folder of the Depth Anything weights, which fast and challenge need"),
    Spec(
        "guide.size",
        GUIDE_SIDE,
        "Short side of the image that Depth Anything sees, pixels; smaller is faster and coarser",
        *GUIDE_SIDES,
    ),
    Spec(
        "guide.every_n",
        1,
        "Run Depth Anything on every n-th frame; its relative depth is used again for those between",
        *GUIDE_PACES,
    ),
    Spec("device", "auto", "auto (CUDA where there is one), cpu, cuda or cuda:N"),
    Spec(
        "engine.precision",
        "auto",
        "Number format of the network; auto: float16 on CUDA; on a CPU the faster "
        "of float32 and bfloat16, by trial at the warm-up",
        choices=("auto", *PRECISIONS),
    ),
    Spec(
        "engine.runtime",
        "auto",
        "What runs the network; native: the package's own CPU kernels, in float32; cuda_graph: "
        "torch by one launch a frame, on CUDA; compile: torch.compile, for the sizes of warmup.* alone, a "
        "minute or more at the start; auto: the fastest, by trial at the warm-up",
        choices=("auto", *RUNTIMES),
    ),
    Spec(
        "engine.threads",
        0,
        "CPU threads of the network; 0: all cores but one, which DDS needs; both of two",
        0,
        256,
    ),
    Spec(
        "warmup.rgb_size",
        [640, 480],
        "Width and height of the RGB image that the start prepares for",
        MIN_RGB_SIDE,
        MAX_SIDE,
    ),
    Spec(
        "warmup.depth_size",
        [160, 120],
        "Width and height of the depth image that it prepares for",
        MIN_DEPTH_SIDE,
        MAX_SIDE,
    ),
    Spec(
        "input.rgb_transport",
        "raw",
        "raw: rgb/image; compressed: JPEG or PNG on rgb/image/compressed",
        choices=RGB_TRANSPORTS,
    ),
    Spec(
        "input.depth_transport",
        "raw",
        "raw: depth/image; compressedDepth: PNG or RVL on depth/image/compressedDepth; compressed: 16-bit "
        "PNG on depth/image/compressed",
        choices=DEPTH_TRANSPORTS,
    ),
    Spec(
        "sync.policy",
        "nearest",
        "How RGB and depth are paired; approximate and exact are message_filters', where it is installed",
        choices=POLICIES,
    ),
    Spec(
        "sync.key",
        "depth",
        "The stream that sets the output rate; rgb re-uses the latest depth",
        choices=KEYS,
    ),
    Spec(
        "sync.slop",
        -1.0,
        "Largest stamp difference in a pair, s; 0: equal stamps; -1: automatic (half the RGB period; 1.5 "
        "depth periods with sync.key rgb; 0.02 s with sync.policy approximate)",
        0,
        3600,
        dynamic=True,
        automatic=-1.0,
    ),
    Spec("sync.queue_size", 10, "Frames of each stream that wait for a partner", 1, 1000),
    Spec(
        "sync.max_wait",
        0.2,
        "Seconds that a frame waits before it takes the best partner or none",
        0,
        60,
        dynamic=True,
    ),
    Spec(
        "register",
        False,
        "Warp the depth into the RGB camera's view; needs both CameraInfos and the transform",
    ),
    Spec(
        "extrinsics.source",
        "tf",
        "Where the transform between the cameras comes from: tf (static) or parameter",
        choices=EXTRINSICS,
    ),
    Spec(
        "extrinsics.translation",
        [0.0, 0.0, 0.0],
        "Position of the depth camera's optical frame in the RGB camera's, x y z in m",
        -100,
        100,
    ),
    Spec(
        "extrinsics.rotation",
        [0.0, 0.0, 0.0, 1.0],
        "Its orientation there, as a quaternion x y z w",
        -1,
        1,
    ),
    Spec(
        "output.encoding",
        "32FC1",
        "32FC1: metres, invalid NaN; 16UC1: millimetres, invalid 0",
        choices=OUTPUT_ENCODINGS,
        dynamic=True,
    ),
    Spec(
        "output.max_side",
        0,
        "Longest side of the output, pixels, for cameras of many; 0: the RGB's size",
        MIN_RGB_SIDE,  # the network runs at this size
        MAX_SIDE,
        dynamic=True,
        automatic=0,
    ),
    Spec(
        "output.unknown",
        "nan",
        "Pixels further than output.max_fill_distance from any measurement: nan (invalid) or fill (guessed)",
        choices=UNKNOWN,
        dynamic=True,
    ),
    Spec(
        "output.max_fill_distance",
        8,
        "How far from a measurement holes are filled, in pixels of the depth image",
        0,
        1000,
        dynamic=True,
    ),
    Spec(
        "color.min",
        0.0,
        "Depth of the warmest colour of ~/depth/color, m; with color.max 0: by each frame",
        0,
        1000,
        dynamic=True,
    ),
    Spec(
        "color.max",
        0.0,
        "Depth of its coldest colour, m, above color.min; 0: by each frame",
        0,
        1000,
        dynamic=True,
    ),
    Spec(
        "log.period",
        10.0,
        "Seconds between the lines of counters in the log; 0: none",
        0,
        86400,
        dynamic=True,
    ),
)

BY_NAME: Mapping[str, Spec] = {spec.name: spec for spec in TABLE}


def check_together(values: Mapping[str, Any]) -> None:
    """Raise ConfigError where values of the table, each of them allowed, do not go together."""
    low, high = values["color.min"], values["color.max"]
    if 0 < high <= low:
        raise ConfigError(
            f"parameter color.max is {high:g}, but must be above color.min, {low:g}, or 0: by each frame"
        )


def unknown_parameter(name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not in the table, with the nearest that is."""
    options = list(known)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(options)}"
    return ConfigError(f"unknown parameter {name}; {hint}")
