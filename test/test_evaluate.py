# SPDX-License-Identifier: Apache-2.0
"""The evaluation command scores what it should, judges it by the targets, and saves its tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.progress import Progress
from typer.testing import CliRunner

from depth_sr_ros.baselines import METHODS, run_baseline
from depth_sr_ros.degradation import degrade
from depth_sr_ros.errors import ConfigError, DataError
from depth_sr_ros.metrics import depth_metrics
from depth_sr_ros.models import native
from training.data.rendered import decode_depth, list_frames, read_frame
from training.eval_frames import EvalFrame, misregistered
from training.eval_report import (
    LR_ERROR,
    OURS,
    OURS_AT_LR,
    case_table,
    guide_table,
    guided,
    summarise,
    verdict_table,
)
from training.evaluate import Network, evaluate, load_network
from training.evaluate_crops import app as app_crops


def frames(count: int = 2) -> list[EvalFrame]:
    """Frames of 101x133 px (the protocol crops them to 96x128): a disc before a slanted wall, moving."""
    out = []
    for index in range(count):
        y, x = np.mgrid[:101, :133].astype(np.float32)
        disc = (y - 50) ** 2 + (x - 50 - 20 * index) ** 2 < 30**2
        depth = np.where(disc, 1.2, 2.4 + 0.002 * x).astype(np.float32)
        depth[30:40, :20] = np.nan
        rgb = np.where(disc[..., None], (200, 60, 40), (60, 110, 160)).astype(np.uint8)
        out.append(EvalFrame(f"frame{index}", "discs", rgb, depth))
    return out


def run(profiles: list[str], seeds: int = 1, error: float | None = None, scale: int = 4) -> list[dict]:
    """Cases of the frames; `ours` answers the truth times 1 + error."""
    truth = {bytes(frame.rgb[:96, :128].tobytes()): frame.depth[:96, :128] for frame in frames()}

    def ours(lr: np.ndarray, rgb: np.ndarray, relative: np.ndarray | None) -> np.ndarray:
        assert relative is None and lr.shape == (96 // scale, 128 // scale) and rgb.shape == (96, 128, 3)
        return np.nan_to_num(truth[rgb.tobytes()], nan=2.0) * np.float32(1 + (error or 0))

    with Progress(disable=True) as progress:
        networks = {} if error is None else {OURS: Network(ours)}
        return summarise(evaluate(frames(), [scale], profiles, seeds, networks, progress))


def test_a_case_holds_the_mean_over_frames_and_the_spread_over_seeds() -> None:
    (case,) = run(["noisy"], seeds=3)
    per_seed = []
    for seed in range(3):
        rmse = []
        for frame in frames():
            depth, rgb = frame.depth[:96, :128], frame.rgb[:96, :128]
            low = degrade(depth, 4, "noisy", np.random.default_rng(seed))
            rmse.append(depth_metrics(run_baseline("fgs", low, rgb, "noisy"), depth)["rmse"])
        per_seed.append(np.mean(rmse))
    fgs = case["methods"]["fgs"]["rmse"]
    assert fgs["mean"] == pytest.approx(np.mean(per_seed), rel=1e-6)
    assert fgs["std"] == pytest.approx(np.std(per_seed, ddof=1), rel=1e-6)
    assert (case["scale"], case["profile"], case["seeds"], case["frames"]) == (
        4,
        "noisy",
        3,
        ["frame0", "frame1"],
    )
    assert list(case["methods"]) == [*METHODS, LR_ERROR]


def test_exact_profiles_use_the_parameters_for_clean_input_and_run_once() -> None:
    (case,) = run(["clean"], seeds=5)
    expected = []
    for frame in frames():
        depth, rgb = frame.depth[:96, :128], frame.rgb[:96, :128]
        low = degrade(depth, 4, "clean", np.random.default_rng(0))
        expected.append(depth_metrics(run_baseline("jbu", low, rgb, "clean"), depth)["rmse"])
    assert case["methods"]["jbu"]["rmse"] == {"mean": pytest.approx(np.mean(expected)), "std": 0}
    assert case["seeds"] == 1


def test_the_lr_rows_measure_the_sensor_and_ours_at_the_same_pixels() -> None:
    (clean, noisy) = run(["clean", "noisy"], error=0.0)
    assert clean["methods"][LR_ERROR]["rmse"]["mean"] == 0
    assert 0.02 < noisy["methods"][LR_ERROR]["mae"]["mean"] < 0.1
    assert noisy["methods"][OURS_AT_LR]["rmse"]["mean"] == pytest.approx(0, abs=1e-6)


def test_ours_is_held_against_the_best_baseline_when_noisy_and_against_bicubic_when_clean() -> None:
    noisy, clean, bicubic = run(["noisy", "clean", "bicubic"], error=0.02)
    rmse = {name: row["rmse"]["mean"] for name, row in noisy["methods"].items() if name in METHODS}
    assert noisy["rival"] == noisy["best_baseline"] == min(rmse, key=lambda name: rmse[name]) != "bicubic"
    assert noisy["ratio"] == pytest.approx(noisy["methods"][OURS]["rmse"]["mean"] / min(rmse.values()))
    edge = noisy["methods"][noisy["rival"]]["edge_rmse"]["mean"]
    assert noisy["edge_ratio"] == pytest.approx(noisy["methods"][OURS]["edge_rmse"]["mean"] / edge)
    assert noisy["target"] == clean["target"] == 0.6
    assert clean["rival"] == bicubic["rival"] == "bicubic" and "target" not in bicubic
    assert noisy["met"] == (noisy["ratio"] <= 0.6)
    assert noisy["edge_met"] == (noisy["edge_ratio"] <= 0.6)


@pytest.mark.parametrize(("error", "met"), [(0.001, True), (0.9, False)])
def test_the_target_is_met_or_missed(error: float, met: bool) -> None:
    cases = run(["noisy", "clean"], error=error)
    assert [case["met"] for case in cases] == [case["edge_met"] for case in cases] == [met, met]
    text = verdict_table(cases).to_markdown()
    assert text.count("<= 0.6 met |" if met else "<= 0.6 MISSED |") == 2
    cases[0]["met"], cases[1]["edge_met"] = not met, not met
    text = verdict_table(cases).to_markdown()
    assert "<= 0.6 MISSED (edges) |" in text and "<= 0.6 MISSED (all) |" in text


def test_the_relative_column_is_a_geometric_mean_over_frames() -> None:
    (case,) = run(["clean"])
    ratios = []
    for frame in frames():
        depth, rgb = frame.depth[:96, :128], frame.rgb[:96, :128]
        low = degrade(depth, 4, "clean", np.random.default_rng(0))
        rmse = [
            depth_metrics(run_baseline(name, low, rgb, "clean"), depth)["rmse"] for name in ("fgs", "bicubic")
        ]
        ratios.append(rmse[0] / rmse[1])
    assert case["methods"]["fgs"]["vs_bicubic"]["mean"] == pytest.approx(np.sqrt(ratios[0] * ratios[1]))
    assert case["methods"]["bicubic"]["vs_bicubic"]["mean"] == 1


def test_every_row_of_a_table_is_complete() -> None:
    cases = run(["noisy", "clean"], seeds=2, error=0.01)
    for table in (verdict_table(cases), *map(case_table, cases)):
        assert all(len(row) == len(table.header) for row in table.rows)
        lines = table.to_markdown().splitlines()
        assert len(lines) == len(table.rows) + 4
        assert {line.count("|") for line in lines[2:]} == {len(table.header) + 1}


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """A data folder with a rendered set of two frames, made by the code formula of the set."""
    folder = tmp_path / "data" / "rendered" / "val"
    folder.mkdir(parents=True)
    rows = []
    for frame, name in zip(frames(), ("val_room_1_00", "val_track_1_00"), strict=True):
        depth = frame.depth[:96, :128]
        code = 1 + 65534 / 5 * np.log10(np.nan_to_num(depth, nan=1) / 0.1)
        code = np.where(np.isnan(depth), 0, np.rint(code)).astype(np.uint16)
        cv2.imwrite(str(folder / f"{name}.png"), code)
        cv2.imwrite(str(folder / f"{name}.jpg"), frame.rgb[:96, :128, ::-1])
        rows.append({"name": name, "split": "val", "scene": "s", "fov_x_deg": 60.0})
    (folder / "index.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path / "data"


def test_rendered_frames_are_read_by_their_code_formula(rendered: Path) -> None:
    listed = list_frames(rendered / "rendered", "val")
    assert [frame.name for frame in listed] == ["val_room_1_00", "val_track_1_00"]
    rgb, depth = read_frame(listed[0])
    truth = frames()[0]
    np.testing.assert_allclose(depth, truth.depth[:96, :128], rtol=2e-4)
    assert np.abs(rgb.astype(int) - truth.rgb[:96, :128]).mean() < 4
    np.testing.assert_allclose(
        decode_depth(np.array([1, 13108, 65535], np.uint16)), [0.1, 1.0, 1e4], rtol=2e-4
    )


def test_depth_is_moved_beside_its_picture_and_the_border_repeats() -> None:
    frame = frames(1)[0]
    moved = misregistered(frame, 3)
    np.testing.assert_array_equal(moved.depth[3:, 3:], frame.depth[:-3, :-3])
    np.testing.assert_array_equal(moved.depth[0, 3:], frame.depth[0, :-3])
    assert moved.depth.shape == frame.depth.shape and moved.rgb is frame.rgb
    np.testing.assert_array_equal(misregistered(frame, 0).depth, frame.depth)


def test_a_missing_rendered_set_or_file_is_named(rendered: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="DEPTH_SR_DATA"):
        list_frames(tmp_path, "val")
    frame = list_frames(rendered / "rendered", "val")[0]
    (frame.folder / f"{frame.name}.jpg").unlink()
    with pytest.raises(DataError, match="val_room_1_00"):
        read_frame(frame)


def test_a_line_of_the_index_that_was_cut_off_is_no_frame_and_a_damaged_one_is_named(rendered: Path) -> None:
    index = rendered / "rendered" / "val" / "index.jsonl"
    whole = index.read_text()
    for tail in ('{"name": "val_room_2', '{"name": "val_room_2_00"}'[:-1], "\n\n"):
        index.write_text(whole + tail)
        assert len(list_frames(rendered / "rendered", "val")) == 2
    for damaged in ('{"name": "val_ro\n', '{"name": "a"}\n', "7\n"):
        index.write_text(whole + damaged + whole)
        with pytest.raises(DataError, match=r"index\.jsonl: line 3 is damaged"):
            list_frames(rendered / "rendered", "val")


def test_a_crop_that_fits_into_no_frame_is_refused(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPTH_SR_DATA", str(rendered))
    ended = CliRunner().invoke(app_crops, ["--side", "128"])
    assert ended.exit_code == 2
    assert "side is 128, but val_room_1_00 has 96x128 pixels: give a smaller one" in " ".join(
        ended.output.split()
    )


def command(script: str, data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[1]
    environment = {"PATH": "/usr/bin:/bin", "DEPTH_SR_DATA": str(data), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, str(root / "training" / script), *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=data, timeout=100)


def test_the_command_prints_and_saves_the_table(rendered: Path) -> None:
    options = ["--data", "rendered-val", "--scales", "4", "8", "--profiles", "noisy", "clean", "--seeds", "2"]
    result = command("evaluate.py", rendered, *options, "--checkpoint", "none", "--out", "runs/table")
    assert result.returncode == 0, result.stderr
    assert "rooms x4 noisy" in result.stdout and "tracks x8 clean" in result.stdout
    record = json.loads((rendered / "runs" / "table.json").read_text())
    assert len(record["cases"]) == 8 and "--seeds 2" in record["command"]
    text = (rendered / "runs" / "table.md").read_text()
    assert all(text.count(f"| {name} |") >= 8 for name in METHODS)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--checkpoint", "missing.safetensors"], "missing.safetensors"),
        (["--checkpoint", "none", "--data", "real"], "no such file"),
        (["--checkpoint", "none", "--data", "rendered-val", "--limit", "0"], "limit is 0"),
        # before the frames, which are missing here, are read
        (["--checkpoint", "none", "--data", "real", "--out", "rendered/val/index.jsonl/x"], "cannot be made"),
    ],
)
def test_bad_arguments_are_one_sentence(rendered: Path, options: list[str], says: str) -> None:
    result = command("evaluate.py", rendered, *options)
    assert result.returncode == 2 and says in result.stderr
    assert result.stderr.startswith("error: ") and len(result.stderr.strip().splitlines()) == 1


def test_tuning_writes_parameters_that_beat_bicubic(rendered: Path) -> None:
    result = command("tune_baselines.py", rendered, "--frames", "2", "--out", "params.json")
    assert result.returncode == 0, result.stderr
    record = json.loads((rendered / "params.json").read_text())
    assert record["frames"] == ["val_room_1_00", "val_track_1_00"]
    assert all(record["scores"]["noisy"][name]["4"] < 1 for name in ("fgs", "despeckle_fgs", "guided", "jbu"))
    assert set(record["params"]["clean"]["fgs"]["8"]) == {"lambda_lr", "sigma_color", "up"}


@pytest.mark.skipif(not native.is_built(), reason="there is no C++ compiler here")
@pytest.mark.parametrize("variant", ["edge", "fast", "challenge"])
def test_both_runtimes_answer_alike(variant: str) -> None:
    frame = frames(1)[0]
    depth, rgb = frame.depth[:96, :128], frame.rgb[:96, :128]
    lr = degrade(depth, 4, "noisy", np.random.default_rng(0))
    guide = None if variant == "edge" else (3 - np.nan_to_num(depth)).astype(np.float32)
    answers = [
        load_network(None, "cpu", "float32", runtime, variant=variant)[0].upsample(lr, rgb, guide)
        for runtime in ("native", "torch")
    ]
    assert np.isfinite(answers[0]).all()
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-4)
    with pytest.raises(ConfigError, match="not in bfloat16 on cpu"):
        load_network(None, "cpu", "bfloat16", "native")


def test_guides_are_made_from_the_truth_and_stand_in_a_table_of_their_own() -> None:
    seen: dict[str, list[np.ndarray]] = {"none": [], "given": []}

    def ours(lr: np.ndarray, rgb: np.ndarray, relative: np.ndarray | None) -> np.ndarray:
        seen["none" if relative is None else "given"].append(lr if relative is None else relative)
        # Something that a guide improves, so that the rows cannot be mixed up.
        return np.full(rgb.shape[:2], 2.0 if relative is None else 1.9, np.float32)

    def other(lr: np.ndarray, rgb: np.ndarray, relative: np.ndarray | None) -> np.ndarray:
        assert relative is None
        return np.full(rgb.shape[:2], 1.7, np.float32)

    with Progress(disable=True) as progress:
        guides = ["perfect", "noisy", "wrong"]
        networks = {OURS: Network(ours, sees=lambda lr, relative: True), "other": Network(other)}
        (case,) = summarise(evaluate(frames(), [4], ["clean"], 1, networks, progress, guides))
    assert len(seen["none"]) == 2 and len(seen["given"]) == 6
    perfect, noisy, wrong = (np.corrcoef(inverse(frames()[0]), g[~hole()])[0, 1] for g in seen["given"][:3])
    assert perfect > 0.999 > noisy > 0.5 and wrong < 0.9
    assert np.array_equal(seen["given"][2], seen["given"][3]), "wrong is the other frame's perfect one"
    assert case["ratio"] == pytest.approx(case["methods"][OURS]["rmse"]["mean"] / bicubic_rmse(case)), (
        "no guide"
    )
    assert case["best_baseline"] in METHODS
    rmse = {name: metrics["rmse"]["mean"] for name, metrics in case["methods"].items()}
    (row,) = guide_table([case]).rows
    assert len(row) == 5 and f"({rmse[guided(OURS, 'noisy')] / rmse[OURS]:.3f})" in row[3]
    verdict = verdict_table([case])
    (row,) = verdict.rows
    assert (
        verdict.header[-1] == "other"
        and row[-1] == f"{rmse['other']:.4g} ({rmse['other'] / rmse['bicubic']:.3f})"
    )


def test_a_guide_that_the_check_leaves_out_costs_no_second_answer() -> None:
    """Seen by the weights that ship: the other frame's guide is no guide, and the answer that of none."""
    network, _ = load_network(None, "cpu", "float32", variant="fast")
    asked: list[bool] = []

    def upsample(lr: np.ndarray, rgb: np.ndarray, relative: np.ndarray | None) -> np.ndarray:
        asked.append(relative is not None)
        return network.upsample(lr, rgb, relative)

    counting = {"fast": Network(upsample, network.sees)}
    with Progress(disable=True) as progress:
        (case,) = summarise(evaluate(frames(), [4], ["clean"], 1, counting, progress, ["perfect", "wrong"]))
    rmse = {name: metrics["rmse"]["mean"] for name, metrics in case["methods"].items()}
    assert asked == [False, True, False, True], "for each frame without a guide, then with its own"
    assert rmse[guided("fast", "wrong")] == rmse["fast"] != rmse[guided("fast", "perfect")]
    frame = frames()[0]
    lr = degrade(frame.depth[:96, :128], 4, "clean", np.random.default_rng(0))
    other = (1 / np.nan_to_num(frames()[1].depth[:96, :128], nan=2.0)).astype(np.float32)
    alone, beside = (network.upsample(lr, frame.rgb[:96, :128], guide) for guide in (None, other))
    np.testing.assert_array_equal(alone, beside)


