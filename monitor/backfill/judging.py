"""The work of one part: its windows, out of the archive, by the judgement of the live path."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from monitor.archive.folder import Archive
from monitor.backfill.exported import Exported, References
from monitor.domain.window import Window
from monitor.storage.models import ModelVersion
from monitor.tasks.attribute import Observed
from monitor.tasks.judgement import Judgement


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """What all parts need: the archive's folder, who judges, whom, against what, and how far back."""

    folder: Path
    judgement: Judgement
    version: ModelVersion
    references: References
    look_back: timedelta


@dataclass(frozen=True, slots=True)
class Part:
    """Windows that are judged together, by their ends, in order of time."""

    ends: tuple[datetime, ...]


def judge(shared: Shared, part: Part) -> list[Observed]:
    """What the windows of a part say by themselves, in order. Raises ArchiveError on a file that cannot be trusted."""
    period = Window(part.ends[0] - shared.look_back, part.ends[-1])
    place = Exported(Archive(shared.folder), shared.references, period)
    return [shared.judgement.observe(place, shared.version, end) for end in part.ends]
