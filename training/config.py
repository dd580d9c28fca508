# SPDX-License-Identifier: Apache-2.0
"""The training configuration: YAML -> nested frozen dataclasses; unknown keys and bad values are errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from depth_sr_ros.config import ModelConfig, check_choice, check_keys, model_config
from depth_sr_ros.errors import ConfigError
from training.degradation import DegradationConfig
from training.losses import LossConfig
from training.simulated_guide import GuideErrors

CONFIG_FOLDER = Path(__file__).parent / "configs"
PARTS = ("all", "confidence")
LARGEST_SEED = 2**32 - 1  # NumPy's
SOURCES = ("procedural", "rendered", "mvs_synth", "rgbd_folder", "rosbag2")


def _check_above_zero(where: str, config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ConfigError(f"{where}.{name} is {getattr(config, name)!r}, but must be above 0")


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One source of training images.

    `path`: the folder of the files; that of `rendered` is by default under DEPTH_SR_DATA. `clip`, for
    `mvs_synth`: depth beyond 30 m, the sky too, becomes 30 m, as published; else the sky is no surface.
    `rgb_topic` and `depth_topic`, for `rosbag2`: by default the only ones of their kind; `interval_s`:
    seconds between the pairs that are taken.
    """

    kind: str
    weight: float = 1.0
    path: str | None = None
    clip: bool = False
    rgb_topic: str | None = None
    depth_topic: str | None = None
    interval_s: float = 0.5

    def __post_init__(self) -> None:
        check_choice("data.sources.kind", self.kind, SOURCES)
        _check_above_zero("data.sources", self, "weight")
        if self.clip and self.kind != "mvs_synth":
            raise ConfigError(f"data.sources.clip is for mvs_synth alone, not for {self.kind}")
        if not self.interval_s >= 0:
            raise ConfigError(f"data.sources.interval_s is {self.interval_s}, but must be at least 0")
        given = (self.rgb_topic, self.depth_topic, self.interval_s) != (None, None, 0.5)
        if given and self.kind != "rosbag2":
            raise ConfigError(f"topics and interval_s in data.sources are for rosbag2, not for {self.kind}")


def with_path(sources: Sequence[SourceConfig], path: str) -> tuple[SourceConfig, ...]:
    """The sources, `path` given to those that name none; ConfigError where no source takes it."""
    out = tuple(
        dataclasses.replace(s, path=path) if s.path is None and s.kind != "procedural" else s for s in sources
    )
    if out == tuple(sources):
        raise ConfigError("--data is given, but no source of the configuration lacks a path")
    return out


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """`crop` is (height, width). `workers`: CPU processes that make batches; 0: the training device does.

    `imperfect_share`: samples made as real pairs are, soft or misregistered; see training/imperfections.py.
    """

    sources: tuple[SourceConfig, ...] = (SourceConfig("procedural"),)
    crop: tuple[int, int] = (256, 256)
    batch_size: int = 8
    workers: int = 0
    imperfect_share: float = 0.0

    def __post_init__(self) -> None:
        _check_above_zero("data", self, "batch_size")
        if not self.sources:
            raise ConfigError("data.sources is [], but must be a list of at least one source")
        if len(self.crop) != 2 or min(self.crop) < 64:
            raise ConfigError(f"data.crop is {self.crop}, but needs a height and a width of at least 64")
        if not 0 <= self.imperfect_share <= 1:
            raise ConfigError(f"data.imperfect_share is {self.imperfect_share}, but must be between 0 and 1")
        if self.workers < 0:
            raise ConfigError(f"data.workers is {self.workers}, but must be 0 or more")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """AdamW with a linear warm-up and a cosine decay to `final_lr_ratio`, and averaged weights (EMA).

    `residual_scale_lr` multiplies the learning rate of the NAFNet blocks' residual scales, which start at 0.
    `parts`: what is trained, `all` of the network or its `confidence` head alone.
    """

    steps: int
    lr: float = 1e-3
    warmup_steps: int = 200
    final_lr_ratio: float = 1e-3
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    residual_scale_lr: float = 10.0
    parts: str = "all"

    def __post_init__(self) -> None:
        _check_above_zero("optim", self, "steps", "lr", "gradient_clip", "residual_scale_lr")
        for name in ("warmup_steps", "weight_decay", "final_lr_ratio"):
            if getattr(self, name) < 0:
                raise ConfigError(f"optim.{name} is {getattr(self, name)}, but must be at least 0")
        check_choice("optim.parts", self.parts, PARTS)
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"optim.ema_decay is {self.ema_decay}, but must be at least 0 and below 1")


