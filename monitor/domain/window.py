"""Windows, and what is known of one: summaries by modality and labelled answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from migrations.schema import bins as schema_bins
from migrations.schema import totals as schema_totals
from migrations.schema.bins import EMPTY, Bins
from migrations.schema.totals import Totals

PAIR = ("image", "text")  # the modalities whose pairing is scored where a baseline does not name them
FUSED = "fused"  # the summary of the fused embedding and the prediction, beside those of the inputs


class IncomparableError(ValueError):
    """Two summaries must not be compared or merged; the text says why."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The rows produced from `start` up to, not including, `end`; both aware of their time zone."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a window's times need a time zone")
        if self.end <= self.start:
            raise ValueError(f"a window must end after it starts: {self.start} to {self.end}")

    @property
    def length(self) -> timedelta:
        """How long the window is."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What was added up of one modality: `counts` of rows by status or route, and `bins` of the usable rows.

    `totals`, of `fused` alone, count all rows by time, class, confidence and cost. `fingerprint` names the encoder and
    feature map the bins were made with; it is empty only where there are none.
    """

    modality: str
    counts: Mapping[str, int] = field(default_factory=dict)
    bins: Bins = EMPTY
    fingerprint: str = ""
    totals: Totals = field(default_factory=dict)


def merge(modality: str, parts: Iterable[Summary]) -> Summary:
    """The summary of all parts' rows: counts add, bins concatenate in the order given. No parts: an empty summary.

    Of the bins' columns those remain that every part has: workers of two releases may have written one window.
    Raises IncomparableError where parts are of another modality, or of different fingerprints.
    """
    kept = list(parts)
    if strangers := {part.modality for part in kept} - {modality}:
        raise IncomparableError(f"summaries of {sorted(strangers)} cannot be merged into one of {modality!r}")
    fingerprints = {part.fingerprint for part in kept if part.fingerprint}
    if len(fingerprints) > 1:
        raise IncomparableError(f"summaries of {modality!r} come from different encoders: {sorted(fingerprints)}")
    counts: Counter[str] = Counter()
    for part in kept:
        counts.update(part.counts)
    joined = schema_bins.merge((part.bins for part in kept), common=True)
    totals = schema_totals.merge(part.totals for part in kept)
    return Summary(modality, dict(counts), joined, fingerprints.pop() if fingerprints else "", totals)


def assemble(modality: str, parts: Iterable[tuple[datetime, Summary]]) -> Summary:
    """The summary of a window from its slots' parts, given as (slot start, summary) in any order.

    Bins of one slot (its partitions and workers) are interleaved by their place within their part: rows of one time,
    and so of one session, end up next to each other, as tests that join neighbouring bins want them.
    Raises IncomparableError as `merge` does.
    """
    slots: dict[datetime, list[Summary]] = {}
    for start, part in parts:
        slots.setdefault(start, []).append(part)
    return merge(modality, [_interleaved(merge(modality, slots[start]), slots[start]) for start in sorted(slots)])


def _interleaved(merged: Summary, parts: list[Summary]) -> Summary:
    places = [(np.arange(len(part.bins.count)) + 0.5) / max(1, len(part.bins.count)) for part in parts]
    order = np.argsort(np.concatenate(places), kind="stable")
    columns = {name: sums[order] for name, sums in merged.bins.columns.items()}
    return replace(merged, bins=Bins(merged.bins.count[order], columns))


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """N answers whose truth is known: `confidence` (N,) in [0, 1], `correct` (N,) bool. The rest may be unknown.

    `pattern` (N,) tells which modalities each was answered from (the route); `predicted` and `label` (N,) class names;
    `source` (N,) who labelled; `verdict` (N,) what a reviewer called the answer, "" where nothing; `sampling` (N,) the
    probability in (0, 1] with which the request was chosen to be labelled, NaN where it is not known; `probabilities`
    (N, classes) in the order of the model's classes.
    `answered` counts all answers of the time in which these labels came, and `answers` (B,) those with every modality
    by confidence, in B equal bins of [0, 1]. Raises ValueError on values outside these.
    """

    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    pattern: NDArray[np.str_] | None = None
    predicted: NDArray[np.str_] | None = None
    label: NDArray[np.str_] | None = None
    source: NDArray[np.str_] | None = None
    verdict: NDArray[np.str_] | None = None
    sampling: NDArray[np.float64] | None = None
    probabilities: NDArray[np.float64] | None = None
    answered: int | None = None
    answers: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        rows = (self.correct, self.pattern, self.predicted, self.label, self.source, self.verdict, self.sampling)
        lengths = {len(self.confidence), *(len(each) for each in (*rows, self.probabilities) if each is not None)}
        if len(lengths) > 1:
            raise ValueError(f"labelled rows disagree about their number: {sorted(lengths)}")
        if not np.all((self.confidence >= 0) & (self.confidence <= 1)):
            raise ValueError("confidences must lie in [0, 1]; NaN is not one")
        if self.sampling is not None and np.any((self.sampling <= 0) | (self.sampling > 1)):
            raise ValueError("sampling probabilities must lie in (0, 1], or be NaN where they are not known")


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A model version's baseline: `summaries` by modality, how often it was right, and names of columns.

    `accuracy` is the share right of `labelled` validation rows, None where it is not known. `names` maps a modality
    to its quality statistics, in the order of the bins' `quality` column. Of those validation rows, empty where not
    known: `class_prior`, the labels' shares, and `class_accuracy`, the share right of each (None without rows), both in
    the order of `class_names`; `confidence` and `confidence_correct`, rows and right rows in equal bins of [0, 1].
    `thresholds` are effects learnt from its own windows, by detector and modality; `season` tells, where it has hours
    of day, by modality whether the summary is that of an hour or of the day. `pair` are the two modalities, left and
    right, that the pairing map scores.
    """

    baseline_id: int
    model_version: str
    summaries: Mapping[str, Summary]
    class_names: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    accuracy: float | None = None
    labelled: int = 0
    class_prior: tuple[float, ...] = ()
    class_accuracy: tuple[float | None, ...] = ()
    confidence: tuple[int, ...] = ()
    confidence_correct: tuple[int, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    season: Mapping[str, str] = field(default_factory=dict)
    pair: tuple[str, str] = PAIR

    @classmethod
    def from_facts(
        cls,
        baseline_id: int,
        model_version: str,
        facts: Mapping[str, Any],
        summaries: Iterable[Summary],
        thresholds: Mapping[str, Mapping[str, float]] | None = None,
    ) -> Reference:
        """From what is stored: the facts that the baseline was registered with, its summaries, what it taught."""
        of_labels = {
            name: tuple(facts.get(name) or ())
            for name in ("class_prior", "class_accuracy", "confidence", "confidence_correct")
        }
        left, right = facts.get("pair", PAIR)
        return cls(
            baseline_id,
            model_version,
            {summary.modality: summary for summary in summaries},
            tuple(facts.get("class_names", ())),
            {modality: tuple(names) for modality, names in facts.get("quality", {}).items()},
            facts.get("accuracy"),
            int(facts.get("labelled", 0)),
            of_labels["class_prior"],
            of_labels["class_accuracy"],
            of_labels["confidence"],
            of_labels["confidence_correct"],
            thresholds or {},
            pair=(left, right),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that is judged at once: a window's `summaries` by modality and, where labels came, the `labelled` rows."""

    summaries: Mapping[str, Summary]
    labelled: Labelled | None = None
