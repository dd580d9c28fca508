# SPDX-License-Identifier: Apache-2.0
"""A real colcon build: everything lands where `ros2 run` and `ros2 launch` look for it, and it starts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "depth_sr_ros"

# A shell that sourced a workspace knows these; a test must find the package by the new workspace alone.
ROS_PATHS = ("AMENT_PREFIX_PATH", "COLCON_PREFIX_PATH", "CMAKE_PREFIX_PATH", "PYTHONPATH", "LD_LIBRARY_PATH")

pytestmark = pytest.mark.timeout(240)


def clean_environment() -> dict[str, str]:
    """This process's environment with the venv first on PATH and no workspace sourced."""
    environment = {key: value for key, value in os.environ.items() if key not in ROS_PATHS}
    # rclpy's wheels set it in a process that they prepared; a child has to prepare itself.
    environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return environment


@pytest.fixture(scope="module", params=[[], ["--symlink-install"]], ids=["copied", "symlinked"])
def workspace(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tracked_tree: Path
) -> Path:
    """A scratch colcon workspace in which the package is built, installed by copies and by symbolic links."""
    root = tmp_path_factory.mktemp("workspace")
    shutil.copytree(tracked_tree, root / "src" / PACKAGE)
    run = subprocess.run(
        [sys.executable, "-m", "colcon", "build", "--event-handlers", "console_direct+", *request.param],
        cwd=root,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return root


def sourced(workspace: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Runs a shell command after sourcing the workspace, from a folder that holds no source tree."""
    return subprocess.run(
        ["bash", "-c", f"source install/setup.bash && {command}"],
        cwd=workspace,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )


def run_until_ready(command: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a node by a shell command; once it is ready, Ctrl-C must end it with code 0."""
    node = subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert node.stdout is not None
    lines: list[str] = []
    try:
        for line in node.stdout:
            lines.append(line)
            if "ready: edge" in line:
                node.send_signal(signal.SIGINT)
        assert node.wait(timeout=30) == 0, "".join(lines)
    finally:
        node.kill()
    assert any("ready: edge" in line for line in lines), "".join(lines)


def test_ros2_run_finds_the_executables(workspace: Path) -> None:
    folder = workspace / "install" / PACKAGE / "lib" / PACKAGE
    for name in ("depth_sr_node", "depth-sr"):
        assert os.access(folder / name, os.X_OK), sorted(folder.glob("*"))
        # Either the interpreter of the active environment or, for symbolic links, this very environment.
        shebang = (folder / name).read_text().splitlines()[0]
        assert shebang in ("#!/usr/bin/env python3", f"#!{sys.executable}")
    assert not (workspace / "install" / PACKAGE / "bin").exists()


def test_ros2_launch_finds_launch_files_configuration_and_manifest(workspace: Path) -> None:
    share = workspace / "install" / PACKAGE / "share"
    assert (share / "ament_index" / "resource_index" / "packages" / PACKAGE).is_file()
    for name in ("package.xml", "launch/sr.launch.py", "config/sr.yaml"):
        assert (share / PACKAGE / name).is_file()


def test_the_ament_index_of_the_sourced_workspace_knows_the_package(workspace: Path) -> None:
    script = f"from ament_index_python import get_package_share_directory as d; print(d('{PACKAGE}'))"
    run = sourced(workspace, f'python3 -c "{script}"')
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()) == workspace / "install" / PACKAGE / "share" / PACKAGE


def test_the_installed_command_runs_the_installed_package_with_torch(workspace: Path) -> None:
    site = f"python3 -c 'import {PACKAGE}; print({PACKAGE}.__file__)'"
    where = sourced(workspace, site)
    assert where.returncode == 0, where.stderr
    assert where.stdout.startswith(str(workspace)), where.stdout
    run = sourced(workspace, f"install/{PACKAGE}/lib/{PACKAGE}/depth-sr --help")
    assert run.returncode == 0, run.stderr
    torch = sourced(
        workspace, "python3 -c 'from depth_sr_ros import DepthSuperResolver as D; print(D().device)'"
    )
    assert torch.returncode == 0, torch.stderr


def test_the_installed_node_starts_with_its_weights_and_ends_on_ctrl_c(workspace: Path) -> None:
    pytest.importorskip("rclpy", reason="no ROS 2 is installed")
    command = f"source install/setup.bash && exec install/{PACKAGE}/lib/{PACKAGE}/depth_sr_node"
    run_until_ready(command, workspace, clean_environment())


def test_training_is_not_installed(workspace: Path) -> None:
    run = sourced(workspace, "python3 -c 'import importlib.util as u; print(u.find_spec(\"training\"))'")
    assert run.stdout.strip() == "None", run.stdout + run.stderr
