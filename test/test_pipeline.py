# SPDX-License-Identifier: Apache-2.0
"""Node and pipeline in this process: which frames follow on each other, and what the node remembers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the pipeline takes messages")

import numpy as np
import rclpy
from lifecycle_client import plane, rgb_pixels
from rclpy.parameter import Parameter
from ros_helpers import start_ros
from sensor_msgs.msg import Image, PointCloud2

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.answer import Answer, Wanted
from depth_sr_ros.models.registration import DepthRegistration
from depth_sr_ros.parameters import TABLE
from depth_sr_ros.ros.engine_loader import load_engine
from depth_sr_ros.ros.extrinsics import Registrar
from depth_sr_ros.ros.messages import NS_PER_S, header, image_message, pinhole_camera_info
from depth_sr_ros.ros.node import SUCCESS, DepthSRNode
from depth_sr_ros.ros.pass_through import PassThrough
from depth_sr_ros.ros.pipeline import Pipeline
from depth_sr_ros.runner import NetworkRunner, Request

pytestmark = pytest.mark.alone


class Recorder(PassThrough):
    """Notes the frames, and where it was told to forget."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.warnings: list[str] = []
        self.guide_share: float | None = None

    def answer(self, *arguments: Any, **options: Any) -> Answer:
        self.calls.append("frame")
        answer = super().answer(*arguments, **options)
        self.wanted = answer.wanted
        return answer

    def forget(self) -> None:
        self.calls.append("forget")


@pytest.fixture
def engine() -> Recorder:
    return Recorder()


@pytest.fixture
def node(engine: Recorder) -> Iterator[DepthSRNode]:
    """Inactive."""
    start_ros()
    out = DepthSRNode(make_engine=lambda values: engine)
    try:
        assert out.trigger_configure() == SUCCESS
        yield out
    finally:
        out.close()
        out.destroy_node()


@pytest.fixture
def rig(node: DepthSRNode, engine: Recorder) -> tuple[Pipeline, Recorder]:
    assert node._pipeline is not None
    return node._pipeline, engine


def send(rig: tuple[Pipeline, Recorder], stamp_ns: int, frame_id: str = "camera") -> list[str]:
    """A pair through the pipeline; returns what the engine was told for it."""
    pipeline, engine = rig
    engine.calls.clear()
    run(pipeline, stamp_ns, frame_id)
    assert "frame" in engine.calls
    return list(engine.calls)


def run(pipeline: Pipeline, stamp_ns: int, frame_id: str = "camera") -> None:
    """A pair through the pipeline, to its end."""
    pipeline.push_rgb(image_message(rgb_pixels(), "rgb8", header(stamp_ns, frame_id)))
    pipeline.push_depth(image_message(plane(), "32FC1", header(stamp_ns, frame_id)))
    deadline = time.monotonic() + 30
    while (counts := pipeline.snapshot())["pairs"] > counts["published"] + counts["publish_errors"]:
        assert time.monotonic() < deadline, counts
        time.sleep(0.001)


