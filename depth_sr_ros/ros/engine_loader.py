# SPDX-License-Identifier: Apache-2.0
"""Makes the engine that the node's parameters ask for, and says what it is."""

from __future__ import annotations

import os
from typing import Any

from rclpy.logging import get_logger

from depth_sr_ros.camera import output_size
from depth_sr_ros.image_size import MIN_RGB_SIDE
from depth_sr_ros.ros.frame_settings import FrameSettings

# Has answer(rgb, depth, wanted, channel_order=, ...) -> Answer, as depth_sr_ros.engine.DepthSuperResolver.
Engine = Any
# As diagnostics have it before one is loaded.
NO_ENGINE = dict.fromkeys(("device", "engine", "variant", "precision", "runtime", "weights", "guide"), "")


def load_engine(values: dict[str, Any]) -> Engine:
    """The engine that the parameters ask for, warmed up; raises ConfigError or CheckpointError."""
    from depth_sr_ros.engine import DepthSuperResolver  # torch takes seconds: not before parameters are good

    engine = DepthSuperResolver(
        values["checkpoint"] or None,
        variant=values["variant"],
        device=values["device"],
        threads=values["engine.threads"] or default_threads(),
        guide_path=values["guide.path"] or None,
        guide_size=values["guide.size"],
        guide_every_n=values["guide.every_n"],
        precision=values["engine.precision"],
        runtime=values["engine.runtime"],
    )
    # At the size that the network will see: compiled code holds for no other. What is too small for the
    # network is told with each frame.
    width, height = values["warmup.rgb_size"]
    rgb_size = output_size(width, height, values["output.max_side"])
    rgb_size = rgb_size if min(rgb_size) >= MIN_RGB_SIDE else (width, height)
    engine.warm_up(
        rgb_size,
        tuple(values["warmup.depth_size"]),
        get_logger("depth_sr").info,
        max_fill_distance=FrameSettings.from_values(values).max_fill_distance,
    )
    return engine


def default_threads() -> int:
    """All cores but one, which DDS and the callbacks need; both of two, since a frame is then done sooner."""
    cores = len(os.sched_getaffinity(0))
    return max(min(2, cores), cores - 1)


def engine_info(engine: Engine, variant: str) -> dict[str, str]:
    """What runs and where, with the keys of NO_ENGINE; `variant` counts where the engine has none."""
    info = getattr(engine, "info", {})
    return {
        "device": str(engine.device),
        "engine": str(engine.description),
        "variant": str(info.get("variant", variant)),
        "precision": str(getattr(engine, "precision", "")),
        "runtime": str(getattr(engine, "runtime", "")),
        "weights": str(info.get("hash", "")),
        "guide": str(info.get("guide", "")),
    }


def new_warnings(engine: Engine) -> list[str]:
    """What the engine has warned of since it was asked last."""
    found = list(getattr(engine, "warnings", ()))
    if found:
        engine.warnings.clear()
    return found
