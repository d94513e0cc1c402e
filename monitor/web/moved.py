"""What moved: the parts of a finding that say which property, class, input or producer it was. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitor.storage.views.models.findings import FindingDetail
from monitor.web import words

MOST = 12


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that may have moved: before, now, and by how much, as they are shown. `bar` is its share in [0, 1]."""

    name: str
    before: str
    now: str
    change: str
    bar: float = 0.0


@dataclass(frozen=True, slots=True)
class Table:
    """Things of one kind, the largest change first."""

    title: str
    note: str
    rows: tuple[Row, ...]
    last: str = "Change"


def moved(finding: FindingDetail, class_names: Sequence[str] = ()) -> list[Table]:
    """All that a finding says of what moved; empty where it says nothing."""
    details = finding.details
    tables = [
        _statistics(details.get("moved")),
        _shapes(details.get("reshaped")),
        _contributions(details.get("contributions")),
        _statuses(details.get("counts") if finding.detector == "availability" else None, finding.n_current),
        _sources(details.get("sources")),
        _latencies(details.get("latency_ms")),
    ]
    if finding.detector in ("class_drift", "label_prior"):
        tables.append(_classes(details, details.get("names") or class_names))
    return [each for each in tables if each.rows]


def _table(title: str, note: str, rows: Sequence[Row], last: str = "Change") -> Table:
    return Table(title, note, tuple(rows[:MOST]), last)


def _named(name: object) -> str:
    return str(name).replace("_", " ").capitalize()


def _statistics(found: Any) -> Table:
    rows = [
        Row(
            _named(each["statistic"]),
            words.number(each["baseline"]),
            words.number(each["window"]),
            f"{each['effect']:+.2f} sd",
            min(1.0, abs(each["effect"]) / 4),
        )
        for each in found or ()
    ]
    return _table("Properties of the input", "Means; the change is in standard deviations of baseline rows.", rows)


def _shapes(found: Any) -> Table:
    rows = []
    for each in found or ():
        filled = each["filled"]
        before, now = (sum(each[side][i] for i in filled) for side in ("baseline", "window"))
        places = words.listed([_ordinal(i + 1) for i in filled])
        rows.append(
            Row(
                f"{_named(each['statistic'])}: {places} of {len(each['window'])} ranges",
                words.share(before),
                words.share(now),
                f"{each['effect']:.0%} of rows",
                min(1.0, each["effect"]),
            )
        )
    return _table("Ranges that filled up", "Shares of rows, ranges from the lowest up.", rows)


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number, "th")
    return f"{number}{ending}"


def _contributions(found: Any) -> Table:
    rows = [
        Row(
            _named(name),
            words.share_signed(each["baseline"]),
            words.share_signed(each["window"]),
            words.points(each["window"] - each["baseline"]),
            min(1.0, abs(each["window"] - each["baseline"])),
        )
        for name, each in (found or {}).items()
    ]
    return _table("What each input contributes", "Confidence lost without it.", rows)


def _statuses(found: Mapping[str, int] | None, rows_seen: int) -> Table:
    rows = [
        Row(_named(name), "", words.count(count), words.share(count / rows_seen), count / rows_seen)
        for name, count in sorted((found or {}).items(), key=lambda each: -each[1])
        if rows_seen
    ]
    return _table("Why it was not usable", "Requests of the window by the state of this input.", rows, "Share")


def _sources(found: Any) -> Table:
    rows = [
        Row(str(each["source"]), "", f"{words.count(each['rows'])} rows", words.share(each["share"]), each["share"])
        for each in found or ()
    ]
    return _table("Where it comes from", "Producers, by their share of what moved.", rows, "Share")


def _latencies(found: Any) -> Table:
    rows = [
        Row(_named(stage), "", f"{each['p50']:.1f} ms", f"p95 {each['p95']:.1f} ms")
        for stage, each in (found or {}).items()
    ]
    return _table("Stages", "Median and 95th percentile of each stage.", rows, "Slowest")


def _classes(details: Mapping[str, Any], names: Sequence[str]) -> Table:
    before, now = details.get("baseline") or (), details.get("window") or ()
    if not isinstance(before, list) or len(before) != len(now) or len(names) < len(now):
        return _table("", "", ())
    order = sorted(range(len(now)), key=lambda i: -abs(now[i] - before[i]))
    rows = [
        Row(names[i], words.share(before[i]), words.share(now[i]), words.points(now[i] - before[i]), min(1.0, now[i]))
        for i in order
    ]
    return _table("Classes", "Shares of answers.", rows)
