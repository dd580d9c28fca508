# SPDX-License-Identifier: Apache-2.0
"""The least time that a counted frame can take on this machine, from ceilings that are measured here.

floor = sum over the operations that cannot be fused of max(FLOPs / matmul rate, bytes / copy rate);
docs/benchmarks/roofline.md has the reasons.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from depth_sr_ros.cost import Cost

COPY_BYTES = 256 << 20  # far larger than the caches, so that memory sets the rate
PRODUCT_SIDE = {"cpu": 1024, "cuda": 8192}
ROUNDS = 10  # the fastest counts: a ceiling is the best that was seen
CALLS = {"cpu": 1, "cuda": 10}  # in a round; a GPU's clock is coarse, and its launches overlap


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do at best: a large copy, and a large matrix product in each number format."""

    threads: int
    copy_bytes_s: float
    """Read and written bytes a second."""
    product_flop_s: Mapping[str, float]


@dataclass(frozen=True)
class Floor:
    """The least time of a frame, milliseconds; `memory_ms` of it in operations that memory bounds."""

    ms: float
    memory_ms: float


def floor(cost: Cost, ceilings: Ceilings) -> Floor:
    """The formula. Raises KeyError where `ceilings` lack a number format that `cost` has."""
    total = memory = 0.0
    for each in cost.operations:
        moving = each.bytes / ceilings.copy_bytes_s
        # A reduction has no product, and its type need have no rate.
        computing = each.flop / ceilings.product_flop_s[each.dtype] if each.flop else 0.0
        total += max(moving, computing)
        memory += moving if moving >= computing else 0.0
    return Floor(total * 1e3, memory * 1e3)


def number_formats(costs: Iterable[Cost]) -> list[str]:
    """Those in which `costs` have products."""
    return sorted({each.dtype for cost in costs for each in cost.operations if each.flop})


@torch.inference_mode()
def measure_ceilings(device: torch.device, threads: int, formats: Iterable[str]) -> Ceilings:
    """Copy and multiply on `device`, with torch's CPU threads set to `threads`."""
    torch.set_num_threads(threads)
    return Ceilings(threads, _copy_rate(device), {name: _product_rate(device, name) for name in formats})


def _copy_rate(device: torch.device) -> float:
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * COPY_BYTES / _least_seconds(lambda: target.copy_(source), device)


def _product_rate(device: torch.device, name: str) -> float:
    side = PRODUCT_SIDE[device.type]
    left, right, out = (torch.ones(side, side, dtype=getattr(torch, name), device=device) for _ in range(3))
    with _convolutions_tf32():
        return 2 * side**3 / _least_seconds(lambda: torch.mm(left, right, out=out), device)


def _least_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Of one call, the fastest round's."""
    calls = CALLS[device.type]
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _: None
    call()  # what the first one prepares is not its cost
    seconds = []
    for _ in range(ROUNDS):
        wait(device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait(device)
        seconds.append((time.perf_counter() - start) / calls)
    return min(seconds)


@contextlib.contextmanager
def _convolutions_tf32() -> Iterator[None]:
    """Products in float32 as cuDNN's convolutions are: in TF32, unless that is switched off."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if torch.backends.cudnn.allow_tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
