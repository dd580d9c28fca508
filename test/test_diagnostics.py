# SPDX-License-Identifier: Apache-2.0
"""Level and message of /diagnostics, from snapshots as the node has them, and the thread that sends them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="diagnostics need ROS messages")

from builtin_interfaces.msg import Time

from depth_sr_ros.ros.diagnostics import ERROR, OK, WARN, Assessor, Ticker, diagnostic_array, log_line

WELL: dict[str, Any] = {
    "state": "active",
    "failure": "",
    "subscribed": True,
    "rgb_topic": "/camera/color/image_raw",
    "depth_topic": "/camera/depth/image_raw",
    "rgb_silent_s": 0.03,
    "depth_silent_s": 0.02,
    "stamp_skew_s": 0.002,
    "unstamped": "",
    "rgb_received": 300,
    "depth_received": 300,
    "depth_unpaired": 0,
    "depth_evicted": 0,
    "pairs": 300,
    "overwritten": 0,
    "bad": 0,
    "output_hz": 29.97,
    "view_mismatch": "",
    "guide_left_out_recent": 0,
    "last_error": "",
}


def second_report(**changes: Any) -> tuple[bytes, str]:
    """What is said of WELL with `changes`, one second of a 30 Hz camera after WELL."""
    assess = Assessor()
    assess(WELL)
    return assess(WELL | {"rgb_received": 330, "depth_received": 330, "pairs": 330} | changes)


def test_a_depth_stream_three_times_as_fast_as_the_rgb_stream_is_no_fault() -> None:
    assert second_report(depth_received=390, depth_unpaired=60)[0] == OK


def test_a_node_that_does_its_work_is_ok_with_its_rate() -> None:
    assert second_report() == (OK, "30.0 Hz")
    assert Assessor()(WELL) == (OK, "30.0 Hz")


def test_silent_depth_while_rgb_arrives_is_told_with_the_topic() -> None:
    level, message = second_report(depth_silent_s=3.4, depth_received=300, pairs=300)
    assert level == WARN
    assert message == "no depth on /camera/depth/image_raw for 3 s while rgb arrives"


def test_silent_rgb_while_depth_arrives_is_told_before_the_pairs_that_fail() -> None:
    level, message = second_report(rgb_silent_s=5.0, pairs=300, depth_unpaired=30)
    assert level == WARN
    assert message == "no rgb on /camera/color/image_raw for 5 s while depth arrives"


def test_two_silent_streams_are_told_together() -> None:
    level, message = second_report(rgb_silent_s=12.0, depth_silent_s=10.2, depth_received=300, pairs=300)
    assert level == WARN
    assert message == "no images on /camera/color/image_raw and /camera/depth/image_raw for 10 s"


def test_a_short_silence_is_no_warning() -> None:
    assert second_report(rgb_silent_s=1.5, depth_silent_s=1.5)[0] == OK


@pytest.mark.parametrize("skew_s", [0.4, -0.4])
def test_skewed_clocks_are_told_while_nothing_pairs(skew_s: float) -> None:
    level, message = second_report(stamp_skew_s=skew_s, pairs=300, depth_unpaired=30)
    assert (level, message) == (WARN, "stamps differ by 0.4 s: clocks not synchronised?")


def test_skewed_clocks_are_no_matter_while_frames_pair_or_none_come() -> None:
    assert second_report(stamp_skew_s=0.4)[0] == OK
    assert second_report(stamp_skew_s=0.4, depth_received=300, pairs=300)[0] == OK


def test_stamps_that_nobody_set_are_told_while_nothing_pairs() -> None:
    level, message = second_report(unstamped="rgb, depth", pairs=300, depth_unpaired=30)
    assert level == WARN
    assert message.startswith("the stamps of rgb, depth are 0, so nothing pairs: have the publisher set")
    assert second_report(unstamped="rgb, depth")[0] == OK  # sync.key rgb, or the start of a simulation


def test_new_bad_frames_are_told_once_with_the_last_reason() -> None:
    assess = Assessor()
    assess(WELL)
    bad = WELL | {"bad": 2, "last_error": "bad frame: the RGB image is 0x0"}
    assert assess(bad) == (WARN, "2 bad frames: bad frame: the RGB image is 0x0")
    assert assess(bad)[0] == OK


def test_many_unpaired_depth_frames_are_told_with_their_number() -> None:
    level, message = second_report(pairs=310, depth_unpaired=15, depth_evicted=5)
    assert (level, message) == (WARN, "20 of 30 depth frames found no RGB frame within sync.slop")
    assert second_report(pairs=320, depth_unpaired=10)[0] == OK


def test_a_network_slower_than_the_camera_is_told_with_the_overwritten_share() -> None:
    level, message = second_report(overwritten=20)
    assert level == WARN
    assert message == "20 of 30 pairs were overwritten: the network is slower than the camera"
    assert second_report(overwritten=10)[0] == OK


def test_different_views_are_told_last() -> None:
    assert second_report(view_mismatch="they see different views") == (WARN, "they see different views")
    assert "overwritten" in second_report(view_mismatch="they see different views", overwritten=20)[1]


def test_a_guide_that_is_left_out_of_most_frames_is_told_with_what_to_do() -> None:
    level, message = second_report(guide_left_out_recent=16)
    assert level == WARN
    assert message == (
        "the guide was left out of 16 of the last 30 frames, since it does not show what the depth sensor "
        "measured: align the depth image (register), or check guide.path"
    )
    assert second_report(guide_left_out_recent=15)[0] == OK
    # two images of different views are the likely cause
    both = second_report(guide_left_out_recent=30, view_mismatch="they see different views")
    assert both == (WARN, "they see different views")


def test_counters_that_restart_are_taken_as_they_are() -> None:
    assert second_report(depth_received=5, pairs=5) == (OK, "30.0 Hz")
    assert second_report(depth_received=5, pairs=1, depth_unpaired=4)[0] == WARN


def test_a_failure_is_an_error_with_its_reason_in_every_state() -> None:
    for state in ("unconfigured", "inactive", "active"):
        level, message = second_report(state=state, failure="no such file: x.safetensors")
        assert (level, message) == (ERROR, f"{state}: no such file: x.safetensors")


@pytest.mark.parametrize("state", ["unconfigured", "configuring", "inactive", "finalized"])
def test_a_node_that_is_not_active_is_ok(state: str) -> None:
    assert Assessor()({"state": state, "failure": "", "subscribed": False}) == (OK, state)


def test_a_node_that_nobody_listens_to_is_ok() -> None:
    assert second_report(subscribed=False, rgb_silent_s=60.0, depth_silent_s=60.0) == (OK, "no subscribers")


def test_the_first_report_after_a_configure_counts_from_zero() -> None:
    assess = Assessor()
    assess({"state": "unconfigured", "failure": "", "subscribed": False})
    assert assess(WELL | {"overwritten": 200})[0] == WARN


def test_every_value_of_a_snapshot_becomes_a_text() -> None:
    snapshot = {"state": "active", "latency_p50_ms": 12.3456, "age_p50_ms": float("nan"), "device": "cpu"}
    (status,) = diagnostic_array("/depth_sr: pipeline", WARN, "why", snapshot, Time(sec=3)).status
    assert (status.level, status.name, status.message) == (WARN, "/depth_sr: pipeline", "why")
    assert status.hardware_id == "cpu"
    assert {value.key: value.value for value in status.values} == {
        "state": "active",
        "latency_p50_ms": "12.346",
        "age_p50_ms": "",
        "device": "cpu",
    }


def test_the_log_line_tells_where_frames_are_lost() -> None:
    snapshot = WELL | {
        "rgb_hz": 30.0,
        "depth_hz": 29.0,
        "latency_p50_ms": 20.0,
        "latency_p95_ms": 31.0,
        "published": 280,
        "overwritten": 20,
    }
    line = log_line(snapshot)
    assert line.startswith(
        "rgb 30.0 Hz, depth 29.0 Hz, out 30.0 Hz; latency p50 20 ms, p95 31 ms; pairs 300, "
    )
    assert line.endswith("unpaired 0, evicted 0, overwritten 20, bad 0, published 280")


def test_the_ticker_goes_on_after_an_exception_and_ends_when_told() -> None:
    errors: list[Exception] = []
    calls, enough = [0], threading.Event()

    def call() -> None:
        calls[0] += 1
        if calls[0] == 3:
            enough.set()
        raise RuntimeError(str(calls[0]))

    ticker = Ticker(call, 0.01, errors.append)
    assert enough.wait(30.0)
    ticker.stop()
    ticker.stop()
    assert [str(error) for error in errors[:2]] == ["1", "2"]
    assert not [thread for thread in threading.enumerate() if thread.name == "depth_sr_diagnostics"]
