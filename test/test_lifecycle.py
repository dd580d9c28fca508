# SPDX-License-Identifier: Apache-2.0
"""The managed node through its real lifecycle services, from another process: failures, recovery."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_client import SIZES, Rig, answer, running, save_untrained, send_until, small_frame
from ros_helpers import EngineProcess, Listener, NodeProcess

from depth_sr_ros.ros.messages import header, image_message

pytestmark = pytest.mark.alone

MANUAL: dict[str, object] = {"autostart": "false"}
POSSIBLE = {
    "unconfigured": {"configure", "shutdown"},
    "inactive": {"activate", "cleanup", "shutdown"},
    "active": {"deactivate", "shutdown"},
}
WAYS: dict[str, list[str]] = {
    "unconfigured": [],
    "inactive": ["configure"],
    "active": ["configure", "activate"],
}
ADVICE = "clean up and configure again"
ENDS_OF_PAIRS = ("overwritten", "waiting", "processing", "published", "publish_errors", "bad", "failed")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """Unconfigured at the start and after each test."""
    with running(lambda arguments: EngineProcess(parameters=MANUAL, ros_arguments=arguments)) as out:
        yield out


def reported(rig: Rig, state: str) -> None:
    rig.listener.spin_until(lambda: rig.listener.values.get("state") == state, process=rig.node)


def advertised(listener: Listener) -> set[str]:
    """The node's own topics that have a publisher in the graph."""
    names = [name for name, _ in listener.node.get_topic_names_and_types() if "/depth_sr/" in name]
    return {name for name in names if listener.node.count_publishers(name)}


def test_without_autostart_the_node_waits_unconfigured_and_says_so(rig: Rig) -> None:
    assert rig.client.state == "unconfigured"
    assert rig.client.transitions == POSSIBLE["unconfigured"]
    reported(rig, "unconfigured")
    assert (rig.listener.level, rig.listener.message) == (DiagnosticStatus.OK, "unconfigured")
    assert "/depth_sr/depth/image" not in advertised(rig.listener)


@pytest.mark.parametrize("turn", [1, 2])
def test_every_transition_and_back_works_twice_round(rig: Rig, turn: int) -> None:
    round_trip = [
        ("configure", "inactive"),
        ("activate", "active"),
        ("deactivate", "inactive"),
        ("activate", "active"),
        ("deactivate", "inactive"),
        ("cleanup", "unconfigured"),
    ]
    for transition, state in round_trip:
        assert rig.client.change(transition), rig.node.output
        assert rig.client.state == state
        assert rig.client.transitions == POSSIBLE[state]
        if state == "active":
            answer(rig)


@pytest.mark.parametrize("state", list(POSSIBLE))
def test_wrong_transitions_are_refused_and_change_nothing(rig: Rig, state: str) -> None:
    for transition in WAYS[state]:
        assert rig.client.change(transition)
    wrong = {"configure", "activate", "deactivate", "cleanup"} - POSSIBLE[state]
    for transition in sorted(wrong):
        assert not rig.client.change(transition), transition
        assert rig.client.state == state
    if state == "active":
        answer(rig)
        assert rig.client.change("deactivate")
    if state != "unconfigured":
        assert rig.client.change("cleanup")


def test_a_deactivated_node_publishes_nothing_and_accounts_for_what_it_dropped(rig: Rig) -> None:
    assert rig.client.change("configure") and rig.client.change("activate")
    answer(rig)
    alone = small_frame()  # this depth image waits for its RGB image when the node is deactivated
    depth = image_message(alone.depth, "32FC1", header(alone.stamp_ns, "depth"))
    rig.camera.depth_publisher.publish(depth)
    assert rig.client.change("deactivate")
    rig.listener.spin_until(lambda: not rig.camera.rgb_publisher.get_subscription_count())
    images = len(rig.listener.images)
    for _ in range(5):
        rig.camera.send(small_frame())
    counters = rig.listener.fresh_counters()
    assert len(rig.listener.images) == images
    for stream in ("rgb", "depth"):
        ends = ("paired", "unpaired", "evicted", "queued")
        assert counters[f"{stream}_received"] == sum(counters[f"{stream}_{end}"] for end in ends)
        assert counters[f"{stream}_queued"] == 0
    assert counters["pairs"] == sum(counters[end] for end in ENDS_OF_PAIRS)
    assert counters["waiting"] == counters["processing"] == 0
    assert (rig.listener.level, rig.listener.message) == (DiagnosticStatus.OK, "inactive")
    assert rig.client.change("cleanup")


