# SPDX-License-Identifier: Apache-2.0
"""Starts Mitsuba 3 on the CPU: finds LLVM, checks its version, and says what to install."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from depth_sr_ros.errors import ConfigError

VARIANT = "llvm_ad_rgb"
OLDEST_LLVM = 16  # 15 aborts the process in Dr.Jit's compiler
PATTERNS = (
    "lib/*-linux-gnu/libLLVM*.so*",
    "lib/llvm-*/lib/libLLVM*.so*",
    "lib64/libLLVM*.so*",
    "lib/libLLVM*.so*",
)
PIP_HINT = 'pip install "depth_sr_ros[render]"'
APT_HINT = "apt install libllvm19"


def llvm_version(library: Path) -> int | None:
    """Major version by the name of the file or of the file that it links to; None where neither tells."""
    for name in (library.name, library.resolve().name):
        match = re.search(r"libLLVM(?:-|\.so\.)(\d+)", name)
        if match:
            return int(match[1])
    return None


def find_llvm(prefix: Path = Path("/usr")) -> Path:
    """libLLVM: of DRJIT_LIBLLVM_PATH, else the newest below `prefix`; ConfigError where none will do."""
    named = os.environ.get("DRJIT_LIBLLVM_PATH")
    if named:
        version = llvm_version(Path(named))
        if not Path(named).is_file() or (version is not None and version < OLDEST_LLVM):
            found = f"LLVM {version}" if Path(named).is_file() else "no file"
            raise ConfigError(
                f"DRJIT_LIBLLVM_PATH={named} is {found}; the renderer needs LLVM {OLDEST_LLVM} or newer: "
                f"{APT_HINT}"
            )
        return Path(named)
    found_files = [path for pattern in PATTERNS for path in prefix.glob(pattern)]
    usable = [(llvm_version(path) or 0, path) for path in sorted(found_files)]
    if not usable or max(usable)[0] < OLDEST_LLVM:
        raise ConfigError(
            f"no LLVM {OLDEST_LLVM} or newer below {prefix}, which Mitsuba compiles with: {APT_HINT}, or set "
            "DRJIT_LIBLLVM_PATH to the libLLVM*.so"
        )
    return max(usable)[1]


@lru_cache(maxsize=1)
def start() -> tuple[Any, Any]:
    """The modules (mitsuba, drjit), the LLVM variant set; ConfigError names the package that is missing."""
    os.environ["DRJIT_LIBLLVM_PATH"] = str(find_llvm())
    # pinned threads would wait for cores that other programs keep busy
    os.environ.setdefault("OIDN_SET_AFFINITY", "0")
    try:
        import drjit
        import mitsuba
        import pyoidn  # noqa: F401  needed after the first frame: better said now
    except ImportError as error:
        raise ConfigError(f"rendering needs Mitsuba and Open Image Denoise ({error}): {PIP_HINT}") from None
    mitsuba.set_variant(VARIANT)
    return mitsuba, drjit


def limit_threads(count: int) -> None:
    """Use `count` threads in all: before the first call of `start` in this process."""
    os.environ["OIDN_NUM_THREADS"] = str(count)
    import cv2
    import torch

    cv2.setNumThreads(count)
    torch.set_num_threads(count)
    start()[1].set_thread_count(count)
