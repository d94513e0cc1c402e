"""For whoever looks for the cause: modalities, stages, drift, calibration, batches, devices, findings and requests."""

from __future__ import annotations

from monitor.dashboards.base import (
    MODALITY,
    MODEL,
    OF_MODEL,
    OF_VERSION,
    VERSION,
    Dashboard,
    Deployment,
    Section,
    Variable,
    runbook_of,
)
from monitor.dashboards.panels import Panel, Prom, Sql, at_least, at_most, override, table, timeseries, trend
from monitor.dashboards.requests import REQUEST, requests
from monitor.domain.objectives import AGREEMENT, FUSION

# Newest ones of the chosen time that the reliability diagram looks up in the log, whatever version answered: a version
# without labels must not have all of them looked up.
LABELS = 2000
GROUPS = 10

_STATUSES = f"""
    SELECT $__timeGroupAlias(time, $__interval), modality || ' ' || status AS metric,
      sum(requests) / extract(epoch FROM '$__interval'::interval) AS value
    FROM grafana_modalities WHERE $__timeFilter(time) AND {OF_VERSION} AND modality IN (${{modality:sqlstring}})
    GROUP BY 1, 2 ORDER BY 1, 2"""

_ROUTES = f"""
    SELECT $__timeGroupAlias(time, $__interval), route AS metric,
      sum(requests) / extract(epoch FROM '$__interval'::interval) AS value
    FROM grafana_routes WHERE $__timeFilter(time) AND {OF_VERSION} GROUP BY 1, 2 ORDER BY 1, 2"""

_CLASSES = f"""
    SELECT $__timeGroupAlias(time, $__interval), class AS metric,
      sum(answers) / extract(epoch FROM '$__interval'::interval) AS value
    FROM grafana_classes WHERE $__timeFilter(time) AND {OF_VERSION} GROUP BY 1, 2 ORDER BY 1, 2"""

_AGREEMENT = f"""
    SELECT $__timeGroupAlias(time, $__interval), 'agreement' AS metric,
      sum(agreed)::float8 / sum(compared) AS value
    FROM grafana_agreement WHERE $__timeFilter(time) AND {OF_VERSION}
    GROUP BY 1, 2 HAVING sum(compared) > 0 ORDER BY 1, 2"""

# Groups of equal numbers, as calibration error is measured over; ideal is what each would be.
_RELIABILITY = f"""
    SELECT avg(confidence) AS confidence, avg(correct::int)::float8 AS right, avg(confidence) AS ideal,
      count(*) AS answers
    FROM (SELECT confidence::float8 AS confidence, correct, ntile({GROUPS}) OVER (ORDER BY confidence) AS part
      FROM (SELECT * FROM grafana_labelled WHERE $__timeFilter(time) ORDER BY time DESC LIMIT {LABELS}) AS newest
      WHERE {OF_VERSION}) AS grouped
    GROUP BY part ORDER BY 1"""

_FINDINGS = f"""
    SELECT time, verdict, detector, modality, value, threshold, p_value, n_current AS rows, explanation
    FROM grafana_findings WHERE $__timeFilter(window_start) AND {OF_VERSION} AND verdict <> 'ok'
    ORDER BY window_start DESC, finding_id DESC LIMIT 100"""

_JOBS = f"""
    SELECT time, job_id, state, base_version, champion_accuracy, candidate_accuracy, error
    FROM grafana_retrains WHERE {OF_MODEL} ORDER BY job_id DESC LIMIT 20"""


def _series(detector: str, modalities: str = "") -> tuple[Sql, Sql]:
    """A detector's values over time, and what they are held to."""
    where = f"$__timeFilter(time) AND {OF_VERSION} AND detector = '{detector}'{modalities}"
    return (
        Sql(f"SELECT time, modality AS metric, value FROM grafana_findings WHERE {where} ORDER BY 1, 2"),
        Sql(
            "SELECT time, modality || ' threshold' AS metric, threshold AS value FROM grafana_findings"
            f" WHERE {where} AND threshold IS NOT NULL ORDER BY 1, 2"
        ),
    )


def dashboard(deployment: Deployment) -> Dashboard:
    """The dashboard of whoever looks for a cause."""
    return Dashboard(
        slug="debug",
        title="debug",
        description="Modalities, stages, drift, calibration, batches and devices; findings, and single requests.",
        since="6h",
        variables=(MODEL, VERSION, MODALITY, Variable(REQUEST, "Request (reference)")),
        sections=(
            Section("Modalities and answers", _answers()),
            Section("Drift", _drift(deployment)),
            Section("Quality", _quality()),
            Section("Stages, batches and devices", _stages(deployment)),
            Section("Findings and jobs", _findings()),
            Section("Requests", requests()),
        ),
    )


def _answers() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Modalities by status",
            "Requests a second in which each modality was present, missing, corrupt, rejected or stale.",
            Sql(_STATUSES),
            unit="reqps",
            width=8,
            runbook=runbook_of("availability"),
        ),
        timeseries(
            "Requests by route",
            "Answers a second. `fallback` routes lack a modality; quarantined rows are kept out of every statistic.",
            Sql(_ROUTES),
            unit="reqps",
            stacking="normal",
            width=8,
        ),
        timeseries(
            "Class mix",
            "Shares of the predicted classes, over all routes.",
            Sql(_CLASSES),
            stacking="percent",
            width=8,
            runbook=runbook_of("class_drift"),
        ),
    )


