"""Puts `fusionwatch-inference baseline` together from its settings, and says what it did."""

from __future__ import annotations

import getpass
from contextlib import ExitStack
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from inference.baseline import BaselineError
from inference.devices import pick_device
from inference.file_baseline import MadeBaseline, choose, make, require_registered
from inference.models.card import CheckpointError
from inference.models.checkpoint import load_checkpoint
from inference.settings import DeviceSettings
from inference.training.annotated import Split
from inference.training.annotations import AnnotationsError
from inference.training.validation import UnusableModelError
from migrations.connect import SchemaTooOldError, connect, require_revision

UNUSABLE = (AnnotationsError, BaselineError, CheckpointError, SchemaTooOldError, UnusableModelError, OSError)
"""What `run` raises where the checkpoint, the file or the database cannot be used."""


def run(
    settings: DeviceSettings,
    checkpoint: Path,
    data: Path,
    splits: tuple[Split, ...],
    pin: bool,
    actor: str,
    reason: str,
) -> list[str]:
    """Make the baseline, showing progress on the terminal; lines that say what was done.

    Raises UNUSABLE, or SQLAlchemyError where the database is down.
    """
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    user = actor or _user()
    with ExitStack() as stack:
        engine = connect(settings.database_url.get_secret_value(), application="fusionwatch-baseline", pool_size=1)
        stack.callback(engine.dispose)
        require_revision(engine)
        loaded = load_checkpoint(checkpoint, pick_device(settings.device), settings.families())
        with engine.begin() as connection:
            require_registered(connection, loaded.version)  # told before any picture is read
        progress = stack.enter_context(Progress(console=Console(stderr=True)))
        reading = progress.add_task("reading rows", total=None)
        chosen = choose(data, loaded.card, splits)
        progress.update(reading, total=1, completed=1)
        answering = progress.add_task("asking the model", total=len(chosen.rows))
        made = make(
            engine,
            loaded,
            chosen,
            pin=pin,
            actor=user,
            reason=reason,
            progress=lambda rows: progress.advance(answering, rows),
        )
    return _told(made, pin)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        raise BaselineError("who asks is not known here; expected --actor NAME") from None


def _told(made: MadeBaseline, pin: bool) -> list[str]:
    what = "is made" if made.new else "holds these rows already"
    lines = [f"baseline {made.number} of {made.version} {what}{' and is pinned' if pin else ''}: {made.rows} rows"]
    if made.accuracy is not None:
        lines.append(f"accuracy: {made.accuracy:.3f}")
    return lines + [f"left out: {count} rows {reason}" for reason, count in made.left_out.items()]
