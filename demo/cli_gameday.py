"""`fusionwatch-demo gameday`: random faults of every class on real servers, and one table of what became of them."""

from __future__ import annotations

import json as jsons
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from demo import ledger
from demo.cast import people, view_of
from demo.deployment import TOPICS, deploy, folder_for
from demo.ending import ended_in_words
from demo.faults import FAULTS
from demo.gameday import RECOVER_SECONDS, GameDay, false_pages, play, schedule
from demo.ground import Ground
from demo.retrain_stage import second_monitor
from demo.servers import free_port
from demo.stage import Pace
from migrations.connect import connect

PACE = Pace()
DISK_MEGABYTES = 512
SETTINGS = {
    "silence_seconds": 20,
    "retrain_max_rows": 900,
    "fit_steps": 60,
    "fit_seconds": 600,
    "fit_save_every": 10,
}
"""Short, so that minutes stand for an hour: a silent stream is told after 20 s instead of five minutes."""
console = Console()


def gameday(
    seed: Annotated[int, typer.Option(help="Seed of the faults' order and lengths, and of the scenes.", min=0)] = 7,
    rounds: Annotated[int, typer.Option(help="How often every fault comes.", min=1)] = 1,
    kind: Annotated[list[str] | None, typer.Option(help="Only faults of this kind; give it once for each.")] = None,
    rate: Annotated[float, typer.Option(help="Requests per second.", min=5, max=500)] = 20,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.", dir_okay=False)] = None,
    folder: Annotated[Path | None, typer.Option(help="Keep data and logs here.", file_okay=False)] = None,
) -> None:
    """Play a game day (20 minutes a round). Exit code 0 only if all was noticed and survived, and nothing lost."""
    kinds = sorted({fault.kind for fault in FAULTS})
    if unknown := sorted(set(kind or ()) - set(kinds)):
        console.print(f"--kind: {', '.join(unknown)}: unknown; allowed: {', '.join(kinds)}", style="red")
        raise typer.Exit(2)
    with ended_in_words(console), folder_for(folder) as place:
        day = _day(place, seed, rounds, kind or kinds, rate)
    _tell(day)
    if json is not None:
        json.write_text(jsons.dumps(day.to_json(), indent=2, default=str) + "\n", encoding="utf-8")
        console.print(f"results in {json}", markup=False)
    raise typer.Exit(0 if day.met else 1)


def _day(folder: Path, seed: int, rounds: int, kinds: list[str], rate: float) -> GameDay:
    plan = schedule(seed, rounds, [fault for fault in FAULTS if fault.kind in kinds])
    small = DISK_MEGABYTES if "disk" in kinds else None
    with ExitStack() as stack:
        with console.status("starting PostgreSQL, the broker, worker, trainer, API and two monitors …"):
            deployment = stack.enter_context(
                deploy(folder, PACE, port=free_port(), seed=seed, changes=SETTINGS, disk_megabytes=small)
            )
            stack.enter_context(second_monitor(deployment, RECOVER_SECONDS))
        console.print(f"status page  [bold]{deployment.status_page}[/bold]     data and logs  {folder}", soft_wrap=True)
        engine = connect(deployment.database_url, application="fusionwatch-gameday")
        stack.callback(engine.dispose)
        traffic, labeller = people(deployment, stack, rate=rate, seed=seed)
        view = view_of(console, deployment, traffic, labeller)
        view.plan(["normal traffic", *(f"{fault.kind}: {fault.title}" for fault, _, _ in plan)])
        ground = Ground(deployment, traffic, labeller, engine, view, PACE, seed)
        with view.live():
            view.begin(0)
            traffic.start()
            labeller.start(datetime.now(UTC))
            ground.hold(PACE.normal, "normal traffic")
            view.end(0, met=True)
            played = play(ground, plan)
            traffic.stop()
            ground.await_("the last rows", lambda: ground.caught_up(traffic.messages), RECOVER_SECONDS)
        totals = ledger.audit(deployment.bootstrap, TOPICS, engine)
        return GameDay(seed, played, totals, false_pages(deployment.receiver.notifications, plan, played))


def _tell(day: GameDay) -> None:
    table = Table("at", "fault", "noticed by", "noticed after", "recovered after", "", title=f"game day {day.seed}")
    for each in day.played:
        table.add_row(
            f"{each.began:%H:%M:%S}",
            f"{each.kind}: {each.title}",
            each.noticed_by,
            _seconds(each.noticed_after),
            _seconds(each.recovered_after),
            "[green]✓[/green]" if each.met else "[red]✗[/red]",
        )
    console.print(table)
    totals = day.totals
    console.print(
        f"{totals.sent} sent, {totals.logged} logged, {totals.dead_lettered} dead letters; lost {totals.lost}, "
        f"logged twice {totals.duplicated}, false pages {len(day.false_pages)}",
        highlight=False,
    )
    for told in day.false_pages:
        console.print(told, style="red", markup=False)


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.0f} s"
