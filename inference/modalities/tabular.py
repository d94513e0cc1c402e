"""Tabular: named numbers and categories of one record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.modalities.base import Decoded, Modality, Prepared, Preprocessing, Status

MAX_BYTES = 64_000
MAX_COLUMNS = 512
MAX_CHARACTERS = 128
"""Of a column's name, and of a category."""
MAX_MAGNITUDE = 1e15
QUALITY = ("known_share", "unseen_share", "surplus", "deviation", "largest_deviation")

Table = Mapping[str, float | str]


def decode(data: str) -> Decoded:
    """A number or category by column, from a JSON object, or why there is none; columns of `null` are left out."""
    if not data:
        return Decoded(Status.MISSING, "empty")
    if len(data) > MAX_BYTES:
        return Decoded(Status.REJECTED, "too_large")
    try:
        sent = json.loads(data)
    except (ValueError, RecursionError):
        return Decoded(Status.CORRUPT, "undecodable")
    if not isinstance(sent, dict):
        return Decoded(Status.CORRUPT, "undecodable")
    if len(sent) > MAX_COLUMNS:
        return Decoded(Status.REJECTED, "too_many_columns")
    table: dict[str, float | str] = {}
    for name, value in sent.items():
        if value is None:
            continue
        taken = _value(value)
        if taken is None or not 0 < len(name) <= MAX_CHARACTERS:
            return Decoded(Status.REJECTED, "value_not_allowed")
        table[name] = taken
    return Decoded(Status.PRESENT, value=table) if table else Decoded(Status.MISSING, "empty")


def _value(value: Any) -> float | str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if 0 < len(value) <= MAX_CHARACTERS else None
    if isinstance(value, int | float) and -MAX_MAGNITUDE <= value <= MAX_MAGNITUDE and math.isfinite(value):
        return float(value)
    return None


def prepare(tables: Sequence[Table], preprocessing: Preprocessing) -> list[Prepared]:
    """`numbers`, `known` and `codes` of each table, and its quality statistics.

    `known_share` is the share of the model's columns that have a value it knows; `unseen_share` that of its columns
    with a category, or a word in place of a number, that training never saw; `surplus` counts columns that the model
    does not take; `deviation` and `largest_deviation` are the mean and largest distance of known numbers from
    training's mean, in its standard deviations.
    """
    return [_prepared(table, preprocessing) for table in tables]


def _prepared(table: Table, preprocessing: Preprocessing) -> Prepared:
    inputs = preprocessing.columns(table)
    names = preprocessing.column_names
    known = int(inputs["known"].sum() + (inputs["codes"] > 0).sum())
    sent = sum(name in table for name in names)
    distances: NDArray[np.float32] = np.abs(inputs["numbers"][inputs["known"] > 0])
    mean, largest = (float(distances.mean()), float(distances.max())) if len(distances) else (0.0, 0.0)
    quality = [known / len(names), (sent - known) / len(names), len(table) - sent, mean, largest]
    return Prepared(inputs, np.array(quality, np.float32))


MODALITY = Modality("tabular", dict, QUALITY, decode, prepare, blank={})
