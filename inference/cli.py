"""`fusionwatch-inference`: the commands of the inference image."""

from __future__ import annotations

import signal
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer
from kafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError

from inference import log
from inference.models.card import CheckpointError
from inference.settings import ModelSettings, TrainerSettings, WorkerSettings
from inference.wiring import WorkerProgram
from migrations.connect import SchemaTooOldError
from migrations.settings import PREFIX, SettingsError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
BAD_SETTINGS, FAILED = 2, 1
Settings = TypeVar("Settings", bound=ModelSettings)


class Program(StrEnum):
    """The programs of this image."""

    WORKER = "worker"
    TRAINER = "trainer"


SETTINGS: dict[Program, type[ModelSettings]] = {Program.WORKER: WorkerSettings, Program.TRAINER: TrainerSettings}


def main() -> None:
    """The console script."""
    app()


@app.command()
def worker() -> None:
    """Read requests, predict, answer, log; until SIGTERM or Ctrl-C, then finish what is in hand."""
    settings = _settings(WorkerSettings)
    log.configure(settings.log_level)
    program = WorkerProgram(settings)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: program.stop.request())
    try:
        sound = program.run()
    except (SchemaTooOldError, CheckpointError, OSError, RuntimeError) as error:
        _fail(str(error))
    except (KafkaError, SQLAlchemyError) as error:
        _fail(f"cannot start: {type(error).__name__}: is the broker or the database up?")
    raise typer.Exit(0 if sound else FAILED)


@app.command()
def trainer() -> None:
    """Wait for retrain jobs and work on them; until SIGTERM or Ctrl-C, which lets the job in hand go."""
    from inference.trainer_wiring import TrainerProgram  # torch, which the worker's front must not hold

    settings = _settings(TrainerSettings)
    log.configure(settings.log_level)
    program = TrainerProgram(settings)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: program.stop.set())
    try:
        program.run()
    except (SchemaTooOldError, OSError) as error:
        _fail(str(error))
    except SQLAlchemyError as error:
        _fail(f"cannot start: {type(error).__name__}: is the database up?")


@app.command()
def check_settings(
    program: Annotated[Program, typer.Argument(help="Whose settings.")] = Program.WORKER,
    names_only: Annotated[bool, typer.Option(help="List every setting with its meaning instead.")] = False,
) -> None:
    """Print the settings in effect, secrets hidden; exit code 2 where one is missing or wrong."""
    if names_only:
        for name, field in sorted(SETTINGS[program].model_fields.items()):
            typer.echo(f"{PREFIX}{name.upper()}: {field.description}")
        return
    for name, value in sorted(_settings(SETTINGS[program]).model_dump().items()):
        typer.echo(f"{PREFIX}{name.upper()}={_shown(value)}")


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


def _settings(kind: type[Settings]) -> Settings:
    try:
        return kind.from_environment()
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD_SETTINGS) from None


def _fail(reason: str) -> None:
    typer.echo(reason, err=True)
    raise typer.Exit(FAILED)


if __name__ == "__main__":
    main()
