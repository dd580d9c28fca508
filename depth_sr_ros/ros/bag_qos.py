# SPDX-License-Identifier: Apache-2.0
"""The QoS of recorded topics: what is asked for while recording, what is kept, what is offered again."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from depth_sr_ros.bag import BagTopic
from depth_sr_ros.ros.messages import NS_PER_S

# A recorder that has to wait for its disk loses nothing in the meantime: 3 s at 30 Hz.
RECORD_DEPTH = 100
PLAY_DEPTH = 10
MAX_LATCHED = 1000


def requested_qos(offers: Sequence[QoSProfile]) -> QoSProfile:
    """What gets the messages of all these publishers: the most that every one of them offers."""
    is_reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
    is_latched = all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers)
    return QoSProfile(
        depth=RECORD_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if is_latched else DurabilityPolicy.VOLATILE,
    )


def recorded_qos(offers: Sequence[QoSProfile]) -> tuple[Qos, ...]:
    """The publishers' offers as a bag keeps them, each kind once."""
    return tuple(
        dict.fromkeys(
            Qos(
                QosHistory(int(offer.history)),
                offer.depth,
                QosReliability(int(offer.reliability)),
                QosDurability(int(offer.durability)),
                _time(offer.deadline),
                _time(offer.lifespan),
                QosLiveliness(int(offer.liveliness)),
                _time(offer.liveliness_lease_duration),
                offer.avoid_ros_namespace_conventions,
            )
            for offer in offers
        )
    )


def is_latched(topic: BagTopic) -> bool:
    """Whether a publisher of the topic kept its messages for subscribers that come later (/tf_static)."""
    return any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in topic.qos)


def played_qos(topic: BagTopic) -> QoSProfile:
    """Reliable, which subscribers of both kinds can hear; latched where the topic was.

    One publisher stands for all that were recorded: it must keep what each of them kept.
    """
    if not is_latched(topic):
        return QoSProfile(depth=PLAY_DEPTH)
    depth = max(PLAY_DEPTH, min(topic.count, MAX_LATCHED))
    return QoSProfile(depth=depth, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def _time(duration: Duration) -> QosTime:
    return QosTime(*divmod(duration.nanoseconds, NS_PER_S))
