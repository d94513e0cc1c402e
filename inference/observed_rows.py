"""From an observation to the row that is logged and summarised, as if the answer had been given here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from inference.clock import ClockTolerance
from inference.errors import Code, Refusal
from inference.modalities.base import MISSING, Status
from inference.observations import LATENCIES, Observation
from inference.observed_versions import Known
from inference.outcome import ModalityOutcome, Predicted, Prediction, Vector
from inference.projection import FUSED
from inference.record import Record
from inference.request import Request
from inference.wire import SCHEMA_VERSION

NOT_SENT = ModalityOutcome(MISSING.status, MISSING.reason, None, None, {})
QUALITY = "quality"
NOTHING = "none"  # as a route: answered without any input


@dataclass(frozen=True, slots=True)
class ObservedRow:
    """The row, and of which names which part could not be summarised: (name, reason)."""

    predicted: Predicted
    left_out: tuple[tuple[str, str], ...]


def row(record: Record, observation: Observation, known: Known, tolerance: ClockTolerance) -> ObservedRow | Refusal:
    """The row of an observation whose classes are the version's, or why there is none."""
    expected = known.modalities if observation.expected is None else observation.expected
    parts = {name: observation.modalities.get(name, NOT_SENT) for name in {*expected, *observation.modalities}}
    if unknown := len(parts.keys() - set(known.modalities)):
        detail = f"{unknown} modality name(s) that the model does not take; it takes {', '.join(known.modalities)}"
        return Refusal(Code.UNKNOWN_MODALITY, detail)
    present = [name for name in known.modalities if name in parts and parts[name].status is Status.PRESENT]
    route = _route(observation.route, present, known)
    if route is None:
        return Refusal(Code.FIELD_INVALID, f"route names modalities other than {', '.join(known.modalities)}")
    left_out = dict(observation.left_out)
    embeddings = _embeddings(observation, known, left_out)
    quality, incomplete = _quality(parts, known, present)
    queue, preprocess, encode, fuse, total = _latencies(observation.latency_ms)
    label, confidence, probabilities = _answer(observation.probabilities, known)
    predicted = Predicted(
        record=record,
        request=Request(
            request_id=observation.request_id,
            schema_version=SCHEMA_VERSION,
            produced_at=observation.produced_at,
            correlation_id=observation.correlation_id,
            source=observation.source,
            modalities={},
            expected=observation.expected,
        ),
        modalities=dict(sorted(parts.items())),
        prediction=Prediction(
            model_version=known.version,
            classes=known.classes,
            route=route,
            error=observation.error,
            label=label,
            confidence=confidence,
            probabilities=probabilities,
            agreement=observation.agreement,
            embeddings=embeddings,
            quality=quality,
            preprocess_ms=preprocess,
            encode_ms=encode,
            fuse_ms=fuse,
            compute_ms=encode + fuse,
        ),
        degraded=any(parts[name].status is not Status.PRESENT for name in expected),
        quarantine=tolerance.quarantine(observation.produced_at, record.received_at),
        queue_ms=queue,
        preprocess_ms=preprocess,
        total_ms=total,
    )
    return ObservedRow(predicted, (*sorted(left_out.items()), *((name, QUALITY) for name in incomplete)))


def _route(told: str | None, present: list[str], known: Known) -> str | None:
    """The route told, its modalities in the model's order, or that of what is present; None for other modalities."""
    if told is None:
        names = present
        if len(present) == len(known.modalities):
            return FUSED
    else:
        kind, _, list_of_names = told.partition(":")
        if kind != "fallback":
            return told
        names = [] if list_of_names == NOTHING else list_of_names.split("+")
        if set(names) - set(known.modalities):
            return None
    return "fallback:" + ("+".join(name for name in known.modalities if name in names) or NOTHING)


def _answer(given: Mapping[str, float] | None, known: Known) -> tuple[str | None, float | None, Vector | None]:
    """Label, confidence and (C,) probabilities in the version's order; of equal ones the first is the label."""
    if given is None:
        return None, None, None
    probabilities = np.array([given[name] for name in known.classes], np.float32)
    best = int(probabilities.argmax())
    return known.classes[best], float(probabilities[best]), probabilities


def _embeddings(observation: Observation, known: Known, left_out: dict[str, str]) -> dict[str, Vector]:
    """Those of the version's own encoders and widths; `left_out` gets the reasons of the others."""
    found = {}
    for name, vector in observation.embeddings.items():
        encoder = observation.encoders.get(name)
        if encoder is not None and encoder != known.encoders.get(name):
            left_out[name] = "other_encoder"
        elif len(vector) != known.widths.setdefault(name, len(vector)):
            left_out[name] = "other_width"
        else:
            found[name] = vector
    return found


def _quality(
    parts: Mapping[str, ModalityOutcome], known: Known, present: list[str]
) -> tuple[dict[str, Vector], list[str]]:
    """(Q,) statistics of each present modality, and the modalities that lack one of those that are summarised."""
    vectors, incomplete = {}, []
    for name in present:
        wanted, given = known.quality.get(name, ()), parts[name].quality
        if all(statistic in given for statistic in wanted):
            vectors[name] = np.array([given[statistic] for statistic in wanted], np.float32)
        else:
            incomplete.append(name)
    return vectors, incomplete


def _latencies(given: Mapping[str, float]) -> list[float]:
    """Milliseconds in the order of `LATENCIES`: 0 where not told, the sum of the parts where the total is not."""
    parts = [given.get(name, 0.0) for name in LATENCIES[:-1]]
    return [*parts, given.get("total", sum(parts))]
