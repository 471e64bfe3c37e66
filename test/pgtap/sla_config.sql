-- First-touch policies and their steps: what is refused, what follows, history, who may write them.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

-- Passes when the statement is refused, twice, with the SQLSTATE, a message like the pattern, a detail and a hint.
CREATE FUNCTION pg_temp.refused(statement text, code text, pattern text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    FOR attempt IN 1 .. 2 LOOP
        state := 'nothing';
        BEGIN
            EXECUTE statement;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        END;
        IF state <> code OR message !~ pattern OR hint = '' OR detail = '' THEN
            RETURN fail(statement) || E'\n' || diag(format('%s: %s | %s | %s', state, message, detail, hint));
        END IF;
    END LOOP;
    RETURN pass('refused: ' || statement);
END $$;

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.calendar (name) VALUES ('office'), ('shop');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann');
INSERT INTO leadroute.pool (id, name) VALUES (1, 'sales'), (2, 'bin'), (3, 'team');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('sales', 1);

-- Values ------------------------------------------------------------------------------------------

INSERT INTO leadroute.sla_policy (name, first_touch) VALUES ('gold', '5 minutes');
SELECT results_eq($$ SELECT name, business_time, on_breach, reroute_to, exclude_last, max_hops, returns_turn, moves_manual, digest_over FROM leadroute.sla_policy $$,
    $$ VALUES ('gold', false, 'reroute', 'pool', NULL::integer, 3, false, false, 5) $$, 'the defaults of a policy');
SELECT pg_temp.refused(format('INSERT INTO leadroute.sla_policy (name, first_touch%s) VALUES (%s)', k, v), c, p)
FROM (VALUES ('', 'NULL, ''1 h''', 'LR005', 'name of the policy is empty'), ('', ''' x'', ''1 h''', 'LR005', 'begins or ends with a blank'),
    ('', '''gold'', ''1 h''', 'LR005', 'policy "gold" exists already'), ('', '''x'', NULL', 'LR005', 'has no first_touch'),
    ('', '''x'', ''0''', 'LR005', 'is no time'), ('', '''x'', ''-1 h''', 'LR005', 'is no time'), ('', '''x'', ''11 years''', 'LR005', 'more than ten years'),
    ('', '''x'', ''1 month''', 'LR005', 'has months'), (', business_time', '''x'', ''2 days'', true', 'LR005', 'has days'),
    (', business_time', '''x'', ''1 h'', NULL', 'LR005', 'has no business_time'), (', calendar', '''x'', ''1 h'', ''office''', 'LR005', 'counts for nothing'),
    (', business_time, calendar', '''x'', ''1 h'', true, ''nix''', 'LR008', 'no calendar "nix"'), (', on_breach', '''x'', ''1 h'', ''cry''', 'LR005', 'unknown action "cry"'),
    (', reroute_to', '''x'', ''1 h'', ''mars''', 'LR005', 'unknown reroute_to'), (', exclude_last', '''x'', ''1 h'', 0', 'LR005', 'exclude_last .* too small'),
    (', max_hops', '''x'', ''1 h'', -1', 'LR005', 'max_hops .* too small'), (', away_after_breaches', '''x'', ''1 h'', 0', 'LR005', 'away_after_breaches .* too small'),
    (', away_for', '''x'', ''1 h'', ''0''', 'LR005', 'away_for'), (', digest_over', '''x'', ''1 h'', 0', 'LR005', 'digest_over .* too small'),
    (', recycle_pool', '''x'', ''1 h'', ''nix''', 'LR008', 'no pool "nix"'), (', id', '''x'', ''1 h'', 0', 'LR005', 'is not positive'),
    (', id', format('''x'', ''1 h'', %s', (SELECT id FROM leadroute.sla_policy)), 'LR005', 'another policy has the id'),
    (', tenant, recycle_pool', '''x'', ''1 h'', 7, ''bin''', 'LR008', 'no pool "bin"')) AS x (k, v, c, p);
SELECT pg_temp.refused('UPDATE leadroute.sla_policy SET tenant = 7', 'LR005', 'cannot change its id or tenant');

INSERT INTO leadroute.sla_policy (name, first_touch, business_time, calendar, recycle_pool, on_breach) VALUES ('silver', '8 h', true, 'office', 'bin', NULL);
SELECT pg_temp.refused(format('INSERT INTO leadroute.sla_step (policy, %s) VALUES (%s)', k, v), c, p)
FROM (VALUES ('after, action', 'NULL, ''1 h'', ''remind''', 'LR005', 'needs a policy'), ('action', '''gold'', ''remind''', 'LR005', 'has no time'),
    ('after, share, action', '''gold'', ''1 h'', 1, ''remind''', 'LR005', 'two times'), ('after, action', '''gold'', ''0'', ''remind''', 'LR005', 'is no time'),
    ('after, action', '''silver'', ''1 day'', ''remind''', 'LR005', 'has days'), ('share, action', '''gold'', 0, ''remind''', 'LR005', 'share 0 is out of range'),
    ('share, action', '''gold'', ''NaN'', ''remind''', 'LR005', 'out of range'), ('share, action', '''gold'', 0.5, NULL', 'LR005', 'unknown action NULL'),
    ('share, action', '''gold'', 0.5, ''cry''', 'LR005', 'unknown action "cry"'), ('share, action, pool', '''gold'', 0.5, ''remind'', ''bin''', 'LR005', 'takes no pool'),
    ('share, action, pool', '''gold'', 0.5, ''recycle'', ''nix''', 'LR008', 'no pool "nix"'), ('share, action', '''nix'', 0.5, ''remind''', 'LR008', 'no sla_policy "nix"')) AS x (k, v, c, p);
INSERT INTO leadroute.sla_step (policy, after, action) VALUES ('gold', '1 day', 'escalate');
SELECT pg_temp.refused('UPDATE leadroute.sla_policy SET business_time = true WHERE name = ''gold''', 'LR005', 'a step of policy "gold" is given in days');

-- References --------------------------------------------------------------------------------------

SELECT pg_temp.refused('UPDATE leadroute.rep SET sla = ''nix''', 'LR008', 'no sla_policy "nix"');
SELECT pg_temp.refused('UPDATE leadroute.pool SET sla = ''nix''', 'LR008', 'no sla_policy "nix"');
SELECT pg_temp.refused('INSERT INTO leadroute.rule (lead_table, position, name, pool, sla) VALUES (''leads'', 1, ''all'', ''sales'', ''nix'')', 'LR008', 'no sla_policy "nix"');
SELECT pg_temp.refused('UPDATE leadroute.lead_table SET sla = ''nix''', 'LR008', 'no sla_policy "nix"');
INSERT INTO leadroute.rule (lead_table, position, name, pool, sla) VALUES ('leads', 1, 'all', 'sales', 'silver');
UPDATE leadroute.rep SET sla = 'silver';
UPDATE leadroute.pool SET sla = 'silver' WHERE name = 'sales';
UPDATE leadroute.lead_table SET sla = 'silver';
INSERT INTO leadroute.sla_step (policy, share, action, pool) VALUES ('silver', 2, 'recycle', 'team');

UPDATE leadroute.sla_policy SET name = 'bronze' WHERE name = 'silver';
UPDATE leadroute.pool SET name = 'dust' WHERE name = 'bin';
UPDATE leadroute.pool SET name = 'crew' WHERE name = 'team';
UPDATE leadroute.calendar SET name = 'desk' WHERE name = 'office';
SELECT results_eq($$ SELECT r.sla, p.sla, u.sla, t.sla, s.policy, s.pool, y.recycle_pool, y.calendar
    FROM leadroute.rep r, leadroute.pool p, leadroute.rule u, leadroute.lead_table t, leadroute.sla_step s, leadroute.sla_policy y
    WHERE p.name = 'sales' AND s.policy = 'bronze' AND y.name = 'bronze' $$,
    $$ VALUES ('bronze', 'bronze', 'bronze', 'bronze', 'bronze', 'crew', 'dust', 'desk') $$, 'a rename is followed');
SELECT pg_temp.refused('DELETE FROM leadroute.sla_policy WHERE name = ''bronze''', 'LR006', 'policy "bronze" is in use');
SELECT pg_temp.refused('DELETE FROM leadroute.pool WHERE name = ''dust''', 'LR006', 'pool "dust" is in use');
SELECT pg_temp.refused('DELETE FROM leadroute.pool WHERE name = ''crew''', 'LR006', 'pool "crew" is in use');
SELECT pg_temp.refused('DELETE FROM leadroute.calendar WHERE name = ''desk''', 'LR006', 'calendar "desk" is in use');

UPDATE leadroute.rep SET sla = NULL;
UPDATE leadroute.pool SET sla = NULL;
UPDATE leadroute.rule SET sla = NULL;
UPDATE leadroute.lead_table SET sla = NULL;
INSERT INTO leadroute.sla_step (policy, share, action) VALUES ('bronze', 0.5, 'remind');
DELETE FROM leadroute.sla_policy WHERE name = 'bronze';
SELECT is((SELECT count(*) FROM leadroute.sla_step), 1::bigint, 'a deleted policy takes its steps along');

-- The foreign keys stand behind the triggers, and ON CONFLICT is left to deal with duplicates itself.
INSERT INTO leadroute.sla_policy (name, first_touch) VALUES ('gold', '1 hour') ON CONFLICT DO NOTHING;
INSERT INTO leadroute.sla_policy (name, first_touch) VALUES ('gold', '1 hour') ON CONFLICT (tenant, name) DO UPDATE SET first_touch = excluded.first_touch;
SELECT is((SELECT first_touch FROM leadroute.sla_policy), '1 hour'::interval, 'ON CONFLICT works');

-- History and access ------------------------------------------------------------------------------

SELECT results_eq($$ SELECT table_name, count(*), max(version) FROM leadroute.config_change WHERE table_name LIKE 'sla%' GROUP BY 1 ORDER BY 1 $$,
    $$ VALUES ('sla_policy', 7::bigint, 5), ('sla_step', 7::bigint, 4) $$,
    'each change is in the history');

CREATE ROLE lr_admin; CREATE ROLE lr_app; CREATE ROLE lr_other;
DO $$ BEGIN PERFORM leadroute.grant_access('lr_admin', 'admin'), leadroute.grant_access('lr_app', 'app'), leadroute.grant_access('lr_other', 'admin', 7); END $$;
SET LOCAL ROLE lr_admin;
INSERT INTO leadroute.sla_policy (name, first_touch) VALUES ('tin', '1 day');
INSERT INTO leadroute.sla_step (policy, share, action) VALUES ('tin', 0.5, 'remind');
UPDATE leadroute.rep SET sla = 'tin';
UPDATE leadroute.sla_policy SET name = 'zinc' WHERE name = 'tin';
SELECT is((SELECT sla FROM leadroute.rep), 'zinc', 'an admin writes policies');
SELECT throws_ok('DELETE FROM leadroute.sla_policy WHERE name = ''zinc''', 'LR006', NULL, 'and is told by whom one is used');
RESET ROLE;
SET LOCAL ROLE lr_other;
SELECT is((SELECT count(*) FROM leadroute.sla_policy), 0::bigint, 'one of another tenant does not see them');
SELECT throws_ok('INSERT INTO leadroute.sla_policy (name, first_touch) VALUES (''x'', ''1 h'')', '42501', NULL, 'nor writes any');
RESET ROLE;
SET LOCAL ROLE lr_app;
SELECT throws_ok('SELECT * FROM leadroute.sla_policy', '42501', NULL, 'the app does not read them');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
