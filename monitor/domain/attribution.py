"""Attribution: what the findings of one window say together, and none of them says alone.

A marginal that moved while predictions, pairing and accuracy stand still is a note: a harmless blur. The same drift
with consequences is worth a ticket. A moved class mix is told apart from moved classes. Verdicts stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import FUSED

Key = tuple[str, str]  # detector, modality
EMBEDDING, QUALITY, CLASSES, PAIRING = "embedding_mmd", "quality", "class_drift", "pairing"
SHAPE, CONFIDENCE, MISALIGNMENT = "quality_shape", "confidence_drift", "misalignment"
MARGINAL = (EMBEDDING, QUALITY, SHAPE)
# What a drift of inputs leads to where it matters, and how it is told.
CONSEQUENCES: Mapping[Key, str] = {
    (EMBEDDING, FUSED): "the fused embeddings",
    (CLASSES, FUSED): "the predicted classes",
    (CONFIDENCE, FUSED): "the confidence",
    (PAIRING, FUSED): "the pairing",
    ("agreement", FUSED): "the agreement",
    ("contribution", FUSED): "the contributions of the inputs",
    ("accuracy", FUSED): "the accuracy",
    ("calibration", FUSED): "the calibration",
}
# Without these having been judged nobody can say that a drift is harmless.
TELLING = ((EMBEDDING, FUSED), (CLASSES, FUSED))


class Impact(StrEnum):
    """What a drift is worth: a `note` stays on the page, a `ticket` may alert."""

    NOTE = "note"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class Before:
    """What the window before said of a series: its verdict, and since when it has drifted."""

    verdict: Verdict
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Source:
    """A producer whose share of what moved is largest: `rows` of it were looked at, `share` of the shift is its."""

    name: str
    rows: int
    share: float


def attributed(
    findings: Sequence[Finding],
    *,
    before: Mapping[Key, Before],
    prior_alone: bool | None = None,
    sources: Mapping[str, Sequence[Source]] | None = None,
) -> list[Finding]:
    """The findings of one window with since when, impact, what goes with it and where it comes from.

    `before` is by detector and modality; `prior_alone` says whether the class mix explains the shift of the fused
    embeddings, None where it cannot be told; `sources` lists producers by modality, the largest share first.
    """
    by_key = {(one.detector, one.modality): one for one in findings}
    told = []
    for one in findings:
        if one.verdict is not Verdict.DRIFT:
            told.append(one)
            continue
        since = _since(one, before.get((one.detector, one.modality)))
        details: dict[str, Any] = {**one.details, "since": since.isoformat()}
        clauses = [f"since {since:%Y-%m-%d %H:%M} UTC"] if since < one.window.start else []
        if one.detector in MARGINAL and one.modality != FUSED:
            impact, words = _consequences(by_key)
            details["impact"] = str(impact)
            clauses.append(words)
        elif (one.detector, one.modality) in TELLING:
            details["prior_alone"] = prior_alone
            clauses += _causes(by_key, prior_alone)
        elif one.detector == CONFIDENCE:
            clauses += _causes(by_key, None)
        elif one.detector == PAIRING:
            clauses += _late(by_key.get((MISALIGNMENT, FUSED)))
        named = (sources or {}).get(one.modality, ())
        if named:
            details["sources"] = [{"source": each.name, "rows": each.rows, "share": each.share} for each in named]
            if named[0].share > 0.5 and len(named) > 1:
                clauses.append(f"most of it comes from source {named[0].name}")
        told.append(replace(one, details=details, explanation=_joined(one.explanation, clauses)))
    return told


def harmless(finding: Finding) -> bool:
    """Whether a drift was found to have no consequences in its window."""
    return finding.details.get("impact") == Impact.NOTE


def _since(one: Finding, before: Before | None) -> datetime:
    """The start of the first window of the unbroken run of drift that this one continues."""
    if before is not None and before.verdict is Verdict.DRIFT and before.since is not None:
        return min(before.since, one.window.start)
    return one.window.start


def _consequences(by_key: Mapping[Key, Finding]) -> tuple[Impact, str]:
    moved = [name for key, name in CONSEQUENCES.items() if key in by_key and by_key[key].verdict is Verdict.DRIFT]
    if moved:
        return Impact.TICKET, f"with it moved {_listed(moved)}"
    if all(key in by_key and by_key[key].verdict is Verdict.OK for key in TELLING):
        return Impact.NOTE, "what the model makes of it has not changed, so this is a note and no alert"
    return Impact.TICKET, "whether it changes what the model says cannot be told yet"


def _causes(by_key: Mapping[Key, Finding], prior_alone: bool | None) -> list[str]:
    if prior_alone:
        return ["the mix of predicted classes moved; within classes nothing did"]
    inputs = sorted(
        {
            one.modality
            for key, one in by_key.items()
            if key[0] in MARGINAL and key[1] != FUSED and one.verdict is Verdict.DRIFT
        }
    )
    if inputs:
        return [f"of the inputs, {_listed([f'the {name}' for name in inputs])} moved"]
    pairing = by_key.get((PAIRING, FUSED))
    if pairing is not None and pairing.verdict is Verdict.DRIFT:
        return ["no input moved by itself: what moved is how they belong together"]
    return ["no input moved by itself"]


def _late(misalignment: Finding | None) -> list[str]:
    """Which modality runs late, where that is what broke the pairs."""
    late = None if misalignment is None else misalignment.details.get("late")
    if not late:
        return []
    return [f"the {late['modality']} runs late by {late['requests']} request{'s' if late['requests'] > 1 else ''}"]


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _joined(explanation: str, clauses: Sequence[str]) -> str:
    return "; ".join([explanation.rstrip("."), *clauses]) + "."
