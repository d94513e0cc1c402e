-- A login for each program: a member of the roles to which migrations grant what it may do. Safe to run again.
-- psql --file=logins.sql with a password each in WORKER_, TRAINER_, MONITOR_ and API_PASSWORD, as a role that may make
-- roles and grant these, after the first migration.
\set ON_ERROR_STOP on
\getenv worker WORKER_PASSWORD
\getenv trainer TRAINER_PASSWORD
\getenv monitor MONITOR_PASSWORD
\getenv api API_PASSWORD
SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['fusion_worker', 'fusion_trainer', 'fusion_monitor', 'fusion_api']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE fusion_worker LOGIN PASSWORD :'worker';
ALTER ROLE fusion_trainer LOGIN PASSWORD :'trainer';
ALTER ROLE fusion_monitor LOGIN PASSWORD :'monitor';
ALTER ROLE fusion_api LOGIN PASSWORD :'api';
GRANT fusionwatch_writer TO fusion_worker;
GRANT fusionwatch_trainer TO fusion_trainer;
GRANT fusionwatch_monitor, fusionwatch_retention TO fusion_monitor;
GRANT fusionwatch_monitor TO fusion_api;
