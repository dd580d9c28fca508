# SPDX-License-Identifier: Apache-2.0
"""`depth-sr export`: the network as a file for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FORMATS = ("onnx",)


def export(
    out: Annotated[Path, typer.Option(help="File to write, .onnx.")],
    format: Annotated[str, typer.Option(help="onnx.")] = "onnx",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights (.safetensors); default: those that ship for the variant.")
    ] = None,
    variant: Annotated[str, typer.Option(help="Network variant: edge, fast or challenge.")] = "edge",
    size: Annotated[
        str, typer.Option(help="Width and height of RGB, such as 640x480; dynamic leaves all sizes open.")
    ] = "dynamic",
    depth_size: Annotated[
        str | None, typer.Option(help="Width and height of depth, such as 160x120; goes with --size.")
    ] = None,
    precision: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
) -> None:
    """Write the network for other runtimes (needs depth_sr_ros\\[onnx]), once it agrees with torch."""
    from rich.console import Console

    from depth_sr_ros.config import VARIANTS, check_choice
    from depth_sr_ros.errors import ConfigError
    from depth_sr_ros.image_size import size_of

    check_choice("format", format, FORMATS)
    check_choice("variant", variant, VARIANTS)
    if (size == "dynamic") != (depth_size is None):
        raise ConfigError("--size WIDTHxHEIGHT and --depth-size go together, and --size dynamic stands alone")
    sizes = None if depth_size is None else (size_of(size), size_of(depth_size))

    from depth_sr_ros.onnx_export import BOUNDS, export_onnx

    console = Console(stderr=True)
    with console.status("loading the weights") as status:
        found = export_onnx(
            out, checkpoint, variant=variant, sizes=sizes, precision=precision, advance=status.update
        )
    for name, text in (found.inputs | found.outputs).items():
        typer.echo(f"{name}: {text}")
    typer.echo(
        f"{out}: ONNX Runtime differs from torch by at most {found.difference:.1e} over {found.frames} "
        f"frames (allowed: {BOUNDS[precision]:g})"
    )
