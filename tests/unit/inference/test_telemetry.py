"""Figures added in bulk are those that prometheus_client would have added one by one."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from inference import telemetry
from inference.telemetry import BulkHistogram, Cost, Metrics

EDGES = (0.05, 0.25, 0.3, 1.0, 4.0)
# sums of multiples of 1/1024 are exact in any order; the edges themselves are what a wrong side would show
VALUES = st.lists(st.one_of(st.integers(-64, 8192).map(lambda n: n / 1024), st.sampled_from([0.25, 1.0, 4.0])))


@pytest.fixture(autouse=True)
def no_times_of_birth() -> None:
    """As the worker has it: `Metrics` switches these series off for the whole process."""
    Metrics(CollectorRegistry(), version="1", revision="r")


def page(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


@given(batches=st.lists(st.tuples(st.sampled_from(["a", 'b"\n']), VALUES), max_size=6))
def test_the_page_is_that_of_the_librarys_histogram(batches: list[tuple[str, list[float]]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram(ours, "seconds", "help\ntext", EDGES, ("name",))
    single = Histogram("seconds", "help\ntext", ["name"], registry=theirs, buckets=EDGES)
    for index, (name, values) in enumerate(batches):
        bulk.labels(name).observe_many(np.array(values) if index % 2 else values)
        for value in values:
            single.labels(name).observe(value)
        single.labels(name)
    assert page(ours) == page(theirs)


def test_without_labels_the_empty_histogram_is_shown_from_the_start() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram(ours, "sizes", "help", (1, 2, 1024))
    single = Histogram("sizes", "help", registry=theirs, buckets=(1, 2, 1024))
    assert page(ours) == page(theirs)
    bulk.observe(2)
    bulk.observe_many([1, 5000])
    for value in (2, 1, 5000):
        single.observe(value)
    assert page(ours) == page(theirs)


def test_a_value_that_is_no_number_is_left_out() -> None:
    registry = CollectorRegistry()
    BulkHistogram(registry, "seconds", "help", EDGES).observe_many([1.0, float("nan"), float("inf")])
    assert registry.get_sample_value("seconds_count") == 2
    assert registry.get_sample_value("seconds_bucket", {"le": "4.0"}) == 1


def test_wrong_labels_and_a_name_taken_twice_are_refused() -> None:
    registry = CollectorRegistry()
    bulk = BulkHistogram(registry, "seconds", "help", EDGES, ("name",))
    with pytest.raises(ValueError, match="has the labels"):
        bulk.labels()
    with pytest.raises(ValueError, match="has the labels"):
        bulk.observe(1.0)
    with pytest.raises(ValueError, match="Duplicated"):
        BulkHistogram(registry, "seconds", "help", EDGES)


def test_nothing_is_lost_between_threads() -> None:
    registry = CollectorRegistry()
    bulk = BulkHistogram(registry, "seconds", "help", EDGES, ("name",))

    def add() -> None:
        for index in range(500):
            bulk.labels(index % 3).observe_many([0.5] * 10)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = [registry.get_sample_value("seconds_count", {"name": str(name)}) or 0 for name in range(3)]
    assert sum(counts) == 4 * 500 * 10


def test_equal_labels_are_counted_together() -> None:
    registry = CollectorRegistry()
    counter = Counter("events", "help", ["kind", "state"], registry=registry)
    telemetry.count(counter, [("a", "x"), ("b", "x"), ("a", "x")])
    telemetry.count(counter, iter([("a", "x")]))
    assert registry.get_sample_value("events_total", {"kind": "a", "state": "x"}) == 3
    assert registry.get_sample_value("events_total", {"kind": "b", "state": "x"}) == 1


def test_a_verdict_never_becomes_a_label_as_it_was_written() -> None:
    found = [telemetry.verdict_label(text) for text in ("correct", "unsure", "Jane Doe says no", None)]
    assert found == ["correct", "unsure", "other", "none"]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_cost_is_the_time_served_times_the_price_shared_by_requests() -> None:
    clock, registry = Clock(), CollectorRegistry()
    cost = Cost(3600.0, clock)  # a dollar a second
    registry.register(cost)

    def dollars(version: str) -> float | None:
        return registry.get_sample_value("fusion_inference_cost_dollars_total", {"model_version": version})

    clock.now += 50  # before it serves: loading
    assert dollars("") is None
    cost.serving("v1")
    clock.now += 10
    assert dollars("v1") == 10  # idle
    clock.now += 4
    cost.serving("v2")  # what passed until now was v1's
    cost.answered("v1", 30)  # in hand when the model was swapped
    cost.answered("v2", 10)
    clock.now += 8
    assert (dollars("v1"), dollars("v2")) == (20, 2)
    clock.now += 1
    assert (dollars("v1"), dollars("v2")) == (20, 3)  # idle again: the one that serves


def test_cost_is_left_out_without_a_price() -> None:
    free, priced = CollectorRegistry(), CollectorRegistry()
    Metrics(free, version="1", revision="r").cost.serving("v1")
    Metrics(priced, version="1", revision="r", dollars_per_hour=2.5).cost.serving("v1")
    assert "inference_cost" not in page(free)
    assert 'fusion_inference_cost_dollars_total{model_version="v1"}' in page(priced)


def test_objectives_are_edges() -> None:
    metrics = Metrics(CollectorRegistry(), version="1", revision="r")
    metrics.fusion.labels("v1").observe(0.05)
    metrics.end_to_end.labels("v1").observe(0.3)
    within = {
        name: metrics.registry.get_sample_value(f"fusion_{name}_bucket", {"model_version": "v1", "le": edge})
        for name, edge in (("fusion_duration_seconds", "0.05"), ("end_to_end_duration_seconds", "0.3"))
    }
    assert set(within.values()) == {1}


def test_memory_of_the_model_process_is_shown_while_there_is_one() -> None:
    metrics = Metrics(CollectorRegistry(), version="1", revision="r")
    gone = False
    metrics.watch_model_process(lambda: 2**30 if gone else 1)
    assert metrics.registry.get_sample_value("process_resident_memory_bytes")
    assert metrics.registry.get_sample_value("fusion_model_process_resident_memory_bytes")
    gone = True
    assert metrics.registry.get_sample_value("fusion_model_process_resident_memory_bytes") is None
    assert metrics.registry.get_sample_value("process_resident_memory_bytes")