def test_outputs_are_advertised_from_configure_to_cleanup(rig: Rig) -> None:
    names = {
        f"/depth_sr/{name}"
        for name in ("depth/image", "depth/camera_info", "depth/color", "confidence", "points", "timing")
    }
    assert rig.client.change("configure")
    rig.listener.spin_until(lambda: names <= advertised(rig.listener))
    assert rig.client.change("cleanup")
    rig.listener.spin_until(lambda: not names & advertised(rig.listener))
    rig.listener.spin_until(lambda: rig.listener.message == "unconfigured")
    assert rig.listener.values["variant"] == rig.listener.values["engine"] == ""  # none is loaded any more


@pytest.mark.parametrize("state", list(POSSIBLE))
def test_shutdown_works_from_every_state_and_a_signal_then_ends_the_process(state: str) -> None:
    with running(
        lambda arguments: EngineProcess(parameters=MANUAL, ros_arguments=arguments), "/shutdown"
    ) as rig:
        for transition in WAYS[state]:
            assert rig.client.change(transition)
        assert rig.client.change(f"shutdown {state}"), rig.node.output
        assert rig.client.state == "finalized"
        assert not rig.client.change("configure")
        reported(rig, "finalized")
        rig.node.send(signal.SIGTERM)
        assert rig.node.wait() == 0, rig.node.output
        assert "Traceback" not in rig.node.output


def test_a_failed_configure_says_why_and_works_once_the_checkpoint_is_good(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a checkpoint" * 100)
    missing, good = tmp_path / "missing.safetensors", save_untrained(tmp_path)
    parameters = {**MANUAL, **SIZES, "checkpoint": missing}
    with running(lambda arguments: NodeProcess(parameters, arguments), "/checkpoint") as rig:
        listener = rig.listener
        for path in (missing, broken):
            assert rig.client.set("checkpoint", str(path)) == (True, "")
            assert not rig.client.change("configure")
            assert rig.client.state == "unconfigured"
            listener.spin_until(lambda name=path.name: name in listener.message, process=rig.node)  # type: ignore[misc]
            assert listener.level == DiagnosticStatus.ERROR
            assert listener.message.startswith("unconfigured: ")
            assert "/checkpoint/depth_sr/depth/image" not in advertised(listener)
        assert rig.client.set("checkpoint", str(good)) == (True, "")
        assert rig.client.change("configure"), rig.node.output
        reported(rig, "inactive")
        assert (listener.level, listener.message) == (DiagnosticStatus.OK, "inactive")
        assert rig.client.change("activate")
        np.testing.assert_allclose(answer(rig).metres(), 2.0, rtol=1e-3)
        assert "Traceback" not in rig.node.output


def test_diagnostics_go_on_while_a_network_loads_for_seconds() -> None:
    with running(lambda arguments: EngineProcess("loads", 4.0, MANUAL, arguments), "/slow") as rig:
        listener = rig.listener
        reported(rig, "unconfigured")
        stamps: list[int] = []

        def note(values: dict[str, str]) -> None:
            if values["state"] == "configuring":
                stamps.append(listener.report_ns)

        listener.on_report = note
        future = rig.client.start_change("configure")
        listener.spin_until(future.done, process=rig.node)
        assert future.result().success
        assert len(stamps) >= 3
        assert max(np.diff(stamps)) < 1.5e9


def test_a_breakdown_deactivates_the_node_until_it_is_cleaned_up_and_configured_again() -> None:
    with running(lambda arguments: EngineProcess("breaks", 2, MANUAL, arguments), "/broken") as rig:
        listener, client = rig.listener, rig.client
        for _ in range(2):
            assert client.change("configure") and client.change("activate"), rig.node.output
            answer(rig)
            send_until(rig, lambda: listener.message.startswith("inactive"))
            assert client.state == "inactive"
            assert listener.level == DiagnosticStatus.ERROR
            assert "an illegal memory access was encountered" in listener.message
            counters = listener.fresh_counters()
            assert counters["failed"] == 1
            assert counters["pairs"] == sum(counters[end] for end in ENDS_OF_PAIRS)
            assert not client.change("activate")
            assert client.state == "inactive"
            listener.spin_until(lambda: listener.message.endswith(ADVICE), process=rig.node)
            assert "illegal memory access" in listener.message
            assert listener.level == DiagnosticStatus.ERROR
            assert client.change("cleanup")
            reported(rig, "unconfigured")
            assert listener.level == DiagnosticStatus.OK
        assert rig.node.output.count("the network failed:\n") == 2
