# SPDX-License-Identifier: Apache-2.0
"""colcon from a virtual environment with and without the system's packages: the executable finds torch."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from test_colcon import PACKAGE, clean_environment, run_until_ready

pytestmark = [pytest.mark.timeout(600), pytest.mark.long]


@pytest.fixture(params=[False, True], ids=["own packages", "system packages too"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An activated new environment, which gets this one's packages by a .pth file: nothing is downloaded."""
    folder = tmp_path / "venv"
    venv.create(folder, system_site_packages=request.param, symlinks=True)
    (packages,) = (Path(p) for p in site.getsitepackages() if p.endswith("site-packages"))
    (own,) = folder.glob("lib/python*/site-packages")
    # addsitedir also reads the .pth files there, by which the wheels of ROS prepare a process.
    (own / "borrowed.pth").write_text(f"import site; site.addsitedir({str(packages)!r})\n")
    out = clean_environment()
    out["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
    out["VIRTUAL_ENV"] = str(folder)
    # The wheels of ROS look for their libraries below the environment's own prefix: they are borrowed too.
    libraries = [Path(sys.prefix) / "lib", *packages.glob("ros_*.libs")]
    out["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
    return out


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_built_executable_runs_in_this_environment_and_finds_torch(
    environment: dict[str, str], tmp_path: Path, tracked_tree: Path
) -> None:
    shutil.copytree(tracked_tree, tmp_path / "ws" / "src" / PACKAGE)
    workspace = tmp_path / "ws"
    run("python3 -m colcon build", workspace, environment)
    executable = f"install/{PACKAGE}/lib/{PACKAGE}/depth_sr_node"
    assert (workspace / executable).read_text().startswith("#!/usr/bin/env python3\n")
    prefix = run("python3 -c 'import sys; print(sys.prefix)'", workspace, environment).strip()
    assert prefix == environment["VIRTUAL_ENV"]
    where = "source install/setup.bash && python3 -c 'import depth_sr_ros as d, torch; print(d.__file__)'"
    assert run(where, workspace, environment).startswith(str(workspace))
    pytest.importorskip("rclpy", reason="no ROS 2 is installed")
    run_until_ready(f"source install/setup.bash && exec {executable}", workspace, environment)
