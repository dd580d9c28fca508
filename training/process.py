# SPDX-License-Identifier: Apache-2.0
"""torch's settings of the process that trains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def process_settings(threads: int) -> Iterator[None]:
    """torch's settings of the whole process for the time of a run; as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    # Adam's second moments decay into numbers with which a CPU computes a hundred times slower.
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
