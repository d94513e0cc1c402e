"""What a judgement reads of a window, and the database as the place to read it from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sqlalchemy import Connection

from monitor.domain.window import Labelled, Reference, Summary, Window
from monitor.storage import baselines, labels, summaries
from monitor.tasks.late import inputs, label_changes


class Place(Protocol):
    """Where the data of windows are read from."""

    def inputs(self, window: Window) -> list[int]:
        """What is written of the window's slots, in numbers that any later write changes."""
        ...

    def label_changes(self, window: Window, version: str, /) -> int:
        """How often labels of a version's answers in the window changed; 0 where the place does not know."""
        ...

    def reference(self, version: str, hour: int) -> Reference | None:
        """The baseline in use of a version, as it is at an hour of day (UTC)."""
        ...

    def counts(self, window: Window, modalities: Iterable[str]) -> dict[str, Summary]:
        """Rows by status of each modality, whichever version answered."""
        ...

    def summaries(self, window: Window, version: str, modalities: Iterable[str]) -> dict[str, Summary]:
        """Each modality's summary of a version. Raises IncomparableError and BinsError."""
        ...

    def labelled(self, window: Window, version: str, limit: int) -> Labelled:
        """Answers of a version whose label was received in the window, at most the newest `limit`."""
        ...


class Stored:
    """The database, as it is within a connection's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def inputs(self, window: Window) -> list[int]:
        """See Place."""
        return inputs(self._connection, window)

    def label_changes(self, window: Window, version: str, /) -> int:
        """See Place."""
        return label_changes(self._connection, version, window)

    def reference(self, version: str, hour: int) -> Reference | None:
        """See Place."""
        return baselines.of_version(self._connection, version, hour)

    def counts(self, window: Window, modalities: Iterable[str]) -> dict[str, Summary]:
        """See Place."""
        return summaries.counts_of_all_versions(self._connection, window, modalities)

    def summaries(self, window: Window, version: str, modalities: Iterable[str]) -> dict[str, Summary]:
        """See Place."""
        return summaries.of_version(self._connection, window, version, modalities)

    def labelled(self, window: Window, version: str, limit: int) -> Labelled:
        """See Place."""
        return labels.labelled(self._connection, version, start=window.start, end=window.end, limit=limit)
