"""A baseline of a registered version from a file of labelled, drift-free rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, Engine

from inference import registry
from inference.baseline import FEWEST_ROWS, Baseline, BaselineError
from inference.models.card import ModelCard
from inference.models.checkpoint import Checkpoint
from inference.training.annotated import SPLITS, AnnotatedExamples, Row, Split
from inference.training.annotations import read_annotations
from inference.training.validation import baseline_of_examples
from migrations.schema import baseline_rows

ANNOTATIONS = "annotations.jsonl"
UNSEEN: tuple[Split, ...] = ("validation", "test")
"""A model answers the rows it was trained on too well: they are no reference."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows for a baseline, and how many of the file's are left out, by reason. `sha256` identifies the rows."""

    rows: tuple[Row, ...]
    left_out: Mapping[str, int]
    sha256: str


@dataclass(frozen=True, slots=True)
class MadeBaseline:
    """A baseline as it is registered, of `rows` rows. `new` is False where it was there; `accuracy` is then None."""

    version: str
    number: int
    rows: int
    left_out: Mapping[str, int]
    accuracy: float | None
    new: bool


def choose(folder: Path, card: ModelCard, splits: Sequence[Split] = UNSEEN) -> Chosen:
    """The rows of `annotations.jsonl` in a folder that can serve: of these splits or of none, every modality there.

    Raises:
        AnnotationsError: anything is wrong with any row: its picture or its label.
        BaselineError: fewer than 128 rows are left, or the model is raw.
    """
    if card.raw:
        raise BaselineError(f"{card.folder}: a raw model looks into nothing, so a file has no rows for it")
    found = read_annotations(folder / ANNOTATIONS, card.labels)
    of_split = [row for row in found if row.split is None or row.split in splits]
    whole = [row for row in of_split if row.modalities >= set(card.modalities)]
    left_out = {
        f"of the splits {', '.join(name for name in SPLITS if name not in splits)}": len(found) - len(of_split),
        f"without all of {', '.join(card.modalities)}": len(of_split) - len(whole),
    }
    left_out = {reason: count for reason, count in left_out.items() if count}
    if len(whole) < FEWEST_ROWS:
        told = "".join(f"; {count} {reason} are left out" for reason, count in left_out.items())
        raise BaselineError(f"{folder / ANNOTATIONS}: {len(whole)} usable rows; expected {FEWEST_ROWS} at least{told}")
    return Chosen(tuple(whole), left_out, _sha256(whole))


def require_registered(connection: Connection, version: str) -> None:
    """Changes of a version's baselines take turns from here on. Raises BaselineError where it is not registered."""
    if not baseline_rows.lock(connection, version):
        raise BaselineError(
            f"model version {version} is not registered in this database: start a worker with this checkpoint first"
        )


def make(
    engine: Engine,
    checkpoint: Checkpoint,
    chosen: Chosen,
    *,
    pin: bool,
    actor: str,
    reason: str,
    progress: Callable[[int], None] = lambda _rows: None,
) -> MadeBaseline:
    """Register a baseline of the chosen rows through the checkpoint's own maps, as the next of its version.

    The same rows give the same baseline: where a version has it, that one stays, and is pinned where `pin` says so.
    `progress` is told of each batch's rows. Audited.

    Raises:
        BaselineError: the version is not registered, or its checkpoint brings no maps.
        UnusableModelError: an answer is not finite.
    """
    version = checkpoint.version
    with engine.begin() as connection:
        found = _found(connection, version, chosen)
        if found is not None and pin:
            registry.pin_baseline(connection, version, found, actor=actor, reason=reason)
    if found is not None:
        return MadeBaseline(version, found, len(chosen.rows), chosen.left_out, None, new=False)
    made = _baseline(checkpoint, chosen, progress)
    with engine.begin() as connection:
        found = _found(connection, version, chosen)  # someone else may have been faster
        number = found or registry.add_baseline(connection, version, made, actor=actor, reason=reason)
        if pin:
            registry.pin_baseline(connection, version, number, actor=actor, reason=reason)
    accuracy = made.facts["accuracy"]
    return MadeBaseline(version, number, len(chosen.rows), chosen.left_out, accuracy, new=found is None)


def _found(connection: Connection, version: str, chosen: Chosen) -> int | None:
    """The number of the version's baseline of these rows; nobody else changes its baselines until the transaction ends.

    Raises BaselineError where the version is not registered.
    """
    require_registered(connection, version)
    return registry.with_data(connection, version, chosen.sha256)


def _baseline(checkpoint: Checkpoint, chosen: Chosen, progress: Callable[[int], None]) -> Baseline:
    maps = Baseline.load(checkpoint.folder).projector
    made = baseline_of_examples(checkpoint, maps, AnnotatedExamples(chosen.rows, checkpoint.labels), progress)
    return replace(made, facts={**made.facts, "data_sha256": chosen.sha256})


def _sha256(rows: Sequence[Row]) -> str:
    """Of what the rows say, whatever their order in the file and wherever it lies."""
    said = sorted([row.id, row.digest, row.text, row.label, *row.beside()] for row in rows)
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
