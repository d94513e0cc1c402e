"""The command `fusionwatch-demo`."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress

from demo import make_checkpoint
from demo.annotations import write_scenes
from demo.cast import people, stage_for
from demo.cli_gameday import gameday
from demo.cli_retrain import retrain
from demo.deployment import CHECKPOINT, Deployment, deploy, folder_for
from demo.ending import ended_in_words
from demo.results import Results
from demo.sequences import write_sequences
from demo.servers import free_port
from demo.stage import Pace
from demo.story import play as play_story
from demo.traffic import new_camera
from inference.training.validation import seal_with_baseline
from migrations.connect import connect

# Half as many again fit the maps; more rows make the reference firmer but the checkpoint larger.
BASELINE_EXAMPLES = 4000
AFTER_SECONDS = 900.0
AFTERWARDS = 50  # added to the seed, so that traffic after the story repeats none of it

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Try fusionwatch on this machine.")
console = Console()
app.command()(retrain)
app.command()(gameday)


@app.callback()
def _group() -> None:
    """Commands by name, however many there are."""


@app.command()
def play(
    once: Annotated[bool, typer.Option(help="End when the story is over; otherwise the status page stays up.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.", dir_okay=False)] = None,
    folder: Annotated[Path | None, typer.Option(help="Keep data and logs here.", file_okay=False)] = None,
    port: Annotated[
        int, typer.Option(help="Port of the status page; another is taken where it is in use.", min=0, max=65535)
    ] = 8080,
    rate: Annotated[float, typer.Option(help="Requests per second.", min=1, max=500)] = 50,
    seed: Annotated[int, typer.Option(help="Seed of scenes and captions.", min=0)] = 7,
) -> None:
    """Play the story: outage, mispairing, new camera, retrain, kill. Exit code 0 only if every expectation held."""
    with ended_in_words(console), folder_for(folder) as place, ExitStack() as stack:
        deployment = _deploy(place, stack, port=free_port(port), seed=seed)
        results = _play(deployment, rate=rate, seed=seed)
        if json is not None:
            results.write(json)
        _tell(results, json)
        if not once:
            _stay(deployment, rate=rate, seed=seed)
    raise typer.Exit(0 if results.met else 1)


def _deploy(folder: Path, stack: ExitStack, *, port: int, seed: int) -> Deployment:
    with console.status("starting PostgreSQL, the broker, worker, trainer, monitor and API …"):
        deployment = stack.enter_context(deploy(folder, Pace(), port=port, seed=seed))
    console.print(f"status page  [bold]{deployment.status_page}[/bold]     data and logs  {folder}", soft_wrap=True)
    return deployment


def _play(deployment: Deployment, *, rate: float, seed: int) -> Results:
    with ExitStack() as stack:
        engine = connect(deployment.database_url, application="fusionwatch-demo")
        stack.callback(engine.dispose)
        stage = stage_for(deployment, engine, stack, console, Pace(), rate=rate, seed=seed)
        with stage.view.live():
            return play_story(stage)


def _tell(results: Results, path: Path | None) -> None:
    for step in results.steps:
        sign, style = ("✓", "green") if step.met else ("✗", "red")
        console.print(f"{sign} {step.title}", style=style)
        for expectation in step.expectations:
            if not expectation.met:
                console.print(f"    {expectation.text}: found {expectation.found}", style="red", markup=False)
    if results.retrain is not None:
        told = results.retrain
        console.print(
            f"retrain: accuracy {told.accuracy_before:.3f} → {told.accuracy_after:.3f}, "
            f"ECE {told.ece_before:.3f} → {told.ece_after:.3f}"
        )
    if results.totals is not None:
        totals = results.totals
        console.print(
            f"{totals.sent} sent, {totals.answered} answered, {totals.logged} logged, {totals.dead_lettered} dead "
            f"letters, {totals.lost} lost, {totals.duplicated} duplicated; {results.false_alerts} false alerts"
        )
    if path is not None:
        console.print(f"results in {path}", markup=False)


def _stay(deployment: Deployment, *, rate: float, seed: int) -> None:
    """Keep the new camera's traffic and its labels going for a while, so that the page shows a living service."""
    console.print("The status page stays up until Ctrl-C; traffic goes on for a quarter of an hour.")
    try:
        with ExitStack() as stack:
            traffic, labeller = people(deployment, stack, rate=rate, seed=seed + AFTERWARDS)
            labeller.start(traffic.switch(new_camera(seed + AFTERWARDS)))
            traffic.start()
            time.sleep(AFTER_SECONDS)  # the broker keeps everything in memory, so traffic must end
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("stopping …")


