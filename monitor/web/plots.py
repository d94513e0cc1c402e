"""Geometry of the plots that are drawn on the server as SVG, in the coordinates of their view boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from monitor.domain.intervals import wilson
from monitor.domain.reliability import ReliabilityBin
from monitor.storage.views.models.base import Period
from monitor.storage.views.models.findings import FindingDetail
from monitor.storage.views.models.traffic import TrafficSeries
from monitor.storage.views.traffic import PRESENT

SIDE = 300.0
STRIP_WIDTH, STRIP_HEIGHT = 480.0, 26.0
TIMELINE_WIDTH, TIMELINE_HEIGHT = 960.0, 64.0
BARS_HEIGHT = 120.0
# From the bottom up; what is not listed comes on top.
STATUSES = ("present", "stale", "rejected", "corrupt", "missing")


@dataclass(frozen=True, slots=True)
class Mark:
    """A bin of the reliability diagram: its point, its interval's ends, its radius, and what it says."""

    x: float
    y: float
    y_low: float
    y_high: float
    radius: float
    off: bool
    title: str


def reliability_floor(bins: Sequence[ReliabilityBin]) -> float:
    """Where both axes of the diagram start: the fifth below the least value shown, so that the bins fill it."""
    least = min((min(each.confidence, each.accuracy_low) for each in bins), default=0.0)
    return min(int(least * 5), 4) / 5


def reliability_marks(bins: Sequence[ReliabilityBin], floor: float = 0.0, side: float = SIDE) -> list[Mark]:
    """Points of a square diagram from `floor` to 1, origin at the bottom left.

    The radius grows with the square root of the count; `off` marks bins whose interval leaves the diagonal out.
    """
    scale = side / (1 - floor)
    most = max((each.count for each in bins), default=1)
    return [
        Mark(
            x=(each.confidence - floor) * scale,
            y=(1 - each.accuracy) * scale,
            y_low=(1 - each.accuracy_low) * scale,
            y_high=(1 - each.accuracy_high) * scale,
            radius=2.5 + 3.5 * (each.count / most) ** 0.5,
            off=not each.accuracy_low <= each.confidence <= each.accuracy_high,
            title=(
                f"confidence {each.confidence:.2f}: {each.accuracy:.0%} of {each.count} right "
                f"(95% interval {each.accuracy_low:.0%} to {each.accuracy_high:.0%})"
            ),
        )
        for each in bins
    ]


@dataclass(frozen=True, slots=True)
class Cell:
    """A bucket of a presence strip: the bar's place, how high it is filled, and what it says."""

    x: float
    width: float
    filled: float
    whole: bool
    title: str


def presence_cells(
    traffic: TrafficSeries, modality: str, period: Period, target: float, width: float = STRIP_WIDTH
) -> list[Cell]:
    """A modality's share present in each bucket; buckets without requests stay empty.

    `filled` is in view-box units of STRIP_HEIGHT; `whole` says whether the share meets the target.
    """
    step = traffic.bucket_seconds / (period.end - period.start).total_seconds() * width
    cells = []
    for point in traffic.points:
        counts = point.modalities.get(modality, {})
        rows = sum(counts.values())
        if not rows:
            continue
        present = counts.get(PRESENT, 0) / rows
        cells.append(
            Cell(
                x=(point.at - period.start).total_seconds() / (period.end - period.start).total_seconds() * width,
                width=max(step * 0.86, 0.8),
                filled=present * STRIP_HEIGHT,
                whole=present >= target,
                title=f"{point.at:%H:%M:%S} UTC: {present:.1%} of {rows} requests",
            )
        )
    return cells


@dataclass(frozen=True, slots=True)
class Block:
    """A coloured part of a bar: its place, its height from `y` down, and of what `kind` it is."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A bucket of a timeline: its blocks, bottom first, and what it says."""

    x: float
    width: float
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Shares over time, and the counts of each kind over all of it."""

    bars: tuple[Bar, ...]
    totals: Mapping[str, int]


def status_timeline(traffic: TrafficSeries, modality: str, period: Period) -> Timeline:
    """In which state requests brought a modality: shares of each bucket's requests, present at the bottom."""
    counts = [(point.at, point.modalities.get(modality, {})) for point in traffic.points]
    return _timeline(counts, STATUSES, period, traffic.bucket_seconds)


def route_timeline(traffic: TrafficSeries, period: Period) -> Timeline:
    """By which route requests were answered: shares of each bucket's requests, `fused` at the bottom."""
    counts = [(point.at, dict(point.routes)) for point in traffic.points]
    return _timeline(counts, ("fused", "cached"), period, traffic.bucket_seconds)


