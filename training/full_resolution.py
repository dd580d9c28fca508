# SPDX-License-Identifier: Apache-2.0
"""A start for `challenge` from trained `fast`: python training/full_resolution.py FAST --out START"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from torch import Tensor

    from depth_sr_ros.models.depth_sr import DepthSRNet

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
STEM = ".stem.weight"


def at_full_resolution(net: DepthSRNet) -> DepthSRNet:
    """A `challenge` network whose cells are single pixels, with the weights of one of larger cells.

    A cell of one colour and depth is to the new one what a pixel was: on an image enlarged by repeating its
    pixels the old U-Net has the features that the new one has on the image itself. So stems sum the weights
    of a cell's pixels, and what answered each pixel answers with their mean.
    """
    from depth_sr_ros.models.depth_sr import DepthSRNet

    config = dataclasses.replace(net.config, variant="challenge", unshuffle=1)
    new = DepthSRNet(config)
    pixels = net.config.unshuffle**2
    sizes = {name: value.shape for name, value in new.state_dict().items()}
    new.load_state_dict(
        {
            name: value if value.shape == sizes[name] else _of_one_pixel(name, value, pixels)
            for name, value in net.state_dict().items()
        }
    )
    return new


def _of_one_pixel(name: str, value: Tensor, pixels: int) -> Tensor:
    if name.endswith(STEM):  # (outputs, channels x pixels, 3, 3)
        return value.unflatten(1, (-1, pixels)).sum(2)
    return value.unflatten(0, (pixels, -1)).mean(0)


@app.command()
def convert(
    weights: Annotated[Path, typer.Argument(help="a .safetensors file of fast")],
    out: Annotated[Path, typer.Option(help="where the start goes")],
) -> None:
    """Make a network at full resolution that knows what FAST learned; train it further with --init-from."""
    from depth_sr_ros import __version__
    from depth_sr_ros.errors import ConfigError
    from depth_sr_ros.models.checkpoint import load_checkpoint, save_checkpoint, weights_hash
    from training.command_line import errors_in_one_sentence

    with errors_in_one_sentence():
        net, header = load_checkpoint(weights)
        if header.variant != "fast":
            raise ConfigError(f"{weights} holds {header.variant!r}, but this takes weights of 'fast'")
        about = {"at_full_resolution": f"{weights.name} ({weights_hash(weights)})"}
        save_checkpoint(out, at_full_resolution(net), training=about, metrics={}, version=__version__)
    typer.echo(f"wrote {out}; go on with: python training/train.py --config challenge_cpu --init-from {out}")


if __name__ == "__main__":
    app()
