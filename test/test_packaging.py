# SPDX-License-Identifier: Apache-2.0
"""What pip installs: the wheel's contents, the commands, and metadata that agrees with itself."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]

# Where the name of a distribution differs from the module that it installs.
MODULE_OF = {
    "opencv-contrib-python-headless": "cv2",
    "pyyaml": "yaml",
    "ros-rclpy": "rclpy",
    "ros-sensor-msgs": "sensor_msgs",
    "ros-diagnostic-msgs": "diagnostic_msgs",
    "ros-lifecycle-msgs": "lifecycle_msgs",
    "ros-rosgraph-msgs": "rosgraph_msgs",
}
# Modules that come with a declared one, which is their only provider here.
BROUGHT_BY = {
    "PIL": "matplotlib",
    "huggingface_hub": "transformers",
    "click": "typer",
    "rcl_interfaces": "rclpy",
    "builtin_interfaces": "rclpy",
    "std_msgs": "sensor_msgs",
    "geometry_msgs": "sensor_msgs",
    "pytorch_lightning": "lightning",
}
# Where a ROS 2 distribution is installed these are used; PyPI does not have them.
ONLY_FROM_A_ROS_DISTRIBUTION = {"message_filters", "cv_bridge", "launch", "launch_ros", "ament_index_python"}


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPO_ROOT / "setup.cfg")
    return parser


# By importlib, so that the node runs without them.
IMPORTED_WHERE_INSTALLED = {"cv_bridge", "message_filters", "tf2_ros"}


def requirement_lines(section: str, option: str) -> list[str]:
    lines = setup_cfg()[section][option].splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def declared_modules(lines: Iterable[str]) -> set[str]:
    names = (re.split(r"[\[<>=; ]", line, maxsplit=1)[0] for line in lines)
    return {MODULE_OF.get(name.lower(), name) for name in names}


class RunTime(ast.NodeTransformer):
    """Takes out what a type checker alone reads: it needs no distribution."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        is_typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_typing else self.generic_visit(node)


