"""Settings of objectives: what `FUSIONWATCH_SLOS` may say, and the objectives that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from monitor.domain import durations
from monitor.domain.objectives import AVAILABILITY, DEFAULTS, STAGES, Objective, Objectives
from monitor.domain.slo import BurnRule


def _length(text: str) -> str:
    durations.parse(text)
    return text


Length = Annotated[str, AfterValidator(_length)]


class RuleSettings(BaseModel):
    """A rule, e.g. `{"factor": 5, "long": "1h", "short": "5m", "severity": "page"}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: float = Field(gt=0)
    long: Length
    short: Length
    severity: Literal["page", "ticket"]

    def rule(self) -> BurnRule:
        """The rule. Raises ValueError where its windows do not fit together."""
        return BurnRule(self.factor, durations.parse(self.long), durations.parse(self.short), self.severity)


class SloSettings(BaseModel):
    """What differs from an objective's defaults; `rules` replace all of its rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: float | None = None
    limit_ms: int | None = None
    rules: tuple[RuleSettings, ...] | None = None


def objectives(changes: Mapping[str, SloSettings | None]) -> Objectives:
    """The default objectives with these changes; None switches one off.

    Raises ValueError naming the objective that is unknown, cannot be held, or has a rule that could never fire.
    """
    chosen = dict(DEFAULTS)
    for name, given in changes.items():
        if given is None:
            chosen.pop(name, None)
            if name not in DEFAULTS:
                raise ValueError(f"{name} cannot be switched off; there are {sorted(DEFAULTS)}")
            continue
        before = chosen.get(name) or chosen.get(name.partition(".")[0]) or DEFAULTS.get(AVAILABILITY, Objective(0.99))
        chosen[name] = _changed(name, before, given)
    return Objectives(chosen)


def _changed(name: str, before: Objective, given: SloSettings) -> Objective:
    if given.limit_ms is not None and name not in STAGES:
        raise ValueError(f"{name}: limit_ms is for {sorted(STAGES)}")
    try:
        return replace(
            before,
            target=before.target if given.target is None else given.target,
            limit_ms=before.limit_ms if given.limit_ms is None else given.limit_ms,
            rules=before.rules if given.rules is None else tuple(each.rule() for each in given.rules),
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
