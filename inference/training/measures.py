"""The figures of an evaluation report, from probabilities and labels, with their 95% intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from migrations.schema.calibration_error import bootstrap_interval, debiased_ece, equal_mass

LEVEL = 0.95
RESAMPLES = 500
RANKS = (1, 5, 10)

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Share:
    """`right` of `n` rows, with Wilson's interval (1927)."""

    right: int
    n: int

    def told(self) -> dict[str, object]:
        """As JSON; a share of no rows is null."""
        if not self.n:
            return {"share": None, "interval": None, "n": 0}
        return {"share": self.right / self.n, "interval": list(wilson(self.right, self.n)), "n": self.n}


def wilson(right: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of a share, `n` at least 1.

    >>> [round(bound, 3) for bound in wilson(81, 263)]
    [0.255, 0.366]
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    p, spread = right / n, z * z / n
    middle = (p + spread / 2) / (1 + spread)
    half = z * math.sqrt(p * (1 - p) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def confusion(labels: Numbers, predicted: Numbers, classes: int) -> Numbers:
    """(C, C) rows by true class, columns by predicted class."""
    found = np.zeros((classes, classes), np.int64)
    np.add.at(found, (labels, predicted), 1)
    return found


def by_class(matrix: Numbers, names: Sequence[str]) -> list[dict[str, object]]:
    """Precision, recall and F1 of each class out of its confusion matrix; null where they are not defined."""
    hits, said, true = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    return [
        {
            "label": name,
            "n": int(true[c]),
            "precision": _ratio(hits[c], said[c]),
            "recall": _ratio(hits[c], true[c]),
            "f1": _ratio(2 * hits[c], said[c] + true[c]),
        }
        for c, name in enumerate(names)
    ]


def quality(probabilities: Floats, labels: Numbers, names: Sequence[str]) -> dict[str, object]:
    """Everything that N ≥ 1 answers, (N, C), say: accuracy, classes, confusion and calibration error."""
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    correct = predicted == labels
    matrix = confusion(labels, predicted, len(names))
    classes = by_class(matrix, names)
    scores = [each["f1"] for each in classes if isinstance(each["f1"], float)]
    groups = equal_mass(confidence, correct)
    return {
        "n": len(labels),
        "accuracy": Share(int(correct.sum()), len(labels)).told(),
        "confidence": float(confidence.mean()),
        "macro_f1": float(np.mean(scores)) if scores else None,
        "classes": classes,
        "confusion": matrix.tolist(),
        "ece": {
            "value": debiased_ece(confidence, correct),
            "interval": list(bootstrap_interval(groups, level=LEVEL, resamples=RESAMPLES, seed=0)),
        },
    }


def ranks(queries: Floats, candidates: Floats, answers: Numbers) -> Numbers:
    """(Q,) from 1: at which place each query, (Q, d), has its answer among the candidates, (K, d), by cosine.

    Equal scores count against the query: a space in which everything is the same finds nothing.
    """
    scores = _unit(queries) @ _unit(candidates).T
    own = scores[np.arange(len(queries)), answers]
    found: Numbers = (scores >= own[:, None]).sum(1)
    return found


def retrieval(places: Numbers, candidates: int) -> dict[str, object]:
    """Recall@1, 5 and 10 and the mean reciprocal rank of Q ≥ 1 queries among so many candidates."""
    recall = {f"recall_at_{k}": Share(int((places <= k).sum()), len(places)).told() for k in RANKS}
    return recall | {"mrr": float((1.0 / places).mean()), "candidates": candidates, "n": len(places)}


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.maximum(lengths, 1e-12)
    return unit


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
