# SPDX-License-Identifier: Apache-2.0
"""The whole networks: parameter counts, untrained answer, any size, any hole, where the LR detail goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tiny_guide import TINY_DEPTH_ANYTHING, save_tiny_guide

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.config import VARIANTS, model_config
from depth_sr_ros.errors import CheckpointError, ConfigError
from depth_sr_ros.models.checkpoint import save_checkpoint
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.models.guide import DepthAnythingGuide, guide_input_size, normalize_guide
from depth_sr_ros.models.normalization import fill_holes, valid_mask

SMALL = {"channels": [8, 8, 12, 12, 16]}


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _trained_like(variant: str, seed: int = 0, **overrides: object) -> DepthSRNet:
    """A small network whose head and residual scales are not zero."""
    torch.manual_seed(seed)
    net = DepthSRNet(model_config(variant, **{**SMALL, **overrides})).eval()
    for name, parameter in net.named_parameters():
        if name.endswith(("beta", "gamma", "head.weight")):
            torch.nn.init.normal_(parameter, std=0.3)
    return net


def test_challenge_has_29_million_parameters_of_which_4_are_the_unet() -> None:
    net = DepthSRNet(VARIANTS["challenge"], DepthAnythingGuide.from_config())
    assert net.guide is not None
    assert _count(net.guide) == 24_785_089
    assert 4.0e6 <= _count(net.unet) <= 4.5e6
    assert 28.5e6 <= _count(net) <= 29.5e6


def test_edge_is_below_two_million_parameters_and_fast_below_two_and_a_half_beside_its_guide() -> None:
    assert _count(DepthSRNet(VARIANTS["edge"])) <= 2_000_000
    assert _count(DepthSRNet(VARIANTS["fast"])) <= 2_500_000


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("normalization", ["fixed", "frame", "log"])
def test_an_untrained_network_returns_the_upsampled_lr_depth(variant: str, normalization: str) -> None:
    net = DepthSRNet(model_config(variant, normalization=normalization, **SMALL)).eval()
    depth = torch.rand(2, 1, 20, 24) * 4 + 0.5
    rgb = torch.randint(0, 256, (2, 3, 80, 96), dtype=torch.uint8)
    expected = F.interpolate(depth, (80, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(net.upsample(rgb, depth), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize(
    ("size", "lr_size"),
    [
        ((64, 64), (4, 4)),
        ((71, 97), (35, 48)),
        ((130, 66), (17, 5)),
        ((33, 200), (9, 13)),
        ((96, 128), (6, 8)),
    ],
)
def test_any_size_and_aspect_gives_the_rgb_size(
    variant: str, size: tuple[int, int], lr_size: tuple[int, int]
) -> None:
    net = _trained_like(variant)
    rgb = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    out = net.upsample(rgb, torch.rand(1, 1, *lr_size) + 1)
    assert out.shape == (1, 1, *size)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("metres", [0.1, 1.0, 30.0, 300.0])
@pytest.mark.parametrize("normalization", ["fixed", "frame", "log"])
def test_constant_depth_stays_finite_and_positive_from_10_cm_to_300_m(
    metres: float, normalization: str
) -> None:
    net = _trained_like("edge", normalization=normalization)
    out = net.upsample(
        torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8), torch.full((1, 1, 16, 24), metres)
    )
    assert torch.isfinite(out).all()
    assert (out > 0).all()


@pytest.mark.parametrize("invalid", [float("nan"), 0.0, float("inf"), float("-inf"), -1.0, 1e6, 3.4e38])
@pytest.mark.parametrize("share", [0.05, 0.6])
def test_every_kind_of_invalid_pixel_is_treated_alike(invalid: float, share: float) -> None:
    net = _trained_like("edge")
    generator = torch.Generator().manual_seed(5)
    depth = torch.rand(1, 1, 16, 24, generator=generator) * 3 + 1
    rgb = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8, generator=generator)
    hole = torch.rand(depth.shape, generator=generator) < share
    out = net.upsample(rgb, torch.where(hole, invalid, depth))
    assert torch.isfinite(out).all()
    assert torch.equal(out, net.upsample(rgb, torch.where(hole, torch.nan, depth)))


def test_a_sample_without_any_measurement_is_nan_and_its_neighbour_is_not() -> None:
    net = _trained_like("edge")
    depth = torch.ones(2, 1, 16, 16)
    depth[0] = torch.nan
    out = net.upsample(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), depth)
    assert torch.isnan(out[0]).all()
    assert torch.isfinite(out[1]).all()


def test_the_spatial_lr_detail_reaches_the_decoder() -> None:
    """AdaIN passes on only statistics: a changed LR patch must show where it lies."""
    net = _trained_like("edge", channels=[16, 16, 16, 16, 16])
    rgb = torch.zeros(1, 3, 128, 128)
    depth = torch.rand(1, 1, 32, 32) + 1
    changed = depth.clone()
    changed[..., 4:8, 4:8] += 0.5

    def residual(lr: torch.Tensor) -> torch.Tensor:
        prediction = net(rgb, lr)
        base = F.interpolate(lr, (128, 128), mode="bilinear", align_corners=False)
        return prediction.normalized - prediction.normalizer.normalize(base)

    with torch.no_grad():
        change = (residual(changed) - residual(depth)).abs()
    inside, far = change[..., 16:32, 16:32].mean(), change[..., 96:, 96:].mean()
    assert inside > 3 * far


def test_scale_of_the_scene_does_not_matter_under_log_normalization() -> None:
    net = _trained_like("edge", normalization="log")
    rgb = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    depth = torch.rand(1, 1, 16, 16) + 1
    torch.testing.assert_close(
        net.upsample(rgb, depth * 40), net.upsample(rgb, depth) * 40, rtol=1e-3, atol=1e-3
    )


def test_a_guide_changes_the_answer_and_its_scale_does_not() -> None:
    net = _trained_like("fast")
    rgb, depth = torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.rand(1, 1, 16, 16) + 1
    guide = 1 / F.interpolate(depth, (64, 64), mode="bilinear")
    with_guide = net.upsample(rgb, depth, guide)
    assert not torch.allclose(with_guide, net.upsample(rgb, depth), atol=1e-3)
    torch.testing.assert_close(net.upsample(rgb, depth, guide * 7 + 3), with_guide, atol=1e-3, rtol=1e-3)


@pytest.fixture
def guide_folder(tmp_path: Path) -> Path:
    """A small Depth Anything with random weights, saved in the hub's layout."""
    return save_tiny_guide(tmp_path / "guide")


