"""Routes: what matches, who is told, and what is wrong with them before anything fires."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.alerts.routes import Matcher, Route, chosen, complaints, everyone, parse

KINDS = {("ModalityUnavailable", "page"), ("EmbeddingDrift", "ticket"), ("PairingDrift", "ticket")}
PAGE = {"alertname": "ModalityUnavailable", "severity": "page", "modality": "image"}
TICKET = {"alertname": "EmbeddingDrift", "severity": "ticket", "modality": "text"}


def to(receiver: str, *matchers: str, on: bool = False) -> Route:
    return Route(receiver, tuple(map(parse, matchers)), on)


def wrong(*routes: Route) -> list[str]:
    return complaints(routes, {"pager", "log"}, KINDS)


@pytest.mark.parametrize(
    ("written", "value", "holds"),
    [
        ("modality=image", "image", True),
        ("modality = image", "images", False),
        ('modality="image"', "image", True),
        ('modality="a \\"b\\" \\\\"', 'a "b" \\', True),
        ("modality!=image", "text", True),
        ("modality!=image", "image", False),
        ("modality=~image|text", "text", True),
        ("modality=~imag", "image", False),
        ("modality=~", "", True),
        ("modality!~im.*", "image", False),
        ("modality!~im.*", "text", True),
        ("modality=", "", True),
        ("modality=größe", "größe", True),
    ],
)
def test_matchers_are_those_of_alertmanager(written: str, value: str, holds: bool) -> None:
    assert parse(written).holds({"modality": value}) is holds


@given(st.sampled_from(["=", "!=", "=~", "!~"]), st.text())
def test_a_matcher_is_read_as_it_was_written(operator: str, value: str) -> None:
    matcher = Matcher("modality", operator, re.escape(value) if "~" in operator else value)
    assert parse(str(matcher)) == matcher
    assert matcher.holds({"modality": value}) is not operator.startswith("!")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("severity", "is no matcher"),
        ('severity="page', "is no matcher"),
        ("camera=1", "camera cannot be matched; alertname, modality, model_version, severity can"),
        ("modality=~(", "'(' is no regular expression: missing )"),
    ],
)
def test_what_is_no_matcher_is_refused_with_what_is_allowed(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(written)


def test_the_first_route_that_matches_decides_unless_it_goes_on() -> None:
    routes = (to("pager", "severity=page", on=True), to("chat", "modality=image"), to("log"))
    assert list(chosen(routes, PAGE)) == ["pager", "chat"]
    assert list(chosen(routes, TICKET)) == ["log"]


def test_a_receiver_of_two_routes_is_told_once_for_the_first() -> None:
    routes = (to("log", "severity=page", on=True), to("log"))
    assert chosen(routes, PAGE) == {"log": routes[0]}
    assert list(chosen(everyone(["a", "b"]), TICKET)) == ["a", "b"]


@pytest.mark.parametrize(
    "routes",
    [
        (to("log"),),
        everyone(["pager", "log"]),
        (to("pager", "severity=page", on=True), to("log")),
        (to("pager", "severity=page"), to("log", "severity=ticket")),
        (to("pager", "severity=page", "modality=image"), to("log", "modality=~im.*"), to("log")),
        (to("pager", "alertname=EmbeddingDrift", "modality=image"), to("log", "alertname=~Embed.*"), to("log")),
    ],
)
def test_routes_that_reach_everybody_are_fine(routes: tuple[Route, ...]) -> None:
    assert wrong(*routes) == []


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ((to("fax"),), "route 1 (everything): there is no receiver 'fax'; there are ['log', 'pager']"),
        ((to("pager", "severity=warning"), to("log")), 'route 1 (severity="warning") is unreachable: no alert'),
        ((to("pager", "alertname=EmbedingDrift"), to("log")), "unreachable: no alert can match"),
        ((to("pager", "severity=page", "alertname=PairingDrift"), to("log")), "unreachable: no alert can match"),
        ((to("pager", "modality=a", "modality!=a"), to("log")), "unreachable: no alert can match"),
        ((to("log"), to("pager", "severity=page")), 'route 2 (severity="page") is unreachable: all it matches stops'),
        ((to("log", "severity=page"), to("pager", "alertname=ModalityUnavailable"), to("log")), "route 2"),
        ((to("log", "severity=page"), to("log", "severity=ticket"), to("pager")), "route 3 (everything)"),
        ((to("log", "modality=~im.*"), to("pager", "modality=image"), to("log")), "route 2"),
        ((to("log", "modality=~im.*"), to("pager", "modality=~im.*", "severity=page"), to("log")), "route 2"),
        ((to("pager", "severity=page"),), "no route takes EmbeddingDrift (ticket), PairingDrift (ticket)"),
        ((to("log", "modality=~.*"),), "nobody is told of some alerts"),
    ],
)
def test_each_wrong_route_is_named(routes: tuple[Route, ...], said: str) -> None:
    [complaint] = wrong(*routes)
    assert said in complaint
