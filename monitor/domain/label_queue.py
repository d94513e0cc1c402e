"""Which answers people are asked to label: where labels teach most, drawn so that accuracy stays free of bias.

A frame of answers is cut into strata, each answer in exactly one, and every stratum is drawn from by simple random
sampling without replacement. An answer's inclusion probability is then known, above zero, and the same throughout its
stratum: drawn over rows. Weighted by its inverse, labels estimate what all answers of the frame would show (Horvitz
and Thompson 1952; Cochran 1977, chapter 5), however unequally strata are drawn from. Entries come in random order, so
that whoever labels the first so many has labelled a fair part of each stratum.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from monitor.domain.finding import Finding

# In the order in which an answer is given to the first that it fits, with the share of the draw. A third goes to
# answers that nothing is known to be odd about, which bounds the weight that one of them can get.
STRATA: Mapping[str, float] = {
    "rare_pattern": 0.10,
    "disagreement": 0.15,
    "low_confidence": 0.15,
    "short_class": 0.10,
    "drifted": 0.20,
    "rest": 0.30,
}
RARE = 0.05  # a presence pattern of fewer answers than this share is rare
UNSURE = 0.2  # this share of answers, the least confident, is of low confidence
FEWEST_ENTRIES = 20  # of a round: of fewer, a label or two would decide a stratum's share
LEAST = 2  # of each stratum, where it has them: one label alone tells nothing of its variance


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer that may be asked for: what it was answered from, what it said, how sure, and whether heads agreed."""

    request_id: str
    logged_at: datetime
    pattern: str
    predicted: str
    confidence: float
    agreement: bool | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Region:
    """Where the drift is: answers since then, of the `sources` it comes from; of any, where none is named."""

    since: datetime | None
    sources: frozenset[str] = frozenset()

    def holds(self, one: Candidate) -> bool:
        """Whether an answer lies in it."""
        if self.since is None or one.logged_at < self.since:
            return False
        return not self.sources or one.source in self.sources


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer that was drawn, from which stratum, and with which probability in (0, 1]."""

    request_id: str
    stratum: str
    probability: float


@dataclass(frozen=True, slots=True)
class Draw:
    """Entries in the order in which to label them, and by stratum how many rows it has and how many were drawn."""

    entries: tuple[Entry, ...]
    strata: Mapping[str, tuple[int, int]]


def region(drifting: Iterable[Finding]) -> Region:
    """Where the drift of these findings is: since the first of them, from the sources most of each comes from."""
    starts, sources = [], set()
    for one in drifting:
        since = one.details.get("since")
        starts.append(one.window.start if since is None else datetime.fromisoformat(since))
        named: Sequence[Mapping[str, Any]] = one.details.get("sources", ())
        if len(named) > 1 and named[0]["share"] > 0.5:
            sources.add(str(named[0]["source"]))
    return Region(min(starts, default=None), frozenset(sources))


def stratify(candidates: Sequence[Candidate], where: Region, short_classes: Iterable[str] = ()) -> list[str]:
    """The stratum of each candidate, in order. Shares are of these candidates, whose number is not zero.

    Classes that are short of labels tell answers apart only while there are others.
    """
    patterns, short = Counter(one.pattern for one in candidates), frozenset(short_classes)
    if all(one.predicted in short for one in candidates):
        short = frozenset()
    rare = {name for name, n in patterns.items() if n < RARE * len(candidates)}
    unsure = float(np.quantile([one.confidence for one in candidates], UNSURE))

    def of(one: Candidate) -> str:
        if one.pattern in rare:
            return "rare_pattern"
        if one.agreement is False:
            return "disagreement"
        if one.confidence < unsure:
            return "low_confidence"
        if one.predicted in short:
            return "short_class"
        return "drifted" if where.holds(one) else "rest"

    return [of(one) for one in candidates]


def allocate(rows: Mapping[str, int], wanted: int) -> dict[str, int]:
    """How many to draw of each stratum with rows: `LEAST` or all it has, the rest of `wanted` by `STRATA`'s shares.

    What a stratum has not goes to the others by their shares. Never more than a stratum has, nor fewer than one.
    """
    drawn = {name: min(LEAST, rows[name]) for name in STRATA if rows.get(name)}
    left = min(wanted, sum(rows.values())) - sum(drawn.values())
    while left > 0:
        open_ones = [name for name in drawn if drawn[name] < rows[name]]
        # the stratum that is furthest behind its share; the order of STRATA where two are level
        behind = min(open_ones, key=lambda name: (drawn[name] + 1) / STRATA[name])
        drawn[behind] += 1
        left -= 1
    return drawn


def draw(
    candidates: Sequence[Candidate], wanted: int, *, seed: int, where: Region, short_classes: Iterable[str] = ()
) -> Draw:
    """Draw `wanted` of the candidates, or a few more where each stratum's least takes it; all, where there are fewer.

    The same candidates, in whatever order, and the same seed give the same draw.
    """
    frame = sorted(candidates, key=lambda one: one.request_id)
    if not frame:
        return Draw((), {})
    names = np.array(stratify(frame, where, short_classes))
    rows = {name: int((names == name).sum()) for name in STRATA if (names == name).any()}
    take = allocate(rows, wanted)
    rng = np.random.default_rng(seed)
    entries = []
    for name, n in take.items():
        chosen = rng.choice(np.flatnonzero(names == name), n, replace=False)
        entries += [Entry(frame[index].request_id, name, n / rows[name]) for index in chosen]
    order = rng.permutation(len(entries))
    return Draw(tuple(entries[index] for index in order), {name: (rows[name], take[name]) for name in take})


def seed_of(model: str, model_version: str, frame_end: datetime) -> int:
    """A seed that is nobody's choice: of the frame alone."""
    text = f"{model}\n{model_version}\n{frame_end.isoformat()}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
