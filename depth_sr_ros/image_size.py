# SPDX-License-Identifier: Apache-2.0
"""Image sizes, (width, height) in pixels, as the command line has them: 640x480, or 640x480+160x120."""

from __future__ import annotations

from depth_sr_ros.errors import ConfigError

Size = tuple[int, int]
Sizes = tuple[Size, Size]

# Of 32 pixels the U-Net's fourth level, whose values AdaIN divides by their spread, has a single one.
MIN_RGB_SIDE, MIN_DEPTH_SIDE = 40, 2
DEFAULT_SIZES: tuple[Sizes, ...] = (((640, 480), (160, 120)), ((1280, 720), (320, 180)))


def size_of(text: str) -> Size:
    """(width, height) of a text like `640x480`; ConfigError on any other."""
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ConfigError(f"size {text!r} must be WIDTHxHEIGHT in pixels, such as 640x480")
    return int(width), int(height)


def size_text(size: Size) -> str:
    """What `size_of` reads."""
    return f"{size[0]}x{size[1]}"


def check_sides(rgb_size: Size, depth_size: Size) -> None:
    """ConfigError on a side that the network does not take."""
    if min(rgb_size) < MIN_RGB_SIDE or min(depth_size) < MIN_DEPTH_SIDE:
        raise ConfigError(
            f"sides must be at least {MIN_RGB_SIDE} pixels for RGB and {MIN_DEPTH_SIDE} for depth"
        )


def sizes_of(text: str) -> Sizes:
    """RGB's and depth's (width, height) of a text like `640x480+160x120`; ConfigError on any other."""
    rgb, plus, depth = text.partition("+")
    if not plus:
        raise ConfigError(f"sizes {text!r} must be those of RGB and depth, such as 640x480+160x120")
    return size_of(rgb), size_of(depth)