def _timeline(
    counts: Sequence[tuple[datetime, Mapping[str, int]]], order: Sequence[str], period: Period, seconds: int
) -> Timeline:
    totals: dict[str, int] = {}
    for _, of in counts:
        for kind, rows in of.items():
            totals[kind] = totals.get(kind, 0) + rows
    kinds = [*(kind for kind in order if totals.get(kind)), *sorted(k for k in totals if k not in order and totals[k])]
    length = (period.end - period.start).total_seconds()
    width = max(seconds / length * TIMELINE_WIDTH * 0.9, 0.8)
    bars = []
    for at, of in counts:
        if not (rows := sum(of.values())):
            continue
        said = ", ".join(f"{of[kind] / rows:.1%} {kind}" for kind in kinds if of.get(kind))
        x = (at - period.start).total_seconds() / length * TIMELINE_WIDTH
        bars.append(Bar(x, width, f"{at:%d %b %H:%M:%S} UTC: {rows} requests, {said}", _blocks(of, kinds, rows)))
    return Timeline(tuple(bars), {kind: totals[kind] for kind in kinds})


def _blocks(of: Mapping[str, int], kinds: Sequence[str], rows: int) -> tuple[Block, ...]:
    blocks, top = [], TIMELINE_HEIGHT
    for kind in kinds:
        if count := of.get(kind, 0):
            height = count / rows * TIMELINE_HEIGHT
            top -= height
            blocks.append(Block(kind, top, height))
    return tuple(blocks)


def count_bars(counts: Sequence[tuple[datetime, int]], period: Period, buckets: int) -> list[Bar]:
    """Counts over time, the largest as high as STRIP_HEIGHT."""
    most = max((count for _, count in counts), default=1)
    length, width = (period.end - period.start).total_seconds(), TIMELINE_WIDTH / buckets
    return [
        Bar(
            (at - period.start).total_seconds() / length * TIMELINE_WIDTH,
            width * 0.86,
            f"{at:%d %b %H:%M} UTC: {count}",
            (Block("count", STRIP_HEIGHT * (1 - count / most), STRIP_HEIGHT * count / most),),
        )
        for at, count in counts
    ]


def expected_bins(facts: Mapping[str, Any], confidence: FindingDetail | None) -> tuple[ReliabilityBin, ...]:
    """The baseline's share right by confidence, with how many of the window's answers are that sure: no labels needed.

    `facts` hold the baseline's labelled rows and right rows in equal cells of [0, 1], `confidence` the window's shares
    over bounds that join those cells. Empty where either knows nothing.
    """
    rows, right = facts.get("confidence") or [], facts.get("confidence_correct") or []
    details = {} if confidence is None else confidence.details
    bounds, shares = details.get("bounds") or [], details.get("window") or []
    if confidence is None or not sum(rows) or len(rows) != len(right) or len(bounds) != len(shares) + 1:
        return ()
    found = []
    for (low, high), share in zip(pairwise(bounds), shares, strict=True):
        cells = range(round(low * len(rows)), round(high * len(rows)))
        n, k = sum(rows[i] for i in cells), sum(right[i] for i in cells)
        count = round(share * confidence.n_current)
        if not n or not count:
            continue
        mean = sum(rows[i] * (i + 0.5) for i in cells) / n / len(rows)
        least, most = wilson(k, n)
        found.append(ReliabilityBin(low, high, mean, k / n, least, most, count))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Column:
    """A range of confidence: where it lies, and the heights of baseline and window, in view-box units."""

    x: float
    width: float
    before: float
    now: float
    title: str


def confidence_bars(finding: FindingDetail | None) -> list[Column]:
    """How sure answers are, baseline beside window, as densities over a square of SIDE by BARS_HEIGHT."""
    details = {} if finding is None else finding.details
    bounds, before, now = (details.get(name) or [] for name in ("bounds", "baseline", "window"))
    if not now or len(before) != len(now) or len(bounds) != len(now) + 1:
        return []
    densities = [
        [share / (high - low) for share, (low, high) in zip(side, pairwise(bounds), strict=True)]
        for side in (before, now)
    ]
    most = max(max(densities[0]), max(densities[1])) or 1.0
    return [
        Column(
            x=low * SIDE,
            width=(high - low) * SIDE,
            before=densities[0][i] / most * BARS_HEIGHT,
            now=densities[1][i] / most * BARS_HEIGHT,
            title=f"confidence {low:.2f} to {high:.2f}: {before[i]:.1%} of the baseline’s answers, {now[i]:.1%} now",
        )
        for i, (low, high) in enumerate(pairwise(bounds))
    ]
