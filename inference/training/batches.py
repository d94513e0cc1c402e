"""Which examples are in which batch: a function of seed and step alone, so that a resumed run sees the same ones."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from inference.training.fit_settings import FitError, Sampling

Numbers = NDArray[np.int64]


class Batches:
    """Endless batches of `size` out of N examples; `batches(step)` gives their numbers, (size,).

    `shuffled`: every example once before any again. `balanced`: every class equally often, so that rare classes'
    examples come more than once in the time in which N are drawn.
    """

    def __init__(self, labels: Numbers, size: int, seed: int, sampling: Sampling = "shuffled") -> None:
        """`labels` (N,). Raises FitError where there is none."""
        if len(labels) == 0:
            raise FitError("fit: expected at least one example")
        self._labels = labels
        self._size = size
        self._seed = seed
        self._sampling = sampling
        self._pass = lru_cache(maxsize=2)(self._drawn)

    def __call__(self, step: int) -> Numbers:
        """The examples of a step's batch."""
        n = len(self._labels)
        places = np.arange(step * self._size, (step + 1) * self._size)
        return np.array([self._pass(int(place // n))[place % n] for place in places])

    def _drawn(self, number: int) -> Numbers:
        """(N,) examples of the pass with that number."""
        rng = np.random.default_rng([self._seed, 0, number])
        if self._sampling == "shuffled":
            return rng.permutation(len(self._labels))
        classes = np.unique(self._labels)
        each = -(-len(self._labels) // len(classes))
        rows = [self._of_class(np.flatnonzero(self._labels == c), each, rng) for c in classes]
        drawn: Numbers = rng.permuted(np.stack(rows), axis=0).T.ravel()[: len(self._labels)]
        return drawn

    @staticmethod
    def _of_class(rows: Numbers, count: int, rng: np.random.Generator) -> Numbers:
        """`count` of a class's rows, each as often as any other give or take one."""
        passes = [rng.permutation(rows) for _ in range(-(-count // len(rows)))]
        return np.concatenate(passes)[:count]


def inverse_frequency(labels: Numbers, classes: int) -> tuple[float, ...]:
    """Weights (C,) that give every class the same say: N / (C · n of the class), 0 for a class without rows."""
    counts = np.bincount(labels, minlength=classes)
    seen = int((counts > 0).sum())
    return tuple(float(len(labels) / (seen * count)) if count else 0.0 for count in counts)
