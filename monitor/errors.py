"""Errors of the monitor. Each has a stable code; `retryable` says whether the next run may succeed."""

from __future__ import annotations


class MonitorError(Exception):
    """Base of the monitor's own errors."""

    code = "monitor_error"
    retryable = True


class NoChampionError(MonitorError):
    """The model has no version with the alias `champion`: no checkpoint was ever registered or promoted."""

    code = "no_champion"


class ActiveJobError(MonitorError):
    """A retrain job of the model is active already, and there may be one at a time."""

    code = "active_job"
    retryable = False


class JobStateError(MonitorError):
    """There is no such job, or it is past what was asked of it; the text says which."""

    code = "job_state"
    retryable = False


class BaselineError(MonitorError):
    """A baseline cannot be made, pinned, compared or deleted; the text says why."""

    code = "baseline"
    retryable = False


class PromotionError(MonitorError):
    """A version cannot be made champion, or there is nothing to show of one that was; the text says why."""

    code = "promotion"
    retryable = False


class ServedElsewhereError(MonitorError):
    """The model is served elsewhere: there is nothing here that a trainer could start from."""

    code = "served_elsewhere"
    retryable = False


class ReceiverError(MonitorError):
    """There is no such receiver; the text says which there are."""

    code = "receiver"
    retryable = False


class LabelError(MonitorError):
    """No alert has such a label or name; the text says which there are."""

    code = "label"
    retryable = False


class GrafanaError(MonitorError):
    """Grafana cannot be reached, or refuses what is pushed; the text says why, and what would help."""

    code = "grafana"
    retryable = False


class SilenceError(MonitorError):
    """A silence cannot be made or ended, or an alert cannot be acknowledged; the text says why."""

    code = "silence"
    retryable = False


class ReportError(MonitorError):
    """A report cannot be made; the text says why."""

    code = "report"
    retryable = False


class FencedError(MonitorError):
    """This monitor led when its task began and does not lead now: it must not write."""

    code = "fenced"


class ArchiveError(MonitorError):
    """A day cannot be archived, or a file of the archive cannot be trusted; the text says which and why."""

    code = "archive"


class RetentionError(MonitorError):
    """Old days cannot be let go of now; the text says why."""

    code = "retention"


class AccessError(MonitorError):
    """The API's tokens cannot be used, or there is none where one is needed; the text says which."""

    code = "access"
    retryable = False


class EmbeddingsError(MonitorError):
    """There are no embeddings to read, or they cannot be put together; the text says why."""

    code = "embeddings"
    retryable = False


class AuditError(MonitorError):
    """What is asked of the audit log makes no sense; the text says what does."""

    code = "audit"
    retryable = False


class EngineError(MonitorError):
    """An engine of backfills is not there or cannot be reached; the text says which there are or what it lacks."""

    code = "engine"
    retryable = False


class BackfillError(MonitorError):
    """A period cannot be judged again; the text says why."""

    code = "backfill"
    retryable = False
