# SPDX-License-Identifier: Apache-2.0
"""A start for `fast` from trained `edge`: python training/guided_start.py EDGE --out START"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from depth_sr_ros.models.depth_sr import DepthSRNet

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
GUIDED_STEM = "unet.rel_encoder.stem.weight"


def with_guide(net: DepthSRNet) -> DepthSRNet:
    """A `fast` network that answers as `net` does, one of `edge`, whatever its guide says.

    What reads the guide starts at zero, and a block that `net` has not is the identity.
    """
    import torch

    from depth_sr_ros.config import model_config
    from depth_sr_ros.models.depth_sr import DepthSRNet

    config = model_config("fast")
    taken = ("channels", "unshuffle", "fusion", "head", "propagation", "back_projection", "confidence")
    config = dataclasses.replace(config, **{name: getattr(net.config, name) for name in taken})
    new = DepthSRNet(config)
    old, weights = net.state_dict(), new.state_dict()
    for name, value in old.items():
        if name == GUIDED_STEM:  # the guide's pixels come before those of RGB
            guided = weights[name].shape[1] - value.shape[1]
            value = torch.cat([torch.zeros_like(value[:, :guided]), value], 1)
        weights[name] = value
    new.load_state_dict(weights)
    return new


@app.command()
def convert(
    weights: Annotated[Path, typer.Argument(help="a .safetensors file of edge")],
    out: Annotated[Path, typer.Option(help="where the start goes")],
) -> None:
    """Make a `fast` network that knows what EDGE learned; train it with a guide by --init-from."""
    from depth_sr_ros import __version__
    from depth_sr_ros.errors import ConfigError
    from depth_sr_ros.models.checkpoint import load_checkpoint, save_checkpoint, weights_hash
    from training.command_line import errors_in_one_sentence

    with errors_in_one_sentence():
        net, header = load_checkpoint(weights)
        if header.variant != "edge":
            raise ConfigError(f"{weights} holds {header.variant!r}, but this takes weights of 'edge'")
        about = {"with_guide": f"{weights.name} ({weights_hash(weights)})"}
        save_checkpoint(out, with_guide(net), training=about, metrics={}, version=__version__)
    typer.echo(f"wrote {out}; go on with: python training/train.py --config fast_cpu --init-from {out}")


if __name__ == "__main__":
    app()
