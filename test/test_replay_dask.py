# SPDX-License-Identifier: Apache-2.0
"""Recordings evaluated by the workers of a real Dask cluster, of one process on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_bag_pairs import write_bag

from depth_sr_ros.cli import main
from depth_sr_ros.errors import ConfigError, DataError
from depth_sr_ros.replay_batch import EngineSettings, Job, run_jobs
from depth_sr_ros.replay_frames import ReplaySettings

distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")


def job(bag: Path, folder: Path) -> Job:
    settings = ReplaySettings(bag, simulate="clean", scale=2, baselines=False)
    return Job(settings, EngineSettings(threads=1), folder)


@pytest.mark.timeout(180)
def test_a_cluster_evaluates_recordings_and_says_which_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        job(write_bag(tmp_path / "bag", frames=4), tmp_path / "a"),
        job(tmp_path / "none", tmp_path / "b"),
    ]
    done: list[int] = []
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        good, bad = run_jobs(jobs, 1, cluster.scheduler_address, lambda: done.append(1))
        line = ["depth-sr", "evaluate", str(tmp_path / "bag"), "--out", str(tmp_path / "one"), "--limit", "1"]
        options = ["--dask", cluster.scheduler_address, "--no-baselines", "--threads", "1"]
        monkeypatch.setattr("sys.argv", [*line, *options])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0 and (tmp_path / "one" / "report.html").is_file()
    assert not (tmp_path / "overview.json").exists(), "beside a report lies what is none of ours"
    assert isinstance(good, dict) and good["frames"] == 4 and (tmp_path / "a" / "report.html").is_file()
    assert isinstance(bad, DataError) and "none is not a readable" in str(bad)
    assert len(done) == 2


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        run_jobs([job(tmp_path, tmp_path)], 1, "tcp://127.0.0.1:9", lambda: None)
