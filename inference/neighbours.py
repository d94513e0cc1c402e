"""Would a neighbour's caption suit the picture better? Pairing scores of each request with those just before it.

Where one modality runs late by k requests, each picture meets the caption of k requests ago: its own caption does no
better than chance, and the one that came k later fits. The scores are those of the pairing map, without regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from migrations.schema.bins import FARTHEST
from migrations.schema.pairing_map import PairingMap

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """Canonical scores of the last complete requests, (up to FARTHEST, k) each, oldest first."""

    left: Scores
    right: Scores


def shifted(pairing: PairingMap, left: Scores, right: Scores, before: Tail | None) -> tuple[Scores, Tail]:
    """(N, 2 FARTHEST + 2) columns of N complete requests in the order of their making, and the tail after them.

    `left` and `right` are their (N, r) features. Column FARTHEST + s is the score of the pair that request i would be
    part of were the right modality late by s requests: for s > 0 (left of i - s, right of i), for s < 0 the reverse,
    for s = 0 its own. The last column is 1, or 0 with zeros in all others for a request with too few before it.
    """
    u, v = pairing.canonical(left, right)
    if before is not None:
        u, v = np.concatenate([before.left, u]), np.concatenate([before.right, v])
    known = len(u) - len(left)
    columns = np.zeros((len(left), 2 * FARTHEST + 2), np.float32)
    skipped = max(0, FARTHEST - known)
    now = np.arange(known + skipped, len(u))
    if len(now):
        own = columns[skipped:]
        for s in range(FARTHEST + 1):
            own[:, FARTHEST + s] = pairing.score(u[now - s], v[now])
            own[:, FARTHEST - s] = pairing.score(u[now], v[now - s])
        own[:, -1] = 1
    return columns, Tail(u[-FARTHEST:], v[-FARTHEST:])
