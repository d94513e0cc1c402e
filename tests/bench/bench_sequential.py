"""The sequential monitor's promise: false alarms in 30 quiet days of ten hourly metrics, and hours to find a shift.

The monitor's own arithmetic (`season.fit`, `payoffs`) for many runs at once. What holds alarms back in service (a
change must be credible and worth a word) is left out: service has no more alarms than are counted here.
`BENCH_SEED` chooses other draws of the same worlds.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.domain.season import HOURS, fit
from monitor.domain.sequential import Plan, payoffs

Array = NDArray[np.float64]
METRICS, WINDOWS = 10, 30 * 24
PLAN = Plan()
ALLOWED = (1.0, 0.25)
SHIFTS = (1.0, 2.0, 4.0)
RUNS, DELAY_RUNS = 300, 600
BATCH = 100  # runs at once
BASE_SEED = 1000 * int(os.environ.get("BENCH_SEED", "0"))  # far enough apart that no two runs share a world's seed
SETTLED = 48  # quiet windows between calibration and a shift


def independent(n: int, runs: int, rng: np.random.Generator) -> Array:
    """(n, runs, METRICS): nothing but noise."""
    return rng.normal(size=(n, runs, METRICS))


def correlated(n: int, runs: int, rng: np.random.Generator) -> Array:
    """Metrics that move together: each pair correlates by 0.6."""
    together: Array = np.sqrt(0.6) * rng.normal(size=(n, runs, 1)) + np.sqrt(0.4) * independent(n, runs, rng)
    return together


def serial(n: int, runs: int, rng: np.random.Generator, share: float = 0.5) -> Array:
    """Each window remembers half of the one before."""
    x = independent(n, runs, rng)
    x[1:] *= np.sqrt(1 - share**2)
    for t in range(1, n):
        x[t] += share * x[t - 1]
    return x


def weakly_serial(n: int, runs: int, rng: np.random.Generator) -> Array:
    """Each window remembers so little of the one before that a week of calibration often does not see it."""
    return serial(n, runs, rng, share=0.15)


def season(n: int, runs: int, rng: np.random.Generator) -> Array:
    """A daily rhythm as large as 1.5 standard deviations, each metric with its own phase."""
    phase = rng.uniform(0, 2 * np.pi, (1, runs, METRICS))
    hours = np.arange(n)[:, None, None] * 2 * np.pi / HOURS
    swing: Array = 1.5 * np.sin(hours + phase) + independent(n, runs, rng)
    return swing


def finite_reference(n: int, runs: int, rng: np.random.Generator) -> Array:
    """All windows are compared with one baseline sample of five times their rows: squared distances of 8 directions."""
    off = rng.normal(size=(1, runs, METRICS, 8)) / np.sqrt(5)
    distance: Array = np.stack([((rng.normal(size=off.shape[1:]) - off[0]) ** 2).sum(axis=-1) for _ in range(n)])
    return distance


WORLDS: dict[str, Callable[[int, int, np.random.Generator], Array]] = {
    "iid": independent,
    "correlated metrics": correlated,
    "serial correlation": serial,
    "daily season": season,
    "finite reference": finite_reference,
    "weak serial correlation": weakly_serial,
}


def paid(values: Array, plan: Plan = PLAN) -> Array:
    """What bets pay in each window after calibration, (windows, S, bets), from values (calibration + windows, S)."""
    n, cal = len(values), plan.calibration
    hours = np.arange(n) % HOURS
    fitted = fit(values[:cal], hours[:cal], np.arange(cal) > 0)
    deviations = values - fitted.level - fitted.profile[hours]
    later = deviations[cal:] - fitted.lag * deviations[cal - 1 : -1]
    residuals = np.vstack([fitted.residuals, later])
    shifts = np.array(plan.shifts)
    found = []
    for t in range(cal, n):
        earlier = residuals[max(0, t - plan.reference) : t]
        above = (earlier > residuals[t]).sum(axis=0).astype(np.float64)
        found.append(payoffs(above, np.zeros_like(above), len(earlier), shifts))
    return np.stack(found)


def alarms(e: Array, threshold: float) -> NDArray[np.bool_]:
    """Alarms (windows, runs) of runs with METRICS series each, from what bets pay (windows, runs · METRICS, bets)."""
    e = e.reshape(len(e), -1, METRICS, e.shape[-1])
    r = np.zeros(e.shape[1:])
    found = np.zeros(e.shape[:2], dtype=bool)
    for t, now in enumerate(e):
        r = (1 + r) * now
        found[t] = r.mean(axis=(1, 2)) >= threshold
        r[found[t]] = 0
    return found


def false_alarms(world: str, runs: int = RUNS) -> dict[str, Any]:
    """Mean false alarms in 30 days, with a 95% interval of the mean, for each allowance."""
    rng = np.random.default_rng(BASE_SEED + list(WORLDS).index(world))
    counts: dict[float, list[int]] = {allowed: [] for allowed in ALLOWED}
    for _ in range(0, runs, BATCH):
        values = WORLDS[world](PLAN.calibration + WINDOWS, min(BATCH, runs), rng)
        e = paid(values.reshape(len(values), -1))
        for allowed, of_run in counts.items():
            of_run.extend(alarms(e, WINDOWS / allowed).sum(axis=0).tolist())
    return {f"F={allowed:g}": mean(of_run) for allowed, of_run in counts.items()}


def mean(counts: list[int]) -> dict[str, Any]:
    """Mean and its 95% interval (normal)."""
    middle = statistics.fmean(counts)
    half = 1.96 * statistics.stdev(counts) / len(counts) ** 0.5
    return {"mean": round(middle, 3), "interval": [round(max(0.0, middle - half), 3), round(middle + half, 3)]}


def delays(runs: int = DELAY_RUNS) -> dict[str, Any]:
    """Windows from a shift of one metric to the alarm, by its size in standard deviations: median and quartiles."""
    found: dict[str, Any] = {}
    for shift in SHIFTS:
        rng = np.random.default_rng(BASE_SEED + 100)
        values = independent(PLAN.calibration + SETTLED + 120, runs, rng)
        values[PLAN.calibration + SETTLED :, :, 0] += shift
        e = paid(values.reshape(len(values), -1))
        for allowed in ALLOWED:
            after = alarms(e, WINDOWS / allowed)[SETTLED:]
            hours = np.where(after.any(axis=0), after.argmax(axis=0) + 1, np.inf)
            low, middle, high = np.quantile(hours, [0.25, 0.5, 0.75], method="higher")
            told = {"median_hours": float(middle), "quartiles": [float(low), float(high)]}
            found.setdefault(f"F={allowed:g}", {})[f"{shift:g} sd"] = told
    return found


def run() -> dict[str, Any]:
    """All of it; about a minute on one core."""
    return {
        "metrics": METRICS,
        "windows": WINDOWS,
        "runs": RUNS,
        "base_seed": BASE_SEED,
        "false_alarms_in_30_days": {world: false_alarms(world) for world in WORLDS},
        "delay": delays(),
    }
