# SPDX-License-Identifier: Apache-2.0
"""The linters as tests: style, format and types are clean."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "arguments",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=["ruff-check", "ruff-format", "mypy"],
)
def test_the_linters_find_nothing(repo_root: Path, arguments: list[str]) -> None:
    run = subprocess.run([sys.executable, "-m", *arguments], cwd=repo_root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
