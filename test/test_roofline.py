# SPDX-License-Identifier: Apache-2.0
"""The roofline floor: its arithmetic, and ceilings that are measured. No judgement on how fast they are."""

from __future__ import annotations

import math

import pytest
import torch

from depth_sr_ros import roofline
from depth_sr_ros.cost import Cost, Operation
from depth_sr_ros.roofline import Ceilings, floor, measure_ceilings, number_formats

CEILINGS = Ceilings(threads=1, copy_bytes_s=10e9, product_flop_s={"float32": 100e9, "bfloat16": 400e9})


def operation(dtype: str, flop: float, moved: float) -> Operation:
    return Operation("product", dtype, (1,), int(flop), int(moved))


def test_the_floor_is_the_sum_of_each_operations_slower_side() -> None:
    cost = Cost(
        (
            operation("float32", 1e9, 1e6),  # 10 ms computing, 0.1 ms moving
            operation("bfloat16", 1e9, 50e6),  # 2.5 ms, 5 ms
            operation("float32", 0, 20e6),  # 2 ms moving
        )
    )
    found = floor(cost, CEILINGS)
    assert found.ms == pytest.approx(10 + 5 + 2)
    assert found.memory_ms == pytest.approx(5 + 2)


def test_the_floor_of_parts_is_not_below_that_of_their_sums() -> None:
    parts = Cost((operation("float32", 1e9, 1e6), operation("float32", 1e6, 100e6)))
    whole = Cost((operation("float32", parts.flop, parts.bytes),))
    assert floor(parts, CEILINGS).ms > floor(whole, CEILINGS).ms


def test_a_product_in_a_format_without_a_rate_is_an_error_and_a_reduction_is_not() -> None:
    assert floor(Cost((operation("uint8", 0, 10e6),)), CEILINGS).ms == pytest.approx(1)
    with pytest.raises(KeyError, match="float16"):
        floor(Cost((operation("float16", 1, 1),)), CEILINGS)


def test_only_the_formats_of_products_need_a_rate() -> None:
    costs = [
        Cost((operation("float32", 1, 1), operation("uint8", 0, 1))),
        Cost((operation("bfloat16", 1, 1),)),
    ]
    assert number_formats(costs) == ["bfloat16", "float32"]


def test_ceilings_are_measured_with_the_threads_and_in_the_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "COPY_BYTES", 8 << 20)
    monkeypatch.setitem(roofline.PRODUCT_SIDE, "cpu", 256)
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        found = measure_ceilings(torch.device("cpu"), 2, ["float32", "bfloat16"])
        assert torch.get_num_threads() == found.threads == 2
    finally:
        torch.set_num_threads(before[0])
    assert set(found.product_flop_s) == {"float32", "bfloat16"}
    rates = (found.copy_bytes_s, *found.product_flop_s.values())
    # From a microcontroller's to beyond any accelerator's: units would be wrong outside.
    assert all(math.isfinite(rate) and 1e6 < rate < 1e17 for rate in rates)
    assert torch.get_float32_matmul_precision() == before[1]


def test_the_buffer_of_the_copy_is_larger_than_any_cache() -> None:
    assert roofline.COPY_BYTES >= 256e6
