"""Geometry of the plots that are drawn on the server as SVG, in the coordinates of their view boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.domain.reliability import ReliabilityBin
from monitor.storage.views.models import Period, TrafficSeries
from monitor.storage.views.traffic import PRESENT

SIDE = 300.0
STRIP_WIDTH, STRIP_HEIGHT = 480.0, 26.0


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
