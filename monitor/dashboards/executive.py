"""For whoever asks whether the model is healthy: eight numbers, each with what it means."""

from __future__ import annotations

from typing import Any

from monitor.dashboards.base import MODEL, OF_MODEL, Dashboard, Deployment, Section, runbook_of
from monitor.dashboards.panels import GREEN, GREY, ORANGE, RED, Panel, Prom, Sql, Step, at_least, at_most, stat
from monitor.domain.objectives import AVAILABILITY

DETAILS = "/d/fusionwatch-on-call"
UNWATCHED_MINUTES = 15  # as long as Prometheus waits before it says that the monitor is asleep

HEALTHY, ATTENTION, WRONG, UNWATCHED = range(4)
_WORDS = {
    HEALTHY: ("Healthy", GREEN),
    ATTENTION: ("Needs attention", ORANGE),
    WRONG: ("Something is wrong", RED),
    UNWATCHED: ("Not watched", GREY),
}

_HEALTH = f"""
    SELECT CASE WHEN judged_at IS NULL
        OR judged_at < $__timeTo()::timestamptz - interval '{UNWATCHED_MINUTES} minutes' THEN {UNWATCHED}
      WHEN 'page' = ANY(firing) THEN {WRONG} WHEN 'ticket' = ANY(firing) THEN {ATTENTION} ELSE {HEALTHY} END AS health
    FROM (SELECT judged_at, ARRAY(SELECT severity FROM grafana_alerts
        WHERE {OF_MODEL} AND state = 'firing' AND inhibited_by IS NULL) AS firing
      FROM grafana_watch WHERE {OF_MODEL}) AS now"""

# Of measured and estimated accuracy the measured one, wherever the chosen time has any of it.
_JUDGED = f"$__timeFilter(time) AND {OF_MODEL} AND verdict IN ('ok', 'drift')"
_ACCURACY = f"""
    SELECT time, CASE detector WHEN 'accuracy' THEN 'by labels' ELSE 'estimated' END AS metric, value
    FROM grafana_findings
    WHERE {_JUDGED} AND detector = (SELECT min(detector) FROM grafana_findings
      WHERE {_JUDGED} AND detector IN ('accuracy', 'estimated_accuracy'))
    ORDER BY 1, 2"""

_AVAILABILITY = f"""
    SELECT $__timeTo()::timestamptz AS time, substr(sli, {len(AVAILABILITY) + 2}) AS metric,
      sum(good)::float8 / nullif(sum(valid), 0) AS value
    FROM grafana_objective_events
    WHERE $__timeFilter(time) AND {OF_MODEL} AND sli LIKE '{AVAILABILITY}.%'
    GROUP BY 2 ORDER BY 1, 2"""

_MODEL_TIME = f"""
    SELECT time, 'a request' AS metric, value FROM grafana_findings
    WHERE {_JUDGED} AND detector = 'cost' AND modality = 'fused' ORDER BY 1, 2"""

_INCIDENTS = f"""
    SELECT count(*) AS incidents FROM grafana_alerts
    WHERE $__timeFilter(firing_since) AND {OF_MODEL} AND severity = 'page' AND inhibited_by IS NULL"""

_BUDGET = f"""
    SELECT time, subject AS metric, budget_left AS value FROM grafana_objectives
    WHERE {OF_MODEL} AND budget_left IS NOT NULL ORDER BY budget_left, slo LIMIT 1"""

_CHAMPION = f"SELECT version FROM grafana_models WHERE {OF_MODEL} AND champion"


def dashboard(deployment: Deployment) -> Dashboard:
    """The executive's dashboard."""
    return Dashboard(
        slug="executive",
        title="is the model healthy?",
        description="Eight numbers about one model over the chosen time; the links lead to what is behind them.",
        since="7d",
        variables=(MODEL,),
        sections=(Section("Health", _health(deployment)), Section("Cost and version", _cost())),
    )


def _health(deployment: Deployment) -> tuple[Panel, ...]:
    target = deployment.target(AVAILABILITY)
    held = "" if target is None else f" The objective is {target:.6g}."
    single = {
        name.partition(".")[2]: at_least(objective.target)
        for name, objective in deployment.objectives.chosen.items()
        if name.startswith(f"{AVAILABILITY}.")
    }
    words = {str(key): {"text": text, "color": color} for key, (text, color) in _WORDS.items()}
    mapped: dict[str, Any] = {"mappings": [{"type": "value", "options": words}]}
    wide: dict[str, Any] = {"width": 8, "height": 5, "link": DETAILS}
    return (
        stat(
            "Health",
            "The loudest alert that fires now and that no other explains. Not watched: the monitor has judged nothing "
            f"for {UNWATCHED_MINUTES} minutes, so that nothing is known.",
            Sql(_HEALTH, "table"),
            spark=False,
            steps=(Step(GREEN), Step(ORANGE, ATTENTION), Step(RED, WRONG), Step(GREY, UNWATCHED)),
            defaults=mapped,
            **wide,
        ),
        stat(
            "Accuracy",
            "Share of answers that are right: of labelled ones where there are enough, else as estimated without.",
            Sql(_ACCURACY),
            unit="percentunit",
            runbook=runbook_of("accuracy"),
            **wide,
        ),
        stat(
            "Availability",
            f"Share of requests that came with each modality, over the chosen time.{held}",
            Sql(_AVAILABILITY),
            unit="percentunit",
            steps=at_least(target),
            by_name=single,
            spark=False,
            runbook=runbook_of("availability"),
            **wide,
        ),
        stat(
            "Incidents",
            "Pages of the chosen time that no other explains.",
            Sql(_INCIDENTS, "table"),
            spark=False,
            steps=at_most(1),
            **wide,
        ),
        stat(
            "Error budget left",
            "Of the objective that has least: share of the failures that 30 days allow. Below 0 it is overdrawn.",
            Sql(_BUDGET),
            unit="percentunit",
            steps=at_least(0),
            spark=False,
            runbook="error-budget-burn-slow",
            **wide,
        ),
    )


def _cost() -> tuple[Panel, ...]:
    return (
        stat(
            "Cost",
            "Dollars a day at the last hour's rate, of all workers. It takes FUSIONWATCH_COST_PER_HOUR.",
            Prom("fusion:inference_cost_dollars_per_day:rate1h", "a day"),
            unit="currencyUSD",
            width=8,
        ),
        stat(
            "Model time",
            "What a request takes of the model's time: where it rises, each answer costs more.",
            Sql(_MODEL_TIME),
            unit="ms",
            width=8,
            runbook=runbook_of("cost"),
        ),
        stat("Champion", "The model version that answers.", Sql(_CHAMPION, "table"), spark=False, text=True, width=8),
    )
