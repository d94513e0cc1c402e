"""Objectives in words: what an alert says of one, with the counts that it is made of."""

from __future__ import annotations

from datetime import timedelta

from monitor.domain import durations
from monitor.domain.finding import Verdict
from monitor.domain.slo import LOW_TRAFFIC, NOW, Counts, Judgement, Slo, burn_rate


def explain(slo: Slo, judgement: Judgement, now: Counts) -> str:
    """One sentence about an objective; `now` are the counts of the last hour, told where no rule fires."""
    if judgement.verdict is Verdict.DRIFT and judgement.low_traffic:
        return f"{slo.subject} fails at low traffic: {_share(slo, judgement.low_traffic, LOW_TRAFFIC)}."
    if judgement.verdict is Verdict.DRIFT and judgement.reading:
        found = judgement.reading
        speed = times(burn_rate(found.long, slo.target) or 0.0)
        return (
            f"{slo.subject} burns its 30-day budget {speed} times too fast: {_share(slo, found.long, found.rule.long)}."
        )
    if judgement.verdict is Verdict.NO_DATA:
        return f"{slo.subject} is not known: there were no {slo.events}."
    if judgement.verdict is Verdict.INSUFFICIENT and not judgement.settled:
        return f"{slo.subject} cannot be judged on so little: {_share(slo, now, NOW)}."
    return f"{slo.subject} keeps within its budget: {_share(slo, now, NOW)}."


def times(rate: float) -> str:
    """A burn rate in two or three digits: 1.04, 8, 2.4, 14."""
    digits = 0 if rate >= 10 else 1 if rate >= 2 else 2
    text = f"{rate:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def _share(slo: Slo, counts: Counts, over: timedelta) -> str:
    """E.g. `96 of 1,204 requests in the last hour came without text (target 99%)`."""
    lately = f"in the last {durations.in_words(over)}"
    return f"{counts.bad:,} of {counts.valid:,} {slo.events} {lately} {slo.wrong} (target {percent(slo.target)})"


def percent(share: float) -> str:
    """A target as per cent, with as many digits as it has: 99%, 99.9%."""
    return f"{100 * share:.6g}%"
