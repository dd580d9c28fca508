# SPDX-License-Identifier: Apache-2.0
"""Does an ONNX file of the network compute what torch does? Frames with every kind of hole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from depth_sr_ros.benchmark import synthetic_frame
from depth_sr_ros.config import ModelConfig
from depth_sr_ros.image_size import Sizes
from depth_sr_ros.models.confidence import confidence_of
from depth_sr_ros.models.depth_sr import DepthSRNet, known_depth

Inputs = dict[str, npt.NDArray[Any]]


class NetworkOfInputs(nn.Module):
    """`DepthSRNet` as a function of the file's inputs, in their order."""

    def __init__(self, net: DepthSRNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, rgb: Tensor, depth: Tensor, relative_depth: Tensor | None = None) -> tuple[Tensor, ...]:
        confident = self.net.config.confidence
        answer = self.net(rgb, depth, relative_depth, confidence=confident)
        maps = [answer.depth]
        if answer.log_scale is not None:
            maps.append(confidence_of(answer.log_scale))
        return tuple(known_depth(each, depth) for each in maps)


def check_frames(sizes: Sizes, net: DepthSRNet) -> list[Inputs]:
    """Inputs of the network: a scene with every kind of hole; one without; noise of which little is measured;
    nothing measured at all.
    """
    random = np.random.default_rng(0)
    rgb, whole = synthetic_frame(*sizes)
    height, width = whole.shape
    holed = whole.copy()
    holed[random.random(holed.shape) < 0.05] = 0
    holed[: height // 3, : width // 4] = np.nan
    holed[-1:, :], holed[:, -1:] = np.inf, -1
    holed[height // 2, width // 2] = 2.0
    sparse = np.where(random.random(whole.shape) < 0.02, random.uniform(0.3, 9, whole.shape), 0)
    sparse[0, 0] = 1.0
    noise = random.integers(0, 256, rgb.shape, np.uint8)
    pairs = [(rgb, holed), (rgb, whole), (noise, sparse), (rgb, np.full_like(whole, np.nan))]
    return [inputs_of(picture, depth, net.config) for picture, depth in pairs]


def inputs_of(rgb: npt.NDArray[np.uint8], depth: npt.NDArray[Any], config: ModelConfig) -> Inputs:
    """The file's inputs of an RGB image (H, W, 3) and depth (h, w) in metres; brightness plays the guide."""
    inputs: Inputs = {
        "rgb": np.ascontiguousarray(rgb.transpose(2, 0, 1)[None]),
        "depth": depth.astype(np.float32)[None, None],
    }
    if config.guide != "none":
        inputs["relative_depth"] = rgb.mean(2, dtype=np.float32)[None, None]
    return inputs


def largest_difference(path: Path, net: DepthSRNet, frames: list[Inputs]) -> float:
    """The largest of ONNX Runtime's answers from torch's in float32; infinite where one has NaN alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    network, largest = NetworkOfInputs(net).eval(), 0.0
    for frame in frames:
        with torch.inference_mode():
            expected = network(*(torch.from_numpy(value) for value in frame.values()))
        found = session.run(None, frame)
        for i, (theirs, ours) in enumerate(zip(found, expected, strict=True)):
            scale = ours.numpy() if i == 0 else 1.0
            if not np.array_equal(np.isnan(theirs), np.isnan(ours.numpy())):
                return float("inf")
            difference = np.abs(theirs - ours.numpy()) / scale
            largest = max(largest, float(np.nanmax(difference, initial=0.0)))
    return largest
