# SPDX-License-Identifier: Apache-2.0
"""Declares the table of parameters on the node, and decides about every change at run time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from depth_sr_ros.errors import ConfigError
from depth_sr_ros.parameters import BY_NAME, TABLE, Spec, check_together, unknown_parameter
from depth_sr_ros.ros.endpoints import OVERRIDABLE

# Parameters that rclpy itself declares on a node.
RCLPY_PARAMETERS = ("use_sim_time", "start_type_description_service")
QOS_PREFIX = "qos_overrides."


def descriptor(spec: Spec) -> ParameterDescriptor:
    """What `ros2 param describe` shows."""
    when = "acts on the next frame" if spec.dynamic else "can change while the node is unconfigured"
    out = ParameterDescriptor(name=spec.name, description=f"{spec.description} ({when})")
    out.additional_constraints = spec.allowed
    # The gate checks types: rclpy would refuse 1 for 1.0 with "expected '3' got '2'", and reads the word nan
    # as a number.
    out.dynamic_typing = True
    is_number = not isinstance(spec.default, list) and spec.automatic is None
    if is_number and spec.low is not None and spec.high is not None:
        if isinstance(spec.default, float):
            out.floating_point_range = [
                FloatingPointRange(from_value=float(spec.low), to_value=float(spec.high))
            ]
        else:
            out.integer_range = [IntegerRange(from_value=int(spec.low), to_value=int(spec.high), step=1)]
    return out


def declare(node: Node) -> dict[str, Any]:
    """Declare the table on a node that has declared its overrides automatically; returns the values.

    Raises ConfigError on a value of the wrong type or out of range, and on a given name that is not in the
    table, naming the nearest one that is.
    """
    given = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()}
    for name in given:
        if name not in BY_NAME and name not in RCLPY_PARAMETERS and not name.startswith(QOS_PREFIX):
            raise unknown_parameter(name, [*BY_NAME, *RCLPY_PARAMETERS])
    values = {}
    for spec in TABLE:
        values[spec.name] = spec.check(given.get(spec.name, spec.default))
        if spec.name in given:
            node.undeclare_parameter(spec.name)  # declared by its override alone: without type and range
        node.declare_parameter(spec.name, values[spec.name], descriptor(spec), ignore_override=True)
    check_together(values)
    return values


class ParameterGate:
    """Accepts or rejects changes: a dynamic parameter goes to `apply`, a static one waits for `configure`.

    `values` always holds what `configure` or the next frame uses. A set of changes is taken whole or not at
    all.
    """

    def __init__(
        self, node: Node, is_configured: Callable[[], bool], apply: Callable[[str, Any], None]
    ) -> None:
        self.values = declare(node)
        self._name = node.get_fully_qualified_name()
        self._is_configured = is_configured
        self._apply = apply
        node.add_on_set_parameters_callback(self._on_set)

    def _on_set(self, changes: Sequence[Parameter]) -> SetParametersResult:
        try:
            checked = {p.name: self._check(p) for p in changes if p.name in BY_NAME}
            check_together(self.values | checked)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.values.update(checked)  # all before the first is applied: no frame sees half of them
        if self._is_configured():
            for name, value in checked.items():
                self._apply(name, value)
        return SetParametersResult(successful=True)

    def _check(self, change: Parameter) -> Any:
        spec = BY_NAME[change.name]
        value = spec.check(change.value)
        if not spec.dynamic and self._is_configured() and value != self.values[spec.name]:
            raise ConfigError(
                f"parameter {spec.name} is fixed while the node is configured; run: ros2 lifecycle set "
                f"{self._name} deactivate, then cleanup, change it, then configure and activate"
            )
        return value


def check_qos_overrides(node: Node, topics: Sequence[tuple[str, str]]) -> None:
    """ConfigError on a given `qos_overrides.` parameter of none of `topics`, such as ("publisher", name)."""
    policies = [policy.name.lower() for policy in OVERRIDABLE]
    known = [f"{QOS_PREFIX}{topic}.{kind}.{policy}" for kind, topic in topics for policy in policies]
    for name in node.get_parameters_by_prefix(""):
        if name.startswith(QOS_PREFIX) and name not in known:
            raise unknown_parameter(name, known)
