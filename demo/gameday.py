"""Game day: a seeded series of faults of every class, and of each whether it was noticed, and what it cost."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from demo.faults import FAULTS, Fault
from demo.ground import Ground
from demo.ledger import Totals
from demo.receiver import Notification
from monitor.tasks.leader import LONGEST_PAUSE

# A monitor that is stopped in the middle of a transaction holds up its successor until the server ends that.
NOTICE_SECONDS = LONGEST_PAUSE.total_seconds() + 30
RECOVER_SECONDS = 180.0
AFTERWARDS = timedelta(seconds=60)
"""Messages about a fault may follow its end by so long: until a window without it has passed."""


@dataclass(slots=True)
class Played:
    """One fault and what became of it. Seconds count from its beginning, those of the recovery from its end."""

    kind: str
    title: str
    began: datetime
    noticed_by: str
    noticed_after: float | None = None
    ended: datetime | None = None
    recovered_after: float | None = None

    @property
    def met(self) -> bool:
        """Whether it was noticed, and gone soon after its cause was."""
        return self.noticed_after is not None and self.recovered_after is not None


@dataclass(frozen=True, slots=True)
class GameDay:
    """The whole day. `false_pages` are messages that no fault explains."""

    seed: int
    played: Sequence[Played]
    totals: Totals
    false_pages: Sequence[str]

    @property
    def met(self) -> bool:
        """Whether every fault was noticed and survived, nothing was lost or doubled, and nobody was told of nothing."""
        kept = self.totals.lost == 0 and self.totals.duplicated == 0
        return all(each.met for each in self.played) and kept and not self.false_pages

    def to_json(self) -> dict[str, Any]:
        """As it is written to a file."""
        return {**asdict(self), "passed": self.met}


def schedule(seed: int, rounds: int = 1, faults: Sequence[Fault] = FAULTS) -> list[tuple[Fault, float, float]]:
    """Every fault `rounds` times in an order of chance, with seconds of quiet before it and seconds that it lasts."""
    rng = random.Random(seed)
    drawn = [fault for _ in range(rounds) for fault in rng.sample(faults, len(faults))]
    return [(fault, rng.uniform(4, 12), rng.uniform(*fault.lasts)) for fault in drawn]


def play(ground: Ground, plan: Sequence[tuple[Fault, float, float]]) -> list[Played]:
    """Inject every fault in its turn and watch it to its end."""
    played = []
    for number, (fault, quiet, seconds) in enumerate(plan, 1):
        ground.number = number
        ground.hold(quiet, "quiet")
        ground.view.begin(number)
        found = _play(ground, fault, seconds)
        ground.view.end(number, met=found.met)
        _say(ground, found)
        played.append(found)
    return played


def _play(ground: Ground, fault: Fault, seconds: float) -> Played:
    found = Played(fault.kind, fault.title, datetime.now(UTC), fault.noticed_by)
    began = time.monotonic()

    with fault.inject(ground) as sign:

        def look() -> None:
            told = _told(ground, fault, "firing", found.began)
            if found.noticed_after is None and (sign(ground) or told):
                found.noticed_after = time.monotonic() - began
                found.noticed_by = ", ".join(sorted(told)) or fault.noticed_by

        ground.hold(seconds, fault.title, look)

        def noticed() -> bool:
            look()
            return found.noticed_after is not None

        ground.await_("not noticed yet", noticed, NOTICE_SECONDS)
    ended, sent = time.monotonic(), ground.traffic.messages
    found.ended = datetime.now(UTC)
    if ground.await_("recovering", lambda: _recovered(ground, fault, found, sent), RECOVER_SECONDS):
        found.recovered_after = time.monotonic() - ended
    return found


def _recovered(ground: Ground, fault: Fault, found: Played, sent: int) -> bool:
    """Whether all that was told of it is over, and whatever was sent meanwhile is logged."""
    fired, resolved = (_told(ground, fault, state, found.began) for state in ("firing", "resolved"))
    over = fired == resolved and bool(fired or not fault.alerts)
    return over and ground.caught_up(sent)


def _told(ground: Ground, fault: Fault, state: str, since: datetime) -> set[str]:
    """The fault's alerts of which messages of that state have come since then."""
    return {
        told.body["alertname"]
        for told in list(ground.deployment.receiver.notifications)
        if told.body["alertname"] in fault.alerts
        and told.body["state"] == state
        and fault.modality in (None, told.body["modality"])
        and told.received_at >= since
    }


def false_pages(
    notifications: Sequence[Notification], plan: Sequence[tuple[Fault, float, float]], played: Sequence[Played]
) -> list[str]:
    """Messages of what fires that no fault of its time explains."""
    unexplained = []
    for told in notifications:
        name, modality = told.body["alertname"], told.body["modality"]
        explained = any(
            (name in fault.alerts and fault.modality in (None, modality)) or name in fault.true_as_well
            for (fault, _, _), found in zip(plan, played, strict=True)
            if found.began <= told.received_at <= (found.ended or told.received_at) + AFTERWARDS
        )
        if told.body["state"] == "firing" and not explained:
            unexplained.append(f"{told.received_at:%H:%M:%S} {told.body['severity']} {name} ({modality})")
    return unexplained


def _say(ground: Ground, found: Played) -> None:
    noticed = "not noticed" if found.noticed_after is None else f"noticed after {found.noticed_after:.0f} s"
    over = (
        "not recovered" if found.recovered_after is None else f"recovered {found.recovered_after:.0f} s after its end"
    )
    ground.view.say(f"{found.kind} {found.title}: {noticed} ({found.noticed_by}), {over}", "" if found.met else "red")
