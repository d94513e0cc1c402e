"""Effect thresholds learnt from a baseline's own windows.

The bins of a baseline, in order of time, are cut into stretches as large as a window of the service, and each is judged
against the rest by every detector that holds an effect against a threshold. A threshold is MARGIN times the 0.99
quantile of those effects (the median of it over bootstrap resamples of the stretches: of few windows, the largest alone
would be luck), held between LOWEST and HIGHEST times the detector's default: what the baseline itself does by chance
or by habit is no drift, a restless baseline must not blind a detector, and a calm one must not make it nervous.

Effects scatter with the size of a window, so a threshold belongs to the number of rows it was learnt at. Where the bins
are so large that only larger windows can be cut, effects come out smaller, and no threshold is lowered by them. A
baseline of fewer than LEAST_WINDOWS windows teaches nothing. Baselines with hours of day are cut hour by hour: that
nights differ from days is then no chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from migrations.schema import bins as schema_bins
from migrations.schema.bins import Bins
from monitor.detectors.base import Detector, Takes, catalogue, judge, option_of
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, IncomparableError, Reference, Summary

QUANTILE, MARGIN, RESAMPLES = 0.99, 1.25, 500
LOWEST, HIGHEST = 0.8, 3.0
LEAST_WINDOWS, MOST_WINDOWS = 8, 24
LEAST_BINS = 16  # of a window: detectors look at so many
# Learning needs effects, not p-values: so few permutations keep it well below two seconds.
PERMUTATIONS = 99


@dataclass(frozen=True, slots=True)
class Learnt:
    """`effects` by detector and modality, from `windows` of `rows` rows; `reason` says why nothing was learnt."""

    rows: int
    windows: int = 0
    effects: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reason: str | None = None


def learn(references: Sequence[Reference], rows: int, options: Mapping[str, Mapping[str, Any]] | None = None) -> Learnt:
    """Learn from a baseline, or from its hours, for windows of `rows` rows; `options` are those of `evaluate`."""
    parts: dict[str, list[tuple[Reference, Summary, int]]] = {}
    for reference in references:
        for name, summary in reference.summaries.items():
            parts.setdefault(name, []).extend((reference, summary, at) for at in _starts(summary.bins, rows))
    most = max((len(each) for each in parts.values()), default=0)
    if most < LEAST_WINDOWS:
        return Learnt(rows, most, reason=f"it holds {most} windows of {rows} rows: {LEAST_WINDOWS} are needed")
    effects: dict[str, dict[str, float]] = {}
    for modality, found in sorted(parts.items()):
        chosen = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, MOST_WINDOWS).astype(int))]
        if len(chosen) < LEAST_WINDOWS:
            continue
        cut = [(ref, *_cut(summary, at, rows)) for ref, summary, at in chosen]
        larger = any(window.bins.rows > 1.5 * rows for _, window, _ in cut)
        for detector, name in _taking(modality):
            default = detector.options(**(options or {}).get(detector.name, {}))
            seen = list(_effects(detector, default, modality, cut))
            if len(seen) >= LEAST_WINDOWS:
                held = _held(seen, float(getattr(detector.options(), name)), larger=larger)
                effects.setdefault(detector.name, {})[modality] = held
    return Learnt(rows, min(most, MOST_WINDOWS), effects)


def _taking(modality: str) -> Iterator[tuple[Detector[Any, Any], str]]:
    for detector in catalogue().values():
        name = option_of(detector)
        takes = detector.takes
        fits = takes is Takes.EMBEDDING or (takes is Takes.FUSED) == (modality == FUSED)
        if name is not None and fits and getattr(detector.options(), name) is not None:
            yield detector, name


def _effects(
    detector: Detector[Any, Any], options: Any, modality: str, cut: Sequence[tuple[Reference, Summary, Summary]]
) -> Iterator[float]:
    if "permutations" in {each.name for each in fields(options)}:
        options = replace(options, permutations=PERMUTATIONS)
    for reference, window, rest in cut:
        try:
            score = judge(detector, modality, replace(reference, summaries={modality: rest}), window, options)
        except IncomparableError:
            return  # a baseline without that column teaches nothing about it
        if score.verdict in (Verdict.OK, Verdict.DRIFT) and score.effect is not None:
            yield max(0.0, score.effect)


def _held(effects: Sequence[float], default: float, *, larger: bool) -> float:
    drawn = np.random.default_rng(0).choice(np.array(effects), (RESAMPLES, len(effects)))
    upper = MARGIN * float(np.median(np.quantile(drawn, QUANTILE, axis=1)))
    return float(np.clip(upper, default * (1.0 if larger else LOWEST), default * HIGHEST))


def _size(bins: Bins, rows: int) -> int:
    """Bins of a window of `rows` rows."""
    return max(LEAST_BINS, round(rows * len(bins.count) / max(1, bins.rows)))


def _starts(bins: Bins, rows: int) -> range:
    """First bins of the stretches; none where two do not fit, as a window needs a rest."""
    size = _size(bins, rows)
    return range(0, len(bins.count) - size + 1, size) if len(bins.count) >= 2 * size else range(0)


def _cut(summary: Summary, start: int, rows: int) -> tuple[Summary, Summary]:
    """A stretch, and the rest."""
    stop = start + _size(summary.bins, rows)
    inside = np.zeros(len(summary.bins.count), np.bool_)
    inside[start:stop] = True
    window, rest = (
        schema_bins.Bins(summary.bins.count[which], {name: sums[which] for name, sums in summary.bins.columns.items()})
        for which in (inside, ~inside)
    )
    return replace(summary, bins=window), replace(summary, bins=rest)
