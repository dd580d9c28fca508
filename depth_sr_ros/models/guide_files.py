# SPDX-License-Identifier: Apache-2.0
"""Fetch Depth Anything's weights, once and by hand, into the folder that `guide.path` names."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from depth_sr_ros.config import check_choice
from depth_sr_ros.errors import CheckpointError, DataError

FILES = ("config.json", "model.safetensors")


@dataclass(frozen=True)
class GuideSource:
    """Where a guide's files are: a repository of the Hugging Face hub at one revision.

    `sha256` is that of model.safetensors; None where we know the revision alone.
    """

    repository: str
    revision: str
    sha256: str | None
    licence: str = "Apache-2.0"


GUIDE_SOURCES = {
    "v2-small": GuideSource(
        "depth-anything/Depth-Anything-V2-Small-hf",
        "5426e4f0f36572d16453bbda7a8389317b1bef99",
        "3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70",
    ),
    "v1-small": GuideSource(
        "LiheYoung/depth-anything-small-hf", "25216a913fa218ccb7d58cce818d52b728b6c1f6", None
    ),
}


def fetch_guide(model: str, out: Path, hub_folder: Path | None = None) -> GuideSource:
    """Put config.json and model.safetensors of `model`, one of GUIDE_SOURCES, into the folder `out`.

    They are downloaded, or copied from `hub_folder`, a cache in the hub's layout
    (`models--ORGANISATION--NAME/snapshots/REVISION/`), which is how they reach a machine without a network.
    What does not load as Depth Anything never gets to `out`. Raises DataError where `out` holds something
    else or the files cannot be had, CheckpointError where they are not what they should be.
    """
    check_choice("model", model, GUIDE_SOURCES)
    source = GUIDE_SOURCES[model]
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DataError(f"{out} exists and is not an empty folder; remove it, or choose another --out")
        _put(source, out, hub_folder)
    except OSError as error:
        raise DataError(f"{out} cannot be made: {_one_line(error)}; choose another --out") from error
    return source


def _put(source: GuideSource, out: Path, hub_folder: Path | None) -> None:
    found = _from_hub_folder(source, hub_folder) if hub_folder is not None else None
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        new = Path(scratch) / "guide"
        new.mkdir()
        for name, path in (found or _downloaded(source, Path(scratch) / "download")).items():
            shutil.copyfile(path, new / name)
        # The files of a folder are what the user says they are; the network is not the user.
        if hub_folder is None and source.sha256 is not None:
            _check_hash(new / "model.safetensors", source.sha256)
        _check_loads(new, out)
        if out.exists():
            out.rmdir()
        new.rename(out)


def _downloaded(source: GuideSource, folder: Path) -> dict[str, Path]:
    from huggingface_hub import hf_hub_download

    try:
        # Shows a progress bar, and takes HF_ENDPOINT, HF_TOKEN and the proxies from the environment.
        return {
            name: Path(hf_hub_download(source.repository, name, revision=source.revision, local_dir=folder))
            for name in FILES
        }
    except Exception as error:  # of the hub's, of its HTTP library's and the system's: no common base
        raise DataError(
            f"cannot download {source.repository} (revision {source.revision[:12]}): {_one_line(error)}; on "
            "a machine without a network take --from, a hub cache copied from one that has it"
        ) from error


def _from_hub_folder(source: GuideSource, folder: Path) -> dict[str, Path]:
    name = "models--" + source.repository.replace("/", "--")
    snapshot = folder / name / "snapshots" / source.revision
    files = {file: snapshot / file for file in FILES}
    lacking = [path for path in files.values() if not path.is_file()]
    if lacking:
        raise DataError(
            f"{lacking[0]} is missing; --from must be a hub cache (such as ~/.cache/huggingface/hub) that "
            f"holds {source.repository} at revision {source.revision}"
        )
    return files


def _check_hash(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise CheckpointError(
            f"the downloaded model.safetensors has SHA-256 {digest.hexdigest()[:16]}..., not "
            f"{expected[:16]}...; it was damaged or changed on its way, and nothing was kept: try again"
        )


def _check_loads(new: Path, out: Path) -> None:
    from depth_sr_ros.models.guide import DepthAnythingGuide

    try:
        DepthAnythingGuide.from_folder(new)
    except CheckpointError as error:
        raise CheckpointError(str(error).replace(str(new), str(out))) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
