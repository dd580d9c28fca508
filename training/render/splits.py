# SPDX-License-Identifier: Apache-2.0
"""Which assets a split may show: a rule on names alone, the same on every machine and for every seed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable

from training.data.rendered import SPLITS

FOLDS = 5  # one name in five is held out for val
# Chosen so that the set that every choice is made on (data/rendered) holds out the same tracks and furniture:
# frames for training must not show what it scores. Another value gives scores that do not compare.
TRACK_SALT = "5049/"
FURNITURE_SALT = ""


def _split(name: str, salt: str) -> str:
    train, val = SPLITS
    return val if zlib.crc32((salt + name).encode()) % FOLDS == 0 else train


def track_split(name: str) -> str:
    """`train` or `val` for a track, or for an object that several tracks share, by its folder's name."""
    return _split(name, TRACK_SALT)


def furniture_split(name: str) -> str:
    """`train` or `val` for all the pieces of one name ("Chair"), whichever catalogues they come from."""
    return _split(name, FURNITURE_SALT)


def tracks_of(names: Iterable[str], split: str) -> list[str]:
    """Those of the tracks that the split may show, sorted."""
    return sorted(name for name in names if track_split(name) == split)


def scene_seed(seed: int, split: str, kind: str, scene: int) -> int:
    """The seed of one scene: scenes of another split, kind or number are independent of it."""
    digest = hashlib.sha256(f"{seed}/{split}/{kind}/{scene}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
