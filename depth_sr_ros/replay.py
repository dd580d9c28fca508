# SPDX-License-Identifier: Apache-2.0
"""Evaluate a recording offline: every pair of a rosbag2 bag through the engine, scored, none dropped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from depth_sr_ros.bag import BagReader
from depth_sr_ros.bag_pairs import (
    BagPair,
    RgbdTopics,
    decode_depth,
    decode_rgb,
    find_topics,
    read_pairs,
    stamp_ns,
)
from depth_sr_ros.baselines import run_baseline
from depth_sr_ros.config import check_choice
from depth_sr_ros.degradation import PROFILES, check_scale, crop_to_multiple, degrade_recorded
from depth_sr_ros.engine import DepthSuperResolver
from depth_sr_ros.errors import ConfigError, DataError, FrameError
from depth_sr_ros.metrics import depth_metrics, near_edge_mask, valid_mask
from depth_sr_ros.sensor_profiles import cell_mean

FILTERS = ("bicubic", "guided", "fgs")
OURS = "ours"
STATIC_CHANGE = 6  # of 255: a pixel whose colour changed by less did not move, most likely
RANGE_BINS_M = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0, 300.0)
CLEAN_PROFILES = ("clean", "bicubic")

Depth = npt.NDArray[np.float32]
Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ReplaySettings:
    """What is evaluated.

    `simulate`: a degradation profile; the bag's depth, shrunk by `scale` and degraded, is the input and the
    depth as it was recorded the truth. `reference_topic`: depth to score against, at the RGB's size or
    smaller. With neither there is no truth. `baselines`: also run the filters. `seed` draws the noise.
    """

    bag: Path
    rgb_topic: str | None = None
    depth_topic: str | None = None
    reference_topic: str | None = None
    simulate: str | None = None
    scale: int = 4
    baselines: bool = True
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.simulate is not None:
            check_choice("simulate", self.simulate, PROFILES)
            if self.reference_topic is not None:
                raise ConfigError("simulate and a reference topic are two truths: choose one")
            check_scale(self.scale)
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}, but must be at least 1")


@dataclass(frozen=True)
class Frame:
    """One pair, decoded. `truth` is HxW at the RGB's size, or None."""

    stamp_ns: int
    offset_ms: float
    rgb: Rgb
    depth: Depth
    truth: Depth | None


@dataclass(frozen=True)
class FrameRecord:
    """What is kept of a frame; `metrics` by method, empty without a truth.

    `valid_in`, `valid_out`: shares of pixels with depth. `lr_error`: median relative difference of the
    answer's mean over an LR pixel from what was measured. `flicker` by method: mean relative change from the
    frame before where the picture did not change; None where nothing stood still.
    """

    stamp_ns: int
    offset_ms: float
    network_ms: float
    valid_in: float
    valid_out: float
    lr_error: float
    flicker: dict[str, float] | None
    metrics: dict[str, dict[str, float]]


@dataclass
class Replay:
    """The whole recording. `range_errors`: by method, summed squares and counts of RANGE_BINS_M."""

    settings: ReplaySettings
    topics: RgbdTopics
    engine: str
    records: list[FrameRecord] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int, int, int]] = field(default_factory=Counter)
    range_errors: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)


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
    resolver: DepthSuperResolver,
    samples: Samples,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Replay:
    """Run the recording through the engine; what cannot be used is counted in `problems` and left out.

    Raises DataError where there is no such bag, topic or pair, and where it is damaged before the first
    frame.
    """
    with BagReader(settings.bag) as bag:
        topics = find_topics(bag, settings.rgb_topic, settings.depth_topic, settings.reference_topic)
        out = Replay(settings, topics, resolver.description)
        before: tuple[Frame, dict[str, Depth]] | None = None
        try:
            for number, (pair, partner) in enumerate(_pairs(bag, settings, topics)):
                if settings.limit is not None and len(out.records) >= settings.limit:
                    break
                try:
                    frame = _frame(bag, pair, partner, settings, number)
                    before = _evaluate(out, frame, resolver, samples, before)
                except (FrameError, DataError) as error:
                    out.problems[str(error)] += 1
                    continue
                on_frame(len(out.records))
        except DataError as error:
            # A recording that breaks off: what came before is worth a report.
            if not out.records:
                raise
            out.problems[str(error)] += 1
    if not out.records:
        reasons = "; ".join(f"{text} ({count} times)" for text, count in out.problems.most_common(3))
        raise DataError(
            f"{settings.bag} holds no usable pair of {topics.rgb} and {topics.depth}"
            + (f": {reasons}" if reasons else ": their stamps are too far apart, or one has no message")
        )
    return out


