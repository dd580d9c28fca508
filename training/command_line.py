# SPDX-License-Identifier: Apache-2.0
"""What the scripts of this folder share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer

from depth_sr_ros.errors import DepthSRError


@contextlib.contextmanager
def errors_in_one_sentence() -> Iterator[None]:
    """Within it an error of ours is one sentence on stderr and exit code 2, never a traceback."""
    try:
        yield
    except DepthSRError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
