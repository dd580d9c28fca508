# SPDX-License-Identifier: Apache-2.0
"""A Depth Anything of a few thousand untrained parameters, for the tests that need one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from depth_sr_ros.models.guide import DepthAnythingGuide

TINY_DEPTH_ANYTHING: dict[str, Any] = {
    "backbone_config": {
        "model_type": "dinov2",
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
        "reshape_hidden_states": False,
        "apply_layernorm": True,
    },
    "reassemble_hidden_size": 24,
    "neck_hidden_sizes": [8, 8, 16, 16],
    "fusion_hidden_size": 8,
}


def save_tiny_guide(folder: Path) -> Path:
    """Write it in the hub's layout, with random weights; returns the folder."""
    torch.manual_seed(0)
    guide = DepthAnythingGuide.from_config(**TINY_DEPTH_ANYTHING)
    guide.model.save_pretrained(folder)  # type: ignore[operator]
    return folder
