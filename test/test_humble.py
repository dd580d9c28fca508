# SPDX-License-Identifier: Apache-2.0
"""The ROS side with rclpy as it is in Humble, the oldest distribution that the package is for."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="the live tests need rclpy")

from lifecycle_client import running, send_until
from ros_helpers import NodeProcess, PythonProcess
from std_msgs.msg import String
from test_bag_live import Peer, end, peer  # noqa: F401

from depth_sr_ros.bag import BagReader

pytestmark = [pytest.mark.alone, pytest.mark.timeout(200)]

HUMBLE = str(Path(__file__).with_name("humble_process.py"))

IMPORT_ALL = """
import importlib, pkgutil
import depth_sr_ros.ros
names = [module.name for module in pkgutil.iter_modules(depth_sr_ros.ros.__path__, "depth_sr_ros.ros.")]
for name in names:
    importlib.import_module(name)
print("imported", len(names))
"""

# Each of the two lets the camera begin once it is connected to the node.
CONNECT = """
import rclpy
from sensor_msgs.msg import Image
from depth_sr_ros.ros.demo_viewer import OUTPUT_TOPIC, TRUTH_TOPIC, Viewer
from depth_sr_ros.ros.peer import initialised
from depth_sr_ros.ros.probe import Probe
from depth_sr_ros.ros.synthetic_camera import PLAYED_TOPIC

with initialised():
    node = rclpy.create_node("peer")
    probe, viewer = Probe(), Viewer(1)
    for _ in range(3):
        probe.spin_once()
    assert not node.count_subscribers(PLAYED_TOPIC), "the probe lets the camera begin too early"
    assert not viewer.connect(0.1, lambda: False), "the viewer is connected to nobody"
    publishers = [node.create_publisher(Image, topic, 1) for topic in (OUTPUT_TOPIC, TRUTH_TOPIC)]
    assert probe.wait(lambda: node.count_subscribers(PLAYED_TOPIC), 60), "the probe does not see the node"
    assert viewer.connect(60, lambda: False), "the viewer does not see the node and the camera"
    viewer.close()
    probe.close()
    node.destroy_node()
print("connected")
"""

COMMAND = "from depth_sr_ros.cli import main; main()"


class HumbleNode(NodeProcess):
    """The node, with an engine that starts at once."""

    program = (HUMBLE, str(Path(__file__).with_name("engine_process.py")), "slow", "0")


def humble(path: Path, script: str, *arguments: object) -> PythonProcess:
    """A process that runs `script`, which is written to `path`."""
    path.write_text(script)
    return PythonProcess([HUMBLE, path, *map(str, arguments)])


def test_every_module_of_the_ros_side_imports(tmp_path: Path, repo_root: Path) -> None:
    with humble(tmp_path / "script.py", IMPORT_ALL) as process:
        assert process.wait() == 0, process.output
        modules = len(list((repo_root / "depth_sr_ros" / "ros").glob("[!_]*.py")))
        assert f"imported {modules}" in process.output


def test_listeners_see_who_publishes(tmp_path: Path) -> None:
    with humble(tmp_path / "script.py", CONNECT) as process:
        assert process.wait(180) == 0 and "connected" in process.output, process.output


def test_record_writes_what_comes(peer: Peer, tmp_path: Path) -> None:  # noqa: F811
    words = peer.node.create_publisher(String, "/words", 10)
    options = ["record", "--out", tmp_path / "bag", "--topics", "/words"]
    with humble(tmp_path / "script.py", COMMAND, *options) as recorder:
        peer.wait_for_subscriber([words], recorder)
        words.publish(String(data="one"))
        peer.spin_for(1.0)
        end(recorder)
    with BagReader(tmp_path / "bag") as bag:
        assert bag.count("/words") == 1


def test_the_node_counts_its_publishers_and_follows_its_listeners() -> None:
    with running(lambda arguments: HumbleNode(ros_arguments=arguments), "/humble") as rig:
        rig.listener.wait_for_camera(rig.node)
        send_until(rig, lambda: rig.listener.images)
