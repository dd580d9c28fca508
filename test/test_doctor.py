# SPDX-License-Identifier: Apache-2.0
"""`depth-sr doctor` on real recordings, each with one fault: exactly that is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doctor_bags import PERIOD_NS, Camera, write

from depth_sr_ros.doctor.bag_source import sample_bag
from depth_sr_ros.doctor.checks import examine
from depth_sr_ros.doctor.findings import Report, Severity

P, W, N = Severity.PROBLEM, Severity.WARNING, Severity.NOTE
S = 10**9


def report_of(path: Path, register: bool = False, **options: Any) -> Report:
    samples = sample_bag(path, **options)
    samples.register = register
    return examine(samples)


def faults(report: Report) -> set[tuple[str, Severity]]:
    return {(f.check, f.severity) for f in report.findings if f.severity >= Severity.WARNING}


def only_depth(change: int):
    return lambda kind, time: time + change * (kind == "depth")


def info_with(kind: str, **changes: Any):
    return lambda of, fields: fields | changes if of == kind else fields


def scaled_k(factor: float, kind: str = "depth"):
    def change(of: str, fields: dict[str, Any]) -> dict[str, Any]:
        if of != kind:
            return fields
        out = {name: fields[name].copy() for name in ("k", "p")}
        out["k"][[0, 4]] *= factor
        out["p"][[0, 5]] *= factor
        return fields | out

    return change


def with_code(depth: np.ndarray) -> np.ndarray:
    out = depth.copy()
    out[:10] = 65535
    return out


def with_holes(share: float):
    def change(depth: np.ndarray) -> np.ndarray:
        out = depth.copy()
        out[: int(share * len(out))] = 0
        return out

    return change


def jittered(kind: str, time: int) -> int:
    return time + (PERIOD_NS * 45 // 100) * (time // PERIOD_NS % 2)


def stalled(kind: str, time: int) -> int:
    return max(time, 18 * S // 10) if time > 5 * S // 10 else time


def looped(kind: str, time: int) -> int:
    return time - 15 * S // 10 if time > 13 * S // 10 else time


def every_third_missing(kind: str, time: int) -> int | None:
    return None if kind == "rgb" and time // PERIOD_NS % 3 == 1 else time


# name: the camera, what is found from warnings on, and words of the first finding with its fix
FAULTY: dict[str, tuple[Camera, set[tuple[str, Severity]], str]] = {
    "no depth topic": (Camera(topics={"rgb": "/rgb/image"}), {("topics", P)}, "there is no depth topic"),
    "a clock that is ahead": (Camera(stamp=only_depth(2 * S)), {("clocks", P)}, "chrony"),
    "a clock behind, or slow": (Camera(stamp=only_depth(-3 * S // 10)), {("clocks", W)}, "or depth takes"),
    "a clock that drifts": (
        Camera(stamp=lambda kind, time: time + time // 50 * (kind == "depth")),
        {("clocks", W)},
        "drift apart",
    ),
    "streams of two times": (
        Camera(stamp=only_depth(-100 * S), arrival=only_depth(-100 * S)),
        {("pairing", P)},
        "the nearest RGB stamp is",
    ),
    "both in another time": (
        Camera(stamp=lambda kind, time: time - 1_000_000 * S),
        {("stamp age", W)},
        "11.57 days before the arrival",
    ),
    "no stamps": (
        Camera(stamp=lambda kind, time: -(10**19) if kind == "depth" else time),
        {("stamps", P)},
        "stamp 0",
    ),
    "a loop": (Camera(stamp=looped), {("stamps", W)}, "go back by more than 1 s"),
    "repeated stamps": (
        Camera(stamp=lambda kind, time: time // (2 * PERIOD_NS) * 2 * PERIOD_NS if kind == "depth" else time),
        {("stamps", W), ("pairing", W)},
        "the same stamp",
    ),
    "metres in 16UC1": (Camera(depth=lambda d: d // 1000), {("units", P)}, "metres are stored"),
    "millimetres in 32FC1": (
        Camera(depth=lambda d: d.astype(np.float32), depth_encoding="32FC1"),
        {("units", P)},
        "millimetres are stored",
    ),
    "eight bits": (Camera(depth=lambda d: d // 16 * 16), {("units", W)}, "it went through 8 bits"),
    "a code for unknown": (Camera(depth=with_code), {("units", W)}, "65535"),
    "8-bit depth": (
        Camera(depth=lambda d: (d // 32).astype(np.uint8), depth_encoding="mono8"),
        {("encodings", P)},
        "16UC1",
    ),
    "YUV": (Camera(rgb=lambda rgb: rgb[..., :2], rgb_encoding="yuv422"), {("encodings", W)}, "cv_bridge"),
    "no picture": (Camera(rgb=lambda rgb: rgb[..., :2], rgb_encoding="8UC2"), {("encodings", P)}, "rgb8"),
    "two frames": (Camera(frame_ids=("rgb_frame", "depth_frame")), {("views", P)}, "register"),
    "another shape": (Camera(depth=lambda d: d[20:-20]), {("views", P)}, "another shape"),
    "another field of view": (Camera(info=scaled_k(0.8)), {("views", P)}, "field of view"),
    "a shift": (Camera(depth=lambda d: np.roll(d, 6, axis=1)), {("alignment", P)}, "-6.0, +0.0 depth pixels"),
    "no RGB CameraInfo": (Camera(infos=("depth",)), {("camera info", W)}, "no CameraInfo beside /rgb/image"),
    "no intrinsics": (
        Camera(info=info_with("rgb", k=np.zeros(9), p=np.zeros(12))),
        {("camera info", W)},
        "not calibrated",
    ),
    "CameraInfo of another size": (
        Camera(info=info_with("rgb", width=1280, height=720)),
        {("camera info", W)},
        "1280x720",
    ),
    "an unknown distortion": (
        Camera(info=info_with("rgb", distortion_model="barrel", d=np.full(4, 0.1))),
        {("camera info", W)},
        "'barrel'",
    ),
    "depth larger than RGB": (Camera(rgb=lambda rgb: rgb[::4, ::4]), {("sizes", W)}, "larger than the RGB"),
    "very coarse depth": (Camera(depth=lambda d: d[::10, ::10]), {("sizes", W)}, "output.max_side"),
    "many holes": (Camera(depth=with_holes(0.6)), {("holes", W)}, "output.max_fill_distance"),
    "no measurement": (Camera(depth=lambda d: d * 0), {("holes", P)}, "100 %"),
    "constant depth": (Camera(depth=lambda d: d * 0 + 1234), {("holes", P)}, "1.234 m"),
    "a frozen stream": (Camera(is_still=("depth",)), {("frozen", P)}, "100 % of the depth images"),
    "a still simulation": (Camera(is_still=("rgb", "depth")), {("frozen", W)}, "simulator"),
    "a lens cap": (Camera(rgb=lambda rgb: rgb // 64), {("exposure", P)}, "black"),
    "saturated RGB": (
        Camera(rgb=lambda rgb: np.where(rgb > 100, 255, rgb).astype(np.uint8)),
        {("exposure", W)},
        "saturated",
    ),
    "missing frames": (Camera(stamp=every_third_missing), {("rates", P)}, "RGB frames are missing"),
    "a slow camera": (Camera(frames=12, period_ns=S), {("rates", W)}, "1.00 Hz"),
    "uneven stamps": (Camera(stamp=jittered, arrival=jittered), {("rates", W)}, "scatter"),
    "a stall": (Camera(arrival=stalled), {("rates", W)}, "no RGB image came for up to 1.3 s"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_is_found_and_no_other(name: str, tmp_path: Path) -> None:
    camera, expected, words = FAULTY[name]
    report = report_of(write(tmp_path / "bag", camera))
    assert faults(report) == expected, "\n".join(f.text for f in report.findings)
    first = report.findings[0]
    assert words in f"{first.text} {first.fix}" and first.fix
    assert report.exit_code == int(any(severity == P for _, severity in expected))
    assert [f.severity for f in report.findings] == sorted(
        (f.severity for f in report.findings), reverse=True
    )


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_healthy_recording_has_nothing_to_say(tmp_path: Path, storage: str) -> None:
    report = report_of(write(tmp_path / "bag", Camera(), storage))
    assert {f.severity for f in report.findings} == {Severity.OK}
    assert {f.check for f in report.findings} >= {"clocks", "pairing", "units", "alignment", "rates", "views"}
    assert "nothing here stands in the network's way" in report.verdict


def slower_depth(kind: str, time: int) -> int | None:
    return None if kind == "depth" and time // PERIOD_NS % 3 else time


@pytest.mark.parametrize(
    ("camera", "check", "words"),
    [
        (Camera(stamp=slower_depth), "rates", "sync.key to rgb"),
        (Camera(stamp=only_depth(-4 * PERIOD_NS // 5)), "clocks", "more than half the RGB period"),
        (Camera(rgb=lambda rgb: rgb[::2, ::2]), "sizes", "only denoises"),
        (Camera(depth=with_holes(0.3)), "holes", "30 %"),
        (Camera(frame_ids=("", "")), "views", "no frame_id"),
        (Camera(info=info_with("rgb", d=np.full(5, 0.1))), "camera info", "ignore"),
        (Camera(infos=("rgb",)), "camera info", "needed for register"),
        (Camera(frames=5), "rates", "too few"),
        (Camera(rgb=lambda rgb: rgb[:, ::-1]), "alignment", "not conclusive"),
    ],
)
def test_what_is_worth_knowing_is_a_note(camera: Camera, check: str, words: str, tmp_path: Path) -> None:
    report = report_of(write(tmp_path / "bag", camera))
    assert not faults(report), "\n".join(f.text for f in report.findings)
    assert any(words in f"{f.text} {f.fix}" for f in report.of(N) if f.check == check)
    assert report.exit_code == 0


def test_with_register_the_views_may_differ_but_both_cameras_must_be_known(tmp_path: Path) -> None:
    views = Camera(frame_ids=("rgb_frame", "depth_frame"), depth=lambda depth: depth[20:-20])
    assert faults(report_of(write(tmp_path / "known", views), register=True)) == set()
    unknown = report_of(write(tmp_path / "unknown", replace(views, infos=("rgb",))), register=True)
    assert faults(unknown) == {("views", P)}
    assert "the depth camera is not known" in unknown.findings[0].text
