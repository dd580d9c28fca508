# SPDX-License-Identifier: Apache-2.0
"""The bag commands say in one sentence what is wrong, and take their keys from a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from depth_sr_ros.bag import BagWriter
from depth_sr_ros.cli import main
from depth_sr_ros.keyboard import Keyboard

pytestmark = pytest.mark.alone

REPO_ROOT = Path(__file__).resolve().parents[1]
STRING = "std_msgs/msg/String"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Runs a command in this process and returns its exit code; it takes the signals, for a while."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}

    def command(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["depth-sr", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    yield command
    for number, handler in before.items():
        signal.signal(number, handler)


def write_words(path: Path, count: int = 2, period_s: float = 0.1) -> Path:
    with BagWriter(path) as bag:
        for index in range(count):
            message = bag.make(STRING, data=f"word {index}")
            bag.write("/words", STRING, 10**9 + round(index * period_s * 1e9), message)
    return path


def cut(path: Path, end: int) -> Path:
    (file,) = write_words(path).glob("*.mcap")
    file.write_bytes(file.read_bytes()[:end])
    return path


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    """A folder with the bags `words`, `truncated` and `empty`."""
    write_words(tmp_path / "words")
    cut(tmp_path / "truncated", 60)
    with BagWriter(tmp_path / "empty"):
        pass
    return tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("play {}/nowhere", "nowhere is not a readable rosbag2 recording"),
        ("play {}/truncated", "truncated is not a readable rosbag2 recording"),
        ("play {}/empty", "empty holds no message"),
        ("play {}/words --rate 0", "rate is 0, but must be above 0"),
        ("play {}/words --rate nan", "rate is nan, but must be above 0"),
        ("play {}/words --start -1", "start is -1 s, but must be at least 0"),
        ("play {}/words --start 9", "start is 9 s, but"),
        ("play {}/words --wait-for-subscribers -2", "wait-for-subscribers is -2 s"),
        ("play {}/words --topics /a,/words", "holds no topic /a: it holds /words"),
        ("record --out {}/words --all", "cannot write a bag to"),
        ("record --out {}/new", "either --topics with their names, or --all"),
        ("record --out {}/new --all --topics /a", "either --topics with their names, or --all"),
        ("record --out {}/new --all --duration 0", "duration is 0 s, but must be above 0"),
        ("record --out {}/new --all --compress gzip", "compression is 'gzip'"),
        ("record --out {}/new --all --storage mcp", "did you mean 'mcap'"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    bags: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str], words: str, says: str
) -> None:
    pytest.importorskip("rclpy", reason="playing and recording need rclpy")
    assert run(*words.format(bags).split()) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and says in err and len(err.strip().splitlines()) == 1 and not out
    assert not (bags / "new").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("simulate {}/nowhere {}/new --profile tof", "nowhere is not a readable rosbag2 recording"),
        ("simulate {}/truncated {}/new --profile tof", "truncated is not a readable rosbag2 recording"),
        ("simulate {}/empty {}/new --profile tof", "empty holds no message"),
        (
            "simulate {}/words {}/new --profile tof",
            "holds no depth images that this package can read; it holds /words",
        ),
        ("simulate {}/words {}/new --profile tof --scale 5", "scale is 5, but must be 2, 4, 8 or 16"),
        ("simulate {}/words {}/new --profile tofu", "did you mean 'tof'?"),
    ],
)
def test_what_cannot_be_simulated_is_one_sentence(
    bags: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str], words: str, says: str
) -> None:
    assert run(*words.replace("{}", str(bags)).split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and says in err and len(err.strip().splitlines()) == 1
    assert not (bags / "new").exists()


def test_a_bag_that_breaks_off_is_played_up_to_there(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="playing needs rclpy")
    words = ["play", str(cut(tmp_path / "cut", -100)), "--wait-for-subscribers", "0"]
    # In a process of its own: ROS starts once in each.
    command = [sys.executable, "-m", "depth_sr_ros.cli", *words]
    run = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert run.stderr.strip().startswith("error: ") and "breaks off after 2 messages" in run.stderr


class Terminal:
    """A command on a terminal of its own, as a user's shell would start it."""

    def __init__(self, *words: object) -> None:
        self.master, slave = pty.openpty()
        environment = os.environ | {"PYTHONPATH": f"{REPO_ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "depth_sr_ros.cli", *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        os.set_blocking(self.master, False)
        self.output = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)

    def read(self) -> str:
        with contextlib.suppress(OSError):  # nothing new, or the other side is closed
            self.output += os.read(self.master, 1 << 16).decode(errors="replace")
        return self.output

    def wait_for(self, text: str, timeout_s: float = 60.0) -> None:
        """Until `text` is shown after what was shown before."""
        seen, deadline = len(self.output), time.monotonic() + timeout_s
        while text not in self.read()[seen:]:
            assert time.monotonic() < deadline and self.process.poll() is None, self.output
            time.sleep(0.02)

    def press(self, key: str) -> None:
        os.write(self.master, key.encode())

    def end(self) -> int:
        """Its exit code."""
        deadline = time.monotonic() + 60.0
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.read()
            self.read()
            time.sleep(0.02)
        self.read()
        return self.process.returncode


def test_space_pauses_and_goes_on_and_ctrl_c_ends_it_well(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="playing needs rclpy")
    bag = write_words(tmp_path / "bag", count=3000)
    with Terminal("play", bag, "--pause", "--wait-for-subscribers", 0) as terminal:
        terminal.wait_for("paused at 0.0 s, space goes on")
        terminal.press(" ")
        terminal.wait_for("space pauses")
        terminal.press(" ")
        terminal.wait_for("space goes on")
        terminal.press("x ")
        terminal.wait_for("space pauses")
        before = termios.tcgetattr(terminal.master)
        terminal.press("\x03")
        assert terminal.end() == 0
        assert "Traceback" not in terminal.output and "messages on 1 topic" in terminal.output
        after = termios.tcgetattr(terminal.master)
    echo = termios.ECHO | termios.ICANON
    assert before[3] & echo == 0 and after[3] & echo == echo, "the terminal is as it was"


def test_without_a_terminal_there_are_no_keys() -> None:
    script = "with Keyboard() as keys: print(keys.is_there, repr(keys.pressed()))"
    line = [sys.executable, "-c", f"from depth_sr_ros.keyboard import Keyboard\n{script}"]
    for stdin in (subprocess.DEVNULL, subprocess.PIPE):
        run = subprocess.run(line, stdin=stdin, capture_output=True, text=True, cwd=REPO_ROOT)
        assert run.stdout == "False ''\n", run.stderr
    assert not Keyboard().is_there, "pytest has taken stdin away"
