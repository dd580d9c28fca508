# SPDX-License-Identifier: Apache-2.0
"""Fast DDS's shared memory: how much is free, and what killed processes have left in it.

A process that is killed cannot remove its segments, and nothing else does; with the package's profile each
holds 70 MB. Where a segment finds no place, Fast DDS sends everything by UDP, and says so in words that
nobody understands. Docker gives a container 64 MB.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("/dev/shm")
NAMES = ("fastdds_", "fastrtps_")  # of version 3 and 2
LOCK = "_el"  # beside each segment a file of this ending, locked while the process that made it lives
SEGMENT_BYTES = 72 << 20  # what config/fastdds_shm.xml makes a process take, rounded up


class SharedMemory(NamedTuple):
    """Bytes in all and free, and those of `dead` segments: their processes ended without removing them."""

    total: int
    free: int
    dead: int
    dead_bytes: int

    @property
    def complaint(self) -> str:
        """What is wrong where a segment finds no place; empty where one does."""
        if self.free >= SEGMENT_BYTES:
            return ""
        return (
            f"{FOLDER} has {self.free / 1e6:.0f} of {self.total / 1e6:.0f} MB free, but Fast DDS needs "
            f"{SEGMENT_BYTES / 1e6:.0f} MB a process for images: they go by UDP instead, and large ones get "
            "lost"
        )

    @property
    def remedy(self) -> str:
        """How to have more of it free."""
        if self.dead_bytes >= SEGMENT_BYTES:
            return f"remove what {self.dead} segments of killed processes hold: fastdds shm clean"
        return "start the container with --ipc=host or --shm-size=1g, or give /dev/shm more memory"


def measure(folder: Path = FOLDER) -> SharedMemory | None:
    """What is free and what is dead in `folder`; None where the system has no such folder."""
    try:
        room = os.statvfs(folder)
    except OSError:
        return None
    dead = dead_segments(folder)
    sizes = [_bytes_of(path) for path in dead]
    return SharedMemory(room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize, len(dead), sum(sizes))


def dead_segments(folder: Path = FOLDER) -> list[Path]:
    """The files of segments whose processes have ended; beside each lies its lock, of the ending LOCK."""
    locks = [path for name in NAMES for path in folder.glob(f"{name}*{LOCK}") if _is_dead(path)]
    return [path.with_name(path.name.removesuffix(LOCK)) for path in locks]


def _is_dead(lock: Path) -> bool:
    """Whether nobody holds the lock. A shared one is asked for, and is over with the file's closing."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held; or another user's, or gone by now
        return False
    return True


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0
