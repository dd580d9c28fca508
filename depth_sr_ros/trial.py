# SPDX-License-Identifier: Apache-2.0
"""The trial of the ways to run the network: which answer as torch does in float32, and which is fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from depth_sr_ros.compiled import why_not_compiled
from depth_sr_ros.errors import ConfigError, FrameError
from depth_sr_ros.runner import NetworkRunner
from depth_sr_ros.ways import REFERENCE, Way

TRIALS = 3  # of each way to run; the fastest counts
# Seconds of a frame above which `auto` tries torch.compile on CUDA. The other ways' trial is over within a
# second or so, a compilation takes tens of them at each start whose cache is cold. No depth camera has more
# than 90 Hz: below this the faster network would only wait longer for the next frame.
WORTH_COMPILING_S = 0.01
COMPILING = (
    "compiling the network with torch.compile: a minute or more the first time, less once its cache is filled"
)
# Of an answer in float32 from torch's, of the depth: far above what a different order of sums does (1e-5),
# far below what anybody sees.
MAX_DIFFERENCE = 1e-3
MAX_HALF_DIFFERENCE = 2e-2  # the median pixel's: half precision is off by more where depth jumps


class TrialFrame(NamedTuple):
    """uint8 HxWx3, and metres as float32 hxw."""

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]

    @classmethod
    def of_sizes(cls, rgb_size: tuple[int, int], depth_size: tuple[int, int]) -> TrialFrame:
        """Of (width, height) sizes: a wall seen askew, with a sensor's noise, in random colours."""
        noise = np.random.default_rng(0)
        rgb = noise.integers(0, 256, (rgb_size[1], rgb_size[0], 3), np.uint8)
        # On noise alone half precision would look worse than it is.
        wall = np.linspace(1.0, 4.0, depth_size[0]) * np.ones((depth_size[1], 1))
        return cls(rgb, (wall * noise.uniform(0.98, 1.02, wall.shape)).astype(np.float32))

    def mirrored(self) -> TrialFrame:
        """Another frame of the same sizes."""
        return TrialFrame(self.rgb[::-1], self.depth[::-1, ::-1])


# A frame's depth in metres by a way. It is on the host: nothing is still under way.
AnswerBy = Callable[[Way, TrialFrame], npt.NDArray[np.float32]]


class Trial:
    """Tries ways to run the network on one frame.

    `answer` runs the network through `runner`, on `device`; `warn` is told of the ways that are refused.
    """

    def __init__(
        self,
        answer: AnswerBy,
        runner: NetworkRunner,
        device: torch.device,
        frame: TrialFrame,
        warn: Callable[[str], None],
    ) -> None:
        self._answer = answer
        self._runner = runner
        self._device = device
        self._frame = frame
        self._warn = warn

    def choose(self, ways: Sequence[Way], late: Sequence[Way], say: Callable[[str], object]) -> Way:
        """The fastest way whose answer is torch's in float32; the runner lets go of what it does not need.

        `late` ways are tried where the fastest of `ways` takes longer than WORTH_COMPILING_S. `say` is told
        before what takes long. Raises ConfigError where one of `ways` compiles and that fails, and
        FrameError where the device's memory does not do for a frame.
        """
        if self._runner.compiled is not None:
            say(COMPILING)
        seconds = self._seconds(ways) or self._seconds((REFERENCE,))
        if late and min(seconds.values()) > WORTH_COMPILING_S:
            seconds |= self._late_seconds(late, say)
        fastest = min(seconds, key=lambda way: seconds[way])
        self._runner.keep_only(fastest)
        graphed = [way for way in seconds if way.has_graphs(self._device)]
        if graphed != [fastest]:
            self._runner.graphs.clear()  # the memory of those that were slower
        if fastest in graphed:
            self._fresh(fastest)  # captured again where it was let go with them
        self._runner.guide.forget()  # the relative depth of noise
        return fastest

    def _late_seconds(self, ways: Sequence[Way], say: Callable[[str], object]) -> dict[Way, float]:
        """As _seconds, of torch.compile; where it is not possible or fails the reason is a warning."""
        reason = why_not_compiled(self._device)
        if not reason:
            say(COMPILING)
            self._runner.compile(self._warn)
            try:
                return self._seconds(ways)
            except (ConfigError, FrameError) as error:  # the latter: out of memory
                reason = str(error)
        self._warn(f"the network runs without torch.compile: {reason}")
        return {}

    def _seconds(self, ways: Sequence[Way]) -> dict[Way, float]:
        """Seconds that a frame takes by each way that does not differ."""
        return {way: self._frame_time(way) for way in self._without_those_that_differ(ways)}

    def _without_those_that_differ(self, ways: Sequence[Way]) -> dict[Way, None]:
        """Run each way once; leave out those whose answer is not torch's in float32, with a warning."""
        expected = self._fresh(REFERENCE)
        kept: dict[Way, None] = {}
        for way in ways:
            if way.has_graphs(self._device):
                # Once as it is, once captured: what is compared is then a replay, of another frame.
                for _ in range(2):
                    self._fresh(way, self._frame.mirrored())
                if way.runtime == "cuda_graph" and self._runner.graphs.failures:
                    way = way._replace(runtime="torch")
            if way in kept or way == REFERENCE:
                kept[way] = None
                continue
            relative = np.abs(self._fresh(way) - expected) / expected
            exact = way.precision == "float32"
            found = float(np.max(relative) if exact else np.median(relative))  # NaN where any pixel is
            bound = MAX_DIFFERENCE if exact else MAX_HALF_DIFFERENCE
            if found <= bound:
                kept[way] = None
                continue
            verb = "differ" if way.runtime == "native" else "differs"
            self._warn(
                f"{way} {verb} from torch in float32 by {found:.2g} of the depth, more than {bound:g}: "
                "torch runs the network without; please report this"
            )
        return kept

    def _fresh(self, way: Way, frame: TrialFrame | None = None) -> npt.NDArray[np.float32]:
        """The answer by a way, its own guide's included; to the trial's frame unless another is given."""
        self._runner.guide.forget()
        return self._answer(way, frame or self._frame)

    def _frame_time(self, way: Way) -> float:
        """Seconds that a frame takes, the least of TRIALS; at the guide's own pace the mean of frames."""
        every_n = self._runner.guide_every_n
        with_guide, between = [], []
        for _ in range(TRIALS):
            self._runner.guide.forget()
            with_guide.append(self._timed(way))
            if every_n > 1:
                between.append(self._timed(way))
        return (min(with_guide) + (every_n - 1) * min(between, default=0.0)) / every_n

    def _timed(self, way: Way) -> float:
        start = time.perf_counter()
        self._answer(way, self._frame)
        return time.perf_counter() - start
