"""From a batch's output to one prediction a request, each row checked before its numbers are used. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from inference.collate import Row
from inference.errors import Code
from inference.model_io import ModelOutput
from inference.models.card import FUSED, ModelCard
from inference.outcome import Prediction, Vector

CASCADE = "cascade"


def predictions(card: ModelCard, rows: Sequence[Row], output: ModelOutput) -> list[Prediction]:
    """What the model said of B requests, in order; a row with NaN or infinity becomes an error of its own.

    `preprocess_ms` is 0: the caller knows when it prepared what.
    """
    choices = output.probabilities.argmax(axis=1)
    finite = np.asarray(np.isfinite(output.probabilities).all(axis=1))
    for name, vectors in output.embeddings.items():
        unused = np.array([name != FUSED and name not in row for row in rows], np.bool_)
        finite = finite & (unused | np.isfinite(vectors).all(axis=1))
    encode_ms = sum(output.encode_ms.values())
    compute_ms = (encode_ms + output.fuse_ms) / len(rows)
    made = []
    for index, row in enumerate(rows):
        if not finite[index]:
            made.append(_failed(card, row, encode_ms, output.fuse_ms, compute_ms))
            continue
        choice = int(choices[index])
        skipped = bool(output.skipped[index])
        agreement = int(output.agreement[index])
        made.append(
            Prediction(
                model_version=card.version,
                classes=card.labels,
                route=CASCADE if skipped else route(card, row),
                error=None,
                label=card.labels[choice],
                confidence=float(output.probabilities[index, choice]),
                probabilities=output.probabilities[index],
                agreement=None if agreement < 0 else agreement == 1,
                embeddings={
                    name: vectors[index]
                    for name, vectors in output.embeddings.items()
                    if name in row or (name == FUSED and not skipped)
                },
                quality=_quality(card, row),
                preprocess_ms=0.0,
                encode_ms=encode_ms,
                fuse_ms=output.fuse_ms,
                compute_ms=compute_ms,
                encoders_ms=output.encode_ms,
                attention=None if output.attention is None or skipped else _attended(output.attention[index]),
                contribution={
                    name: float(lost[index]) for name, lost in output.contribution.items() if np.isfinite(lost[index])
                },
                contribution_ms=output.contribution_ms,
                cascaded=output.cascaded,
            )
        )
    return made


def _failed(card: ModelCard, row: Row, encode_ms: float, fuse_ms: float, compute_ms: float) -> Prediction:
    """A request whose output holds NaN or infinity."""
    return Prediction(
        model_version=card.version,
        classes=card.labels,
        route=route(card, row),
        error=Code.MODEL_NOT_FINITE,
        label=None,
        confidence=None,
        probabilities=None,
        agreement=None,
        embeddings={},
        quality=_quality(card, row),
        preprocess_ms=0.0,
        encode_ms=encode_ms,
        fuse_ms=fuse_ms,
        compute_ms=compute_ms,
    )


def route(card: ModelCard, row: Row) -> str:
    """`fused` where every modality is there, else `fallback:` and those that are."""
    here = [name for name in card.modalities if name in row]
    return FUSED if len(here) == len(card.modalities) else "fallback:" + "+".join(here)


def _quality(card: ModelCard, row: Row) -> Mapping[str, Vector]:
    """The quality statistics of each present modality; a raw model's requests have none."""
    return {} if card.raw else {name: prepared.quality for name, prepared in row.items()}


def _attended(attention: NDArray[np.float16]) -> NDArray[np.float16]:
    """(queries, keys) without the last keys that nothing attends to: padding for the sake of batch-mates."""
    used = np.flatnonzero(attention.any(axis=0))
    return attention[:, : used[-1] + 1 if len(used) else 0]
