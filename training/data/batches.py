# SPDX-License-Identifier: Apache-2.0
"""Training batches by step number: a sample follows from the run's seed, the step, its rank and its index."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from depth_sr_ros.errors import ConfigError, DepthSRError
from training.config import SourceConfig, TrainConfig
from training.data.bag_frames import BagFrames
from training.data.mvs_synth import list_samples, read_sample
from training.data.rgbd_folder import list_pairs, read_pair
from training.data.root import data_root
from training.data.sources import FileSource, Mixture, ProceduralSource, RenderedSource, Source, View
from training.degradation import RandomDegradation
from training.draws import uniform
from training.imperfections import imperfect
from training.simulated_guide import simulated_guide

Batch = dict[str, Tensor]
GUIDE_SEED = 0x6715  # apart from the seeds of the batches


def step_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed that differs for every (run seed, step, rank): of what the samples of a batch share."""
    return _hashed(seed, step, rank)


def sample_seed(seed: int, step: int, rank: int, index: int) -> int:
    """A 63-bit seed that differs for every (run seed, step, rank, index in the batch)."""
    return _hashed(seed, step, rank, index)


def _hashed(*numbers: int) -> int:
    digest = hashlib.sha256("/".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def sees_no_guide(config: TrainConfig, step: int, rank: int) -> bool:
    """Whether a step's batch is trained without the guide; as the batch, from run, step and rank alone."""
    generator = torch.Generator().manual_seed(step_seed(config.run.seed, step, rank) ^ GUIDE_SEED)
    return bool(torch.rand((), generator=generator) < config.guide.dropout)


class BatchMaker:
    """Makes the batch of a step: `rgb` (B, 3, H, W); `depth_lr` (B, 1, h, w), `depth` (B, 1, H, W), m.

    With a simulated guide also `relative_depth` (B, 1, H, W).
    """

    def __init__(self, config: TrainConfig, device: torch.device | str = "cpu") -> None:
        self._config = config
        self._device = torch.device(device)
        self._mixture = Mixture([(s.weight, _source(s, device)) for s in config.data.sources])
        self._degrade = RandomDegradation(config.degradation)
        self._size = (config.data.crop[0], config.data.crop[1])

    def __call__(self, step: int, rank: int = 0) -> Batch:
        return self._make(step, rank, range(self._config.data.batch_size))

    def sample(self, step: int, rank: int, index: int) -> Batch:
        """Sample `index` of a step's batch as a batch of one, made without the others; on a CPU its bits."""
        return self._make(step, rank, (index,))

    def _make(self, step: int, rank: int, indices: Sequence[int]) -> Batch:
        seed = self._config.run.seed
        scale = self._degrade.draw_scale(torch.Generator().manual_seed(step_seed(seed, step, rank)))
        generators = [
            torch.Generator(self._device).manual_seed(sample_seed(seed, step, rank, index))
            for index in indices
        ]
        views = self._mixture.views(self._size, generators)
        samples = [self._sample(view, scale, each) for view, each in zip(views, generators, strict=True)]
        return {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}

    def _sample(self, view: View, scale: float, generator: torch.Generator) -> Batch:
        rgb, depth = view
        share, guide = self._config.data.imperfect_share, self._config.guide
        if share:
            rgb, depth = imperfect(rgb, depth, share, generator)
        sample = {"rgb": rgb, "depth": depth, "depth_lr": self._degrade(depth, rgb, scale, generator)}
        if guide.simulated:
            if uniform((), rgb, generator) < guide.errors.wrong_share:
                ((_, depth),) = self._mixture.views(self._size, [generator])
            sample["relative_depth"] = simulated_guide(depth, guide.errors, generator)
        return sample


def _source(config: SourceConfig, device: torch.device | str) -> Source:
    if config.kind == "procedural":
        return ProceduralSource(device)
    if config.kind == "rendered":
        folder = Path(config.path) if config.path else data_root() / "rendered"
        return RenderedSource(folder, "train", device)
    if config.path is None:
        raise ConfigError(f"the source {config.kind!r} needs a folder: give --data DIR, or its path")
    if config.kind == "rosbag2":
        bag = BagFrames(config.path, config.rgb_topic, config.depth_topic, config.interval_s)
        return FileSource(bag.pairs, bag.read, stretch=True, device=device)
    if config.kind == "rgbd_folder":
        return FileSource(list_pairs(config.path), read_pair, stretch=True, device=device)
    read = functools.partial(read_sample, clip=config.clip)
    return FileSource(list_samples(config.path, "train"), read, stretch=not config.clip, device=device)


class StepBatches(Dataset[Batch | DepthSRError]):
    """Map-style data set whose item `step` is that step's whole batch, made in a loader process.

    An error of ours is the item, for the main process to raise: torch would put the loader process's
    traceback into its message.
    """

    def __init__(self, maker: BatchMaker, steps: int, rank: int = 0) -> None:
        self._maker, self._steps, self._rank = maker, steps, rank

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch | DepthSRError:
        try:
            return self._maker(step, self._rank)
        except DepthSRError as error:
            return error


class StepNumbers(Dataset[Tensor]):
    """Item `step` is the step's number: the training module makes the batch on its own device."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Tensor:
        return torch.tensor(step)


class NextSteps(Sampler[int]):
    """The `epoch_steps` steps from the next one on, as `next_step` says when an epoch begins.

    Not by the number of the epoch: after a resume Lightning (2.6) counts the first one as the first of all,
    and its batches would come a second time.
    """

    def __init__(self, next_step: Callable[[], int], epoch_steps: int) -> None:
        self._next_step, self._n = next_step, epoch_steps

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[int]:
        first = self._next_step()
        return iter(range(first, first + self._n))


def train_loader(  # type: ignore[type-arg]
    config: TrainConfig, next_step: Callable[[], int], rank: int = 0
) -> DataLoader:
    """Batches from `data.workers` loader processes, or step numbers where there are none."""
    steps, workers = config.optim.steps + config.run.epoch_steps, config.data.workers
    dataset: Dataset = StepBatches(BatchMaker(config), steps, rank) if workers else StepNumbers(steps)  # type: ignore[type-arg]
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=NextSteps(next_step, config.run.epoch_steps),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        # Forked workers share the cached frames. They are made anew each epoch, which costs seconds in
        # thousands of steps, and frees them while the validation wants the cores.
        multiprocessing_context="fork" if workers else None,
        persistent_workers=False,
    )
