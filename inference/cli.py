"""`fusionwatch-inference`: the commands of the inference image."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from kafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError

from inference import log
from inference.broker_check import BrokerError, require_broker
from migrations.connect import SchemaTooOldError, unusable
from migrations.settings import PREFIX, EnvironmentSettings, SettingsError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
BAD_SETTINGS, FAILED = 2, 1
Settings = TypeVar("Settings", bound=EnvironmentSettings)


class Program(StrEnum):
    """The programs of this image."""

    WORKER = "worker"
    OBSERVE = "observe"
    TRAINER = "trainer"
    GATEWAY = "gateway"


class UsableSplit(StrEnum):
    """The splits of an annotations file."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def main() -> None:
    """The console script."""
    app()


@app.command()
def worker() -> None:
    """Read requests, predict, answer, log; until SIGTERM or Ctrl-C, then finish what is in hand."""
    # each command imports its own program: `observe` runs where there is no torch
    from inference.models.card import CheckpointError
    from inference.settings import WorkerSettings
    from inference.wiring import WorkerProgram

    settings = _settings(WorkerSettings)
    log.configure(settings.log_level)
    _require_broker(settings.kafka())
    program = WorkerProgram(settings)
    _on_stop(program.stop.request)
    with _told(CheckpointError, RuntimeError):
        sound = program.run()
    raise typer.Exit(0 if sound else FAILED)


@app.command()
def observe() -> None:
    """Log what a model served elsewhere answers, from its team's messages; until SIGTERM or Ctrl-C. Needs no torch."""
    from inference.observe_settings import ObserveSettings
    from inference.observe_wiring import ObserveProgram

    settings = _settings(ObserveSettings)
    log.configure(settings.log_level)
    _require_broker(settings.kafka())
    program = ObserveProgram(settings)
    _on_stop(program.stop.request)
    with _told():
        sound = program.run()
    raise typer.Exit(0 if sound else FAILED)


@app.command()
def gateway() -> None:
    """Take requests and labels from the monitor's API, over HTTP, to Kafka and their answers back; until SIGTERM."""
    from inference.gateway_settings import GatewaySettings
    from inference.gateway_wiring import GatewayProgram

    settings = _settings(GatewaySettings)
    log.configure(settings.log_level)
    _require_broker(settings.kafka())
    try:
        GatewayProgram(settings).run()
    except OSError as error:
        _fail(str(error))
    except KafkaError as error:
        _fail(f"cannot start: {error}: is the broker up, and are the topics there?")


@app.command()
def trainer(
    job: Annotated[
        int | None, typer.Option(min=1, help="Work on this job alone, then end; `torchrun` may start several for it.")
    ] = None,
) -> None:
    """Wait for retrain jobs and work on them; until SIGTERM or Ctrl-C, which lets the job in hand go."""
    from inference.trainer_settings import TrainerSettings
    from inference.trainer_wiring import TrainerProgram

    settings = _settings(TrainerSettings)
    log.configure(settings.log_level)
    program = TrainerProgram(settings)
    _on_stop(program.stop.set)
    with _told():
        if not program.run(job):
            typer.echo(f"job {job} does not wait for a trainer", err=True)


@app.command()
def mirror(
    every: Annotated[
        float | None, typer.Option(min=1, help="Go on, looking every so many seconds; otherwise once.")
    ] = None,
) -> None:
    """Set MLflow's aliases champion and challenger as the database has them, as a trainer that waits for jobs does."""
    from inference.trainer_settings import TrainerSettings
    from inference.trainer_wiring import TrainerProgram
    from inference.training.mlflow_run import TrackingError

    settings = _settings(TrainerSettings)
    log.configure(settings.log_level)
    program = TrainerProgram(settings)
    _on_stop(program.stop.set)
    with _told(TrackingError):
        sound = program.follow(every)
    raise typer.Exit(0 if sound else FAILED)


@app.command()
def train(
    config: Annotated[Path | None, typer.Option(help="The TOML file that says what is trained, and how.")] = None,
    force: Annotated[bool, typer.Option(help="Replace what an earlier run left in the output folder.")] = False,
    print_config: Annotated[bool, typer.Option(help="Print a file with every key, its meaning and default.")] = False,
) -> None:
    """Train a fusion model; the same command goes on with a run that was stopped or killed. Also under torchrun."""
    if print_config:
        from inference.training.config import annotated_default

        typer.echo(annotated_default(), nl=False)
        return
    if config is None:
        typer.echo("expected --config FILE; --print-config shows what it may hold", err=True)
        raise typer.Exit(BAD_SETTINGS)
    from inference import cli_train

    raise typer.Exit(cli_train.run(config, force=force))


@app.command()
def ablate(
    config: Annotated[Path, typer.Option(help="The TOML file of `train`; its family and seed are those given here.")],
    family: Annotated[
        list[str] | None,
        typer.Option(help="A family to train, image_only or text_only; give it once for each. By default all of them."),
    ] = None,
    seed: Annotated[list[int], typer.Option(min=0, help="A seed to train with; give it once for each.")] = [0, 1, 2],  # noqa: B006
) -> None:
    """Train several families with several seeds on one data set and print one table: mean ± standard deviation."""
    from inference import cli_train

    raise typer.Exit(cli_train.compare(config, family or (), seed))


