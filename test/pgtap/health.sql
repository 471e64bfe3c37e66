-- health(): all is well, then each thing that can go wrong, with what to do.
BEGIN;
SELECT plan(16);
DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
CREATE TABLE part (id int PRIMARY KEY, owner_id bigint) PARTITION BY RANGE (id);
CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (1000);
DO $$ BEGIN PERFORM leadroute.attach('part'); END $$;
CREATE ROLE lr_gone;
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann');
INSERT INTO leadroute.rule (lead_table, position, name, rep, author) VALUES ('leads', 1, 'all', 1, 'lr_gone');
CREATE FUNCTION pg_temp.detail(name text) RETURNS text LANGUAGE sql AS $$ SELECT CASE WHEN ok THEN 'ok: ' ELSE 'NOT: ' END || detail FROM leadroute.health() WHERE item = name $$;

SELECT set_eq('SELECT item FROM leadroute.health()', ARRAY['preloaded', 'versions', 'shared memory', 'pg_cron', 'events worker', 'sweep', 'sweep job', 'overdue leads',
    'lead table "leads"', 'lead table "part"', 'orphans', 'rule authors', 'rules'], 'its items');
SELECT is_empty('SELECT item, detail FROM leadroute.health() WHERE NOT ok', 'all is well');
SELECT is_empty('SELECT item FROM leadroute.health() WHERE item IS NULL OR ok IS NULL OR detail IS NULL', 'nothing is left out');
SELECT matches(pg_temp.detail('shared memory'), '^ok: \d+ of \d+ tenants, \d+ of \d+ pool members', 'shared memory in numbers');

SELECT matches(pg_temp.detail('events worker'), '^ok: (running|idle, starts with the next event); \d+ events pending, \d+ skipped$', 'the worker that sends events');
SET LOCAL leadroute.notify = off;
SELECT matches(pg_temp.detail('events worker'), '^ok: .*leadroute.notify is off', 'told to be silent');
SET LOCAL leadroute.notify = transaction;
SELECT matches(pg_temp.detail('events worker'), '^ok: .*leadroute.notify is transaction', 'or not needed');

ALTER TABLE leads DISABLE TRIGGER zz_leadroute_owner;
SELECT matches(pg_temp.detail('lead table "leads"'), '^NOT: .*leads: trigger for follow_owner\(\) is disabled.*ENABLE TRIGGER', 'a disabled trigger');
ALTER TABLE leads ENABLE TRIGGER zz_leadroute_owner;
ALTER TABLE part_low DISABLE TRIGGER zz_leadroute;
SELECT matches(pg_temp.detail('lead table "part"'), '^NOT: .*part_low: trigger for route_lead\(\) is disabled', 'one of a partition');
SET LOCAL client_min_messages = error;
DROP TRIGGER zz_leadroute_delete ON leads;
SELECT matches(pg_temp.detail('lead table "leads"'), '^NOT: .*leads: trigger for follow_delete\(\) is missing', 'a missing one');
DROP TRIGGER zz_leadroute ON leads;
SELECT matches(pg_temp.detail('lead table "leads"'), '^NOT: no table has its triggers', 'the one that matters');
CREATE TABLE copy (LIKE leads);
CREATE TRIGGER zz_leadroute BEFORE INSERT ON copy FOR EACH ROW EXECUTE FUNCTION leadroute.route_lead('77');
SELECT matches(pg_temp.detail('orphans'), '^NOT: \S*copy: has triggers', 'a table that looks attached');

DROP ROLE lr_gone;
SELECT matches(pg_temp.detail('rule authors'), '^NOT: 1 rule\(s\) are skipped.*"all" by lr_gone', 'a rule without its author');
INSERT INTO leadroute.alert (kind, rule, message) VALUES ('rule_error', 1, 'x'), ('memory_full', NULL, 'x');
SELECT matches(pg_temp.detail('rules'), '^NOT: .*"all".*acknowledge', 'a rule with errors');
SELECT matches(pg_temp.detail('shared memory'), '^NOT: .*leadroute.max_members', 'memory that was full');
UPDATE leadroute.alert SET acknowledged_at = now();
SELECT matches(pg_temp.detail('rules') || pg_temp.detail('shared memory'), '^ok.*tenants', 'acknowledged');
SELECT * FROM finish();
ROLLBACK;
