# SPDX-License-Identifier: Apache-2.0
"""Averages two networks' weights: python training/average.py A B --share 0.7 --out C"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def average(
    first: Annotated[Path, typer.Argument(help="a .safetensors file")],
    second: Annotated[Path, typer.Argument(help="another of the same architecture")],
    out: Annotated[Path, typer.Option(help="where the average goes")],
    share: Annotated[float, typer.Option(help="of the second one, 0 to 1")] = 0.5,
) -> None:
    """Average two checkpoints, of which one was trained on from the other.

    Between such a pair the average is often better than both (Wortsman et al., Model soups, ICML 2022). A
    confidence head is averaged too, and wants to be trained again: --config edge_confidence.
    """
    from depth_sr_ros import __version__
    from depth_sr_ros.depth_io import check_writable
    from depth_sr_ros.errors import ConfigError
    from depth_sr_ros.models.checkpoint import load_checkpoint, name_and_hash, save_checkpoint
    from training.command_line import errors_in_one_sentence

    with errors_in_one_sentence():
        if not 0 <= share <= 1:
            raise ConfigError(f"--share is {share}, but must be from 0 to 1")
        check_writable(out)
        (net, header), (other, other_header) = load_checkpoint(first), load_checkpoint(second)
        if header.model != other_header.model:
            raise ConfigError(f"{first} and {second} hold networks of different architectures")
        values = other.state_dict()
        net.load_state_dict(
            {name: value.lerp(values[name], share) for name, value in net.state_dict().items()}
        )
        about = {"average_of": [name_and_hash(first), name_and_hash(second)], "share_of_the_second": share}
        save_checkpoint(out, net, training=about, metrics={}, version=__version__)
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    app()
