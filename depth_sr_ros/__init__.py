# SPDX-License-Identifier: Apache-2.0
"""RGB-guided depth super-resolution: a network, a Python API and a ROS 2 node.

from depth_sr_ros import DepthSuperResolver
depth = DepthSuperResolver()(rgb, low_resolution_depth)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from depth_sr_ros.engine import DepthSuperResolver

__version__ = "0.1.0"
__all__ = ["DepthSuperResolver", "__version__"]


def __getattr__(name: str) -> Any:
    # Lazy: importing torch takes seconds, and most modules of the package do without it.
    if name == "DepthSuperResolver":
        from depth_sr_ros.engine import DepthSuperResolver

        return DepthSuperResolver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
