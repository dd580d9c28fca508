# SPDX-License-Identifier: Apache-2.0
"""Topics and how they come: missing or several, publishers, QoS that does not fit, the DDS profile."""

from __future__ import annotations

from collections.abc import Iterator

from depth_sr_ros.bag_pairs import COMPRESSED, IMAGE
from depth_sr_ros.doctor.findings import Finding, Severity, Values
from depth_sr_ros.doctor.samples import Endpoint, Samples, Stream

# Fast DDS's default shared-memory segment: a message must fit into it.
DEFAULT_SEGMENT_BYTES = 512 * 1024
# Of the shared memory, which is half of a machine's memory: held by processes that are gone.
DEAD_SHARE = 0.1


def check_topics(samples: Samples) -> Iterator[Finding]:
    """No topic, a topic without images, several to choose from."""
    for kind, stream in (("RGB", samples.rgb), ("depth", samples.depth)):
        option = f"--{kind.lower()}"
        if stream is None:
            images = sorted(t for t, msgtype in samples.topics.items() if msgtype in (IMAGE, COMPRESSED))
            yield Finding(
                "topics",
                Severity.PROBLEM,
                f"there is no {kind} topic; topics with images: {', '.join(images) or 'none'}",
                f"start the driver's {kind} stream (or record it), or name its topic with {option}",
            )
        elif not stream.arrivals:
            yield Finding(
                "topics",
                Severity.PROBLEM,
                f"no image came on {stream.topic}, which has {len(stream.publishers)} publishers",
                "look at the driver's log; for a driver in a container use --ipc=host; for one on another "
                "machine look at ROS_DOMAIN_ID and the firewall",
                {"publishers": len(stream.publishers)},
            )
        elif len(stream.candidates) > 1:
            others = [topic for topic in stream.candidates if not stream.topic.startswith(topic)]
            yield Finding(
                "topics",
                Severity.NOTE,
                f"{kind} is taken from {stream.topic}; there are {', '.join(others)} too",
                f"name another with {option}",
            )
        else:
            yield Finding("topics", Severity.OK, f"{kind} is {stream.topic}")


def check_qos(samples: Samples) -> Iterator[Finding]:
    """Several publishers on a topic, and subscribers that ask for more than is offered."""
    for stream in samples.streams:
        if not stream.publishers:
            continue
        sound = True
        for finding in (*_several(samples, stream), *_refused(stream)):
            sound = False
            yield finding
        offer = stream.publishers[0]
        text = f"{stream.topic} is offered {_shown(offer)}"
        if offer.reliability == "best_effort":
            text += ": a reliable subscriber, as RViz is by default, gets nothing; this node gets it"
        if sound:
            values = {"reliability": offer.reliability, "durability": offer.durability}
            yield Finding("qos", Severity.OK, text, values=values)


def _several(samples: Samples, stream: Stream) -> Iterator[Finding]:
    number = len(stream.publishers)
    if number < 2:
        return
    names = ", ".join(sorted({publisher.node for publisher in stream.publishers} - {""}))
    where = f" ({names})" if names else ""
    yield Finding(
        "qos",
        Severity.PROBLEM if samples.is_live else Severity.WARNING,
        f"{stream.topic} has {number} publishers{where}: their images come mixed",
        "stop all but one, or give each camera a namespace of its own",
        {"publishers": number},
    )


def _refused(stream: Stream) -> Iterator[Finding]:
    for subscriber in stream.subscribers:
        for publisher in stream.publishers:
            policy = incompatible_policy(publisher, subscriber)
            if policy:
                fix = {
                    "reliability": f"set qos_overrides.{stream.topic}.subscription.reliability of "
                    f"{subscriber.node} to best_effort, or have the driver publish reliably",
                    "durability": f"have {subscriber.node} subscribe volatile",
                }[policy]
                yield Finding(
                    "qos",
                    Severity.PROBLEM,
                    f"{subscriber.node} gets nothing on {stream.topic}: it asks for {_shown(subscriber)}, "
                    f"but {publisher.node} offers {_shown(publisher)}",
                    fix,
                )
                break


def incompatible_policy(publisher: Endpoint, subscriber: Endpoint) -> str:
    """The policy in which a subscriber asks for more than is offered; empty where they fit."""
    if (publisher.reliability, subscriber.reliability) == ("best_effort", "reliable"):
        return "reliability"
    if (publisher.durability, subscriber.durability) == ("volatile", "transient_local"):
        return "durability"
    return ""


def check_dds(samples: Samples) -> Iterator[Finding]:
    """Whether processes started from this shell can send such images over Fast DDS without loss."""
    transport = samples.transport
    if transport is None:
        return
    largest = max((stream.largest_bytes for stream in samples.streams), default=0)
    size = f"images are up to {largest / 1e6:.1f} MB"
    values: Values = {
        "largest_bytes": largest,
        "middleware": transport.middleware,
        "profile": transport.profile,
    }
    lost = sum(stream.lost or 0 for stream in samples.streams)
    if not transport.middleware.startswith("rmw_fastrtps"):
        text = f"{size}; {transport.middleware} needs other settings for them than Fast DDS"
        yield Finding("dds", Severity.NOTE, text, "see Images over DDS in the README", values)
    elif transport.profile:
        yield Finding(
            "dds", Severity.OK, f"{size}; Fast DDS has the profile {transport.profile}", values=values
        )
    elif largest <= DEFAULT_SEGMENT_BYTES:
        yield Finding("dds", Severity.OK, f"{size}: they fit into Fast DDS's default segment", values=values)
    else:
        off = ", and DEPTH_SR_DDS_PROFILE=off keeps the node from taking the shipped one"
        fix = (
            "start the driver with FASTDDS_DEFAULT_PROFILES_FILE (Humble, Jazzy: FASTRTPS_...) set to the "
            "shipped config/fastdds_shm.xml, and the allocator settings of the README"
        )
        loses = bool(lost) or transport.is_switched_off
        yield Finding(
            "dds",
            Severity.WARNING if loses else Severity.NOTE,
            f"{size}, more than Fast DDS's default shared-memory segment of 512 KB, and this shell names "
            f"no profile{off if transport.is_switched_off else ''}: a driver started from it loses images",
            fix,
            values | {"lost": lost},
        )


def check_shared_memory(samples: Samples) -> Iterator[Finding]:
    """Whether a process finds place for its Fast DDS segment, and what killed ones have left there."""
    transport = samples.transport
    if transport is None or transport.memory is None or not transport.middleware.startswith("rmw_fastrtps"):
        return
    memory = transport.memory
    values: Values = {"free_bytes": memory.free, "dead_bytes": memory.dead_bytes}
    if memory.complaint:
        yield Finding("shared memory", Severity.PROBLEM, memory.complaint, memory.remedy, values)
    elif memory.dead_bytes > DEAD_SHARE * memory.total:
        text = f"{memory.dead} segments of killed processes hold {memory.dead_bytes / 1e6:.0f} MB of memory"
        yield Finding("shared memory", Severity.WARNING, text, "remove them: fastdds shm clean", values)
    else:
        text = f"{memory.free / 1e6:.0f} MB are free, {memory.dead_bytes / 1e6:.0f} held by killed processes"
        yield Finding("shared memory", Severity.OK, text, values=values)


def _shown(endpoint: Endpoint) -> str:
    return f"{endpoint.reliability.replace('_', ' ')} and {endpoint.durability.replace('_', ' ')}"
