# SPDX-License-Identifier: Apache-2.0
"""How long other runtimes take for the network on a CPU, beside torch and the package's kernels."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from depth_sr_ros.benchmark import WARM_UP_FRAMES, synthetic_frame
from depth_sr_ros.benchmark_report import print_load
from depth_sr_ros.compiled import CompiledNetwork
from depth_sr_ros.config import VARIANTS, check_choice
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.image_size import Sizes, check_sides, size_text
from depth_sr_ros.models.checkpoint import load_checkpoint, shipped_checkpoint
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.models.native import NativeNetwork
from depth_sr_ros.onnx_check import Inputs, inputs_of
from depth_sr_ros.onnx_export import export_onnx

COMPARED = ("torch", "compile", "native", "onnxruntime", "openvino")
Run = Callable[[Inputs], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class RuntimeTiming:
    """One runtime and precision at one size."""

    sizes: str
    name: str
    threads: int
    least_ms: float
    median_ms: float
    difference: float
    """Largest from torch in float32, as a share of the depth."""


def run_runtime_benchmark(
    checkpoint: Path | None,
    variant: str,
    runtimes: Sequence[str],
    sizes: Sequence[Sizes],
    threads: Sequence[int],
    frames: int,
    json_file: Path | None,
    console: Console,
) -> None:
    """Run the U-Net's runtimes in turn, frame by frame, so that a busy machine slows all of them alike.

    What a guide costs is not in it: where the variant has one the image's brightness takes its place. Raises
    ConfigError on a figure out of range or a runtime that is not installed, and what the export raises.
    """
    if frames < 1 or any(count < 1 for count in threads):
        raise ConfigError(f"frames {frames} and threads {list(threads)} must be at least 1")
    check_choice("variant", variant, VARIANTS)
    for name in runtimes:
        check_choice("runtimes", name, COMPARED)
        if name in ("onnxruntime", "openvino") and importlib.util.find_spec(name) is None:
            raise ConfigError(f"{name} is not installed: pip install {name}")
    for pair in sizes:
        check_sides(*pair)
    path = checkpoint or shipped_checkpoint(variant)
    net, _ = load_checkpoint(path, variant=variant)
    timings: list[RuntimeTiming] = []
    with tempfile.TemporaryDirectory() as folder:
        for pair in sizes:
            file = Path(folder) / f"{size_text(pair[0])}.onnx"
            if {"onnxruntime", "openvino"} & set(runtimes):
                export_onnx(file, path, variant=variant, sizes=pair)
            for count in threads:
                torch.set_num_threads(count)
                timings += _compare(runs_of(net, file, runtimes, count), net, pair, count, frames)
    console.print(_table(timings))
    print_load(console)
    if json_file is not None:
        content = {"frames": frames, "load": os.getloadavg(), "timings": [asdict(t) for t in timings]}
        json_file.write_text(json.dumps(content, indent=1) + "\n")


def _compare(
    runs: dict[str, Run], net: DepthSRNet, sizes: Sizes, threads: int, frames: int
) -> list[RuntimeTiming]:
    inputs = inputs_of(*synthetic_frame(*sizes), net.config)
    expected = _torch(net, "float32")(inputs)
    spans: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(WARM_UP_FRAMES + frames):
        for name, run in runs.items():
            start = time.perf_counter()
            run(inputs)
            if i >= WARM_UP_FRAMES:
                spans[name].append((time.perf_counter() - start) * 1e3)
    text = "+".join(map(size_text, sizes))
    return [
        RuntimeTiming(
            text,
            name,
            threads,
            min(spans[name]),
            float(np.median(spans[name])),
            float(np.max(np.abs(run(inputs) - expected) / expected)),
        )
        for name, run in runs.items()
    ]


def runs_of(net: DepthSRNet, file: Path, runtimes: Sequence[str], threads: int) -> dict[str, Run]:
    """What to call for each runtime and precision; `file`: the network as ONNX, for those that read it."""
    runs: dict[str, Run] = {}
    if "torch" in runtimes:
        runs |= {f"torch {name}": _torch(net, name) for name in ("float32", "bfloat16")}
    if "compile" in runtimes:
        runs |= {f"torch.compile {name}": _compiled(net, name) for name in ("float32", "bfloat16")}
    if "native" in runtimes:
        native = NativeNetwork(net, threads)
        runs["native float32"] = lambda inputs: native.upsample(*_tensors(inputs)).numpy()
    if "onnxruntime" in runtimes:
        runs["onnxruntime float32"] = _onnxruntime(file, threads)
    if "openvino" in runtimes:
        runs |= {f"openvino {name}": _openvino(file, threads, name) for name in ("f32", "bf16")}
    return runs


def _tensors(inputs: Inputs) -> list[torch.Tensor]:
    return [torch.from_numpy(value) for value in inputs.values()]


def _torch(net: DepthSRNet, precision: str) -> Run:
    def run(inputs: Inputs) -> npt.NDArray[np.float32]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return net.upsample(*_tensors(inputs)).numpy()

    return run


def _compiled(net: DepthSRNet, precision: str) -> Run:
    """As the engine has it, for the first inputs' sizes; the first call compiles, for a minute or more."""
    compiled = CompiledNetwork(net, lambda text: None)

    @torch.inference_mode()
    def run(inputs: Inputs) -> npt.NDArray[np.float32]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return compiled.estimate(*_tensors(inputs)).depth.numpy()

    return run


def _onnxruntime(file: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["depth_sr"], inputs)[0]


def _openvino(file: Path, threads: int, precision: str) -> Run:
    import openvino

    hints: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(file, "CPU", hints).create_infer_request()
    return lambda inputs: request.infer(inputs)["depth_sr"]


def _table(timings: Sequence[RuntimeTiming]) -> Table:
    """A section a pair of sizes, the fastest first."""
    out = Table(title="a frame, the runtimes in turn", title_justify="left")
    for name in ("", "threads", "least, ms", "median, ms", "difference"):
        out.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for sizes in dict.fromkeys(t.sizes for t in timings):
        out.add_row(sizes, style="bold")
        here = sorted((t for t in timings if t.sizes == sizes), key=lambda t: (t.threads, t.least_ms))
        for t in here:
            times = (f"{t.least_ms:.1f}", f"{t.median_ms:.1f}", f"{t.difference:.1e}")
            out.add_row(t.name, str(t.threads), *times, end_section=t is here[-1])
    return out
