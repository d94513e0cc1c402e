"""The data of a retrain job: labelled traffic and original rows, resolved, dealt to their parts, and accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Engine

from inference.errors import InferenceError
from inference.hashing import Hasher
from inference.jobs import ClaimedJob
from inference.labelled import LabelledRow, labelled_rows
from inference.lineage import (
    CALIBRATION,
    LEFT_OUT,
    LOG,
    MEASURING,
    ORIGINAL,
    TRAINING,
    UsedRow,
    data_digest,
    recorded,
)
from inference.modalities.base import modalities
from inference.models.checkpoint import Checkpoint
from inference.request import RequestParser
from inference.resolver import FromInputs, FromMessages, Resolved, Resolver
from inference.stores.base import Store
from inference.training.data import LabelledExample, split
from inference.training.store import Inputs, Messages

Layout = Literal["messages", "inputs"]
IN_TEST_SET = "in_test_set"


class NotEnoughRowsError(InferenceError):
    """Too few labelled rows could be resolved to train on and to measure with."""

    code = "not_enough_rows"


class StoreIncompleteError(InferenceError):
    """The store lacks, or has otherwise than logged, more of the labelled rows than is allowed."""

    code = "store_incomplete"


@dataclass(frozen=True, slots=True)
class GatherSettings:
    """Where raw inputs are and how rows are dealt.

    `store` has the traffic's inputs in one of two layouts, `replay` messages of the original data. What `test` holds,
    labelled messages that stay the same, is never trained on: the gate looks at it beside the recent rows.
    `held_out_share` of the rows is not trained on either; `replay_share` of the training examples is original. A job
    needs `min_rows`, and fails where the store has less than 1 - `max_missing` of what was asked of it.
    """

    store: Store
    replay: Store | None
    layout: Layout = "messages"
    held_out_share: float = 0.4
    replay_share: float = 0.3
    min_rows: int = 300
    max_missing: float = 0.2
    test: Store | None = None


@dataclass(frozen=True, slots=True)
class Deal:
    """Examples by what they are for."""

    training: list[LabelledExample]
    calibration: list[LabelledExample]
    measuring: list[LabelledExample]

    @property
    def unseen(self) -> list[LabelledExample]:
        """What was not trained on."""
        return self.calibration + self.measuring


@dataclass(frozen=True, slots=True)
class Gathered:
    """The examples, and every row with what became of it."""

    deal: Deal
    replay: list[LabelledExample]
    test: list[LabelledExample]
    used: list[UsedRow]

    @property
    def examples(self) -> list[LabelledExample]:
        """What is trained on, in the order that batches are drawn from."""
        return self.deal.training + self.replay

    @property
    def fit_rows(self) -> list[tuple[str, LabelledRow]]:
        """(origin, row) of each of `examples`, in their order."""
        return [(each.origin, each.row) for each in self.used if each.part == TRAINING]

    @property
    def left_out(self) -> Counter[str]:
        """How many rows were left out for which reason."""
        return Counter(each.reason for each in self.used if each.reason is not None)

    def facts(self) -> dict[str, Any]:
        """For the job's lineage: digest and counts."""
        counts = Counter((each.origin, each.part) for each in self.used if each.part != LEFT_OUT)
        return {
            "data_sha256": data_digest(self.used),
            "rows": {
                origin: {p: n for (o, p), n in sorted(counts.items()) if o == origin} for origin in (LOG, ORIGINAL)
            },
            "left_out": dict(self.left_out),
        }


