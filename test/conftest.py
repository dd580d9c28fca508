# SPDX-License-Identifier: Apache-2.0
"""What every test shares: an isolated ROS domain and home, the repository root and the real RGB-D frames.

`make test` runs files of tests in two processes (pytest-xdist). Those marked `alone` come last, in one
process, and while one of their tests runs no other does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from depth_sr_ros.shared_memory import LOCK, dead_segments
from training.data.root import data_root

REPO_ROOT = Path(__file__).resolve().parents[1]
IN_WORKER = "PYTEST_XDIST_WORKER" in os.environ

# Set before anything imports rclpy or torch: child processes inherit it, libraries read it once at import.
_scratch = tempfile.TemporaryDirectory(prefix="depth_sr_ros_test_")


def _isolate_process() -> None:
    from depth_sr_ros.ros_domain import isolate

    isolate(os.environ)
    os.environ["HOME"] = _scratch.name
    os.environ["ROS_LOG_DIR"] = str(Path(_scratch.name) / "ros_log")
    os.environ["MPLCONFIGDIR"] = str(Path(_scratch.name) / "matplotlib")
    os.environ["MPLBACKEND"] = "Agg"
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Several processes share few cores: a spinning OpenMP thread costs more than it brings.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


_isolate_process()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    alone = {item.path for item in items if item.get_closest_marker("alone")}
    items.sort(key=lambda item: item.path in alone)
    if IN_WORKER:
        for item in items:
            item.add_marker(pytest.mark.xdist_group("alone" if item.path in alone else item.path.stem))


# First, so that the wait for a test's turn is outside of its timeout.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if not IN_WORKER:
        return (yield)
    with open(__file__) as turn:
        fcntl.flock(turn, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            # Closing alone would not do: what a test has forked may still hold the file.
            fcntl.flock(turn, fcntl.LOCK_UN)


@pytest.fixture(scope="session", autouse=True)
def no_shared_memory_left() -> Iterator[None]:
    """Removes the Fast DDS segments of the processes that the tests killed: a gigabyte a run."""
    before = set(dead_segments())
    yield
    for segment in set(dead_segments()) - before:
        for path in (segment, segment.with_name(segment.name + LOCK)):
            path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root of the repository."""
    return REPO_ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real RGB-D frames: DEPTH_SR_DATA, else ../shared/data; skips where it is missing."""
    folder = data_root()
    if not folder.is_dir():
        pytest.skip(f"no RGB-D frames at {folder}: set DEPTH_SR_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def tracked_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository as a commit would hold it: no builds, caches or environments."""
    target = tmp_path_factory.mktemp("tree") / "depth_sr_ros"
    # HOME is a scratch folder: a safe.directory of the user's own configuration is out of sight.
    git = ["git", "-c", f"safe.directory={REPO_ROOT}"]
    listing = subprocess.run(
        [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPO_ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (REPO_ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO_ROOT / name, target / name)
    return target