def hole() -> np.ndarray:
    return np.isnan(frames()[0].depth[:96, :128])


def inverse(frame: EvalFrame) -> np.ndarray:
    return 1 / frame.depth[:96, :128][~hole()]


def bicubic_rmse(case: dict) -> float:
    return float(case["methods"]["bicubic"]["rmse"]["mean"])


def test_a_wrong_guide_needs_a_second_frame() -> None:
    same = frames(1) * 2
    with Progress(disable=True) as progress:
        for given in (frames(1), same):
            with pytest.raises(ConfigError, match="there is one frame: give --limit 2"):
                evaluate(given, [4], ["clean"], 1, {}, progress, ["perfect", "wrong"])


@pytest.mark.parametrize(
    ("device", "says"),
    [("gpu", "must be cpu, cuda or"), ("mps", "must be"), ("cuda:99", "CUDA devices; use cpu")],
)
def test_a_device_that_is_not_here_is_one_sentence(device: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"--device is '{device}', but .*{says}"):
        load_network(None, device, "float32")


def test_guides_for_weights_that_take_none_are_refused() -> None:
    command = [sys.executable, "training/evaluate.py", "--data", "procedural", "--guides", "perfect"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert ended.returncode == 2 and "these weights take no guide" in ended.stderr


def test_one_command_scores_every_variant_that_ships_without_and_with_a_guide(tmp_path: Path) -> None:
    out = tmp_path / "all"
    words = "--data procedural --limit 1 --profiles clean --scales 4 --others fast --guides perfect noisy"
    command = [sys.executable, "training/evaluate.py", *words.split(), "--out", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert ended.returncode == 0, ended.stderr
    record = json.loads(out.with_suffix(".json").read_text())
    assert [each["variant"] for each in record["weights"].values()] == ["edge", "fast"]
    methods = record["cases"][0]["methods"]
    rmse = {name: metrics["rmse"]["mean"] for name, metrics in methods.items()}
    assert set(rmse) == {
        *METHODS,
        OURS,
        "fast",
        *(guided("fast", g) for g in ("perfect", "noisy")),
        OURS_AT_LR,
        LR_ERROR,
    }
    assert rmse[guided("fast", "perfect")] < rmse["fast"]
    text = out.with_suffix(".md").read_text()
    assert "fast: procedural x4 clean" in text and "ours: procedural" not in text
