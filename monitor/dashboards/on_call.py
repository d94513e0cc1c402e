"""For whoever was paged: what fires, what users see, which modality is away, and whether the service keeps up."""

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
    runbook_of,
)
from monitor.dashboards.panels import (
    ORANGE,
    RED,
    Panel,
    Prom,
    Sql,
    Step,
    at_least,
    at_most,
    override,
    stat,
    strip,
    table,
    timeseries,
)
from monitor.domain import durations
from monitor.domain.objectives import AVAILABILITY, DEAD_LETTERS, END_TO_END
from monitor.domain.signals import PAGE, TICKET
from monitor.domain.slo import allowed

LAG = 1000  # messages; from there on Prometheus' rule calls it falling behind
VERSIONS = 'model_version=~"${version}"'

_FIRES = f"FROM grafana_alerts WHERE {OF_MODEL} AND state = 'firing' AND inhibited_by IS NULL"
_FIRING = f"SELECT count(*) AS firing {_FIRES}"

_JUDGED = f"""
    SELECT extract(epoch FROM $__timeTo()::timestamptz - judged_at) AS seconds FROM grafana_watch WHERE {OF_MODEL}"""

MODALITY_SHARES = f"""
    SELECT $__timeGroupAlias(time, $__interval), modality AS metric,
      coalesce(sum(requests) FILTER (WHERE status = 'present'), 0)::float8 / sum(requests) AS value
    FROM (SELECT time, modality, status, requests FROM grafana_modalities
      WHERE $__timeFilter(time) AND {OF_VERSION} AND modality IN (${{modality:sqlstring}})) AS seen
    GROUP BY 1, 2 HAVING sum(requests) > 0 ORDER BY 1, 2"""

_REFUSED = """
    SELECT $__timeGroupAlias(time, $__interval), error_code AS metric, count(*) AS value
    FROM grafana_dead_letters WHERE $__timeFilter(time) GROUP BY 1, 2 ORDER BY 1, 2"""

_ALERTS = f"""
    SELECT firing_since AS since, severity, alertname AS alert, modality, summary,
      CASE WHEN silenced THEN 'silenced' WHEN acknowledged_by IS NOT NULL THEN acknowledged_by ELSE '' END AS held,
      runbook
    {_FIRES}
    ORDER BY severity, firing_since DESC LIMIT 100"""

_OBJECTIVES = f"""
    SELECT subject AS objective, target, budget_left AS "budget left", verdict, text AS now
    FROM grafana_objectives WHERE {OF_MODEL} ORDER BY budget_left NULLS LAST, slo LIMIT 50"""


def dashboard(deployment: Deployment) -> Dashboard:
    """The on-call person's dashboard."""
    return Dashboard(
        slug="on-call",
        title="on call",
        description="What fires, what users see of it, which modality is away and whether the service keeps up.",
        since="3h",
        variables=(MODEL, VERSION, MODALITY),
        sections=(
            Section("Now", _now(deployment)),
            Section("Alerts and objectives", _alerts(deployment)),
            Section("What users see", _seen(deployment)),
            Section("Whether it keeps up", _behind()),
        ),
    )


def _refused_limit(deployment: Deployment) -> float | None:
    target = deployment.target(DEAD_LETTERS)
    return None if target is None else allowed(target)


def _now(deployment: Deployment) -> tuple[Panel, ...]:
    return (
        stat(
            "Alerts firing",
            "Alerts of the model that fire now and that no other explains.",
            Sql(_FIRING, "table"),
            steps=at_most(1),
            spark=False,
        ),
        stat("Requests", "Requests a second, over a minute.", Prom("sum(fusion:requests:rate1m)", "all"), unit="reqps"),
        stat(
            "Errors",
            "Share of requests whose answer is an error, over 5 minutes.",
            Prom("fusion:requests_failed:ratio5m", "errors"),
            unit="percentunit",
        ),
        stat(
            "95% are answered within",
            "From reading a request to its answer, over 5 minutes.",
            Prom("fusion:end_to_end_seconds:p95_5m", "p95"),
            unit="s",
            steps=at_most(deployment.limit_seconds(END_TO_END)),
        ),
        stat(
            "Messages waiting",
            "Messages of the requests' topic that no worker has read.",
            Prom("sum(max by (topic, partition) (fusion_consumer_lag_messages))", "lag"),
            unit="short",
            steps=at_most(LAG, ORANGE),
        ),
        stat(
            "Last judged",
            "How long ago the monitor last judged anything: verdicts and alerts are as old as that.",
            Sql(_JUDGED, "table"),
            unit="s",
            spark=False,
        ),
    )


