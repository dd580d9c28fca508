# SPDX-License-Identifier: Apache-2.0
"""The inference engine: NumPy RGB and low-resolution depth in, NumPy depth at the RGB's resolution out."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from depth_sr_ros.answer import METRES, Answer, Wanted
from depth_sr_ros.camera import PinholeCamera
from depth_sr_ros.config import (
    GUIDE_PACES,
    GUIDE_SIDE,
    GUIDE_SIDES,
    PRECISIONS,
    RUNTIMES,
    check_choice,
    check_range,
)
from depth_sr_ros.cuda_graphs import GraphCache
from depth_sr_ros.errors import ConfigError
from depth_sr_ros.frame_input import FrameOptions, Registration, check_frame, is_out_of_memory, too_large
from depth_sr_ros.models.checkpoint import load_checkpoint, shipped_checkpoint, weights_hash
from depth_sr_ros.models.guide import DepthAnythingGuide, guide_text
from depth_sr_ros.models.native import NativeNetwork
from depth_sr_ros.models.output_maps import OutputMaps
from depth_sr_ros.models.paced_guide import PacedGuide
from depth_sr_ros.models.pixels import metres_of
from depth_sr_ros.models.registration import DepthRegistration
from depth_sr_ros.pending_answer import PendingAnswer
from depth_sr_ros.runner import GUIDE_SHARE, NetworkRunner, Request
from depth_sr_ros.transfer import UNDER_WAY, transfer_to
from depth_sr_ros.trial import Trial, TrialFrame
from depth_sr_ros.ways import Way, late_ways, possible_ways, resolve_device

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing's own from Python 3.11 on


class DepthSuperResolver:
    """Turns an RGB image and a coarse, noisy depth image of the same view into depth at the RGB's size.

    Parameters: `checkpoint`, a .safetensors file (default: the weights that ship for `variant`); `device`,
    "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N"; `threads`, torch's CPU threads, which are the
    whole process's (default: left as they are); `guide_path`, a folder with Depth Anything's config.json and
    model.safetensors (default: the U-Net runs without that guide); `guide_size`, the short side in pixels of
    the image that Depth Anything sees; `guide_every_n`: it runs on every n-th frame alone, and its relative
    depth is used again for those between, until `forget`; `precision`, "auto" (float16 on CUDA; on a
    CPU float32, unless `warm_up` finds that bfloat16 is faster there), "float32", "bfloat16" or "float16";
    `runtime`, "torch", "native" (the package's own kernels: float32 on a CPU), "cuda_graph"
    (torch by one launch a frame, on CUDA), "compile" (torch.compile, on both: the first frame, or `warm_up`,
    takes a minute or more, and only frames of its sizes are answered so), or "auto": native or cuda_graph
    where they are possible, unless `warm_up` finds that torch is faster, or on CUDA torch.compile where a
    frame takes longer than trial.WORTH_COMPILING_S. `warnings` says what was refused, and which graphs
    failed.

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
        self._device = resolve_device(device)
        check_choice("precision", precision, ("auto", *PRECISIONS))
        check_choice("runtime", runtime, ("auto", *RUNTIMES))
        check_range("guide_size", guide_size, GUIDE_SIDES)
        check_range("guide_every_n", guide_every_n, GUIDE_PACES)
        path = Path(checkpoint) if checkpoint is not None else shipped_checkpoint(variant)
        guide = None if guide_path is None else DepthAnythingGuide.from_folder(guide_path, guide_size)
        self._model, header = load_checkpoint(path, self._device, variant=variant, guide=guide)
        if guide is not None and header.model.guide == "none":
            raise ConfigError(f"variant {variant!r} takes no guide; remove guide_path or choose 'fast'")
        self._ways = possible_ways(runtime, precision, self._device, header.model)
        self._way = self._ways[0]
        # It keeps a second copy of the weights, in the kernels' order.
        kernels = self._way.runtime == "native"
        native = NativeNetwork(self._model, torch.get_num_threads()) if kernels else None
        self._late_ways = late_ways(runtime, precision, self._device)
        self.warnings: list[str] = []
        graphs = GraphCache(self.warnings.append)
        # A CPU makes what else is wanted of metres with NumPy, which is faster there.
        output_maps = OutputMaps(self._device) if self._device.type == "cuda" else None
        self._runner = NetworkRunner(self._model, native, PacedGuide(guide_every_n), graphs, output_maps)
        if self._way.runtime == "compile":
            self._runner.compile(self.warnings.append)
        self._transfer = transfer_to(self._device)
        self._under_way: list[PendingAnswer] = []  # the oldest first
        self.device = str(self._device)
        self.guide_share: float | None = None
        """How much of the guide the last answer took, 0 (it disagreed with the depth) to 1; None: there is
        none that is checked."""
        self.info: dict[str, Any] = {
            "variant": header.variant,
            "version": header.version,
            "checkpoint": str(path),
            "hash": weights_hash(path),
            "training": dict(header.training),
            "metrics": dict(header.metrics),
            "guide": guide_text(header.model.guide, guide),
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
        return (
            f"{self.info['variant']} ({parameters / 1e6:.2f} M parameters, {guided}) on {self.device}, "
            f"{self.precision}, {self._way.kernels}, weights {self.info['hash']}"
        )

    def __call__(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any],
        *,
        registration: Registration | None = None,
        **options: Unpack[FrameOptions],
    ) -> npt.NDArray[np.float32]:
        """Depth in metres, float32 HxW, for one frame; holes are filled, an all-invalid frame is all NaN.

        rgb: uint8, HxWx3 (`channel_order` rgb, bgr), HxWx4 (rgba, bgra) or HxW (mono). depth: float32 or
        uint16, hxw; times `depth_unit_m` it is metres; NaN, infinite, zero and negative values are invalid.
        Both must show the same view, unless `registration` (see `make_registration`) warps the depth into
        the RGB's first; their sizes are free. FrameOptions has the options. Raises FrameError.
        """
        return self.answer(rgb, depth, METRES, registration=registration, **options).metres

    def answer(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any],
        wanted: Wanted,
        *,
        registration: Registration | None = None,
        **options: Unpack[FrameOptions],
    ) -> Answer:
        """The maps that are wanted of a frame, which is as a call takes it. Raises what `submit` raises."""
        return self.submit(rgb, depth, wanted, registration=registration, **options).result()

    @property
    def has_confidence(self) -> bool:
        """Whether the weights say how far an answer may be off."""
        return self._model.confidence_head is not None

    def with_confidence(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any],
        *,
        registration: Registration | None = None,
        **options: Unpack[FrameOptions],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Depth as a call gives it, and the chance, 0 to 1, that each pixel is within 5 % of the truth.

        float32 HxW both, NaN at the same pixels. Of a chance c the mean absolute error follows:
        -0.05 depth / ln(1 - c). Raises FrameError, and ConfigError where the weights have no confidence.
        """
        answer = self.answer(rgb, depth, Wanted(confidence=True), registration=registration, **options)
        return answer.metres, answer.confidence

    def submit(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any],
        wanted: Wanted = METRES,
        *,
        registration: Registration | None = None,
        **options: Unpack[FrameOptions],
    ) -> PendingAnswer:
        """Begin a frame, as a call takes it; `wanted`: the maps that its answer is to have.

        For as many frames a second as a GPU can do: a frame that is begun before the result of the one
        before is asked for is uploaded while that one is computed. Two can be under way; a third waits for
        the first. On a CPU the frame is done when this returns. Raises what a call raises, and ConfigError
        where confidence is wanted of weights that have none.
        """
        if wanted.confidence and not self.has_confidence:
            raise ConfigError(
                f"the weights {self.info['checkpoint']} have no confidence; train them with the "
                "configuration edge_confidence, or take those that ship"
            )
        request = Request(self._way, wanted, **options)
        check_frame(rgb, depth, request.channel_order, request.output_size)
        if len(self._under_way) == UNDER_WAY:
            self._under_way[0].result()
        slot = next(i for i in range(UNDER_WAY) if all(i != each.slot for each in self._under_way))
        try:
            wait = self._begin(rgb, depth, registration, request, slot)
            return PendingAnswer(slot, wait, self._under_way)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            # The traceback holds the frame's tensors: it goes before their memory is given back.
        self._free_memory()
        raise too_large(rgb, depth, self.device, self.info["variant"])

    def _begin(
        self,
        rgb: npt.NDArray[np.uint8],
        depth: npt.NDArray[Any],
        registration: Registration | None,
        request: Request,
        slot: int,
    ) -> Callable[[], Answer]:
        """What waits for the answer and gives it."""
        with self._on_device(), torch.inference_mode():
            pixels = self._transfer.upload("rgb", rgb, slot)
            raw = self._transfer.upload("depth", depth, slot)
            if registration is not None:
                # Not a part of a graph: its parameters change with the cameras.
                raw = registration(metres_of(raw, request.depth_unit_m))[0, 0]
                request = request._replace(depth_unit_m=1.0)
            maps = self._runner(request, pixels, raw)
            wanted, names = request.wanted, tuple(maps)
            wait = self._transfer.download(tuple(maps.values()), slot)

        def answer() -> Answer:
            made = dict(zip(names, wait(), strict=True))
            # The check of the guide is made on the device, and to ask for its result there would be a wait of
            # its own. It travels as one more map: four bytes before the event that is waited for anyway.
            share = made.pop(GUIDE_SHARE, None)
            self.guide_share = None if share is None else float(share[0, 0])
            return Answer(wanted, made)

        return answer

    def _on_device(self) -> contextlib.AbstractContextManager[Any]:
        """Streams, events and graphs are the current device's."""
        return torch.cuda.device(self._device) if self._device.type == "cuda" else contextlib.nullcontext()

    def _free_memory(self) -> None:
        while self._under_way:
            self._under_way[0].result()  # it is the caller's, and its memory is still in use
        self.forget()
        self._runner.graphs.clear()
        self._transfer.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def forget(self) -> None:
        """Forget what is kept from frame to frame, the guide's relative depth: the next frame shows something
        else, or a later or an earlier time.
        """
        self._runner.guide.forget()

    def make_registration(
        self, depth_camera: PinholeCamera, rgb_camera: PinholeCamera, rgb_from_depth: npt.NDArray[np.float64]
    ) -> DepthRegistration:
        """What warps a depth image into the RGB's view, on this engine's device; see DepthRegistration."""
        return DepthRegistration(depth_camera, rgb_camera, rgb_from_depth, self._device)

    def warm_up(
        self,
        rgb_size: tuple[int, int],
        depth_size: tuple[int, int],
        say: Callable[[str], object] = lambda text: None,
        *,
        max_fill_distance: int | None = None,
    ) -> None:
        """Run on (width, height) sizes, so that the first real frame does not pay for preparations.

        On CUDA these are made for uint8 RGB and float32 metres, answered with metres and `max_fill_distance`
        as given: a CUDA graph holds for one kind of frame, and the first two of another kind are slower.

        Of the ways to run the network that the options left open the fastest on these sizes is taken. The
        answers of the kernels, of CUDA graphs, of compiled code and of half precision are compared with
        torch's in float32 first: one that differs by more than trial.MAX_DIFFERENCE or MAX_HALF_DIFFERENCE
        of the depth is not taken, and `warnings` says so. `say` is told before what takes long. Raises
        ConfigError where runtime "compile" was asked for by name and fails.
        """
        frame = TrialFrame.of_sizes(rgb_size, depth_size)
        answer = functools.partial(self._answer_by, max_fill_distance=max_fill_distance)
        trial = Trial(answer, self._runner, self._device, frame, self.warnings.append)
        self._way = trial.choose(self._ways, self._late_ways, say)
        self._ways, self._late_ways = (self._way,), ()

    def _answer_by(
        self, way: Way, frame: TrialFrame, *, max_fill_distance: int | None
    ) -> npt.NDArray[np.float32]:
        """Metres of a frame by a way, which is the engine's from then on."""
        self._way = way
        return self(*frame, max_fill_distance=max_fill_distance)