def test_depth_anything_guide_runs_at_patch_multiples() -> None:
    guide = DepthAnythingGuide.from_config(short_side=56, **TINY_DEPTH_ANYTHING).eval()
    with torch.inference_mode():
        out = guide(torch.rand(1, 3, 60, 90))
    assert out.shape == (1, 1, 60, 90)
    assert guide_input_size(480, 640, 518) == (518, 686)
    assert guide_input_size(1080, 1920, 518) == (518, 924)


def test_a_guide_is_loaded_from_a_local_folder_and_used(guide_folder: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "fast.safetensors"
    # An untrained guide shows nothing of the scene, and the check would leave it out.
    net = _trained_like("fast", guide_check=False)
    save_checkpoint(checkpoint, net, training={}, metrics={}, version="0")
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    depth = np.random.default_rng(1).random((16, 24), np.float32) + 1
    alone = DepthSuperResolver(checkpoint, variant="fast", device="cpu")
    guided = DepthSuperResolver(checkpoint, variant="fast", device="cpu", guide_path=guide_folder)
    assert "with Depth Anything" in guided.description
    assert np.isfinite(guided(rgb, depth)).all()
    assert not np.allclose(guided(rgb, depth), alone(rgb, depth), atol=1e-3)
    with pytest.raises(ConfigError, match="takes no guide"):
        DepthSuperResolver(variant="edge", device="cpu", guide_path=guide_folder)


def test_a_guide_without_all_its_tensors_is_never_filled_with_random_ones(guide_folder: Path) -> None:
    path = guide_folder / "model.safetensors"
    tensors = {name: value for name, value in load_file(path).items() if not name.startswith("head.")}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks .* tensors of Depth Anything, head"):
        DepthAnythingGuide.from_folder(guide_folder)


@pytest.mark.parametrize("keep", [0, 7, 5000])
def test_a_damaged_guide_is_one_sentence(guide_folder: Path, keep: int) -> None:
    path = guide_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        DepthAnythingGuide.from_folder(guide_folder)


@pytest.mark.parametrize(
    "config",
    [
        "null",
        '{"model_type": "depth_anything", "backbone_config": {"model_type": "dinov2", "hidden_size": "x"}}',
        '{"model_type": "depth_anything", "max_depth": 1, "neck_hidden_sizes": 3}',
    ],
)
def test_a_guide_whose_configuration_has_other_types_is_one_sentence(guide_folder: Path, config: str) -> None:
    (guide_folder / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match="cannot be loaded: .") as caught:
        DepthAnythingGuide.from_folder(guide_folder)
    assert "\n" not in str(caught.value)


def test_a_constant_guide_looks_like_no_guide() -> None:
    assert torch.equal(normalize_guide(torch.full((1, 1, 8, 8), 4.0)), torch.zeros(1, 1, 8, 8))


def test_holes_are_filled_from_their_surroundings_and_measurements_kept() -> None:
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    plane = (1 + 0.05 * x + 0.02 * y)[None, None]
    holed = plane.clone()
    holed[..., 8:14, 10:20] = torch.nan
    valid = valid_mask(holed)
    filled = fill_holes(holed, valid)
    assert torch.equal(filled[valid], plane[valid])
    assert (filled - plane).abs().max() < 0.2 * (plane.max() - plane.min())
    assert fill_holes(torch.zeros(1, 1, 3, 5), torch.zeros(1, 1, 3, 5, dtype=torch.bool)).eq(1).all()


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ({"fusion": "adan"}, "adain"),
        ({"unshuffle": 3}, "1, 2, 4 or 8"),
        ({"channels": [1, 2]}, "5 whole numbers"),
        ({"rel_encoder_blocks": [1, 1]}, "4 whole numbers"),
        ({"width": 8}, "unknown key 'width'"),
        ({"unit_m": -1.0}, "above 0"),
    ],
)
def test_a_bad_configuration_names_value_and_range(overrides: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        model_config("edge", **overrides)


def test_an_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'edge'"):
        model_config("edg")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_network_can_be_compiled_in_one_graph(mode: type[torch.no_grad | torch.inference_mode]) -> None:
    """By dynamo's eager backend, which makes the graph: Inductor takes minutes over it."""
    torch.compiler.reset()
    torch.manual_seed(0)
    net = DepthSRNet(model_config("edge", channels=[8, 8, 12, 12, 16])).eval()
    compiled = torch.compile(net, backend="eager", fullgraph=True, dynamic=False)
    rgb, depth = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8), torch.rand(1, 1, 16, 24) + 1
    with mode():
        found = compiled(rgb, depth).depth
    torch.testing.assert_close(found, net.upsample(rgb, depth))
