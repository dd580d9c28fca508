# SPDX-License-Identifier: Apache-2.0
"""By how much memory grows at most while something runs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path
from types import TracebackType

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): VmHWM becomes VmRSS


class PeakMemory:
    """`with PeakMemory(device) as peak: ...`, then `peak.growth`: the largest use less that before, bytes.

    On a CPU the process's resident memory, which Linux watches; None on another system, or where its peak may
    not be reset. What earlier runs freed is given back first, so that it is not re-used unseen. On CUDA
    torch's allocations on `device`.
    """

    growth: int | None = None

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: int | None = None

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
            return self
        with contextlib.suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
        try:
            CLEAR.write_text(RESET_PEAK)
            self._before = _resident("VmRSS")
        except OSError:
            pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is None:
            return
        is_cuda = self._device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self._device) if is_cuda else _resident("VmHWM")
        self.growth = max(0, peak - self._before)


def _resident(name: str) -> int:
    """A figure of the process's status, bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
