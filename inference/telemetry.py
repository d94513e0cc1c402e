"""The worker's Prometheus metrics: every name is here and, with its meaning, in dashboards/metrics.md.

Request, user and correlation ids are never labels. A worker answers thousands of requests a second, so that figures
are added a batch at a time: `count` for counters, `BulkHistogram.observe_many` for histograms.
"""

from __future__ import annotations

import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

# The objectives' limits, 0.05 s of fusion and 0.3 s to an answer, are edges: a share within them is then exact.
_STAGE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
# A verdict is free text in the contract; a label must not be.
VERDICTS = frozenset({"correct", "incorrect", "unsure"})


def count(counter: Counter, labels: Iterable[tuple[str, ...]]) -> None:
    """Count one event for each tuple of label values: one increment for each distinct tuple."""
    for values, events in Tally(labels).items():
        counter.labels(*values).inc(events)


def verdict_label(verdict: str | None) -> str:
    """A reviewer's verdict as a label value: one of `VERDICTS`, `other` or `none`."""
    if verdict is None:
        return "none"
    return verdict if verdict in VERDICTS else "other"


def _le(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]  # typed library, untyped function


class Series:
    """One series of a `BulkHistogram`. For several threads."""

    def __init__(self, bounds: NDArray[np.float64]) -> None:
        """`bounds` (E,) are the upper edges, the last one infinite."""
        self._bounds = bounds
        self._counts = np.zeros(len(bounds), np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Add one value."""
        self.observe_many((value,))

    def observe_many(self, values: Sequence[float] | NDArray[np.floating]) -> None:
        """Add N values, NaN left out: it has no bucket, and would spoil the sum for good."""
        given = np.asarray(values, np.float64)
        given = given[~np.isnan(given)]
        # a value equal to an edge belongs to that edge's bucket: le means "less or equal"
        found = np.bincount(self._bounds.searchsorted(given, side="left"), minlength=len(self._bounds))
        total = float(given.sum())
        with self._lock:
            self._counts += found
            self._sum += total

    def read(self) -> tuple[list[int], float]:
        """Cumulative counts for each edge, and the sum, of one moment."""
        with self._lock:
            return self._counts.cumsum().tolist(), self._sum


class BulkHistogram(Collector):
    """A histogram that takes many values at once: prometheus_client's takes one, at about 2 µs each."""

    def __init__(
        self, registry: CollectorRegistry, name: str, text: str, edges: Sequence[float], labels: Sequence[str] = ()
    ) -> None:
        """`edges` are the finite upper edges, increasing; `labels` the label names."""
        self.name, self.text, self.label_names = name, text, tuple(labels)
        self._bounds = np.array([*edges, np.inf], np.float64)
        self._edges = [_le(bound) for bound in self._bounds.tolist()]
        self._series: dict[tuple[str, ...], Series] = {} if labels else {(): Series(self._bounds)}
        registry.register(self)

    def labels(self, *values: object) -> Series:
        """The series of these label values, in the order of their names; keep it where it is used often."""
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has the labels {self.label_names}")
        key = tuple(map(str, values))
        # `setdefault` is one step: two threads get the same series
        return self._series.get(key) or self._series.setdefault(key, Series(self._bounds))

    def observe(self, value: float) -> None:
        """Add one value, where there are no labels."""
        self.labels().observe(value)

    def observe_many(self, values: Sequence[float] | NDArray[np.floating]) -> None:
        """Add N values, where there are no labels."""
        self.labels().observe_many(values)

    def describe(self) -> list[Metric]:
        """The family without samples, which keeps a registry from holding two of a name."""
        return [HistogramMetricFamily(self.name, self.text, labels=self.label_names)]

    def collect(self) -> Iterator[Metric]:
        """The family with all its series."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.label_names)
        for values, series in list(self._series.items()):
            counts, total = series.read()
            family.add_metric(values, list(zip(self._edges, map(float, counts), strict=True)), total)
        yield family


class Cost(Collector):
    """What this worker costs, by model version: seconds since it began to serve, times the price of a second.

    Idle seconds cost as much as busy ones: over all versions the counter grows by the price of an hour in each hour.
    What passed between two readings goes to the versions by the requests each has answered meanwhile; where there
    were none, to the version that serves. Thus `rate(cost) / rate(requests)` is the cost of a request, and falls with
    load.
    """

    name = "fusion_inference_cost_dollars"
    text = "Price of the time this worker has served, idle time too"
    label_names = ("model_version",)

    def __init__(self, dollars_per_hour: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` must be monotonic, in seconds."""
        self._price = dollars_per_hour / 3600
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        self._serving = ""
        self._answered: Tally[str] = Tally()
        self._dollars: dict[str, float] = {}

    def serving(self, version: str) -> None:
        """A version begins to serve; time counts from the first one's beginning."""
        with self._lock:
            self._settle()
            self._serving = version

    def answered(self, version: str, requests: int) -> None:
        """Requests that a version has answered."""
        with self._lock:
            self._answered[version] += requests

    def _settle(self) -> None:
        now = self._clock()
        spent = 0.0 if self._since is None else (now - self._since) * self._price
        self._since = now
        shares = self._answered if self._answered.total() else Tally({self._serving: 1})
        self._answered = Tally()
        if spent:
            for version, requests in shares.items():
                self._dollars[version] = self._dollars.get(version, 0.0) + spent * requests / shares.total()

    def describe(self) -> list[Metric]:
        """The family without samples."""
        return [CounterMetricFamily(self.name, self.text, labels=self.label_names)]

    def collect(self) -> Iterator[Metric]:
        """The counter as of now."""
        family = CounterMetricFamily(self.name, self.text, labels=self.label_names)
        with self._lock:
            if self._since is not None:
                self._settle()
            for version, dollars in self._dollars.items():
                family.add_metric([version], dollars)
        yield family


class Metrics:
    """Every metric of one worker, in a registry of its own."""

    def __init__(
        self, registry: CollectorRegistry, *, version: str, revision: str, dollars_per_hour: float = 0.0
    ) -> None:
        """`version` and `revision` are this program's, shown by `fusion_build_info`; 0 dollars leave the cost out."""
        # the library would add a second series to each counter, its time of birth, which nothing reads
        disable_created_metrics()  # type: ignore[no-untyped-call]  # typed library, untyped function

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"fusion_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"fusion_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, edges: Sequence[float], *labels: str) -> BulkHistogram:
            return BulkHistogram(registry, f"fusion_{name}", text, edges, labels)

        self.registry = registry
        ProcessCollector(registry=registry)

        # what became of requests
        self.requests = counter(
            "requests", "Requests: ok, degraded, duplicate, or the code of what went wrong", "outcome", "model_version"
        )
        self.routes = counter(
            "routes", "Answers by route: fused, fallback to some modalities, or cached", "route", "model_version"
        )
        self.cascade_skips = counter("cascade_skips", "Answers whose fusion step the cascade spared", "model_version")
        self.modality_events = counter(
            "modality_events",
            "Modalities of requests: present, missing, corrupt, rejected or stale",
            "modality",
            "status",
        )
        self.agreement = counter("agreement_events", "Fused requests by whether the heads agree", "pair", "agree")
        self.parts_left_out = counter(
            "observation_parts_left_out",
            "Embeddings and statistics of observations not summarised",
            "modality",
            "reason",
        )
        self.quarantined = counter("quarantined", "Rows kept out of windows, by reason", "reason")
        self.dead_letters = counter("dlq_records", "Messages refused, by the code in their dead letter", "reason")
        self.labels = counter("labels", "Labels read, by who gave them", "source")
        self.reviews = counter(
            "reviews", "Labels of human review: correct, incorrect, unsure, other or none", "verdict"
        )

        # how long it took
        self.preprocess = histogram(
            "preprocess_duration_seconds", "Decoding and tokenizing of a batch; all: not told apart", _STAGE, "modality"
        )
        self.encode = histogram(
            "encode_duration_seconds", "Encoder of a modality, a batch; all: not told apart", _STAGE, "modality"
        )
        self.fusion = histogram(
            "fusion_duration_seconds", "What follows the encoders, a batch", _STAGE, "model_version"
        )
        self.contribution = histogram(
            "contribution_duration_seconds", "What measuring contributions took, a sampled batch", _STAGE
        )
        self.end_to_end = histogram(
            "end_to_end_duration_seconds", "From reading a request to its answer", _SECONDS, "model_version"
        )
        self.batch_size = histogram("batch_size", "Messages in a batch", _SIZES)
        self.batch_wait = histogram("batch_wait_seconds", "What a request waited for its batch", _STAGE)
        self.transactions = histogram(
            "db_transaction_duration_seconds", "Committed transactions", _SECONDS, "operation"
        )

        # what is in hand
        self.inflight = gauge("inflight_requests", "Read and not yet written to the database")
        self.inflight_bytes = gauge("inflight_bytes", "Size of the messages read and not yet written")
        self.queue_items = gauge("stage_queue_items", "Items that wait for a stage of the worker", "stage")

        # Kafka and the database
        self.lag = gauge("consumer_lag_messages", "Messages not yet read", "topic", "partition")
        self.stalls = counter(
            "consumer_stalls", "Times that lag grew while the position stood still", "topic", "partition"
        )
        self.gaps = counter("consumer_gaps", "Stored offsets that the log no longer has", "topic", "partition")
        self.rebalances = counter("rebalances", "Changes of the partition assignment, by reason", "reason")
        self.stale_writes = counter("stale_writes", "Writes refused since another worker had moved the offset")
        self.retries = counter("retries", "Attempts that failed and were made again", "action")

        # the program
        self.reloads = counter("model_reloads", "Changes of the model: swapped or refused", "result")
        self.spans_dropped = counter(
            "trace_spans_dropped", "Spans that no collector got: queue_full, export_failed or shutdown", "reason"
        )
        self.contexts_invalid = counter("trace_contexts_invalid", "Malformed trace contexts in traced batches")
        self.cost = Cost(dollars_per_hour)
        if dollars_per_hour:
            registry.register(self.cost)
        self.build = gauge("build_info", "Always 1", "version", "revision")
        self.build.labels(version, revision).set(1)

    def watch_model_process(self, pid: Callable[[], int]) -> None:
        """Show memory and processor time of the model process too, whichever it is when the page is read."""
        ProcessCollector(namespace="fusion_model", pid=pid, registry=self.registry)
