# SPDX-License-Identifier: Apache-2.0
"""The ways to run the network: device, runtime, number format, and which are worth a trial."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from depth_sr_ros.compiled import why_not_compiled
from depth_sr_ros.config import ModelConfig
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.models.native import instruction_set, is_built, why_unsupported


class Way(NamedTuple):
    """How the network runs."""

    runtime: str
    precision: str

    def __str__(self) -> str:
        """As a part of a sentence."""
        if self.runtime == "native":
            return f"the {instruction_set()} kernels"
        kinds = {"cuda_graph": "the CUDA graph in ", "compile": "torch.compile in "}
        return kinds.get(self.runtime, "") + self.precision

    @property
    def kernels(self) -> str:
        """What computes, as a part of DepthSuperResolver.description."""
        names = {"torch": "torch", "cuda_graph": "CUDA graph", "compile": "torch.compile"}
        return names.get(self.runtime) or f"{instruction_set()} kernels"

    def has_graphs(self, device: torch.device) -> bool:
        """Whether it runs as CUDA graphs: compiled code leaves fewer kernels to launch, but still many."""
        return self.runtime == "cuda_graph" or self.runtime == "compile" and device.type == "cuda"


REFERENCE = Way("torch", "float32")  # what all others are compared with


def ways_on(device: str, config: ModelConfig) -> tuple[Way, ...]:
    """The ways to run such a network on `device`, as the engine takes it, but those that compile first.

    Raises ConfigError on a wrong device.
    """
    return possible_ways("auto", "auto", resolve_device(device), config)


def possible_ways(runtime: str, precision: str, device: torch.device, config: ModelConfig) -> tuple[Way, ...]:
    """The ways to run the network that the options allow, the one to begin with first.

    Raises ConfigError where there is none.
    """
    exact = precision in ("auto", "float32")
    if runtime == "native" and (device.type != "cpu" or not exact):
        raise ConfigError(
            f"runtime 'native' computes in float32 on a CPU, not in {precision} on {device.type}; use 'torch'"
        )
    if runtime == "cuda_graph" and device.type != "cuda":
        raise ConfigError(f"runtime 'cuda_graph' needs a CUDA device, not {device.type}; use 'torch'")
    if runtime == "compile" and (reason := why_not_compiled(device)):
        raise ConfigError(f"runtime 'compile' is not possible here: {reason}; or use 'auto'")
    precisions = _precisions(device, precision)
    ways = []
    # Where they are asked for by name NativeNetwork says why they are not possible.
    built = device.type == "cpu" and exact and not why_unsupported(config) and is_built()
    if runtime == "native" or runtime == "auto" and built:
        ways.append(Way("native", "float32"))
    if runtime == "cuda_graph" or runtime == "auto" and device.type == "cuda":
        ways += [Way("cuda_graph", name) for name in precisions]
    if runtime in ("torch", "auto"):
        ways += [Way("torch", name) for name in precisions]
    if runtime == "compile":
        ways.append(Way("compile", precisions[0]))  # each takes a minute: only the safe one unasked
    return tuple(ways)


def late_ways(runtime: str, precision: str, device: torch.device) -> tuple[Way, ...]:
    """Those that `auto` tries only where the possible_ways are slow: see trial.WORTH_COMPILING_S.

    On a CPU there is none: the kernels are faster for `edge` and as fast for `fast` (docs/export.md).
    """
    if runtime != "auto" or device.type != "cuda":
        return ()
    return (Way("compile", _precisions(device, precision)[0]),)


def _precisions(device: torch.device, precision: str) -> tuple[str, ...]:
    """Precisions of torch worth a trial, the safe one first; docs/evaluation.md says what the others cost."""
    if precision != "auto":
        return (precision,)
    if device.type == "cuda":
        return ("float16",)
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return ("float32",)
    # AVX-512 and AMX on x86-64, and the Arm extension. Elsewhere bfloat16 is emulated, and slower; with them
    # it is faster on some processors and slower on others.
    return ("float32", "bfloat16") if flags & {"avx512_bf16", "amx_bf16", "bf16"} else ("float32",)


def resolve_device(device: str) -> torch.device:
    """The device that "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N" means, or ConfigError."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device is {device!r}, but must be auto, cpu, cuda or cuda:N") from error
    if resolved.type not in ("cpu", "cuda"):
        raise ConfigError(f"device is {device!r}, but must be auto, cpu, cuda or cuda:N")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is {device!r}, but torch sees {torch.cuda.device_count()} CUDA devices; "
            "use 'auto' or 'cpu'"
        )
    return resolved
