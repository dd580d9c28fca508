# SPDX-License-Identifier: Apache-2.0
"""What lives from configure to cleanup: synchronizer, mailbox, worker, and the counters of all of them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from rclpy.clock import Clock
from sensor_msgs.msg import CameraInfo

from depth_sr_ros.answer import Wanted
from depth_sr_ros.camera import output_size
from depth_sr_ros.mailbox import Mailbox
from depth_sr_ros.pairing import Pair
from depth_sr_ros.ros.decoding import decode_depth, decode_rgb
from depth_sr_ros.ros.engine_loader import Engine, new_warnings
from depth_sr_ros.ros.extrinsics import Registrar
from depth_sr_ros.ros.frame_settings import FrameSettings
from depth_sr_ros.ros.messages import to_nanoseconds
from depth_sr_ros.ros.outputs import Outputs, Result
from depth_sr_ros.ros.sync import InputFilter, make_synchronizer
from depth_sr_ros.ros.view_check import ViewCheck
from depth_sr_ros.stats import Occurrences, Rate, Window
from depth_sr_ros.worker import EngineWorker

STAGES = ("wait", "decode", "network", "encode", "publish")
MAX_STEP_NS = 10**9  # between frames that follow on each other


class _Job(NamedTuple):
    pair: Pair
    complete: float  # steady seconds at which the pair was complete


class Pipeline:
    """Takes messages from the executor's thread, answers pairs on the worker's.

    Args:
        values: the parameters; `apply` brings later changes of dynamic ones.
        make_engine: makes the engine, warm-up included, on the worker's thread.
        registrar: warps depth into the RGB's view; None leaves it as it is.
        report: told in one sentence of what went wrong with a frame.
        on_failure: told of the exception that ended the worker, on its thread.
        clock: the node's, for the age of a frame; may be simulated. Latencies are by the steady clock.
    """

    def __init__(
        self,
        values: dict[str, Any],
        make_engine: Callable[[], Engine],
        outputs: Outputs,
        registrar: Registrar | None,
        report: Callable[[str], None],
        on_failure: Callable[[Exception], None],
        clock: Clock,
    ) -> None:
        self._outputs, self._registrar, self._clock = outputs, registrar, clock
        self._report = report
        self._mailbox: Mailbox[_Job] = Mailbox()
        self._worker: EngineWorker[Engine, _Job] = EngineWorker(
            make_engine,
            self._mailbox,
            self._super_resolve,
            lambda error: report(f"bad frame: {error}"),
            on_failure,
        )
        self._rgb, self._depth = InputFilter(), InputFilter()
        self._synchronizer = make_synchronizer(
            values["sync.policy"],
            self._rgb,
            self._depth,
            self._put,
            key=values["sync.key"],
            slop=values["sync.slop"],
            queue_size=values["sync.queue_size"],
            max_wait=values["sync.max_wait"],
        )
        self._settings = FrameSettings.from_values(values)
        self._infos: dict[str, CameraInfo | None] = {"rgb": None, "depth": None}
        self._rates = {name: Rate() for name in ("rgb", "depth", "output")}
        self._times = {name: Window() for name in ("latency", *STAGES, "age")}
        self._offsets = Window()
        self._guide_left_out = Occurrences()
        self._published = self._publish_errors = self._prepared_sizes = 0
        self._known_sizes = {(tuple(values["warmup.rgb_size"]), tuple(values["warmup.depth_size"]))}
        self._last_seen: dict[str, float] = {}
        self._stamp_lag: dict[str, float] = {}
        self._unstamped: dict[str, bool] = {}
        self._last_frame: tuple[str, int] | None = None  # frame_id and stamp of the last RGB image
        self._view_check = ViewCheck(registrar is not None, report)
        # Between the synchronizer's counter of a pair and the mailbox's: a snapshot sees both or neither.
        self._lock = threading.Lock()

    # Executor thread.

    def start(self) -> None:
        """Make the engine; blocks until it is ready. Raises what making it raised."""
        self._worker.start()

    def stop(self) -> None:
        """Take no further message, end the worker and wait for it; safe to call again."""
        self._synchronizer.close()
        self._worker.stop()

    def open(self) -> None:
        """Begin to count silence: the inputs are subscribed now."""
        now = time.monotonic()
        self._last_seen = {"rgb": now, "depth": now}

    def clear(self) -> None:
        """Drop what waits, and wait for the frame under way: nothing is published after this returns.

        The next frame is the first of its stream: nothing of those before is used for it.
        """
        self._synchronizer.clear()
        self._mailbox.clear()
        self._worker.wait_idle()
        self._last_frame = None
        self._guide_left_out.forget_last()
        self._last_seen = {}
        # The camera may come back with another resolution, and its images before their CameraInfo.
        self._infos = {"rgb": None, "depth": None}

    def apply(self, values: dict[str, Any]) -> None:
        """Take over the dynamic parameters; they act on the next frame."""
        self._settings = FrameSettings.from_values(values)
        self._synchronizer.set_limits(values["sync.slop"], values["sync.max_wait"])

    def push_rgb(self, message: Any) -> None:
        """An RGB image, of any type that the inputs deliver."""
        self._seen("rgb", message)
        with self._lock:
            self._rgb.signalMessage(message)

    def push_depth(self, message: Any) -> None:
        """A depth image."""
        self._seen("depth", message)
        with self._lock:
            self._depth.signalMessage(message)

    def push_info(self, name: str, message: CameraInfo) -> None:
        """The CameraInfo of `rgb` or `depth`."""
        self._infos[name] = message

    def poll(self) -> None:
        """Let go of what has waited long enough."""
        with self._lock:
            self._synchronizer.poll()

    def _seen(self, name: str, message: Any) -> None:
        now = time.monotonic()
        self._rates[name].tick(now)
        self._last_seen[name] = now
        stamp = to_nanoseconds(message.header.stamp)
        self._stamp_lag[name] = now - stamp / 1e9
        self._unstamped[name] = stamp == 0

    def _put(self, pairs: list[Pair]) -> None:
        now = time.monotonic()
        for pair in pairs:
            self._offsets.add((pair.rgb_stamp - pair.depth_stamp) / 1e6)
            self._mailbox.put(_Job(pair, now))

    # Worker thread.

    def _super_resolve(self, engine: Engine, job: _Job) -> None:
        taken, settings = time.monotonic(), self._settings
        rgb_message, depth_message = job.pair.rgb, job.pair.depth
        rgb_info, depth_info = self._infos["rgb"], self._infos["depth"]
        rgb, order = decode_rgb(rgb_message)
        depth, unit = decode_depth(depth_message)
        sizes = (rgb.shape[1::-1], depth.shape[1::-1])
        self._view_check(sizes, rgb_message, depth_message, rgb_info, depth_info)
        options: dict[str, Any] = {"max_fill_distance": settings.max_fill_distance}
        if settings.max_side:
            options["output_size"] = output_size(rgb.shape[1], rgb.shape[0], settings.max_side)
        if self._registrar is not None:
            frames = (rgb_message.header.frame_id, depth_message.header.frame_id)
            options["registration"] = self._registrar(engine, frames, (rgb_info, depth_info), sizes)
        self._note_sizes(sizes)
        if not self._follows(rgb_message.header.frame_id, job.pair.rgb_stamp):
            engine.forget()
        decoded = time.monotonic()
        options |= {"channel_order": order, "depth_unit_m": unit}
        wanted = self._wanted(engine, settings)
        answer = engine.answer(rgb, depth, wanted, **options)
        inferred = time.monotonic()
        if (share := getattr(engine, "guide_share", None)) is not None:
            self._guide_left_out.add(share == 0)
        for warning in new_warnings(engine):
            self._report(warning)
        result = Result(rgb_message.header, rgb, order, answer, rgb_info, settings.encoding)
        image = self._outputs.encode_depth(result)
        encoded = time.monotonic()
        is_out = self._outputs.publish_depth(image, result)
        marks = (job.complete, taken, decoded, inferred, encoded, time.monotonic())
        self._note_times(marks, rgb_message.header)
        # After the depth: whoever looks at pictures can wait for whoever drives by it.
        self._outputs.publish_views(result)
        # Last: what raises above counts as bad or failed, and must not count twice.
        if is_out:
            self._published += 1
            self._rates["output"].tick()
        else:
            self._publish_errors += 1

    def _follows(self, frame_id: str, stamp: int) -> bool:
        """Whether the scene can be that of the frame before: not after a jump in time (a bag that loops, a
        pause) or from another camera.
        """
        last, self._last_frame = self._last_frame, (frame_id, stamp)
        return last is not None and last[0] == frame_id and 0 <= stamp - last[1] <= MAX_STEP_NS

    def _wanted(self, engine: Engine, settings: FrameSettings) -> Wanted:
        """What is to be published of the next frame, as far as the engine has it."""
        wanted = self._outputs.wanted(settings.encoding, settings.color_range)
        if not wanted.confidence or getattr(engine, "has_confidence", False):
            return wanted
        self._report("~/confidence is asked for, but these weights have none; take those that ship")
        return replace(wanted, confidence=False)

    def _note_times(self, marks: tuple[float, ...], header: Any) -> None:
        spans = {"latency": marks[-1] - marks[0]}
        spans |= {
            name: end - start for name, (start, end) in zip(STAGES, itertools.pairwise(marks), strict=True)
        }
        # By the ROS clock, which is the bag's with use_sim_time.
        spans["age"] = (self._clock.now().nanoseconds - to_nanoseconds(header.stamp)) / 1e9
        milliseconds = {name: span * 1e3 for name, span in spans.items()}
        for name, value in milliseconds.items():
            self._times[name].add(value)
        self._outputs.publish_timing(header, milliseconds)

    def _note_sizes(self, sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
        if sizes not in self._known_sizes and len(self._known_sizes) < 1000:
            self._known_sizes.add(sizes)
            self._prepared_sizes += 1
            (width, height), (depth_width, depth_height) = sizes
            self._report(
                f"preparing for RGB {width}x{height} and depth {depth_width}x{depth_height}: this frame is "
                "slower; set warmup.rgb_size and warmup.depth_size to have it done at the start"
            )

    # Any thread.

    def snapshot(self) -> dict[str, Any]:
        """Counters, rates (Hz), times (ms), flat. At every moment, on any thread:

        received = paired + unpaired + evicted + queued for each stream, and
        pairs = overwritten + waiting + processing + published + publish_errors + bad + failed.
        """
        # What the worker ends between these lines is still among the taken: it counts as processing.
        # A few tries for a moment in which it ends nothing keep that to the one frame that it works on.
        for _ in range(3):
            ends = (self._publish_errors, self._published, self._worker.counts())
            with self._lock:
                mailbox, pairing = self._mailbox.counts(), self._synchronizer.counts()
            if ends == (self._publish_errors, self._published, self._worker.counts()):
                break
        publish_errors, published, worker = ends
        out: dict[str, Any] = {}
        for name, stream in (("rgb", pairing.rgb), ("depth", pairing.depth)):
            out |= {f"{name}_{key}": value for key, value in stream._asdict().items()}
        ended = published + publish_errors + worker.bad + worker.failed
        out |= {"pairs": pairing.pairs, "reused": pairing.reused, "resets": pairing.resets}
        out |= {"overwritten": mailbox.overwritten, "waiting": mailbox.waiting}
        out |= {"processing": mailbox.taken - ended, "published": published, "publish_errors": publish_errors}
        out |= {"bad": worker.bad, "failed": worker.failed, "prepared_sizes": self._prepared_sizes}
        out |= {f"{name}_hz": rate.hz() for name, rate in self._rates.items()}
        for name, window in self._times.items():
            times = window.percentiles()
            out |= {f"{name}_p50_ms": times.p50, f"{name}_p95_ms": times.p95, f"{name}_max_ms": times.max}
        left_out, left_out_recently = self._guide_left_out.counts()
        out |= {"guide_left_out": left_out, "guide_left_out_recent": left_out_recently}
        now = time.monotonic()
        silent = {name: now - self._last_seen.get(name, now) for name in ("rgb", "depth")}
        out |= {f"{name}_silent_s": seconds for name, seconds in silent.items()}
        lags = self._stamp_lag
        out |= {"sync_offset_p50_ms": self._offsets.percentiles().p50}
        out |= {"stamp_skew_s": lags["rgb"] - lags["depth"] if len(lags) == 2 else 0.0}
        out |= {"unstamped": ", ".join(name for name in silent if self._unstamped.get(name))}
        return out | {"view_mismatch": self._view_check.mismatch}
