# SPDX-License-Identifier: Apache-2.0
"""training/render: what the camera does to frames, the folder they go to, credits, and what is missing."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from render_assets import default_settings, make_furniture, make_game

from depth_sr_ros.errors import ConfigError, DataError
from training.data.rendered import list_frames, read_frame
from training.render import backend, run
from training.render.camera_effects import Blur, defocus, photograph, smear
from training.render.credits import read_copyright, terms_of, write_credits
from training.render.frames import FRAMES_A_SCENE, SceneJob, Settings, frame_name, is_worth_it, plan_jobs
from training.render.furniture import list_furniture
from training.render.store import FrameStore
from training.render.tracks import list_tracks

SCRIPT = Path(__file__).resolve().parents[1] / "training" / "render" / "render.py"


def checkers(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.repeat((((x // 4 + y // 4) % 2) * 0.8 + 0.1)[..., None], 3, 2).astype(np.float32)


def test_defocus_blurs_what_is_not_at_the_focus() -> None:
    radiance = np.tile(checkers(), (1, 10, 1))
    depth = np.full(radiance.shape[:2], 2.0, np.float32)
    depth[:, 320:] = 8.0
    blurred = defocus(radiance, depth, Blur(aperture=8.0, focus=2.0, streak=(0, 0)))
    np.testing.assert_allclose(blurred[:, :310], radiance[:, :310], atol=1e-5)
    assert blurred[:, 340:].std() < 0.6 * radiance[:, 340:].std()


def test_motion_blurs_along_its_direction_alone() -> None:
    stripes = np.zeros((48, 640, 3), np.float32)
    stripes[::2] = 1
    np.testing.assert_allclose(smear(stripes, (6.0, 0.0))[8:-8, 8:-8], stripes[8:-8, 8:-8], atol=1e-5)
    assert smear(stripes, (0.0, 6.0))[8:-8].std() < 0.3


def test_a_photograph_is_a_function_of_its_seed() -> None:
    radiance, depth = checkers(), np.full((48, 64), 3.0, np.float32)
    first = photograph(radiance, depth, seed=5)
    assert first.dtype == np.uint8 and first.shape == (48, 64, 3)
    np.testing.assert_array_equal(first, photograph(radiance, depth, seed=5))
    assert np.abs(first.astype(int) - photograph(radiance, depth, seed=6)).mean() > 2
    # twice the light is the same picture: exposure is the camera's
    brighter = photograph(2 * radiance, depth, seed=5).astype(int)
    assert np.abs(first.astype(int) - brighter).mean() < 1


def test_frames_are_written_as_the_reader_of_rendered_sets_takes_them(tmp_path: Path) -> None:
    store = FrameStore(tmp_path, "train", (48, 64))
    depth = np.geomspace(0.2, 5000, 48 * 64).astype(np.float32).reshape(48, 64)
    depth[0, :5] = np.nan
    store.write("train_room_a", (checkers() * 255).astype(np.uint8), depth, scene="room", fov_x_deg=60.0)
    (frame,) = list_frames(tmp_path, "train")
    rgb, read = read_frame(frame)
    assert (frame.name, frame.scene, rgb.shape) == ("train_room_a", "room", (48, 64, 3))
    np.testing.assert_allclose(read, depth, rtol=2e-4)
    np.testing.assert_array_equal(np.isnan(read), np.isnan(depth))


def test_a_run_takes_up_where_one_ended(tmp_path: Path) -> None:
    settings = default_settings(tmp_path)
    each = FRAMES_A_SCENE["room"]
    first, second = plan_jobs(settings, rooms=each + 3, tracks=0, finished=set())
    assert (first.frames, second.frames) == (tuple(range(each)), (0, 1, 2))
    store = FrameStore(tmp_path, "train", (48, 64))
    rgb, depth = np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), np.float32)
    names = [frame_name(settings, first, k) for k in first.frames]
    for name in names:
        store.write(name, rgb, depth, scene="room", fov_x_deg=60.0)
    (tmp_path / "train" / f"{names[2]}.png").unlink()
    with (tmp_path / "train" / "index.jsonl").open("a") as index:
        index.write('{"name": "train_ro')  # a line that was cut off
    left = plan_jobs(settings, each + 3, 0, set(FrameStore(tmp_path, "train", (48, 64)).rows))
    assert [job.frames for job in left] == [(2,), (0, 1, 2)]
    assert len(list_frames(tmp_path, "train")) == each - 1


def test_a_set_has_one_size(tmp_path: Path) -> None:
    store = FrameStore(tmp_path, "val", (48, 64))
    store.write(
        "a", np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), np.float32), scene="room", fov_x_deg=1.0
    )
    with pytest.raises(DataError, match="holds frames of 48x64"):
        FrameStore(tmp_path, "val", (96, 128))


def test_a_worker_leaves_the_lines_of_the_others_in_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "limit_threads", lambda count: None)  # it needs Mitsuba
    index = tmp_path / "set" / "train" / "index.jsonl"
    settings = default_settings(tmp_path / "set")
    FrameStore(settings.out, "train", settings.size)
    index.write_text('{"name": "written after this worker has read the index", "size": [0, 0]}\n')
    before = index.read_text(), index.stat().st_ino
    reports: queue.Queue[object] = queue.Queue()
    run._work(settings, [], 2, reports)
    assert reports.get_nowait() is None
    assert (index.read_text(), index.stat().st_ino) == before


def say_what_an_interrupt_does(
    settings: Settings, jobs: list[SceneJob], workers: int, reports: queue.Queue[str | None]
) -> None:
    reports.put(str(signal.getsignal(signal.SIGINT)))
    reports.put(None)


def test_an_interrupt_is_for_the_parent_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_work", say_what_an_interrupt_does)
    before = signal.getsignal(signal.SIGINT)
    assert list(run.render_in_processes(default_settings(tmp_path), [], 1)) == [str(signal.SIG_IGN)]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_view_of_sky_of_a_wall_or_into_an_object_is_not_worth_a_frame() -> None:
    scene = np.geomspace(1, 30, 400).reshape(20, 20).astype(np.float32)
    assert is_worth_it(scene)
    assert not is_worth_it(np.where(np.arange(400).reshape(20, 20) < 300, np.nan, scene))
    assert not is_worth_it(np.full((20, 20), 2, np.float32))
    assert not is_worth_it(scene * 0.1)


def test_the_last_stanza_that_matches_a_file_holds(tmp_path: Path) -> None:
    make_game(tmp_path)
    stanzas = read_copyright((tmp_path / "share/doc/supertuxkart-data/copyright").read_text())
    assert terms_of("data/tracks/field/grass.png", stanzas).license == "CC0"
    wall = terms_of("data/tracks/field/wall.spm", stanzas)
    assert (wall.license, wall.copyright) == ("CC-BY-SA-4.0", "2021 Ann; 2022 Bob")
    assert terms_of("data/textures/x.png", stanzas).license == "GPL-3+"


def test_credits_name_every_asset_once_with_its_licence(tmp_path: Path) -> None:
    data, furniture = make_game(tmp_path), make_furniture(tmp_path / "furniture")
    for split, asset in (("train", "data/tracks/field/wall.spm"), ("val", "Things.sh3f#Box#Ann")):
        store = FrameStore(tmp_path / "set", split, (48, 64))
        for scene in ("one", "two", "two"):
            store.credit(scene, [asset])
    text = write_credits(tmp_path / "set", data, furniture).read_text()
    assert "Track `field`, designed by Ann" in text
    assert "- **CC-BY-SA-4.0**, 2021 Ann; 2022 Bob: data/tracks/field/ wall.spm" in text
    assert "Licence: CC-BY 3.0" in text and "- Ann: Box\n" in text
    assert len((tmp_path / "set" / "train" / "assets.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("tracks", ["data", "stk/data", "/"])
def test_credits_of_tracks_in_a_folder_of_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracks: str
) -> None:
    monkeypatch.chdir(tmp_path)
    FrameStore(Path("set"), "train", (48, 64)).credit("one", ["data/tracks/field/wall.spm"])
    text = write_credits(Path("set"), Path(tracks), tmp_path).read_text()
    assert "- **unknown: see the package**, unknown: data/tracks/field/ wall.spm" in text


def test_credits_by_a_relative_path_find_the_copyright_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_game(tmp_path).parent)
    FrameStore(Path("set"), "train", (48, 64)).credit("one", ["data/tracks/field/wall.spm"])
    assert "**CC-BY-SA-4.0**" in write_credits(Path("set"), Path("data"), tmp_path).read_text()


def test_an_old_llvm_is_refused_and_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DRJIT_LIBLLVM_PATH", raising=False)
    with pytest.raises(ConfigError, match="apt install libllvm19"):
        backend.find_llvm(tmp_path)
    folder = tmp_path / "lib" / "x86_64-linux-gnu"
    folder.mkdir(parents=True)
    (folder / "libLLVM-15.so.1").touch()
    with pytest.raises(ConfigError, match="no LLVM 16 or newer"):
        backend.find_llvm(tmp_path)
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", str(folder / "libLLVM-15.so.1"))
    with pytest.raises(ConfigError, match="is LLVM 15"):
        backend.find_llvm(tmp_path)
    monkeypatch.delenv("DRJIT_LIBLLVM_PATH")
    (folder / "libLLVM.so.19.1").touch()
    assert backend.find_llvm(tmp_path).name == "libLLVM.so.19.1"


def test_missing_mitsuba_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "libLLVM.so.19.1"
    library.touch()
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", str(library))
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    monkeypatch.setitem(sys.modules, "drjit", None)
    with pytest.raises(ConfigError, match=r'pip install "depth_sr_ros\[render\]"'):
        backend.start.__wrapped__()


def test_missing_assets_name_their_packages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="apt install supertuxkart-data"):
        list_tracks(tmp_path, "train")
    with pytest.raises(ConfigError, match="apt install sweethome3d-furniture"):
        list_furniture(tmp_path, "train")
    with pytest.raises(ConfigError, match="none of the 1 tracks"):
        list_tracks(make_game(tmp_path), "val")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rooms", "0"], "nothing to render"),
        (["--rooms", "1", "--split", "test"], "--split"),
        (["--rooms", "1", "--size", "480"], "HEIGHTxWIDTH"),
        (["--rooms", "1", "--samples", "6"], "multiple of 4"),
    ],
)
def test_a_wrong_argument_is_one_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2 and message in ended.stderr
    assert "Traceback" not in ended.stderr and len(ended.stderr.strip().splitlines()) == 1
