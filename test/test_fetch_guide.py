# SPDX-License-Identifier: Apache-2.0
"""`depth-sr fetch-guide`: from a hub cache and from a server that speaks as the hub does; random weights."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_models import TINY_DEPTH_ANYTHING

from depth_sr_ros.errors import CheckpointError, ConfigError, DataError
from depth_sr_ros.models import guide_files
from depth_sr_ros.models.guide import DepthAnythingGuide
from depth_sr_ros.models.guide_files import FILES, GUIDE_SOURCES, fetch_guide

MODEL = "v2-small"
SOURCE = GUIDE_SOURCES[MODEL]
REPO_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide")
    tiny = DepthAnythingGuide.from_config(short_side=56, **TINY_DEPTH_ANYTHING)
    tiny.model.save_pretrained(folder)  # type: ignore[operator]
    return folder


@pytest.fixture
def hub_cache(guide: Path, tmp_path: Path) -> Path:
    """As huggingface_hub keeps it: links in the snapshot, files beside it."""
    repository = tmp_path / "hub" / ("models--" + SOURCE.repository.replace("/", "--"))
    snapshot = repository / "snapshots" / SOURCE.revision
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for name in FILES:
        blob = repository / "blobs" / hashlib.sha256(name.encode()).hexdigest()
        blob.write_bytes((guide / name).read_bytes())
        (snapshot / name).symlink_to(Path("../../blobs") / blob.name)
    return tmp_path / "hub"


@pytest.fixture
def hub(guide: Path) -> Iterator[str]:
    """A server on this machine that has the one repository at the one revision."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            prefix = f"/{SOURCE.repository}/resolve/{SOURCE.revision}/"
            name = self.path.removeprefix(prefix)
            if not self.path.startswith(prefix) or name not in FILES:
                self.send_error(404)
                return
            content = (guide / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", SOURCE.revision)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(endpoint: str, out: Path, *arguments: object, sha256: str | None = None):
    """The command in a process of its own: the hub's library reads its endpoint when it is imported."""
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",  # the other tests are kept off the network
        "PYTHONPATH": str(REPO_ROOT),
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        "HF_HUB_ETAG_TIMEOUT": "5",
        "HF_HOME": str(out.parent / "home"),
    }
    # The true weights have another hash: the test says which ones it serves.
    code = (
        "import dataclasses, sys\nfrom depth_sr_ros import cli\nfrom depth_sr_ros.models import guide_files\n"
        f"sha256 = {sha256!r}\n"
        "if sha256:\n"
        f"    source = guide_files.GUIDE_SOURCES[{MODEL!r}]\n"
        f"    guide_files.GUIDE_SOURCES[{MODEL!r}] = dataclasses.replace(source, sha256=sha256)\n"
        "cli.main()\n"
    )
    line = [sys.executable, "-c", code, "fetch-guide", "--out", str(out), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120)


def test_it_copies_from_a_hub_cache_and_the_guide_loads(hub_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "guide"
    assert fetch_guide(MODEL, out, hub_cache) is SOURCE
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert not any(path.is_symlink() for path in out.iterdir())
    DepthAnythingGuide.from_folder(out, 56)
    assert [path.name for path in out.parent.iterdir()] == ["guide"], "nothing else is left behind"


def test_it_downloads_the_pinned_revision_and_checks_the_hash(hub: str, guide: Path, tmp_path: Path) -> None:
    sha256 = hashlib.sha256((guide / "model.safetensors").read_bytes()).hexdigest()
    ended = run(hub, tmp_path / "guide", sha256=sha256)
    assert ended.returncode == 0, ended.stderr
    assert SOURCE.revision[:12] in ended.stdout and "Apache-2.0" in ended.stdout
    for name in FILES:
        assert (tmp_path / "guide" / name).read_bytes() == (guide / name).read_bytes()


def test_other_weights_than_the_pinned_ones_are_refused(hub: str, tmp_path: Path) -> None:
    ended = run(hub, tmp_path / "guide")
    assert ended.returncode == 2 and "SHA-256" in ended.stderr and "nothing was kept" in ended.stderr
    assert "Traceback" not in ended.stderr and not (tmp_path / "guide").exists()


def test_without_a_network_it_says_how_to_go_on(tmp_path: Path) -> None:
    ended = run("http://127.0.0.1:9", tmp_path / "guide")
    assert ended.returncode == 2 and "cannot download" in ended.stderr and "--from" in ended.stderr
    assert len(ended.stderr.strip().splitlines()[-1:]) == 1 and "Traceback" not in ended.stderr
    assert not (tmp_path / "guide").exists()


def test_a_cache_without_the_pinned_revision_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{SOURCE.revision}.*is missing; --from must be a hub cache"):
        fetch_guide(MODEL, tmp_path / "guide", tmp_path)


def test_damaged_weights_never_reach_the_folder(hub_cache: Path, tmp_path: Path) -> None:
    (weights,) = hub_cache.glob("*/snapshots/*/model.safetensors")
    weights.resolve().write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        fetch_guide(MODEL, tmp_path / "guide", hub_cache)
    assert not (tmp_path / "guide").exists()


def test_a_folder_that_holds_something_is_left_alone(hub_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "guide"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        fetch_guide(MODEL, out, hub_cache)
    assert (out / "mine.txt").read_text() == "mine"
    (out / "mine.txt").unlink()
    fetch_guide(MODEL, out, hub_cache)


def test_a_folder_that_cannot_be_made_is_one_sentence(hub_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="guide cannot be made: .*File exists.*choose another --out"):
        fetch_guide(MODEL, tmp_path / "file" / "guide", hub_cache)


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'v2-small'"):
        fetch_guide("v2_small", tmp_path / "guide")


def test_every_source_is_pinned_and_free_to_use() -> None:
    for source in guide_files.GUIDE_SOURCES.values():
        assert len(source.revision) == 40 and int(source.revision, 16)
        assert source.licence == "Apache-2.0", "Base and Large of V2 are not for commercial use"
