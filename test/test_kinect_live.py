# SPDX-License-Identifier: Apache-2.0
"""Real input through the live path: 120 Kinect frames, degraded x4, through the node in another process.

The rate is 15 Hz, or less where this machine cannot keep up with it: the test says so then.
Set DEPTH_SR_PICTURES to a folder to keep the picture of three frames there (docs/images/kinect_live.png).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from ros_helpers import Listener, NodeProcess, PythonProcess, Received

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.baselines import run_baseline
from depth_sr_ros.colorize import colorize
from depth_sr_ros.degradation import degrade
from depth_sr_ros.metrics import depth_metrics, mean_metrics
from depth_sr_ros.ros.engine_loader import default_threads
from depth_sr_ros.ros.messages import NS_PER_S
from training.make_kinect_bag import frame_names, read_frame

pytestmark = pytest.mark.alone

FRAMES, RATE_HZ, SCALE = 120, 15.0, 4
# Of the period; the rest is for DDS, the camera and the listener on the same two cores.
NETWORK_SHARE = 0.6
LATENCY_P50_MS = 150.0
SLOW_FACTOR = 1.75
SHOWN = (10, 60, 110)

Depth = npt.NDArray[np.float32]


class Sequence(NamedTuple):
    rgb: npt.NDArray[np.uint8]
    """N x 480 x 640 x 3"""
    truth: Depth
    """N x 480 x 640 metres, NaN = unknown"""
    sent: Depth
    """N x 120 x 160 metres, degraded with the profile `noisy`"""
    stamps: npt.NDArray[np.int64]


class Run(NamedTuple):
    sequence: Sequence
    images: dict[int, Received]
    """By stamp."""
    sent_ns: dict[int, int]
    counters: dict[str, int]


@pytest.fixture(scope="module")
def sequence(data_dir: Path) -> Sequence:
    folder = data_dir / "kinect"
    if not folder.is_dir():
        pytest.skip(f"no Kinect sequence at {folder}")
    names = frame_names(folder, FRAMES)
    rgb, truth = (np.stack(each) for each in zip(*(read_frame(folder, name) for name in names), strict=True))
    rng = np.random.default_rng(0)
    sent = np.stack([degrade(frame, SCALE, "noisy", rng) for frame in truth])
    stamps = 1_700_000_000 * NS_PER_S + np.arange(len(names), dtype=np.int64) * NS_PER_S // int(RATE_HZ)
    return Sequence(rgb, truth, sent, stamps)


@pytest.fixture(scope="module")
def network_s(sequence: Sequence) -> float:
    """Seconds that one frame takes the engine as the node makes it."""
    engine = DepthSuperResolver(device="cpu", threads=default_threads())
    engine.warm_up((640, 480), (160, 120))
    start = time.perf_counter()
    for rgb, depth in zip(sequence.rgb[:5], sequence.sent, strict=False):
        engine(rgb, depth)
    return (time.perf_counter() - start) / 5


@pytest.fixture(scope="module")
def rate_hz(network_s: float) -> float:
    """What this machine can do, at most 15 Hz."""
    rate = min(RATE_HZ, NETWORK_SHARE / network_s)
    note = "" if rate == RATE_HZ else f", so the sequence is played at {rate:.1f} Hz instead of {RATE_HZ:g}"
    print(f"the network takes {network_s * 1e3:.0f} ms a frame{note}")
    return rate


@pytest.fixture(scope="module")
def run(sequence: Sequence, rate_hz: float, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("kinect")
    for name, values in (("rgb", sequence.rgb), ("depth", sequence.sent), ("stamps", sequence.stamps)):
        np.save(folder / f"{name}.npy", values)
    played = play(sequence, folder, rate_hz)
    if played.counters["overwritten"]:
        # Three processes share the machine with whatever else runs there: one hiccup gets a second chance.
        print(f"played again: {played.counters['overwritten']} pairs were overwritten")
        played = play(sequence, folder, rate_hz)
    return played


def play(sequence: Sequence, folder: Path, rate_hz: float) -> Run:
    """Play the folder once through a new node; all three end before it returns."""
    listener = Listener(name="kinect_listener", depth=FRAMES)
    camera_script = Path(__file__).with_name("camera_process.py")
    with NodeProcess() as node:
        listener.wait_for_node(node)
        with PythonProcess([camera_script, folder, str(rate_hz)]) as camera:
            listener.spin_until(lambda: "played" in camera.output, 90.0, camera)
            counters = listener.fresh_counters()  # a second later: the last frame has left the node
            listener.reached(lambda: len(listener.images) >= counters["published"], 5.0)
    listener.close()
    sent_ns = {int(stamp): ns for stamp, ns in json.loads((folder / "sent.json").read_text()).items()}
    return Run(sequence, {image.stamp_ns: image for image in listener.images}, sent_ns, counters)


def test_every_frame_arrives_is_paired_and_published(run: Run) -> None:
    counters = run.counters
    lost = {
        "rgb to the node": FRAMES - counters["rgb_received"],
        "depth to the node": FRAMES - counters["depth_received"],
        "output to the listener": counters["published"] - len(run.images),
    }
    print(f"transport loss: {lost}")
    assert lost == dict.fromkeys(lost, 0)
    assert counters["pairs"] == counters["published"] == FRAMES, counters
    assert counters["overwritten"] == counters["bad"] == counters["publish_errors"] == 0, counters
    assert set(run.images) == set(run.sequence.stamps.tolist())


def test_the_output_comes_within_the_latency(run: Run, network_s: float) -> None:
    latencies = [(image.arrival_ns - run.sent_ns[stamp]) / 1e6 for stamp, image in run.images.items()]
    p50, p95 = np.percentile(latencies, (50, 95))
    print(f"latency, sent to received: p50 {p50:.1f} ms, p95 {p95:.1f} ms, max {max(latencies):.1f} ms")
    # Where the network alone takes most of it, the three processes beside it get their share.
    assert p50 < max(LATENCY_P50_MS, SLOW_FACTOR * network_s * 1e3)


def test_the_received_depth_is_nearer_to_the_original_than_bicubic(run: Run, tmp_path: Path) -> None:
    ours, bicubic = [], []
    for rgb, truth, sent, stamp in zip(*run.sequence, strict=True):
        if int(stamp) in run.images:
            ours.append(depth_metrics(run.images[int(stamp)].metres(), truth))
            bicubic.append(depth_metrics(run_baseline("bicubic", sent, rgb), truth))
    mean_ours, mean_bicubic = mean_metrics(ours), mean_metrics(bicubic)
    print(f"RMSE over {len(ours)} frames: {mean_ours['rmse']:.4f} m, bicubic {mean_bicubic['rmse']:.4f} m")
    assert mean_ours["rmse"] < mean_bicubic["rmse"]
    path = Path(os.environ.get("DEPTH_SR_PICTURES", tmp_path)) / "kinect_live.png"
    save_picture(path, run)
    assert path.stat().st_size > 100_000


def save_picture(path: Path, run: Run) -> None:
    """Three frames, a row each: RGB, the depth sent, bicubic, the depth received, the Kinect's own depth."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    for row, index in zip(figure.subplots(len(SHOWN), 5), SHOWN, strict=True):
        rgb, truth, sent, stamp = (values[index] for values in run.sequence)
        low, high = (float(value) for value in np.nanpercentile(truth, (1, 99)))
        received = run.images[int(stamp)].metres()
        depths = (sent, run_baseline("bicubic", sent, rgb), received, truth)
        panels = [rgb, *(colorize(depth, low, high) for depth in depths)]
        titles = ("RGB", "depth sent, 160x120", "bicubic", "depth_sr_ros, received", "Kinect, 640x480")
        for axis, panel, title in zip(row, panels, titles, strict=True):
            axis.imshow(panel, interpolation="nearest")
            axis.set_axis_off()
            if index == SHOWN[0]:
                axis.set_title(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
