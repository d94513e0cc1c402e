"""What settings say of routes, parsed and checked against the receivers and the alerts there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

from monitor.alerts import flaps
from monitor.alerts.names import UNWRITABLE, WEEKLY_REPORT
from monitor.alerts.routes import Kind, Route, complaints, everyone, parse
from monitor.alerts.rules import RULES
from monitor.domain.signals import PAGE, TICKET


class RouteSettings(BaseModel):
    """One route; without matchers it takes every alert."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    receiver: str
    matchers: tuple[str, ...] = ()
    on: bool = Field(default=False, alias="continue")

    @field_validator("matchers")
    @classmethod
    def _parsable(cls, matchers: tuple[str, ...]) -> tuple[str, ...]:
        for text in matchers:
            parse(text)
        return matchers


def kinds() -> frozenset[Kind]:
    """Every alert there is, by name and severity."""
    shipped = {(rule.alertname, rule.severity) for rule in RULES}
    return frozenset(shipped | {(flaps.ALERTNAME, TICKET), (UNWRITABLE, PAGE), (WEEKLY_REPORT, TICKET)})


def routes(given: Sequence[RouteSettings], receivers: Collection[str]) -> tuple[Route, ...]:
    """Routes as the pipeline takes them; where none are given every receiver is told of everything.

    Raises ValueError naming each route that is wrong, and alerts that nobody would be told of.
    """
    if not given:
        return everyone(receivers)
    made = tuple(Route(one.receiver, tuple(map(parse, one.matchers)), one.on) for one in given)
    if wrong := complaints(made, receivers, kinds()):
        raise ValueError("routes: " + "; ".join(wrong))
    return made
