"""Who plays on a deployment: the producer team, the reviewers, and the stage that a story's steps get."""

from __future__ import annotations

from contextlib import ExitStack

from rich.console import Console
from sqlalchemy import Engine

from demo import ledger
from demo.deployment import LABEL_TOPIC, TOPICS, Deployment
from demo.observe import Observer
from demo.stage import Pace, Stage
from demo.traffic import Labeller, Traffic
from demo.view import View

LABEL_SECONDS = 3.0


def people(deployment: Deployment, stack: ExitStack, *, rate: float, seed: int) -> tuple[Traffic, Labeller]:
    """The producer team and the reviewers, who stop when the stack is left."""
    traffic = Traffic(deployment.bootstrap, TOPICS.requests, deployment.store, rate=rate, seed=seed)
    labeller = Labeller(deployment.bootstrap, LABEL_TOPIC, traffic, delay_seconds=LABEL_SECONDS)
    stack.callback(traffic.stop)
    stack.callback(labeller.stop)
    return traffic, labeller


def view_of(console: Console, deployment: Deployment, traffic: Traffic, labeller: Labeller) -> View:
    """What a person watches; its figures ask no database, which may be away."""
    view = View(console)
    view.figures = lambda: {
        "sent": str(traffic.messages),
        "labels": str(labeller.labels),
        "on-call told": str(len(deployment.receiver.notifications)),
    }
    return view


def stage_for(
    deployment: Deployment, engine: Engine, stack: ExitStack, console: Console, pace: Pace, *, rate: float, seed: int
) -> Stage:
    """Everything that a story's steps may touch; `engine` is of the monitored database."""
    traffic, labeller = people(deployment, stack, rate=rate, seed=seed)
    return Stage(
        traffic,
        labeller,
        Observer(engine),
        deployment.worker,
        deployment.programs,
        view_of(console, deployment, traffic, labeller),
        audit=lambda: ledger.audit(deployment.bootstrap, TOPICS, engine),
        dead_letter_codes=lambda: dict(ledger.dead_letter_codes(deployment.bootstrap, TOPICS)),
        seed=seed,
        pace=pace,
    )
