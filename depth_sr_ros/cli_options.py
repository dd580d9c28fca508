# SPDX-License-Identifier: Apache-2.0
"""Options that several commands of `depth-sr` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[
    Path | None, typer.Option(help="Weights (.safetensors); default: those that ship for the variant.")
]
Variant = Annotated[str, typer.Option(help="Network variant: edge, fast or challenge.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; default: torch's choice.")]
JsonFile = Annotated[Path | None, typer.Option(help="Also write the numbers to this file.")]
