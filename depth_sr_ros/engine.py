# SPDX-License-Identifier: Apache-2.0
"""The inference engine: NumPy RGB and low-resolution depth in, NumPy depth at the RGB's resolution out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.config import (
    GUIDE_PACES,
    GUIDE_SIDE,
    GUIDE_SIDES,
    PRECISIONS,
    RUNTIMES,
    ModelConfig,
    check_choice,
)
from depth_sr_ros.errors import ConfigError, FrameError
from depth_sr_ros.image_codec import CHANNEL_ORDERS, check_rgb
from depth_sr_ros.models.checkpoint import load_checkpoint, shipped_checkpoint, weights_hash
from depth_sr_ros.models.guide import DepthAnythingGuide
from depth_sr_ros.models.native import NativeNetwork, instruction_set, is_built, why_unsupported
from depth_sr_ros.models.normalization import valid_mask
from depth_sr_ros.models.paced_guide import PacedGuide
from depth_sr_ros.models.registration import DepthRegistration

# (1, 1, h, w) metres -> (1, 1, h', w') metres in the RGB's view
Registration = Callable[[Tensor], Tensor]
MIN_RGB_SIDE = 32
TRIALS = 3  # of each way to run; the fastest counts
# Of the kernels' answer from torch's, of the depth: far above what a different order of sums does (1e-5), far
# below what anybody sees.
MAX_DIFFERENCE = 1e-3
MAX_HALF_DIFFERENCE = 2e-2  # the median pixel's: half precision is off by more where depth jumps
MIN_DEPTH_SIDE = 2


class Way(NamedTuple):
    """How the network runs."""

    runtime: str
    precision: str


class DepthSuperResolver:
    """Turns an RGB image and a coarse, noisy depth image of the same view into depth at the RGB's size.

    Parameters: `checkpoint`, a .safetensors file (default: the weights that ship for `variant`); `device`,
    "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N"; `threads`, torch's CPU threads, which are the
    whole process's (default: left as they are); `guide_path`, a folder with Depth Anything's config.json and
    model.safetensors (default: the U-Net runs without that guide); `guide_size`, the short side in pixels of
    the image that Depth Anything sees; `guide_every_n`: it runs on every n-th frame alone, and its relative
    depth is used again for those between, until `forget`; `precision`, "auto" (float16 on CUDA; on a
    CPU float32, unless `warm_up` finds that bfloat16 is faster there), "float32", "bfloat16" or "float16";
    `runtime`, "torch", "native" (the package's own kernels: float32 on a CPU, for `edge`), or "auto", native
    where it is possible, unless `warm_up` finds that torch is faster. `warnings` says what was refused.

    Not thread-safe: one thread owns an engine. Raises CheckpointError or ConfigError.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        variant: str = "edge",
        device: str = "auto",
        threads: int | None = None,
        guide_path: str | Path | None = None,
        guide_size: int = GUIDE_SIDE,
        guide_every_n: int = 1,
        precision: str = "auto",
        runtime: str = "auto",
    ) -> None:
        if threads is not None:
            if threads < 1:
                raise ConfigError(f"threads is {threads}, but must be at least 1")
            torch.set_num_threads(threads)
        self._device = _resolve_device(device)
        check_choice("precision", precision, ("auto", *PRECISIONS))
        check_choice("runtime", runtime, ("auto", *RUNTIMES))
        _check_range("guide_size", guide_size, GUIDE_SIDES)
        _check_range("guide_every_n", guide_every_n, GUIDE_PACES)
        path = Path(checkpoint) if checkpoint is not None else shipped_checkpoint(variant)
        guide = None if guide_path is None else DepthAnythingGuide.from_folder(guide_path, guide_size)
        self._model, header = load_checkpoint(path, self._device, variant=variant, guide=guide)
        if guide is not None and header.model.guide == "none":
            raise ConfigError(f"variant {variant!r} takes no guide; remove guide_path or choose 'fast'")
        self._paced_guide = PacedGuide(guide_every_n)
        self._ways = _ways(runtime, precision, self._device, header.model)
        self._way = self._ways[0]
        # It keeps a second copy of the weights, in the kernels' order.
        self._native = (
            NativeNetwork(self._model, torch.get_num_threads()) if self._way.runtime == "native" else None
        )
        self.warnings: list[str] = []
        self.device = str(self._device)
        self.info: dict[str, Any] = {
            "variant": header.variant,
            "version": header.version,
            "checkpoint": str(path),
            "hash": weights_hash(path),
            "training": dict(header.training),
            "metrics": dict(header.metrics),
        }

    @property
    def runtime(self) -> str:
        """What runs the network now: one of RUNTIMES."""
        return self._way.runtime

    @property
    def precision(self) -> str:
        """The number format that it computes in now: one of PRECISIONS."""
        return self._way.precision

    @property
    def description(self) -> str:
        """The network, where and how it runs, in one line."""
        parameters = sum(p.numel() for p in self._model.parameters())
        guided = "with Depth Anything" if self._model.guide is not None else "without a foundation model"
        kernels = "torch" if self.runtime == "torch" else f"{instruction_set()} kernels"
        return (
            f"{self.info['variant']} ({parameters / 1e6:.2f} M parameters, {guided}) on {self.device}, "
            f"{self.precision}, {kernels}, weights {self.info['hash']}"
        )

    def __call__(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any],
        *,
        channel_order: str = "rgb",
        depth_unit_m: float = 1.0,
        registration: Registration | None = None,
        output_size: tuple[int, int] | None = None,
        max_fill_distance: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """Depth in metres, float32 HxW, for one frame; holes are filled, an all-invalid frame is all NaN.

        rgb: uint8, HxWx3 (`channel_order` rgb, bgr), HxWx4 (rgba, bgra) or HxW (mono). depth: float32 or
        uint16, hxw; times `depth_unit_m` it is metres; NaN, infinite, zero and negative values are invalid.
        Both must show the same view, unless `registration` (see `make_registration`) warps the depth into
        the RGB's first; their sizes are free. `output_size` (width, height) of the result, at most the
        RGB's; by default the RGB's own. `max_fill_distance`, in depth pixels: what is further from every
        measurement, by rows or by columns, comes back NaN. Raises FrameError.
        """
        options = (channel_order, depth_unit_m, registration, output_size, max_fill_distance)
        return self._run(rgb, depth, *options, self._upsample)[0]

    @property
    def has_confidence(self) -> bool:
        """Whether the weights say how far an answer may be off."""
        return self._model.confidence_head is not None

    def with_confidence(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any],
        *,
        channel_order: str = "rgb",
        depth_unit_m: float = 1.0,
        registration: Registration | None = None,
        output_size: tuple[int, int] | None = None,
        max_fill_distance: int | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Depth as a call gives it, and the chance, 0 to 1, that each pixel is within 5 % of the truth.

        float32 HxW both, NaN at the same pixels. Of a chance c the mean absolute error follows:
        -0.05 depth / ln(1 - c). Raises FrameError, and ConfigError where the weights have no confidence.
        """
        if not self.has_confidence:
            raise ConfigError(
                f"the weights {self.info['checkpoint']} have no confidence; train them with the "
                "configuration edge_confidence, or take those that ship"
            )
        options = (channel_order, depth_unit_m, registration, output_size, max_fill_distance)
        metres, confidence = self._run(rgb, depth, *options, self._upsample_with_confidence)
        return metres, confidence

    def _run(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any],
        channel_order: str,
        depth_unit_m: float,
        registration: Registration | None,
        output_size: tuple[int, int] | None,
        max_fill_distance: int | None,
        network: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, ...]],
    ) -> tuple[npt.NDArray[np.float32], ...]:
        """The maps that `network` makes of the frame, on the host."""
        _check_frame(rgb, depth, channel_order)
        # torch knows no negative strides, which a flipped view such as image[..., ::-1] has.
        rgb, depth = (np.ascontiguousarray(a) if min(a.strides) < 0 else a for a in (rgb, depth))
        with torch.inference_mode():
            image = self._upload_rgb(rgb, channel_order)
            lr = torch.from_numpy(depth).to(self._device).float()[None, None] * depth_unit_m
            if registration is not None:
                lr = registration(lr)
            if output_size is not None and output_size != (rgb.shape[1], rgb.shape[0]):
                image = _shrink(image, output_size)
            maps = network(image, lr, self._relative_depth(image, rgb.shape[:2]))
            if max_fill_distance is not None:
                maps = without_far_pixels(maps, lr, max_fill_distance)
            return tuple(each[0, 0].cpu().numpy() for each in maps)

    def forget(self) -> None:
        """Forget what is kept from frame to frame, the guide's relative depth: the next frame shows something
        else, or a later or an earlier time.
        """
        self._paced_guide.forget()

    def make_registration(
        self, depth_camera: PinholeCamera, rgb_camera: PinholeCamera, rgb_from_depth: npt.NDArray[np.float64]
    ) -> DepthRegistration:
        """What warps a depth image into the RGB's view, on this engine's device; see DepthRegistration."""
        return DepthRegistration(depth_camera, rgb_camera, rgb_from_depth, self._device)

    def warm_up(self, rgb_size: tuple[int, int], depth_size: tuple[int, int]) -> None:
        """Run on (width, height) sizes, so that the first real frame does not pay for preparations.

        Of the ways to run the network that the options left open the fastest on these sizes is taken. The
        answers of the kernels and of half precision are compared with torch's in float32 first: one that
        differs by more than MAX_DIFFERENCE or MAX_HALF_DIFFERENCE of the depth is not taken, and `warnings`
        says so.
        """
        noise = np.random.default_rng(0)
        rgb = noise.integers(0, 256, (rgb_size[1], rgb_size[0], 3), np.uint8)
        # A wall seen askew, with a sensor's noise: on noise alone half precision would look worse than it is.
        wall = np.linspace(1.0, 4.0, depth_size[0]) * np.ones((depth_size[1], 1))
        depth = (wall * noise.uniform(0.98, 1.02, wall.shape)).astype(np.float32)
        self._refuse_what_differs(rgb, depth)
        seconds = {}
        for way in self._ways:
            self._way = way
            seconds[way] = self._frame_time(rgb, depth)
        self._way = min(seconds, key=lambda way: seconds[way])
        self._ways = (self._way,)
        if self._way.runtime != "native":
            self._native = None
        self.forget()  # the relative depth of noise

    def _refuse_what_differs(self, rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32]) -> None:
        """Run each way once; leave out those whose answer is not torch's in float32. `warnings` says so."""
        reference = Way("torch", "float32")
        self._way = reference
        self.forget()
        expected = self(rgb, depth)
        kept = []
        for way in self._ways:
            if way == reference:
                kept.append(way)
                continue
            self._way = way
            self.forget()  # each way's own guide
            relative = np.abs(self(rgb, depth) - expected) / expected
            native = way.runtime == "native"
            found = float(np.max(relative) if native else np.median(relative))  # NaN where any pixel is
            bound = MAX_DIFFERENCE if native else MAX_HALF_DIFFERENCE
            if found <= bound:
                kept.append(way)
                continue
            name = f"the {instruction_set()} kernels differ" if native else f"{way.precision} differs"
            self.warnings.append(
                f"{name} from torch in float32 by {found:.2g} of the depth, more than {bound:g}: "
                "torch runs the network without; please report this"
            )
        self._ways = tuple(kept) or (reference,)
        self._way = self._ways[0]

    def _frame_time(self, rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32]) -> float:
        """Seconds that a frame takes, by the least of TRIALS; at the guide's own pace the mean of all frames."""
        every_n = 1 if self._model.guide is None else self._paced_guide.every_n
        with_guide, between = [], []
        for _ in range(TRIALS):
            self.forget()
            with_guide.append(self._timed(rgb, depth))
            if every_n > 1:
                between.append(self._timed(rgb, depth))
        return (min(with_guide) + (every_n - 1) * min(between, default=0.0)) / every_n

    def _timed(self, rgb: npt.NDArray[np.uint8], depth: npt.NDArray[np.float32]) -> float:
        start = time.perf_counter()
        self(rgb, depth)  # its result is on the host: nothing is still under way
        return time.perf_counter() - start

    def _upload_rgb(self, rgb: npt.NDArray[np.uint8], channel_order: str) -> Tensor:
        """uint8 (1, 3, H, W) on the device; the colour order is changed there."""
        image = torch.from_numpy(rgb).to(self._device)
        if channel_order == "mono":
            return image.expand(1, 3, *image.shape)
        image = image.permute(2, 0, 1)[None]
        order = CHANNEL_ORDERS[channel_order]
        return image[:, :3] if order == (0, 1, 2) else image[:, order]

    def _relative_depth(self, image: Tensor, rgb_size: tuple[int, ...]) -> Tensor | None:
        """The guide's answer (1, 1, H, W) to this frame or, at its own pace, an earlier; None without one."""
        guide = self._model.guide
        if guide is None:
            return None

        def compute() -> Tensor:
            with self._autocast():
                return guide(image.float() / 255)

        return self._paced_guide((rgb_size, image.shape[-2:]), compute)

    def _upsample(self, image: Tensor, lr: Tensor, relative: Tensor | None) -> tuple[Tensor, ...]:
        if self._way.runtime == "native" and self._native is not None:
            return (self._native.upsample(image, lr),)
        with self._autocast():
            return (self._model.upsample(image, lr, relative),)

    def _upsample_with_confidence(
        self, image: Tensor, lr: Tensor, relative: Tensor | None
    ) -> tuple[Tensor, ...]:
        if self._way.runtime == "native" and self._native is not None:
            return self._native.upsample_with_confidence(image, lr)
        with self._autocast():
            return self._model.upsample_with_confidence(image, lr, relative)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, getattr(torch, self.precision))


