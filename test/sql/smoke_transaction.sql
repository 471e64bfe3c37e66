-- The example in one transaction: rolled back, it leaves nothing, in memory either; committed, it
-- is as in autocommit.
\getenv abs_srcdir PG_ABS_SRCDIR
\set example :abs_srcdir '/data/example.sql'

BEGIN;
\i :example
ROLLBACK;
SELECT count(*) AS extensions FROM pg_extension WHERE extname = 'leadroute';
SELECT to_regclass('public.leads') AS lead_table, to_regnamespace('leadroute') AS schema;

-- Had a turn been kept, other owners would come out now.
BEGIN;
\i :example
COMMIT;

-- With the configuration in place: inserts that are rolled back, then the same again.
BEGIN;
INSERT INTO leads (source, region) SELECT 'Web', 'North' FROM generate_series(1, 3) RETURNING owner_id;
ROLLBACK;
SELECT pool, rep, received, today, open FROM leadroute.pool_state ORDER BY pool, rep;
SELECT * FROM leadroute.verify();
BEGIN;
INSERT INTO leads (source, region) SELECT 'Web', 'North' FROM generate_series(1, 3) RETURNING owner_id;
COMMIT;
SELECT pool, rep, received, today, open FROM leadroute.pool_state ORDER BY pool, rep;
SELECT * FROM leadroute.verify();

SET client_min_messages = warning;
DROP TABLE leads;
DROP EXTENSION leadroute;
