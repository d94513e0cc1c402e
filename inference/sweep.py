"""Drops what jobs that are over have left in the folder of checkpoints, once it has lain there for long enough."""

from __future__ import annotations

import logging
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine, select

from migrations.schema.monitoring import jobs, model_versions

_log = logging.getLogger(__name__)

ENDED = ("promoted", "rejected", "failed", "cancelled")
_STATE, _ATTEMPT = re.compile(r"job-(\d+)-state"), re.compile(r"job-(\d+)-attempt-\d+")


class Sweep:
    """Of a model's jobs that ended before `keep`: saved states, and checkpoints that were never registered.

    The checkpoint of a registered version stays: it may answer again. Folders of jobs that the database does not know,
    and files of anybody else, are left.
    """

    def __init__(self, engine: Engine, folder: Path, model: str, keep: timedelta) -> None:
        self._engine = engine
        self._folder = folder
        self._model = model
        self._keep = keep

    def run(self, now: datetime) -> list[Path]:
        """Drop what may go; the folders that were dropped. Trainers that share the folder may do so at once."""
        found = [(path, *each) for path in sorted(self._folder.glob("job-*")) for each in _ours(path)]
        if not found:
            return []
        with self._engine.connect() as connection:
            over = self._over(connection, {job_id for _, job_id, _ in found}, now - self._keep)
            registered = {Path(each) for each in connection.scalars(select(model_versions.c.checkpoint))}
        gone = [path for path, job_id, state in found if job_id in over and (state or path not in registered)]
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
        if gone:
            _log.info("dropped what %d jobs had left: %d folders", len(over), len(gone))
        return gone

    def _over(self, connection: Connection, ids: set[int], before: datetime) -> set[int]:
        query = select(jobs.c.job_id).where(
            jobs.c.model == self._model,
            jobs.c.job_id.in_(ids),
            jobs.c.state.in_(ENDED),
            jobs.c.finished_at < before,
        )
        return set(connection.scalars(query))


def _ours(path: Path) -> list[tuple[int, bool]]:
    """The job that a folder is of, and whether it holds saved states; nothing where it is none of ours."""
    for pattern, state in ((_STATE, True), (_ATTEMPT, False)):
        if (match := pattern.fullmatch(path.name)) and path.is_dir():
            return [(int(match[1]), state)]
    return []
