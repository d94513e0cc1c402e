"""The audit log's chain as a function of its rows: whatever is taken out, changed or put in another order shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.schema.audit_chain import GENESIS, row_digest
from monitor.domain.audit import TOLD_ONE_BY_ONE, Checked, Head, Link, Reader, check, unusual

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_FIELDS = st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=6)] * 6)
_ROWS = st.lists(_FIELDS, min_size=1, max_size=8)


def chained(rows: list[tuple[str, ...]]) -> list[Link]:
    """The rows as a log holds them."""
    links, previous = [], GENESIS
    for number, fields in enumerate(rows, 1):
        digest = row_digest(previous, str(number), *fields)
        links.append(Link(number, 100 + number, previous, digest, fields))
        previous = digest
    return links


def head_of(links: list[Link]) -> Head:
    return Head(links[-1].number, links[-1].digest)


@given(_ROWS)
def test_a_log_that_nobody_touched_holds(rows: list[tuple[str, ...]]) -> None:
    links = chained(rows)
    assert check(links, head_of(links)) == Checked(len(rows), head_of(links), ())
    for seen in [Head(0, GENESIS), *(Head(link.number, link.digest) for link in links)]:
        assert check(links, head_of(links), seen).breaks == (), "every earlier head is on the way"


@given(_ROWS, st.data())
def test_any_row_taken_out_shows(rows: list[tuple[str, ...]], data: st.DataObject) -> None:
    links = chained(rows)
    head = head_of(links)
    gone = data.draw(st.sets(st.sampled_from(range(len(links))), min_size=1))
    left = [link for place, link in enumerate(links) if place not in gone]
    assert any("missing" in each for each in check(left, head).breaks)


@given(_ROWS, _FIELDS, st.data())
def test_any_field_that_was_changed_shows(
    rows: list[tuple[str, ...]], other: tuple[str, ...], data: st.DataObject
) -> None:
    links = chained(rows)
    place = data.draw(st.sampled_from(range(len(links))))
    column = data.draw(st.integers(0, len(other) - 1))
    fields = list(links[place].fields)
    fields[column] += other[column] + "!"
    changed = [*links[:place], replace(links[place], fields=tuple(fields)), *links[place + 1 :]]
    assert check(changed, head_of(links)).breaks == (f"row {place + 1} (audit_id {101 + place}) was changed",)


def test_moving_text_from_one_field_to_the_next_is_another_row() -> None:
    assert row_digest(GENESIS, "ab", "c") != row_digest(GENESIS, "a", "bc")


@given(_ROWS, _ROWS)
def test_a_log_linked_anew_shows_by_a_head_seen_earlier(
    rows: list[tuple[str, ...]], other: list[tuple[str, ...]]
) -> None:
    links, anew = chained(rows), chained([*other, ("written", "anew", "", "", "", "")])
    assert check(anew, head_of(anew)).breaks == (), "by itself it cannot be told"
    seen = head_of(links)
    met = any(Head(link.number, link.digest) == seen for link in anew)
    assert bool(check(anew, head_of(anew), seen).breaks) != met


def test_a_row_of_another_place_does_not_continue_the_one_before() -> None:
    links = chained([("a",) * 6, ("b",) * 6])
    elsewhere = replace(links[1], previous=b"\x01" * 32)
    assert check([links[0], elsewhere], head_of(links)).breaks[0] == "row 2 does not continue row 1"
    assert check([links[0], links[0]], Head(1, links[0].digest)).breaks == ("row 1 does not continue row 1",)


def test_a_head_that_is_gone_or_of_another_row_shows() -> None:
    links = chained([("a",) * 6])
    assert check(links, None).breaks == ("the note of the newest row is gone from audit_head",)
    assert check(links, Head(1, GENESIS)).breaks == ("audit_head names row 1, which is not row 1 as it stands",)
    assert check([], Head(3, GENESIS)).breaks == ("rows 1 to 3 are missing",)


def test_what_is_told_of_a_log_in_ruins_has_a_bound() -> None:
    links = [replace(link, fields=("x",) * 6) for link in chained([("a",) * 6] * 100)]
    found = check(links, head_of(links)).breaks
    assert len(found) == TOLD_ONE_BY_ONE + 1
    assert found[-1] == "and 80 more"


def test_a_head_is_read_as_it_is_told() -> None:
    head = Head(12, bytes(range(32)))
    assert Head.parse(str(head)) == head


@pytest.mark.parametrize("wrong", ["", "12", "12:ab", "-1:" + "00" * 32, "²:" + "00" * 32, "1:" + "zz" * 32])
def test_what_is_no_head_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"no head|non-hexadecimal"):
        Head.parse(wrong)


def reader(actor: str, reads: int = 1, *, login: str = "alice", known: bool = True) -> Reader:
    return Reader(login, actor, reads, known, NOW)


def test_reads_within_the_limit_by_known_readers_are_usual() -> None:
    assert unusual([], 0) == []
    assert unusual([reader("ann", 3), reader("bob", 2)], 5) == []


def test_many_reads_count_by_login_whatever_names_are_given() -> None:
    assert unusual([reader("ann", 3), reader("bob", 3), reader("eve", 1, login="carl")], 5) == [
        "Login alice (ann, bob) read embeddings 6 times in an hour; 5 are usual"
    ]


def test_a_first_read_is_unusual_however_few() -> None:
    assert unusual([reader("ann"), reader("eve", known=False)], 5) == [
        "eve read embeddings through login alice for the first time"
    ]
