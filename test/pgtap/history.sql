-- config_change: every change of configuration once, by whom, from what to what; a restore adds none.
BEGIN;
SELECT no_plan();
CREATE ROLE lr_keeper;
DO $$ BEGIN
    PERFORM leadroute.create_lead_table('public.leads');
    PERFORM leadroute.grant_access('lr_keeper', 'admin');
END $$;
CREATE FUNCTION pg_temp.added(OUT changes text) LANGUAGE plpgsql AS $$
BEGIN
    SELECT string_agg(format('%s %s v%s%s%s', table_name, key, version, CASE WHEN old IS NULL THEN ' new' END, CASE WHEN new IS NULL THEN ' gone' END), '; ' ORDER BY id)
    INTO changes FROM leadroute.config_change;
    DELETE FROM leadroute.config_change;
END $$;
SELECT is(pg_temp.added(), 'lead_table {"id": 1} v1 new; access {"role": "lr_keeper"} v1 new', 'attaching and granting are changes');

INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob');
INSERT INTO leadroute.pool (name) VALUES ('team');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'team');
SELECT is(pg_temp.added(), 'rep {"id": 1} v1 new; rep {"id": 2} v1 new; pool {"id": 1} v1 new; pool_member {"rep": 1, "pool": "team"} v1 new; rule {"id": 1} v1 new', 'new rows');
UPDATE leadroute.rep SET name = name, paused = paused;
SELECT is(pg_temp.added(), NULL, 'an UPDATE that changes nothing');
UPDATE leadroute.rep SET version = 99, changed_at = '2000-01-01' WHERE id = 1;
SELECT is(pg_temp.added(), NULL, 'nor does one that claims a version');
SELECT is((SELECT version FROM leadroute.rep WHERE id = 1), 1, 'which stays');
UPDATE leadroute.rep SET paused = id = 1;
SELECT is(pg_temp.added(), 'rep {"id": 1} v2', 'of two rows the one that changed');
UPDATE leadroute.rep SET daily_cap = 5 WHERE id = 1;
SELECT results_eq('SELECT old ->> ''daily_cap'', new ->> ''daily_cap'', changed_by::text, login::text FROM leadroute.config_change',
    'VALUES (NULL, ''5'', current_user::text, session_user::text)', 'old, new and who');
SELECT is(pg_temp.added(), 'rep {"id": 1} v3', 'its number');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'x') ON CONFLICT DO NOTHING;
SELECT is(pg_temp.added(), NULL, 'a row that was not inserted');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Anna') ON CONFLICT (tenant, id) DO UPDATE SET name = excluded.name;
SELECT is(pg_temp.added(), 'rep {"id": 1} v4', 'one that was updated instead');
SAVEPOINT a;
DELETE FROM leadroute.rep WHERE id = 2;
ROLLBACK TO a;
SELECT is(pg_temp.added(), NULL, 'what is rolled back');
DELETE FROM leadroute.rep WHERE id = 2;
SELECT is(pg_temp.added(), 'rep {"id": 2} v2 gone', 'a deleted row');
UPDATE leadroute.pool SET name = 'sales';
SELECT is(pg_temp.added(), 'pool_member {"rep": 1, "pool": "sales"} v2; rule {"id": 1} v2; pool {"id": 1} v2', 'a rename, with what follows it');
INSERT INTO leadroute.rep (tenant, id, name) VALUES (5, 1, 'Gil');
SELECT is((SELECT tenant FROM leadroute.config_change), 5::bigint, 'the tenant');
SELECT isnt(pg_temp.added(), NULL, 'of a row');

-- as a restore does
INSERT INTO leadroute.rep (id, name, version, changed_at) VALUES (3, 'Old', 17, '2020-01-01');
SELECT is(pg_temp.added(), NULL, 'a row that brings its version is not logged');
SELECT results_eq('SELECT version, changed_at FROM leadroute.rep WHERE id = 3', 'VALUES (17, ''2020-01-01''::timestamptz)', 'nor stamped');
UPDATE leadroute.rep SET name = 'Older' WHERE id = 3;
SELECT is(pg_temp.added(), 'rep {"id": 3} v18', 'its next change is');

SET LOCAL ROLE lr_keeper;
INSERT INTO leadroute.rep (id, name, version, changed_at) VALUES (4, 'Sly', 17, '2020-01-01');
SELECT throws_ok('INSERT INTO leadroute.config_change (changed_by, login, table_name, key, version) VALUES (''x'', ''x'', ''rep'', ''{}'', 1)', '42501', NULL, 'nobody writes history');
SELECT throws_ok('DELETE FROM leadroute.config_change', '42501', NULL, 'or takes it away');
SELECT is((SELECT format('%s by %s, %s', key, changed_by, login) FROM leadroute.config_change), format('{"id": 4} by lr_keeper, %s', session_user), 'an admin reads it');
RESET ROLE;
SELECT is(pg_temp.added(), 'rep {"id": 4} v1 new', 'only a superuser brings a version');

TRUNCATE leadroute.pool_member;
SELECT is(pg_temp.added(), 'pool_member {"rep": 1, "pool": "sales"} v3 gone', 'TRUNCATE');
SELECT * FROM finish();
ROLLBACK;
