-- Grafana's login: a member of the role that migrations grant what it may read. Safe to run again.
-- psql --set=password=... --file=grafana_ro.sql, as a role that may make roles, after the first migration.
\set ON_ERROR_STOP on
SELECT 'CREATE ROLE grafana_ro' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'grafana_ro') \gexec
ALTER ROLE grafana_ro LOGIN PASSWORD :'password' CONNECTION LIMIT 8;
ALTER ROLE grafana_ro SET statement_timeout = '5s';
ALTER ROLE grafana_ro SET default_transaction_read_only = on;
GRANT fusionwatch_grafana_ro TO grafana_ro;
