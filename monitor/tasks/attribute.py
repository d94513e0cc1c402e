"""Completes the findings of a window: since when, with what consequences, and from which producers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitor.detectors._within import within_classes
from monitor.domain.attribution import MARGINAL, Before, Key, Source, attributed
from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import FUSED, Evidence, Reference, Window

# Producers of a statistic: of a window and a modality, by the statistic's name and its mean in the baseline.
Producers = Callable[[Window, str, str, float], tuple[Source, ...]]


@dataclass(frozen=True, slots=True)
class Observed:
    """What one window's own data say: findings, and what is needed to complete them.

    `moved` maps a modality to the statistic of it that moved most and that one's mean in the baseline; `about` is the
    finding about the baseline. Nothing is known yet of other windows.
    """

    window: Window
    found: Sequence[Finding]
    about: Finding
    prior_alone: bool | None
    moved: Mapping[str, tuple[str, float]]

    @property
    def drifts(self) -> bool:
        """Whether there is anything to complete."""
        return any(one.verdict is Verdict.DRIFT for one in self.found)

    def completed(self, before: Callable[[], Mapping[Key, Before]], producers: Producers) -> list[Finding]:
        """The findings with what other windows and the log say about them. Asks nothing where nothing drifts."""
        if not self.drifts:
            return [*self.found, self.about]
        sources = {modality: producers(self.window, modality, *moved) for modality, moved in self.moved.items()}
        told = attributed(self.found, before=before(), prior_alone=self.prior_alone, sources=sources)
        return [*told, self.about]


def observed(
    found: Sequence[Finding], about: Finding, window: Window, reference: Reference | None, evidence: Evidence
) -> Observed:
    """The findings of a window with what its own data say of their causes."""
    drifting = [one for one in found if one.verdict is Verdict.DRIFT]
    if not drifting:
        return Observed(window, found, about, None, {})
    return Observed(window, found, about, _prior_alone(reference, evidence), _moved(drifting))


def _prior_alone(reference: Reference | None, evidence: Evidence) -> bool | None:
    if reference is None or FUSED not in reference.summaries or FUSED not in evidence.summaries:
        return None
    within = within_classes(reference.summaries[FUSED], evidence.summaries[FUSED])
    return None if within is None else within.prior_alone


def _moved(drifting: Sequence[Finding]) -> dict[str, tuple[str, float]]:
    most: dict[str, dict[str, Any]] = {}
    for one in drifting:
        moved = one.details.get("moved")
        if one.detector in MARGINAL and moved and one.modality != FUSED:
            most.setdefault(one.modality, moved[0])
    return {modality: (each["statistic"], each["baseline"]) for modality, each in most.items()}
