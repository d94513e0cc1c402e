"""All that is said of one objective at one time: by severity for alerts, and as a whole for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monitor.domain import durations
from monitor.domain.finding import Finding, Verdict
from monitor.domain.intervals import wilson
from monitor.domain.slo import (
    BUDGET,
    LOW_TRAFFIC,
    NOW,
    SEVERITIES,
    Counts,
    Evidence,
    Judgement,
    Slo,
    allowed,
    budget_left,
    burn_rate,
    judge,
)
from monitor.domain.slo_words import explain
from monitor.domain.window import Window

# The detail of a finding on too few events to judge by, of which none the less nothing burns: what fired is over.
SETTLED = "settled"
# The detail that says whether a detector judges the same by windows: `yes` or `no`.
WATCHED = "watched"


@dataclass(frozen=True, slots=True)
class Report:
    """An objective, the counts of its windows, and its judgement as a whole and by severity."""

    slo: Slo
    counts: Mapping[timedelta, Counts]
    whole: Judgement
    by_severity: Mapping[str, Judgement]

    def finding(self, severity: str, detector: str, now: datetime, model_version: str) -> Finding:
        """What the rules of one severity say; the value is the burn rate of the long window that decides."""
        slo, judgement = self.slo, self.by_severity[severity]
        reading = judgement.reading
        if judgement.low_traffic is not None or reading is None:
            counts, length, threshold = self.counts[LOW_TRAFFIC], LOW_TRAFFIC, 1.0
        else:
            counts, length, threshold = reading.long, reading.rule.long, reading.rule.factor
        low, high = wilson(counts.bad, counts.valid) if counts.valid else (0.0, 1.0)
        return Finding(
            detector=detector,
            modality=slo.of,
            window=Window(now - length, now),
            verdict=judgement.verdict,
            value=burn_rate(counts, slo.target),
            p_value=None,
            effect=None,
            interval=(low / allowed(slo.target), high / allowed(slo.target)) if counts.valid else None,
            threshold=threshold,
            n_reference=0,
            n_current=counts.valid,
            baseline_id=None,
            model_version=model_version,
            explanation=explain(slo, judgement, self.counts[NOW]),
            details={
                "slo": slo.name,
                "target": slo.target,
                "bad": counts.bad,
                "rule": None if reading is None else str(reading.rule),
                "budget_left": budget_left(self.counts[BUDGET], slo.target),
                SETTLED: judgement.settled,
                WATCHED: "yes" if slo.watched else "no",
            },
        )

    @property
    def firing(self) -> str | None:
        """The loudest severity that fires."""
        return next((name for name in SEVERITIES if self.by_severity[name].verdict is Verdict.DRIFT), None)

    def state(self) -> dict[str, Any]:
        """What is shown of it, as JSON."""
        slo = self.slo
        told = self.whole if self.firing is None else self.by_severity[self.firing]
        return {
            "of": slo.of,
            "subject": slo.subject,
            "target": slo.target,
            "verdict": str(self.whole.verdict),
            "firing": self.firing,
            "text": explain(slo, told, self.counts[NOW]),
            "budget_left": budget_left(self.counts[BUDGET], slo.target),
            "windows": [
                {
                    "window": durations.short(length),
                    "good": self.counts[length].good,
                    "valid": self.counts[length].valid,
                    "burn_rate": burn_rate(self.counts[length], slo.target),
                }
                for length in sorted(slo.windows)
            ],
            "rules": [
                {
                    "factor": each.rule.factor,
                    "long": durations.short(each.rule.long),
                    "short": durations.short(each.rule.short),
                    "severity": each.rule.severity,
                    "verdict": str(each.verdict),
                }
                for each in self.whole.readings
            ],
        }


def report(slo: Slo, counts: Mapping[timedelta, Counts], evidence: Evidence) -> Report:
    """Judge an objective by the counts of all its windows."""
    by_severity = {severity: judge(slo, counts, evidence, severity) for severity in SEVERITIES}
    return Report(slo, counts, judge(slo, counts, evidence), by_severity)
