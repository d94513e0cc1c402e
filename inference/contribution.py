"""In-batch shuffle: how much confidence a prediction loses when one of its modalities is another request's.

Of a sampled share of batches, each modality's encoder output is exchanged for that of a request with another predicted
class, and the fusion step alone runs again. It is permutation importance (Breiman 2001, Random Forests, section 10; for
any model Fisher, Rudin and Dominici 2019, arXiv:1801.01489) with the confidence of the predicted class in place of a
loss, so that it needs no labels. Partners have another class because an exchange within a class changes little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.models.base import Encoded

Floats = NDArray[np.float32]
Marks = NDArray[np.bool_]
Classes = NDArray[np.intp]
NONE = -1  # the class of a row that cannot take part

SEED = 0
# Rows of earlier batches that may be partners: the newest of each class, as many of one as of another. In a small
# batch few rows have a mate of another class, and those that do are mostly of the rare classes: figures would hang on
# the size of batches, which hangs on the load. And a model that has lost an input may answer one class alone.
KEPT = 32


@dataclass(frozen=True, slots=True)
class _Donors:
    """Encoded rows (N, ...) by modality, and their predicted classes (N,)."""

    encoded: Mapping[str, Encoded]
    classes: Classes

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return next(iter(self.encoded.values())).tokens.device


class Shuffle:
    """Picks batches and measures them. Same batches in the same order, same figures: there is no clock in it."""

    def __init__(self, share: float, fuse: Callable[[Mapping[str, Encoded]], Tensor]) -> None:
        """`share` of batches in [0, 1]; `fuse` gives probabilities (K, C) of K encoded rows."""
        self._share = share
        self._fuse = fuse
        self._batches = 0
        self._kept: _Donors | None = None

    def draws(self) -> np.random.Generator | None:
        """Random numbers for the next batch; None where it is not of the sample."""
        self._batches += 1
        return drawn(self._batches - 1, self._share)

    def measure(
        self,
        encoded: Mapping[str, Encoded],
        probabilities: Floats,
        skipped: Marks,
        present: Mapping[str, Marks],
        rng: np.random.Generator,
    ) -> dict[str, Floats]:
        """Confidence lost (B,) without each modality, in [-1, 1]; NaN where that was not measured.

        `encoded` are the K rows of the batch's B that were fused, those not `skipped` (B,); `probabilities` (B, C) the
        answers; `present` (B,) by modality. A row that lacks a modality or has no finite answer is neither measured nor
        a partner. A row has one partner for all its modalities, drawn evenly.
        """
        fused = np.flatnonzero(~skipped)
        usable: Marks = np.logical_and.reduce([np.isfinite(probabilities).all(axis=1), *present.values()])
        answers = probabilities[fused]
        classes = np.where(usable[fused], answers.argmax(axis=1), NONE)
        donors = self._donors(encoded, classes)
        partner = partners(classes, donors.classes, rng)
        found = partner != NONE
        rows = np.arange(len(fused))
        lost = {name: np.full(len(skipped), np.nan, np.float32) for name in sorted(encoded)}
        if found.any():
            # all rows run, as they did before: other shapes may round otherwise, and a loss of nothing must be zero
            source = torch.from_numpy(np.where(found, partner, rows)).to(donors.device)
            for name, values in lost.items():
                after = self._fuse({**encoded, name: donors.encoded[name].rows(source)}).cpu().numpy()
                values[fused[found]] = (answers - after)[rows, classes][found]
        self._keep(donors)
        return lost

    @property
    def kept(self) -> list[int]:
        """Classes of the rows that are kept of earlier batches."""
        return [] if self._kept is None else self._kept.classes.tolist()

    def forget(self) -> None:
        """Let go of what is kept of earlier batches: it takes memory."""
        self._kept = None

    def _donors(self, encoded: Mapping[str, Encoded], classes: Classes) -> _Donors:
        """This batch's rows, then those kept."""
        kept = self._kept
        if kept is None:
            return _Donors(encoded, classes)
        joined = {name: _joined(each, kept.encoded[name]) for name, each in encoded.items()}
        return _Donors(joined, np.concatenate([classes, kept.classes]))

    def _keep(self, donors: _Donors) -> None:
        rank = np.zeros(len(donors.classes), np.intp)  # how many newer ones of its class there are
        for own in np.unique(donors.classes):
            same = donors.classes == own
            rank[same] = np.arange(same.sum())
        able = np.flatnonzero(donors.classes != NONE)
        chosen = able[np.argsort(rank[able], kind="stable")][:KEPT]
        rows = torch.from_numpy(chosen).to(donors.device)
        encoded = {name: _trimmed(each.rows(rows)) for name, each in donors.encoded.items()}
        self._kept = _Donors(encoded, donors.classes[chosen])


def drawn(batch: int, share: float) -> np.random.Generator | None:
    """Random numbers for a batch, from its number alone; None where it is not of the share.

    Of two shares the batches of the smaller one are among those of the larger.
    """
    rng = np.random.default_rng((SEED, batch))
    return rng if rng.random() < share else None


def partners(classes: Classes, donors: Classes, rng: np.random.Generator) -> Classes:
    """For each of K rows the place (K,) in `donors` of one of another class, drawn evenly; NONE where there is none.

    Classes of rows and donors that take no part are NONE.
    """
    chosen = np.full(len(classes), NONE, np.intp)
    for own in np.unique(classes[classes != NONE]):
        others = np.flatnonzero((donors != NONE) & (donors != own))
        if len(others):
            rows = np.flatnonzero(classes == own)
            chosen[rows] = rng.choice(others, len(rows))
    return chosen


def _joined(first: Encoded, second: Encoded) -> Encoded:
    """The rows of both, padded to the longer token sequence."""
    length = max(first.tokens.shape[1], second.tokens.shape[1])
    parts = [_padded(each, length) for each in (first, second)]
    return Encoded(
        torch.cat([each.tokens for each in parts]),
        torch.cat([each.mask for each in parts]),
        torch.cat([each.pooled for each in parts]),
    )


def _trimmed(encoded: Encoded) -> Encoded:
    """Without the last tokens that no row has: a long text must not leave its length behind."""
    used = encoded.mask.any(dim=0).nonzero()
    length = int(used[-1, 0]) + 1 if len(used) else 0
    return Encoded(encoded.tokens[:, :length].contiguous(), encoded.mask[:, :length].contiguous(), encoded.pooled)


def _padded(encoded: Encoded, length: int) -> Encoded:
    missing = length - encoded.tokens.shape[1]
    if missing == 0:
        return encoded
    tokens, mask = encoded.tokens, encoded.mask
    return Encoded(
        torch.cat([tokens, tokens.new_zeros((len(tokens), missing, tokens.shape[2]))], dim=1),
        torch.cat([mask, mask.new_zeros((len(mask), missing))], dim=1),
        encoded.pooled,
    )
