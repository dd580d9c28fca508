# SPDX-License-Identifier: Apache-2.0
"""Publishers and subscriptions whose QoS a user can override, and whose mismatches are explained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from rclpy.exceptions import ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions
from rclpy.subscription import Subscription

from depth_sr_ros.errors import ConfigError

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import (  # type: ignore[no-redef]
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
    )

# Best effort as SensorData, which is what drivers offer, but deeper: 0.3 s at 30 Hz for a busy machine.
INPUT_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
# Reliable, volatile, keep last: a best-effort publisher is invisible to a default RViz.
OUTPUT_QOS = QoSProfile(depth=5)
# The policies that a user can override.
OVERRIDABLE = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)
# The override after which a partner that did not fit gets its connection.
FIXES = {
    ("subscription", "reliability"): "best_effort",
    ("subscription", "durability"): "volatile",
    ("publisher", "reliability"): "reliable",
    ("publisher", "durability"): "transient_local",
}
# What rclpy raises, by version and value, for a QoS override that cannot be.
QOS_ERRORS = (RuntimeError, AssertionError, AttributeError, TypeError, ValueError)


def publisher_count(node: Node, subscription: Subscription) -> int:
    """How many publishers `subscription`, of `node`, is connected to; 0 once it is destroyed.

    Humble's rclpy has no count of those, only one of all that the graph knows of.
    """
    matched = getattr(subscription, "get_publisher_count", None)
    try:
        return matched() if matched else node.count_publishers(subscription.topic_name)
    except rclpy_implementation.InvalidHandle:
        return 0


class Endpoints:
    """Makes a node's publishers and subscriptions.

    Args:
        report: told of each incompatible partner, in one sentence with the fix.
        on_matched: called when a subscriber to one of the outputs comes or goes, where the distribution has
            that event (`has_matched_events`).
    """

    has_matched_events = "matched" in PublisherEventCallbacks.__init__.__code__.co_varnames

    def __init__(self, node: Node, report: Callable[[str], None], on_matched: Callable[[], None]) -> None:
        self._node = node
        self._report = report
        self._on_matched = on_matched
        self._made: list[tuple[str, str]] = []

    @property
    def topics(self) -> list[tuple[str, str]]:
        """("publisher" or "subscription", topic name) of all that was made until now."""
        return list(self._made)

    def publisher(self, kind: type, topic: str, qos: QoSProfile = OUTPUT_QOS) -> Publisher:
        """A publisher; ConfigError on an impossible QoS override."""
        events: dict[str, Any] = {"incompatible_qos": self._explainer("publisher", topic)}
        if self.has_matched_events:
            events["matched"] = lambda _: self._on_matched()
        callbacks = PublisherEventCallbacks(**events)
        return self._make("publisher", self._node.create_publisher, kind, topic, [], qos, callbacks)

    def subscription(
        self, kind: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile = INPUT_QOS
    ) -> Subscription:
        """A subscription; ConfigError on an impossible QoS override."""
        callbacks = SubscriptionEventCallbacks(incompatible_qos=self._explainer("subscription", topic))
        create = self._node.create_subscription
        return self._make("subscription", create, kind, topic, [callback], qos, callbacks)

    def destroy(self, entities: Iterable[Publisher | Subscription]) -> None:
        """Destroy what this object made."""
        for entity in entities:
            if isinstance(entity, Publisher):
                self._node.destroy_publisher(entity)
            else:
                self._node.destroy_subscription(entity)

    def _make(
        self,
        role: str,
        create: Callable[..., Any],
        kind: type,
        topic: str,
        callback: list[Any],
        qos: QoSProfile,
        events: Any,
    ) -> Any:
        name = self._node.resolve_topic_name(topic)
        try:
            # rclpy writes the overrides into the profile, which others use too.
            entity = create(
                kind,
                topic,
                *callback,
                copy.copy(qos),
                event_callbacks=events,
                qos_overriding_options=QoSOverridingOptions(OVERRIDABLE),
            )
        except (*QOS_ERRORS, ParameterException, InvalidQosOverridesError) as error:
            told = isinstance(error, (RuntimeError, ParameterException, InvalidQosOverridesError))
            reason = str(error) if told else "a value has the wrong type"
            given = any(
                p.startswith(f"{name}.") for p in self._node.get_parameters_by_prefix("qos_overrides")
            )
            what = f"the qos_overrides of {name} cannot be used" if given else f"no {role} on {name}"
            raise ConfigError(f"{what}: {reason}") from error
        if (role, name) not in self._made:
            self._made.append((role, name))
        return entity

    def _explainer(self, role: str, topic: str) -> Callable[[Any], None]:
        name = self._node.resolve_topic_name(topic)

        def explain(event: Any) -> None:
            policy = getattr(event, "last_policy_kind", None)
            if policy is not None:
                self._report(_explain(role, name, policy))

        return explain


def _explain(role: str, topic: str, policy: Any) -> str:
    partner = "publisher" if role == "subscription" else "subscriber"
    kind = QoSPolicyKind(int(policy)).name.lower() if int(policy) else "unknown policy"
    asks = "asks for more than it offers" if role == "subscription" else "offers less than it asks for"
    fix = FIXES.get((role, kind))
    hint = f": set qos_overrides.{topic}.{role}.{kind} to {fix}" if fix else ""
    return (
        f"a {partner} on {topic} gets no connection: in {kind} this node {asks}{hint}; "
        f"'ros2 topic info --verbose {topic}' shows both sides"
    )
