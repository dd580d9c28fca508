# SPDX-License-Identifier: Apache-2.0
"""`depth-sr evaluate` on the shipped recording: scores, report files, thresholds, clear errors."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from test_bag_pairs import DEPTH, PERIOD, RGB, depth_mm, image, picture

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.bag import BagReader, BagWriter
from depth_sr_ros.cli import main
from depth_sr_ros.demo_sequence import DEPTH_TOPIC, SHIPPED_SEQUENCE, TRUTH_TOPIC
from depth_sr_ros.errors import ConfigError, DataError
from depth_sr_ros.replay import Samples, replay
from depth_sr_ros.replay_batch import EngineSettings, Job, report_folders, run_job
from depth_sr_ros.replay_frames import Frame, ReplayFrames, ReplaySettings
from depth_sr_ros.replay_report import overview, verdict


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> int:
    line = [
        "depth-sr",
        "evaluate",
        str(SHIPPED_SEQUENCE),
        "--out",
        str(out),
        "--limit",
        "3",
        "--threads",
        "1",
    ]
    monkeypatch.setattr("sys.argv", [*line, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_recording_is_scored_against_its_reference_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = ("--depth", DEPTH_TOPIC, "--reference", TRUTH_TOPIC)
    assert run(monkeypatch, tmp_path, *topics, "--max-rmse", "1.0") == 0
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["frames"] == 3 and not found["problems"]
    assert found["seconds"].keys() == {"reading", "network", "scoring"} and min(found["seconds"].values()) > 0
    rmse = {name: metrics["rmse"] for name, metrics in found["methods"].items()}
    assert 0 < rmse["ours"] < min(rmse["bicubic"], rmse["guided"], rmse["fgs"])
    assert "the network helps here" in found["verdict"][0]
    html = (tmp_path / "report.html").read_text()
    assert found["verdict"][0] in html.replace("&#39;", "'") and html.count("data:image/jpeg;base64,") >= 12
    assert 'src="http' not in html and "<link" not in html, "it needs no network"
    with (tmp_path / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and float(rows[1]["ours_rmse"]) > 0 and float(rows[1]["flicker"]) >= 0


def test_a_missed_threshold_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = ("--depth", TRUTH_TOPIC, "--simulate", "tof", "--no-baselines", "--max-rmse", "0.000001")
    assert run(monkeypatch, tmp_path, *simulated) == 1


def test_without_a_truth_there_are_no_scores_and_bad_options_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, tmp_path, "--depth", DEPTH_TOPIC, "--no-baselines") == 0
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["methods"] == {} and "Nothing to score against" in found["verdict"][0]
    assert run(monkeypatch, tmp_path, "--depth", "/odd") == 2
    with pytest.raises(ConfigError, match="scale is 3"):
        ReplaySettings(SHIPPED_SEQUENCE, simulate="tof", scale=3)
    with pytest.raises(ConfigError, match="seed is -1, but must be at least 0"):
        ReplaySettings(SHIPPED_SEQUENCE, simulate="tof", seed=-1)


@pytest.mark.parametrize("rgb_rows", [360, 720])
def test_what_is_cropped_off_the_depth_is_cropped_off_the_picture(tmp_path: Path, rgb_rows: int) -> None:
    rgb = np.zeros((rgb_rows, 424 * rgb_rows // 360, 3), np.uint8)
    depth = np.full((360, 424), 2000, np.uint16)
    rgb[rgb_rows * 340 // 360 :], depth[340:] = 255, 1000
    with BagWriter(tmp_path / "bag") as bag:
        for topic, pixels, encoding in ((RGB, rgb, "rgb8"), (DEPTH, depth, "16UC1")):
            bag.write(topic, "sensor_msgs/msg/Image", PERIOD, image(bag, PERIOD, pixels, encoding))
    with BagReader(tmp_path / "bag") as bag:
        frames = ReplayFrames(bag, ReplaySettings(tmp_path / "bag", simulate="clean"))
        frame = frames.decode(*next(iter(frames)), number=0)
    assert frame.truth is not None and frame.truth.shape == frame.rgb.shape[:2] == (352, 416)
    np.testing.assert_array_equal(frame.rgb[..., 0] > 127, frame.truth < 1.5)


def test_a_report_without_a_place_is_said_before_the_first_frame_and_a_bad_bag_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    job = Job(ReplaySettings(SHIPPED_SEQUENCE, depth_topic=DEPTH_TOPIC), EngineSettings(), tmp_path / "file")
    with pytest.raises(DataError, match="file: the folder cannot be made"):
        run_job(job, lambda done: pytest.fail("a frame was evaluated"))
    missing = Job(ReplaySettings(tmp_path / "none"), EngineSettings(threads=1), tmp_path / "report")
    with pytest.raises(DataError, match="none is not a readable"):
        run_job(missing)
    assert not (tmp_path / "report").exists()


def test_a_report_is_called_as_its_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "deep")
    bags = ["run.1", "run.2", "a/run.mcap", "b/run.db3", ".", "..", "b/run.1"]
    folders = report_folders([Path(bag) for bag in bags], Path("out"))
    names = ["run.1", "run.2", "run", "run-2", "deep", "here", "run.1-2"]
    assert folders == [Path("out") / name for name in names]


def test_no_threads_are_not_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, tmp_path / "report", "--depth", DEPTH_TOPIC, "--threads", "0") == 2


FOUND = {
    "bag": "/data/[/old]/run",
    "frames": 2,
    "methods": {"ours": {"rmse": 0.012}, "bicubic": {"rmse": 0.0}},
    "problems": {},
    "damage": None,
    "time_of": "network",
    "time_p50_ms": 20.0,
    "rate_hz": 50.0,
    "valid_in": 1.0,
    "lost": 0,
    "flicker": {},
}


@pytest.mark.parametrize(
    ("ours", "says", "cell"),
    [(0.012, "12 mm, beside the best filter's (bicubic, 0 mm)", "inf"), (0.0, "0 mm, beside the", "nan")],
)
def test_a_filter_without_any_error_is_no_division_by_zero(ours: float, says: str, cell: str) -> None:
    found = FOUND | {"methods": {"ours": {"rmse": ours}, "bicubic": {"rmse": 0.0}}}
    text = verdict(found)[0]
    assert says in text and text.endswith("the network does not help here.")
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(overview([found]))
    printed = console.export_text()
    assert cell in printed and "/data/[/old]/run" in printed, "a path is no markup"


def test_flicker_of_a_filter_alone_gives_no_sentence() -> None:
    assert not any("flickers" in line for line in verdict(FOUND | {"flicker": {"bicubic": 0.01}}))
    assert any("2.00 times" in line for line in verdict(FOUND | {"flicker": {"bicubic": 0.01, "ours": 0.02}}))


def test_a_first_frame_without_a_score_is_not_the_best_one() -> None:
    def frame(index: int) -> Frame:
        depth = np.ones((2, 2), np.float32)
        return Frame(index, 0.0, 0, np.zeros((2, 2, 3), np.uint8), depth, depth, None)

    samples = Samples()
    for index, score in enumerate((np.nan, 3.0, 1.0, 2.0, np.nan, 5.0, 4.0, 6.0, 0.5)):
        samples.add(score, frame(index), np.ones((2, 2), np.float32))
    chosen = {name: kept.stamp_ns for name, kept, _ in samples.chosen()}
    assert (chosen["worst"], chosen["best"]) == (7, 8) and all(np.isfinite(kept[0]) for kept in samples.kept)


def test_a_reference_frame_that_cannot_be_read_is_counted_and_the_others_are_scored(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for index in range(4):
            stamp = (index + 1) * PERIOD
            encoding = "mono8" if index == 2 else "16UC1"
            reference = depth_mm(index).astype(np.uint8 if index == 2 else np.uint16)
            frames = {
                RGB: image(bag, stamp, picture(index), "rgb8"),
                DEPTH: image(bag, stamp, depth_mm(index)[::4, ::4], "16UC1"),
                "/reference": image(bag, stamp, reference, encoding),
            }
            for topic, message in frames.items():
                bag.write(topic, "sensor_msgs/msg/Image", stamp, message)
    settings = ReplaySettings(tmp_path / "bag", reference_topic="/reference", baselines=False)
    found = replay(settings, DepthSuperResolver(device="cpu"), Samples())
    assert len(found.records) == 3 and all(record.metrics["ours"]["rmse"] < 0.2 for record in found.records)
    ((text, count),) = found.problems.items()
    assert count == 1 and "the depth encoding is 'mono8'" in text
