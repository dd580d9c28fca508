# SPDX-License-Identifier: Apache-2.0
"""`depth-sr export`: ONNX Runtime computes from the file what torch computes, at any size, holes and all."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from depth_sr_ros import onnx_export
from depth_sr_ros.config import model_config
from depth_sr_ros.errors import DataError
from depth_sr_ros.models.checkpoint import load_checkpoint, save_checkpoint, weights_hash
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.onnx_export import METADATA_PREFIX, export_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'depth_sr_ros[onnx]'")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="onnxruntime is not installed: pip install 'depth_sr_ros[onnx]'"
)

pytestmark = pytest.mark.timeout(400)  # tracing is seconds of work, which a busy machine stretches
REPO_ROOT = Path(__file__).resolve().parents[1]
PAGE = REPO_ROOT / "docs" / "export.md"
CHANNELS = [8, 8, 12, 12, 16]
FIXED = ((96, 64), (24, 16))


def checkpoint(path: Path, variant: str, **overrides: object) -> Path:
    """A small untrained network in which nothing is switched off by a zero."""
    torch.manual_seed(0)
    net = DepthSRNet(model_config(variant, channels=CHANNELS, **overrides)).eval()
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    save_checkpoint(path, net, training={}, metrics={}, version="0")
    return path


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "edge.safetensors"
    return checkpoint(path, "edge", confidence=True)


@pytest.fixture(scope="module")
def dynamic(edge: Path) -> Path:
    export_onnx(edge.with_name("dynamic.onnx"), edge)
    return edge.with_name("dynamic.onnx")


def frame(rgb_size: tuple[int, int], depth_size: tuple[int, int]) -> dict[str, npt.NDArray]:
    random = np.random.default_rng(7)
    depth = random.uniform(0.5, 6, depth_size[::-1]).astype(np.float32)
    for i, invalid in enumerate((np.nan, 0, np.inf, -np.inf, -1)):
        depth[random.random(depth.shape) < 0.04 + 0.1 * (i == 0)] = invalid
    depth[:2, : depth.shape[1] // 2] = np.nan
    rgb = random.integers(0, 256, (1, 3, *rgb_size[::-1]), np.uint8)
    return {"rgb": rgb, "depth": depth[None, None]}


def largest_difference(file: Path, weights: Path, inputs: dict[str, npt.NDArray]) -> float:
    net, _ = load_checkpoint(weights)
    tensors = [torch.from_numpy(value) for value in inputs.values()]
    expected = net.upsample(*tensors).numpy()
    found = onnxruntime.InferenceSession(file).run(["depth_sr"], inputs)[0]
    assert found.shape == expected.shape and found.dtype == np.float32
    return float(np.max(np.abs(found - expected) / expected))


@pytest.mark.parametrize(
    ("rgb_size", "depth_size"),
    [
        ((96, 64), (24, 16)),
        ((101, 67), (25, 17)),
        ((33, 150), (2, 40)),
        ((64, 64), (64, 64)),
        ((40, 32), (57, 43)),  # more pixels of depth than of RGB
        ((256, 192), (63, 49)),
    ],
)
def test_a_dynamic_export_agrees_with_torch_at_sizes_that_it_was_not_traced_at(
    dynamic: Path, edge: Path, rgb_size: tuple[int, int], depth_size: tuple[int, int]
) -> None:
    assert largest_difference(dynamic, edge, frame(rgb_size, depth_size)) < 1e-4


def test_a_frame_without_any_measurement_is_nan(dynamic: Path) -> None:
    inputs = frame(*FIXED)
    inputs["depth"][:] = 0
    for answer in onnxruntime.InferenceSession(dynamic).run(None, inputs):
        assert np.isnan(answer).all()


def test_the_confidence_is_an_output_where_the_weights_have_it(dynamic: Path, edge: Path) -> None:
    inputs = frame(*FIXED)
    net, _ = load_checkpoint(edge)
    given = (torch.from_numpy(value) for value in inputs.values())
    expected = net.estimate(*given, confidence=True).confidence
    assert expected is not None
    found = onnxruntime.InferenceSession(dynamic).run(["confidence"], inputs)[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("variant", "overrides"),
    [
        ("edge", {}),
        ("edge", {"normalization": "frame", "fusion": "add", "propagation": [], "head": "residual"}),
        ("fast", {}),
        ("challenge", {}),
    ],
)
def test_a_fixed_export_of_every_variant_agrees_with_torch(
    tmp_path: Path, variant: str, overrides: dict[str, object]
) -> None:
    weights = checkpoint(tmp_path / "weights.safetensors", variant, **overrides)
    file = tmp_path / "net.onnx"
    found = export_onnx(file, weights, variant=variant, sizes=FIXED)
    assert found.difference < 1e-4
    inputs = frame(*FIXED)
    if variant != "edge":
        # Near where the depth is small, or `fast` would leave it out; off enough that it is trusted in part.
        valid = np.isfinite(inputs["depth"]) & (inputs["depth"] > 0)
        inverse = np.where(valid, 1 / np.where(valid, inputs["depth"], 1.0), 0.3).astype(np.float32)
        noise = np.random.default_rng(8).random((1, 1, 64, 96), np.float32)
        inputs["relative_depth"] = inverse.repeat(4, 2).repeat(4, 3) + 0.5 * noise
    assert list(inputs) == list(found.inputs)
    assert largest_difference(file, weights, inputs) < 1e-4
    if variant != "edge":  # a guide of zeros is none
        expected = load_checkpoint(weights)[0].upsample(
            *map(torch.from_numpy, (inputs["rgb"], inputs["depth"]))
        )
        inputs["relative_depth"][:] = 0
        answer = onnxruntime.InferenceSession(file).run(None, inputs)[0]
        np.testing.assert_allclose(answer, expected.numpy(), rtol=1e-4)


def test_the_shipped_weights_in_float16_stay_finite_and_near(tmp_path: Path) -> None:
    found = export_onnx(tmp_path / "net.onnx", sizes=FIXED, precision="float16")
    assert 0 < found.difference < onnx_export.BOUNDS["float16"]
    assert (tmp_path / "net.onnx").stat().st_size < 8e6


def test_the_file_says_what_it_is(dynamic: Path, edge: Path) -> None:
    model = onnx.load(dynamic)
    said = {item.key.removeprefix(METADATA_PREFIX): item.value for item in model.metadata_props}
    assert said["weights"] == weights_hash(edge) and said["variant"] == "edge"
    assert "metres" in said["depth"] and "metres" in said["depth_sr"]
    assert said["rgb"].startswith("uint8 (1, 3, height, width)")
    assert {each.domain for each in model.opset_import} == {""}  # no operation of ONNX Runtime's own


def test_a_network_that_differs_is_refused_and_leaves_no_file(
    edge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(onnx_export.BOUNDS, "float32", 1e-12)
    inputs = [torch.from_numpy(value) for value in frame((101, 67), (25, 17)).values()]
    before = load_checkpoint(edge)[0].upsample(*inputs)
    with pytest.raises(DataError, match="differs from torch's by .* nothing was written"):
        export_onnx(tmp_path / "net.onnx", edge, sizes=FIXED)
    assert list(tmp_path.iterdir()) == []
    # and torch computes what it did
    assert torch.equal(load_checkpoint(edge)[0].upsample(*inputs), before)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--format", "onx"), "did you mean 'onnx'"),
        (("--variant", "egde"), "did you mean 'edge'"),
        (("--precision", "int8"), "float32, float16"),
        (("--size", "640", "--depth-size", "160x120"), "such as 640x480"),
        (("--size", "640x480"), "--depth-size"),
        (("--size", "8x8", "--depth-size", "2x2"), "at least 40 pixels"),
        (("--size", "640x480", "--depth-size", "9000x2"), "at most 4096"),
        (("--out", "net.pt"), "must end in .onnx"),
        (("--out", "nowhere/net.onnx"), "does not exist"),
        (("--out", "taken.onnx"), "it is a folder"),
        (("--checkpoint", "missing.safetensors"), "does not exist"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from depth_sr_ros.cli import main

    (tmp_path / "taken.onnx").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["depth-sr", "export", "--out", "net.onnx", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    err = capsys.readouterr().err
    assert caught.value.code == 2
    assert err.startswith("error: ") and says in err and len(err.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["taken.onnx"]


def test_the_page_runs_as_typed(tmp_path: Path) -> None:
    text = PAGE.read_text()
    command = re.search(r"^    depth-sr (export .*160x120.*)$", text, re.MULTILINE)
    snippet = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert command is not None and snippet is not None
    words = [sys.executable, "-m", "depth_sr_ros.cli", *command[1].split()]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    ended = subprocess.run([sys.executable, "-c", snippet[1]], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("(1, 1, 480, 640)")
