"""Baselines made from logged traffic: what is kept of a period in bounded memory, which hour applies, what is amiss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from migrations.schema import bins as schema_bins
from migrations.schema import totals as schema_totals
from migrations.schema.bins import Bins
from migrations.schema.totals import Totals
from monitor.domain.window import IncomparableError, Labelled, Reference, Summary, Window

# A baseline's bins of one modality: what a checkpoint brings has as many, and detectors join them further.
MOST_BINS = 2000
MOST_BINS_OF_HOUR = 128
# An hour takes the place of the day where it has so much: fewer rows would add more noise than the hour explains.
LEAST_ROWS_OF_HOUR, LEAST_BINS_OF_HOUR = 400, 32
SEASON = timedelta(days=7)  # below, an hour of day cannot be told from a day
LEAST_ROWS = 500
MOST_MISSING = 0.05  # share of slots
LEAST_LABELS = 200
FINE_BINS = 50  # of confidence, as a checkpoint's baseline has
FUSED_ROUTE = "fused"


class Gathered:
    """Adds up one modality's summaries in order of time; keeps fewer than `most` + 1 bins, all of about equal size.

    Whenever there are more, neighbouring bins are joined in pairs, and so are those that come later.
    """

    def __init__(self, modality: str, most: int) -> None:
        self._modality = modality
        self._most = most
        self._counts: Counter[str] = Counter()
        self._totals: Totals = {}
        self._parts: list[Bins] = []
        self._held = self._halvings = 0
        self._fingerprint = ""

    def add(self, part: Summary) -> None:
        """Take in the next slot. Raises IncomparableError where its encoder is another, BinsError on its columns."""
        if part.fingerprint and len(part.bins.count):
            if self._fingerprint and part.fingerprint != self._fingerprint:
                raise IncomparableError(
                    f"the encoder of {self._modality} changed within the period, from {self._fingerprint} to "
                    f"{part.fingerprint}: a baseline is of one encoder"
                )
            self._fingerprint = part.fingerprint
        self._counts.update(part.counts)
        self._totals = schema_totals.merge([self._totals, part.totals])
        bins = part.bins
        for _ in range(self._halvings):
            bins = schema_bins.halve(bins)
        if len(bins.count):
            self._parts.append(bins)
            self._held += len(bins.count)
        while self._held > self._most:
            joined = schema_bins.halve(schema_bins.merge(self._parts, common=True))
            self._parts, self._held, self._halvings = [joined], len(joined.count), self._halvings + 1

    def summary(self) -> Summary:
        """What came so far."""
        merged = schema_bins.merge(self._parts, common=True)
        return Summary(self._modality, dict(self._counts), merged, self._fingerprint, self._totals)


class Period:
    """A stretch of time added up slot by slot: as a whole, by half and, with `seasons`, by hour of day."""

    def __init__(self, window: Window, modalities: tuple[str, ...], *, seasons: bool) -> None:
        self._window = window
        self._middle = window.start + window.length / 2
        self._whole = {name: Gathered(name, MOST_BINS) for name in modalities}
        self._halves = tuple({name: Gathered(name, MOST_BINS // 4) for name in modalities} for _ in range(2))
        hours = range(24) if seasons else range(0)
        self._hours = [{name: Gathered(name, MOST_BINS_OF_HOUR) for name in modalities} for _ in hours]
        self.slots = 0

    def add(self, start: datetime, parts: Mapping[str, Summary]) -> None:
        """Take in the next slot. An hour takes the one before and the one after too. Raises as `Gathered.add` does."""
        self.slots += 1
        into = [self._whole, self._halves[start >= self._middle]]
        if self._hours:
            into += [self._hours[(start.hour + step) % 24] for step in (-1, 0, 1)]
        for name, part in parts.items():
            for gathered in into:
                if name in gathered:
                    gathered[name].add(part)

    def whole(self) -> dict[str, Summary]:
        """Every modality's summary."""
        return {name: each.summary() for name, each in self._whole.items()}

    def halves(self) -> tuple[dict[str, Summary], dict[str, Summary]]:
        """The summaries of either half."""
        first, second = ({name: each.summary() for name, each in half.items()} for half in self._halves)
        return first, second

    def hours(self) -> dict[int, dict[str, Summary]]:
        """By hour of day in UTC; empty without seasons, and without hours that had no rows."""
        found = {}
        for hour, gathered in enumerate(self._hours):
            summaries = {name: each.summary() for name, each in gathered.items()}
            if any(len(each.bins.count) for each in summaries.values()):
                found[hour] = summaries
        return found


