"""Labels: whatever order they come in, and however often, a request ends with the same one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, delete, select

from demo import servers
from inference.feedback import SOURCES, Label, parse, store
from inference.hashing import Hasher
from inference.record import Record
from migrations.schema.prediction_log import consumer_offsets, dead_letters, labels
from monitor.storage.labels import count_by_class, labelled
from tests.support.observing import SECONDS, Observer, label, observation, observing, send_all
from tests.support.worker import producer, wait_until
from tests.unit.inference.messages import record

Send = Callable[..., None]
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture(scope="module")
def engine(postgres_server: servers.Database) -> Iterator[Engine]:
    engine = create_engine(postgres_server.create("label_tests", template="template"))
    yield engine
    engine.dispose()
    postgres_server.drop("label_tests")


def stored(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return {row.request_id: row for row in connection.execute(select(labels))}


def made(request_id: str = "r1", **changes: Any) -> Label:
    plain = Label(request_id, "yes", NOW, "human_review", None, None, None)
    return replace(plain, **changes)


def stored_after(engine: Engine, batches: Sequence[Sequence[Label]]) -> dict[str, Any]:
    """What a fresh table holds after these transactions, without the time of receipt."""
    with engine.begin() as connection:
        connection.execute(delete(labels))
    for number, batch in enumerate(batches):
        with engine.begin() as connection:
            store(connection, batch, NOW + timedelta(seconds=number))
    rows = stored(engine)
    return {
        name: (row.label, row.labelled_at, row.source, row.verdict, row.sampling_probability)
        for name, row in rows.items()
    }


_LABELS = st.builds(
    made,
    request_id=st.sampled_from(["r1", "r2"]),
    label=st.sampled_from(["yes", "no", "é", "Z", "z"]),
    labelled_at=st.sampled_from([NOW, LATER]),
    source=st.sampled_from(SOURCES),
    verdict=st.sampled_from([None, "correct", "Correct"]),
    annotator_digest=st.sampled_from([None, b"\x01", b"\xff"]),
    sampling_probability=st.sampled_from([None, 0.25, 1.0]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_LABELS, min_size=1, max_size=8), st.randoms(use_true_random=False), st.data())
def test_every_order_batching_and_repetition_ends_the_same(
    engine: Engine, given_labels: list[Label], random: Any, data: st.DataObject
) -> None:
    expected = stored_after(engine, [given_labels])
    again = [*given_labels, *data.draw(st.lists(st.sampled_from(given_labels), max_size=4))]
    random.shuffle(again)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(again)), max_size=3)))
    batches = [again[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(again)])]
    assert stored_after(engine, batches) == expected


@pytest.mark.parametrize(
    ("loser", "winner"),
    [
        ({"labelled_at": NOW, "source": "ground_truth"}, {"labelled_at": LATER, "source": "user"}),
        ({"source": "human_review"}, {"source": "ground_truth"}),
        ({"source": "user"}, {"source": "human_review"}),
        ({"label": "no"}, {"label": "yes"}),
        ({"label": "Z"}, {"label": "a"}),  # by code points, whatever the database's collation
        ({"verdict": None}, {"verdict": "correct"}),
        ({"sampling_probability": None}, {"sampling_probability": 0.5}),
        ({"sampling_probability": 0.25}, {"sampling_probability": 0.5}),
    ],
)
def test_which_of_two_labels_wins(engine: Engine, loser: dict[str, Any], winner: dict[str, Any]) -> None:
    for order in ([loser, winner], [winner, loser]):
        one_by_one = stored_after(engine, [[made(**each)] for each in order])
        assert one_by_one == stored_after(engine, [[made(**each) for each in order]])
        kept = made(**winner)
        assert one_by_one == {
            "r1": (kept.label, kept.labelled_at, kept.source, kept.verdict, kept.sampling_probability)
        }


def test_a_repeated_label_is_not_received_anew(engine: Engine) -> None:
    """Windows of labels go by the time of receipt: a redelivery must not put old labels into new windows."""
    stored_after(engine, [[made()], [made()], [made(labelled_at=NOW - timedelta(days=1))]])
    assert stored(engine)["r1"].received_at == NOW
    stored_after(engine, [[made()], [made(label="no", labelled_at=LATER)]])
    assert stored(engine)["r1"].received_at == NOW + timedelta(seconds=1)


HASHER = Hasher("k1", b"k" * 32)


def at(when: datetime) -> Record:
    return record(label("r1", "yes", when))


def test_a_probability_is_kept_as_the_message_says_it(engine: Engine) -> None:
    """Also one that single precision cannot hold: redelivered, it is still the same label."""
    parsed = parse(record(label("r1", "yes", NOW, sampling_probability=0.1)), HASHER)
    assert isinstance(parsed, Label)
    stored_after(engine, [[parsed], [parsed]])
    row = stored(engine)["r1"]
    assert row.sampling_probability == pytest.approx(0.1, rel=1e-6)
    assert row.received_at == NOW


def test_a_label_of_the_future_is_refused_for_it_would_win_for_ever() -> None:
    assert isinstance(parse(at(NOW + timedelta(minutes=5)), HASHER), Label)
    refusal = parse(at(NOW + timedelta(minutes=5, seconds=1)), HASHER)
    assert getattr(refusal, "code", None) == "labelled_in_future"
    assert isinstance(parse(at(NOW - timedelta(days=3650)), HASHER), Label)


@pytest.fixture(scope="module")
def observer(engine: Engine, broker: str) -> Observer:
    return Observer("labels", engine.url.render_as_string(hide_password=False), broker)


@pytest.fixture(scope="module")
def send(broker: str) -> Iterator[Send]:
    with producer(broker) as send:
        yield send


def next_offsets(engine: Engine, observer: Observer) -> int:
    """How many labels of the topic are dealt with."""
    table = consumer_offsets.c
    with engine.connect() as connection:
        found = connection.scalars(
            select(table.next_offset).where(
                table.group_id == f"{observer.group}-labels", table.topic == observer.topics["labels"]
            )
        )
        return sum(found)


def test_labels_late_early_twice_by_the_thousand_through_restarts_and_a_replay(
    engine: Engine, observer: Observer, broker: str, send: Send
) -> None:
    with engine.begin() as connection:
        connection.execute(delete(labels))
    topic, today = observer.topics["labels"], datetime.now(UTC)
    hours = [today - timedelta(hours=hour) for hour in range(4)]
    with observing(observer):
        # before its request, late, out of order, twice, and one that no clock allows
        send(topic, label("early", "yes", hours[1], annotator="ann@example.org"), partition=0)
        send(topic, label("late", "older", hours[2]), partition=0)
        send(topic, label("late", "newest", hours[1]), partition=1)
        send(topic, label("late", "oldest", hours[3]), partition=0)
        send(topic, label("late", "newest", hours[1]), partition=1)
        send(topic, label("late", "from tomorrow", today + timedelta(days=1)), partition=0)
        send(topic, b"junk", partition=0)
        wait_until(lambda: next_offsets(engine, observer) == 7, SECONDS, "the labels were not read")
    found = stored(engine)
    assert {name: row.label for name, row in found.items()} == {"early": "yes", "late": "newest"}
    assert (found["early"].key_id, len(found["early"].annotator_digest)) == ("k1", 32)
    with engine.connect() as connection:
        codes = connection.scalars(select(dead_letters.c.error_code).where(dead_letters.c.topic == topic)).all()
    assert sorted(codes) == ["labelled_in_future", "not_decodable"]

    many = [label(f"r{n:04}", "yes" if n % 2 else "no", hours[1]) for n in range(1200)]
    send_all(broker, topic, many)  # while nobody reads
    with observing(observer):
        wait_until(lambda: next_offsets(engine, observer) == 1207, SECONDS, "the restarted reader did not go on")
        assert {name: row.label for name, row in stored(engine).items()} == {
            "early": "yes",
            "late": "newest",
            **{each["request_id"]: each["label"] for each in many},
        }
        assert labelled_now(engine, today) == 0
        send(observer.topics["observations"], observation("early", probabilities={"no": 0.1, "yes": 0.9}))
        send_all(broker, observer.topics["observations"], [observation(each["request_id"]) for each in many[:300]])
        wait_until(lambda: labelled_now(engine, today) == 301, SECONDS, "labels did not meet their requests")
        with engine.connect() as connection:
            by_class = count_by_class(connection, "2026-02", ("no", "yes"), today - timedelta(hours=1))
        assert by_class == {"no": 150, "yes": 151}

    before = stored(engine)
    with engine.begin() as connection:  # the group is set back to the beginning
        connection.execute(delete(consumer_offsets).where(consumer_offsets.c.topic == topic))
    with observing(observer):
        wait_until(lambda: next_offsets(engine, observer) == 1207, SECONDS, "the replay was not read")
    assert stored(engine) == before


def labelled_now(engine: Engine, since: datetime) -> int:
    """Answers that the monitor can judge by a label."""
    start, end = since - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)
    with engine.connect() as connection:
        return len(labelled(connection, "2026-02", start=start, end=end, limit=10_000).correct)
