# SPDX-License-Identifier: Apache-2.0
"""Brings blocks that add nothing back to life, or removes them: python training/revive.py WEIGHTS --out START

AdaIN takes the scale of the relative-depth features away, so nothing keeps it small: in the training of
`edge` it grew by a million, and NAFNet blocks, whose answers stay as they are, came to add nothing. A new
block, whose weights are small at first and whose residual scales are zero, adds next to nothing for
thousands of steps.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch
import typer
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from depth_sr_ros.models.depth_sr import DepthSRNet
    from depth_sr_ros.models.fusion_unet import Encoder

DEAD = 1e-2  # of the spread of what a block is given: one that adds less is dead
FRAMES, SIZE, FACTOR, SEED = 4, (480, 640), 4, 0  # procedural ones, on which spreads are measured

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@torch.no_grad()
def shrink(encoder: Encoder) -> None:
    """Give the convolutions of the relative-depth path the size of weights that they start training with.

    What follows AdaIN stays the same: each level's features are scaled as a whole.
    """
    scale = _resize(encoder.stem, 1.0)
    for stage, down in zip(encoder.stages, encoder.downs, strict=True):
        for name, parameter in stage.named_parameters():
            if name.endswith((".beta", ".gamma")):
                parameter.mul_(scale)
        scale = _resize(down, scale)


def _resize(layer: nn.Module, scale: float) -> float:
    """Scale a convolution whose input was scaled by `scale`; returns the scale of its output."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
    # torch begins with a uniform distribution between -1 and 1 over the root of the inputs of an output.
    change = float((3 * weight[0].numel()) ** -0.5 / weight.std())
    weight.mul_(change)
    bias.mul_(scale * change)
    return scale * change


class Spreads(NamedTuple):
    """Of what a block is given, of what it adds, and of what its two branches answer."""

    given: Tensor
    added: Tensor
    branches: tuple[Tensor, Tensor]

    @property
    def share(self) -> float:
        """What is added, in spreads of what is given."""
        return float(self.added / self.given)


@torch.no_grad()
def block_spreads(net: DepthSRNet, rgb: Tensor, depth_lr: Tensor) -> dict[str, Spreads]:
    """Of all NAFNet blocks by name; rgb (B, 3, H, W) in [0, 1], depth_lr (B, 1, h, w) metres."""
    from depth_sr_ros.models.nafnet import NAFBlock

    blocks = {name: module for name, module in net.named_modules() if isinstance(module, NAFBlock)}
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen[module] = (inputs[0], output)

    watched = [m for b in blocks.values() for m in (b, b.project, b.project2)]
    hooks = [module.register_forward_hook(note) for module in watched]
    net(rgb, depth_lr)
    for hook in hooks:
        hook.remove()
    spreads = {}
    for name, block in blocks.items():
        given, answer = seen[block]
        branches = (_spread(seen[block.project][1]), _spread(seen[block.project2][1]))
        spreads[name] = Spreads(_spread(given), _spread(answer - given), branches)
    return spreads


def dead_blocks(spreads: dict[str, Spreads]) -> list[str]:
    """The names of those that add next to nothing."""
    return [name for name, each in spreads.items() if each.share < DEAD]


@torch.no_grad()
def revive(net: DepthSRNet, spreads: dict[str, Spreads]) -> list[str]:
    """Scale what dead blocks compute to the spread of what they are given, and their residual scales to zero.

    They then add nothing, and a small step of a residual scale is seen. Returns their names.
    """
    dead = dead_blocks(spreads)
    for name in dead:
        block = net.get_submodule(name)
        for layer, spread in zip((block.project, block.project2), spreads[name].branches, strict=True):
            factor = spreads[name].given / spread.clamp_min(1e-12)
            for parameter in layer.parameters():  # type: ignore[union-attr]
                parameter.mul_(factor)
        for scale in (block.beta, block.gamma):
            scale.zero_()  # type: ignore[operator]
    return dead


def without(net: DepthSRNet, names: list[str]) -> DepthSRNet:
    """The network without the NAFNet blocks of those names."""
    from depth_sr_ros.models.depth_sr import DepthSRNet
    from depth_sr_ros.models.nafnet import NAFStage

    net, counts = copy.deepcopy(net), {}
    for stage_name, stage in net.named_modules():
        if isinstance(stage, NAFStage):
            blocks = {f"{stage_name}.blocks.{i}": block for i, block in enumerate(stage.blocks)}
            stage.blocks = nn.ModuleList(block for name, block in blocks.items() if name not in names)
            counts[stage_name] = len(stage.blocks)

    def levels(path: str) -> tuple[int, ...]:
        return tuple(counts[f"unet.{path}.{level}"] for level in range(4))

    config = dataclasses.replace(
        net.config,
        encoder_blocks=levels("lr_encoder.stages"),
        rel_encoder_blocks=levels("rel_encoder.stages"),
        middle_blocks=counts["unet.middle"],
        decoder_blocks=levels("decoder"),
    )
    smaller = DepthSRNet(config)
    smaller.load_state_dict(net.state_dict())
    return smaller


@torch.no_grad()
def relative_change(net: DepthSRNet, other: DepthSRNet, rgb: Tensor, depth_lr: Tensor) -> Tensor:
    """By how much of its depth each pixel changes where `other` takes the place of `net`: (B, 1, H, W)."""
    before = net(rgb, depth_lr).depth
    return (other(rgb, depth_lr).depth - before).abs() / before


def _spread(x: Tensor) -> Tensor:
    """The median over channels of their standard deviations."""
    return x.std((0, 2, 3)).median()


def calibration_frames() -> tuple[Tensor, Tensor]:
    """Procedural RGB (B, 3, H, W) in [0, 1] and LR depth (B, 1, h, w), metres, always the same."""
    from training.data.procedural import SceneGenerator

    rgb, depth = SceneGenerator()(FRAMES, *SIZE, torch.Generator().manual_seed(SEED))
    return rgb, depth[..., ::FACTOR, ::FACTOR].contiguous()


@app.command()
def convert(
    weights: Annotated[Path, typer.Argument(help="a .safetensors file")],
    out: Annotated[Path, typer.Option(help="where the start goes")],
    remove: Annotated[bool, typer.Option(help="leave out what is dead instead: as good, and faster")] = False,
) -> None:
    """Make a start for further training in which all blocks can learn; its answers are those of WEIGHTS."""
    from depth_sr_ros import __version__
    from depth_sr_ros.models.checkpoint import load_checkpoint, name_and_hash, save_checkpoint
    from training.command_line import errors_in_one_sentence

    with errors_in_one_sentence():
        net, header = load_checkpoint(weights)
        source, frames = name_and_hash(weights), calibration_frames()
        if remove:
            spreads = block_spreads(net, *frames)
            dead, done = dead_blocks(spreads), "removed"
            start = without(net, dead)
            change = relative_change(net, start, *frames)
            about, metrics = {**header.training, "dead_blocks_removed": source}, header.metrics
        else:
            shrink(net.unet.rel_encoder)
            spreads = block_spreads(net, *frames)
            dead, done = revive(net, spreads), "revived"
            start, change = net, None
            about, metrics = {"revived": source}, {}
        save_checkpoint(out, start, training=about, metrics=metrics, version=__version__)
    typer.echo("what each block had added, in spreads of what it was given:")
    for name, each in spreads.items():
        typer.echo(f"{each.share:8.1e}  {name}{f'  ({done})' if name in dead else ''}")
    if change is not None:
        mean, most = float(change.mean()), float(change.max())
        typer.echo(f"without them depth changes by {mean:.1e} of itself in the mean, {most:.1e} at most")
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    app()
