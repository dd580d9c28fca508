# SPDX-License-Identifier: Apache-2.0
"""A start for `fast` from trained `edge`: python training/guided_start.py EDGE --out START"""

from __future__ import annotations

import copy
import dataclasses
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from depth_sr_ros.models.depth_sr import DepthSRNet

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
# What makes it another network than the one it begins as.
OF_FAST = (
    "variant",
    "encoder_blocks",
    "rel_encoder_blocks",
    "middle_blocks",
    "decoder_blocks",
    "guide",
    "guide_check",
)
GUIDED_STEM = "unet.rel_encoder.stem.weight"
A_NEW_BLOCK = re.compile(r"\.blocks\.\d+\.")
GUIDE_SHARE = 0.2  # of a grey picture's weights


def with_guide(net: DepthSRNet) -> DepthSRNet:
    """A `fast` network that answers as `net` does, one of `edge`, without a guide.

    It sees a guide as a faint picture, whose edges are edges of depth. Blocks that `net` has not begin as
    copies of its own that add nothing yet; see `revive`.
    """
    import torch

    from depth_sr_ros.config import VARIANTS
    from depth_sr_ros.models.depth_sr import DepthSRNet
    from training.revive import block_spreads, calibration_frames, revive, shrink

    fast = dataclasses.asdict(VARIANTS["fast"])
    new = DepthSRNet(dataclasses.replace(net.config, **{name: fast[name] for name in OF_FAST}))
    net = copy.deepcopy(net)
    shrink(net.unet.rel_encoder)
    old, weights = net.state_dict(), new.state_dict()
    for name in weights:
        if name == GUIDED_STEM:  # the guide's pixels come before those of RGB
            colours = old[name].unflatten(1, (3, -1))
            value = torch.cat([GUIDE_SHARE * colours.sum(1), old[name]], 1)
        elif name in old:
            value = old[name]
        else:
            # Of the relative-depth path those blocks may be dead, or become twins.
            value = old[A_NEW_BLOCK.sub(".blocks.0.", name.replace("rel_encoder", "lr_encoder"))]
            value = torch.zeros_like(value) if name.endswith((".beta", ".gamma")) else value
        weights[name] = value
    new.load_state_dict(weights)
    revive(new, block_spreads(new, *calibration_frames()))
    return new


@app.command()
def convert(
    weights: Annotated[Path, typer.Argument(help="a .safetensors file of edge")],
    out: Annotated[Path, typer.Option(help="where the start goes")],
) -> None:
    """Make a `fast` network that knows what EDGE learned; train it with a guide by --init-from."""
    from depth_sr_ros import __version__
    from depth_sr_ros.errors import ConfigError
    from depth_sr_ros.models.checkpoint import load_checkpoint, name_and_hash, save_checkpoint
    from training.command_line import errors_in_one_sentence

    with errors_in_one_sentence():
        net, header = load_checkpoint(weights)
        if header.variant != "edge":
            raise ConfigError(f"{weights} holds {header.variant!r}, but this takes weights of 'edge'")
        about = {"with_guide": name_and_hash(weights)}
        save_checkpoint(out, with_guide(net), training=about, metrics={}, version=__version__)
    typer.echo(f"wrote {out}; go on with: python training/train.py --config fast_cpu --init-from {out}")


if __name__ == "__main__":
    app()
