"""Single requests: found by a short reference, since dashboards know no request id and no digest of an input."""

from __future__ import annotations

from monitor.dashboards.base import OF_VERSION
from monitor.dashboards.panels import Panel, Sql, override, table

REQUEST = "request"
# A reference has no index: the newest of the chosen time are searched, and more would take more than a second.
SEARCHED = 50_000
LISTED = 500  # newest ones of which those of the chosen versions are listed

_WANTED = f"lower(trim(${{{REQUEST}:sqlstring}}))"


def _rows(of: str, view: str, columns: str, rest: str) -> Sql:
    """Rows of a view for the times and references of a query, each looked up by itself.

    A time has an index, and leads to the one day of the log that holds the row: planned as one join, all would be read.
    """
    return Sql(
        f"""
    WITH newest AS MATERIALIZED (SELECT time, reference FROM grafana_references WHERE $__timeFilter(time)
        ORDER BY time DESC LIMIT {LISTED if of == "newest" else SEARCHED}),
      found AS MATERIALIZED (SELECT time, reference FROM newest WHERE reference = {_WANTED} LIMIT 10)
    SELECT {columns} FROM {of} CROSS JOIN LATERAL (SELECT * FROM {view} v
      WHERE v.time = {of}.time AND v.reference = {of}.reference OFFSET 0) AS one {rest}""",
        "table",
    )


_NEWEST = _rows(
    "newest",
    "grafana_requests",
    "one.time, one.reference, model_version, route, status, error_code, prediction, confidence, degraded, quarantine,"
    " source, total_ms",
    f"WHERE {OF_VERSION} ORDER BY one.time DESC LIMIT 100",
)
_REQUEST = _rows(
    "found",
    "grafana_requests",
    "one.time, model, model_version, route, status, error_code, prediction, confidence, agreement, degraded,"
    " quarantine, source, queue_ms, preprocess_ms, encode_ms, fuse_ms, total_ms",
    "ORDER BY one.time",
)
_MODALITIES = _rows(
    "found",
    "grafana_request_modalities",
    "modality, status, reason, captured_at, quality::text AS quality",
    "ORDER BY one.time, modality",
)


def requests() -> tuple[Panel, ...]:
    """The newest requests, and one of them with its modalities."""
    kept = "${__url_time_range}&${model:queryparam}&${version:queryparam}&${modality:queryparam}"
    chosen = f"/d/fusionwatch-debug?{kept}&var-{REQUEST}=${{__value.raw}}"
    look = [{"title": "Look at this request", "url": chosen, "targetBlank": False}]
    return (
        table(
            "Newest requests",
            f"Of the newest {LISTED} of the chosen time those of the chosen versions. The reference is the first 12 "
            "digits of the request id's SHA-256: "
            "`printf %s ID | sha256sum | cut -c 1-12` gives that of an id. Click one to look at it.",
            _NEWEST,
            width=24,
            overrides=(override("reference", links=look), override("confidence", unit="percentunit")),
        ),
        table(
            "One request",
            f"The request of that reference, where it is among the newest {SEARCHED:,} of the chosen time: narrow the "
            "time to reach older ones.",
            _REQUEST,
            height=6,
        ),
        table(
            "Its modalities",
            "How each came, why it was not used, and its quality.",
            _MODALITIES,
            height=6,
        ),
    )
