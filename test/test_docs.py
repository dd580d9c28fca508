# SPDX-License-Identifier: Apache-2.0
"""The documentation against the code: parameters, topics, keys, launch arguments and links that exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from script_module import load_script

from depth_sr_ros.parameters import BY_NAME, DEPTH_TRANSPORTS, RGB_TRANSPORTS, TABLE

REPO_ROOT = Path(__file__).resolve().parents[1]
SCRIPT = REPO_ROOT / "docs" / "make_node_page.py"
PAGE = REPO_ROOT / "docs" / "node.md"
LAUNCH_FILE = REPO_ROOT / "launch" / "sr.launch.py"
PAGES = [REPO_ROOT / "README.md", *sorted((REPO_ROOT / "docs").rglob("*.md"))]
WITH_COMMANDS = [*PAGES, *sorted((REPO_ROOT / "config").glob("*.yaml"))]
IMAGES = {"rgb": RGB_TRANSPORTS, "depth": DEPTH_TRANSPORTS}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return load_script(SCRIPT)


def name_of(path: Path) -> str:
    return str(path.relative_to(REPO_ROOT))


def topics_in(path: Path) -> set[str]:
    """The topics that a module of the node advertises or subscribes to, as it writes them.

    A topic is a text such as "~/depth/image", or f"{name}/camera_info" for RGB and for depth.
    """
    found: set[str] = set()
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    for argument in (argument for call in calls for argument in call.args):
        match argument:
            case ast.Constant(value=str(text)) if re.fullmatch(r"~?/[a-z_/]+", text):
                found.add(text)
            case ast.JoinedStr(
                values=[ast.FormattedValue(value=ast.Name(id="name")), ast.Constant(value=str(rest))]
            ):
                found |= {f"{name}{rest}" for name in IMAGES}
    return found


def launch_arguments() -> set[str]:
    """The names that sr.launch.py declares; launch itself need not be installed."""
    return set(re.findall(r'\b_argument\(\s*"(\w+)"', LAUNCH_FILE.read_text()))


def assignments_in(path: Path) -> Iterator[tuple[str, str]]:
    """Each `name:=` of a page or of a file's comments, with the line it stands in, continuations joined."""
    text = re.sub(r"\\\n\s*#?\s*", " ", path.read_text())
    for line in text.splitlines():
        for name in re.findall(r"([\w./]+):=", line):
            yield name, line


def anchors_in(path: Path) -> set[str]:
    """The fragments that a page's headings can be linked by, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_of_the_node_is_up_to_date() -> None:
    run = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_page_that_differs_is_told_in_one_sentence_and_can_be_written(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "node.md"
    page.write_text(f"before\n{generator.BEGIN}\noutdated\n{generator.END}\nafter\n")
    monkeypatch.setattr(generator, "PAGE", page)
    assert generator.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/node.md is not up to date: run python docs/make_node_page.py\n"
    assert "outdated" in page.read_text()
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    content = page.read_text()
    assert content.startswith("before\n") and content.endswith("\nafter\n")
    assert "outdated" not in content and generator.table() in content


def test_a_page_without_markers_is_refused(generator: ModuleType) -> None:
    with pytest.raises(ValueError, match="must hold"):
        generator.updated("nothing")


def test_the_script_imports_no_ros_and_no_torch() -> None:
    code = (
        f"import runpy, sys; runpy.run_path({str(SCRIPT)!r})['table'](); "
        "print({'rclpy', 'torch', 'launch'} & {name.split('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("set()\n", "")


def test_every_parameter_is_in_the_table_exactly_once(generator: ModuleType) -> None:
    _, _, rest = PAGE.read_text().partition(generator.BEGIN)
    rows = re.findall(r"^\| `(\S+)` \|", rest.partition(generator.END)[0], re.MULTILINE)
    assert rows == [spec.name for spec in TABLE]


def test_the_parameters_of_the_readme_exist_with_these_defaults(generator: ModuleType) -> None:
    _, _, section = (REPO_ROOT / "README.md").read_text().partition("\n## Parameters\n")
    rows = re.findall(r"^\| (`.+?`) \| (.*?) \|", section.partition("\n## ")[0], re.MULTILINE)
    assert rows
    for names, defaults in rows:
        specs = [BY_NAME[name] for name in re.findall(r"`(.+?)`", names)]
        shown = [generator._yaml(spec.default) for spec in specs]
        assert re.findall(r"`(.+?)`", defaults) == shown, names


def test_every_topic_of_the_node_is_named_in_its_page() -> None:
    ros = REPO_ROOT / "depth_sr_ros" / "ros"
    topics = set.union(*(topics_in(ros / f"{name}.py") for name in ("inputs", "node", "outputs")))
    assert {"~/depth/image", "/diagnostics", "rgb/image", "depth/camera_info"} <= topics
    for stream, transports in IMAGES.items():
        topics |= {f"{stream}/image/{transport}" for transport in transports if transport != "raw"}
    page = PAGE.read_text()
    assert [topic for topic in sorted(topics) if f"| `{topic}` |" not in page] == []


def test_every_key_and_threshold_of_the_diagnostics_is_in_the_page() -> None:
    pytest.importorskip("rclpy", reason="the keys are the node's")
    from ros_helpers import start_ros

    from depth_sr_ros.ros.diagnostics import THRESHOLDS
    from depth_sr_ros.ros.node import SUCCESS, DepthSRNode
    from depth_sr_ros.stats import RECENT

    class Engine:
        device = description = ""

    start_ros()
    node = DepthSRNode(make_engine=lambda values: Engine())
    try:
        assert node.trigger_configure() == SUCCESS
        keys = set(node.snapshot())
    finally:
        node.close()
        node.destroy_node()
    page = PAGE.read_text()
    assert sorted(key for key in keys if f"`{key}`" not in page) == []
    assert f"not come for {THRESHOLDS.silent_s:g} s or more" in page
    assert f"differ by {THRESHOLDS.skew_s:g} s or more" in page
    assert THRESHOLDS.unpaired_share == THRESHOLDS.overwritten_share == 0.5  # "more than half"
    assert THRESHOLDS.guide_share == 0.5 and f"more than half of the last {RECENT} frames" in page


def test_every_launch_argument_is_in_the_page() -> None:
    arguments = launch_arguments()
    assert {"params_file", "rgb_topic", "autostart"} <= arguments
    page = PAGE.read_text()
    assert [name for name in sorted(arguments) if f"`{name}`" not in page] == []


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=name_of)
def test_every_launch_argument_and_parameter_that_is_named_exists(path: Path) -> None:
    known = launch_arguments()
    for name, line in assignments_in(path):
        if "sr.launch.py" in line or not re.search(r"launch\.py|--ros-args", line):
            assert name in known, line
        elif "depth_sr_node" in line and re.search(rf"-p '?{re.escape(name)}:=", line):
            assert name in BY_NAME or name == "use_sim_time", line


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file_and_to_a_heading(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not fragment or fragment in anchors_in(target), link
