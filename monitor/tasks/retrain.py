"""Retraining at its two ends: what was trained is judged, the next decided on. `monitor.tasks.jobs` has the rest."""

from __future__ import annotations

from monitor.tasks.candidates import Candidates
from monitor.tasks.policy import Policy


class Retrain:
    """The task. Each step is one transaction; the jobs table's constraints make every effect happen once."""

    def __init__(self, candidates: Candidates, policy: Policy) -> None:
        self._candidates = candidates
        self._policy = policy

    def run(self) -> None:
        """Judge, decide."""
        self._candidates.run()
        self._policy.run()

    def request(self, reason: str, actor: str) -> int:
        """Queue a job because a person asks for it; raises as `Policy.request` does."""
        return self._policy.request(reason, actor)
