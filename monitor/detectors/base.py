"""What a detector is, and how the catalogue of them is found and run.

A detector is a file of this package that exposes one constant, `DETECTOR`. It is a pure function: same input, same
score; randomness comes from a fixed seed among its options. Files whose name starts with an underscore are helpers.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, Generic, TypeVar

from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import FUSED, Evidence, IncomparableError, Labelled, Reference, Summary, Window

Current = TypeVar("Current")
Options = TypeVar("Options")


class Takes(StrEnum):
    """What a detector is run on."""

    MODALITY = "modality"  # the summary of each input modality
    EMBEDDING = "embedding"  # the summary of each input modality, and the fused one
    FUSED = "fused"  # the fused summary
    LABELS = "labels"  # labelled answers


@dataclass(frozen=True, slots=True)
class Score:
    """A detector's result; the fields are those of `Finding`."""

    verdict: Verdict
    explanation: str
    value: float | None = None
    p_value: float | None = None
    effect: float | None = None
    interval: tuple[float, float] | None = None
    threshold: float | None = None
    n_reference: int = 0
    n_current: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Context:
    """What the baseline tells beside the summary of the modality in question."""

    modality: str
    summary: Summary
    reference: Reference

    @property
    def quality_names(self) -> tuple[str, ...]:
        """The modality's quality statistics, in the order of their column."""
        return self.reference.names.get(self.modality, ())


@dataclass(frozen=True, slots=True)
class Detector(Generic[Current, Options]):
    """A detector: its `name`, what it `takes`, its `options` (a frozen dataclass with defaults), and how to `run` it.

    `run(context, current, options)` gets a non-empty `current` and, where `needs_baseline`, a non-empty baseline of
    the same fingerprint; else the context may be empty. `size` counts the rows of `current` that matter to it.
    """

    name: str
    takes: Takes
    options: Callable[..., Options]
    run: Callable[[Context, Current, Options], Score]
    size: Callable[[Current], int]
    needs_baseline: bool = True


def in_words(p_value: float) -> str:
    """`p = 0.012`, and `p < 1e-15` below what double precision can tell from nothing."""
    return f"p = {p_value:.2g}" if p_value >= 1e-15 else "p < 1e-15"


def binned_rows(summary: Summary) -> int:
    """Rows of a summary that its bins hold."""
    return summary.bins.rows


def labelled_rows(labelled: Labelled) -> int:
    """Number of labelled answers."""
    return len(labelled.confidence)


@cache
def catalogue() -> Mapping[str, Detector[Any, Any]]:
    """Every detector of this package by name. Raises LookupError where a file exposes none."""
    package = importlib.import_module("monitor.detectors")
    found: dict[str, Detector[Any, Any]] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("_") or module.name == "base":
            continue
        detector = getattr(importlib.import_module(f"monitor.detectors.{module.name}"), "DETECTOR", None)
        if not isinstance(detector, Detector):
            raise LookupError(f"monitor/detectors/{module.name}.py exposes no DETECTOR")
        found[detector.name] = detector
    return dict(sorted(found.items()))


def judge(
    detector: Detector[Current, Options],
    modality: str,
    reference: Reference | None,
    current: Current,
    options: Options | None = None,
) -> Score:
    """Run one detector on one modality, after the questions that are the same for all.

    Raises IncomparableError where the summaries' fingerprints differ, or the data hold NaN or infinity.
    """
    if detector.size(current) == 0:
        return Score(Verdict.NO_DATA, "There were no rows to judge.")
    known = Reference(0, "", {}) if reference is None else reference
    context = Context(modality, known.summaries.get(modality, Summary(modality)), known)
    if detector.needs_baseline:
        if reference is None or _missing(detector, context):
            reason = f"The baseline knows nothing of {modality}, so that drift cannot be judged."
            return Score(Verdict.NO_BASELINE, reason, n_current=detector.size(current))
        if isinstance(current, Summary):
            _same_encoder(context.summary, current)
    return detector.run(context, current, detector.options() if options is None else options)


def _missing(detector: Detector[Any, Any], context: Context) -> bool:
    return detector.takes is not Takes.LABELS and context.summary.bins.rows == 0


def _same_encoder(reference: Summary, current: Summary) -> None:
    if reference.fingerprint != current.fingerprint:
        raise IncomparableError(
            f"{current.modality} embeddings of encoder {current.fingerprint or 'unknown'} cannot be compared with a "
            f"baseline of encoder {reference.fingerprint or 'unknown'}: make a baseline for this model version"
        )


def evaluate(
    reference: Reference | None,
    evidence: Evidence,
    *,
    window: Window,
    model_version: str,
    detectors: tuple[str, ...] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Finding]:
    """Findings of the catalogue, or of the `detectors` named, on everything they take.

    `options` maps a detector's name to parameters of its options. Raises KeyError on an unknown detector, TypeError
    on an unknown parameter, IncomparableError as `judge` does.
    """
    findings = []
    for name in catalogue() if detectors is None else detectors:
        detector = catalogue()[name]
        chosen = detector.options(**(options or {}).get(name, {}))
        for modality, current in _inputs(detector.takes, evidence):
            score = judge(detector, modality, reference, current, chosen)
            findings.append(_finding(name, modality, window, model_version, reference, score))
    return findings


def _inputs(takes: Takes, evidence: Evidence) -> list[tuple[str, Any]]:
    summaries = evidence.summaries
    match takes:
        case Takes.MODALITY:
            return [(name, summaries[name]) for name in sorted(summaries) if name != FUSED]
        case Takes.EMBEDDING:
            return [(name, summaries[name]) for name in sorted(summaries)]
        case Takes.FUSED:
            return [(FUSED, summaries[FUSED])] if FUSED in summaries else []
        case Takes.LABELS:
            return [] if evidence.labelled is None else [(FUSED, evidence.labelled)]


def _finding(
    detector: str, modality: str, window: Window, model_version: str, reference: Reference | None, score: Score
) -> Finding:
    return Finding(
        detector=detector,
        modality=modality,
        window=window,
        verdict=score.verdict,
        value=score.value,
        p_value=score.p_value,
        effect=score.effect,
        interval=score.interval,
        threshold=score.threshold,
        n_reference=score.n_reference,
        n_current=score.n_current,
        baseline_id=None if reference is None else reference.baseline_id,
        model_version=model_version,
        explanation=score.explanation,
        details=score.details,
    )
