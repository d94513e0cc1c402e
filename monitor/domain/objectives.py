"""Which objectives there are, what they are held to by default, and those of a model with given modalities.

Fusion latency is that of the `fuse` stage alone, what follows the encoders, as `fusion_duration_seconds` measures it;
end to end is `total`, from reading a request to its answer. Both are counted at an edge of the stored histograms, so
exactly. Pages are for what a person must act on at once: a modality or latency. Agreement and refused messages are
tickets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from migrations.schema.totals import LATENCY_EDGES_MS
from monitor.domain.durations import parse
from monitor.domain.signals import PAGE, TICKET
from monitor.domain.slo import BurnRule, Slo

AVAILABILITY, FUSION, END_TO_END = "availability", "fusion_latency", "end_to_end_latency"
AGREEMENT, DEAD_LETTERS = "agreement", "dead_letters"
STAGES: Mapping[str, str] = {FUSION: "fuse", END_TO_END: "total"}  # of the totals' latencies


def _rule(factor: float, long: str, short: str, severity: str) -> BurnRule:
    return BurnRule(factor, parse(long), parse(short), severity)


# The workbook's table 5-8, and a page and a ticket of narrower windows, which tell sooner.
TICKETS = (
    _rule(2, "30m", "15m", TICKET),
    _rule(3, "1d", "2h", TICKET),
    _rule(1, "3d", "6h", TICKET),
)
ALL_ROWS = (_rule(14.4, "1h", "5m", PAGE), _rule(6, "6h", "30m", PAGE), _rule(5, "1h", "5m", PAGE), *TICKETS)


@dataclass(frozen=True, slots=True)
class Objective:
    """A target, what fires on missing it, and for a latency the milliseconds that a good event takes at most.

    Raises ValueError where `limit_ms` is no edge of the stored histograms.
    """

    target: float
    rules: tuple[BurnRule, ...] = ALL_ROWS
    limit_ms: int | None = None

    def __post_init__(self) -> None:
        if self.limit_ms is not None and self.limit_ms not in LATENCY_EDGES_MS:
            raise ValueError(f"latencies are counted at {list(LATENCY_EDGES_MS)} ms, not at {self.limit_ms}")


DEFAULTS: Mapping[str, Objective] = {
    AVAILABILITY: Objective(0.99),
    FUSION: Objective(0.95, limit_ms=50),
    END_TO_END: Objective(0.95, limit_ms=300),
    AGREEMENT: Objective(0.9, TICKETS),
    DEAD_LETTERS: Objective(0.999, TICKETS),
}


@dataclass(frozen=True, slots=True)
class Objectives:
    """Objectives by name; one that is left out is off. `availability.text` is that of one modality alone.

    Raises ValueError naming the objective where one cannot be held, a rule could never fire, or its name is unknown.
    """

    chosen: Mapping[str, Objective]

    def __post_init__(self) -> None:
        for name in self.chosen:
            kind, _, modality = name.partition(".")
            if kind not in DEFAULTS or bool(modality) != ("." in name) or (modality and kind != AVAILABILITY):
                raise ValueError(
                    f"unknown objective {name!r}; there are {sorted(DEFAULTS)}, and {AVAILABILITY}.<modality>"
                )
            try:
                _slo(kind, modality or "any", self.chosen[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

    @property
    def limits_ms(self) -> dict[str, int]:
        """Milliseconds by latency stage, of the latency objectives that are on."""
        return {
            stage: limit
            for name, stage in STAGES.items()
            if name in self.chosen and (limit := self.chosen[name].limit_ms) is not None
        }

    def of(self, modalities: Iterable[str]) -> tuple[Slo, ...]:
        """The objectives of a model that expects these modalities."""
        found = []
        for modality in modalities:
            objective = self.chosen.get(f"{AVAILABILITY}.{modality}", self.chosen.get(AVAILABILITY))
            if objective is not None:
                found.append(_slo(AVAILABILITY, modality, objective))
        others = [name for name in DEFAULTS if name in self.chosen and name != AVAILABILITY]
        return (*found, *(_slo(name, "", self.chosen[name]) for name in others))


def sli_of_modality(modality: str) -> str:
    """What is counted for a modality's availability."""
    return f"{AVAILABILITY}.{modality}"


def sli_of_latency(stage: str, limit_ms: int) -> str:
    """What is counted for a latency: another limit counts something else."""
    return f"latency.{stage}.{limit_ms}"


def _slo(kind: str, modality: str, objective: Objective) -> Slo:
    name, sli, of = kind, kind, kind
    if kind == AVAILABILITY:
        name, sli, of = f"{modality}_availability", sli_of_modality(modality), modality
    elif kind in STAGES:
        sli = sli_of_latency(STAGES[kind], objective.limit_ms or 0)
    subject, events, wrong = _words(kind, modality.replace("_", " "), objective.limit_ms)
    watched = kind in (AVAILABILITY, AGREEMENT)
    return Slo(name, sli, of, objective.target, objective.rules, subject, events, wrong, watched)


def _words(kind: str, modality: str, limit_ms: int | None) -> tuple[str, str, str]:
    match kind:
        case "availability":
            return f"{modality.capitalize()} availability", "requests", f"came without {modality}"
        case "fusion_latency":
            return "Fusion latency", "requests", f"took more than {limit_ms} ms to fuse"
        case "end_to_end_latency":
            return "End-to-end latency", "requests", f"took more than {limit_ms} ms"
        case "agreement":
            return "Cross-modal agreement", "answers", "had modalities that disagree"
        case _:
            return "Message acceptance", "messages", "were refused"
