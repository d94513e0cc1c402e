"""What an archive keeps of a day: which rows, in which order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, Select, Table, select

from migrations.schema.partitions import partition_name
from migrations.schema.prediction_log import modality_log, prediction_log
from migrations.schema.rollouts import shadow_log
from migrations.schema.summaries import summaries
from monitor.storage import labels, partitions, pruning
from monitor.storage.partitions import Partition, State

SUMMARIES, LABELLED, LOG, MODALITIES = "summaries", "labelled", prediction_log.name, modality_log.name
OF_LOG = (LOG, MODALITIES, shadow_log.name)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows that become one file, in the order of the columns of `key`."""

    name: str
    rows: Select[Any]
    key: tuple[str, ...]

    @classmethod
    def of_table(cls, name: str, rows: Select[Any], table: Table) -> Dataset:
        """Rows in the order of a table's primary key."""
        return cls(name, rows, tuple(column.name for column in table.primary_key))


def of_partition(partition: Partition) -> list[Dataset]:
    """The rows of a day of the log, attached or not, in the order of their key.

    With the answers go, as `labelled`, those of them that a label judges by now: what a label says of an answer cannot
    be found out once the answer is gone.
    """
    table = partition.as_table()
    found = [Dataset.of_table(partition.table, select(table), table)]
    if partition.table == LOG:
        found.append(Dataset(LABELLED, labels.judged_of(table), ("request_id",)))
    return found


def of_day(connection: Connection, day: date) -> list[Dataset]:
    """Everything of a day that the database still has."""
    attached = [Partition(table, partition_name(table, day), day, State.ATTACHED, 0, 0) for table in OF_LOG]
    there = [each for each in attached if partitions.exists(connection, each)]
    return [of_summaries(day), *(dataset for each in there for dataset in of_partition(each))]


def of_summaries(day: date) -> Dataset:
    """The summaries of a day's slots."""
    return Dataset.of_table(SUMMARIES, pruning.summaries_of(day), summaries)
