# SPDX-License-Identifier: Apache-2.0
"""The real node with diagnostics every 30 ms, so that a test soon knows what became of its messages."""

from __future__ import annotations

import sys

from depth_sr_ros.ros import node
from depth_sr_ros.ros.main import main

if __name__ == "__main__":
    node.DIAGNOSTICS_PERIOD_S = 0.03
    sys.exit(main())
