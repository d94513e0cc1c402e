"""The tables: the only contract between inference and monitor."""

from migrations.schema import (
    audit,
    embedding_samples,
    lineage,
    monitoring,
    prediction_log,
    reports,
    retraining,
    rollouts,
    slos,
    summaries,
)
from migrations.schema.metadata import metadata

__all__ = [
    "audit",
    "embedding_samples",
    "lineage",
    "metadata",
    "monitoring",
    "prediction_log",
    "reports",
    "retraining",
    "rollouts",
    "slos",
    "summaries",
]
