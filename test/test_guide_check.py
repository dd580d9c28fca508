# SPDX-License-Identifier: Apache-2.0
"""A guide that shows something else than the depth sensor measured is left out; a right one passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.config import model_config
from depth_sr_ros.models.depth_sr import DepthSRNet, LRInput
from depth_sr_ros.models.guide import normalize_guide
from depth_sr_ros.models.guide_check import checked_guide
from depth_sr_ros.models.native import is_built
from depth_sr_ros.transfer import StagedTransfer
from training.data.procedural import SceneGenerator
from training.simulated_guide import GuideErrors, perfect_guide, simulated_guide

SCALE = 4


@pytest.fixture(scope="module")
def depth() -> torch.Tensor:
    """Six scenes (6, 1, 192, 256), metres, NaN = no surface."""
    _, metres = SceneGenerator()(6, 192, 256, torch.Generator().manual_seed(3))
    return torch.where(metres.isfinite(), metres, torch.nan)


def seen(depth: torch.Tensor, noise: float = 0.0) -> LRInput:
    lr = depth[..., SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
    wobble = torch.randn(lr.shape, generator=torch.Generator().manual_seed(1))
    return LRInput.from_depth(lr * (1 + noise * wobble), model_config("fast"))


def share_kept(relative: torch.Tensor, depth: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
    """How much of each sample's guide is left, (B,)."""
    normal, lr = normalize_guide(relative), seen(depth, noise)
    checked, share = checked_guide(normal, lr.filled, lr.mask)
    assert share.shape == (len(depth), 1, 1, 1)
    torch.testing.assert_close(checked, normal * share)
    return share.flatten()


@pytest.mark.parametrize(("noise", "kept"), [(0.0, 0.999), (0.01, 0.999), (0.02, 0.8)])
def test_a_right_guide_passes_unchanged(depth: torch.Tensor, noise: float, kept: float) -> None:
    assert share_kept(perfect_guide(depth), depth, noise).min() > kept


def test_half_of_depth_anythings_kind_of_errors_pass_as_they_are(depth: torch.Tensor) -> None:
    errors = GuideErrors(shift=1.0, blur=1.5)
    kept = share_kept(simulated_guide(depth, errors, torch.Generator().manual_seed(0)), depth, 0.02)
    assert (kept > 0.999).sum() == 3  # scenes of few things lose theirs: it would have brought them little


def test_the_guides_of_other_pictures_and_of_none_are_left_out(depth: torch.Tensor) -> None:
    assert share_kept(perfect_guide(depth).roll(1, 0), depth, 0.02).max() == 0
    assert share_kept(of_no_picture(len(depth)), depth, 0.02).max() == 0


def of_no_picture(count: int) -> torch.Tensor:
    """Slopes and three blobs with sharp borders each (count, 1, 192, 256)."""
    generator = torch.Generator().manual_seed(0)

    def field(*nodes: int) -> torch.Tensor:
        coarse = torch.randn(count, 1, *nodes, generator=generator)
        return torch.nn.functional.interpolate(coarse, (192, 256), mode="bicubic", align_corners=True)

    slope = field(4, 5)
    for _ in range(3):
        blob = field(6, 8) > 0.7
        slope = torch.where(blob, slope + 2 * torch.randn(count, 1, 1, 1, generator=generator), slope)
    return slope


def test_a_guide_upside_down_in_depth_is_left_out(depth: torch.Tensor) -> None:
    """Far where the depth is near: somebody gave depth instead of inverse depth."""
    assert share_kept(-perfect_guide(depth), depth).max() == 0


