"""The worker's Prometheus metrics. Request, user and correlation ids are never labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_MILLISECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0, 3.0)
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every metric of one worker, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry, *, version: str, revision: str) -> None:
        """`version` and `revision` are this program's, shown by `fusion_build_info`."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"fusion_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"fusion_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, edges: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"fusion_{name}", text, labels, registry=registry, buckets=edges)

        self.registry = registry
        self.requests = counter("requests", "Requests by what became of them", "outcome", "model_version")
        self.modality_events = counter("modality_events", "Modalities by their status", "modality", "status")
        self.preprocess = histogram("preprocess_duration_seconds", "Decoding and tensors, a batch", _MILLISECONDS)
        self.encode = histogram("encode_duration_seconds", "Encoders, a batch", _MILLISECONDS)
        self.fusion = histogram("fusion_duration_seconds", "All after the encoders", _MILLISECONDS, "model_version")
        self.end_to_end = histogram("end_to_end_duration_seconds", "Read to answer", _SECONDS, "model_version")
        self.batch_size = histogram("batch_size", "Messages in a batch", _SIZES)
        self.batch_wait = histogram("batch_wait_seconds", "What a request waited for its batch", _MILLISECONDS)
        self.inflight = gauge("inflight_requests", "Read and not yet written to the database")
        self.agreement = counter("agreement_events", "Fused requests by agreement of the heads", "pair", "agree")
        self.quarantined = counter("quarantined", "Rows kept out of windows", "reason")
        self.labels = counter("labels", "Labels read", "source")
        self.lag = gauge("consumer_lag_messages", "Messages not yet read", "topic", "partition")
        self.gaps = counter("consumer_gaps", "Stored offsets that the log no longer has", "topic", "partition")
        self.rebalances = counter("rebalances", "Changes of the partition assignment", "reason")
        self.dead_letters = counter("dlq_records", "Messages refused", "reason")
        self.stale_writes = counter("stale_writes", "Writes refused since another worker had moved the offset")
        self.transactions = histogram(
            "db_transaction_duration_seconds", "Committed database transactions", _SECONDS, "operation"
        )
        self.retries = counter("retries", "Attempts that failed and were tried again", "action")
        self.reloads = counter("model_reloads", "Model changes by result", "result")
        self.build = gauge("build_info", "Always 1", "version", "revision")
        self.build.labels(version, revision).set(1)