@app.command()
def quantize(
    checkpoint: Annotated[Path, typer.Option(help="Folder of the checkpoint.", exists=True, file_okay=False)],
    config: Annotated[
        Path,
        typer.Option(help="The TOML file of `train`; measured on its data, baseline made of them."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new checkpoint; must not be there.")],
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file too.", dir_okay=False)] = None,
) -> None:
    """Write the same model with its encoders' linear layers in int8, and print what it costs and gains on this CPU."""
    from inference import cli_models

    raise typer.Exit(cli_models.quantize(checkpoint, out, config, json))


@app.command()
def explain(
    checkpoint: Annotated[Path, typer.Option(help="Folder of the checkpoint.", exists=True, file_okay=False)],
    image: Annotated[Path | None, typer.Option(help="A picture.", exists=True, dir_okay=False)] = None,
    text: Annotated[str | None, typer.Option(help="A text.")] = None,
    request: Annotated[
        Path | None, typer.Option(help="Instead: a request message, .json or .msgpack.", exists=True, dir_okay=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="The page that is written.", dir_okay=False)] = Path("explained.html"),
) -> None:
    """Write a page about one answer: attention over patches and tokens, gate, and the answer without each modality."""
    from inference import cli_models

    raise typer.Exit(cli_models.explain(checkpoint, image, text, request, out))


@app.command()
def baseline(
    checkpoint: Annotated[
        Path,
        typer.Option(help="Folder of the checkpoint, registered by a worker before.", exists=True, file_okay=False),
    ],
    data: Annotated[
        Path, typer.Option(help="Folder with `annotations.jsonl` and its pictures.", exists=True, file_okay=False)
    ],
    split: Annotated[
        list[UsableSplit], typer.Option(help="Rows to use, where the file names splits; repeat for several.")
    ] = [UsableSplit.VALIDATION, UsableSplit.TEST],  # noqa: B006 - typer reads it, nobody changes it
    pin: Annotated[bool, typer.Option(help="Compare with it from now on.")] = False,
    actor: Annotated[str, typer.Option(help="Who asks; kept in the audit log. By default, who is logged in.")] = "",
    reason: Annotated[str, typer.Option(help="Why; kept in the audit log.")] = "made from a file",
) -> None:
    """Make another baseline of a model, from a file of labelled rows with nothing wrong.

    The same rows are not taken twice: where the version has their baseline, that one stays.
    """
    from inference.baseline_wiring import UNUSABLE, run
    from inference.settings import DeviceSettings

    settings = _settings(DeviceSettings)
    try:
        for line in run(settings, checkpoint, data, tuple(each.value for each in split), pin, actor, reason):
            typer.echo(line)
    except UNUSABLE as error:
        _fail(str(error))
    except SQLAlchemyError as error:
        _fail(f"cannot register it: {unusable(error)}")


@app.command()
def check_settings(
    program: Annotated[Program, typer.Argument(help="Whose settings.")] = Program.WORKER,
    names_only: Annotated[bool, typer.Option(help="List every setting with its meaning instead.")] = False,
) -> None:
    """Print the settings in effect, secrets hidden; exit code 2 where one is missing or wrong."""
    if names_only:
        for name, field in sorted(_settings_of(program).model_fields.items()):
            typer.echo(f"{PREFIX}{name.upper()}: {field.description}")
        return
    for name, value in sorted(_settings(_settings_of(program)).model_dump().items()):
        typer.echo(f"{PREFIX}{name.upper()}={_shown(value)}")


def _settings_of(program: Program) -> type[EnvironmentSettings]:
    if program is Program.OBSERVE:
        from inference.observe_settings import ObserveSettings

        return ObserveSettings
    if program is Program.GATEWAY:
        from inference.gateway_settings import GatewaySettings

        return GatewaySettings
    from inference.settings import WorkerSettings
    from inference.trainer_settings import TrainerSettings

    return WorkerSettings if program is Program.WORKER else TrainerSettings


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


def _settings(kind: type[Settings]) -> Settings:
    try:
        return kind.from_environment()
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD_SETTINGS) from None


def _require_broker(options: Mapping[str, Any]) -> None:
    try:
        require_broker(options)
    except BrokerError as error:
        _fail(str(error))


def _on_stop(stop: Callable[[], object]) -> None:
    """Let SIGTERM and Ctrl-C ask a program to end."""
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop())


@contextmanager
def _told(*own: type[Exception]) -> Iterator[None]:
    """End with one line where a program cannot run; the errors of its `own` say by themselves what is wrong."""
    telling: tuple[type[Exception], ...] = (SchemaTooOldError, OSError, *own)
    try:
        yield
    except telling as error:
        _fail(str(error))
    except KafkaError as error:
        _fail(f"cannot start: {type(error).__name__}: is the broker up?")
    except SQLAlchemyError as error:
        _fail(f"cannot start: {unusable(error)}")


def _fail(reason: str) -> None:
    typer.echo(reason, err=True)
    raise typer.Exit(FAILED)


if __name__ == "__main__":
    main()
