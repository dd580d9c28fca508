# SPDX-License-Identifier: Apache-2.0
"""A frame's way between host and device: NumPy arrays in, NumPy arrays out, nothing allocated in between."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from depth_sr_ros.recent import Recent

UNDER_WAY = 2  # frames at most: one is computed, the next uploaded
KINDS = 4  # of frames whose memory is kept: as many as have graphs
INPUTS, OUTPUTS = 2, 5  # of a frame, at most

# Waits for what was asked for, and gives it.
Wait = Callable[[], tuple[npt.NDArray[Any], ...]]


class DirectTransfer:
    """On a CPU the network reads the caller's memory, and its answer is the caller's: nothing is copied."""

    def upload(self, name: str, pixels: npt.NDArray[Any], slot: int) -> Tensor:
        """`pixels` as a tensor on the device."""
        # torch knows no negative strides, which a flipped view such as image[..., ::-1] has.
        return torch.from_numpy(np.ascontiguousarray(pixels) if min(pixels.strides) < 0 else pixels)

    def download(self, maps: Sequence[Tensor], slot: int) -> Wait:
        """Each of `maps` (1, 1, H, W, ...) as an array (H, W, ...), which is the caller's."""
        arrays = tuple(each[0, 0].numpy() for each in maps)
        return lambda: arrays

    def clear(self) -> None:
        """There is nothing that it keeps."""


class _Buffers(NamedTuple):
    host: Tensor
    device: Tensor


class StagedTransfer:
    """One upload and one download a map, through memory that is kept from frame to frame.

    On the host it is page-locked: only from there copies do not stop the host. A frame has a `slot`, below
    UNDER_WAY, until its download has been waited for: frames of different slots share no memory. On CUDA
    uploads have a stream of their own, so that one goes on while an earlier frame is computed. Works on a CPU
    too, with plain memory, for tests.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_cuda = device.type == "cuda"
        self._uploads: Recent[_Buffers] = Recent(INPUTS * KINDS * UNDER_WAY)
        self._downloads: Recent[Tensor] = Recent(OUTPUTS * KINDS * UNDER_WAY)
        self._stream = torch.cuda.Stream(device) if self._is_cuda else None
        self._done = [torch.cuda.Event() for _ in range(UNDER_WAY)] if self._is_cuda else []

    def upload(self, name: str, pixels: npt.NDArray[Any], slot: int) -> Tensor:
        """`pixels`, of any strides, on the device, for work that the current stream is given from now on.

        The next upload of that name, size, type and slot overwrites it.
        """
        key: Hashable = (name, slot, pixels.shape, pixels.dtype.str)
        found = self._uploads.get(key)
        if found is None:
            host = self._host_memory(torch.from_numpy(np.empty(0, pixels.dtype)).dtype, pixels.shape)
            found = _Buffers(host, torch.empty(pixels.shape, dtype=host.dtype, device=self._device))
            self._uploads.put(key, found)
            if self._stream is not None:
                # The memory may be that of a tensor that the current stream still works on.
                self._stream.wait_stream(torch.cuda.current_stream())
        np.copyto(found.host.numpy(), pixels)
        if self._stream is None:
            return found.device.copy_(found.host)
        with torch.cuda.stream(self._stream):
            found.device.copy_(found.host, non_blocking=True)
        torch.cuda.current_stream().wait_stream(self._stream)  # the device waits, not the host
        return found.device

    def download(self, maps: Sequence[Tensor], slot: int) -> Wait:
        """Begins to; what it gives waits for the device once, and gives each of `maps` (1, 1, H, W, ...) as
        an array (H, W, ...), the caller's.
        """
        hosts = []
        for i, each in enumerate(maps):
            key: Hashable = (i, slot, tuple(each.shape), each.dtype)
            host = self._downloads.get(key)
            if host is None:
                host = self._host_memory(each.dtype, tuple(each.shape))
                self._downloads.put(key, host)
            hosts.append(host.copy_(each, non_blocking=True))
        # An event, not the stream: torch's sync-debug mode, by which a test finds hidden waits, lets this one
        # pass, which is meant.
        done = self._done[slot] if self._is_cuda else None
        if done is not None:
            done.record()

        def wait() -> tuple[npt.NDArray[Any], ...]:
            if done is not None:
                done.synchronize()
            # Copied once more: the caller may keep each answer, and page-locked memory in callers' hands
            # would be taken from the whole machine.
            return tuple(host[0, 0].numpy().copy() for host in hosts)

        return wait

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
