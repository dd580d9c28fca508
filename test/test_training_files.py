# SPDX-License-Identifier: Apache-2.0
"""Training on files: MVS-Synth's tree, a plain RGB-D folder, and the challenge configuration on them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
import torch
import typer
from test_models import TINY_DEPTH_ANYTHING

from depth_sr_ros.degradation import crop_to_multiple
from depth_sr_ros.depth_io import write_depth, write_rgb
from depth_sr_ros.errors import ConfigError, DataError
from depth_sr_ros.models.checkpoint import load_checkpoint
from depth_sr_ros.models.guide import DepthAnythingGuide
from training.command_line import errors_in_one_sentence
from training.config import SourceConfig, load_config, with_path
from training.data.batches import BatchMaker
from training.data.mvs_synth import RESOLUTIONS, Sample, list_samples, read_sample
from training.data.rendered import list_frames, read_frame
from training.data.rgbd_folder import list_pairs, read_pair
from training.data.sources import RenderedSource
from training.data.validation import CASES, validation_items
from training.render.store import FrameStore
from training.runner import run_training

REPO_ROOT = Path(__file__).resolve().parents[1]
HEIGHT, WIDTH, FRAMES = 72, 96, 52


def write_exr(path: Path, units: np.ndarray) -> None:
    """As MVS-Synth's own: float32, one channel Y."""
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Y": np.ascontiguousarray(units, np.float32)}).write(str(path))


def units_of(number: int) -> np.ndarray:
    """A slope of 20 to 500 units under a sky, with one building of more than 10,000."""
    units = np.broadcast_to(np.linspace(500, 20, HEIGHT)[:, None], (HEIGHT, WIDTH)).astype(np.float32).copy()
    units[:10] = np.inf
    units[20:30, number % 50 : number % 50 + 9] = 12_000
    return units


