# SPDX-License-Identifier: Apache-2.0
"""Where the evaluation and training images lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def data_root() -> Path:
    """The folder DEPTH_SR_DATA names; without it, `shared/data` beside the repository. It need not exist."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("DEPTH_SR_DATA") or default)