def without_far_pixels(maps: Sequence[Tensor], lr: Tensor, distance: int) -> tuple[Tensor, ...]:
    """`maps` (B, 1, H, W) with NaN where no valid pixel of `lr` (B, 1, h, w) is within `distance` of them.

    The distance is that of a chess king, in pixels of `lr`: two passes of a one-dimensional maximum.
    """
    near = valid_mask(lr).float()
    side = 2 * distance + 1
    near = F.max_pool2d(near, (1, side), stride=1, padding=(0, distance))
    near = F.max_pool2d(near, (side, 1), stride=1, padding=(distance, 0))
    near = F.interpolate(near, maps[0].shape[-2:], mode="nearest-exact")
    return tuple(torch.where(near > 0, each, torch.nan) for each in maps)


def _shrink(image: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (1, 3, H, W) resized to (width, height), each pixel a weighted mean of its surroundings."""
    # On a CPU torch has a fast path for uint8; CUDA has none.
    source = image if image.device.type == "cpu" else image.float()
    out = F.interpolate(source, size[::-1], mode="bilinear", align_corners=False, antialias=True)
    return out if out.dtype == torch.uint8 else out.round_().clamp_(0, 255).byte()


def ways_on(device: str, config: ModelConfig) -> tuple[Way, ...]:
    """All ways to run such a network on `device`, as the engine takes it; ConfigError on a wrong one."""
    return _ways("auto", "auto", _resolve_device(device), config)


def _ways(runtime: str, precision: str, device: torch.device, config: ModelConfig) -> tuple[Way, ...]:
    """The ways to run the network that the options allow, the one to begin with first."""
    exact = precision in ("auto", "float32")
    if runtime == "native" and (device.type != "cpu" or not exact):
        raise ConfigError(
            f"runtime 'native' computes in float32 on a CPU, not in {precision} on {device.type}; use 'torch'"
        )
    ways = [Way("torch", name) for name in _precisions(device, precision)] if runtime != "native" else []
    possible = device.type == "cpu" and exact and not why_unsupported(config) and is_built()
    # Where it is asked for by name NativeNetwork says why it is not possible.
    return (
        (Way("native", "float32"), *ways)
        if runtime == "native" or runtime == "auto" and possible
        else tuple(ways)
    )


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


def _check_range(name: str, value: int, limits: tuple[int, int]) -> None:
    if not limits[0] <= value <= limits[1]:
        raise ConfigError(f"{name} is {value}, but must be from {limits[0]} to {limits[1]}")


def _resolve_device(device: str) -> torch.device:
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


def _check_frame(rgb: npt.NDArray[Any], depth: npt.NDArray[Any], channel_order: str) -> None:
    check_rgb(rgb, channel_order)
    if depth.dtype not in (np.float32, np.uint16) or depth.ndim != 2:
        raise FrameError(
            f"the depth image is {depth.dtype} of shape {depth.shape}, but must be float32 or uint16 of "
            "shape (height, width)"
        )
    if min(rgb.shape[:2]) < MIN_RGB_SIDE or min(depth.shape) < MIN_DEPTH_SIDE:
        raise FrameError(
            f"the RGB image is {rgb.shape[1]}x{rgb.shape[0]} and the depth "
            f"{depth.shape[1]}x{depth.shape[0]}, "
            f"but sides must be at least {MIN_RGB_SIDE} and {MIN_DEPTH_SIDE} pixels"
        )
