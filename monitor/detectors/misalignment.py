"""Misalignment: do the modalities of a request come from the same moment?

Two looks, each from what bins keep. **Shift**: the mean pairing score (nats) of each request's left modality with the
right one of requests up to `FARTHEST` before and after. Pairs that belong together fit best as they came; where one
modality runs late by k requests, the shift by k fits best. Drift: one other shift leads the pairs as they came by
`lead` nats a pair, and leads every other shift with evidence: the largest of one-sided paired t-tests on bin means (an
intersection-union test, Berger 1982), times the number of shifts (Bonferroni). So near-duplicates, whose neighbours fit
as well as they themselves, and pairs that fit none better than another, are no drift. No baseline is needed, only its
pairing map. It sees what holds for more than half of the window and for all senders alike.

**Lag**: rows by the seconds between the two captures, left minus right, in the cells of `LAG_EDGES`. Where the baseline
has captures too: total variation distance ½ Σ|p - q| as effect, evidence by permuting whole bins.

Value, p-value, effect and threshold are those of the look that decides, the shift (nats a pair) where both agree.

Bins of 8 pairs that fit with -6 nats as they came, with 2 where the texts of one request later are taken:

>>> import numpy as np
>>> from migrations.schema.bins import from_rows
>>> from monitor.detectors.base import catalogue, judge
>>> from monitor.domain.window import Summary
>>> scores = np.full((400, 10), -6.0) + np.random.default_rng(0).normal(size=(400, 10))
>>> scores[:, 5] += 8
>>> scores[:, 9] = 1
>>> window = Summary("fused", {}, from_rows({"shift": scores}, 8))
>>> judge(catalogue()["misalignment"], "fused", None, window).details["late"]
{'modality': 'text', 'requests': 1}
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from migrations.schema import bins as schema_bins
from migrations.schema.bins import FARTHEST, LAG_EDGES, Bins
from monitor.detectors._aggregated import Family, test
from monitor.detectors._binned import Array, alike, column
from monitor.detectors.base import Context, Detector, Score, Takes, in_words
from monitor.domain.finding import Verdict
from monitor.domain.window import IncomparableError, Summary

# The look whose verdict comes first here decides.
_ORDER = (Verdict.DRIFT, Verdict.OK, Verdict.INSUFFICIENT, Verdict.NO_BASELINE)


@dataclass(frozen=True, slots=True)
class Options:
    """`alpha_shift` and `lead` in nats a pair; `alpha_lag`, `permutations` and `distance` (total variation) of lags.

    Below `min_rows` rows or `min_bins` bins nothing is decided; at most `bins` bins are used.
    """

    alpha_shift: float = 0.0005
    lead: float = 0.1
    alpha_lag: float = 0.0002
    permutations: int = 9999
    distance: float = 0.25
    min_rows: int = 100
    min_bins: int = 8
    bins: int = 12
    seed: int = 0


def _known(summary: Summary, name: str) -> Bins:
    """Bins of only those rows of which the column is known: a `shift` counts them in its last value, a `lag` in all."""
    if name not in summary.bins.columns:
        return schema_bins.EMPTY
    column(summary.bins, name, summary.modality)
    sums = summary.bins.columns[name]
    rows = _rows_of(sums, name)
    return Bins(np.ceil(rows[rows > 0]).astype(np.int32), {name: sums[rows > 0]})


def _rows_of(sums: np.ndarray[tuple[int, ...], np.dtype[np.floating]], name: str) -> Array:
    rows: Array = np.asarray(sums[:, -1] if name == "shift" else sums.sum(axis=1), np.float64)
    return rows


def _rows(summary: Summary) -> int:
    """Rows of which a shift or a lag is known, whichever are more."""
    columns = {name: sums for name, sums in summary.bins.columns.items() if name in ("shift", "lag")}
    # what is not a number counts as one: whoever judges it says so
    found = [np.nan_to_num(_rows_of(sums, name), nan=1.0).sum() for name, sums in columns.items()]
    return math.ceil(max(found, default=0))


def run(context: Context, current: Summary, options: Options) -> Score:
    """Judge whether the two modalities of a pair are of one moment."""
    pair = context.reference.pair
    looks = [look for look in (_shift(current, pair, options), _lag(context.summary, current, pair, options)) if look]
    decides = min(looks, key=lambda look: _ORDER.index(look.verdict))
    details = {key: value for look in looks for key, value in look.details.items()}
    words = "; ".join(look.explanation for look in sorted(looks, key=lambda look: look is not decides))
    return replace(decides, explanation=f"{words[0].upper()}{words[1:]}.", details={"pair": list(pair), **details})


def shift_test(means: Array) -> tuple[int, float]:
    """The best shift other than 0 and the p-value that it is better than every other one.

    `means` (K, 2 FARTHEST + 1) are bin means of the scores, K ≥ 2, shift -FARTHEST first.
    """
    average = means.mean(axis=0)
    others = np.delete(np.arange(len(average)), FARTHEST)
    best = int(others[average[others].argmax()])
    ahead = means[:, [best]] - np.delete(means, best, axis=1)
    # sums are stored in single precision: differences below that are none
    grain = 1e-6 * max(float(np.abs(means).max()), 1e-6)
    t = ahead.mean(axis=0) / np.sqrt(ahead.var(axis=0, ddof=1) / len(ahead) + grain**2)
    p = float(student_t.sf(t, len(ahead) - 1).max())
    return best - FARTHEST, min(1.0, len(others) * p)


def _shift(current: Summary, pair: tuple[str, str], options: Options) -> Score | None:
    kept = _known(current, "shift")
    if not len(kept.count):
        return None
    total = kept.total("shift")
    if len(total) != 2 * FARTHEST + 2:
        raise IncomparableError(f"column 'shift' has {len(total)} values, expected {2 * FARTHEST + 2}")
    n = math.ceil(total[-1])
    joined = schema_bins.level(kept, options.bins).columns["shift"].astype(np.float64)
    if n < options.min_rows or len(joined) < options.min_bins:
        words = f"{n} pairs are too few to see whether {pair[0]} or {pair[1]} runs late"
        return Score(Verdict.INSUFFICIENT, words, threshold=options.lead, n_current=n)
    shift, p_value = shift_test(joined[:, :-1] / joined[:, -1:])
    scores = total[:-1] / total[-1]
    lead = float(scores[FARTHEST + shift] - scores[FARTHEST])
    drift = lead >= options.lead and p_value <= options.alpha_shift
    late, requests = pair[shift > 0], abs(shift)
    words = f"no shift of {pair[0]} against {pair[1]} by up to {FARTHEST} requests fits clearly better than none"
    if drift:
        by = f"{requests} request{'s' if requests > 1 else ''}"
        words = (
            f"the {late} runs late by {by}: it fits the {pair[shift < 0]} of {by} before better than its own, by "
            f"{lead:.1f} nats a pair ({in_words(p_value)})"
        )
    return Score(
        Verdict.DRIFT if drift else Verdict.OK,
        words,
        value=lead,
        p_value=p_value,
        effect=lead,
        threshold=options.lead,
        n_current=n,
        details={"late": {"modality": late, "requests": requests} if drift else None, "scores": scores.tolist()},
    )


def _lag(reference: Summary, current: Summary, pair: tuple[str, str], options: Options) -> Score | None:
    window, before = _known(current, "lag"), _known(reference, "lag")
    if not len(window.count):
        return None
    after = window.total("lag")
    n_current, n_reference = (math.ceil(side.total("lag").sum()) if len(side.count) else 0 for side in (window, before))
    median = _median(after, pair)
    told = {"median": median, "bounds": list(LAG_EDGES), "window": (after / after.sum()).tolist()}
    plain = Score(Verdict.INSUFFICIENT, "", n_reference=n_reference, n_current=n_current, details={"lag": told})
    if not n_reference:
        words = f"captures are {median}, of which the baseline knows nothing"
        return replace(plain, verdict=Verdict.NO_BASELINE, explanation=words)
    if before.columns["lag"].shape[1] != len(after):
        raise IncomparableError(f"column 'lag' has {len(after)} cells, its baseline {before.columns['lag'].shape[1]}")
    sides = alike(before, window, options.bins)
    plain = replace(plain, threshold=options.distance)
    if min(n_current, n_reference) < options.min_rows or min(len(side.count) for side in sides) < options.min_bins:
        visible = (norm.isf(options.alpha_lag) + norm.isf(0.2)) / 2 * math.sqrt(1 / n_reference + 1 / n_current)
        words = (
            f"{n_current} captures against {n_reference} are too few to judge the time between them: at best a change "
            f"of {min(1.0, visible):.0%} of rows could have been seen"
        )
        return replace(plain, explanation=words)
    rows = np.vstack([side.columns["lag"].astype(np.float64) for side in sides])
    shares = Family("lag", rows / rows.sum(axis=1, keepdims=True), (len(after),))
    p_value = test([shares], len(sides[0].count), options.permutations, options.seed).p_value
    usual = before.total("lag")
    distance = float(np.abs(after / after.sum() - usual / usual.sum()).sum()) / 2
    drift = distance >= options.distance and p_value <= options.alpha_lag
    words = f"captures are {median}, " + (
        f"in the baseline {_median(usual, pair)}: {distance:.0%} of rows lie elsewhere ({in_words(p_value)})"
        if drift
        else f"about as in the baseline ({distance:.0%} of rows lie elsewhere)"
    )
    told |= {"baseline": (usual / usual.sum()).tolist(), "distance": distance, "p_value": p_value}
    verdict = Verdict.DRIFT if drift else Verdict.OK
    return replace(plain, verdict=verdict, explanation=words, value=distance, p_value=p_value, effect=distance)


def _median(counts: Sequence[float] | Array, pair: tuple[str, str]) -> str:
    """The cell that holds the median lag, in words: "0.1 to 0.5 s apart, image after text"."""
    ends = np.cumsum(counts)
    cell = int(np.searchsorted(ends, ends[-1] / 2))
    low, high = (abs(edge) for edge in ((-math.inf, *LAG_EDGES)[cell], (*LAG_EDGES, math.inf)[cell]))
    near, far = min(low, high), max(low, high)
    if near == far:
        return f"within {far:g} s of each other"
    later, earlier = (pair[1], pair[0]) if cell < len(LAG_EDGES) / 2 else pair
    apart = f"more than {near:g} s" if math.isinf(far) else f"{near:g} to {far:g} s"
    return f"mostly {apart} apart, {later} after {earlier}"


DETECTOR = Detector("misalignment", Takes.FUSED, Options, run, _rows, needs_baseline=False)
