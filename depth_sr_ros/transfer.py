# SPDX-License-Identifier: Apache-2.0
"""A frame's way between host and device: NumPy arrays in, NumPy arrays out, nothing allocated in between."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from depth_sr_ros.recent import Recent

MAX_BUFFERS = 8  # of sizes and types: two inputs and two outputs of as many kinds of frames as have graphs


class DirectTransfer:
    """On a CPU the network reads the caller's memory, and its answer is the caller's: nothing is copied."""

    def upload(self, name: str, pixels: npt.NDArray[Any]) -> Tensor:
        """`pixels` as a tensor on the device."""
        # torch knows no negative strides, which a flipped view such as image[..., ::-1] has.
        return torch.from_numpy(np.ascontiguousarray(pixels) if min(pixels.strides) < 0 else pixels)

    def download(self, maps: Sequence[Tensor]) -> tuple[npt.NDArray[Any], ...]:
        """Each of `maps` (1, 1, H, W) as an array (H, W), which is the caller's."""
        return tuple(each[0, 0].numpy() for each in maps)

    def clear(self) -> None:
        """There is nothing that it keeps."""


class _Buffers(NamedTuple):
    host: Tensor
    device: Tensor


class StagedTransfer:
    """One upload and one download a map, through memory that is kept from frame to frame.

    On the host it is page-locked: only from there copies do not stop the host. On the device an input of one
    size and type lies in the same place each time, where a CUDA graph reads it. Works on a CPU too, with
    plain memory, for tests.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_cuda = device.type == "cuda"
        self._uploads: Recent[_Buffers] = Recent(MAX_BUFFERS)
        self._downloads: Recent[Tensor] = Recent(MAX_BUFFERS)
        self._done = torch.cuda.Event() if self._is_cuda else None

    def upload(self, name: str, pixels: npt.NDArray[Any]) -> Tensor:
        """`pixels`, of any strides, on the device; the next upload of that name, size and type overwrites it.

        The host memory is free for it by then: `download` waits for all that went before.
        """
        key: Hashable = (name, pixels.shape, pixels.dtype.str)
        found = self._uploads.get(key)
        if found is None:
            host = self._host_memory(torch.from_numpy(np.empty(0, pixels.dtype)).dtype, pixels.shape)
            found = _Buffers(host, torch.empty(pixels.shape, dtype=host.dtype, device=self._device))
            self._uploads.put(key, found)
        np.copyto(found.host.numpy(), pixels)
        return found.device.copy_(found.host, non_blocking=True)

    def download(self, maps: Sequence[Tensor]) -> tuple[npt.NDArray[Any], ...]:
        """Each of `maps` (1, 1, H, W) as an array (H, W), the caller's; waits for the device once."""
        hosts = []
        for i, each in enumerate(maps):
            key: Hashable = (i, tuple(each.shape), each.dtype)
            host = self._downloads.get(key)
            if host is None:
                host = self._host_memory(each.dtype, tuple(each.shape))
                self._downloads.put(key, host)
            hosts.append(host.copy_(each, non_blocking=True))
        if self._done is not None:
            # An event, not the stream: torch's sync-debug mode, by which a test finds hidden waits, lets this
            # one pass, which is meant.
            self._done.record()
            self._done.synchronize()
        # Copied once more: the caller may keep each answer, and page-locked memory in callers' hands would be
        # taken from the whole machine.
        return tuple(host[0, 0].numpy().copy() for host in hosts)

    def clear(self) -> None:
        """Let go of all memory."""
        self._uploads.clear()
        self._downloads.clear()

    def _host_memory(self, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=self._is_cuda)


Transfer = DirectTransfer | StagedTransfer


def transfer_to(device: torch.device) -> Transfer:
    """What moves frames to `device` and back."""
    return StagedTransfer(device) if device.type == "cuda" else DirectTransfer()
