# SPDX-License-Identifier: Apache-2.0
"""Print and save the evaluation protocol's table: classical baselines and ours."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from depth_sr_ros.baselines import METHODS, run_baseline
from depth_sr_ros.config import VARIANTS
from depth_sr_ros.degradation import PROFILES, SEEDED, crop_to_multiple, degrade
from depth_sr_ros.depth_io import check_writable, make_folder
from depth_sr_ros.errors import ConfigError, DataError, DepthSRError
from depth_sr_ros.metrics import BORDER_PX, BoolArray, depth_metrics, near_edge_mask
from training.data.root import data_root
from training.eval_frames import REAL_GROUPS, SOURCES, EvalFrame, load_frames, misregistered
from training.eval_report import (
    GUIDES,
    LR_ERROR,
    OURS,
    OURS_AT_LR,
    Score,
    TextTable,
    case_table,
    guide_table,
    guided,
    summarise,
    verdict_table,
)

TABLE_WIDTH = 150

Depth = npt.NDArray[np.float32]
# (LR depth, RGB, relative depth or None for no guide) -> depth
Upsampler = Callable[[Depth, npt.NDArray[np.uint8], "Depth | None"], Depth]
GUIDE_SEED = 0x6D1


class Network(NamedTuple):
    """What is scored beside the baselines.

    `sees`: whether a guide (its second argument) has a say beside an LR depth; None: it is given none.
    """

    upsample: Upsampler
    sees: Callable[[Depth, Depth], bool] | None = None


def load_network(
    checkpoint: str | None, device: str, precision: str, runtime: str = "torch", *, variant: str = "edge"
) -> tuple[Network, dict[str, Any]]:
    """(network, what the checkpoint says of itself) of a file; None: the weights that ship for `variant`.

    Raises CheckpointError, and ConfigError where torch has no such device or the runtime cannot run it.
    """
    import torch

    dtype = getattr(torch, precision)

    from depth_sr_ros.models.checkpoint import load_checkpoint, shipped_checkpoint, weights_hash
    from depth_sr_ros.models.depth_sr import LRInput
    from training.shared_encoders import SharedEncoders

    _check_device(device)
    path = checkpoint or shipped_checkpoint(variant)
    model, header = load_checkpoint(path, device)
    native = None
    if runtime == "native":
        if device != "cpu" or precision != "float32":
            raise ConfigError(
                f"--runtime native computes in float32 on the cpu, not in {precision} on {device}"
            )
        native = SharedEncoders(model, torch.get_num_threads())

    def upsample(lr: Depth, rgb: npt.NDArray[np.uint8], relative: Depth | None = None) -> Depth:
        picture = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].to(device)
        depth = torch.from_numpy(lr)[None, None].to(device)
        guide = None if relative is None else torch.from_numpy(relative)[None, None].to(device)
        if native is not None:
            return native.upsample(picture, depth, guide)[0, 0].numpy()
        with torch.autocast(picture.device.type, dtype, enabled=dtype != torch.float32):
            return model.upsample(picture, depth, guide)[0, 0].float().cpu().numpy()

    def sees(lr: Depth, relative: Depth) -> bool:
        guide, depth = (torch.from_numpy(each)[None, None].to(device) for each in (relative, lr))
        guide_map, _ = model.guide_map(guide, LRInput.from_depth(depth, model.config))
        return guide_map is not None and bool(guide_map.any())

    about = {"path": str(path), "sha256": weights_hash(path), **json.loads(header.to_json())}
    return Network(upsample, None if model.config.guide == "none" else sees), about


def _check_device(device: str) -> None:
    """ConfigError unless torch has such a device here."""
    import torch

    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device is {device!r}, but must be cpu, cuda or cuda:N")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"--device is {device!r}, but torch sees {count} CUDA devices; use cpu")


def guides_of(frames: list[EvalFrame], index: int, wanted: list[str], seed: int) -> dict[str, Depth]:
    """Relative depth for frame `index` from true depth: its own, with simulated errors, and another frame's.

    Where the truth of a real frame is unknown it is filled; elsewhere that is the sky.
    """
    import cv2
    import torch

    from depth_sr_ros.models.normalization import fill_holes, valid_mask
    from training.simulated_guide import GuideErrors, perfect_guide, simulated_guide

    def truth(frame: EvalFrame) -> torch.Tensor:
        depth = torch.from_numpy(crop_to_multiple(frame.depth).copy())[None, None]
        return fill_holes(depth, valid_mask(depth)) if frame.group in REAL_GROUPS else depth

    own = truth(frames[index])
    out = {}
    if "perfect" in wanted:
        out["perfect"] = perfect_guide(own)[0, 0].numpy()
    if "noisy" in wanted:
        generator = torch.Generator().manual_seed(GUIDE_SEED + seed)
        out["noisy"] = simulated_guide(own, GuideErrors(), generator)[0, 0].numpy()
    if "wrong" in wanted:
        other = perfect_guide(truth(frames[(index + 1) % len(frames)]))[0, 0].numpy()
        height, width = own.shape[-2:]
        out["wrong"] = cv2.resize(other, (width, height)).astype(np.float32)
    return out


def score_input(
    frame: EvalFrame,
    edges: BoolArray,
    scale: int,
    profile: str,
    seed: int,
    networks: Mapping[str, Network],
    guides: dict[str, Depth],
) -> Iterator[tuple[str, dict[str, float]]]:
    """Degrade one frame and score every method on it, as (method, metrics).

    The LR pixels' truth is the mean of the valid truth in each cell, which is what the profiles start
    from.
    """
    lr = degrade(frame.depth, scale, profile, np.random.default_rng(seed), frame.rgb)
    group = "clean" if profile in ("clean", "bicubic") else "noisy"

    def metrics(answer: Depth) -> dict[str, float]:
        return depth_metrics(answer, frame.depth, edge_mask=edges)

    for name in METHODS:
        yield name, metrics(run_baseline(name, lr, frame.rgb, group))
    cells = degrade(frame.depth, scale, "clean", np.random.default_rng(seed))
    measured = np.where(np.isfinite(lr), cells, np.nan)
    border = -(-BORDER_PX // scale)
    for name, network in networks.items():
        answer = network.upsample(lr, frame.rgb, None)
        yield name, metrics(answer)
        if network.sees is not None:
            for guide, relative in guides.items():
                # One that the network's own check leaves out changes nothing: that answer is here.
                counts = network.sees(lr, relative)
                given = network.upsample(lr, frame.rgb, relative) if counts else answer
                yield guided(name, guide), metrics(given)
        if name == OURS:
            seen = np.where(np.isfinite(frame.depth), answer, np.float32(np.nan))
            means = degrade(seen, scale, "clean", np.random.default_rng(seed))
            yield OURS_AT_LR, depth_metrics(means, measured, border=border)
    yield LR_ERROR, depth_metrics(lr, measured, border=border)


def evaluate(
    frames: list[EvalFrame],
    scales: list[int],
    profiles: list[str],
    seeds: int,
    networks: Mapping[str, Network],
    progress: Progress,
    guides: list[str] | None = None,
) -> list[Score]:
    """Run the protocol; a profile that draws nothing runs once, whatever `seeds`.

    `guides`, of GUIDES, are given to the networks that take them, beside none. ConfigError where a wrong one
    is wanted and there is no other frame to take it from.
    """
    if "wrong" in (guides or []) and len({frame.name for frame in frames}) < 2:
        raise ConfigError("a wrong guide is another frame's, and there is one frame: give --limit 2 or more")
    scores = []
    runs = len(scales) * sum(seeds if profile in SEEDED else 1 for profile in profiles)
    task = progress.add_task("evaluating", total=len(frames) * runs)
    for index, whole in enumerate(frames):
        rgb, depth = crop_to_multiple(whole.rgb), crop_to_multiple(whole.depth)
        frame, edges = EvalFrame(whole.name, whole.group, rgb, depth), near_edge_mask(depth)
        made = [guides_of(frames, index, guides, seed) if guides else {} for seed in range(seeds)]
        for scale in scales:
            for profile in profiles:
                progress.update(task, description=f"{frame.name} x{scale} {profile}")
                for seed in range(seeds if profile in SEEDED else 1):
                    found = score_input(frame, edges, scale, profile, seed, networks, made[seed])
                    scores += [Score(frame.group, frame.name, scale, profile, seed, *each) for each in found]
                    progress.advance(task)
    return scores


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Options of the command line; exits with a usage message when they make no sense."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", nargs="+", choices=SOURCES, default=["real"], help="frames to score (default: real)"
    )
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=["noisy", "clean", "bicubic"])
    parser.add_argument("--scales", nargs="+", type=int, choices=(2, 4, 8, 16), default=[4, 8, 16])
    parser.add_argument("--seeds", type=int, default=10, help="noise seeds 0..N-1 (default: %(default)s)")
    parser.add_argument(
        "--limit", type=int, default=24, help="frames of rendered-val, procedural, kinect at most"
    )
    parser.add_argument("--checkpoint", help="a .safetensors file, or 'none' for the baselines alone "
                        "(default: the edge weights that ship)")  # fmt: skip
    parser.add_argument("--device", default="cpu", help="torch device of the networks (default: %(default)s)")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16", "float16"), default="float32",
        help="of the networks (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--others", nargs="+", choices=VARIANTS, default=[],
        help="variants whose shipped weights are scored beside ours (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--guides", nargs="+", choices=GUIDES, default=[],
        help="also give those that take it relative depth made from the truth, for a table of its own",
    )  # fmt: skip
    parser.add_argument(
        "--runtime",
        choices=("torch", "native"),
        default="torch",
        help="of the networks (default: %(default)s)",
    )
    parser.add_argument(
        "--misregistration", type=int, default=0, metavar="PX",
        help="move the true depth so many pixels right and down beside its picture (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, help="stem of the .md and .json files (default: runs/evaluation-DATA)"
    )
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}, but at least 1 is needed")
    if not 0 <= options.misregistration <= 16:
        parser.error(f"--misregistration is {options.misregistration}, but must be from 0 to 16")
    return options


def save(
    stem: Path, arguments: list[str], weights: Mapping[str, dict[str, Any]], cases: list[dict[str, Any]]
) -> None:
    """Write stem.md and stem.json. Raises DataError when they cannot be written.

    `weights`: what each network's checkpoint says of itself, by the name of its row.
    """
    command = shlex.join(["python", "training/evaluate.py", *arguments])
    tables = [*_summary_tables(cases), *map(case_table, cases)]
    said = [f"{name}: `{each['path']}` (sha256 {each['sha256']})" for name, each in weights.items()]
    text = f"# Evaluation\n\n`{command}`\n\nWeights: {', '.join(said) or 'none'}\n\n" + "\n".join(
        t.to_markdown() for t in tables
    )
    record = {"command": command, "weights": weights, "cases": cases}
    try:
        Path(f"{stem}.md").write_text(text)
        Path(f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise DataError(f"{stem}.md: cannot be written: {error.strerror}") from error


def _check_place(stem: Path) -> Path:
    """The stem, its folder made; DataError when `save` could not write there."""
    make_folder(stem.parent)
    for ending in (".md", ".json"):
        check_writable(f"{stem}{ending}")
    return stem


def _summary_tables(cases: list[dict[str, Any]]) -> list[TextTable]:
    guides = guide_table(cases)
    return [verdict_table(cases), *([guides] if guides.rows else [])]


def _load_networks(options: argparse.Namespace) -> tuple[dict[str, Network], dict[str, dict[str, Any]]]:
    """The networks that the options name, ours first, and what their checkpoints say."""
    networks, weights = {}, {}
    wanted = [] if options.checkpoint == "none" else [(OURS, options.checkpoint, "edge")]
    for name, checkpoint, variant in [*wanted, *((variant, None, variant) for variant in options.others)]:
        networks[name], weights[name] = load_network(
            checkpoint, options.device, options.precision, options.runtime, variant=variant
        )
    if options.guides and all(network.sees is None for network in networks.values()):
        raise ConfigError(
            f"--guides {' '.join(options.guides)}: these weights take no guide; add --others fast"
        )
    return networks, weights


def main(arguments: list[str]) -> int:
    """Run the command line; 0 = done, 2 = bad input (one sentence on stderr)."""
    options = parse_arguments(arguments)
    # rich cuts columns to fit a narrow terminal; a line that wraps loses nothing
    console = Console(width=max(Console().width, TABLE_WIDTH))
    try:
        networks, weights = _load_networks(options)
        stem = _check_place(options.out or Path("runs") / f"evaluation-{'-'.join(options.data)}")
        frames = [f for data in options.data for f in load_frames(data, data_root(), options.limit, seed=0)]
        frames = [misregistered(frame, options.misregistration) for frame in frames]
        with Progress(
            *Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        ) as bar:
            scores = evaluate(
                frames, options.scales, options.profiles, options.seeds, networks, bar, options.guides
            )
        cases = summarise(scores)
        # before they are saved, which may still fail: the disk is full by now
        for table in (*map(case_table, cases), *reversed(_summary_tables(cases))):
            console.print(table.to_rich())
        save(stem, arguments, weights, cases)
    except DepthSRError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(f"wrote {stem}.md and {stem}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
