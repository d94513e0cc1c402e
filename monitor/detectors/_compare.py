"""The notebook door: one detector on plain arrays, no database, no baseline, no settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from migrations.schema.bins import from_rows
from migrations.schema.calibration_error import debiased, equal_mass
from migrations.schema.pairing_map import LEADING, PairingMap
from monitor.detectors._arrays import agreeing, answers, classes, embeddings, numbers, presence, scaled
from monitor.detectors._embedding_rows import Q, compare_rows
from monitor.detectors._pooled import whitened
from monitor.detectors.base import Rows, Score, catalogue, judge
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, Labelled, Reference, Summary

ANY = "rows"  # the modality's name where there is no other
Door = Callable[[Any, Any, Any], Score]


def compare(name: str, reference: Any, current: Any, **options: Any) -> Score:
    """Run the detector `name` on two samples of rows in arrival order, `reference` first.

    | name | arrays on each side |
    |---|---|
    | embedding_mmd, embedding_mmd_exact, embedding_kl, domain_classifier | (N, d) embeddings |
    | pairing | a pair of those, image and text, row i with row i |
    | class_drift | labels (N,) or (N, 1), numbers or strings; or probabilities (N, C) |
    | agreement | 0 and 1, (N,) or (N, 1); or what each head predicts, (N, 2 or more): equal ones agree |
    | availability | 0 and 1, (N,) or (N, 1); or (N, d) in which rows with NaN are missing |
    | calibration | (N, 2): confidence in [0, 1], and 1 where the answer was right |

    `options` are those of the detector (its `Options`). One test is asked for, so `alpha` is 0.05 here, where the
    service, which runs many an hour, has a smaller one; NOTEBOOK lists what else differs. For calibration and
    availability, which are held against truth and a target, the reference may be None or empty; it is told where given.
    Too few rows give the verdict `insufficient`, never an error. Raises ValueError on an unknown name or option, and on
    arrays that are empty, of the wrong shape or width, or hold NaN or infinity.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(1000, 8))
    >>> compare("embedding_mmd", rows[:500], rows[500:]).verdict.value
    'ok'
    """
    if name not in DOORS:
        why = " reads labels or summaries that plain arrays do not hold" if name in catalogue() else " is unknown"
        raise ValueError(f"detector {name!r}{why}; known are {', '.join(sorted(DOORS))}")
    return DOORS[name](reference, current, _options(name, options))


def _options(name: str, given: Mapping[str, Any]) -> Any:
    detector = catalogue()[name]
    defaults = detector.options()
    known = {each.name: getattr(defaults, each.name) for each in fields(defaults)}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"{name} has no option {key!r}; known are {', '.join(known)}")
        _check(f"{name}: {key}", key, value, known[key])
    return detector.options(**{**NOTEBOOK.get(name, {}), **given})


def _check(where: str, key: str, value: Any, default: Any) -> None:
    if value is None and default is None:
        return
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value):
        raise ValueError(f"{where} must be a {'whole ' if whole else ''}number, got {value!r}")
    low, high = (0, 1) if key in ("alpha", "level") else (1, math.inf) if whole and key != "seed" else (0, math.inf)
    if not low <= value <= high or (key in ("alpha", "level") and value in (0, 1)):
        raise ValueError(f"{where} must be {'between 0 and 1' if high == 1 else f'{low} or more'}, got {value!r}")


def _embedding_mmd(reference: ArrayLike, current: ArrayLike, options: Any) -> Score:
    rows = scaled(embeddings(reference, current))
    return compare_rows(rows.reference, rows.current, options)


def _rows(name: str, prepare: Callable[[Rows], Rows]) -> Door:
    def door(reference: ArrayLike, current: ArrayLike, options: Any) -> Score:
        return judge(catalogue()[name], ANY, None, prepare(embeddings(reference, current)), options)

    return door


def _pairing(reference: Any, current: Any, options: Any) -> Score:
    """The map is fitted on both samples' pairs as one set, so that it favours neither and exchanging bins is fair."""
    sides = [_pair(side, where) for side, where in ((reference, "reference"), (current, "current"))]
    both = [scaled(embeddings(sides[0][i], sides[1][i], what)) for i, what in enumerate(("image ", "text "))]
    n, m = len(both[0].reference), len(both[0].current)
    if min(n, m) < options.min_rows:
        text = f"{m} pairs against {n} are too few to judge pairing: {options.min_rows} a side are needed."
        return Score(Verdict.INSUFFICIENT, text, threshold=-options.effect, n_reference=n, n_current=m)
    left, right = (whitened(np.concatenate([rows.reference, rows.current]), LEADING) for rows in both)
    if not (left.shape[1] and right.shape[1]):
        text = "All images or all texts are alike, so that none belongs to another."
        return Score(Verdict.INSUFFICIENT, text, threshold=-options.effect, n_reference=n, n_current=m)
    residuals = PairingMap.fit(left, right).residuals(left, right)
    return _judged("pairing", "pairing", residuals[:n], residuals[n:], options)


