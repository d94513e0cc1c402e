"""`fusionwatch-monitor history`: each retrain from the first finding to the last alert that ended."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.tree import Tree

from monitor.cli_jobs import opened
from monitor.domain.history import Chain, Step, chain
from monitor.storage import history as storage
from monitor.storage.views.reading import reading
from monitor.terminal import console


def history(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most so many chains")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Finding, alert, decision, job, gate, promotion, resolved: the whole chain of each retrain, newest first."""
    with opened() as (settings, engine), reading(engine) as connection:
        chains = [chain(kept) for kept in storage.newest(connection, settings.model, limit)]
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in chains], indent=2, default=_written))
        return
    if not chains:
        console.print("nothing was decided yet", highlight=False)
    for each in chains:
        console.print(_tree(each), highlight=False)


def _tree(one: Chain) -> Tree:
    name = "now" if one.job_id is None else f"job {one.job_id}"
    tree = Tree(f"[bold]{name}[/bold]: {escape(one.outcome)}")
    for step in one.steps:
        branch = tree.add(_line(step))
        for detail in step.details:
            branch.add(escape(detail))
    return tree


def _line(step: Step) -> str:
    at = "" if step.at is None else f"{step.at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ} "
    number = "" if step.row is None else f" {step.row}"
    return f"{at}[bold]{escape(step.stage.replace('_', ' '))}{number}[/bold]: {escape(step.text)}"


def _written(value: object) -> str:
    assert isinstance(value, datetime), "a chain holds times, numbers and words"
    return value.isoformat()
