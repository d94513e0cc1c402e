"""The tables: the only contract between inference and monitor."""

from migrations.schema import (
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