def _pair(side: Any, where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not isinstance(side, tuple | list) or len(side) != 2:
        raise ValueError(f"{where} must be a pair of arrays, image and text, row i with row i")
    image, text = numbers(side[0], f"image {where}"), numbers(side[1], f"text {where}")
    if len(image) != len(text):
        raise ValueError(f"{where} has {len(image)} images and {len(text)} texts: row i must belong to row i")
    return image, text


def _judged(
    name: str, column: str, reference: ArrayLike, current: ArrayLike, options: Any, names: tuple[str, ...] = ()
) -> Score:
    """Judge one column of summaries made of rows (N, width)."""
    before, after = (
        Summary(FUSED, {}, from_rows({column: np.asarray(rows, np.float32)}, Q)) for rows in (reference, current)
    )
    return judge(catalogue()[name], FUSED, Reference(0, "", {FUSED: before}, names), after, options)


def _class_drift(reference: ArrayLike, current: ArrayLike, options: Any) -> Score:
    sides = classes(reference, "reference"), classes(current, "current")
    if len({side.dtype.kind in "US" for side in sides}) > 1:
        raise ValueError("reference and current must both hold strings, or both numbers, as labels")
    widths = [np.shape(side)[1] for side in (reference, current) if np.ndim(side) == 2 and np.shape(side)[1] > 1]
    if len(set(widths)) > 1:
        raise ValueError(f"reference and current have probabilities of {widths[0]} and {widths[1]} classes")
    known, number = np.unique(np.concatenate(sides), return_inverse=True)
    rows = number[:, None] == np.arange(len(known))
    n = len(sides[0])
    return _judged("class_drift", "classes", rows[:n], rows[n:], options, tuple(map(str, known)))


def _agreement(reference: ArrayLike, current: ArrayLike, options: Any) -> Score:
    before, after = agreeing(reference, "reference"), agreeing(current, "current")
    return _judged("agreement", "agreement", before[:, None], after[:, None], options)


def _availability(reference: ArrayLike | None, current: ArrayLike, options: Any) -> Score:
    present = presence(current, "current")
    counts = {"present": int(present.sum()), "missing": int((~present).sum())}
    score = judge(catalogue()["availability"], "The input", None, Summary("The input", counts), options)
    score = replace(score, p_value=float(binom.cdf(counts["present"], len(present), options.target)))
    if reference is None or np.size(reference) == 0:
        return score
    before = presence(reference, "reference")
    told = f"{score.explanation} In the reference {before.mean():.1%} were."
    details = {**score.details, "reference": float(before.mean())}
    return replace(score, explanation=told, n_reference=len(before), details=details)


def _calibration(reference: ArrayLike | None, current: ArrayLike, options: Any) -> Score:
    score = judge(catalogue()["calibration"], FUSED, None, Labelled(*answers(current, "current")), options)
    if reference is None or np.size(reference) == 0:
        return score
    confidence, correct = answers(reference, "reference")
    before = float(debiased(equal_mass(confidence, correct)))
    told = f"{score.explanation} In the reference ECE was {before:.1%} over {len(correct)} answers."
    details = {**score.details, "reference": before}
    return replace(score, explanation=told, n_reference=len(correct), details=details)


DOORS: Mapping[str, Door] = {
    "embedding_mmd": _embedding_mmd,
    "embedding_mmd_exact": _rows("embedding_mmd_exact", lambda rows: rows),
    "embedding_kl": _rows("embedding_kl", scaled),
    "domain_classifier": _rows("domain_classifier", scaled),
    "pairing": _pairing,
    "class_drift": _class_drift,
    "agreement": _agreement,
    "availability": _availability,
    "calibration": _calibration,
}

# Where one asked-for test on rows differs from the service's many on summaries.
NOTEBOOK: Mapping[str, Mapping[str, Any]] = {
    "embedding_mmd": {"alpha": 0.05, "effect": 0.05, "permutations": 1999, "min_rows": 64, "bins": 256},
    "pairing": {"alpha": 0.05, "effect": 0.1, "min_rows": 64, "bins": 64},
    "class_drift": {"alpha": 0.05},
    "agreement": {"alpha": 0.05},
    "calibration": {"alpha": 0.05},
}
