"""What the audit log says of itself: whether its chain holds, and whether embeddings are read as they used to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from migrations.schema.audit_chain import GENESIS, row_digest

TOLD_ONE_BY_ONE = 20  # what else is wrong with a chain is counted
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Head:
    """The number and the digest (32 bytes) of a row of the chain; number 0 is the start, before any row."""

    number: int
    digest: bytes

    def __str__(self) -> str:
        """As it is told and taken: `NUMBER:HEXADECIMAL`."""
        return f"{self.number}:{self.digest.hex()}"

    @classmethod
    def parse(cls, written: str) -> Head:
        """From `NUMBER:HEXADECIMAL`. Raises ValueError on anything else."""
        number, _, digest = written.partition(":")
        if not number.isascii() or not number.isdigit() or len(digest) != 2 * len(GENESIS):
            raise ValueError(f"{written!r} is no head; `audit verify` prints one as NUMBER:64 HEXADECIMAL DIGITS")
        return cls(int(number), bytes.fromhex(digest))


@dataclass(frozen=True, slots=True)
class Link:
    """A row of the log as the chain sees it; `fields` are those that its digest covers after the number, as text."""

    number: int
    audit_id: int
    previous: bytes
    digest: bytes
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found: rows looked at, the last of them, and each break in words; no break means that the log holds."""

    rows: int
    last: Head
    breaks: tuple[str, ...]


def check(links: Iterable[Link], head: Head | None, seen: Head | None = None) -> Checked:
    """Follow the chain over rows in order of their numbers.

    `head` is what the database keeps of the newest row, None where that is gone. `seen` is one that was noted earlier
    and elsewhere: a log that was linked anew as a whole does not lead to it.
    """
    breaks: list[str] = []
    last, rows, met = Head(0, GENESIS), 0, seen is None or seen == Head(0, GENESIS)
    for link in links:
        rows += 1
        if link.number > last.number + 1:
            breaks.append(_missing(last.number + 1, link.number - 1))
        elif link.number <= last.number or link.previous != last.digest:
            breaks.append(f"row {link.number} does not continue row {last.number}")
        if row_digest(link.previous, str(link.number), *link.fields) != link.digest:
            breaks.append(f"row {link.number} (audit_id {link.audit_id}) was changed")
        last = Head(link.number, link.digest)
        met = met or last == seen
    if head is None:
        breaks.append("the note of the newest row is gone from audit_head")
    elif head.number > last.number:
        breaks.append(_missing(last.number + 1, head.number))
    elif head != last:
        breaks.append(f"audit_head names row {head.number}, which is not row {last.number} as it stands")
    if not met and seen is not None:
        breaks.append(f"row {seen.number} is not the one that was seen earlier: the log was cut or written anew")
    if (more := len(breaks) - TOLD_ONE_BY_ONE) > 0:
        breaks = [*breaks[:TOLD_ONE_BY_ONE], f"and {more} more"]
    return Checked(rows, last, tuple(breaks))


def _missing(first: int, last: int) -> str:
    return f"row {first} is missing" if first == last else f"rows {first} to {last} are missing"


@dataclass(frozen=True, slots=True)
class Reader:
    """Who read embeddings within an hour, how often, and whether ever before; `login` is what the server knows."""

    login: str
    actor: str
    reads: int
    known: bool
    newest: datetime


def unusual(readers: Sequence[Reader], limit: int) -> list[str]:
    """Reads to look into, in words: more than `limit` in an hour by one login, or any by who never read before."""
    told = []
    for login in sorted({each.login for each in readers}):
        mine = [each for each in readers if each.login == login]
        total = sum(each.reads for each in mine)
        if total > limit:
            names = ", ".join(sorted({each.actor for each in mine}))
            told.append(f"Login {login} ({names}) read embeddings {total} times in an hour; {limit} are usual")
        told += [
            f"{each.actor} read embeddings through login {login} for the first time"
            for each in sorted(mine, key=lambda one: one.actor)
            if not each.known
        ]
    return told
