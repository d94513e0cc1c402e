"""Looks into the database for what an alert with some labels would meet on its way now."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Engine

from monitor.alerts.explain import Explained, explain
from monitor.alerts.names import ALL
from monitor.alerts.routes import Kind
from monitor.alerts.rule import labels
from monitor.alerts.stages import Tracked
from monitor.domain.alert import Alert, State, fingerprint
from monitor.domain.clock import Clock
from monitor.domain.silence import LABELS
from monitor.errors import LabelError
from monitor.tasks.alerting import Alerting


class Explain:
    """Explains alerts of one model. `kinds` are all alerts there are, each by name and severity."""

    def __init__(
        self, engine: Engine, alerting: Alerting, *, model: str, kinds: Collection[Kind], clock: Clock
    ) -> None:
        self._engine = engine
        self._alerting = alerting
        self._model = model
        self._kinds = kinds
        self._clock = clock

    def run(self, given: Mapping[str, str]) -> tuple[Tracked, list[Explained]]:
        """The alert that was looked at, an open one where there is one, and what each receiver would hear of it.

        Raises LabelError where a label is unknown, or an alert has no such name.
        """
        now = self._clock.now()
        if unknown := sorted(set(given) - set(LABELS)):
            raise LabelError(f"{', '.join(unknown)}: no labels of an alert; {', '.join(LABELS)} are")
        severities = dict(self._kinds)
        name, modality = given.get("alertname", ""), given.get("modality", ALL)
        if name and name not in severities:
            raise LabelError(f"there is no alert {name!r}; there are {', '.join(sorted(severities))}")
        series = fingerprint(name, labels(self._model, modality))
        with self._engine.connect() as connection:
            context = self._alerting.context(connection, now, now)
        known = next((one for one in context.alerts if one.alert.fingerprint == series and one.alert.is_open), None)
        firing = Alert(series, State.FIRING, now, now, breached_windows=1, firing_since=now)
        tracked = known or Tracked(
            0,
            name,
            given.get("severity", severities.get(name, "")),
            modality,
            firing,
            model_version=given.get("model_version", ""),
        )
        return tracked, explain(tracked, context)