def _alerts(deployment: Deployment) -> tuple[Panel, ...]:
    rules = {rule for objective in deployment.objectives.chosen.values() for rule in objective.rules}
    lowest = {
        severity: min((rule.factor for rule in rules if rule.severity == severity), default=None)
        for severity in (TICKET, PAGE)
    }
    steps = tuple(
        Step(color, lowest[severity])
        for severity, color in ((TICKET, ORANGE), (PAGE, RED))
        if lowest[severity] is not None
    )
    windows = sorted({rule.long for rule in rules if rule.severity == PAGE})
    wanted = "|".join(durations.short(window) for window in windows)
    opened = [{"title": "Runbook", "url": "${__value.raw}", "targetBlank": True}]
    return (
        table(
            "Alerts",
            "What fires now, pages first. `held`: who looks after it, or that it is silenced.",
            Sql(_ALERTS, "table"),
            width=24,
            height=8,
            overrides=(override("runbook", links=opened),),
        ),
        table(
            "Alerts about the service",
            "What Prometheus' own rules say of workers, monitor, database and notifications.",
            Prom('count by (alertname, severity) (ALERTS{alertstate="firing"})', "", instant=True),
            width=8,
        ),
        table(
            "Objectives",
            "What is left of 30 days' error budgets, least first.",
            Sql(_OBJECTIVES, "table"),
            width=16,
            overrides=(override("target", unit="percentunit"), override("budget left", unit="percentunit")),
        ),
        timeseries(
            "Burn rates",
            "How many times too fast each error budget is used up, over the long windows of the rules that page. "
            "The lines are the lowest factors that make a ticket and a page.",
            Prom(f'max by (slo, window) (fusion_slo_burn_rate{{window=~"{wanted}"}})', "{{slo}} over {{window}}"),
            steps=(Step("green"), *steps) if steps else (),
            width=24,
            runbook="error-budget-burn-fast",
        ),
    )


def _seen(deployment: Deployment) -> tuple[Panel, ...]:
    shares = at_least(deployment.target(AVAILABILITY))
    quantile = "histogram_quantile({}, sum by (le) (rate(fusion_end_to_end_duration_seconds_bucket{{{}}}[5m])))"
    return (
        strip(
            "Modalities",
            "Share of requests with each modality: below the objective the strip is red.",
            Sql(MODALITY_SHARES),
            unit="percentunit",
            steps=shares,
            runbook=runbook_of("availability"),
        ),
        timeseries(
            "Requests by outcome",
            "Requests a second. `degraded` answers lack a modality.",
            Prom("fusion:requests:rate1m", "{{outcome}}"),
            unit="reqps",
            stacking="normal",
            width=8,
        ),
        timeseries(
            "Errors",
            "Shares of requests whose answer is an error, and of messages that were refused.",
            Prom("fusion:requests_failed:ratio5m", "errors"),
            Prom("fusion:dead_letters:ratio5m", "refused"),
            unit="percentunit",
            steps=at_most(_refused_limit(deployment)),
            width=8,
        ),
        timeseries(
            "Time to answer",
            "Quantiles over 5 minutes, from reading a request to its answer. The line is the objective's limit.",
            *(Prom(quantile.format(q, VERSIONS), name) for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))),
            unit="s",
            steps=at_most(deployment.limit_seconds(END_TO_END)),
            width=8,
        ),
    )


def _behind() -> tuple[Panel, ...]:
    return (
        timeseries(
            "Messages waiting",
            "Messages that no worker has read, by partition.",
            Prom("max by (topic, partition) (fusion_consumer_lag_messages)", "{{topic}}[{{partition}}]"),
            unit="short",
            steps=at_most(LAG, ORANGE),
        ),
        timeseries(
            "Dead letters",
            "Messages that were refused, by reason.",
            Sql(_REFUSED),
            unit="short",
            stacking="normal",
            runbook="error-budget-burn-slow",
        ),
    )
