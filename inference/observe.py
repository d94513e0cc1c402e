"""What the loops did, as metrics and log lines: the only place that knows both outcomes and metric names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from inference import log
from inference.gaps import Gap
from inference.outcome import DeadLetter, Outcome, Predicted
from inference.record import Partition
from inference.recorder import Written
from inference.telemetry import Metrics, count

_log = logging.getLogger(__name__)


class Observer:
    """Counts for one process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        """A batch whose answers and dead letters the broker has."""
        self._metrics.batch_size.observe(len(outcomes))
        for letter in outcomes:
            if isinstance(letter, DeadLetter):
                self.refused(letter)
        predicted = [outcome for outcome in outcomes if isinstance(outcome, Predicted)]
        by_version: dict[str, list[Predicted]] = {}
        for outcome in predicted:
            by_version.setdefault(outcome.prediction.model_version, []).append(outcome)
        for version, rows in by_version.items():
            self._answered_by(version, rows)
        self._modalities(predicted)
        self._metrics.batch_wait.observe_many([outcome.queue_ms / 1000 for outcome in predicted])

    def _answered_by(self, version: str, rows: Sequence[Predicted]) -> None:
        """Rows of one model version."""
        metrics = self._metrics
        count(
            metrics.requests,
            ((row.prediction.error or ("degraded" if row.degraded else "ok"), version) for row in rows),
        )
        count(metrics.routes, ((row.prediction.route, version) for row in rows))
        agreed = [row.prediction.agreement for row in rows if row.prediction.agreement is not None]
        count(metrics.agreement, (("all", str(agreement).lower()) for agreement in agreed))
        count(metrics.quarantined, ((row.quarantine,) for row in rows if row.quarantine is not None))
        metrics.fusion.labels(version).observe_many([row.prediction.fuse_ms / 1000 for row in rows])
        metrics.end_to_end.labels(version).observe_many([row.total_ms / 1000 for row in rows])
        for modality, spent in rows[0].prediction.encoders_ms.items():
            metrics.encode.labels(modality).observe(spent / 1000)
        if shuffled := max(row.prediction.contribution_ms for row in rows):
            metrics.contribution.observe(shuffled / 1000)
        metrics.cost.answered(version, len(rows))
        if unusable := [row.prediction.error for row in rows if row.prediction.error is not None]:
            _log.warning("unusable model output", extra=log.fields(code=unusable[0], rows=len(unusable)))

    def _modalities(self, rows: Sequence[Predicted]) -> None:
        parts = [(name, part) for row in rows for name, part in row.modalities.items()]
        count(self._metrics.modality_events, ((name, part.status) for name, part in parts))
        for modality in {name for name, _ in parts}:
            spent = [part.preprocess_ms / 1000 for name, part in parts if name == modality and part.preprocess_ms]
            self._metrics.preprocess.labels(modality).observe_many(spent)

    def refused(self, letter: DeadLetter) -> None:
        """A message that went to the dead-letter topic."""
        record = letter.record
        self._metrics.dead_letters.labels(letter.refusal.code).inc()
        _log.warning(
            "message refused",
            extra=log.fields(
                code=letter.refusal.code,
                detail=letter.refusal.detail,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
            ),
        )

    def written(self, written: Written) -> None:
        """A committed transaction."""
        self._metrics.transactions.labels("predictions").observe(written.seconds)
        if written.duplicates:
            self._metrics.requests.labels("duplicate", "").inc(written.duplicates)

    def label(self, source: str) -> None:
        """A label that was read."""
        self._metrics.labels.labels(source).inc()

    def stale(self) -> None:
        """A write that another worker's came before."""
        self._metrics.stale_writes.inc()

    def rebalanced(self) -> None:
        """Positions were read again."""
        self._metrics.rebalances.labels("assignment").inc()

    def gap(self, gap: Gap) -> None:
        """A stored offset that the log does not have."""
        self._metrics.gaps.labels(gap.partition.topic, gap.partition.number).inc()
        _log.error(
            "the log does not have the stored offset: reading goes on elsewhere",
            extra=log.fields(
                topic=gap.partition.topic,
                partition=gap.partition.number,
                stored=gap.stored,
                resumed=gap.resumed,
            ),
        )

    def inflight(self, requests: int, size: int, queues: Mapping[str, int]) -> None:
        """What is in flight, in requests and bytes, and how many items wait for each stage."""
        self._metrics.inflight.set(requests)
        self._metrics.inflight_bytes.set(size)
        for stage, items in queues.items():
            self._metrics.queue_items.labels(stage).set(items)

    def lag(self, lag: Mapping[Partition, int]) -> None:
        """How far reading is behind."""
        for partition, messages in lag.items():
            self._metrics.lag.labels(partition.topic, partition.number).set(messages)

    def stalled(self, partition: Partition) -> None:
        """A position that stood still while messages waited: the consumer is rebuilt."""
        self._metrics.stalls.labels(partition.topic, partition.number).inc()
        facts = log.fields(topic=partition.topic, partition=partition.number)
        _log.error("the consumer has stalled: it is rebuilt", extra=facts)

    def failed(self, action: str) -> None:
        """An attempt that will be made again."""
        self._metrics.retries.labels(action).inc()

    def reloaded(self, result: str) -> None:
        """A model change: `swapped` or `refused`."""
        self._metrics.reloads.labels(result).inc()


def _result(row: Predicted) -> str:
    return row.prediction.error or ("degraded" if row.degraded else "ok")
