# SPDX-License-Identifier: Apache-2.0
"""Random tensors beside another one: on its device, from a generator that a sample's seed began."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def uniform(shape: tuple[int, ...] | torch.Size, like: Tensor, generator: Generator) -> Tensor:
    """Numbers in [0, 1) on the device of `like`."""
    return torch.rand(shape, generator=generator, device=like.device)


def normal(shape: tuple[int, ...] | torch.Size, like: Tensor, generator: Generator) -> Tensor:
    """Numbers of zero mean and unit variance on the device of `like`."""
    return torch.randn(shape, generator=generator, device=like.device)


def normal_each(shape: tuple[int, ...] | torch.Size, like: Tensor, generators: Sequence[Generator]) -> Tensor:
    """As `normal`, the first axis a sample: each draws from its own generator, whatever the others are."""
    return torch.cat([normal((1, *shape[1:]), like, each) for each in generators])


def log_uniform(
    span: tuple[float, float], shape: tuple[int, ...] | torch.Size, like: Tensor, generator: Generator
) -> Tensor:
    """Numbers whose logarithm is uniform between those of `span` on the device of `like`."""
    low, high = (torch.tensor(value).log() for value in span)
    return torch.exp(low + (high - low) * uniform(shape, like, generator))
