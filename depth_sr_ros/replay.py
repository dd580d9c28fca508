# SPDX-License-Identifier: Apache-2.0
"""Evaluate a recording offline: every pair of a rosbag2 bag through the engine, scored, none dropped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from depth_sr_ros.bag import BagReader
from depth_sr_ros.bag_pairs import RgbdTopics
from depth_sr_ros.baselines import run_baseline
from depth_sr_ros.engine import DepthSuperResolver
from depth_sr_ros.errors import DataError, FrameError
from depth_sr_ros.metrics import depth_metrics, near_edge_mask, valid_mask
from depth_sr_ros.replay_frames import Depth, Frame, ReplayFrames, ReplaySettings
from depth_sr_ros.replay_measures import (
    edge_alignment,
    flicker,
    lr_error,
    picture_edges,
    squares_by_range,
    static_mask,
    thinned_grey,
)

FILTERS = ("bicubic", "guided", "fgs")
OURS = "ours"
CLEAN_PROFILES = ("clean", "bicubic")


@dataclass(frozen=True)
class FrameRecord:
    """What is kept of a frame; `metrics`, `alignment` and `flicker` by method.

    `time_ms`: the network's, or of a recorded answer what passed since its RGB image. `arrival_ns`: of a
    recorded answer. `valid_in`, `valid_out`: shares of pixels with depth. `metrics` is empty without a truth;
    `flicker` is where nothing stood still. See replay_measures.py.
    """

    stamp_ns: int
    offset_ms: float
    lost: int
    time_ms: float
    arrival_ns: int | None
    valid_in: float
    valid_out: float
    lr_error: float
    flicker: dict[str, float]
    alignment: dict[str, float]
    metrics: dict[str, dict[str, float]]


@dataclass
class Replay:
    """The whole recording. `range_errors`: by method, summed squares and counts of RANGE_BINS_M.

    `damage`: why the recording could not be read to its end; empty where it was. `seconds`: what all frames
    took, `reading` and decoding, the `network`, and the `scoring`, filters included.
    """

    settings: ReplaySettings
    topics: RgbdTopics
    engine: str
    records: list[FrameRecord] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    damage: str = ""
    sizes: Counter[tuple[int, int, int, int]] = field(default_factory=Counter)
    range_errors: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Samples:
    """Frames kept for the pictures: the worst, one in between and the best; the first without a truth.

    As few as possible are kept while the recording goes by: memory does not grow with it.
    """

    def __init__(self) -> None:
        self.kept: list[tuple[float, Frame, Depth]] = []

    def add(self, score: float, frame: Frame, answer: Depth) -> None:
        """Offer a frame and its answer; `score` is its RMSE, or NaN."""
        if not np.isfinite(score):
            if not self.kept:
                self.kept.append((score, frame, answer))
            return
        # NaN has no place in an order: such a frame stands in only until one has a score.
        self.kept = [item for item in self.kept if np.isfinite(item[0])]
        # The best, the worst, and some in between, far from each other.
        self.kept.append((score, frame, answer))
        self.kept.sort(key=lambda item: item[0])
        if len(self.kept) > 5:
            scores = [item[0] for item in self.kept]
            middle = min(range(1, len(scores) - 1), key=lambda i: scores[i + 1] - scores[i - 1])
            del self.kept[middle]

    def chosen(self) -> list[tuple[str, Frame, Depth]]:
        """(name, frame, answer) of what is shown."""
        if len(self.kept) < 3:
            return [(f"frame {i + 1}", frame, answer) for i, (_, frame, answer) in enumerate(self.kept)]
        picks = {"worst": -1, "in between": len(self.kept) // 2, "best": 0}
        return [(name, self.kept[i][1], self.kept[i][2]) for name, i in picks.items()]


def replay(
    settings: ReplaySettings,
    resolver: DepthSuperResolver | None,
    samples: Samples,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Replay:
    """Run the recording through the engine; what cannot be used is counted in `problems` and left out.

    `resolver` is None where the answers were recorded (`settings.answer_topic`).

    Raises DataError where there is no such bag, topic or pair, and where it is damaged before the first
    frame.
    """
    with BagReader(settings.bag) as bag:
        frames = ReplayFrames(bag, settings)
        out = Replay(settings, frames.topics, "recorded answers")
        scorer = _Scorer(out, samples)
        watch = _Stopwatch()
        try:
            for number, found in enumerate(frames):
                if settings.limit is not None and len(out.records) >= settings.limit:
                    break
                try:
                    frame = frames.decode(*found, number=number)
                    if resolver is not None and not out.records:
                        _warm_up(resolver, frame)
                        watch = _Stopwatch()  # of the preparations nothing counts
                    watch.lap("reading")
                    answer = _answer(frame, resolver)
                    watch.lap("network")
                    scorer.add(frame, *answer)
                    watch.lap("scoring")
                except (FrameError, DataError) as error:
                    out.problems[str(error)] += 1
                    continue
                on_frame(len(out.records))
        except DataError as error:
            # A recording that breaks off: what came before is worth a report.
            if not out.records:
                raise
            out.damage = str(error)
        out.problems.update(frames.left_out)
    out.seconds = watch.seconds
    if resolver is not None:
        out.engine = resolver.description
    if not out.records:
        raise _nothing_usable(out)
    return out


def _nothing_usable(out: Replay) -> DataError:
    reasons = "; ".join(f"{text} ({count} times)" for text, count in out.problems.most_common(3))
    return DataError(
        f"{out.settings.bag} holds no usable pair of {out.topics.rgb} and {out.topics.depth}"
        + (f": {reasons}" if reasons else ": their stamps are too far apart, or one has no message")
    )


class _Stopwatch:
    """Adds up the seconds of stages that follow each other."""

    def __init__(self) -> None:
        self.seconds = {"reading": 0.0, "network": 0.0, "scoring": 0.0}
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """What passed since the last lap belongs to `stage`."""
        now = time.perf_counter()
        self.seconds[stage] += now - self._since
        self._since = now


def _warm_up(resolver: DepthSuperResolver, frame: Frame) -> None:
    (height, width), (lr_height, lr_width) = frame.rgb.shape[:2], frame.depth.shape
    resolver.warm_up((width, height), (lr_width, lr_height))


def _answer(frame: Frame, resolver: DepthSuperResolver | None) -> tuple[Depth, float]:
    """Ours, and the milliseconds that it took."""
    if not valid_mask(frame.depth).any():
        raise FrameError("a depth image holds no measurement at all")
    if frame.answer is not None:
        return frame.answer.depth, frame.answer.latency_ms
    assert resolver is not None
    start = time.perf_counter()
    depth = resolver(frame.rgb, frame.depth)
    return depth, 1e3 * (time.perf_counter() - start)


class _Scorer:
    """Adds frames to a Replay; remembers the one before, for the flicker."""

    def __init__(self, out: Replay, samples: Samples) -> None:
        self._out, self._samples = out, samples
        self._before: tuple[npt.NDArray[np.uint8], dict[str, Depth]] | None = None

    def add(self, frame: Frame, ours: Depth, time_ms: float) -> None:
        out = self._out
        answers = {OURS: ours}
        if out.settings.baselines:
            group = "clean" if out.settings.simulate in CLEAN_PROFILES else "noisy"
            answers |= {name: run_baseline(name, frame.depth, frame.rgb, group) for name in FILTERS}
        metrics = {}
        if frame.truth is not None:
            edges = near_edge_mask(frame.truth)
            metrics = {name: depth_metrics(a, frame.truth, edge_mask=edges) for name, a in answers.items()}
            for name, answer in answers.items():
                sums = squares_by_range(answer, frame.truth)
                out.range_errors[name] = out.range_errors.get(name, 0) + sums
        grey = thinned_grey(frame.rgb)
        strong = picture_edges(grey)
        out.records.append(
            FrameRecord(
                frame.stamp_ns,
                frame.offset_ms,
                frame.lost,
                time_ms,
                None if frame.answer is None else frame.answer.arrival_ns,
                float(valid_mask(frame.depth).mean()),
                float(valid_mask(ours).mean()),
                lr_error(ours, frame.depth),
                self._flicker(grey, answers),
                {name: edge_alignment(answer, strong) for name, answer in answers.items()},
                metrics,
            )
        )
        (height, width), (lr_height, lr_width) = frame.rgb.shape[:2], frame.depth.shape
        out.sizes[(width, height, lr_width, lr_height)] += 1
        self._samples.add(metrics.get(OURS, {}).get("rmse", float("nan")), frame, ours)
        self._before = grey, answers

    def _flicker(self, grey: npt.NDArray[np.uint8], answers: dict[str, Depth]) -> dict[str, float]:
        if self._before is None:
            return {}
        last, earlier = self._before
        still = static_mask(grey, last)
        if still is None or any(answers[name].shape != earlier[name].shape for name in answers):
            return {}
        return {name: flicker(answer, earlier[name], still) for name, answer in answers.items()}