@dataclasses.dataclass(frozen=True)
class GuideConfig:
    """Depth Anything in training, for a network with a guide.

    `path`: its folder (config.json, model.safetensors). `simulated`: no Depth Anything, but maps made from
    the true depth, as wrong as `errors` say. With neither the network is trained without a guide. `lr`:
    Depth Anything's learning rate; 0: it stays as it is. `dropout`: share of the batches that see no guide,
    so that the network works without. `short_side`: of Depth Anything's input, pixels.
    """

    path: str | None = None
    simulated: bool = False
    errors: GuideErrors = GuideErrors()
    lr: float = 2e-6
    dropout: float = 0.1
    short_side: int = 518

    def __post_init__(self) -> None:
        _check_above_zero("guide", self, "short_side")
        if self.path is not None and self.simulated:
            raise ConfigError("guide.path is given, and guide.simulated is true: choose one")
        if self.lr < 0:
            raise ConfigError(f"guide.lr is {self.lr}, but must be at least 0")
        if not 0 <= self.dropout <= 1:
            raise ConfigError(f"guide.dropout is {self.dropout}, but must be between 0 and 1")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Where and how: `epoch_steps` is how often to validate and save; `precision` is Lightning's.

    `devices` on each of `nodes` machines train together (DDP): a step then sees devices x nodes batches.
    """

    seed: int = 0
    epoch_steps: int = 500
    precision: str = "32-true"
    accelerator: str = "auto"
    threads: int = 1
    devices: int = 1
    nodes: int = 1
    validation_frames: int = 24

    def __post_init__(self) -> None:
        _check_above_zero("run", self, "epoch_steps", "threads", "devices", "nodes", "validation_frames")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ConfigError(f"run.seed is {self.seed}, but must be from 0 to {LARGEST_SEED}")
        check_choice("run.precision", self.precision, ("32-true", "bf16-mixed", "16-mixed"))
        check_choice("run.accelerator", self.accelerator, ("auto", "cpu", "cuda"))


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything a run needs; `model` is the variant with its overrides."""

    model: ModelConfig
    optim: OptimConfig
    data: DataConfig = DataConfig()
    degradation: DegradationConfig = DegradationConfig()
    loss: LossConfig = LossConfig()
    run: RunConfig = RunConfig()
    guide: GuideConfig = GuideConfig()
    init_from: str | None = None

    def __post_init__(self) -> None:
        given = "path" if self.guide.path is not None else "simulated" if self.guide.simulated else None
        if given is not None and self.model.guide == "none":
            raise ConfigError(
                f"guide.{given} is given, but the variant {self.model.variant!r} takes no guide"
            )
        if (self.loss.laplace or self.optim.parts == "confidence") and not self.model.confidence:
            raise ConfigError(
                "loss.laplace and optim.parts: confidence are for a network with model.confidence: true"
            )
        if self.optim.parts == "confidence" and not self.loss.laplace:
            raise ConfigError("optim.parts is confidence, but loss.laplace, from which it learns, is 0")
        if self.optim.steps % self.run.epoch_steps:
            raise ConfigError(
                f"optim.steps is {self.optim.steps}, but must be a multiple of run.epoch_steps, "
                f"{self.run.epoch_steps}"
            )

    def to_dict(self) -> dict[str, Any]:
        """A YAML-ready dict; `from_dict` reads it back."""
        return _plain({**dataclasses.asdict(self), "model": self.model.to_dict()})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build from nested mappings; ConfigError on unknown keys, missing keys and bad values."""
        check_keys("the training configuration", values, [f.name for f in dataclasses.fields(cls)])
        for name in ("model", "optim"):
            if name not in values:
                raise ConfigError(f"the training configuration lacks the section {name!r}")
        model = _section(values, "model")
        data = _section(values, "data")
        if isinstance(data.get("sources"), list):
            data["sources"] = tuple(_build(SourceConfig, "data.sources", s) for s in data["sources"])
        hints = get_type_hints(ModelConfig)
        for key in model.keys() & hints.keys():
            model[key] = _checked(f"model.{key}", model[key], hints[key])
        return cls(
            model=model_config(model.pop("variant", "edge"), **model),
            optim=_build(OptimConfig, "optim", values["optim"]),
            data=_build(DataConfig, "data", data),
            degradation=_build(DegradationConfig, "degradation", _section(values, "degradation")),
            loss=_build(LossConfig, "loss", _section(values, "loss")),
            run=_build(RunConfig, "run", _section(values, "run")),
            guide=_build(GuideConfig, "guide", _section(values, "guide")),
            init_from=_checked("init_from", values.get("init_from"), str | None),
        )


def load_config(name: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file, given by its path or by its name in training/configs/.

    `changes` such as "optim.steps=1000" replace single values; what is right of the = is YAML.
    """
    path = Path(name)
    if not path.is_file():
        path = CONFIG_FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIG_FOLDER.glob("*.yaml")))
        raise ConfigError(f"no training configuration {str(name)!r}; give a YAML file or one of: {known}")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold sections (model, optim, data, ...), not {type(values).__name__}")
    for change in changes:
        _apply_change(values, change)
    return TrainConfig.from_dict(values)


def _apply_change(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    section, dot, name = key.partition(".")
    if not (equals and dot and name):
        raise ConfigError(f"the change {change!r} must look like section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the change {change!r} has no YAML right of its =") from error
    values[section] = {**_section(values, section), name: value}


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section of the configuration as a new dict; empty where it is left out or has no keys."""
    section = values.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"the section {name!r} must hold keys and values, not {section!r}")
    return dict(section)


def _build(cls: type, where: str, values: Any) -> Any:
    """A dataclass from a mapping, lists made tuples and numbers checked against the annotated types."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} must hold keys and values, not {values!r}")
    hints = get_type_hints(cls)
    check_keys(where, values, hints)
    missing = [
        f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING and f.name not in values
    ]
    if missing:
        raise ConfigError(f"{where} lacks the key {missing[0]!r}")
    return cls(**{key: _checked(f"{where}.{key}", value, hints[key]) for key, value in values.items()})


def _checked(name: str, value: Any, hint: Any) -> Any:
    """`value` where it is of the annotated type, a list made a tuple; ConfigError elsewhere."""
    if dataclasses.is_dataclass(hint):  # the sources are built before
        return value if isinstance(value, hint) else _build(hint, name, value)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} is {value!r}, but must be a list")
        items = get_args(hint)
        if items[-1] is not Ellipsis and len(value) != len(items):
            raise ConfigError(f"{name} is {value!r}, but must be a list of {len(items)}")
        return tuple(_checked(name, item, items[0]) for item in value)
    if hint is float and type(value) is int:
        return value
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        kinds = {int: "a whole number", float: "a number (write 1.0e-3, not 1e-3)"}
        raise ConfigError(f"{name} is {value!r}, but must be {kinds.get(hint, 'text')}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} is {value!r}, but must be a finite number")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
