"""Which role may do what, table by table; applied after every `alembic upgrade`.

Roles are groups without a login of their own: a deployment makes its logins members of them (docs/security.md). Column
lists name what a role may see or change of a table; without one it is the whole row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, text

from migrations.schema.partitions import PARTITIONED

OWNER, RETENTION = "fusionwatch_owner", "fusionwatch_retention"
WRITER, TRAINER, MONITOR = "fusionwatch_writer", "fusionwatch_trainer", "fusionwatch_monitor"
EMBEDDINGS, GRAFANA = "fusionwatch_embeddings", "fusionwatch_grafana_ro"

READ, ADD = "SELECT", "INSERT"
_SUMMARY_KEY = "slot_start, model_version, modality, topic, partition, first_offset"
_APPEND = ("SELECT (audit_id)", ADD)  # the id of a row just written is asked for with it
_REGISTRY = {
    "model_versions": (READ, ADD, "UPDATE (last_baseline_number)"),
    "model_aliases": (READ, ADD, "UPDATE (version, updated_at)"),
    "baselines": (READ, ADD, "UPDATE (pinned)"),
    "baseline_summaries": (
        "SELECT (baseline_id, modality, hour, encoder_fingerprint, counts)",
        ADD,
    ),
    "audit_log": _APPEND,
}

GRANTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    # What is logged is written and not read back. PostgreSQL lets nobody upsert a column who may not read it, so that
    # summaries and labels are readable.
    WRITER: {
        **_REGISTRY,
        "consumer_offsets": (READ, ADD, "UPDATE"),
        "request_ids": ("SELECT (request_id)", ADD),
        "prediction_log": (ADD,),
        "modality_log": (ADD,),
        "dead_letters": ('SELECT (topic, partition, "offset")', ADD, 'UPDATE ("offset")'),
        "offset_gaps": (ADD,),
        "summaries": (READ, ADD, "UPDATE"),
        "embedding_samples": (ADD,),
        "labels": (READ, ADD, "UPDATE"),
        "rollouts": (READ,),
        "rollout_reports": (READ, ADD, "UPDATE"),
        "shadow_log": ("SELECT (rollout_id, request_id)", ADD),
    },
    TRAINER: {
        **_REGISTRY,
        "jobs": (READ, "UPDATE"),
        "job_rows": (READ, ADD, "DELETE"),
        "labels": ("SELECT (request_id, label, labelled_at, received_at, source, logged_at)",),
        "request_ids": (READ,),
        "prediction_log": (
            "SELECT (request_id, logged_at, produced_at, model_version, status, quarantine, prediction, source)",
        ),
        "modality_log": ("SELECT (request_id, modality, logged_at, status, digest, key_id)",),
    },
    MONITOR: {
        "model_versions": (READ, "UPDATE (last_baseline_number)"),
        "model_aliases": (READ, ADD, "UPDATE"),
        "baselines": (READ, ADD, "UPDATE", "DELETE"),
        "baseline_summaries": (READ, ADD),
        "leaders": (READ, ADD, "UPDATE"),
        "sequential_state": (READ, ADD, "UPDATE", "DELETE"),
        "findings": (READ, ADD),
        "silences": (READ, ADD, "UPDATE (ended_at)"),
        "alerts": (READ, ADD, "UPDATE"),
        "notifications": (READ, ADD, "UPDATE"),
        "retrain_decisions": (READ, ADD, "UPDATE"),
        "retrain_approvals": (READ, ADD, "UPDATE (job_id)"),
        "jobs": (READ, ADD, "UPDATE"),
        "job_rows": (READ,),
        "audit_log": (READ, ADD),
        "audit_head": (READ,),
        "label_rounds": (READ, ADD, "UPDATE", "DELETE"),
        "label_queue": (READ, ADD),
        "rollouts": (READ, ADD, "UPDATE"),
        "rollout_checks": (READ, ADD),
        "rollout_reports": (READ,),
        "shadow_log": (READ,),
        "slo_counts": (READ, ADD, "UPDATE", "DELETE"),
        "slo_status": (READ, ADD, "UPDATE", "DELETE"),
        "reports": (READ, ADD, "UPDATE", "DELETE"),
        "report_files": (READ, ADD, "DELETE"),
        "offset_gaps": (READ, "UPDATE (seen_at)"),
        "consumer_offsets": (READ,),
        "dead_letters": (READ,),
        "labels": (
            "SELECT (request_id, label, labelled_at, received_at, source, verdict, sampling_probability, logged_at)",
        ),
        "label_slots": (READ,),
        "request_ids": (READ,),
        "prediction_log": (READ,),
        "modality_log": ("SELECT (request_id, modality, logged_at, status, reason, captured_at, quality)",),
        "summaries": (READ,),
    },
    # The log's tables are its own; what it lets go of it archives first.
    RETENTION: {
        "request_ids": (READ, "DELETE"),
        "dead_letters": (READ, "DELETE"),
        "label_slots": (READ, "DELETE"),
        "summaries": (READ, "DELETE"),
        "embedding_samples": ("SELECT (slot_start, model_version, modality, request_id)", "DELETE"),
        "audit_log": _APPEND,
    },
    EMBEDDINGS: {},
    # No embeddings, no digests; of requests what the views named grafana_* show.
    GRAFANA: {
        "findings": (READ,),
        "alerts": (READ,),
        "jobs": (READ,),
        "audit_log": (READ,),
        "model_versions": (READ,),
        "model_aliases": (READ,),
        "dead_letters": (READ,),
        "offset_gaps": (READ,),
        "slo_counts": (READ,),
        "slo_status": (READ,),
        "summaries": (f"SELECT ({_SUMMARY_KEY}, slot_seconds, worker_id, counts, updated_at)",),
    },
}
# Trigger functions are called by nobody: they act as their owner where they have to.
FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "announce_read": (EMBEDDINGS, MONITOR),
    "read_embeddings": (EMBEDDINGS, MONITOR),
    "read_embedding_samples": (EMBEDDINGS, MONITOR),
    "audit_digest": (),
    "audit_link": (),
    "audit_kept": (),
    "label_turn": (),
    "label_placed": (),
    "label_added": (),
    "label_corrected": (),
}
_LOGS = frozenset(table.name for table in PARTITIONED)
_VERSION = "alembic_version"
_VIEWS = text(
    "SELECT viewname, viewowner FROM pg_views "
    "WHERE schemaname = 'public' AND starts_with(viewname, 'grafana_') ORDER BY 1"
)
_FOREIGN = text(
    "SELECT c.oid::regclass::text AS name, c.relname = ANY(:logs) OR parent.relname = ANY(:logs) AS log "
    "FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid "
    "LEFT JOIN pg_class parent ON parent.oid = i.inhparent "
    "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') "
    "AND (c.relname = ANY(:tables) OR parent.relname = ANY(:logs)) "
    "AND c.relowner <> (CASE WHEN c.relname = ANY(:logs) OR parent.relname = ANY(:logs) "
    "THEN CAST(:retention AS regrole) ELSE CAST(:owner AS regrole) END) ORDER BY 1"
)


def apply(connection: Connection, tables: frozenset[str]) -> None:
    """Give the tables that exist to their owners and grant exactly what `GRANTS` says. Safe to run again.

    `tables` are those of the schema. Does nothing where the roles do not exist (an older revision) or this login may
    not act as the owner. Each owner changes in a transaction of its own, so that no two tables are locked at once.
    """
    names = [*GRANTS, OWNER]
    with connection.begin():
        known = connection.scalar(text("SELECT count(*) FROM pg_roles WHERE rolname = ANY(:names)"), {"names": names})
        if known != len(names) or not connection.scalar(text(f"SELECT pg_has_role('{OWNER}', 'USAGE')")):
            return
        # who gets a table needs the right to make one beside it
        connection.execute(text(f"GRANT USAGE, CREATE ON SCHEMA public TO {OWNER}, {RETENTION}"))
        given = {"logs": sorted(_LOGS), "tables": [*tables, _VERSION]}
        foreign = connection.execute(_FOREIGN, {**given, "owner": OWNER, "retention": RETENTION}).all()
    for name, log in foreign:
        with connection.begin():
            connection.execute(text(f"ALTER TABLE {name} OWNER TO {RETENTION if log else OWNER}"))
    with connection.begin():
        present = set(connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")))
        for statement in _statements(present & (tables | {_VERSION})):
            connection.execute(text(statement))
    _show_views(connection)


def _show_views(connection: Connection) -> None:
    """Let Grafana read its views, which read as their owner: that one must be able to read the logs too."""
    with connection.begin():
        views = connection.execute(_VIEWS).all()
        if views:
            connection.execute(text(f"GRANT SELECT ON {', '.join(sorted(_LOGS))}, request_ids TO {OWNER}"))
    for name, owner in views:
        with connection.begin():
            if owner != OWNER:
                connection.execute(text(f"ALTER VIEW {name} OWNER TO {OWNER}"))
            connection.execute(text(f"GRANT SELECT ON {name} TO {GRAFANA}"))


def _statements(tables: set[str]) -> Iterator[str]:
    groups = ", ".join(GRANTS)
    yield f"GRANT USAGE ON SCHEMA public TO {groups}"
    yield f"REVOKE ALL ON {', '.join(sorted(tables - _LOGS))} FROM {groups}"
    if logs := sorted(tables & _LOGS):
        yield f"REVOKE ALL ON {', '.join(logs)} FROM {', '.join(GRANTS.keys() - {RETENTION})}"
    yield f"GRANT SELECT ON {_VERSION} TO {groups}"
    for role, granted in GRANTS.items():
        for table in sorted(granted.keys() & tables):
            yield f"GRANT {', '.join(granted[table])} ON {table} TO {role}"
    for function, roles in FUNCTIONS.items():
        yield (
            f"DO $$ BEGIN IF to_regproc('public.{function}') IS NOT NULL THEN "
            f"ALTER FUNCTION {function} OWNER TO {OWNER}; REVOKE ALL ON FUNCTION {function} FROM PUBLIC, {groups}; "
            + (f"GRANT EXECUTE ON FUNCTION {function} TO {', '.join(roles)}; " if roles else "")
            + "END IF; END $$"
        )