def _pairs(
    bag: BagReader, settings: ReplaySettings, topics: RgbdTopics
) -> Iterator[tuple[BagPair, BagPair | None]]:
    """Pairs, with that of the reference and the same RGB frame where there is a topic of it."""
    if settings.reference_topic is None:
        yield from ((pair, None) for pair in read_pairs(bag, topics))
        return
    # A second reader of the same file: both go forward together, and nothing is kept.
    with BagReader(settings.bag) as other:
        wanted = find_topics(other, topics.rgb, settings.reference_topic)
        references = read_pairs(other, wanted)
        partner = next(references, None)
        for pair in read_pairs(bag, topics):
            while partner is not None and partner.stamp_ns < pair.stamp_ns:
                partner = next(references, None)
            belongs = partner is not None and partner.stamp_ns == pair.stamp_ns
            yield pair, partner if belongs else None


def _frame(
    bag: BagReader, pair: BagPair, partner: BagPair | None, settings: ReplaySettings, number: int
) -> Frame:
    rgb, depth = decode_rgb(bag, pair.rgb), decode_depth(bag, pair.depth)
    offset = (stamp_ns(bag.deserialize(pair.depth)) - pair.stamp_ns) / 1e6
    if settings.simulate is not None:
        truth, seed = crop_to_multiple(depth), (settings.seed, number)
        low, view = degrade_recorded(truth, rgb, settings.scale, settings.simulate, seed)
        assert view is not None
        return Frame(pair.stamp_ns, offset, view, low, truth)
    if settings.reference_topic is None:
        return Frame(pair.stamp_ns, offset, rgb, depth, None)
    if partner is None:
        raise FrameError(f"no frame of {settings.reference_topic} belongs to an RGB image")
    reference = decode_depth(bag, partner.depth)
    truth = cv2.resize(reference, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(np.float32)
    return Frame(pair.stamp_ns, offset, rgb, depth, truth)


def _evaluate(
    out: Replay,
    frame: Frame,
    resolver: DepthSuperResolver,
    samples: Samples,
    before: tuple[Frame, dict[str, Depth]] | None,
) -> tuple[Frame, dict[str, Depth]]:
    if not valid_mask(frame.depth).any():
        raise FrameError("a depth image holds no measurement at all")
    start = time.perf_counter()
    answers = {OURS: resolver(frame.rgb, frame.depth)}
    network_ms = 1e3 * (time.perf_counter() - start)
    if out.settings.baselines:
        group = "clean" if out.settings.simulate in CLEAN_PROFILES else "noisy"
        answers |= {name: run_baseline(name, frame.depth, frame.rgb, group) for name in FILTERS}
    metrics = {}
    if frame.truth is not None:
        edges = near_edge_mask(frame.truth)
        metrics = {name: depth_metrics(a, frame.truth, edge_mask=edges) for name, a in answers.items()}
        for name, answer in answers.items():
            out.range_errors[name] = out.range_errors.get(name, 0) + _by_range(answer, frame.truth)
    ours = answers[OURS]
    out.records.append(
        FrameRecord(
            frame.stamp_ns,
            frame.offset_ms,
            network_ms,
            float(valid_mask(frame.depth).mean()),
            float(valid_mask(ours).mean()),
            _lr_error(ours, frame.depth),
            None if before is None else _flicker(frame, answers, *before),
            metrics,
        )
    )
    (height, width), (lr_height, lr_width) = frame.rgb.shape[:2], frame.depth.shape
    out.sizes[(width, height, lr_width, lr_height)] += 1
    samples.add(metrics.get(OURS, {}).get("rmse", float("nan")), frame, ours)
    return frame, answers


def _by_range(answer: Depth, truth: Depth) -> npt.NDArray[np.float64]:
    """(2, bins): squared errors summed, and pixels counted, by the true distance."""
    known = valid_mask(truth) & np.isfinite(answer)
    square = np.square(answer[known] - truth[known], dtype=np.float64)
    total, _ = np.histogram(truth[known], RANGE_BINS_M, weights=square)
    count, _ = np.histogram(truth[known], RANGE_BINS_M)
    return np.stack([total, count.astype(np.float64)])


def _lr_error(answer: Depth, depth: Depth) -> float:
    """Of the LR pixels whose size divides the image's; NaN where none does."""
    scale = answer.shape[0] // depth.shape[0]
    if scale < 1 or answer.shape != (depth.shape[0] * scale, depth.shape[1] * scale):
        return float("nan")
    means, known = cell_mean(answer, scale), valid_mask(depth)
    with np.errstate(invalid="ignore"):
        return float(np.nanmedian(np.abs(means - depth)[known] / depth[known]))


def _flicker(
    frame: Frame, answers: dict[str, Depth], last: Frame, last_answers: dict[str, Depth]
) -> dict[str, float] | None:
    if last.rgb.shape != frame.rgb.shape:
        return None
    change = np.abs(frame.rgb.astype(np.int16) - last.rgb).max(axis=2)
    # The noise of a camera passes, a motion of half a pixel at an edge does not.
    still = cv2.blur(change.astype(np.float32), (5, 5)) < STATIC_CHANGE
    out = {}
    for name, answer in answers.items():
        earlier = last_answers[name]
        known = still & valid_mask(answer) & valid_mask(earlier)
        if known.mean() < 0.01:
            return None
        out[name] = float(np.mean(np.abs(answer - earlier)[known] / answer[known]))
    return out
