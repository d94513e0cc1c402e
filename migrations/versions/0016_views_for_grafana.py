"""views for Grafana: counts, verdicts and short references, no digest, no embedding and no request id

Revision ID: 0016
Revises: 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# The first 12 hexadecimal digits of the SHA-256 of a request id.
REFERENCE = "substr(encode(sha256(convert_to({}.request_id, 'UTF8')), 'hex'), 1, 12) AS reference"
SUMMED = "summaries s JOIN model_versions v ON v.version = s.model_version"
LOGGED = (
    "request_ids r JOIN prediction_log p ON p.request_id = r.request_id AND p.logged_at = r.logged_at"
    " JOIN model_versions v ON v.version = p.model_version"
)

# In the order in which they are made. Times are `time`, so that each reads alike in a dashboard.
VIEWS = {
    "grafana_models": """
        SELECT v.created_at AS time, v.model, v.version, v.modalities, a.version IS NOT NULL AS champion
        FROM model_versions v
        LEFT JOIN model_aliases a ON a.model = v.model AND a.version = v.version AND a.alias = 'champion'""",
    # when the monitor last judged anything
    "grafana_watch": """
        SELECT m.model, greatest(f.created_at, s.evaluated_at) AS judged_at
        FROM (SELECT DISTINCT model FROM model_versions) m
        LEFT JOIN LATERAL (
          SELECT f.created_at FROM findings f WHERE f.model = m.model ORDER BY f.finding_id DESC LIMIT 1) f ON true
        LEFT JOIN LATERAL (SELECT max(s.evaluated_at) AS evaluated_at FROM slo_status s WHERE s.model = m.model) s
          ON true""",
    "grafana_routes": f"""
        SELECT s.slot_start AS time, v.model, s.model_version, e.key AS route, e.value::bigint AS requests
        FROM {SUMMED} CROSS JOIN LATERAL jsonb_each_text(s.counts) e
        WHERE s.modality = 'fused' AND e.key <> 'rows'""",
    "grafana_modalities": f"""
        SELECT s.slot_start AS time, v.model, s.model_version, s.modality, e.key AS status,
          e.value::bigint AS requests
        FROM {SUMMED} CROSS JOIN LATERAL jsonb_each_text(s.counts) e
        WHERE s.modality <> 'fused'""",
    "grafana_classes": f"""
        SELECT s.slot_start AS time, v.model, s.model_version, v.class_names[c.place] AS class,
          c.value::bigint AS answers
        FROM {SUMMED} CROSS JOIN LATERAL jsonb_each(s.totals) e
        CROSS JOIN LATERAL jsonb_array_elements_text(e.value) WITH ORDINALITY AS c (value, place)
        WHERE s.modality = 'fused' AND e.key LIKE 'classes.%'""",
    "grafana_agreement": f"""
        SELECT s.slot_start AS time, v.model, s.model_version, (c.cells->>1)::bigint AS agreed,
          (c.cells->>0)::bigint + (c.cells->>1)::bigint AS compared
        FROM {SUMMED} CROSS JOIN LATERAL (SELECT s.totals->'agreement' AS cells OFFSET 0) c
        WHERE s.modality = 'fused' AND c.cells IS NOT NULL""",
    # a window that was judged again shows its newest verdict
    "grafana_findings": """
        SELECT f.window_end AS time, f.window_start, f.finding_id, f.model, f.model_version, f.detector, f.modality,
          f.verdict, f.value, f.p_value, f.interval_low, f.interval_high, f.threshold, f.n_current, f.explanation
        FROM findings f
        WHERE NOT EXISTS (
          SELECT FROM findings l
          WHERE l.window_start = f.window_start AND l.window_end = f.window_end AND l.model_version = f.model_version
            AND l.detector = f.detector AND l.modality = f.modality AND l.revision > f.revision)""",
    "grafana_alerts": """
        SELECT a.pending_since AS time, a.firing_since, a.resolved_at, a.alert_id, a.labels->>'model' AS model,
          a.alertname, a.severity, a.modality, a.state, a.inhibited_by, a.silenced_by IS NOT NULL AS silenced,
          a.acknowledged_by, a.annotations->>'summary' AS summary, a.annotations->>'runbook' AS runbook
        FROM alerts a""",
    "grafana_retrains": """
        SELECT j.created_at AS time, j.started_at, j.finished_at, j.job_id, j.model, j.state,
          j.spec->>'base_version' AS base_version, (j.result->'champion'->>'accuracy')::float8 AS champion_accuracy,
          (j.result->'candidate'->>'accuracy')::float8 AS candidate_accuracy, j.error
        FROM jobs j""",
    "grafana_version_changes": """
        SELECT l.at AS time, v.model, v.version, l.action, l.actor
        FROM audit_log l JOIN model_versions v ON v.version = l.subject""",
    "grafana_objectives": """
        SELECT s.evaluated_at AS time, s.model, s.slo, s.state->>'subject' AS subject,
          (s.state->>'target')::float8 AS target, s.state->>'verdict' AS verdict, s.state->>'firing' AS firing,
          (s.state->>'budget_left')::float8 AS budget_left, s.state->>'text' AS text
        FROM slo_status s""",
    "grafana_objective_events": """
        SELECT c.bucket_start AS time, c.model, c.sli, c.good, c.valid
        FROM slo_counts c""",
    "grafana_dead_letters": """
        SELECT d.recorded_at AS time, d.topic, d.error_code
        FROM dead_letters d""",
    "grafana_references": f"""
        SELECT r.logged_at AS time, {REFERENCE.format("r")}
        FROM request_ids r""",
    "grafana_requests": f"""
        SELECT r.logged_at AS time, {REFERENCE.format("r")}, v.model, p.model_version, p.route, p.status, p.error_code,
          p.prediction, p.confidence, p.agreement, p.degraded, p.quarantine, p.source, p.queue_ms, p.preprocess_ms,
          p.encode_ms, p.fuse_ms, p.total_ms
        FROM {LOGGED}""",
    "grafana_request_modalities": f"""
        SELECT r.logged_at AS time, {REFERENCE.format("r")}, m.modality, m.status, m.reason, m.captured_at, m.quality
        FROM request_ids r JOIN modality_log m ON m.request_id = r.request_id AND m.logged_at = r.logged_at""",
    # each label is looked up by itself: the planner must not read the whole log for the newest of them
    "grafana_labelled": f"""
        SELECT l.received_at AS time, o.model, o.model_version, o.confidence, o.prediction = l.label AS correct
        FROM labels l CROSS JOIN LATERAL (
          SELECT v.model, p.model_version, p.confidence, p.prediction FROM {LOGGED}
          WHERE r.request_id = l.request_id AND p.status = 'ok' AND p.quarantine IS NULL AND p.confidence IS NOT NULL
          OFFSET 0) o""",
}


def upgrade() -> None:
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