def test_frames_in_a_row_follow_on_each_other(rig: tuple[Pipeline, Recorder]) -> None:
    stamps = [100 * NS_PER_S + i * NS_PER_S // 30 for i in range(4)]
    assert send(rig, stamps[0]) == ["forget", "frame"]
    assert [send(rig, stamp) for stamp in stamps[1:]] == [["frame"]] * 3


@pytest.mark.parametrize("seconds", [-20.0, 1.5], ids=["a bag that loops", "a pause"])
def test_a_frame_after_a_jump_in_time_does_not(rig: tuple[Pipeline, Recorder], seconds: float) -> None:
    send(rig, 100 * NS_PER_S)
    after = 100 * NS_PER_S + int(seconds * NS_PER_S)
    assert send(rig, after) == ["forget", "frame"]
    assert send(rig, after + NS_PER_S // 30) == ["frame"]


def test_a_frame_of_another_camera_does_not(rig: tuple[Pipeline, Recorder]) -> None:
    send(rig, 100 * NS_PER_S)
    assert send(rig, 100 * NS_PER_S + NS_PER_S // 30, "other") == ["forget", "frame"]


def test_the_first_frame_after_a_clear_does_not(rig: tuple[Pipeline, Recorder]) -> None:
    send(rig, 100 * NS_PER_S)
    rig[0].clear()
    assert send(rig, 100 * NS_PER_S + NS_PER_S // 30) == ["forget", "frame"]


def test_a_stream_whose_stamps_are_0_is_named(rig: tuple[Pipeline, Recorder]) -> None:
    pipeline, _ = rig
    assert pipeline.snapshot()["unstamped"] == ""
    run(pipeline, 0)
    assert pipeline.snapshot()["unstamped"] == "rgb, depth"
    pipeline.push_rgb(image_message(rgb_pixels(), "rgb8", header(NS_PER_S, "camera")))
    assert pipeline.snapshot()["unstamped"] == "depth"


def test_frames_that_left_their_guide_out_are_counted(rig: tuple[Pipeline, Recorder]) -> None:
    pipeline, engine = rig
    shares: list[float | None] = [None, 0.0, 0.5, 0.0, 1.0]
    for i, share in enumerate(shares):
        engine.guide_share = share
        send(rig, 100 * NS_PER_S + i * NS_PER_S // 30)
    snapshot = pipeline.snapshot()
    assert (snapshot["guide_left_out"], snapshot["guide_left_out_recent"]) == (2, 2)
    pipeline.clear()  # another camera may come
    snapshot = pipeline.snapshot()
    assert (snapshot["guide_left_out"], snapshot["guide_left_out_recent"]) == (2, 0)


def test_the_distortion_of_a_camera_that_is_registered_is_told_once_for_each_warp() -> None:
    said: list[str] = []
    registrar = Registrar(lambda rgb_frame, depth_frame: np.eye(4), said.append)
    rgb = pinhole_camera_info((64, 48), (50.0, 50.0), (31.5, 23.5))
    depth = pinhole_camera_info((16, 12), (12.5, 12.5), (7.5, 5.5))
    engine = SimpleNamespace(make_registration=DepthRegistration)
    sizes = ((64, 48), (16, 12))
    registrar(engine, ("rgb", "depth"), (rgb, depth), sizes)
    assert said == []
    depth.d = [0.4, -0.3, 0.0, 0.0, 0.1]
    for frame in ("other", "other", "third"):
        registrar(engine, ("rgb", frame), (rgb, depth), sizes)
    assert len(said) == 2
    assert said[0].startswith("register is true, but the depth camera's distortion is not zero: unless")


def test_a_warning_that_comes_with_a_frame_is_logged_once(
    rig: tuple[Pipeline, Recorder], capfd: pytest.CaptureFixture[str]
) -> None:
    rig[1].warnings.append("no CUDA graph could be made")
    for i in range(2):
        send(rig, 100 * NS_PER_S + i * NS_PER_S // 30)
    assert capfd.readouterr().err.count("no CUDA graph could be made") == 1


@pytest.mark.parametrize(("max_side", "expected"), [(0, (128, 96)), (64, (64, 48)), (40, (128, 96))])
def test_the_start_prepares_for_the_size_that_the_network_sees(
    max_side: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not for one that is too small for it: the frames say that."""
    sizes: list[tuple[int, int]] = []
    prepare = DepthSuperResolver.warm_up

    def noted(engine: DepthSuperResolver, rgb_size: tuple[int, int], *rest: Any, **options: Any) -> None:
        sizes.append(rgb_size)
        prepare(engine, rgb_size, *rest, **options)

    monkeypatch.setattr(DepthSuperResolver, "warm_up", noted)
    values = {spec.name: spec.default for spec in TABLE} | {"output.max_side": max_side, "device": "cpu"}
    load_engine(values | {"warmup.rgb_size": [128, 96], "warmup.depth_size": [16, 12], "engine.threads": 1})
    assert sizes == [expected]


@pytest.mark.parametrize("unknown", ["nan", "fill"])
def test_the_start_prepares_for_the_kind_of_frame_that_the_node_answers(
    unknown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA graph holds for one kind: of another, the first two live frames would pay for it."""
    requests: list[Request] = []
    compute = NetworkRunner.__call__

    def noted(runner: NetworkRunner, request: Request, *rest: Any) -> Any:
        requests.append(request)
        return compute(runner, request, *rest)

    monkeypatch.setattr(NetworkRunner, "__call__", noted)
    given = {
        "output.unknown": unknown,
        "device": "cpu",
        "warmup.rgb_size": [64, 48],
        "warmup.depth_size": [16, 12],
    }
    start_ros()
    node = DepthSRNode(parameter_overrides=[Parameter(name, value=value) for name, value in given.items()])
    try:
        assert node.trigger_configure() == SUCCESS
        assert node._pipeline is not None
        prepared = set(requests)
        requests.clear()
        run(node._pipeline, 100 * NS_PER_S)
    finally:
        node.close()
        node.destroy_node()
    (live,) = requests
    assert live in prepared


def test_an_answer_is_to_have_what_somebody_listens_to(
    node: DepthSRNode, rig: tuple[Pipeline, Recorder]
) -> None:
    """And the depth in the type that it is published in."""

    def wanted(encoding: str, *topics: tuple[type, str]) -> Wanted:
        node.set_parameters([Parameter("output.encoding", value=encoding)])
        listener = rclpy.create_node("listener")
        try:
            for kind, topic in topics:
                listener.create_subscription(kind, f"/depth_sr/{topic}", lambda message: None, 1)
            deadline = time.monotonic() + 30
            while node._outputs is None or node._outputs.subscribers() != len(topics):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            send(rig, time.monotonic_ns())
        finally:
            listener.destroy_node()
        return rig[1].wanted

    color = (Image, "depth/color")
    assert wanted("32FC1") == Wanted()
    assert wanted("16UC1") == Wanted(metres=False, millimetres=True)
    assert wanted("16UC1", color) == Wanted(metres=False, millimetres=True, picture=True)
    assert wanted("16UC1", (PointCloud2, "points")) == Wanted(metres=True, millimetres=True)
    limits = [Parameter("color.min", value=1.0), Parameter("color.max", value=4.0)]
    assert all(result.successful for result in node.set_parameters(limits))
    assert wanted("32FC1", color) == Wanted(picture=True, color_range=(1.0, 4.0))


def test_a_subscription_that_succeeds_leaves_a_failure_of_another_kind(node: DepthSRNode) -> None:
    assert node.trigger_activate() == SUCCESS
    node._follow_demand()  # nobody listens
    assert not node.snapshot()["subscribed"]
    node._on_failure(RuntimeError("the GPU is gone"))
    node.set_parameters([Parameter("lazy", value=False)])
    snapshot = node.snapshot()
    assert snapshot["subscribed"]
    assert snapshot["failure"] == "the network failed: RuntimeError: the GPU is gone"
