"""The demo's drift scenarios through the real pipeline: found or not, when, and attributed to what.

Every scenario is four windows of a stream, with two windows of usual traffic after it, in which alerts resolve. A
row says what was seen and whether it is as it should be: whatever costs more than ten points of accuracy is found
without labels and put down to what changed, a relabelled concept is found by labels, a class prior is called one, and
a stream as ever is silent. `FUSIONWATCH_BENCH_SCENARIOS` picks some, with commas.
"""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import Row

from demo.scenarios import NORMAL, SCENARIOS, DriftScenario
from monitor.alerts.rules import RULES
from tests.bench.rig import member, rig
from tests.bench.staging import BY_LABELS, HOP, LABELLED, RATE, WINDOW, Phase, Staging
from tests.support.worker import CHECKPOINT

WINDOWS, AFTER = 4, 2
COSTLY = 0.10
MIX = re.compile(r"\bmix\b|\bprior\b", re.IGNORECASE)
WATCHED = {rule.alertname: rule.detector for rule in RULES}
# A mirrored picture has the same marginals: only image and text together show it.
WHOLE = frozenset({"horizontal flip"})


@dataclass(frozen=True, slots=True)
class Fired:
    """An alert that fired, `after` how many windows of the scenario; `moved` is what its finding says moved most."""

    alertname: str
    detector: str
    modality: str
    severity: str
    after: int
    inhibited_by: str | None
    moved: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of one scenario, by detector and modality where it says so.

    `drift` counts windows called drift, `decided` those called that or ok; `sentences` are the last ones of drift.
    """

    scenario: str
    seed: int
    rows: int
    labels: int
    accuracy: float
    first_drift_after: int | None
    drift: dict[str, int]
    decided: dict[str, int]
    sentences: dict[str, str]
    fired: tuple[Fired, ...]
    fired_afterwards: tuple[str, ...]
    still_open: tuple[str, ...]

    @property
    def by_inputs(self) -> list[Fired]:
        """Alerts raised without labels, those first that no other alert explains, pages before tickets."""
        found = [one for one in self.fired if one.detector not in BY_LABELS]
        return sorted(found, key=lambda one: (one.inhibited_by is not None, one.severity != "page", one.after))

    @property
    def by_labels(self) -> list[Fired]:
        """Alerts raised by labels."""
        return [one for one in self.fired if one.detector in BY_LABELS]


def run() -> dict[str, Any]:
    """Every scenario, and three times none."""
    seen = _observe(_order())
    usual = statistics.mean(one.accuracy for one in seen if one.scenario == NORMAL.name)
    rows = [_row(one, usual) for one in seen]
    _table(rows)
    return {
        "rows_a_window": RATE * WINDOW,
        "windows": WINDOWS,
        "labelled": LABELLED,
        "usual_accuracy": usual,
        "held": sum(row["held"] for row in rows),
        "of": len(rows),
        "scenarios": rows,
    }


def _order() -> list[DriftScenario]:
    wanted = os.environ.get("FUSIONWATCH_BENCH_SCENARIOS", "")
    names = {scenario.name for scenario in SCENARIOS}
    chosen = [name.strip() for name in wanted.split(",") if name.strip()]
    if unknown := sorted(set(chosen) - names):
        raise SystemExit(f"unknown scenarios {unknown}; there are {sorted(names)}")
    others = [one for one in SCENARIOS if one is not NORMAL and (not chosen or one.name in chosen)]
    middle = len(others) // 2
    return [NORMAL, *others[:middle], NORMAL, *others[middle:], NORMAL]


def _observe(order: Sequence[DriftScenario]) -> list[Observed]:
    found = []
    with rig() as servers, Progress(console=Console(stderr=True)) as progress:
        worker = servers.prepare(
            "scenarios", CHECKPOINT, SLOT_SECONDS=str(WINDOW), WRITE_INTERVAL_MS="100", CONTRIBUTION_SHARE="1"
        )  # windows of two hundred rows: each is measured
        with member(worker, 0) as running:
            staging = Staging(running)
            task = progress.add_task("scenarios", total=len(order))
            try:
                staging.play(NORMAL, AFTER, seed=1000)
                for number, scenario in enumerate(order):
                    progress.update(task, description=scenario.name)
                    found.append(_one(staging, scenario, number))
                    progress.console.print(_line(found[-1]), highlight=False, soft_wrap=True)
                    progress.advance(task)
            finally:
                staging.close()
    return found


def _line(seen: Observed) -> str:
    fired = ", ".join(f"{one.alertname} {one.modality} after {one.after}" for one in seen.fired) or "no alert"
    return f"{seen.scenario}: accuracy {seen.accuracy:.3f}; {fired}"


def _one(staging: Staging, scenario: DriftScenario, number: int) -> Observed:
    phase = staging.play(scenario, WINDOWS, seed=2000 + number)
    judged, fired = staging.findings(phase), staging.fired(phase)
    after = staging.play(NORMAL, AFTER, seed=3000 + number)
    drift = [row for row in judged if row.verdict == "drift" and row.detector in WATCHED.values()]
    return Observed(
        scenario=scenario.name,
        seed=2000 + number,
        rows=len(phase.truth),
        labels=len(phase.labelled),
        accuracy=staging.accuracy(phase),
        first_drift_after=min((_windows(phase, row.window_end) for row in drift), default=None),
        drift=_counts(row for row in judged if row.verdict == "drift"),
        decided=_counts(row for row in judged if row.verdict in ("ok", "drift")),
        sentences={f"{row.detector} {row.modality}": row.explanation for row in judged if row.verdict == "drift"},
        fired=tuple(_fired(phase, row) for row in fired),
        fired_afterwards=tuple(f"{row.alertname} {row.modality}" for row in staging.fired(after)),
        still_open=tuple(staging.open_alerts()),
    )


def _windows(phase: Phase, moment: datetime) -> int:
    """How many of the phase's windows had ended; labels are judged after the last."""
    return min(WINDOWS + 1, round((moment - phase.start).total_seconds() / HOP))