def test_scale_and_offset_of_the_guide_and_the_unit_of_the_depth_do_not_matter(depth: torch.Tensor) -> None:
    guide = simulated_guide(depth, GuideErrors(), torch.Generator().manual_seed(5))
    expected = share_kept(guide, depth)
    torch.testing.assert_close(share_kept(700 * guide - 3, depth), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(share_kept(guide, 5 * depth), expected, atol=1e-3, rtol=0)


def test_samples_do_not_influence_each_other(depth: torch.Tensor) -> None:
    guide = perfect_guide(depth)
    guide[1] = guide[2]
    kept = share_kept(guide, depth)
    assert kept[1] == 0 and kept[[0, 2, 3, 4, 5]].min() > 0.999


def test_flat_depth_and_depth_without_a_measurement_give_no_nan() -> None:
    for value in (2.0, torch.nan):
        depth = torch.full((1, 1, 64, 64), value)
        lr = LRInput.from_depth(depth[..., ::SCALE, ::SCALE], model_config("fast"))
        checked, share = checked_guide(normalize_guide(torch.rand(1, 1, 64, 64)), lr.filled, lr.mask)
        assert bool((checked == 0).all()) and share.item() == 0


def test_the_network_answers_a_wrong_guide_as_none_at_all(depth: torch.Tensor) -> None:
    torch.manual_seed(0)
    net = DepthSRNet(model_config("fast", channels=[8, 8, 8, 8, 8])).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    rgb, lr = torch.rand(6, 3, 192, 256).mul(255).byte(), depth[..., 2::SCALE, 2::SCALE]
    without, right = net.upsample(rgb, lr), net.upsample(rgb, lr, perfect_guide(depth))
    assert torch.equal(net.upsample(rgb, lr, perfect_guide(depth).roll(1, 0)), without)
    assert not torch.allclose(right, without)


class Remembered(torch.nn.Module):
    """In place of Depth Anything, which the tests have untrained alone: gives what it was told to."""

    def __init__(self, relative_depth: torch.Tensor) -> None:
        super().__init__()
        self.relative_depth = relative_depth

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        return self.relative_depth


RUNTIMES = ["torch", pytest.param("native", marks=pytest.mark.skipif(not is_built(), reason="no compiler"))]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_engine_says_how_much_of_the_guide_an_answer_took(depth: torch.Tensor, runtime: str) -> None:
    engine = DepthSuperResolver(device="cpu", variant="fast", runtime=runtime, precision="float32")
    rgb, lr = np.zeros((192, 256, 3), np.uint8), depth[0, 0, 2::SCALE, 2::SCALE].numpy()
    without = engine(rgb, lr)
    assert engine.guide_share is None and engine.info["guide"] == "none: guide.path is empty"
    right, wrong = (perfect_guide(depth)[i : i + 1] for i in (0, 1))
    expected: dict[float, np.ndarray] = {0.0: without}
    for guide, share in ((right, 1.0), (wrong, 0.0)):
        engine._model.guide = Remembered(guide)  # type: ignore[assignment]
        engine.forget()
        answer = engine(rgb, lr)
        assert (answer.shape, engine.guide_share) == ((192, 256), share)
        np.testing.assert_array_equal(answer, expected.setdefault(share, answer))
    assert not np.allclose(expected[1.0], without)


def test_the_share_of_frames_under_way_is_that_of_the_last_result(depth: torch.Tensor) -> None:
    """With the staging of a GPU: it travels with the maps, of its own frame."""
    engine = DepthSuperResolver(device="cpu", variant="fast", runtime="torch", precision="float32")
    engine._transfer = StagedTransfer(torch.device("cpu"))
    rgb, lr = np.zeros((192, 256, 3), np.uint8), depth[0, 0, 2::SCALE, 2::SCALE].numpy()
    guides = {1.0: perfect_guide(depth)[:1], 0.0: perfect_guide(depth)[1:2]}
    pending = {}
    for share, guide in guides.items():
        engine._model.guide = Remembered(guide)  # type: ignore[assignment]
        engine.forget()
        pending[share] = engine.submit(rgb, lr, max_fill_distance=3)
    for share in (0.0, 1.0):
        found = pending[share].result().metres
        assert (found.shape, engine.guide_share) == ((192, 256), share)