@app.command()
def scenes(
    folder: Annotated[Path, typer.Option(help="An empty folder, or one to make.", file_okay=False)],
    pictures: Annotated[int, typer.Option(help="Pictures; each comes with a caption of every class.", min=1)] = 4000,
    seed: Annotated[int, typer.Option(help="Seed of scenes and captions.", min=0)] = 7,
    hedges: Annotated[bool, typer.Option(help="Let a word in the caption tell something of the class.")] = False,
) -> None:
    """Write drawn scenes as a data set, with a configuration for `fusionwatch-inference train` and `ablate`."""
    _write("drawing", pictures, lambda progress: write_scenes(folder, pictures, seed, hedged=hedges, progress=progress))


@app.command()
def sequences(
    folder: Annotated[Path, typer.Option(help="An empty folder, or one to make.", file_okay=False)],
    rows: Annotated[int, typer.Option(help="Rows of video, audio and a table.", min=5)] = 4000,
    seed: Annotated[int, typer.Option(help="Seed of the rows.", min=0)] = 3,
) -> None:
    """Write video and audio features and tables as a data set, with a configuration for `train` and `ablate`."""
    _write("writing", rows, lambda progress: write_sequences(folder, rows, seed, progress=progress))


def _write(doing: str, total: int, write: Callable[[Callable[[int], None]], Path]) -> None:
    with Progress(console=console) as progress:
        task = progress.add_task(doing, total=total)
        try:
            config = write(lambda done: progress.update(task, completed=done))
        except OSError as error:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
    console.print(f"fusionwatch-inference train --config {config}", markup=False, soft_wrap=True)


@app.command()
def checkpoint(
    folder: Annotated[Path, typer.Option(help="The folder to replace.", file_okay=False)] = CHECKPOINT,
    seed: Annotated[int, typer.Option(help="Seed of scenes, weights and batches.", min=0)] = make_checkpoint.SEED,
) -> None:
    """Train the demo checkpoint from nothing: a few minutes on one core."""
    torch.set_num_threads(1)  # two are slower than one at this size, and one gives the same weights everywhere
    with tempfile.TemporaryDirectory(prefix="fusionwatch-checkpoint-") as name, Progress(console=console) as progress:
        place = Path(name) / "checkpoint"
        made = _train(place, seed, progress)
        # Only a checkpoint that is whole takes the old one's place.
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(place, folder)
    console.print(f"{folder}: version {made.version}, temperature {made.temperature:.2f}", markup=False)
    for pattern, found in made.held_out.items():
        console.print(f"  {pattern}: accuracy {found.accuracy:.3f}, ECE {found.ece:.3f} on {found.count} new scenes")


def _train(place: Path, seed: int, progress: Progress) -> make_checkpoint.Made:
    task = progress.add_task("training", total=None)

    def step(number: int, steps: int, loss: float) -> None:
        progress.update(task, completed=number, total=steps, description=f"training, loss {loss:.2f}")

    def add_baseline(sealed: Path) -> None:
        progress.update(task, description="baseline")
        reference = make_checkpoint.held_out_examples(seed, 1, BASELINE_EXAMPLES)
        maps = make_checkpoint.held_out_examples(seed, 3, BASELINE_EXAMPLES // 2)
        seal_with_baseline(sealed, torch.device("cpu"), reference, maps)

    return make_checkpoint.main(place, seed=seed, progress=step, before_sealing=add_baseline)


def main() -> None:
    """Entry point."""
    app()