@pytest.fixture(scope="module")
def mvs_synth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of 52 frames: 4 for training, 100 for validation."""
    root = tmp_path_factory.mktemp("mvs") / "GTAV_540"
    rng = np.random.default_rng(0)
    for sequence in ("0000", "0001"):
        for kind in ("images", "depths", "poses"):
            (root / sequence / kind).mkdir(parents=True)
        for number in range(FRAMES):
            picture = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            cv2.imwrite(str(root / sequence / "images" / f"{number:04d}.png"), picture)
            write_exr(root / sequence / "depths" / f"{number:04d}.exr", units_of(number))
            (root / sequence / "poses" / f"{number:04d}.json").write_text("{}")
    return root


def test_the_last_hundred_samples_in_sorted_order_are_for_validation(mvs_synth: Path) -> None:
    train, val = (list_samples(mvs_synth, split) for split in ("train", "val"))
    assert len(train) == 4 and len(val) == 100 and not set(train) & set(val)
    names = [str(sample.depth.relative_to(mvs_synth)) for sample in (*train, *val)]
    assert (
        names == sorted(names) and names[0] == "0000/depths/0000.exr" and names[-1] == "0001/depths/0051.exr"
    )
    assert list_samples(mvs_synth.parent, "train") == train  # the folder above, where it holds one resolution


def test_depth_is_in_metres_and_clipped_as_published(mvs_synth: Path) -> None:
    sample = list_samples(mvs_synth, "train")[3]
    rgb, clipped = read_sample(sample, clip=True)
    _, whole = read_sample(sample, clip=False)
    assert rgb.shape == (HEIGHT, WIDTH, 3) and clipped.dtype == whole.dtype == np.float32
    assert (clipped[:10] == 30).all() and np.isnan(whole[:10]).all()
    assert (clipped[20:30, 3:12] == 30).all() and np.allclose(whole[20:30, 3:12], 1200)
    assert np.isclose(whole[-1, -1], 2.0) and np.isclose(clipped[-1, -1], 2.0)
    picture = cv2.imread(str(sample.image))
    assert picture is not None
    np.testing.assert_array_equal(rgb, picture[..., ::-1])


def test_a_half_downloaded_set_names_what_is_missing(mvs_synth: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", mvs_synth, tmp_path], check=True)
    root = tmp_path / "GTAV_540"
    (root / "0001" / "depths" / "0007.exr").unlink()
    (root / "0001" / "images" / "0009.png").unlink()
    with pytest.raises(DataError, match="0001/depths/0007.exr and 1 other"):
        list_samples(root, "train")


@pytest.mark.parametrize("gone", ["0000", "0001/images/0020.png 0001/depths/0020.exr"])
def test_a_gap_in_the_numbers_is_a_half_downloaded_set(mvs_synth: Path, tmp_path: Path, gone: str) -> None:
    subprocess.run(["cp", "-r", mvs_synth, tmp_path], check=True)
    subprocess.run(["rm", "-r", *gone.split()], cwd=tmp_path / "GTAV_540", check=True)
    first, *others = gone.split()
    with pytest.raises(DataError, match=f"is incomplete: {first} and {len(others)} others are missing"):
        list_samples(tmp_path / "GTAV_540", "train")


def test_what_a_download_left_beside_the_files_is_no_frame(mvs_synth: Path, tmp_path: Path) -> None:
    root = tmp_path / "GTAV_540"
    subprocess.run(["cp", "-rs", mvs_synth, root], check=True)
    for name in ("depths/0001.exr.part", "depths/0052.exr.part", "images/0000 (1).png", "images/00011.png"):
        (root / "0001" / name).touch()
    assert len(list_samples(root, "train")) == 4 and len(list_samples(root, "val")) == 100


@pytest.mark.parametrize("name", RESOLUTIONS)
def test_each_resolution_is_read(mvs_synth: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(mvs_synth)
    assert len(list_samples(tmp_path, "train")) == len(list_samples(tmp_path / name, "train")) == 4


def test_a_set_of_no_use_says_why(mvs_synth: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        list_samples(tmp_path / "absent", "train")
    with pytest.raises(DataError, match="has 0 samples"):
        list_samples(tmp_path, "train")
    for name in ("GTAV_540", "GTAV_720"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="GTAV_720, GTAV_540: give one"):
        list_samples(tmp_path, "train")


@pytest.mark.parametrize("damage", ["truncated", "other size", "no picture"])
def test_a_damaged_sample_names_its_file(mvs_synth: Path, tmp_path: Path, damage: str) -> None:
    first = list_samples(mvs_synth, "train")[0]
    sample = Sample(tmp_path / "0000.png", tmp_path / "0000.exr")
    sample.image.write_bytes(first.image.read_bytes() if damage != "no picture" else b"not a picture")
    data = first.depth.read_bytes()
    sample.depth.write_bytes(data[: len(data) // 2] if damage == "truncated" else data)
    if damage == "other size":
        write_exr(sample.depth, np.ones((8, 8)))
    with pytest.raises(DataError, match="0000.png" if damage == "no picture" else "0000.exr"):
        read_sample(sample, clip=True)


@pytest.fixture
def rgbd(tmp_path: Path) -> Path:
    (tmp_path / "rgb").mkdir()
    (tmp_path / "depth").mkdir()
    rng = np.random.default_rng(0)
    for name, picture, suffix in (("a", ".png", ".png"), ("b", ".jpg", ".exr"), ("c", ".png", ".npy")):
        write_rgb(tmp_path / "rgb" / f"{name}{picture}", rng.integers(0, 256, (80, 96, 3), np.uint8))
        depth = rng.uniform(1, 4, (80, 96))
        depth[:5] = np.nan
        write_depth(tmp_path / "depth" / f"{name}{suffix}", depth)
    return tmp_path


def test_a_folder_of_each_kind_of_depth_file_is_read_in_metres(rgbd: Path) -> None:
    pairs = list_pairs(rgbd)
    assert [pair.depth.name for pair in pairs] == ["a.png", "b.exr", "c.npy"]
    for pair in pairs:
        rgb, depth = read_pair(pair)
        assert rgb.shape == (80, 96, 3) and np.isnan(depth[:5]).all()
        assert 0.99 < np.nanmin(depth) < 1.1 and 3.9 < np.nanmax(depth) < 4.01


def test_a_picture_without_depth_is_named(rgbd: Path) -> None:
    (rgbd / "depth" / "b.exr").unlink()
    with pytest.raises(DataError, match="'b' has no file in depth/"):
        list_pairs(rgbd)
    (rgbd / "depth" / "b.npy").write_bytes((rgbd / "depth" / "c.npy").read_bytes())
    (rgbd / "depth" / "b.png").write_bytes((rgbd / "depth" / "a.png").read_bytes())
    with pytest.raises(DataError, match="both b.npy and b.png"):
        list_pairs(rgbd)
    with pytest.raises(DataError, match="rgb is missing"):
        list_pairs(rgbd / "absent")


def test_batches_of_files_follow_from_the_step(rgbd: Path) -> None:
    sources = f"data.sources=[{{kind: rgbd_folder, path: {rgbd}}}]"
    config = load_config("smoke", [sources, "data.crop=[64, 64]"])
    first, again, other = (BatchMaker(config)(step) for step in (3, 3, 4))
    assert torch.equal(first["rgb"], again["rgb"]) and not torch.equal(first["rgb"], other["rgb"])
    assert first["rgb"].shape == (4, 3, 64, 64) and first["depth"].shape == (4, 1, 64, 64)
    valid = torch.isfinite(first["depth"])
    assert 0.5 < valid.float().mean() <= 1
    # of 1 to 4 m, stretched by a half to twice
    assert first["depth"][valid].min() > 0.49 and first["depth"][valid].max() < 8.1


def test_clipped_depth_is_not_stretched(mvs_synth: Path) -> None:
    config = load_config("challenge", ["data.crop=[64, 64]", "data.batch_size=4", "data.workers=0"])
    with pytest.raises(ConfigError, match="'mvs_synth' needs a folder: give --data DIR"):
        BatchMaker(config)
    sources = with_path(config.data.sources, str(mvs_synth))
    changed = load_config(
        "challenge",
        [
            "data.crop=[64, 64]",
            "data.batch_size=4",
            "data.workers=0",
            f"data.sources=[{{kind: mvs_synth, clip: true, path: {mvs_synth}}}]",
        ],
    )
    assert changed.data.sources == sources
    depth = BatchMaker(changed)(0)["depth"]
    assert depth.max() == 30 and torch.isfinite(depth).all()


def test_paths_go_to_the_sources_that_name_none() -> None:
    sources = (
        SourceConfig("procedural"),
        SourceConfig("mvs_synth"),
        SourceConfig("rgbd_folder", path="mine"),
    )
    assert [s.path for s in with_path(sources, "given")] == [None, "given", "mine"]
    with pytest.raises(ConfigError, match="no source of the configuration lacks a path"):
        with_path(sources[::2], "given")
    with pytest.raises(ConfigError, match="for mvs_synth alone"):
        SourceConfig("procedural", clip=True)


SMALL = ("optim.steps=2", "run.epoch_steps=2", "run.validation_frames=1", "data.crop=[64, 64]",
         "data.batch_size=1", "data.workers=0", "run.accelerator=cpu")  # fmt: skip


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    # Without the rendered set the validation frames are small procedural ones.
    monkeypatch.setenv("DEPTH_SR_DATA", str(tmp_path / "absent"))

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        changes = [part for change in SMALL for part in ("--set", change)]
        command = [sys.executable, REPO_ROOT / "training" / "train.py", *changes, *arguments]
        return subprocess.run([str(part) for part in command], cwd=tmp_path, capture_output=True, text=True)

    return run


@pytest.mark.timeout(600)
def test_the_challenge_configuration_takes_two_steps_on_mvs_synth(
    mvs_synth: Path, tmp_path: Path, train: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    guide = DepthAnythingGuide.from_config(short_side=56, **TINY_DEPTH_ANYTHING)
    guide.model.save_pretrained(tmp_path / "guide")  # type: ignore[operator]
    before = {name: p.clone() for name, p in guide.model.named_parameters()}
    # Every batch sees the guide, so that its weights must move.
    guided = ["--set", f"guide.path={tmp_path / 'guide'}", "--set", "guide.dropout=0.0"]
    small = ["--set", "guide.short_side=56", "--set", "guide.lr=1.0e-3", "--set", "optim.ema_decay=0.0"]
    small += ["--set", "optim.warmup_steps=0"]
    ended = train("--config", "challenge", "--data", mvs_synth, *guided, *small, "--run-dir", "run")
    assert ended.returncode == 0, ended.stderr
    net, header = load_checkpoint(tmp_path / "run" / "model.safetensors", variant="challenge")
    assert header.training["steps"] == 2
    assert header.training["data"]["sources"][0]["path"] == "GTAV_540", "a header names no path of a machine"
    assert header.training["guide"]["path"] == "guide"
    assert any(p.abs().max() > 0 for name, p in net.named_parameters() if name.endswith(".beta"))
    trained = DepthAnythingGuide.from_folder(tmp_path / "run" / "guide", 56)
    moved = [not torch.equal(p, before[name]) for name, p in trained.model.named_parameters()]
    assert any(moved)


def test_a_guide_for_a_network_that_takes_none_is_an_error(
    train: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ended = train("--config", "smoke", "--set", "guide.path=somewhere")
    assert ended.returncode == 2 and "'edge' takes no guide" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.timeout(600)
def test_data_that_is_not_there_or_half_there_is_one_sentence(
    mvs_synth: Path, train: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    subprocess.run(["cp", "-r", mvs_synth, tmp_path], check=True)
    (tmp_path / "GTAV_540" / "0001" / "depths" / "0007.exr").unlink()
    for name, says in (("absent", "no MVS-Synth at"), ("GTAV_540", "is incomplete: 0001/depths/0007.exr")):
        ended = train("--config", "challenge", "--data", tmp_path / name)
        assert ended.returncode == 2 and says in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("workers", [0, 1])
def test_a_depth_of_another_size_is_one_sentence_whoever_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    monkeypatch.setenv("DEPTH_SR_DATA", str(tmp_path / "absent"))
    for name in ("rgb", "depth"):
        (tmp_path / name).mkdir()
    write_rgb(tmp_path / "rgb" / "a.png", np.zeros((240, 320, 3), np.uint8))
    write_depth(tmp_path / "depth" / "a.png", np.ones((120, 160)))
    source = f"data.sources=[{{kind: rgbd_folder, path: {tmp_path}}}]"
    config = load_config("smoke", [*SMALL, source, f"data.workers={workers}"])
    with pytest.raises(typer.Exit) as ended, errors_in_one_sentence():
        run_training(config, tmp_path / "run")
    assert ended.value.exit_code == 2
    says = f"error: {tmp_path}/depth/a.png: its size (120, 160) is not its picture's, (240, 320)"
    assert capsys.readouterr().err.rstrip().endswith(says)


def test_rendered_frames_of_two_sizes_name_the_file_and_the_sizes(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    for name, width in (("a", 96), ("b", 80)):
        cv2.imwrite(str(folder / f"{name}.jpg"), np.zeros((72, width, 3), np.uint8))
        cv2.imwrite(str(folder / f"{name}.png"), np.full((72, width), 20_000, np.uint16))
    (folder / "index.jsonl").write_text('{"name": "a", "scene": "1"}\n{"name": "b", "scene": "1"}\n')
    with pytest.raises(DataError, match="train/b has 80x72 pixels, but a has 96x72"):
        RenderedSource(tmp_path)


def test_a_run_on_mvs_synth_is_validated_on_its_last_hundred_samples(mvs_synth: Path) -> None:
    source = SourceConfig("mvs_synth", path=str(mvs_synth), clip=True)
    items = validation_items(3, [SourceConfig("procedural"), source])
    held_out = list_samples(mvs_synth, "val")
    assert len(items) == 3 * len(CASES) and {item.case for item in items} == {f"{p}_x{s}" for p, s in CASES}
    for item, sample in zip(items[:: len(CASES)], (held_out[0], held_out[49], held_out[99]), strict=True):
        rgb, depth = read_sample(sample, clip=True)
        np.testing.assert_array_equal(item.rgb, crop_to_multiple(rgb))
        np.testing.assert_array_equal(item.truth, crop_to_multiple(depth))


def test_a_run_on_frames_of_ones_own_is_validated_on_theirs_unless_there_is_the_shared_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPTH_SR_DATA", str(tmp_path / "data"))
    sources = [SourceConfig("procedural"), SourceConfig("rendered", path=str(tmp_path / "own"))]

    def fill(root: Path, brightness: int) -> None:
        store = FrameStore(root, "val", (64, 96))
        rgb, depth = np.full((64, 96, 3), brightness, np.uint8), np.full((64, 96), 2, np.float32)
        store.write("val_room_a", rgb, depth, scene="room", fov_x_deg=60.0)

    FrameStore(tmp_path / "own", "val", (64, 96))  # a set without a frame yet
    assert validation_items(1, sources)[0].rgb.shape == (256, 320, 3), "a procedural one"
    for root, brightness in ((tmp_path / "own", 50), (tmp_path / "data" / "rendered", 200)):
        fill(root, brightness)
        np.testing.assert_array_equal(
            validation_items(1, sources)[0].rgb, read_frame(list_frames(root, "val")[0])[0]
        )
