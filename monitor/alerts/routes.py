"""Who is told of which alert, as data: a list of routes, each with matchers over an alert's labels and a receiver.

The first route that matches decides, and those after it are asked only where it says so, as in Prometheus
Alertmanager; so are matchers written: `label="value"` with `=`, `!=`, `=~` or `!~`, regular expressions matching the
whole value.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from monitor.domain.silence import LABELS

EQUAL, UNEQUAL, MATCHES, DIFFERS = "=", "!=", "=~", "!~"
CLOSED = ("alertname", "severity")  # labels whose every value is known; others can take any
_WRITTEN = re.compile(r'(?P<label>\w+)\s*(?P<operator>=~|!=|!~|=)\s*(?P<value>"(?:[^"\\]|\\.)*"|[^"].*|)', re.DOTALL)

Kind = tuple[str, str]  # an alert's name and severity


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label; a label that an alert lacks is the empty text."""

    label: str
    operator: str
    value: str

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it."""
        found = labels.get(self.label, "")
        if self.operator in (EQUAL, UNEQUAL):
            return (found == self.value) == (self.operator == EQUAL)
        return (_compiled(self.value).fullmatch(found) is not None) == (self.operator == MATCHES)

    def __str__(self) -> str:
        quoted = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{self.label}{self.operator}"{quoted}"'


@dataclass(frozen=True, slots=True)
class Route:
    """Alerts for which every matcher holds go to the receiver; with `on`, to what later routes say too."""

    receiver: str
    matchers: tuple[Matcher, ...] = ()
    on: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels takes this route."""
        return all(matcher.holds(labels) for matcher in self.matchers)

    def __str__(self) -> str:
        return ", ".join(map(str, self.matchers)) or "everything"


def parse(text: str) -> Matcher:
    """A matcher as it is written. Raises ValueError with what is wrong and what is allowed."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'{text!r} is no matcher; severity="page" is one, with =, !=, =~ or !~')
    label, operator, value = found["label"], found["operator"], found["value"].strip()
    if label not in LABELS:
        raise ValueError(f"{text!r}: {label} cannot be matched; {', '.join(LABELS)} can")
    if value.startswith('"'):
        value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
    if operator in (MATCHES, DIFFERS):
        try:
            _compiled(value)
        except re.error as error:
            raise ValueError(f"{text!r}: {value!r} is no regular expression: {error}") from None
    return Matcher(label, operator, value)


def everyone(receivers: Iterable[str]) -> tuple[Route, ...]:
    """Routes that tell every receiver of everything."""
    return tuple(Route(receiver, on=True) for receiver in receivers)


def chosen(routes: Sequence[Route], labels: Mapping[str, str]) -> dict[str, Route]:
    """The receivers of an alert, in order, each with the first of its routes that matched."""
    found: dict[str, Route] = {}
    for route in routes:
        if not route.matches(labels):
            continue
        found.setdefault(route.receiver, route)
        if not route.on:
            break
    return found


def complaints(routes: Sequence[Route], receivers: Collection[str], kinds: Collection[Kind]) -> list[str]:
    """What is wrong with routes, in words. `kinds` are all alerts there are, each by name and severity.

    A route is unreachable where no alert fulfils its matchers, or those that do stop at an earlier route; of regular
    expressions over labels that can take any value only the same one is seen to cover another.
    """
    found = []
    for number, route in enumerate(routes, 1):
        where = f"route {number} ({route})"
        if route.receiver not in receivers:
            found.append(f"{where}: there is no receiver {route.receiver!r}; there are {sorted(receivers)}")
        possible = _kinds_of(route, kinds)
        if not possible or _contradicts(route):
            found.append(f"{where} is unreachable: no alert can match it")
        elif all(_stopped(route, kind, routes[: number - 1]) for kind in possible):
            found.append(f"{where} is unreachable: all it matches stops at an earlier route without continue")
    untold = sorted(kind for kind in kinds if not any(_covers(route, kind, ()) for route in routes))
    if untold:
        names = ", ".join(f"{name} ({severity})" for name, severity in untold)
        found.append(f"nobody is told of some alerts, as no route takes {names}: end with a route without matchers")
    return found


def _kinds_of(route: Route, kinds: Iterable[Kind]) -> list[Kind]:
    return [kind for kind in kinds if _allows(route, kind)]


def _allows(route: Route, kind: Kind) -> bool:
    labels = dict(zip(CLOSED, kind, strict=True))
    return all(matcher.holds(labels) for matcher in route.matchers if matcher.label in CLOSED)


def _open(route: Route) -> list[Matcher]:
    return [matcher for matcher in route.matchers if matcher.label not in CLOSED]


def _contradicts(route: Route) -> bool:
    """Whether a label would have to have a value that another matcher of it excludes."""
    exact = [matcher for matcher in _open(route) if matcher.operator == EQUAL]
    return any(
        not other.holds({one.label: one.value}) for one in exact for other in _open(route) if other.label == one.label
    )


def _stopped(route: Route, kind: Kind, earlier: Iterable[Route]) -> bool:
    return any(not each.on and _covers(each, kind, _open(route)) for each in earlier)


def _covers(route: Route, kind: Kind, given: Collection[Matcher]) -> bool:
    """Whether the route takes every alert of a kind for which the `given` matchers hold."""
    return _allows(route, kind) and all(any(_implies(one, wanted) for one in given) for wanted in _open(route))


def _implies(given: Matcher, wanted: Matcher) -> bool:
    if given == wanted:
        return True
    return given.label == wanted.label and given.operator == EQUAL and wanted.holds({given.label: given.value})


@cache
def _compiled(expression: str) -> re.Pattern[str]:
    return re.compile(expression)
