"""What a detector is, and how the catalogue of them is found and run.

A detector is a file of this package that exposes one constant, `DETECTOR`. It is a pure function: same input, same
score; randomness comes from a fixed seed among its options. Files whose name starts with an underscore are helpers.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

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
    ROWS = "rows"  # two arrays of embeddings, which no summary keeps: `compare` only, never the service


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


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Two samples of embeddings, (N, d) and (M, d), rows in arrival order, finite: what `Takes.ROWS` is run on."""

    reference: NDArray[np.float32]
    current: NDArray[np.float32]


def current_rows(rows: Rows) -> int:
    """Rows of the sample that is judged."""
    return len(rows.current)


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
    """Whether the baseline has nothing of what the detector counts."""
    return detector.takes is not Takes.LABELS and detector.size(context.summary) == 0


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

    `options` maps a detector's name to parameters of its options; a threshold that is not among them is the baseline's,
    where it learnt one. Findings are the same on any number of cores: matrix products, whose last bits depend on how
    many threads share them, are each made by one. Raises KeyError on an unknown detector, TypeError on an unknown
    parameter, IncomparableError as `judge` does.
    """
    findings = []
    for name in catalogue() if detectors is None else detectors:
        detector = catalogue()[name]
        given = (options or {}).get(name, {})
        for modality, current in _inputs(detector.takes, evidence):
            chosen, source = applied(detector, modality, reference, given)
            with _matrix_threads().limit(limits=1, user_api="blas"):
                score = judge(detector, modality, reference, current, chosen)
            score = replace(score, details={**score.details, **_about(modality, reference, source)})
            findings.append(_finding(name, modality, window, model_version, reference, score))
    return findings


@cache
def _matrix_threads() -> ThreadpoolController:
    """Of the libraries that are loaded by now: looked for once."""
    return ThreadpoolController()


# The option that a drift detector's effect is held against is one of these.
_THRESHOLDS = ("effect", "threshold", "drop")


def option_of(detector: Detector[Any, Any]) -> str | None:
    """The option that a drift detector's effect is held against, None where there is none."""
    if detector.takes not in (Takes.MODALITY, Takes.EMBEDDING, Takes.FUSED) or not detector.needs_baseline:
        return None
    known = {each.name for each in fields(detector.options())}
    return next((name for name in _THRESHOLDS if name in known), None)


def applied(
    detector: Detector[Any, Any], modality: str, reference: Reference | None, given: Mapping[str, Any]
) -> tuple[Any, str | None]:
    """A detector's options for one modality, and where the threshold came from: `settings`, `baseline`, `default`.

    None where the detector holds no effect against one. `given` are the operator's parameters.
    """
    options, name = detector.options(**given), option_of(detector)
    if name is None or getattr(options, name) is None:
        return options, None
    if name in given:
        return options, "settings"
    learnt = None if reference is None else reference.thresholds.get(detector.name, {}).get(modality)
    return (options, "default") if learnt is None else (replace(options, **{name: learnt}), "baseline")


def _about(modality: str, reference: Reference | None, source: str | None) -> dict[str, str]:
    season = None if reference is None or source is None else reference.season.get(modality)
    told = {"threshold_from": source, "season": season}
    return {name: value for name, value in told.items() if value is not None}


def _inputs(takes: Takes, evidence: Evidence) -> list[tuple[str, Any]]:
    summaries = evidence.summaries
    match takes:
        case Takes.MODALITY:
            return [(name, summaries[name]) for name in sorted(summaries) if name != FUSED]
        case Takes.EMBEDDING:
            return [(name, summaries[name]) for name in sorted(summaries)]
        case Takes.FUSED:
            return [(FUSED, summaries[FUSED])] if FUSED in summaries else []
        case Takes.ROWS:
            return []
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
