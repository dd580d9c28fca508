# SPDX-License-Identifier: Apache-2.0
"""The whole network as one ONNX file, and the proof that ONNX Runtime computes what torch does."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import depth_sr_ros
from depth_sr_ros.config import check_choice
from depth_sr_ros.errors import ConfigError, DataError
from depth_sr_ros.image_size import Sizes, check_sides, size_text
from depth_sr_ros.models.checkpoint import load_checkpoint, shipped_checkpoint, weights_hash
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.models.portable import MOST_HALVINGS
from depth_sr_ros.onnx_check import NetworkOfInputs, check_frames, largest_difference

OPSET = 18
# Of ONNX Runtime's depth from torch's, relative to it, and of its confidence.
BOUNDS = {"float32": 1e-4, "float16": 2e-2}
DYNAMIC_SIZES: tuple[Sizes, ...] = (
    ((320, 240), (80, 60)),
    ((330, 251), (83, 61)),
    ((96, 160), (49, 80)),
    ((256, 192), (256, 192)),
)
METADATA_PREFIX = "depth_sr_ros."


@dataclass(frozen=True)
class Exported:
    """What was written and how exact it is."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    frames: int
    difference: float
    """The largest from torch in float32, of the depth and of the confidence, over `frames` frames."""


def export_onnx(
    out: str | Path,
    checkpoint: str | Path | None = None,
    *,
    variant: str = "edge",
    sizes: Sizes | None = None,
    precision: str = "float32",
    advance: Callable[[str], None] = lambda step: None,
) -> Exported:
    """Write the network that DepthSRNet.upsample runs to `out`, once ONNX Runtime agrees with torch about it.

    checkpoint: default, the weights that ship for `variant`. sizes: (width, height) of RGB and of depth; None
    leaves them open. precision: "float16" computes most of the U-Net in it, but not what turns its answer
    into metres. `advance` is told each step.

    Inputs: rgb uint8 (1, 3, H, W); depth float32 (1, 1, h, w) metres, invalid where NaN, infinite or not
    above 0; of a variant with a guide relative_depth float32 (1, 1, H, W), larger = nearer, any scale, all
    zeros for none. Outputs: depth_sr float32 (1, 1, H, W) metres, and confidence, 0 to 1, where the weights
    have it.

    Raises ConfigError, CheckpointError; DataError, leaving no file behind, where the answers differ by more
    than BOUNDS.
    """
    path = _checked(Path(out), sizes, precision)
    source = Path(checkpoint) if checkpoint is not None else shipped_checkpoint(variant)
    net, header = load_checkpoint(source, variant=variant)
    metadata = {
        "version": depth_sr_ros.__version__,
        "variant": header.variant,
        "weights": weights_hash(source),
        "precision": precision,
    }
    with _beside(path) as part:
        advance("tracing the network")
        described = _write(part, net, sizes, precision, metadata)
        advance("comparing with torch")
        frames = [
            frame for pair in ((sizes,) if sizes else DYNAMIC_SIZES) for frame in check_frames(pair, net)
        ]
        difference = largest_difference(part, net, frames)
        if not difference <= BOUNDS[precision]:
            raise DataError(
                f"ONNX Runtime's answer differs from torch's by {difference:.2g} of the depth, more than "
                f"{BOUNDS[precision]:g}: nothing was written; please report this"
            )
        os.replace(part, path)
    return Exported(*described, len(frames), difference)


