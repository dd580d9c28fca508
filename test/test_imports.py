# SPDX-License-Identifier: Apache-2.0
"""Imports point one way: plain modules <- models <- engine <- worker <- ros, and only ros/ needs ROS."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "depth_sr_ros"

# Top-level modules that a ROS 2 installation brings. Messages are recognised by their name.
ROS_MODULES = {
    "ament_index_python",
    "builtin_interfaces",
    "cv_bridge",
    "diagnostic_updater",
    "launch",
    "launch_ros",
    "message_filters",
    "rcl_interfaces",
    "rclpy",
    "rosbag2_py",
    "rosidl_runtime_py",
    "tf2_ros",
}
MESSAGE_PACKAGES = ("_msgs", "_interfaces", "_srvs")

# Layers of the package, the lowest first; a module may import from its own layer and from lower ones.
PLAIN, MODELS, ENGINE, WORKER, TOOLS, ROS = range(6)
LAYER_OF = {
    "models": MODELS,
    "engine": ENGINE,
    "ways": ENGINE,
    "trial": ENGINE,
    "runner": ENGINE,
    "transfer": ENGINE,
    "frame_input": ENGINE,
    "pending_answer": ENGINE,
    "cuda_graphs": ENGINE,
    "compiled": ENGINE,
    "worker": WORKER,
    "ros": ROS,
    "cli": TOOLS,
    "cli_bags": TOOLS,
    "demo": TOOLS,
    "benchmark": TOOLS,
    "benchmark_methods": TOOLS,
    "benchmark_picture": TOOLS,
    "benchmark_report": TOOLS,
    "cost": TOOLS,
    "peak_memory": TOOLS,
    "roofline": TOOLS,
    "cli_export": TOOLS,
    "onnx_check": TOOLS,
    "onnx_export": TOOLS,
    "runtime_benchmark": TOOLS,
    "replay": TOOLS,
    "replay_batch": TOOLS,
    "replay_report": TOOLS,
}


def module_name(path: Path) -> str:
    parts = path.relative_to(REPO_ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(folder: str) -> dict[str, Path]:
    return {module_name(path): path for path in sorted((REPO_ROOT / folder).rglob("*.py"))}


def layer(module: str) -> int | None:
    """The layer of a module of the package; None for the package itself, which re-exports the engine."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    return TOOLS if parts[1].startswith("cli_") else LAYER_OF.get(parts[1], PLAIN)


def is_ros(module: str) -> bool:
    top = module.split(".")[0]
    return top != PACKAGE and (top in ROS_MODULES or top.endswith(MESSAGE_PACKAGES))


def imported(tree: ast.Module, module: str, path: Path) -> Iterator[str]:
    """Absolute names of all that `tree` imports, inside functions too; `from a import b` gives a and a.b."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def imports_of(module: str, path: Path) -> set[str]:
    return set(imported(ast.parse(path.read_text()), module, path))


def module_level_imports_of(module: str, path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return set(imported(tree, module, path))


def test_only_the_ros_folder_imports_ros() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in (modules(PACKAGE) | modules("training")).items()
        if not module.startswith(f"{PACKAGE}.ros.") and module != f"{PACKAGE}.ros"
        for name in imports_of(module, path)
        if is_ros(name)
    ]
    assert not wrong, wrong


def test_plain_modules_import_no_torch() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in modules(PACKAGE).items()
        if layer(module) == PLAIN
        for name in imports_of(module, path)
        if name.split(".")[0] in ("torch", "transformers")
    ]
    assert not wrong, wrong


def test_no_module_imports_a_higher_layer() -> None:
    package = modules(PACKAGE)
    wrong = []
    for module, path in package.items():
        own = layer(module)
        for name in module_level_imports_of(module, path) if own == TOOLS else imports_of(module, path):
            other = layer(name) if name.startswith(f"{PACKAGE}.") else None
            if own is not None and other is not None and other > own:
                wrong.append(f"{module} imports {name}")
    assert not wrong, wrong


def test_training_imports_neither_engine_nor_ros() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in modules("training").items()
        for name in imports_of(module, path)
        if name.startswith(f"{PACKAGE}.") and layer(name) not in (PLAIN, MODELS)
    ]
    assert not wrong, wrong


def test_every_module_outside_ros_imports_where_no_ros_is_installed() -> None:
    names = [
        module
        for module in modules(PACKAGE) | modules("training")
        if not (f"{module}.").startswith(f"{PACKAGE}.ros.")
    ]
    script = f"""
import importlib, sys

class NoROS:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in {sorted(ROS_MODULES)!r} or top.endswith({MESSAGE_PACKAGES!r}):
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, NoROS())
for name in {names!r}:
    importlib.import_module(name)
try:
    import sensor_msgs.msg
except ModuleNotFoundError:
    print("imported", len({names!r}))
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=REPO_ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == f"imported {len(names)}"
    assert len(names) > 10


def test_without_rclpy_the_node_says_how_to_get_it() -> None:
    script = (
        "import sys; sys.modules['rclpy'] = None\nfrom depth_sr_ros.ros.main import main\nsys.exit(main([]))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=REPO_ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith("depth_sr: the node needs rclpy: ") and run.stderr.count("\n") == 1
