"""Completes the findings of a window: since when, with what consequences, and from which producers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from monitor.detectors._within import within_classes
from monitor.domain.attribution import MARGINAL, Source, attributed
from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import FUSED, Evidence, Reference, Window
from monitor.storage import findings, sources


def attribute(
    connection: Connection,
    found: Sequence[Finding],
    *,
    model: str,
    version: str,
    window: Window,
    reference: Reference | None,
    evidence: Evidence,
) -> list[Finding]:
    """The findings with what the rest of the window and the log say about them. Reads nothing where nothing drifts."""
    drifting = [one for one in found if one.verdict is Verdict.DRIFT]
    if not drifting:
        return list(found)
    return attributed(
        found,
        before=findings.latest(connection, model, version, window.end),
        prior_alone=_prior_alone(reference, evidence),
        sources=_sources(connection, drifting, window),
    )


def _prior_alone(reference: Reference | None, evidence: Evidence) -> bool | None:
    if reference is None or FUSED not in reference.summaries or FUSED not in evidence.summaries:
        return None
    within = within_classes(reference.summaries[FUSED], evidence.summaries[FUSED])
    return None if within is None else within.prior_alone


def _sources(connection: Connection, drifting: Sequence[Finding], window: Window) -> dict[str, tuple[Source, ...]]:
    """By modality, producers of the statistic that moved most."""
    most: dict[str, dict[str, Any]] = {}
    for one in drifting:
        moved = one.details.get("moved")
        if one.detector in MARGINAL and moved and one.modality != FUSED:
            most.setdefault(one.modality, moved[0])
    return {
        modality: sources.shares(connection, window, modality, each["statistic"], baseline=each["baseline"])
        for modality, each in most.items()
    }
