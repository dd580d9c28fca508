# SPDX-License-Identifier: Apache-2.0
"""Confidence: what it means, that it never changes the answer, how it is trained, how it is judged."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from depth_sr_ros import DepthSuperResolver
from depth_sr_ros.config import VARIANTS, ModelConfig
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.models import native
from depth_sr_ros.models.checkpoint import load_checkpoint, save_checkpoint
from depth_sr_ros.models.confidence import TOLERANCE, confidence_of
from depth_sr_ros.models.depth_sr import DepthSRNet
from training.config import load_config
from training.data.batches import BatchMaker
from training.evaluate_confidence import TOLERANCE as JUDGED_TOLERANCE
from training.evaluate_confidence import app, calibration, spearman
from training.losses import laplace_loss
from training.module import DepthSRModule
from training.runner import run_training

SMALL = dataclasses.replace(VARIANTS["edge"], channels=(16, 32, 48, 64, 80), confidence=True)
needs_kernels = pytest.mark.skipif(not native.is_built(), reason="there is no C++ compiler here")


def random_net(config: ModelConfig = SMALL) -> DepthSRNet:
    torch.manual_seed(0)
    net = DepthSRNet(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)
    return net.eval()


def frame() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rgb = torch.randint(0, 256, (1, 3, 70, 102), generator=generator, dtype=torch.uint8)
    return rgb, torch.rand(1, 1, 18, 26, generator=generator) + 1


def save(net: DepthSRNet, path: Path) -> Path:
    save_checkpoint(path, net, training={}, metrics={}, version="0")
    return path


def test_it_is_the_chance_of_a_laplace_distribution() -> None:
    scale = torch.tensor([0.002, 0.02, 0.05, 0.5])
    draws = torch.distributions.Laplace(0.0, scale).sample((200_000,))
    within = (draws.abs() < TOLERANCE).float().mean(0)
    torch.testing.assert_close(confidence_of(scale.log()), within, atol=4e-3, rtol=0)
    assert JUDGED_TOLERANCE == TOLERANCE


def test_the_answer_is_the_same_with_and_without_it() -> None:
    net, (rgb, lr) = random_net(), frame()
    depth, confidence, _ = net.estimate(rgb, lr, confidence=True)
    assert confidence is not None
    torch.testing.assert_close(depth, net.upsample(rgb, lr), atol=0, rtol=0)
    assert confidence.shape == depth.shape and float(confidence.min()) > 0 and float(confidence.max()) < 1
    assert float(confidence.std()) > 0.001
    nothing = net.estimate(rgb, torch.full_like(lr, torch.nan), confidence=True).confidence
    assert nothing is not None and bool(nothing.isnan().all())


@needs_kernels
def test_the_kernels_give_the_same() -> None:
    net, (rgb, lr) = random_net(), frame()
    found = native.NativeNetwork(net, threads=1).estimate(rgb, lr, confidence=True)[:2]
    for one, other in zip(found, net.estimate(rgb, lr, confidence=True)[:2], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_engine_gives_both_and_masks_both(tmp_path: Path) -> None:
    engine = DepthSuperResolver(save(random_net(), tmp_path / "net.safetensors"), device="cpu")
    rgb, lr = np.zeros((70, 102, 3), np.uint8), np.full((18, 26), 2.0, np.float32)
    lr[:, 13:] = np.nan
    depth, confidence = engine.with_confidence(rgb, lr, max_fill_distance=2)
    np.testing.assert_array_equal(depth, engine(rgb, lr, max_fill_distance=2))
    np.testing.assert_array_equal(np.isnan(confidence), np.isnan(depth))
    assert 0.3 < np.isnan(depth).mean() < 0.5


def test_weights_without_it_say_so(tmp_path: Path) -> None:
    net = random_net(dataclasses.replace(SMALL, confidence=False))
    engine = DepthSuperResolver(save(net, tmp_path / "net.safetensors"), device="cpu")
    assert not engine.has_confidence
    with pytest.raises(ConfigError, match=r"net\.safetensors have no confidence; train them with"):
        engine.with_confidence(np.zeros((64, 64, 3), np.uint8), np.ones((16, 16), np.float32))


def test_the_loss_is_least_at_the_mean_error_and_leaves_the_answer_alone() -> None:
    depth = torch.full((1, 1, 50, 50), 2.0, requires_grad=True)
    target = 2.0 + 2.0 * torch.distributions.Laplace(0.0, 0.03).sample((1, 1, 50, 50))
    target[..., :5] = torch.nan
    valid = torch.isfinite(target)
    best = float(((target[valid] - 2) / 2).abs().mean())
    losses = {}
    for scale in (0.5 * best, best, 2 * best):
        log_scale = torch.full_like(target, math.log(scale), requires_grad=True)
        losses[scale] = laplace_loss(depth, log_scale, target, valid)
    assert losses[best] < min(losses[0.5 * best], losses[2 * best])
    losses[best].backward()
    assert depth.grad is None


def test_fine_tuning_trains_it_along_and_the_answer_does_not_notice() -> None:
    """A confidence that stayed as it was would speak of features that are no longer there."""
    sources = ["data.sources=[{kind: procedural}]", "data.crop=[64, 64]", "data.workers=0"]
    gradients = {}
    for laplace in (0.0, load_config("finetune", sources).loss.laplace):
        config = load_config("finetune", [*sources, f"loss.laplace={laplace}"])
        module = DepthSRModule(config, random_net(config.model))
        batch = BatchMaker(config)(0)
        answer = module.net(batch["rgb"], batch["depth_lr"], confidence=laplace > 0)
        module._loss(answer, batch["depth"])["loss"].backward()
        gradients[laplace] = {name: p.grad for name, p in module.named_parameters()}
    without, trained = gradients.values()
    for name, gradient in trained.items():
        if "confidence_head" in name:
            assert without[name] is None and gradient is not None and gradient.abs().max() > 0
        elif gradient is not None:
            torch.testing.assert_close(gradient, without[name], msg=name)


def test_training_the_head_alone_leaves_all_else_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPTH_SR_DATA", str(tmp_path / "absent"))
    before = random_net(dataclasses.replace(SMALL, confidence=False))
    start = save(before, tmp_path / "start.safetensors")
    config = load_config(
        "edge_confidence",
        [
            "data.sources=[{kind: procedural}]",
            "data.crop=[64, 64]",
            "data.workers=0",
            "optim.steps=4",
            "optim.ema_decay=0.0",
            "run.epoch_steps=4",
            "run.validation_frames=1",
            f"model.channels={list(SMALL.channels)}",
        ],
    )
    threads = torch.get_num_threads()
    trained, header = load_checkpoint(run_training(config, tmp_path / "run", init_from=start))
    assert torch.get_num_threads() == threads and torch.tensor(1e-40) * 1.0 > 0, "the process is as before"
    assert header.model.confidence and header.training["optim"]["parts"] == "confidence"
    fresh = DepthSRNet(SMALL).state_dict()
    kept = load_checkpoint(start)[0].state_dict()
    for name, value in trained.state_dict().items():
        if name.startswith("confidence_head."):
            assert name.endswith("hidden.bias") or not torch.equal(value, fresh[name]), name
        else:
            assert torch.equal(value, kept[name]), name


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (["model.confidence=false"], "model.confidence: true"),
        (["loss.laplace=0.0", "loss.l1=1.0"], "from which it learns, is 0"),
        (["optim.parts=confidnce"], "did you mean 'confidence'"),
    ],
)
def test_what_cannot_be_trained_is_named(changes: list[str], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load_config("edge_confidence", changes)


def test_calibration_of_a_perfect_and_of_a_useless_confidence() -> None:
    rng = np.random.default_rng(0)
    scale = np.exp(rng.uniform(-6, -1, 20_000))
    error = np.abs(rng.laplace(0, scale))
    good = calibration([scale], [error])
    assert good.spearman > 0.7 and good.is_monotone
    np.testing.assert_allclose(good.confidence, good.within, atol=0.05)
    useless = calibration([rng.random(20_000)], [error])
    assert abs(useless.spearman) < 0.03 and not useless.is_monotone
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([9.0, 5.0, 1.0])) == pytest.approx(-1)


def test_numbers_that_cannot_be_written_are_said_before_the_work(tmp_path: Path) -> None:
    words = ["--checkpoint", str(tmp_path / "none"), "--out", str(tmp_path / "absent" / "numbers.json")]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 2 and "absent does not exist: make it first" in ended.output
