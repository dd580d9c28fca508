# SPDX-License-Identifier: Apache-2.0
"""The one checkpoint format: safetensors with a JSON header (variant, config, data, metrics, version)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from depth_sr_ros.config import VARIANTS, ModelConfig, check_choice, check_keys
from depth_sr_ros.errors import CheckpointError, ConfigError
from depth_sr_ros.models.depth_sr import DepthSRNet
from depth_sr_ros.models.guide import DepthAnythingGuide

FORMAT = 1
METADATA_KEY = "depth_sr_ros"
GUIDE_PREFIX = "guide."
CONFIDENCE_PREFIX = "confidence_head."


@dataclasses.dataclass(frozen=True)
class CheckpointHeader:
    """What a checkpoint says of itself. `training` and `metrics` are free-form JSON objects."""

    variant: str
    model: ModelConfig
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]
    version: str
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps({**dataclasses.asdict(self), "model": self.model.to_dict()}, sort_keys=True)


def shipped_checkpoint(variant: str) -> Path:
    """Path of the weights that come with the package; CheckpointError where the installation lacks them."""
    check_choice("variant", variant, VARIANTS)
    path = Path(str(resources.files("depth_sr_ros") / "weights" / f"{variant}.safetensors"))
    if not path.is_file():
        raise CheckpointError(
            f"the weights of {variant!r} are missing from the installation ({path}); install depth_sr_ros "
            "again, or give a checkpoint of your own"
        )
    return path


def save_checkpoint(
    path: str | Path,
    model: DepthSRNet,
    *,
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    version: str,
    dtype: torch.dtype = torch.float16,
) -> CheckpointHeader:
    """Write the U-Net (never the guide: it has a file of its own) and its header; returns the header."""
    header = CheckpointHeader(model.config.variant, model.config, training, metrics, version)
    state = {
        name: value.detach().to(device="cpu", dtype=dtype).contiguous()
        for name, value in model.state_dict().items()
        if not name.startswith(GUIDE_PREFIX)
    }
    save_file(state, str(path), metadata={METADATA_KEY: header.to_json()})
    return header


def read_header(path: str | Path) -> CheckpointHeader:
    """Read the header alone; CheckpointError where the file is missing, damaged or of another kind."""
    with _open(path) as file:
        return _parse_header(path, file.metadata() or {})


def load_checkpoint(
    path: str | Path,
    device: str | torch.device = "cpu",
    *,
    variant: str | None = None,
    guide: DepthAnythingGuide | None = None,
) -> tuple[DepthSRNet, CheckpointHeader]:
    """The network in float32, eval mode and channels_last on `device`, and its header.

    Raises CheckpointError on a missing or damaged file, another variant than `variant`, tensors that are
    missing, unknown, of the wrong shape or not finite.
    """
    with _open(path) as file:
        header = _parse_header(path, file.metadata() or {})
        if variant is not None and header.variant != variant:
            raise CheckpointError(
                f"checkpoint {str(path)!r} holds variant {header.variant!r}, but {variant!r} was asked for; "
                "change the variant or the checkpoint"
            )
        try:
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise _damaged(path, str(error)) from error
    model = DepthSRNet(header.model)
    expected = model.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        if name not in state or name not in expected:
            raise _damaged(path, f"tensor {name!r} is {'missing' if name not in state else 'unknown'}")
        if state[name].shape != expected[name].shape:
            raise _damaged(
                path, f"tensor {name!r} is {tuple(state[name].shape)}, not {tuple(expected[name].shape)}"
            )
        if not torch.isfinite(state[name]).all():
            raise _damaged(path, f"tensor {name!r} holds NaN or infinity")
    model.load_state_dict(state)
    model.guide = guide
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval(), header


def name_and_hash(path: str | Path) -> str:
    """What tells a file of weights on any machine, as headers have it: never its path on this one."""
    return f"{Path(path).name} ({weights_hash(path)})"


def weights_hash(path: str | Path) -> str:
    """First 12 hex digits of the file's SHA-256: names the weights in logs and diagnostics."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def _open(path: str | Path):  # type: ignore[no-untyped-def]
    if not Path(path).is_file():
        raise CheckpointError(
            f"checkpoint {str(path)!r} does not exist; give the path of a .safetensors file"
        )
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error


def _parse_header(path: str | Path, metadata: Mapping[str, str]) -> CheckpointHeader:
    if METADATA_KEY not in metadata:
        raise CheckpointError(
            f"checkpoint {str(path)!r} has no {METADATA_KEY!r} header; it was not written by this package"
        )
    try:
        values = json.loads(metadata[METADATA_KEY])
        fields = [f.name for f in dataclasses.fields(CheckpointHeader)]
        check_keys("the header", values, fields)
        if values.get("format") != FORMAT:
            raise ConfigError(f"format is {values.get('format')!r}, but this version reads format {FORMAT}")
        header = CheckpointHeader(**{**values, "model": ModelConfig.from_dict(values["model"])})
    except (json.JSONDecodeError, ConfigError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, f"its header cannot be read: {error}") from error
    return header


def _damaged(path: str | Path, reason: str) -> CheckpointError:
    return CheckpointError(f"checkpoint {str(path)!r} is damaged: {reason}; fetch or export it again")