def _counts(rows: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        key = f"{row.detector} {row.modality}"
        counts[key] = counts.get(key, 0) + 1
    return counts


def _fired(phase: Phase, alert: Row[Any]) -> Fired:
    moved = alert.annotations.get("moved") or []
    return Fired(
        alertname=alert.alertname,
        detector=WATCHED[alert.alertname],
        modality=alert.modality,
        severity=alert.severity,
        after=_windows(phase, alert.firing_since),
        inhibited_by=alert.inhibited_by,
        moved=str(moved[0]["statistic"]) if moved else None,
        sentence=alert.annotations.get("summary", ""),
    )


def _row(seen: Observed, usual: float) -> dict[str, Any]:
    """What was seen beside what should be."""
    loss = usual - seen.accuracy
    wrong = _wrong(seen, loss)
    first = next(iter([*seen.by_inputs, *seen.by_labels]), None)
    return {
        **asdict(seen),
        "loss": loss,
        "found": bool(seen.fired),
        "found_without_labels": bool(seen.by_inputs),
        "when": None if first is None else first.after,
        "attributed_to": None if first is None else _attribution(first),
        "sentence": None if first is None else first.sentence,
        "held": not wrong,
        "wrong": wrong,
    }


def _attribution(one: Fired) -> str:
    return f"{one.modality}: {one.detector}" + (f" ({one.moved})" if one.moved else "")


def _wrong(seen: Observed, loss: float) -> list[str]:
    """Everything that is not as it should be."""
    scenario = next(one for one in SCENARIOS if one.name == seen.scenario)
    wrong = [f"fired in the usual traffic after it: {name}" for name in seen.fired_afterwards]
    told = [one for one in seen.by_inputs if one.inhibited_by is None]
    if scenario is NORMAL:
        return wrong + [f"fired without drift: {one.alertname} {one.modality}" for one in seen.fired]
    if scenario.name == "relabelled concept":
        if not seen.by_labels:
            wrong.append("labels did not find it")
        return wrong + [f"nothing but labels changed: {one.alertname} {one.modality}" for one in told]
    if scenario.name.startswith("class prior"):
        if not told:
            wrong.append("not found")
        return wrong + [f"not named as a prior: {one.sentence}" for one in told if not MIX.search(one.sentence)]
    if loss <= COSTLY:
        return wrong + [f"a page for a loss of {loss:.1%}: {o.alertname}" for o in told if o.severity == "page"]
    if not told:
        return [*wrong, "not found without labels"]
    if scenario.changed and scenario.name not in WHOLE and not {o.modality for o in told} & set(scenario.changed):
        wrong.append(f"attributed to {sorted({one.modality for one in told})}, not to {list(scenario.changed)}")
    if scenario.pairs is not None and "pairing" not in {one.detector for one in told}:
        wrong.append("the pairing is not named")
    return wrong


def _table(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(
        "scenario", "accuracy", "loss", "found", "first drift", "alert after", "attributed to", "alerts", "held",
        title=f"drift scenarios, {RATE * WINDOW} requests a window",
    )  # fmt: skip
    for row in rows:
        by = "no" if not row["found"] else "yes" if row["found_without_labels"] else "by labels"
        table.add_row(
            row["scenario"], f"{row['accuracy']:.3f}", f"{row['loss']:+.3f}", by, _told(row["first_drift_after"]),
            _told(row["when"]), row["attributed_to"] or "", ", ".join(_short(one) for one in row["fired"]),
            "yes" if row["held"] else "; ".join(row["wrong"]),
        )  # fmt: skip
    Console(stderr=True, width=200).print(table)


def _told(after: int | None) -> str:
    return "" if after is None else f"window {after}"


def _short(alert: dict[str, Any]) -> str:
    return f"{alert['alertname']} {alert['modality']}" + (" (explained)" if alert["inhibited_by"] else "")
