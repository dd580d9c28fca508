# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: one table gives the defaults, the checks and the descriptors that ROS tools show."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from depth_sr_ros.config import VARIANTS, check_choice
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.image_codec import OUTPUT_ENCODINGS
from depth_sr_ros.pairing import KEYS

# Parameters that rclpy itself declares on a node.
RCLPY_PARAMETERS = ("use_sim_time", "start_type_description_service")
QOS_PREFIX = "qos_overrides."


@dataclass(frozen=True)
class Spec:
    """One parameter. The type is the default's; `low` and `high` bound a number, or each number of a list."""

    name: str
    default: str | int | float | list[int]
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, value: Any) -> Any:
        """The value in the parameter's type; ConfigError where type, range or choice are wrong."""
        if isinstance(self.default, float) and type(value) is int:
            value = float(value)  # YAML reads 1 as a whole number
        if isinstance(self.default, list):
            return self._check_list(value)
        if type(value) is not type(self.default):
            kind = {str: "text", int: "a whole number", float: "a number"}[type(self.default)]
            raise ConfigError(f"parameter {self.name} is {value!r}, but must be {kind}")
        if self.choices:
            check_choice(f"parameter {self.name}", value, self.choices)
        self._check_range(value)
        return value

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows. Read-only: a change takes effect at the next start."""
        out = ParameterDescriptor(name=self.name, description=self.description, read_only=True)
        if self.choices:
            out.additional_constraints = "one of " + ", ".join(self.choices)
        if self.low is not None and self.high is not None:
            if isinstance(self.default, float):
                out.floating_point_range = [FloatingPointRange(from_value=self.low, to_value=self.high)]
            elif isinstance(self.default, int):
                out.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high), step=1)]
            else:
                out.additional_constraints = f"each from {self.low:g} to {self.high:g}"
        return out

    def _check_list(self, value: Any) -> list[int]:
        assert isinstance(self.default, list)
        numbers = list(value) if hasattr(value, "__len__") and not isinstance(value, str) else [value]
        if len(numbers) != len(self.default) or any(type(number) is not int for number in numbers):
            raise ConfigError(
                f"parameter {self.name} is {value!r}, but must hold {len(self.default)} whole numbers"
            )
        for number in numbers:
            self._check_range(number)
        return numbers

    def _check_range(self, value: Any) -> None:
        if self.low is None or self.high is None:
            return
        if not self.low <= value <= self.high or math.isnan(value):
            raise ConfigError(
                f"parameter {self.name} is {value}, but must be from {self.low:g} to {self.high:g}"
            )


PARAMETERS: tuple[Spec, ...] = (
    Spec(
        "variant",
        "edge",
        "The network: edge runs on a CPU, fast and challenge want a GPU",
        choices=(*VARIANTS,),
    ),
    Spec("checkpoint", "", "Weights (.safetensors); empty: those that ship with the package for the variant"),
    Spec("guide.path", "", "Folder of the Depth Anything weights, which fast and challenge need"),
    Spec("device", "auto", "auto (CUDA where there is one), cpu, cuda or cuda:N"),
    Spec("engine.threads", 0, "CPU threads of the network; 0: all cores but one, which DDS needs", 0, 256),
    Spec(
        "warmup.rgb_size",
        [640, 480],
        "Width and height of the RGB image that the start prepares for",
        32,
        16384,
    ),
    Spec(
        "warmup.depth_size", [160, 120], "Width and height of the depth image that it prepares for", 1, 16384
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
        "Largest stamp difference in a pair, seconds; 0: equal stamps; -1: automatic",
        -1,
        3600,
    ),
    Spec("sync.queue_size", 10, "Frames of each stream that wait for a partner", 1, 1000),
    Spec("sync.max_wait", 0.2, "Seconds that a frame waits before it takes the best partner or none", 0, 60),
    Spec("output.encoding", "32FC1", "32FC1: metres, 16UC1: millimetres", choices=OUTPUT_ENCODINGS),
    Spec("log.period", 10.0, "Seconds between the lines of counters in the log; 0: none", 0, 86400),
)


def declare(node: Node) -> dict[str, Any]:
    """Declare the table on a node that has declared its overrides automatically; returns the values.

    Raises ConfigError on a value of the wrong type or out of range, and on a given name that is not in the
    table, naming the nearest one that is.
    """
    given = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()}
    table = {spec.name: spec for spec in PARAMETERS}
    for name in given:
        if name not in table and name not in RCLPY_PARAMETERS and not name.startswith(QOS_PREFIX):
            raise ConfigError(_unknown(name, [*table, *RCLPY_PARAMETERS]))
    values = {}
    for spec in PARAMETERS:
        values[spec.name] = spec.check(given.get(spec.name, spec.default))
        if spec.name in given:
            node.undeclare_parameter(spec.name)  # declared by its override alone: without type and range
        node.declare_parameter(spec.name, values[spec.name], spec.descriptor(), ignore_override=True)
    return values


def check_qos_overrides(node: Node) -> None:
    """ConfigError on a given `qos_overrides.` parameter that no publisher or subscription of `node` reads.

    Call it when all of them exist.
    """
    policies = ("history", "depth", "reliability")  # QoSOverridingOptions.with_default_policies
    topics = [("publisher", p.topic_name) for p in node.publishers]
    topics += [("subscription", s.topic_name) for s in node.subscriptions]
    known = [f"{QOS_PREFIX}{topic}.{kind}.{policy}" for kind, topic in topics for policy in policies]
    for name in node.get_parameters_by_prefix(""):
        if name.startswith(QOS_PREFIX) and name not in known:
            raise ConfigError(_unknown(name, known))


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    return f"unknown parameter {name}; {hint}"
