"""A synthetic model's answers, for statistics: baselines and windows as the worker would summarise them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.baseline import Baseline, Validation, fit_baseline
from inference.projection import Rows
from inference.summaries import Accumulator, SummaryRecord
from migrations.schema import bins as schema_bins
from migrations.schema.totals import STAGES
from monitor.domain.window import Evidence, Reference, Summary, Window, assemble
from tests.support.synthetic import World

CLASSES = ("consistent", "misleading", "contradictory")
QUALITY = {"image": ("brightness", "noise", "width"), "text": ("tokens", "unknown_share")}
IMAGE, TEXT, FUSED_WORLD = World(seed=11), World(seed=12), World(seed=13)
WINDOW = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC))


@dataclass(frozen=True)
class Fault:
    """What is wrong with a stream.

    `shifted`: texts belong to the previous request. `dark`: a dark, noisy camera. `split`: half of the cameras dark,
    half bright. `late`: texts run late by so many requests, images where it is negative. `unsure`: confidence is lower
    by that share.
    """

    shifted: bool = False
    dark: bool = False
    prior_shift: float = 0.0
    session: int = 1
    split: bool = False
    late: int = 0
    unsure: float = 0.0


def answers(n: int, rng: np.random.Generator, fault: Fault = Fault()) -> Validation:
    """N answered requests."""
    weights = IMAGE.weights.copy()
    weights[0] -= fault.prior_shift
    weights[5] += fault.prior_shift
    seen = IMAGE.latent(n, rng, weights=weights, session=fault.session)
    told = 0.8 * seen + 0.6 * rng.normal(size=seen.shape)
    if fault.shifted:
        told = np.roll(told, 1, axis=0)
    told = np.roll(told, fault.late, axis=0)
    image = IMAGE.embed(seen, rng, noise=0.09 if fault.dark else None)
    quality = {
        "image": np.stack(
            [rng.normal(0.2 if fault.dark else 0.5, 0.1, n), rng.gamma(6 if fault.dark else 3, 1, n), np.full(n, 64.0)],
            axis=1,
        ),
        "text": np.stack([rng.poisson(12, n).astype(float), np.zeros(n)], axis=1),
    }
    if fault.split:
        quality["image"][:, 0] += np.where(rng.random(n) < 0.5, -0.3, 0.3)
    labels = rng.integers(0, 3, n)
    confidence = rng.beta(40, 1.2, n) * (1 - fault.unsure)
    wrong = rng.random(n) > confidence
    predicted = np.where(wrong, (labels + 1) % 3, labels)
    fused = FUSED_WORLD.embed((seen + told) / 2, rng)
    agreement = (rng.random(n) < 0.6).astype(float)
    return Validation(
        {"image": image, "text": TEXT.embed(told, rng), "fused": fused},
        quality,
        predicted,
        confidence,
        agreement,
        labels,
        # the image is what decides where the heads agree, the text where they do not
        {"image": 0.6 * confidence * agreement, "text": 0.5 * confidence * (1 - agreement)},
    )


def baseline(n: int, rng: np.random.Generator) -> Baseline:
    """A baseline of n validation rows."""
    return fit_baseline(
        answers(n, rng),
        class_names=CLASSES,
        quality_names=QUALITY,
        encoder_fingerprints={"image": "vit", "text": "bert", "fused": "cross"},
    )


def batch(
    rows: Validation,
    *,
    start: float = 0.0,
    rate: float = 50.0,
    first: int = 0,
    partitions: int = 1,
    lag: NDArray[np.floating] | None = None,
) -> Rows:
    """Validation rows as a worker's batch, `rate` a second from `start` (Unix seconds), dealt over partitions.

    `lag` (n,) is what lies between the captures, in seconds.
    """
    n = len(rows.labels)
    at: NDArray[np.float64] = start + np.arange(n) / rate
    return Rows(
        topics=("fusion.requests",) * n,
        partitions=np.arange(n) % partitions,
        offsets=first + np.arange(n) // partitions,
        slot_at=at,
        quarantined=np.zeros(n, np.bool_),
        embeddings=rows.embeddings,
        quality=rows.quality,
        statuses={name: np.full(n, "present", "U16") for name in QUALITY},
        routes=np.full(n, "fused", "U16"),
        predicted=rows.predicted,
        confidence=rows.confidence,
        agreement=rows.agreement,
        contribution=rows.contribution,
        lag=lag,
        latency_ms={stage: 10 * rows.confidence + number for number, stage in enumerate(STAGES)},
        compute_us=1000 * rows.confidence,
    )


def accumulator(made: Baseline, *, slot_seconds: int = 5, max_bins: int = 64) -> Accumulator:
    """The worker's accumulator over a baseline's maps."""
    return Accumulator(
        made.projector,
        model_version="1",
        fingerprints=made.fingerprints,
        slot_seconds=slot_seconds,
        max_bins=max_bins,
    )


def window_summaries(records: list[SummaryRecord]) -> dict[str, Summary]:
    """Records as the monitor merges them: read back from their stored form, in slot order."""
    parts = [
        (
            r.key.slot_start,
            Summary(r.key.modality, r.counts, schema_bins.load(r.payload()), r.encoder_fingerprint, r.totals),
        )
        for r in records
    ]
    names = {part.modality for _, part in parts}
    return {name: assemble(name, [each for each in parts if each[1].modality == name]) for name in names}


def evidence(
    made: Baseline, rows: Validation, *, partitions: int = 1, lag: NDArray[np.floating] | None = None
) -> Evidence:
    """A window of rows through the worker's accumulator."""
    return Evidence(window_summaries(accumulator(made).preview(batch(rows, partitions=partitions, lag=lag))))


def reference(made: Baseline) -> Reference:
    """A baseline as the monitor reads it back."""
    return Reference.from_facts(
        1,
        "1",
        made.facts,
        [Summary(r.modality, r.counts, schema_bins.load(r.bins), r.encoder_fingerprint) for r in made.to_records()],
    )


def saved(made: Baseline, folder: Path) -> Baseline:
    """The baseline after a round trip through its file."""
    made.save(folder)
    return Baseline.load(folder)
