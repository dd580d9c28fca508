# SPDX-License-Identifier: Apache-2.0
"""The depth-sr command works on real files, and says in one sentence what is wrong with bad ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from depth_sr_ros import __version__
from depth_sr_ros.cli import app, main
from depth_sr_ros.degradation import crop_to_multiple, degrade
from depth_sr_ros.depth_io import read_depth, read_rgb, write_depth, write_rgb
from depth_sr_ros.metrics import depth_metrics

REPO_ROOT = Path(__file__).resolve().parents[1]
RUN = [sys.executable, "-m", "depth_sr_ros.cli"]


def depth_sr(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    line = [*RUN, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(REPO_ROOT)}
    return subprocess.run(line, capture_output=True, text=True, cwd=folder, env=environment, timeout=100)


def assert_one_sentence(result: subprocess.CompletedProcess[str], says: str) -> None:
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("error: ") and says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with rgb.png (160x128), low.{png,npy,exr} (40x32, with a hole) and truth.npy."""
    y, x = np.mgrid[:128, :160].astype(np.float32)
    disc = (y - 64) ** 2 + (x - 80) ** 2 < 40**2
    truth = np.where(disc, 1.2 + 0.001 * y, 2.4 + 0.002 * x).astype(np.float32)
    rgb = np.where(disc[..., None], (200, 60, 40), (60, 110, 160)).astype(np.uint8)
    low = degrade(truth, 4, "noisy", np.random.default_rng(0))
    low[5:9, 6:10] = np.nan
    write_rgb(tmp_path / "rgb.png", rgb)
    np.save(tmp_path / "truth.npy", truth)
    for suffix in ("png", "npy", "exr"):
        write_depth(tmp_path / f"low.{suffix}", low)
    return tmp_path


@pytest.mark.parametrize(("source", "target"), [("png", "npy"), ("exr", "png")])
def test_upsample_writes_depth_at_the_size_of_the_rgb(files: Path, source: str, target: str) -> None:
    before = {file.name: file.read_bytes() for file in files.iterdir()}
    arguments = ["--rgb", "rgb.png", "--depth", f"low.{source}", "--out", f"high.{target}"]
    result = depth_sr("upsample", *arguments, "--colour", "high_colour.png", "--threads", 1, folder=files)
    assert result.returncode == 0, result.stderr
    assert "40x32 -> 160x128" in result.stdout and "edge" in result.stdout
    high, truth = read_depth(files / f"high.{target}"), np.load(files / "truth.npy")
    assert high.shape == truth.shape and np.isfinite(high).all()
    assert depth_metrics(high, truth)["mae"] < 0.1
    assert {name: (files / name).read_bytes() for name in before} == before
    picture = read_rgb(files / "high_colour.png")
    assert picture.shape == (128, 160, 3)
    # the disc is nearer than the wall, so warmer
    assert int(picture[64, 80, 0]) > int(picture[64, 80, 2]) and int(picture[5, 150, 2]) > int(
        picture[5, 150, 0]
    )


def test_upsample_takes_real_frames(data_dir: Path, tmp_path: Path) -> None:
    rgb = crop_to_multiple(read_rgb(data_dir / "motorcycle" / "rgb.png"))
    truth = crop_to_multiple(read_depth(data_dir / "motorcycle" / "depth.npy"))
    write_rgb(tmp_path / "rgb.png", rgb)
    write_depth(tmp_path / "low.png", degrade(truth, 4, "noisy", np.random.default_rng(0)))
    result = depth_sr(
        "upsample", "--rgb", "rgb.png", "--depth", "low.png", "--out", "high.png", folder=tmp_path
    )
    assert result.returncode == 0, result.stderr
    high = read_depth(tmp_path / "high.png")
    block = read_depth(tmp_path / "low.png").repeat(4, axis=0).repeat(4, axis=1)
    seen = np.where(np.isfinite(block), truth, np.nan)
    assert depth_metrics(high, seen)["rmse"] < depth_metrics(block, seen)["rmse"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"--rgb": "missing.png"}, "missing.png: no such file"),
        ({"--depth": "missing.exr"}, "missing.exr: no such file"),
        ({"--depth": "rgb.png"}, "one channel"),
        ({"--depth": "grey8.png"}, "16 bits"),
        ({"--depth": "empty.npy"}, "no pixel holds a measurement"),
        ({"--depth": "low.tiff"}, "no such file"),
        ({"--out": "high.tiff"}, ".png (16-bit millimetres)"),
        ({"--out": "nowhere/high.png"}, "does not exist"),
        ({"--colour": "colour.xyz"}, "use .png or .jpg"),
        ({"--checkpoint": "missing.safetensors"}, "does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(files: Path, changes: dict[str, str], says: str) -> None:
    cv2.imwrite(str(files / "grey8.png"), np.ones((32, 40), np.uint8))
    np.save(files / "empty.npy", np.zeros((32, 40), np.float32))
    options = {"--rgb": "rgb.png", "--depth": "low.png", "--out": "high.png", "--device": "cpu"} | changes
    result = depth_sr("upsample", *(word for pair in options.items() for word in pair), folder=files)
    assert_one_sentence(result, says)
    assert not (files / "high.png").exists()


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--checkpoint", "rgb.png", "damaged"),
        ("--variant", "egde", "'edge'"),
        ("--device", "tpu", "auto, cpu"),
        ("--threads", "0", "at least 1"),
    ],
)
def test_a_wrong_engine_option_is_one_sentence_and_exit_code_2(
    files: Path,
    option: str,
    value: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(files)
    words = ["--rgb", "rgb.png", "--depth", "low.png", "--out", "high.png", option, value]
    monkeypatch.setattr(sys, "argv", ["depth-sr", "upsample", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == ""
    assert err.startswith("error: ") and says in err and len(err.strip().splitlines()) == 1
    assert not (files / "high.png").exists()


def test_a_soak_whose_numbers_have_no_place_does_not_begin(tmp_path: Path) -> None:
    result = depth_sr("soak", "--json", tmp_path / "absent" / "soak.json")
    assert_one_sentence(result, "absent does not exist")


def test_a_missing_option_is_a_usage_error(files: Path) -> None:
    result = depth_sr("upsample", "--rgb", "rgb.png", folder=files)
    assert result.returncode == 2 and "--depth" in result.stderr and "Traceback" not in result.stderr


def test_version_and_info_say_what_runs() -> None:
    assert depth_sr("version").stdout.strip() == __version__
    info = depth_sr("info", "--device", "cpu")
    assert info.returncode == 0, info.stderr
    assert "edge" in info.stdout and '"training"' in info.stdout and "cpu" in info.stdout


def test_brackets_in_a_help_text_are_no_markup() -> None:
    assert "depth_sr_ros[onnx]" in CliRunner().invoke(app, ["export", "--help"]).output


def test_help_imports_neither_torch_nor_opencv() -> None:
    code = "import sys, depth_sr_ros.cli; print(sorted({'torch', 'cv2', 'numpy'} & sys.modules.keys()))"
    line = [sys.executable, "-c", code]
    assert subprocess.run(line, capture_output=True, text=True, cwd=REPO_ROOT).stdout.strip() == "[]"
    start = time.monotonic()
    result = depth_sr("--help")
    assert result.returncode == 0 and all(name in result.stdout for name in ("upsample", "info", "version"))
    assert time.monotonic() - start < 10
