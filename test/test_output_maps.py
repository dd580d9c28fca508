# SPDX-License-Identifier: Apache-2.0
"""What a GPU makes of metres is what a CPU makes, bit for bit: here on a CPU, in test_cuda.py on a GPU."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from test_cuda_graphs import Captures

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.answer import MAPS, Answer, Wanted
from depth_sr_ros.colorize import COLORS, colorize
from depth_sr_ros.image_codec import to_millimetres
from depth_sr_ros.models.output_maps import OutputMaps
from depth_sr_ros.transfer import StagedTransfer
from depth_sr_ros.ways import Way

CPU = torch.device("cpu")
# A division by the second and a product with its reciprocal round many colours otherwise.
RANGES = (None, (1.0, 4.0), (0.5, 4.0), (0.1, 0.1000001), (2.0, 2.0), (0.0, 1000.0))
TINY, HUGE = np.finfo(np.float32).tiny, np.finfo(np.float32).max
SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, -HUGE, HUGE, TINY, 1e-42, 65.5349, 65.535, 65.54, 4e-4, 5e-4],
    np.float32,
)


def neighbours(*values: np.ndarray) -> np.ndarray:
    """Where rounding is decided: the values as float32, and those beside them."""
    near = np.concatenate(values).astype(np.float32).view(np.int32)
    return (near + np.arange(-3, 4, dtype=np.int32)[:, None]).view(np.float32)


def depths() -> dict[str, np.ndarray]:
    """Frames of metres, float32 HxW, by what is special about them."""
    rng = np.random.default_rng(0)
    even = rng.uniform(0.2, 6.0, (47, 131)).astype(np.float32)
    mixed = np.where(rng.random(even.shape) < 0.3, rng.choice(SPECIAL, even.shape), even)
    one = np.full((30, 40), np.nan, np.float32)
    one[7, 9] = 2.5
    return {
        "plain": even,
        "mixed": mixed.astype(np.float32),
        "any bits": rng.integers(0, 2**32, (90, 101), np.uint32).view(np.float32),
        "any positive": rng.integers(0, 0x7F80_0000, (64, 67), np.uint32).view(np.float32),
        "halves": neighbours((np.arange(1, 65536, 7) + 0.5) / 1000),
        "colour halves": neighbours(
            *(hi - (np.arange(255) + 0.5) * ((hi - lo) / 255) for lo, hi in RANGES[1:3])
        ),
        "few depths": rng.choice(np.array([1.0, 1.1, 3.0], np.float32), (33, 77)),
        "constant": np.full((20, 30), 2.0, np.float32),
        "one valid pixel": one,
        "no valid pixel": np.full((20, 30), np.nan, np.float32),
        "special": SPECIAL[None],
    }


def check_that_both_make_the_same(device: torch.device) -> None:
    """Millimetres and pictures of all `depths` and RANGES, made on `device`, against the host's."""
    maps = OutputMaps(device)
    for (name, metres), color_range in itertools.product(depths().items(), RANGES):
        wanted = maps.prepare(Wanted(millimetres=True, picture=True, color_range=color_range))
        given, millimetres, picture = maps(wanted, torch.from_numpy(metres).to(device)[None, None])
        where = f"{name}, {color_range}"
        np.testing.assert_array_equal(given[0, 0].cpu().numpy(), metres, where)
        np.testing.assert_array_equal(millimetres[0, 0].cpu().numpy(), to_millimetres(metres), where)
        expected = colorize(metres, *(color_range or (None, None)))
        np.testing.assert_array_equal(picture[0, 0].cpu().numpy(), expected, where)


def test_both_make_the_same_bit_for_bit() -> None:
    check_that_both_make_the_same(CPU)


def test_an_automatic_range_leaves_out_two_percent_at_each_end() -> None:
    metres = np.random.default_rng(0).permutation(np.arange(1, 102, dtype=np.float32)).reshape(1, 101)
    picture = colorize(metres)[0]
    level = {tuple(color): i for i, color in enumerate(COLORS)}
    by_depth = [level[tuple(picture[i])] for i in np.argsort(metres[0])]
    assert by_depth[:3] == [255] * 3 and by_depth[3] < 255
    assert by_depth[-3:] == [0] * 3 and by_depth[-4] > 0
    assert by_depth[50] in (127, 128)


def staged_engine() -> DepthSuperResolver:
    """An engine that answers on a CPU as one does on a GPU."""
    engine = DepthSuperResolver(device="cpu", runtime="torch", precision="float32")
    engine._transfer = StagedTransfer(CPU)
    engine._runner.output_maps = OutputMaps(CPU)
    return engine


def frame(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (64, 96, 3), np.uint8), rng.uniform(1, 4, (16, 24)).astype(np.float32)


def assert_same(found: Answer, expected: Answer) -> None:
    assert found.wanted == expected.wanted
    for name in found.wanted.maps:
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, name)


def test_an_answer_is_the_same_wherever_its_maps_are_made() -> None:
    device, host = staged_engine(), DepthSuperResolver(device="cpu", runtime="torch", precision="float32")
    for metres, millimetres, confidence, picture in itertools.product((False, True), repeat=len(MAPS)):
        color_range = (1.5, 3.0) if metres and picture else None
        wanted = Wanted(metres, millimetres, confidence, picture, color_range)
        found, expected = (engine.answer(*frame(), wanted, max_fill_distance=2) for engine in (device, host))
        assert tuple(found.made) == wanted.maps
        assert_same(found, expected)


def test_a_graph_serves_every_colour_range_that_is_given() -> None:
    """With a stand-in for CUDA's capture: the range is read anew by each replay, of frames under way too."""
    engine, captures = staged_engine(), Captures()
    engine._runner.graphs._capture = captures
    engine._way = Way("cuda_graph", "float32")
    host = DepthSuperResolver(device="cpu", runtime="torch", precision="float32")
    wanted = [Wanted(millimetres=True, picture=True, color_range=(1.0 + i % 3, 4.0)) for i in range(6)]
    begun = [engine.submit(*frame(i), each) for i, each in enumerate(wanted)]
    for i, each in enumerate(wanted):
        assert_same(begun[i].result(), host.answer(*frame(i), each))
    assert len(captures.made) == 1
    automatic = [dataclasses.replace(each, color_range=None) for each in wanted]
    for i, each in enumerate(automatic):
        assert_same(engine.answer(*frame(i), each), host.answer(*frame(i), each))
    assert len(captures.made) == 2
    assert engine.warnings == []


@pytest.mark.parametrize("maps", [OutputMaps(CPU), None], ids=["device", "host"])
def test_what_was_not_wanted_cannot_be_read_on_any_device(maps: OutputMaps | None) -> None:
    engine = staged_engine()
    engine._runner.output_maps = maps
    answer = engine.answer(*frame(), Wanted(metres=False, millimetres=True))
    assert answer.millimetres.dtype == np.uint16
    assert answer.depth_for("16UC1").dtype == (np.float32 if maps is None else np.uint16)
    for name in ("metres", "confidence", "picture"):
        with pytest.raises(KeyError, match=name):
            getattr(answer, name)
    with pytest.raises(KeyError, match="metres"):
        answer.depth_for("32FC1")
