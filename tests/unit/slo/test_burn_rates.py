"""Burn rates by hand and by their laws: what fires, what does not, and what cannot be said."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain import durations
from monitor.domain.finding import Verdict
from monitor.domain.objectives import ALL_ROWS, DEFAULTS, Objectives
from monitor.domain.signals import PAGE, TICKET
from monitor.domain.slo import BUDGET, BurnRule, Counts, Evidence, Slo, budget_left, burn_rate, judge, read, total
from monitor.domain.slo_report import report
from monitor.domain.slo_words import explain, times

H1, M5, H6 = (durations.parse(text) for text in ("1h", "5m", "6h"))
TEXT: Slo = Objectives(DEFAULTS).of(["text"])[0]
RULE = BurnRule(5, H1, M5, PAGE)
events = st.tuples(st.integers(0, 3000), st.integers(0, 3000)).map(lambda both: Counts(both[0], both[0] + both[1]))
RANK = {Verdict.OK: 0, Verdict.INSUFFICIENT: 1, Verdict.DRIFT: 2}


def windows(slo: Slo, default: Counts = Counts(), **given: Counts) -> dict[timedelta, Counts]:
    """Counts of every window of an objective: `default` but for those given, e.g. h1."""
    named = {durations.parse(name[1:] + name[0]): counts for name, counts in given.items()}
    return {length: named.get(length, default) for length in slo.windows}


def bad(n: int, of: int) -> Counts:
    return Counts(of - n, of)


@pytest.mark.parametrize(
    ("counts", "target", "rate", "left"),
    [
        (bad(96, 1200), 0.99, 8.0, -7.0),
        (bad(0, 10), 0.99, 0.0, 1.0),
        (bad(10, 10), 0.9, 10.0, -9.0),
        (bad(1, 4000), 0.999, 0.25, 0.75),
        (bad(5, 200), 0.95, 0.5, 0.5),
    ],
)
def test_a_burn_rate_is_the_bad_share_over_the_allowed_one(
    counts: Counts, target: float, rate: float, left: float
) -> None:
    assert burn_rate(counts, target) == pytest.approx(rate)
    assert budget_left(counts, target) == pytest.approx(left)


def test_without_events_there_is_no_rate_and_never_a_full_budget() -> None:
    assert burn_rate(Counts(), 0.99) is None
    assert budget_left(Counts(), 0.99) is None


def test_counts_that_cannot_be_are_refused() -> None:
    for good, valid in ((2, 1), (-1, 1)):
        with pytest.raises(ValueError, match="good events of"):
            Counts(good, valid)


@pytest.mark.parametrize(
    ("long", "short", "verdict"),
    [
        (bad(60, 1000), bad(6, 100), Verdict.DRIFT),
        (bad(50, 1000), bad(6, 100), Verdict.OK),  # five times exactly is not above five
        (bad(60, 1000), bad(5, 100), Verdict.OK),  # it is over
        (bad(9, 100), bad(9, 100), Verdict.INSUFFICIENT),  # nine bad ones
        (bad(10, 100), bad(10, 100), Verdict.DRIFT),
        (bad(50, 99), bad(50, 99), Verdict.INSUFFICIENT),  # 99 events
        (bad(0, 99), bad(0, 9), Verdict.INSUFFICIENT),  # too few to be called well
        (bad(60, 1000), Counts(), Verdict.INSUFFICIENT),  # nobody knows whether it goes on
        (bad(10, 1000), Counts(), Verdict.OK),
        (Counts(), Counts(), Verdict.NO_DATA),
    ],
)
def test_both_windows_and_enough_evidence_make_a_rule_fire(long: Counts, short: Counts, verdict: Verdict) -> None:
    assert read(RULE, 0.99, {H1: long, M5: short}, Evidence()).verdict is verdict


@given(st.lists(events, max_size=8), st.lists(events, max_size=8), st.data())
def test_any_split_of_the_slots_gives_the_same_verdict(
    long: list[Counts], short: list[Counts], data: st.DataObject
) -> None:
    def split(parts: list[Counts]) -> list[Counts]:
        cut = []
        for part in parts:
            good = data.draw(st.integers(0, part.good))
            rest = data.draw(st.integers(0, part.bad))
            cut += [Counts(good, good + rest), Counts(part.good - good, part.valid - good - rest)]
        return data.draw(st.permutations(cut))

    whole = windows(TEXT, total(long), m5=total(short), m15=total(short), m30=total(short))
    parts = windows(TEXT, total(split(long)), m5=total(split(short)), m15=total(split(short)), m30=total(split(short)))
    assert report(TEXT, whole, Evidence()) == report(TEXT, parts, Evidence())


@given(st.integers(1, 2000), st.integers(1, 200), st.data())
def test_more_bad_events_among_as_many_never_sound_better(long: int, short: int, data: st.DataObject) -> None:
    def both(n: int) -> tuple[int, int]:
        fewer = data.draw(st.integers(0, n))
        return fewer, data.draw(st.integers(fewer, n))

    (few, many), (few_short, many_short) = both(long), both(short)
    before = read(RULE, 0.99, {H1: bad(few, long), M5: bad(few_short, short)}, Evidence())
    after = read(RULE, 0.99, {H1: bad(many, long), M5: bad(many_short, short)}, Evidence())
    assert RANK[after.verdict] >= RANK[before.verdict]
    assert (burn_rate(after.long, 0.99) or 0) >= (burn_rate(before.long, 0.99) or 0)


@given(events, events)
def test_the_parts_of_a_budget_add(a: Counts, b: Counts) -> None:
    assert (a + b).bad == a.bad + b.bad
    both = burn_rate(a + b, 0.99)
    if a.valid and b.valid and both is not None:
        rates = [burn_rate(a, 0.99) or 0.0, burn_rate(b, 0.99) or 0.0]
        assert min(rates) - 1e-9 <= both <= max(rates) + 1e-9


def test_a_rule_fires_at_the_factor_that_its_words_name() -> None:
    """Of the pages for an hour and five minutes the larger factor is told, where it holds."""
    counts = windows(TEXT, bad(200, 1000))
    assert judge(TEXT, counts, Evidence(), PAGE).reading == read(ALL_ROWS[0], 0.99, counts, Evidence())
    counts = windows(TEXT, bad(80, 1000))
    chosen = judge(TEXT, counts, Evidence(), PAGE).reading
    assert chosen is not None
    assert chosen.rule.factor == 6


def test_the_sentence_names_counts_window_and_target() -> None:
    counts = windows(TEXT, bad(96, 1204), h6=Counts(6000, 6000))
    assert explain(TEXT, judge(TEXT, counts, Evidence(), PAGE), Counts()) == (
        "Text availability burns its 30-day budget 8 times too fast: "
        "96 of 1,204 requests in the last hour came without text (target 99%)."
    )


@pytest.mark.parametrize(
    ("rate", "text"), [(8.0, "8"), (7.97, "8"), (2.44, "2.4"), (14.6, "15"), (1.04, "1.04"), (1000, "1,000")]
)
def test_rates_are_told_in_few_digits(rate: float, text: str) -> None:
    assert times(rate) == text


def test_three_bad_events_of_twenty_fire_nothing() -> None:
    found = report(TEXT, windows(TEXT, bad(3, 20)), Evidence())
    assert found.firing is None
    assert found.whole.verdict is Verdict.INSUFFICIENT
    assert not found.whole.settled, "they burn, on too little evidence to say so"
    assert "cannot be judged on so little: 3 of 20" in found.state()["text"]


@pytest.mark.parametrize(
    ("six_hours", "verdict"),
    [
        (bad(10, 40), Verdict.DRIFT),
        (bad(9, 40), Verdict.INSUFFICIENT),
        (bad(10, 10), Verdict.DRIFT),
        (bad(99, 99), Verdict.DRIFT),
    ],
)
def test_at_low_traffic_an_absolute_count_is_a_ticket_and_no_page(six_hours: Counts, verdict: Verdict) -> None:
    counts = windows(TEXT, six_hours)
    assert judge(TEXT, counts, Evidence(), TICKET).verdict is verdict
    assert judge(TEXT, counts, Evidence(), PAGE).verdict is Verdict.INSUFFICIENT
    words = report(TEXT, counts, Evidence()).state()["text"]
    assert ("fails at low traffic" in words) == (verdict is Verdict.DRIFT)


def test_ten_bad_events_within_what_the_target_allows_are_no_ticket() -> None:
    agreement = next(slo for slo in Objectives(DEFAULTS).of([]) if slo.name == "agreement")
    evidence = Evidence(min_events=200)
    assert judge(agreement, windows(agreement, bad(10, 150)), evidence, TICKET).verdict is Verdict.INSUFFICIENT
    assert judge(agreement, windows(agreement, bad(16, 150)), evidence, TICKET).verdict is Verdict.DRIFT


def test_few_events_of_which_none_is_bad_settle_what_fired() -> None:
    found = report(TEXT, windows(TEXT, Counts(20, 20)), Evidence())
    assert (found.whole.verdict, found.whole.settled) == (Verdict.INSUFFICIENT, True)
    silent = report(TEXT, windows(TEXT), Evidence())
    assert (silent.whole.verdict, silent.whole.settled) == (Verdict.NO_DATA, False)


def test_a_stream_that_stops_in_an_outage_does_not_settle_it() -> None:
    counts = windows(TEXT, bad(500, 1000), m5=Counts(), m15=Counts(), m30=Counts())
    found = judge(TEXT, counts, Evidence(), PAGE)
    assert (found.verdict, found.settled) == (Verdict.INSUFFICIENT, False)


def test_where_the_newest_window_is_empty_longer_ones_do_not_settle_it() -> None:
    counts = windows(TEXT, Counts(1000, 1000), m5=Counts(), m15=Counts(), m30=Counts(), h1=Counts())
    for found in (judge(TEXT, counts, Evidence(), PAGE), judge(TEXT, counts, Evidence())):
        assert (found.verdict, found.settled) == (Verdict.NO_DATA, False)


def test_budgets_are_read_over_thirty_days() -> None:
    counts: Mapping[timedelta, Counts] = {**windows(TEXT, Counts(1000, 1000)), BUDGET: bad(25, 10_000)}
    assert report(TEXT, counts, Evidence()).state()["budget_left"] == pytest.approx(0.75)
