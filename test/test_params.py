# SPDX-License-Identifier: Apache-2.0
"""The parameter table: defaults, checks, descriptors, and config/sr.yaml, which must say the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="parameters need rclpy")

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import QoSOverridingOptions
from ros_helpers import start_ros
from std_msgs.msg import Header

from depth_sr_ros.errors import ConfigError
from depth_sr_ros.image_size import MIN_RGB_SIDE
from depth_sr_ros.parameters import BY_NAME, TABLE
from depth_sr_ros.ros.params import ParameterGate, check_qos_overrides, declare

TOPICS = [("publisher", "/params_0/topic")]


@pytest.fixture
def make_node() -> Iterator[Any]:
    """Makes nodes as DepthSRNode does, with overrides as a YAML file gives them."""
    start_ros()
    nodes: list[Node] = []

    def make(**overrides: Any) -> Node:
        given = [Parameter(name, value=value) for name, value in overrides.items()]
        node = Node(
            f"params_{len(nodes)}",
            parameter_overrides=given,
            automatically_declare_parameters_from_overrides=True,
        )
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.destroy_node()


def test_sr_yaml_has_every_parameter_with_its_default_and_no_other(repo_root: Path) -> None:
    content = yaml.safe_load((repo_root / "config" / "sr.yaml").read_text())
    assert content["/**"]["ros__parameters"] == {spec.name: spec.default for spec in TABLE}


def test_every_default_passes_its_own_check() -> None:
    for spec in TABLE:
        assert spec.check(spec.default) == spec.default
        assert spec.description


def test_without_overrides_the_defaults_are_declared(make_node: Any) -> None:
    node = make_node()
    assert declare(node) == {spec.name: spec.default for spec in TABLE}
    for spec in TABLE:
        value = node.get_parameter(spec.name).value
        assert (list(value) if isinstance(spec.default, list) else value) == spec.default


def test_overrides_are_taken_in_the_type_of_the_parameter(make_node: Any) -> None:
    node = make_node(**{"sync.slop": 0, "warmup.rgb_size": [1280, 720], "use_sim_time": True})
    values = declare(node)
    assert values["sync.slop"] == 0.0 and isinstance(values["sync.slop"], float)
    assert values["warmup.rgb_size"] == [1280, 720]
    assert node.get_parameter("sync.slop").type_ == Parameter.Type.DOUBLE


def test_a_whole_number_at_run_time_is_taken_for_a_number_and_other_types_are_told(make_node: Any) -> None:
    gated = Gated(make_node())
    assert gated.set(**{"sync.slop": 1}).successful
    assert isinstance(gated.gate.values["sync.slop"], float)
    assert gated.set(**{"sync.slop": "wide"}).reason == "parameter sync.slop is 'wide', but must be a number"
    assert gated.set(lazy=1).reason == "parameter lazy is 1, but must be true or false"
    assert not gated.set(lazy=None).successful  # what `ros2 param delete` sends


def test_tools_see_description_range_and_choices(make_node: Any) -> None:
    node = make_node(**{"sync.queue_size": 5})
    declare(node)
    queue_size = node.describe_parameter("sync.queue_size")
    assert queue_size.description.startswith(BY_NAME["sync.queue_size"].description)
    assert queue_size.description.endswith("(can change while the node is unconfigured)")
    assert node.describe_parameter("sync.slop").description.endswith("(acts on the next frame)")
    assert (queue_size.integer_range[0].from_value, queue_size.integer_range[0].to_value) == (1, 1000)
    assert node.describe_parameter("sync.max_wait").floating_point_range[0].to_value == 60
    assert node.describe_parameter("sync.slop").additional_constraints == "from 0 to 3600, or -1"
    assert node.describe_parameter("variant").additional_constraints == "one of challenge, fast, edge"


class Gated:
    """A ParameterGate on a node that is configured or not, and what it applied."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.configured = True
        self.applied: list[tuple[str, Any]] = []
        self.seen: list[dict[str, Any]] = []
        self.gate = ParameterGate(node, lambda: self.configured, self.apply)

    def apply(self, name: str, value: Any) -> None:
        self.applied.append((name, value))
        self.seen.append(dict(self.gate.values))

    def set(self, **values: Any) -> SetParametersResult:
        return self.node.set_parameters_atomically([Parameter(n, value=v) for n, v in values.items()])


def test_a_dynamic_parameter_is_applied_at_once(make_node: Any) -> None:
    gated = Gated(make_node())
    assert gated.set(**{"sync.slop": 0.5, "output.encoding": "16UC1"}).successful
    assert gated.applied == [("sync.slop", 0.5), ("output.encoding", "16UC1")]
    assert [(seen["sync.slop"], seen["output.encoding"]) for seen in gated.seen] == [(0.5, "16UC1")] * 2
    assert gated.gate.values["sync.slop"] == gated.node.get_parameter("sync.slop").value == 0.5


def test_a_static_parameter_waits_for_the_next_configure(make_node: Any) -> None:
    gated = Gated(make_node())
    result = gated.set(variant="fast")
    assert not result.successful
    assert "parameter variant is fixed while the node is configured" in result.reason
    assert f"ros2 lifecycle set {gated.node.get_fully_qualified_name()} deactivate, then" in result.reason
    gated.configured = False
    assert gated.set(variant="fast").successful
    assert gated.gate.values["variant"] == "fast"
    assert not gated.applied


def test_a_static_parameter_may_be_set_to_what_it_is(make_node: Any) -> None:
    """As `ros2 param load` does with a whole file."""
    gated = Gated(make_node())
    assert gated.set(**{"warmup.rgb_size": [640, 480], "device": "auto"}).successful


