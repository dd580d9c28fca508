# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser: it renders, its slider moves, its console stays empty, it loads nothing.

Set DEPTH_SR_PICTURES to a folder to keep a screenshot of the Kinect's report there (docs/images/replay.png).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from depth_sr_ros.demo_sequence import SHIPPED_SEQUENCE, TRUTH_TOPIC
from depth_sr_ros.replay_batch import EngineSettings, Job, run_job
from depth_sr_ros.replay_frames import ReplaySettings
from training.make_kinect_bag import write_kinect_bag

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
METHODS = {"ours", "bicubic", "guided", "fgs"}

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)}")
    with (
        sync_api.sync_playwright() as driver,
        driver.chromium.launch(executable_path=browser, args=["--no-sandbox"]) as started,
    ):
        yield started.new_page(viewport={"width": 1200, "height": 900})


def opened(page: Any, report: Path) -> list[str]:
    """Load the report; returns what went wrong: console messages, errors, requests to anywhere."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(report.as_uri())
    page.wait_for_load_state("networkidle")
    return said


def rows(page: Any) -> dict[str, list[float]]:
    table = page.locator("table").first.locator("tbody tr")
    cells = [row.locator("td").all_inner_texts() for row in table.all()]
    return {name: [float(value.rstrip(" %")) for value in values] for name, *values in cells}


def test_the_report_of_the_shipped_recording_works_in_a_browser(page: Any, tmp_path: Path) -> None:
    settings = ReplaySettings(SHIPPED_SEQUENCE, depth_topic=TRUTH_TOPIC, simulate="tof", limit=5)
    found = run_job(Job(settings, EngineSettings(threads=1), tmp_path))
    said = opened(page, tmp_path / "report.html")
    assert page.locator(".verdict p").first.inner_text() == found["verdict"][0]
    table = rows(page)
    assert table.keys() == METHODS
    for name, (rmse, *_) in table.items():
        assert rmse == pytest.approx(1e3 * found["methods"][name]["rmse"], abs=0.051)
    for picture in page.locator("img").all():
        assert picture.evaluate("image => image.complete && image.naturalWidth") == 640
    assert all(chart.bounding_box()["height"] > 100 for chart in page.locator("figure svg").all())
    after, slider = page.locator("img.after").first, page.locator("input[type=range]").first
    half = after.evaluate("image => getComputedStyle(image).clipPath")
    before_move = page.locator(".compare").first.screenshot()
    slider.focus()
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    moved = after.evaluate("image => getComputedStyle(image).clipPath")
    assert "50%" in half and "20%" in moved
    assert page.locator(".compare").first.screenshot() != before_move
    assert not said, said


@pytest.mark.parametrize("scale", [4, 8])
def test_on_a_kinects_recording_ours_beats_every_filter(
    page: Any, tmp_path: Path, data_dir: Path, scale: int
) -> None:
    if not (data_dir / "kinect").is_dir():
        pytest.skip(f"no Kinect sequence in {data_dir}")
    write_kinect_bag(data_dir / "kinect", tmp_path / "kinect")
    settings = ReplaySettings(tmp_path / "kinect", simulate="tof", scale=scale)
    found = run_job(Job(settings, EngineSettings(threads=1), tmp_path / "report"))
    assert found["frames"] == 120 and not found["problems"] and found["lost"] == 0
    assert not opened(page, tmp_path / "report" / "report.html")
    table = {name: values[0] for name, values in rows(page).items()}
    assert table.keys() == METHODS and table["ours"] < min(v for k, v in table.items() if k != "ours")
    folder = os.environ.get("DEPTH_SR_PICTURES")
    if folder is not None and scale == 4:
        page.evaluate("document.querySelector('h1').textContent = 'Replay of kinect'")
        clip = {"x": 0, "y": 0, "width": 1200, "height": 1250}
        page.screenshot(path=Path(folder) / "replay.png", clip=clip, full_page=True)
