"""What the loops did, as metrics and log lines: the only place that knows both outcomes and metric names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from inference import log
from inference.consumer import Gap
from inference.outcome import DeadLetter, Outcome, Predicted
from inference.record import Partition
from inference.recorder import Written
from inference.telemetry import WHOLE, Metrics

_log = logging.getLogger(__name__)


class Observer:
    """Counts for one process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        """A batch whose answers and dead letters the broker has."""
        self._metrics.batch_size.observe(len(outcomes))
        for outcome in outcomes:
            if isinstance(outcome, DeadLetter):
                self.refused(outcome)
            else:
                self._predicted(outcome)
        first = next((outcome for outcome in outcomes if isinstance(outcome, Predicted)), None)
        if first is not None:
            self._metrics.preprocess.labels(WHOLE).observe(first.preprocess_ms / 1000)
            self._metrics.encode.labels(WHOLE).observe(first.prediction.encode_ms / 1000)

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

    def _predicted(self, outcome: Predicted) -> None:
        prediction, metrics = outcome.prediction, self._metrics
        if prediction.error is not None:
            _log.warning("unusable model output", extra=log.fields(code=prediction.error))
        result = prediction.error or ("degraded" if outcome.degraded else "ok")
        metrics.requests.labels(result, prediction.model_version).inc()
        for name, part in outcome.modalities.items():
            metrics.modality_events.labels(name, part.status).inc()
        if prediction.agreement is not None:
            metrics.agreement.labels("all", str(prediction.agreement).lower()).inc()
        if outcome.quarantine is not None:
            metrics.quarantined.labels(outcome.quarantine).inc()
        metrics.batch_wait.observe(outcome.queue_ms / 1000)
        metrics.fusion.labels(prediction.model_version).observe(prediction.fuse_ms / 1000)
        metrics.end_to_end.labels(prediction.model_version).observe(outcome.total_ms / 1000)

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

    def loop(self, inflight: int, lag: Mapping[Partition, int]) -> None:
        """Once a round of the request loop."""
        self._metrics.inflight.set(inflight)
        for partition, messages in lag.items():
            self._metrics.lag.labels(partition.topic, partition.number).set(messages)

    def failed(self, action: str) -> None:
        """An attempt that will be made again."""
        self._metrics.retries.labels(action).inc()

    def reloaded(self, result: str) -> None:
        """A model change: `swapped` or `refused`."""
        self._metrics.reloads.labels(result).inc()
