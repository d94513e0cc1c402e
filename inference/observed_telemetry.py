"""Metrics of observed answers, under the names that answers given here have."""

from __future__ import annotations

from collections.abc import Sequence

from inference.observed_rows import ObservedRow
from inference.telemetry import Metrics, count


class ObservationMetrics:
    """Counts for one process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def observed(self, rows: Sequence[ObservedRow]) -> None:
        """A batch that was written. Times that senders did not tell are left out."""
        metrics = self._metrics
        answers = [row.predicted for row in rows]
        predictions = [answer.prediction for answer in answers]
        results = [p.error or ("degraded" if a.degraded else "ok") for a, p in zip(answers, predictions, strict=True)]
        count(metrics.requests, [(r, p.model_version) for r, p in zip(results, predictions, strict=True)])
        count(metrics.routes, [(p.route, p.model_version) for p in predictions])
        count(metrics.modality_events, [(name, part.status) for a in answers for name, part in a.modalities.items()])
        agreed = [str(p.agreement).lower() for p in predictions if p.agreement is not None]
        count(metrics.agreement, [("all", each) for each in agreed])
        count(metrics.quarantined, [(a.quarantine,) for a in answers if a.quarantine is not None])
        count(metrics.parts_left_out, [part for row in rows for part in row.left_out])
        metrics.batch_size.observe(len(rows))
        for answer in answers:
            version = answer.prediction.model_version
            if answer.prediction.fuse_ms > 0:
                metrics.fusion.labels(version).observe(answer.prediction.fuse_ms / 1000)
            if answer.total_ms > 0:
                metrics.end_to_end.labels(version).observe(answer.total_ms / 1000)
