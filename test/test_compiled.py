# SPDX-License-Identifier: Apache-2.0
"""torch.compile as a way to run the network: compiled for one kind of frame, refused in a sentence."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from depth_sr_ros import DepthSuperResolver, trial
from depth_sr_ros.benchmark_methods import network_ways, networks
from depth_sr_ros.compiled import CompiledNetwork, CompiledOnce, why_not_compiled
from depth_sr_ros.config import VARIANTS
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.models.depth_sr import Estimate
from depth_sr_ros.models.nafnet import NAFBlock
from depth_sr_ros.ways import Way, late_ways, possible_ways

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (48, 64, 3), np.uint8)
DEPTH = RNG.uniform(1, 4, (12, 16)).astype(np.float32)

pytestmark = pytest.mark.timeout(300)
needs_a_compiler = pytest.mark.skipif(bool(why_not_compiled(CPU)), reason=why_not_compiled(CPU))
needs_no_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="Triton is here")


def graphs_compiled() -> int:
    """By torch in this process, until now."""
    return counters["stats"]["unique_graphs"]


@needs_a_compiler
def test_the_first_kind_of_input_is_compiled_and_no_other() -> None:
    torch.manual_seed(0)
    block = NAFBlock(8).eval()
    nn.init.normal_(block.beta)
    nn.init.normal_(block.gamma)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        return (block(x.permute(2, 0, 1)[None], (9, 12)),)

    compiled, before = CompiledOnce(run), graphs_compiled()
    with torch.inference_mode():
        first, second = torch.rand(10, 12, 8), torch.rand(10, 12, 8)
        for given in (first, second):
            found = compiled(given)
            assert found is not None
            torch.testing.assert_close(found[0], run(given)[0])
        assert compiled.kind == (((10, 12, 8), torch.float32),)
        assert compiled(torch.rand(12, 10, 8)) is None
        assert compiled(first.double()) is None
    assert graphs_compiled() == before + 1


def test_a_compilation_that_fails_is_one_sentence_and_may_be_tried_again() -> None:
    def run(x: Tensor) -> tuple[Tensor, ...]:
        return (x if x.sum().item() > 0 else -x,)

    compiled = CompiledOnce(run)
    for _ in range(2):
        with pytest.raises(ConfigError, match="torch.compile failed: .+; use another runtime") as caught:
            compiled(torch.ones(3))
        assert "\n" not in str(caught.value)
    assert compiled.kind is None


def test_without_a_compiler_it_is_refused_by_name_with_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "absent-g++")
    with pytest.raises(
        ConfigError, match="no C.. compiler 'absent-g..': install it, or set CXX; or use 'auto'"
    ):
        DepthSuperResolver(device="cpu", runtime="compile")


@needs_no_triton
def test_without_triton_it_is_refused_by_name_with_what_helps() -> None:
    with pytest.raises(ConfigError, match="Triton is not installed: pip install triton; or use 'auto'"):
        possible_ways("compile", "auto", CUDA, VARIANTS["edge"])


def test_auto_never_compiles_on_a_cpu_and_late_on_cuda() -> None:
    assert all(way.runtime != "compile" for way in possible_ways("auto", "auto", CPU, VARIANTS["edge"]))
    assert late_ways("auto", "auto", CPU) == late_ways("cuda_graph", "auto", CUDA) == ()
    assert late_ways("auto", "auto", CUDA) == (Way("compile", "float16"),)
    assert late_ways("auto", "bfloat16", CUDA) == (Way("compile", "bfloat16"),)


@needs_a_compiler
def test_by_name_one_precision_is_compiled_the_safe_one_unless_named() -> None:
    assert possible_ways("compile", "auto", CPU, VARIANTS["edge"]) == (Way("compile", "float32"),)
    assert possible_ways("compile", "bfloat16", CPU, VARIANTS["edge"]) == (Way("compile", "bfloat16"),)


@needs_a_compiler
def test_the_benchmark_compiles_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (edge,) = networks(["edge"], None, None, tmp_path)
    without = network_ways(edge, CPU, ["float32"])
    assert network_ways(edge, CPU, ["float32"], compiled=True) == [*without, Way("compile", "float32")]
    monkeypatch.setenv("CXX", "absent-g++")
    with pytest.raises(ConfigError, match="--compile is not possible here: there is no C.. compiler 'absent"):
        network_ways(edge, CPU, [], compiled=True)


def late_engine() -> DepthSuperResolver:
    """As on CUDA, where `auto` may compile late."""
    out = DepthSuperResolver(device="cpu", runtime="torch", precision="float32")
    out._late_ways = (Way("compile", "float32"),)
    return out


def test_where_frames_are_fast_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "WORTH_COMPILING_S", 3600.0)
    resolver, said, before = late_engine(), list[str](), graphs_compiled()
    resolver.warm_up((64, 48), (16, 12), said.append)
    assert (resolver.runtime, said, resolver.warnings) == ("torch", [], [])
    assert graphs_compiled() == before


def test_where_auto_cannot_compile_one_line_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "WORTH_COMPILING_S", 0.0)
    monkeypatch.setenv("CXX", "absent-g++")
    resolver = late_engine()
    resolver.warm_up((64, 48), (16, 12))
    (line,) = resolver.warnings
    assert line.startswith("the network runs without torch.compile: there is no C++ compiler 'absent-g++'")
    assert resolver.runtime == "torch" and np.isfinite(resolver(RGB, DEPTH)).all()


def stop_the_compiler(resolver: DepthSuperResolver) -> None:
    """By an early operation that no compiled graph can hold; eager torch passes it."""
    resolver._model.unet.register_forward_pre_hook(
        lambda module, inputs: None if inputs[0].isfinite().all().item() else inputs
    )


@needs_a_compiler
def test_a_compilation_that_fails_ends_the_start_by_name_and_is_a_line_under_auto(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "WORTH_COMPILING_S", 0.0)
    named = DepthSuperResolver(device="cpu", runtime="compile")
    stop_the_compiler(named)
    with pytest.raises(ConfigError, match="torch.compile failed"):
        named.warm_up((64, 48), (16, 12))
    resolver, said = late_engine(), list[str]()
    stop_the_compiler(resolver)
    resolver.warm_up((64, 48), (16, 12), said.append)
    assert said == [trial.COMPILING]
    (line,) = resolver.warnings
    assert line.startswith("the network runs without torch.compile: torch.compile failed")
    assert "\n" not in line
    assert resolver.runtime == "torch" and np.isfinite(resolver(RGB, DEPTH)).all()


@needs_a_compiler
def test_compiled_code_that_differs_from_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(network: CompiledNetwork, *given: Any, **options: Any) -> Estimate:
        found = network._net.estimate(*given, **options)
        return found._replace(depth=found.depth * 1.01)

    monkeypatch.setattr(CompiledNetwork, "estimate", wrong)
    resolver = DepthSuperResolver(device="cpu", runtime="compile")
    resolver.warm_up((64, 48), (16, 12))
    (line,) = resolver.warnings
    assert line.startswith("torch.compile in float32 differs from torch in float32 by 0.01 of the depth")
    assert resolver.runtime == "torch" and np.isfinite(resolver(RGB, DEPTH)).all()


@needs_a_compiler
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("variant", "precision", "difference"),
    [("edge", "float32", 1e-4), ("edge", "bfloat16", 2e-2), ("fast", "float32", 1e-4)],
)
def test_the_compiled_network_answers_as_torch(variant: str, precision: str, difference: float) -> None:
    """Real compilations of whole networks: half a minute to minutes each."""
    options: dict[str, Any] = {"device": "cpu", "variant": variant, "precision": precision}
    compiled, eager = (DepthSuperResolver(runtime=name, **options) for name in ("compile", "torch"))
    for resolver in (compiled, eager):
        if variant == "fast":
            resolver._model.guide = Brightness()  # type: ignore[assignment]
    said: list[str] = []
    compiled.warm_up((64, 48), (16, 12), said.append)
    assert (compiled.runtime, said, compiled.warnings) == ("compile", [trial.COMPILING], [])
    assert f"{precision}, torch.compile" in compiled.description
    before = graphs_compiled()
    alpha = np.concatenate([RGB, RGB[..., :1]], 2)
    millimetres = np.round(1000 * DEPTH).astype(np.uint16)
    frames: list[tuple[np.ndarray, np.ndarray, dict]] = [
        (RGB, DEPTH, {}),
        (RGB, DEPTH, {"channel_order": "bgr", "max_fill_distance": 2}),
        (alpha, millimetres, {"channel_order": "bgra", "depth_unit_m": 0.001}),
        (RGB[..., 0], np.where(DEPTH < 2, np.nan, DEPTH), {"channel_order": "mono"}),
        (np.repeat(RGB, 2, 1), DEPTH, {"output_size": (64, 48)}),
    ]
    for rgb, depth, more in frames:
        found, right = (resolver(rgb, depth, **more) for resolver in (compiled, eager))
        assert np.median(np.abs(found - right) / right) < difference, more
        assert compiled.guide_share == eager.guide_share
    if compiled.has_confidence:
        for found, right in zip(*(r.with_confidence(RGB, DEPTH) for r in (compiled, eager)), strict=True):
            np.testing.assert_allclose(found, right, rtol=20 * difference, atol=20 * difference)
    assert compiled.warnings == []
    for side in (40, 56):
        np.testing.assert_array_equal(compiled(RGB[:, :side], DEPTH), eager(RGB[:, :side], DEPTH))
    (line,) = compiled.warnings
    assert line.startswith("the network is compiled for RGB 64x48 and depth 16x12, and answers RGB 40x48")
    assert graphs_compiled() == before, "only the warm-up compiles"


class Brightness(nn.Module):
    """In place of Depth Anything."""

    def forward(self, rgb: Tensor) -> Tensor:
        return rgb.mean(1, keepdim=True)