def _checked(path: Path, sizes: Sizes | None, precision: str) -> Path:
    """The path, once everything that is known to be wrong before the work was ruled out."""
    check_choice("precision", precision, BOUNDS)
    if sizes is not None:
        check_sides(*sizes)
        if max(sizes[1]) > 1 << MOST_HALVINGS:
            raise ConfigError(
                f"depth is {size_text(sizes[1])}, but at most {1 << MOST_HALVINGS} pixels a side"
            )
    if path.suffix != ".onnx":
        raise DataError(f"{path}: the file's name must end in .onnx")
    if not path.parent.is_dir():
        raise DataError(f"{path}: the folder {path.parent} does not exist: make it first")
    if path.is_dir():
        raise DataError(f"{path}: cannot be written: it is a folder")
    for name in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"the export needs {name}: pip install 'depth_sr_ros[onnx]'")
    return path


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A file in the folder of `path`, removed at the end if it is still there."""
    part = path.with_name(f"{path.stem}.{os.getpid()}.part")
    try:
        part.touch()
        yield part
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def _write(
    path: Path, net: DepthSRNet, sizes: Sizes | None, precision: str, metadata: dict[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Trace the network, fold its constants, say in the file what it is.

    Returns inputs and outputs in words.
    """
    import onnx

    example = check_frames(sizes or DYNAMIC_SIZES[0], net)[0]
    outputs = ["depth_sr", "confidence"][: 1 + net.config.confidence]
    rgb_axes, depth_axes = {2: "height", 3: "width"}, {2: "depth_height", 3: "depth_width"}
    axes = {name: depth_axes if name == "depth" else rgb_axes for name in (*example, *outputs)}
    traced = copy.deepcopy(net)
    if precision == "float16":
        _halve(traced)
    _trace(
        NetworkOfInputs(traced).eval(),
        tuple(torch.from_numpy(value) for value in example.values()),
        path,
        input_names=list(example),
        output_names=outputs,
        dynamic_axes=None if sizes else axes,
    )
    _fold_constants(path)
    model = onnx.load(path)
    used = {node.domain for node in model.graph.node}
    kept = [each for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    for output in model.graph.output:  # the tracer knows its last two sides alone
        for dimension in output.type.tensor_type.shape.dim[:2]:
            dimension.dim_value = 1
    described = tuple(_describe(values) for values in (model.graph.input, model.graph.output))
    for name, value in {**metadata, **described[0], **described[1]}.items():
        model.metadata_props.add(key=METADATA_PREFIX + name, value=value)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return described[0], described[1]


UNITS = {
    "rgb": "uint8 {}, red, green, blue",
    "depth": "float32 {}, metres along the optical axis, invalid where NaN, infinite or not above 0",
    "relative_depth": "float32 {}, larger = nearer, of any scale, all zeros for none",
    "depth_sr": "float32 {}, metres along the optical axis, NaN where no pixel of depth is valid",
    "confidence": "float32 {}, 0 to 1, the chance that depth_sr is within 5 % of the truth",
}


def _describe(values: Any) -> dict[str, str]:
    found = {}
    for value in values:
        sides = [str(d.dim_param or d.dim_value) for d in value.type.tensor_type.shape.dim]
        found[value.name] = UNITS[value.name].format(f"({', '.join(sides)})")
    return found


def _halve(net: DepthSRNet) -> None:
    """The LR path and the decoder in float16, but for stem and head.

    The relative-depth path stays in float32. AdaIN takes its scale away, so training does not keep it
    small: in the weights of `edge` that ship it reaches ten million, and float16 ends at 65504.
    """
    unet = net.unet
    for module in (unet.lr_encoder.stages, unet.lr_encoder.downs, unet.middle, unet.ups, unet.decoder):
        module.half()
    for stage in (unet.lr_encoder.stages[0], unet.middle, *unet.decoder):
        stage.register_forward_pre_hook(lambda _, inputs: (inputs[0].half(), *inputs[1:]))


def _trace(network: nn.Module, example: tuple[Tensor, ...], path: Path, **options: Any) -> None:
    """By torch's exporter that traces: the other one reasons for minutes about sizes that are left open."""
    for name, function in (("addcmul", _add_product), ("asinh", _asinh), ("expm1", _expm1)):
        torch.onnx.register_custom_op_symbolic(f"aten::{name}", function, OPSET)
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:  # from torch 2.5 on
        options["dynamo"] = False
    with warnings.catch_warnings():
        # It warns of each size that it turns into a number, and of its successor. The comparison decides.
        warnings.simplefilter("ignore")
        torch.onnx.export(network, example, str(path), opset_version=OPSET, **options)


@torch.onnx.symbolic_helper.parse_args("v", "v", "v", "f")
def _add_product(graph: Any, x: Any, a: Any, b: Any, value: float) -> Any:
    """x + a b or x - a b; torch's own multiplies by `value` too, in float32."""
    return graph.op({1.0: "Add", -1.0: "Sub"}[value], x, graph.op("Mul", a, b))


def _asinh(graph: Any, x: Any) -> Any:
    return graph.op("Asinh", x)


def _expm1(graph: Any, x: Any) -> Any:
    return graph.op("Sub", graph.op("Exp", x), graph.op("Constant", value_t=torch.tensor(1.0)))


def _fold_constants(path: Path) -> None:
    """ONNX Runtime's first level of optimisations, which leaves standard operations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
