-- acknowledge(): who may take note of which alert, and that the first one counts. The view sla: which clocks run.
BEGIN;
SELECT plan(19);
CREATE ROLE lr_app; CREATE ROLE lr_boss; CREATE ROLE lr_ann; CREATE ROLE lr_none;
DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name, db_role) VALUES (4, 'Boss', 'lr_boss'), (2, 'Bob', NULL);
INSERT INTO leadroute.rep (id, name, db_role, manager) VALUES (1, 'Ann', 'lr_ann', 4);
INSERT INTO leadroute.pool (name, id, manager) VALUES ('team', 1, 4);
DO $$ BEGIN PERFORM leadroute.grant_access('lr_app', 'app'), leadroute.grant_access('lr_boss', 'manager'), leadroute.grant_access('lr_ann', 'rep'); END $$;
INSERT INTO leadroute.alert (tenant, id, kind, rep, pool, manager, message) VALUES (0, 1001, 'sla_breach', NULL, NULL, 4, 'for the boss'),
    (0, 1002, 'sla_breach', 1, NULL, NULL, 'about Ann'), (0, 1003, 'nobody_available', NULL, 1, NULL, 'of a pool of the boss'),
    (0, 1004, 'sla_breach', 2, NULL, NULL, 'about Bob'), (7, 1005, 'sla_breach', 1, NULL, 4, 'of another tenant');

CREATE FUNCTION pg_temp.by(role text, alert bigint, tenant bigint DEFAULT 0) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    PERFORM leadroute.acknowledge(alert, tenant);
    RESET ROLE;
    RETURN (SELECT 'by ' || a.acknowledged_by FROM leadroute.alert a WHERE a.tenant = by.tenant AND a.id = by.alert AND a.acknowledged_at > now());
EXCEPTION WHEN OTHERS THEN
    RESET ROLE;
    RETURN SQLSTATE;
END $$;
GRANT USAGE ON SCHEMA leadroute TO lr_none;

SELECT is(pg_temp.by('lr_none', 1001), 'LR012', 'nobody without a level');
SELECT is(pg_temp.by('lr_ann', 1001), 'LR012', 'no rep');
SELECT is(pg_temp.by('lr_ann', 1002), 'LR012', 'not even what is about her: it is for others to see');
SELECT is(pg_temp.by('lr_boss', 1004), 'LR008', 'a manager not what is about a rep of somebody else');
SELECT is(pg_temp.by('lr_boss', 1001), 'by lr_boss', 'what is for the manager');
SELECT is(pg_temp.by('lr_boss', 1003), 'by lr_boss', 'what is of its pools');
SELECT is(pg_temp.by('lr_boss', 1002), 'by lr_boss', 'what is about a rep of the manager');
SELECT is(pg_temp.by('lr_app', 1002), 'by lr_boss', 'the first one counts');
SELECT is(pg_temp.by('lr_app', 1004), 'by lr_app', 'an app any of the tenant');
SELECT is(pg_temp.by('lr_app', 1005), 'LR008', 'another tenant''s is none of this one');
SELECT is(pg_temp.by('lr_app', 1005, 7), 'LR012', 'nor to be had with its number');
SELECT throws_ok('SELECT leadroute.acknowledge(99)', 'LR008', 'no alert 99', 'one that is not there');
SELECT throws_ok('SELECT leadroute.acknowledge(NULL)', 'LR008', 'no alert NULL', 'none at all');
SELECT lives_ok('SELECT leadroute.acknowledge(1005, 7)', 'a superuser any');
SELECT is_empty('SELECT id FROM leadroute.alert WHERE acknowledged_at IS NULL', 'all are seen');

INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1), ('team', 2);
INSERT INTO leadroute.sla_policy (name, first_touch) VALUES ('soon', '1 hour');
UPDATE leadroute.pool SET sla = 'soon';
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 1, 'team', 'source = ''team''', 'team');
INSERT INTO public.leads (source) VALUES ('team'), ('team'), ('team'), ('other');
DO $$ BEGIN PERFORM leadroute.touch('leads', 3, 'call'); END $$;
CREATE FUNCTION pg_temp.clocks() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s/%s %s: rep %s, late %s, hops %s', tenant, lead_table, lead_id, rep, date_trunc('minute', late), hops), '; ' ORDER BY lead_id) FROM leadroute.sla $$;
SELECT is(pg_temp.clocks(), '0/leads 1: rep 1, late , hops 0; 0/leads 2: rep 2, late , hops 0', 'the clocks of untouched leads run, and are not late');
UPDATE leadroute.assignment SET due_at = clock_timestamp() - interval '10 minutes', hops = 2 WHERE lead_id = '1';
UPDATE leadroute.assignment SET due_at = 'infinity' WHERE lead_id = '2';
SELECT is(pg_temp.clocks(), '0/leads 1: rep 1, late 00:10:00, hops 2; 0/leads 2: rep 2, late , hops 0', 'how late one is; one that is never due is not');
SELECT is((SELECT due_at FROM leadroute.sla WHERE lead_id = '1') < now(), true, 'since when it was due');
SET LOCAL ROLE lr_ann;
SELECT is((SELECT string_agg(lead_id, ' ') FROM leadroute.sla), '1', 'a rep sees its own');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