def in_season(reference: Reference, hour: int, summaries: Mapping[str, Summary]) -> Reference:
    """The baseline as it is at an hour of day: an hour's summary replaces the day's where it holds enough.

    `Reference.season` then tells for every modality what it is compared with.
    """
    enough = {
        name: each
        for name, each in summaries.items()
        if each.bins.rows >= LEAST_ROWS_OF_HOUR and len(each.bins.count) >= LEAST_BINS_OF_HOUR
    }
    season = {name: f"hour {hour}" if name in enough else "day" for name in reference.summaries}
    return replace(reference, summaries={**reference.summaries, **enough}, season=season)


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a period: `rows` of its thinnest modality, slots expected and seen, drift within, alerts."""

    rows: int
    slots: int
    expected: int
    drifts: tuple[str, ...]
    alerts: tuple[str, ...]


def objections(health: Health) -> list[str]:
    """Why a period should not serve as a baseline, in words; empty where nothing speaks against it."""
    found = []
    if health.rows < LEAST_ROWS:
        found.append(f"{health.rows} rows are too few: {LEAST_ROWS} are needed")
    missing = health.expected - health.slots
    if missing > MOST_MISSING * health.expected:
        found.append(f"{missing} of {health.expected} slots are missing")
    if health.drifts:
        found.append(f"the second half differs from the first: {', '.join(health.drifts)}")
    if health.alerts:
        found.append(f"alerts fired within it: {', '.join(health.alerts)}")
    return found


def facts(own: Mapping[str, Any], labelled: Labelled) -> dict[str, Any]:
    """Facts of a period: names from the version's first baseline; accuracy and calibration from the period's labels.

    What labels tell is left out, with the reason as `labels_left_out`, where they are few or were chosen unequally.
    """
    kept = {name: own[name] for name in ("class_names", "quality", "encoders", "pair") if name in own}
    classes = tuple(kept.get("class_names", ()))
    if labelled.pattern is None or labelled.label is None or labelled.sampling is None:
        return {**kept, "labels_left_out": "nothing is known of the labels but whether they agreed"}
    used = (labelled.pattern == FUSED_ROUTE) & np.isin(labelled.label, np.array(classes, np.str_))
    chances = labelled.sampling[used]
    chosen = np.unique(chances[np.isfinite(chances)])
    if int(used.sum()) < LEAST_LABELS:
        reason = f"{int(used.sum())} labels of complete requests came in the period: {LEAST_LABELS} are needed"
        return {**kept, "labels_left_out": reason}
    if len(chosen) > 1 or (len(chosen) == 1 and not np.isfinite(chances).all()):
        return {**kept, "labels_left_out": "requests had unequal chances to be labelled"}
    return {**kept, **_calibration(classes, labelled.label[used], labelled.correct[used], labelled.confidence[used])}


def _calibration(
    classes: tuple[str, ...], label: NDArray[np.str_], correct: NDArray[np.bool_], confidence: NDArray[np.float64]
) -> dict[str, Any]:
    of_class = [label == name for name in classes]
    fine = np.clip((confidence * FINE_BINS).astype(np.int64), 0, FINE_BINS - 1)
    return {
        "accuracy": float(correct.mean()),
        "labelled": len(correct),
        "class_prior": [float(member.mean()) for member in of_class],
        "class_accuracy": [float(correct[member].mean()) if member.any() else None for member in of_class],
        "confidence": np.bincount(fine, minlength=FINE_BINS).tolist(),
        "confidence_correct": np.bincount(fine[correct], minlength=FINE_BINS).tolist(),
    }