def _drift(deployment: Deployment) -> tuple[Panel, ...]:
    chosen = " AND modality = ${modality:sqlstring}"
    return (
        timeseries(
            "Embedding drift: ${modality}",
            "Aggregated MMD against the baseline, and the threshold that it is held to.",
            *_series("embedding_mmd", chosen),
            width=8,
            repeat="modality",
            runbook=runbook_of("embedding_mmd"),
        ),
        timeseries(
            "Class drift",
            "How far the predicted classes are from the baseline's.",
            *_series("class_drift"),
            width=8,
            runbook=runbook_of("class_drift"),
        ),
        timeseries(
            "Pairing",
            "Whether modalities of one request still belong together.",
            *_series("pairing"),
            width=8,
            runbook=runbook_of("pairing"),
        ),
        timeseries(
            "Agreement",
            "Share of answers in which unimodal heads and fused prediction agree. The line is the objective.",
            Sql(_AGREEMENT),
            unit="percentunit",
            steps=at_least(deployment.target(AGREEMENT)),
            width=8,
            runbook=runbook_of("agreement"),
        ),
    )


def _quality() -> tuple[Panel, ...]:
    return (
        trend(
            "Reliability",
            "Share of right answers by confidence, in ten groups of equal numbers: of the newest "
            f"{LABELS:,} labels of the chosen time those of the chosen versions. Above the diagonal the model is "
            "underconfident, below it overconfident.",
            Sql(_RELIABILITY, "table"),
            "confidence",
            unit="percentunit",
            overrides=(override("answers", custom__hideFrom={"viz": True, "legend": True, "tooltip": False}),),
            runbook=runbook_of("calibration"),
            width=8,
        ),
        timeseries(
            "Calibration error",
            "Debiased expected calibration error of labelled answers, and its threshold.",
            *_series("calibration"),
            unit="percentunit",
            width=8,
            height=9,
            runbook=runbook_of("calibration"),
        ),
        timeseries(
            "Accuracy",
            "Of labelled answers.",
            *_series("accuracy"),
            unit="percentunit",
            width=8,
            height=9,
            runbook=runbook_of("accuracy"),
        ),
    )


def _p95(metric: str, by: str = "", where: str = "") -> str:
    names = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile(0.95, sum by ({names}) (rate({metric}_bucket{where}[$__rate_interval])))"


def _mean(metric: str) -> str:
    return f"sum(rate({metric}_sum[$__rate_interval])) / sum(rate({metric}_count[$__rate_interval]))"


def _stages(deployment: Deployment) -> tuple[Panel, ...]:
    chosen = '{modality=~"${modality}|all"}'
    return (
        timeseries(
            "Decoding and encoding",
            "95th percentile of a batch, by modality; `all` where modalities are not told apart.",
            Prom(_p95("fusion_preprocess_duration_seconds", "modality", chosen), "decode {{modality}}"),
            Prom(_p95("fusion_encode_duration_seconds", "modality", chosen), "encode {{modality}}"),
            unit="s",
            width=8,
        ),
        timeseries(
            "Fusion",
            "95th percentile of what follows the encoders, a batch. The line is the objective's limit.",
            Prom(
                _p95("fusion_fusion_duration_seconds", "model_version", '{model_version=~"${version}"}'),
                "{{model_version}}",
            ),
            unit="s",
            steps=at_most(deployment.limit_seconds(FUSION)),
            width=8,
        ),
        timeseries(
            "Waiting and writing",
            "95th percentiles: of what a request waits for its batch, and of database transactions.",
            Prom(_p95("fusion_batch_wait_seconds"), "wait for a batch"),
            Prom(_p95("fusion_db_transaction_duration_seconds", "operation"), "write {{operation}}"),
            unit="s",
            width=8,
        ),
        timeseries(
            "Batch sizes",
            "Messages in a batch.",
            Prom(_mean("fusion_batch_size"), "mean"),
            Prom(_p95("fusion_batch_size"), "p95"),
            unit="short",
            width=8,
        ),
        timeseries(
            "GPU in use",
            "Share of time in which a device ran a kernel.",
            Prom("fusion_gpu_utilization_ratio", "{{instance}} {{device}}"),
            unit="percentunit",
            width=8,
        ),
        timeseries(
            "GPU memory",
            "Device memory in use.",
            Prom("fusion_gpu_memory_bytes", "{{instance}} {{device}}"),
            unit="bytes",
            width=8,
        ),
    )


def _findings() -> tuple[Panel, ...]:
    return (
        table(
            "Findings that are not ok",
            "Newest first. `no_data`, `no_baseline` and `insufficient` mean that nothing can be said.",
            Sql(_FINDINGS, "table"),
            width=16,
        ),
        table(
            "Retrain jobs",
            "Champion and candidate are measured on the same held-out rows.",
            Sql(_JOBS, "table"),
            width=8,
            runbook="retrain-failed",
        ),
    )
