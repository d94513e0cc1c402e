"""Which embeddings a worker keeps whole: those with the smallest draws of their hour, class and route."""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from inference.outcome import Predicted
from migrations.schema import embedding_samples as stored

MAX_ROWS = 512  # of an hour and route: with many classes fewer of each are kept, yet one of each
MAX_HOURS = 48  # whose draws are remembered


class Stratum(NamedTuple):
    """What is sampled by itself; `slot` is Unix seconds, `names` whose embeddings a row has.

    A modality's sample is of the rows that have it: of each set of names that holds it the smallest draws are there.
    """

    slot: int
    prediction: str
    route: str
    names: tuple[str, ...]


Draws = Mapping[Stratum, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Sampled:
    """Rows of the `embedding_samples` table, and the draws with them in."""

    rows: list[dict[str, Any]]
    draws: Draws


class EmbeddingSampler:
    """Chooses rows of one model version; not safe for several threads.

    `fingerprints` are of the encoders whose embeddings are kept, by modality and `fused`; `rows` of each hour, class
    and route are, or fewer where there are many `classes`; 0 keeps none. Memory is bounded by `MAX_HOURS`: an hour that
    is forgotten starts anew, which may keep more of it and never less.
    """

    def __init__(self, model_version: str, fingerprints: Mapping[str, str], classes: int, rows: int) -> None:
        self._version = model_version
        self._fingerprints = dict(fingerprints)
        self._kept = max(1, min(rows, MAX_ROWS // max(1, classes))) if rows else 0
        self._hours: OrderedDict[int, dict[Stratum, tuple[float, ...]]] = OrderedDict()

    def preview(self, rows: Sequence[Predicted]) -> Sampled:
        """The rows to keep of these; nothing counts until `commit`. Rows in quarantine are not looked at."""
        draws: dict[Stratum, tuple[float, ...]] = {}
        chosen: list[dict[str, Any]] = []
        if not self._kept or not self._fingerprints:
            return Sampled(chosen, draws)
        for row in rows:
            label = row.prediction.label
            if row.quarantine is not None or label is None:
                continue
            slot = int(row.request.produced_at.timestamp()) // stored.SLOT_SECONDS * stored.SLOT_SECONDS
            names = tuple(name for name in self._fingerprints if name in row.prediction.embeddings)
            stratum = Stratum(slot, label, row.prediction.route, names)
            before = draws.get(stratum) or self._hours.get(slot, {}).get(stratum, ())
            drawn = stored.draw(row.request.request_id)
            if (len(before) < self._kept or drawn < before[-1]) and _sound(row, names):
                draws[stratum] = self._with(before, drawn)
                chosen.extend(self._of(row, stratum, drawn))
        return Sampled(chosen, draws)

    def commit(self, sampled: Sampled) -> None:
        """Take a preview over, once its rows are committed."""
        for stratum, draws in sampled.draws.items():
            self._hours.setdefault(stratum.slot, {})[stratum] = draws
            self._hours.move_to_end(stratum.slot)
        while len(self._hours) > MAX_HOURS:
            self._hours.popitem(last=False)

    def _with(self, before: tuple[float, ...], drawn: float) -> tuple[float, ...]:
        smallest = list(before)
        insort(smallest, drawn)
        return tuple(smallest[: self._kept])

    def _of(self, row: Predicted, stratum: Stratum, drawn: float) -> list[dict[str, Any]]:
        return [
            {
                "slot_start": datetime.fromtimestamp(stratum.slot, UTC),
                "model_version": self._version,
                "modality": name,
                "request_id": row.request.request_id,
                "encoder_fingerprint": self._fingerprints[name],
                "prediction": stratum.prediction,
                "route": stratum.route,
                "draw": drawn,
                "kept": self._kept,
                "embedding": stored.dump(row.prediction.embeddings[name]),
            }
            for name in stratum.names
        ]


def _sound(row: Predicted, names: Sequence[str]) -> bool:
    return all(np.isfinite(row.prediction.embeddings[name]).all() for name in names)
