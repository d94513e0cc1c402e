"""`fusionwatch-demo retrain`: the closed loop on this machine, told step by step, with a table at the end."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from demo import retrain_stage
from demo.cast import stage_for
from demo.deployment import deploy, folder_for
from demo.ending import ended_in_words
from demo.results import Results
from demo.retrain_story import play
from demo.servers import free_port
from demo.stage import Pace
from migrations.connect import connect

PACE = Pace(normal=25.0, at_most=600.0, retrain=900.0)
READY_SECONDS = 300.0
console = Console()


def retrain(
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.", dir_okay=False)] = None,
    folder: Annotated[Path | None, typer.Option(help="Keep data and logs here.", file_okay=False)] = None,
    port: Annotated[
        int, typer.Option(help="Port of the status page; another is taken where it is in use.", min=0, max=65535)
    ] = 8080,
    rate: Annotated[float, typer.Option(help="Requests per second.", min=10, max=500)] = 40,
    seed: Annotated[int, typer.Option(help="Seed of scenes and captions.", min=0)] = 7,
) -> None:
    """Play the closed loop with all that may go wrong on its way. Exit code 0 only if every expectation held."""
    with ended_in_words(console), folder_for(folder) as place, ExitStack() as stack:
        loop = _set(place, stack, port=free_port(port), rate=rate, seed=seed)
        with loop.stage.view.live():
            results = play(loop)
        _tell(results)
        if json is not None:
            results.write(json)
            console.print(f"results in {json}", markup=False)
    raise typer.Exit(0 if results.met else 1)


def _set(folder: Path, stack: ExitStack, *, port: int, rate: float, seed: int) -> retrain_stage.Loop:
    """Everything in its place: servers, programs, a second monitor, the producer team and the reviewers."""
    retrain_stage.prepare(folder, seed)
    with console.status("starting PostgreSQL, the broker, worker, trainer, API and two monitors …"):
        changes = retrain_stage.settings(folder)
        deployment = stack.enter_context(deploy(folder, PACE, port=port, seed=seed, changes=changes))
        stack.enter_context(retrain_stage.second_monitor(deployment, READY_SECONDS))
    console.print(f"status page  [bold]{deployment.status_page}[/bold]     data and logs  {folder}", soft_wrap=True)
    engine = connect(deployment.database_url, application="fusionwatch-demo")
    stack.callback(engine.dispose)
    stage = stage_for(deployment, engine, stack, console, PACE, rate=rate, seed=seed)
    return retrain_stage.Loop(stage, deployment, engine)


def _tell(results: Results) -> None:
    table = Table("what happened", "what had to follow", "found", "", show_lines=False)
    for step in results.steps:
        for number, each in enumerate(step.expectations):
            sign = "[green]✓[/green]" if each.met else "[red]✗[/red]"
            table.add_row(step.title if number == 0 else "", each.text, each.found[:160], sign)
        table.add_section()
    console.print(table, markup=True)
    if results.retrain is not None:
        told = results.retrain
        console.print(
            f"job {told.job_id}: accuracy {told.accuracy_before:.3f} → {told.accuracy_after:.3f}, "
            f"ECE {told.ece_before:.3f} → {told.ece_after:.3f}"
        )
