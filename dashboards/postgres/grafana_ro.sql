-- The role Grafana reads with: no embeddings, no digests, no writing, no long statements. Safe to run again.
-- psql --set=password=... --file=grafana_ro.sql, as the owner of the tables, after every migration.
\set ON_ERROR_STOP on
SELECT 'CREATE ROLE grafana_ro' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'grafana_ro') \gexec
ALTER ROLE grafana_ro LOGIN PASSWORD :'password' CONNECTION LIMIT 8;
ALTER ROLE grafana_ro SET statement_timeout = '5s';
ALTER ROLE grafana_ro SET default_transaction_read_only = on;
GRANT USAGE ON SCHEMA public TO grafana_ro;
GRANT SELECT ON findings, alerts, jobs, audit_log, model_versions, model_aliases, dead_letters,
  offset_gaps, slo_counts, slo_status TO grafana_ro;
GRANT SELECT (slot_start, model_version, modality, topic, partition, slot_seconds, worker_id, counts, updated_at)
  ON summaries TO grafana_ro;
