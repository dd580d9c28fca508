# SPDX-License-Identifier: Apache-2.0
"""The host's random scalars, from Python's own source: for single values far faster than NumPy's."""

import math
import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draw:
    """Random values of one scene, from its seed alone."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a value in [low, high)."""
        return low + (high - low) * self._random.random()

    def log(self, low: float, high: float) -> float:
        """Return a value whose logarithm is uniform."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def normal(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        """Return a normal value."""
        return self._random.gauss(mean, deviation)

    def beta(self, a: float, b: float) -> float:
        """Return a beta-distributed value in [0, 1]."""
        return self._random.betavariate(a, b)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self._random.random() < probability

    def integer(self, low: int, high: int) -> int:
        """Return an integer in [low, high]."""
        return self._random.randint(low, high)

    def sign(self) -> int:
        """Return -1 or 1."""
        return 1 if self.chance(0.5) else -1

    def turn(self) -> float:
        """Return an angle in [0, 2 pi)."""
        return self.uniform(0, 2 * math.pi)

    def pick(self, items: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """Return one of the items, by weight if weights are given."""
        return self._random.choice(items) if weights is None else self._random.choices(items, weights)[0]

    def normals(self, count: int, deviation: float = 1.0) -> np.ndarray:
        """Return (count,) normal values."""
        return np.array([self._random.gauss(0, deviation) for _ in range(count)])

    def uniforms(self, count: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Return (count,) uniform values."""
        return np.array([self.uniform(low, high) for _ in range(count)])
