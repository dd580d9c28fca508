# SPDX-License-Identifier: Apache-2.0
"""How much memory something takes at most, although it gives it back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_sr_ros import peak_memory
from depth_sr_ros.peak_memory import PeakMemory

CPU = torch.device("cpu")
MB = 1 << 20


def needs_linux() -> None:
    with PeakMemory(CPU) as peak:
        pass
    if peak.growth is None:
        pytest.skip("this system does not let a process reset its peak memory")


@pytest.mark.parametrize("pieces", [1, 4096], ids=["one block", "many small ones"])
def test_what_was_freed_counts_each_time(pieces: int) -> None:
    needs_linux()
    for _ in range(2):
        with PeakMemory(CPU) as peak:
            held = [np.ones(64 * MB // pieces, np.uint8) for _ in range(pieces)]
            del held
        assert peak.growth == pytest.approx(64 * MB, abs=8 * MB)


def test_an_earlier_peak_does_not_count() -> None:
    needs_linux()
    held = np.ones(64 * MB, np.uint8)
    del held
    with PeakMemory(CPU) as peak:
        kept = np.ones(16 * MB, np.uint8)
    assert kept.all() and peak.growth == pytest.approx(16 * MB, abs=8 * MB)


def test_where_the_peak_cannot_be_reset_it_is_not_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(peak_memory, "CLEAR", tmp_path_factory.mktemp("proc") / "absent" / "clear_refs")
    with PeakMemory(CPU) as peak:
        pass
    assert peak.growth is None
