"""The judgement of the windows that end at one moment: from what is kept of them to findings, nothing written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from migrations.schema.bins import BinsError
from monitor.alerts.names import BASELINE
from monitor.detectors.base import Takes, catalogue, evaluate
from monitor.domain.attribution import Source
from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import FUSED, Evidence, IncomparableError, Reference, Window
from monitor.storage import findings, late_labels, sources
from monitor.storage.models import ModelVersion
from monitor.tasks import watches
from monitor.tasks.attribute import Observed, observed
from monitor.tasks.late import INPUTS, LABELS, Late
from monitor.tasks.stored import Place, Stored
from monitor.tasks.windows import Windows

AVAILABILITY = "availability"
BY_ANSWERS = "by_answers"  # the detail of a finding about all that is known of a window's own answers


class Judgement:
    """Runs the detectors that are switched on over the windows that end at one moment."""

    def __init__(
        self, model: str, detectors: Sequence[str], options: Mapping[str, Mapping[str, Any]], windows: Windows
    ) -> None:
        self._model = model
        self._detectors = tuple(detectors)
        self._options = options
        self._windows = windows

    def findings(self, connection: Connection, champion: ModelVersion, end: datetime) -> list[Finding]:
        """All findings of the windows that end then, out of the database, as `observe` and `completed` make them."""
        return self._completed(connection, champion, end, self.observe(Stored(connection), champion, end))

    def again(self, connection: Connection, champion: ModelVersion, late: Late) -> list[Finding]:
        """What data or labels that came late say of the windows that end then, and of what they were judged by."""
        found: list[Finding] = []
        about = late.before
        if late.data:
            seen = self.observe(Stored(connection), champion, late.end, again=True)
            *found, about = self._completed(connection, champion, late.end, seen)
            about = replace(about, details={**late.before.details, **about.details})
        if late.labels:
            *by_labels, about = self._by_answers(connection, champion, late.end, about)
            found += by_labels
        return [*found, about]

    def _by_answers(
        self, connection: Connection, champion: ModelVersion, end: datetime, about: Finding
    ) -> list[Finding]:
        """What is known by now of the answers of the window that labels have, and what that is."""
        place, window = Stored(connection), self._label_window(end)
        changes = place.label_changes(window, champion.version)
        labelled = late_labels.labelled(connection, champion.version, window, self._windows.label_limit)
        reference = place.reference(champion.version, self._hour(end))
        found = self._run(self._label_detectors(), reference, Evidence({}, labelled), window, champion)
        told = [replace(one, details={**one.details, BY_ANSWERS: True}) for one in found]
        about = replace(about, details={**about.details, LABELS: changes})
        return self._completed(connection, champion, end, Observed(window, told, about, None, {}))

    def _completed(
        self, connection: Connection, champion: ModelVersion, end: datetime, seen: Observed
    ) -> list[Finding]:
        def producers(window: Window, modality: str, statistic: str, baseline: float) -> tuple[Source, ...]:
            return sources.shares(connection, window, modality, statistic, baseline=baseline)

        return seen.completed(lambda: findings.latest(connection, self._model, champion.version, end), producers)

    def observe(self, place: Place, champion: ModelVersion, end: datetime, *, again: bool = False) -> Observed:
        """What the windows that end then say by themselves, and whether there is a baseline to compare with.

        `again`: the windows were judged before, and what is judged by labels, which have a window of their own, is not.
        """
        window = Window(end - self._windows.window, end)
        read: dict[str, Any] = {INPUTS: place.inputs(window)}
        lately = Window(end - self._windows.availability, end)
        expected = champion.modalities
        reference = place.reference(champion.version, self._hour(end))
        problem = None if reference else f"{champion.version} brought no baseline."
        counts = Evidence(place.counts(lately, expected))
        found = self._run((AVAILABILITY,), reference, counts, lately, champion)
        by_labels = self._label_detectors()
        if not again:
            if changes := place.label_changes(self._label_window(end), champion.version):
                read[LABELS] = changes
            found += self._by_labels(place, by_labels, reference, end, champion)
        others = [name for name in self._detectors if name not in (*by_labels, AVAILABILITY)]
        try:
            evidence = Evidence(place.summaries(window, champion.version, (*expected, FUSED)))
        except (IncomparableError, BinsError) as error:
            evidence, problem = Evidence({}), str(error)
        for name in others:
            try:
                found += self._run((name,), reference, evidence, window, champion)
            except IncomparableError as error:  # it must not keep the other detectors from judging
                problem = str(error)
        about = self._about_baseline(problem, window, champion, reference, read)
        return observed(found, about, window, reference, evidence)

    def _label_detectors(self) -> list[str]:
        return [name for name in self._detectors if catalogue()[name].takes is Takes.LABELS]

    def _label_window(self, end: datetime) -> Window:
        return Window(end - self._windows.labels, end)

    def _hour(self, end: datetime) -> int:
        """The hour of day that the window's middle is in."""
        return (end - self._windows.window / 2).astimezone(UTC).hour

    def _by_labels(
        self, place: Place, names: Sequence[str], reference: Reference | None, end: datetime, champion: ModelVersion
    ) -> list[Finding]:
        window = self._label_window(end)
        labelled = place.labelled(window, champion.version, self._windows.label_limit)
        return self._run(names, reference, Evidence({}, labelled), window, champion)

    def _run(
        self,
        names: Sequence[str],
        reference: Reference | None,
        evidence: Evidence,
        window: Window,
        champion: ModelVersion,
    ) -> list[Finding]:
        chosen = tuple(name for name in names if name in self._detectors)
        return evaluate(
            reference,
            evidence,
            window=window,
            model_version=champion.version,
            detectors=chosen,
            options=self._options,
        )

    def _about_baseline(
        self,
        problem: str | None,
        window: Window,
        champion: ModelVersion,
        reference: Reference | None,
        read: Mapping[str, Any],
    ) -> Finding:
        verdict = Verdict.NO_BASELINE if problem else Verdict.OK
        explanation = problem or f"{champion.version} is compared with its own baseline."
        baseline_id = None if reference is None else reference.baseline_id
        return watches.plain(
            BASELINE,
            window,
            verdict,
            champion.version,
            explanation,
            baseline_id=baseline_id,
            details=read,
        )
