# SPDX-License-Identifier: Apache-2.0
"""Which image topics are RGB and which depth, and which of several the node would most likely be given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from depth_sr_ros.bag_pairs import COMPRESSED, IMAGE, is_depth, raw_topic
from depth_sr_ros.errors import DataError
from depth_sr_ros.image_codec import DEPTH_ENCODINGS

IMAGE_TYPES = (IMAGE, COMPRESSED)
COLOUR = re.compile(r"rgb|bgr|yuv|yuyv|uyvy|bayer|[8U]C[34]", re.IGNORECASE)
# Drivers' words for depth that is aligned with the RGB image already.
ALIGNED = re.compile(r"aligned|registered|depth_to_(rgb|color)")


class Candidate(NamedTuple):
    """A topic with images; `encoding` is that of the first image, or its format; empty where none came."""

    topic: str
    encoding: str

    @property
    def base(self) -> str:
        """Without the image transport's suffix."""
        return raw_topic(self.topic)

    @property
    def kind(self) -> str:
        """`rgb` or `depth`, by the encoding; by the name, where the encoding is no usual one of depth."""
        if is_depth(self.encoding):
            return "depth"
        stored = self.encoding.partition(";")[0].strip()
        is_named = re.search(r"depth|disparity", self.topic) and not COLOUR.match(stored)
        return "depth" if is_named else "rgb"

    @property
    def rank(self) -> tuple[bool | str, ...]:
        """The smallest is taken: not this node's own output, then what drivers mean for such a use."""
        stored = self.encoding.partition(";")[0].strip()
        if self.kind == "depth":
            likely = (
                not ALIGNED.search(self.topic),
                "depth" not in self.topic,
                stored not in DEPTH_ENCODINGS,
            )
        else:
            likely = ("depth" in self.topic, not COLOUR.match(stored), not re.search("color|rgb", self.topic))
        return ("depth_sr" in self.topic.split("/"), *likely, self.base, self.topic != self.base, self.topic)


def choose(
    source: str, kind: str, candidates: Iterable[Candidate], named: str | None
) -> tuple[Candidate | None, list[str]]:
    """The topic to take for `kind` (`named`, where the user gave one), and all base topics of that kind.

    Raises DataError where `named` is no topic with images.
    """
    known = list(candidates)
    fitting = sorted((c for c in known if c.kind == kind), key=lambda c: c.rank)
    if named is not None:
        chosen = next((c for c in known if c.topic == named), None)
        if chosen is None:
            others = ", ".join(sorted(c.topic for c in known)) or "none"
            raise DataError(f"{source} has no images on {named}; topics with images: {others}")
        return chosen, [chosen.base]
    return (fitting[0] if fitting else None), list(dict.fromkeys(c.base for c in fitting))
