# SPDX-License-Identifier: Apache-2.0
"""A ROS domain of its own for the demo, a replay or a test run, so that two of them never hear each other."""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import IO

from depth_sr_ros.errors import ConfigError

# Domains above 101 use UDP ports from Linux's ephemeral range; 0 is where a user's own robot usually is.
DOMAIN_IDS = range(1, 102)

_held: list[IO[str]] = []


def reserve_domain_id() -> int:
    """Returns a ROS domain id that no other process has reserved here, and holds it until this process ends.

    The lock is a file per domain in the temporary directory; the kernel releases it however the process ends.

    Raises:
        ConfigError: all domains are taken.
    """
    for domain_id in random.SystemRandom().sample(DOMAIN_IDS, len(DOMAIN_IDS)):
        path = Path(tempfile.gettempdir()) / f"depth_sr_ros_domain_{os.getuid()}_{domain_id}.lock"
        lock = path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        _held.append(lock)
        return domain_id
    raise ConfigError(
        f"no free ROS domain id in {DOMAIN_IDS[0]}..{DOMAIN_IDS[-1]}: end the other runs on this machine"
    )


def isolate(environment: MutableMapping[str, str]) -> int:
    """Sets a reserved domain and localhost-only discovery in `environment`; returns the domain id."""
    domain_id = reserve_domain_id()
    environment["ROS_DOMAIN_ID"] = str(domain_id)
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if environment.get("ROS_DISTRO") == "humble":
        environment["ROS_LOCALHOST_ONLY"] = "1"  # what later distributions call a discovery range
    return domain_id