class Gathering:
    """Gathers the data of jobs for one champion's modalities and classes."""

    def __init__(self, settings: GatherSettings, hasher: Hasher, champion: Checkpoint) -> None:
        self._settings = settings
        known = modalities()
        chosen = {name: known[name] for name in champion.card.modalities}
        parser = RequestParser({name: modality.wire for name, modality in known.items()})
        inputs, messages = FromInputs(Inputs(settings.store)), FromMessages(Messages(settings.store), parser)
        source = inputs if settings.layout == "inputs" else messages
        fitting = champion.card.fitting
        self._log = Resolver(source, chosen, champion.labels, hasher, fitting)

        def labelled(store: Store | None) -> Resolver | None:
            if store is None:
                return None
            return Resolver(FromMessages(Messages(store), parser), chosen, champion.labels, fitting=fitting)

        self._original, self._test = labelled(settings.replay), labelled(settings.test)

    def __call__(self, engine: Engine, job: ClaimedJob) -> Gathered:
        """Raises NotEnoughRowsError, StoreIncompleteError, StoreError.

        A job that was taken over uses the rows of the attempt before, whatever was labelled since.
        """
        with engine.connect() as connection:
            rows = recorded(connection, job.job_id, LOG) or _asked(connection, job)
        resolved = self._resolved(rows)
        test = self._frozen()
        frozen = {example.key for example in test}
        resolved.reasons.update(dict.fromkeys(frozen & {example.key for example in resolved.examples}, IN_TEST_SET))
        usable = [example for example in resolved.examples if example.key not in frozen]
        training, unseen = split(usable, self._settings.held_out_share, salt="held out")
        calibration, measuring = split(unseen, 0.5, salt="measuring")
        parts = {
            TRAINING: training,
            CALIBRATION: calibration,
            MEASURING: measuring,
        }
        by_id = {row.request_id: row for row in rows}
        used = [UsedRow(by_id[example.key], LOG, part) for part, examples in parts.items() for example in examples]
        share = self._settings.replay_share
        replay, originals = self._replay(round(len(training) * share / (1 - share)), frozen)
        # what is trained on stands together: logged rows, then original ones
        used[len(training) : len(training)] = [UsedRow(row, ORIGINAL, TRAINING) for row in originals]
        used += [UsedRow(by_id[key], LOG, LEFT_OUT, reason) for key, reason in resolved.reasons.items()]
        return Gathered(Deal(training, calibration, measuring), replay, test, used)

    def again(self, rows: Sequence[tuple[str, LabelledRow]]) -> list[LabelledExample]:
        """The examples of `Gathered.fit_rows`, for the other processes of a team. Raises StoreIncompleteError."""
        found = self._log.resolve(row for origin, row in rows if origin == LOG).examples
        if self._original is not None:
            found += self._original.resolve(row for origin, row in rows if origin == ORIGINAL).examples
        if len(found) != len(rows):
            raise StoreIncompleteError(f"{len(found)} of {len(rows)} rows are here that the leader of the team has")
        return found

    def _resolved(self, rows: Sequence[LabelledRow]) -> Resolved:
        settings, resolved = self._settings, self._log.resolve(rows)
        told = f"left out: {dict(resolved.left_out)}"
        if len(resolved.examples) < settings.min_rows:
            raise NotEnoughRowsError(
                f"{len(resolved.examples)} of {len(rows)} labelled rows can be used, {settings.min_rows} are "
                f"needed; {told}"
            )
        if resolved.faults > settings.max_missing * len(rows):
            raise StoreIncompleteError(
                f"{settings.store.where}: {resolved.faults} of {len(rows)} labelled rows cannot be had or are not what "
                f"was logged, {settings.max_missing:.0%} are allowed; {told}"
            )
        return resolved

    def _frozen(self) -> list[LabelledExample]:
        """The test set's usable examples."""
        if self._test is None or self._settings.test is None:
            return []
        return self._test.resolve(_of_store(self._settings.test)).examples

    def _replay(self, wanted: int, frozen: set[str]) -> tuple[list[LabelledExample], list[LabelledRow]]:
        """So many original examples, and their rows; fewer where there are no more."""
        if self._original is None or self._settings.replay is None:
            return [], []
        known = [row for row in _of_store(self._settings.replay) if row.request_id not in frozen]
        examples: list[LabelledExample] = []
        ahead = known
        while len(examples) < wanted and ahead:
            more = wanted - len(examples)
            examples += self._original.resolve(ahead[:more]).examples
            ahead = ahead[more:]
        kept = {example.key for example in examples}
        return examples, [row for row in known if row.request_id in kept]


def _of_store(store: Store) -> list[LabelledRow]:
    """The rows of a store that brings its own labels, by id."""
    return [LabelledRow(request_id, label, {}) for request_id, label in sorted(Messages(store).labels().items())]


def _asked(connection: Connection, job: ClaimedJob) -> list[LabelledRow]:
    until, limit = datetime.fromisoformat(job.spec["labels_until"]), int(job.spec["max_rows"])
    return labelled_rows(connection, until, limit)
