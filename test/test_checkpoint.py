# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: a round trip, and one clear sentence for every way in which a file can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from depth_sr_ros.config import model_config
from depth_sr_ros.errors import CheckpointError
from depth_sr_ros.models.checkpoint import (
    METADATA_KEY,
    load_checkpoint,
    read_header,
    save_checkpoint,
    shipped_checkpoint,
)
from depth_sr_ros.models.depth_sr import DepthSRNet

SMALL = model_config("edge", channels=[8, 8, 8, 8, 8])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "edge.safetensors"
    save_checkpoint(path, DepthSRNet(SMALL), training={"seed": 3}, metrics={"rmse": 0.1}, version="0.1.0")
    return path


def _rewrite(path: Path, tensors: dict[str, torch.Tensor] | None = None, header: dict | None = None) -> None:
    with safe_open(str(path), framework="pt") as file:
        metadata = json.loads(file.metadata()[METADATA_KEY])
    tensors = tensors or load_file(path)
    path.unlink()  # the tensors are maps of this file, which an older safetensors would empty under them
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps({**metadata, **(header or {})})})


def test_round_trip_keeps_weights_and_header(tmp_path: Path) -> None:
    net, path = DepthSRNet(SMALL), tmp_path / "a.safetensors"
    torch.nn.init.normal_(net.unet.head.weight)
    save_checkpoint(
        path, net, training={"seed": 3}, metrics={"rmse": 0.1}, version="0.1.0", dtype=torch.float32
    )
    loaded, header = load_checkpoint(path)
    assert (header.variant, header.training, header.metrics) == ("edge", {"seed": 3}, {"rmse": 0.1})
    assert header.model == SMALL
    assert not loaded.training
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_half_precision_is_the_default_and_loads_as_float32(checkpoint: Path) -> None:
    assert all(t.dtype == torch.float16 for t in load_file(checkpoint).values())
    assert all(p.dtype == torch.float32 for p in load_checkpoint(checkpoint)[0].parameters())


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 60, 3000])
def test_truncated_file(checkpoint: Path, keep: int) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(checkpoint)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_wrong_variant_names_both(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="'edge'.*'challenge'"):
        load_checkpoint(checkpoint, variant="challenge")


def test_foreign_safetensors_file(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not written by this package"):
        read_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ({"format": 99}, "format is 99"),
        ({"author": "me"}, "unknown key 'author'"),
        ({"model": {"variant": "edge"}}, "lacks the key 'channels'"),
        ({"model": {**SMALL.to_dict(), "widht": 3}}, "unknown key 'widht'"),
        ({"model": 5}, "cannot be read"),
    ],
)
def test_a_wrong_header_says_what_is_wrong(checkpoint: Path, header: dict, word: str) -> None:
    _rewrite(checkpoint, header=header)
    with pytest.raises(CheckpointError, match=word):
        load_checkpoint(checkpoint)


def test_missing_unknown_misshapen_and_non_finite_tensors(checkpoint: Path) -> None:
    tensors = load_file(checkpoint)
    name = "unet.head.weight"
    cases = {
        "missing": {k: v for k, v in tensors.items() if k != name},
        "unknown": {**tensors, "unet.extra": torch.zeros(1)},
        r"\(1, 2\)": {**tensors, name: torch.zeros(1, 2)},
        "NaN": {**tensors, name: torch.full_like(tensors[name], torch.nan)},
    }
    for word, changed in cases.items():
        _rewrite(checkpoint, changed)
        with pytest.raises(CheckpointError, match=word):
            load_checkpoint(checkpoint)


def test_shipped_edge_weights_are_small_and_named(tmp_path: Path) -> None:
    path = shipped_checkpoint("edge")
    model, header = load_checkpoint(path, variant="edge")
    assert path.stat().st_size < 8_000_000
    assert sum(p.numel() for p in model.parameters()) <= 2_000_000
    assert header.training["steps"] > 1000
    assert "val/score" in header.metrics
    assert model.unet.head.weight.abs().max() > 0


@pytest.mark.parametrize("variant", ["fast", "challenge"])
def test_the_fusion_u_nets_ship_below_10_mb_and_check_their_guide(variant: str) -> None:
    path = shipped_checkpoint(variant)
    model, header = load_checkpoint(path, variant=variant)
    assert path.stat().st_size < 10_000_000
    assert header.model.guide_check and model.unet.head.weight.abs().max() > 0


def test_an_installation_without_the_weights_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("depth_sr_ros.models.checkpoint.resources.files", lambda name: tmp_path)
    with pytest.raises(CheckpointError, match="weights of 'edge' are missing from the installation"):
        shipped_checkpoint("edge")