def test_of_several_changes_all_or_none_are_taken(make_node: Any) -> None:
    gated = Gated(make_node())
    for wrong in ({"variant": "fast"}, {"output.encoding": "mono16"}, {"sync.max_wait": -1.0}, {"lazy": 3}):
        assert not gated.set(**{"sync.slop": 0.5, **wrong}).successful
        assert gated.gate.values["sync.slop"] == gated.node.get_parameter("sync.slop").value == -1.0
    assert not gated.applied


def test_a_value_that_cannot_be_is_rejected_with_what_it_may_be(make_node: Any) -> None:
    gated = Gated(make_node())
    gated.configured = False
    assert "one of 32FC1, 16UC1" in gated.set(**{"output.encoding": "mono16"}).reason
    assert "must hold 2 whole numbers" in gated.set(**{"warmup.rgb_size": [640]}).reason
    assert "from -1 to 1" in gated.set(**{"extrinsics.rotation": [0.0, 0.0, 0.0, 2.0]}).reason


def test_the_longest_side_is_none_or_one_that_the_network_takes(make_node: Any) -> None:
    gated = Gated(make_node())
    for side in (1, MIN_RGB_SIDE - 1):
        reason = gated.set(**{"output.max_side": side}).reason
        assert reason.endswith(f"is {side}, but must be from {MIN_RGB_SIDE} to 16384, or 0")
    for side in (MIN_RGB_SIDE, 0):
        assert gated.set(**{"output.max_side": side}).successful
        assert gated.gate.values["output.max_side"] == side


def test_what_rclpy_declares_itself_passes_the_gate(make_node: Any) -> None:
    gated = Gated(make_node())
    assert gated.set(use_sim_time=True).successful
    assert not gated.applied


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("sync.slopp", 0.1, "unknown parameter sync.slopp; did you mean sync.slop?"),
        ("queue_size", 3, "unknown parameter queue_size; did you mean sync.queue_size?"),
        ("zzz", 3, "unknown parameter zzz; known: autostart, lazy, "),
        ("variant", "edgy", "parameter variant is 'edgy', but must be one of challenge, fast, edge"),
        (
            "output.encoding",
            "mono16",
            "parameter output.encoding is 'mono16', but must be one of 32FC1, 16UC1",
        ),
        ("warmup.rgb_size", [-640, 480], "parameter warmup.rgb_size is -640, but must be from 40 to 16384"),
        ("warmup.rgb_size", [640, 39], "parameter warmup.rgb_size is 39, but must be from 40 to 16384"),
        ("output.max_side", 39, "parameter output.max_side is 39, but must be from 40 to 16384, or 0"),
        ("output.max_side", -1, "parameter output.max_side is -1, but must be from 40 to 16384, or 0"),
        ("warmup.rgb_size", [640], "parameter warmup.rgb_size is .*, but must hold 2 whole numbers"),
        (
            "warmup.rgb_size",
            "640x480",
            "parameter warmup.rgb_size is '640x480', but must hold 2 whole numbers",
        ),
        (
            "warmup.depth_size",
            [160.0, 120.0],
            "parameter warmup.depth_size is .*, but must hold 2 whole numbers",
        ),
        ("sync.queue_size", 0, "parameter sync.queue_size is 0, but must be from 1 to 1000"),
        ("sync.queue_size", 2.5, "parameter sync.queue_size is 2.5, but must be a whole number"),
        ("sync.queue_size", True, "parameter sync.queue_size is True, but must be a whole number"),
        ("sync.slop", -0.5, "parameter sync.slop is -0.5, but must be from 0 to 3600, or -1"),
        ("sync.max_wait", -0.1, "parameter sync.max_wait is -0.1, but must be from 0 to 60"),
        ("sync.max_wait", float("nan"), "parameter sync.max_wait is nan, but must be from 0 to 60"),
        ("sync.max_wait", "soon", "parameter sync.max_wait is 'soon', but must be a number"),
        ("checkpoint", 7, "parameter checkpoint is 7, but must be text"),
        ("engine.threads", -1, "parameter engine.threads is -1, but must be from 0 to 256"),
    ],
)
def test_a_wrong_override_is_refused_in_one_sentence(
    make_node: Any, name: str, value: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        declare(make_node(**{name: value}))
    assert "\n" not in str(caught.value)


def test_a_qos_override_that_nobody_reads_is_refused(make_node: Any) -> None:
    typo = "qos_overrides./params_0/topic.publisher.reliabilty"
    node = make_node(**{typo: "best_effort"})
    declare(node)
    options = QoSOverridingOptions.with_default_policies()
    node.create_publisher(Header, "~/topic", 1, qos_overriding_options=options)
    with pytest.raises(
        ConfigError, match="did you mean qos_overrides./params_0/topic.publisher.reliability?"
    ):
        check_qos_overrides(node, TOPICS)


def test_a_qos_override_that_is_read_passes(make_node: Any) -> None:
    node = make_node(**{"qos_overrides./params_0/topic.publisher.reliability": "best_effort"})
    declare(node)
    options = QoSOverridingOptions.with_default_policies()
    publisher = node.create_publisher(Header, "~/topic", 1, qos_overriding_options=options)
    check_qos_overrides(node, TOPICS)
    assert publisher.qos_profile.reliability.name == "BEST_EFFORT"


def test_the_word_nan_is_taken_although_ros_reads_it_as_a_number(make_node: Any) -> None:
    node = make_node(**{"output.unknown": float("nan")})
    assert declare(node)["output.unknown"] == "nan"