def third_party_imports(folder: Path) -> set[str]:
    """Top-level names that the sources in `folder` import from elsewhere when they run."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(RunTime().visit(ast.parse(path.read_text()))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    beside = {path.stem for path in folder.glob("*.py")}
    return found - set(sys.stdlib_module_names) - {"depth_sr_ros", "training"} - beside


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, tracked_tree: Path) -> zipfile.ZipFile:
    """The wheel that `pip install .` would build and install, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    run = subprocess.run([*command, "-w", folder, tracked_tree], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_package_its_weights_and_the_demo_sequence(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    files = [path for path in (REPO_ROOT / "depth_sr_ros").rglob("*") if path.is_file()]
    # The kernels go in as the library that they are built into, not as sources.
    sources = [path for path in files if not {"__pycache__", "native"} & set(path.parts)]
    expected = {path.relative_to(REPO_ROOT).as_posix() for path in sources}
    assert expected <= names, f"missing from the wheel: {sorted(expected - names)}"
    assert any(re.fullmatch(r"depth_sr_ros/_native\..*so", name) for name in names) or not shutil.which("c++")
    assert any(re.fullmatch(r"depth_sr_ros/weights/.*\.safetensors", name) for name in names)
    assert any(name.startswith("depth_sr_ros/demo_data/") and name.endswith(".mcap") for name in names)


@pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler here")
def test_a_flag_for_careless_arithmetic_does_not_reach_the_kernels(tmp_path: Path) -> None:
    """Built with it, depth was wrong by half. Not compiled here: the preprocessor says what holds."""
    for name in ("setup.py", "setup.cfg", "README.md", "depth_sr_ros/native"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(REPO_ROOT / name)
    (tmp_path / "c++").write_text('#!/bin/sh\nexec c++ -E -dM "$@"\n')
    (tmp_path / "c++").chmod(0o755)
    compiler = str(tmp_path / "c++")
    environment = {"CC": compiler, "CXX": compiler, "CFLAGS": "-ffast-math", "CXXFLAGS": "-ffast-math"}
    command = [sys.executable, "setup.py", "build_ext"]
    run = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True
    )
    (macros,) = tmp_path.glob("build/**/native.o")
    assert "#define __OPTIMIZE__ 1" in macros.read_text(), run.stdout + run.stderr
    assert " -ffast-math " in run.stdout and "__FAST_MATH__" not in macros.read_text()


def test_the_wheel_installs_no_other_top_level_module(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    version = setup_cfg()["metadata"]["version"]
    assert tops == {
        "depth_sr_ros",
        f"depth_sr_ros-{version}.dist-info",
        f"depth_sr_ros-{version}.data",
    }


def test_the_wheel_brings_the_commands_and_the_files_that_ros_looks_for(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    commands = configparser.ConfigParser()
    commands.read_string(wheel.read(entry_points).decode())
    assert set(commands["console_scripts"]) == {"depth-sr", "depth_sr_node"}
    (data,) = {name.split("/")[0] for name in names if ".data/" in name}
    share = f"{data}/data/share"
    assert f"{share}/ament_index/resource_index/packages/depth_sr_ros" in names
    for path in ("package.xml", "launch/sr.launch.py", "config/sr.yaml"):
        assert f"{share}/depth_sr_ros/{path}" in names


def test_the_installed_command_stands_beside_the_interpreter() -> None:
    command = Path(sys.executable).with_name("depth-sr")
    run = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "upsample" in run.stdout


def test_the_version_is_the_same_everywhere() -> None:
    import depth_sr_ros

    version = setup_cfg()["metadata"]["version"]
    assert ElementTree.parse(REPO_ROOT / "package.xml").getroot().findtext("version") == version
    assert depth_sr_ros.__version__ == version


def test_every_requirement_has_a_lower_and_an_upper_bound() -> None:
    lines = requirement_lines("options", "install_requires")
    for extra in setup_cfg()["options.extras_require"]:
        lines += requirement_lines("options.extras_require", extra)
    for line in lines:
        bounds = line.split(";")[0]
        assert "==" in bounds or (">=" in bounds and ",<" in bounds), line


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("depth_sr_ros", ("ros", "dask", "onnx", "openvino")),
        ("launch", ("ros",)),
        ("training", ("train", "render")),
        ("test", ("ros", "train", "dev")),
    ],
)
def test_every_imported_distribution_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    lines = requirement_lines("options", "install_requires")
    for extra in extras:
        lines += requirement_lines("options.extras_require", extra)
    declared = declared_modules(lines) | ONLY_FROM_A_ROS_DISTRIBUTION
    needed = {BROUGHT_BY.get(name, name) for name in third_party_imports(REPO_ROOT / folder)}
    assert needed <= declared, f"not declared in setup.cfg: {sorted(needed - declared)}"


def test_package_xml_declares_the_ros_packages_that_are_imported_and_no_other() -> None:
    root = ElementTree.parse(REPO_ROOT / "package.xml").getroot()
    ros_declared = {
        element.text for element in root.iter("exec_depend") if not str(element.text).startswith("python3-")
    }
    lines = requirement_lines("options", "install_requires")
    for extra in ("dask", "onnx", "openvino"):
        lines += requirement_lines("options.extras_require", extra)
    pypi = declared_modules(lines)
    imports = third_party_imports(REPO_ROOT / "depth_sr_ros") | third_party_imports(REPO_ROOT / "launch")
    ros_imported = {name for name in imports if name not in pypi and BROUGHT_BY.get(name) not in pypi}
    assert ros_declared == ros_imported | IMPORTED_WHERE_INSTALLED
    assert root.get("format") == "3"
    assert root.find("buildtool_depend") is None
    assert root.findtext("export/build_type") == "ament_python"


def test_pip_refuses_what_would_replace_the_cpu_torch() -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "-c", "constraints.txt"]
    run = subprocess.run([*command, "torchvision"], cwd=REPO_ROOT, capture_output=True, text=True)
    assert run.returncode != 0
    assert "(constraint) torchvision<0" in run.stdout + run.stderr


def test_make_lists_its_targets() -> None:
    assert shutil.which("make"), "make is needed to build this project"
    run = subprocess.run(["make", "help"], cwd=REPO_ROOT, capture_output=True, text=True)
    assert run.returncode == 0
    for target in ("demo", "test", "test-long", "lint"):
        assert f"make {target} " in run.stdout
