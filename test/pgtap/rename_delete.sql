-- Names may change and references follow; what is in use cannot be deleted; who writes a rule is its
-- author; DDL that breaks a rule is noticed at once.
BEGIN;
SELECT plan(51);
SET LOCAL client_min_messages = warning;

CREATE FUNCTION pg_temp.refused(statement text, code text, pattern text, description text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    state text := 'nothing';
    message text;
    detail text;
    hint text;
BEGIN
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    END;
    IF state = code AND detail ~ pattern AND hint <> '' THEN
        RETURN pass(description);
    END IF;
    RETURN fail(description) || E'\n' || diag(format('%s: %s | %s | %s', state, message, detail, hint));
END
$$;

DO $$ BEGIN
    PERFORM leadroute.create_lead_table('public.leads');
    PERFORM leadroute.create_lead_table('public.others');
END $$;
INSERT INTO leadroute.rep (id, name, manager) VALUES (1, 'Ann', NULL), (2, 'Bob', 1), (3, 'Cid', NULL), (4, 'Dan', NULL);
INSERT INTO leadroute.pool (id, name, overflow_pool, manager) VALUES (1, 'a', 'b', 4), (2, 'b', NULL, NULL), (3, 'c', NULL, NULL), (4, 'd', NULL, NULL);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('a', 1), ('b', 2);
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, pool, overflow_pool) VALUES (1, 'leads', 1, 'first', $$source = 'web'$$, 'a', 'c');
INSERT INTO leadroute.rule (id, lead_table, position, name, rep) VALUES (2, 'leads', 2, 'second', 3);
UPDATE leadroute.lead_table SET fallback_pool = 'b' WHERE name = 'leads';
-- the same names in another tenant, which must not be touched
INSERT INTO leadroute.rep (tenant, id, name) VALUES (9, 1, 'Ann');
INSERT INTO leadroute.pool (tenant, id, name) VALUES (9, 1, 'a'), (9, 2, 'b'), (9, 3, 'c');
INSERT INTO leadroute.pool_member (tenant, pool, rep) VALUES (9, 'a', 1);
INSERT INTO leadroute.rule (tenant, id, lead_table, position, name, pool, overflow_pool) VALUES (9, 1, 'leads', 1, 'first', 'a', 'c');
INSERT INTO public.leads (id, source) VALUES (1, 'web'), (2, 'mail');

-- Renames ---------------------------------------------------------------------------------------

UPDATE leadroute.pool SET name = 'alpha' WHERE tenant = 0 AND name = 'a';
UPDATE leadroute.pool SET name = name || '_2' WHERE tenant = 0 AND name IN ('b', 'c');
SELECT results_eq('SELECT pool, rep FROM leadroute.pool_member WHERE tenant = 0 ORDER BY pool',
    $$ VALUES ('alpha', 1::bigint), ('b_2', 2) $$, 'members follow');
SELECT results_eq('SELECT pool, overflow_pool, author FROM leadroute.rule WHERE tenant = 0 AND id = 1',
    $$ VALUES ('alpha', 'c_2', current_user::name) $$, 'rules follow, both ways');
SELECT is((SELECT overflow_pool FROM leadroute.pool WHERE tenant = 0 AND name = 'alpha'), 'b_2', 'overflow pools follow');
SELECT is((SELECT fallback_pool FROM leadroute.lead_table WHERE name = 'leads'), 'b_2', 'fallback pools follow');
SELECT results_eq('SELECT m.pool, r.pool, r.overflow_pool FROM leadroute.pool_member m, leadroute.rule r WHERE m.tenant = 9 AND r.tenant = 9',
    $$ VALUES ('a', 'a', 'c') $$, 'another tenant''s do not');
SELECT is((SELECT pool FROM leadroute.decision WHERE lead_id = '1'), 'alpha', 'the record shows present names');
INSERT INTO public.leads (id, source) VALUES (3, 'web');
SELECT is((SELECT pool FROM leadroute.decision WHERE lead_id = '3'), 'alpha', 'and leads are routed by them');
UPDATE leadroute.lead_table SET name = 'sales leads' WHERE name = 'leads';
SELECT is((SELECT count(*) FROM leadroute.rule WHERE lead_table = 'sales leads'), 3::bigint, 'rules follow a lead table, of every tenant');
SELECT matches(leadroute.why('sales leads', 1), 'Lead 1 of "sales leads"', 'and it goes by its new name');
SELECT pg_temp.refused($$ UPDATE leadroute.lead_table SET name = 'others' WHERE name = 'sales leads' $$, 'LR005', '.', 'a name that is taken');
SELECT pg_temp.refused($$ UPDATE leadroute.lead_table SET fallback_pool = 'nix' WHERE name = 'sales leads' $$, 'LR008', '.', 'an unknown fallback pool');
SET CONSTRAINTS ALL DEFERRED;
UPDATE leadroute.pool SET name = 'a' WHERE tenant = 0 AND name = 'alpha';
SET CONSTRAINTS ALL IMMEDIATE;
SELECT is((SELECT pool FROM leadroute.rule WHERE tenant = 0 AND id = 1), 'a', 'also with deferred constraints');
INSERT INTO leadroute.rep (tenant, id, name, manager) VALUES (9, 11, 'X', 12), (9, 12, 'Y', NULL);
SELECT pass('rows of one statement may refer to each other');

-- Positions -------------------------------------------------------------------------------------

UPDATE leadroute.rule SET position = 3 - position WHERE tenant = 0;
SELECT results_eq('SELECT id, position FROM leadroute.rule WHERE tenant = 0 ORDER BY id', 'VALUES (1::bigint, 2), (2, 1)', 'two rules swap');
SET CONSTRAINTS ALL DEFERRED;
UPDATE leadroute.rule SET position = 1 WHERE tenant = 0 AND id = 1;
UPDATE leadroute.rule SET position = 2 WHERE tenant = 0 AND id = 2;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT results_eq('SELECT id, position FROM leadroute.rule WHERE tenant = 0 ORDER BY id', 'VALUES (1::bigint, 1), (2, 2)', 'also in two statements, deferred');

-- In use ----------------------------------------------------------------------------------------

SELECT pg_temp.refused('DELETE FROM leadroute.rep WHERE tenant = 0 AND id = 1', 'LR006', 'pool "a" as a member.*rep 2 as the manager.*open assignment of lead 1',
    'a rep in a pool, a manager, with an open lead');
SELECT pg_temp.refused('DELETE FROM leadroute.rep WHERE tenant = 0 AND id = 3', 'LR006', 'rule "second" \(2\).*open assignment of lead 2', 'a rep that is a rule''s target');
SELECT pg_temp.refused('DELETE FROM leadroute.rep WHERE tenant = 0 AND id = 4', 'LR006', 'pool "a"', 'a pool''s manager');
SELECT pg_temp.refused('DELETE FROM leadroute.pool WHERE tenant = 0 AND id = 1', 'LR006', '1 member.*rule "first" \(1\).*open assignment of lead', 'a pool with members, rules, open leads');
SELECT pg_temp.refused('DELETE FROM leadroute.pool WHERE tenant = 0 AND id = 2', 'LR006', 'pool "a".*lead table "sales leads"', 'an overflow and fallback pool');
SELECT pg_temp.refused('DELETE FROM leadroute.pool WHERE tenant = 0 AND id = 3', 'LR006', 'rule "first"', 'a rule''s overflow pool');
SELECT pg_temp.refused('DELETE FROM leadroute.lead_table WHERE name = ''sales leads''', 'LR006', 'rule "first".*open assignment', 'a lead table');
SELECT pg_temp.refused('DELETE FROM leadroute.lead_table WHERE name = ''others''', 'LR006', 'the triggers of public.others', 'a lead table without rules');
SELECT throws_ok('TRUNCATE leadroute.pool', '0A000', NULL, 'TRUNCATE of a pool that is referred to');
SELECT lives_ok('DELETE FROM leadroute.pool WHERE tenant = 0 AND id = 4', 'what nobody uses is deleted');
SELECT lives_ok($$ DELETE FROM leadroute.rule WHERE tenant = 9; DELETE FROM leadroute.pool_member WHERE tenant = 9;
    DELETE FROM leadroute.pool WHERE tenant = 9; DELETE FROM leadroute.rep WHERE tenant = 9 $$,
    'also reps and their manager in one statement');
DELETE FROM public.leads WHERE id = 2;
DELETE FROM leadroute.rule WHERE id = 2;
SELECT lives_ok('DELETE FROM leadroute.rep WHERE tenant = 0 AND id = 3', 'and a rep whose leads have all ended');
SELECT results_eq($$ SELECT rep, rep_name, rule, rule_name, status FROM leadroute.decision WHERE lead_id = '2' $$,
    $$ VALUES (3::bigint, NULL::text, 2::bigint, NULL::text, 'ended') $$, 'whom the record still knows by id');
SELECT matches(leadroute.why('sales leads', 2), 'assigned to \(deleted 3\).*Rule \(deleted 2\)', 'and why() says so');

-- Authors ---------------------------------------------------------------------------------------

CREATE ROLE leadroute_test_admin;
CREATE ROLE leadroute_test_other;
DO $$ BEGIN PERFORM leadroute.grant_access('leadroute_test_admin', 'admin'); END $$;
DO $$ BEGIN PERFORM leadroute.grant_access('leadroute_test_other', 'admin'); END $$;
GRANT USAGE ON SCHEMA leadroute TO leadroute_test_admin, leadroute_test_other;
GRANT ALL ON ALL TABLES IN SCHEMA leadroute TO leadroute_test_admin, leadroute_test_other;
GRANT ALL ON ALL SEQUENCES IN SCHEMA leadroute TO leadroute_test_admin, leadroute_test_other;
GRANT ALL ON ALL FUNCTIONS IN SCHEMA leadroute TO leadroute_test_admin, leadroute_test_other;
GRANT SELECT ON public.leads TO leadroute_test_admin, leadroute_test_other;

SET LOCAL ROLE leadroute_test_admin;
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, pool) VALUES (10, 'sales leads', 10, 'mine', 'score > 3', 'a');
SELECT is((SELECT author FROM leadroute.rule WHERE id = 10), 'leadroute_test_admin', 'who writes a rule is its author');
SELECT pg_temp.refused($$ INSERT INTO leadroute.rule (lead_table, position, name, pool, author) VALUES ('sales leads', 11, 'x', 'a', 'postgres') $$,
    'LR012', 'author''s rights', 'nobody else can be named');
SELECT pg_temp.refused($$ UPDATE leadroute.rule SET author = session_user WHERE id = 10 $$, 'LR012', 'author''s rights', 'nor later');
SET LOCAL ROLE leadroute_test_other;
UPDATE leadroute.rule SET position = 12 WHERE id = 10;
SELECT is((SELECT author FROM leadroute.rule WHERE id = 10), 'leadroute_test_admin', 'another position leaves the author');
UPDATE leadroute.rule SET condition = 'score > 4' WHERE id = 10;
SELECT is((SELECT author FROM leadroute.rule WHERE id = 10), 'leadroute_test_other', 'another condition is by who wrote it');
RESET ROLE;
UPDATE leadroute.rule SET author = 'leadroute_test_admin' WHERE id = 10;
SELECT is((SELECT author FROM leadroute.rule WHERE id = 10), 'leadroute_test_admin', 'a superuser may name another');
UPDATE leadroute.rule SET condition = 'score > 5' WHERE id = 10;
SELECT is((SELECT author FROM leadroute.rule WHERE id = 10), 'leadroute_test_admin', 'and edit without taking it over');
SET LOCAL client_min_messages = error;
INSERT INTO leadroute.rule (id, lead_table, position, name, pool, author) VALUES (11, 'sales leads', 11, 'restored', 'a', 'nobody_here');
SELECT is((SELECT author FROM leadroute.rule WHERE id = 11), 'nobody_here', 'as a restore does');
DELETE FROM leadroute.rule WHERE id IN (10, 11);

-- Rules that DDL breaks -------------------------------------------------------------------------

CREATE SCHEMA help;
CREATE FUNCTION help.worth(numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 1000';
CREATE TYPE help.grade AS ENUM ('low', 'high');
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, pool) VALUES
    (20, 'sales leads', 20, 'column', $$company = 'x'$$, 'a'), (21, 'sales leads', 21, 'function', 'help.worth(deal_value)', 'a'),
    (22, 'sales leads', 22, 'type', $$city::help.grade = 'high'$$, 'a'), (23, 'sales leads', 23, 'sound', 'score = 1', 'a'),
    (24, 'sales leads', 24, 'renamed', $$region = 'x'$$, 'a');
DELETE FROM leadroute.alert;
SAVEPOINT sound;
ALTER TABLE public.leads ADD COLUMN more text;
SELECT is((SELECT count(*) FROM leadroute.alert), 0::bigint, 'DDL that breaks nothing alerts nobody');
ALTER TABLE public.leads DROP COLUMN company;
SELECT results_eq('SELECT kind, rule, manager FROM leadroute.alert', $$ VALUES ('rule_error', 20::bigint, 4::bigint) $$,
    'a dropped column: one alert, for the pool''s manager');
ALTER TABLE public.leads DROP COLUMN more;
SELECT is((SELECT count(*) FROM leadroute.alert), 1::bigint, 'which is not repeated');
ALTER TABLE public.leads RENAME COLUMN region TO area;
SELECT set_eq('SELECT rule FROM leadroute.alert', ARRAY[20, 24]::bigint[], 'a renamed column');
DROP FUNCTION help.worth(numeric);
SELECT set_eq('SELECT rule FROM leadroute.alert', ARRAY[20, 21, 24]::bigint[], 'a dropped function');
DROP TYPE help.grade;
SELECT set_eq('SELECT rule FROM leadroute.alert', ARRAY[20, 21, 22, 24]::bigint[], 'a dropped type');
UPDATE leadroute.alert SET acknowledged_at = now() WHERE rule = 20;
ALTER TABLE public.leads DROP COLUMN industry;
SELECT is((SELECT count(*) FROM leadroute.alert WHERE rule = 20), 1::bigint, 'an acknowledged alert is not repeated by DDL that has nothing to do with it');
INSERT INTO public.leads (id, source) VALUES (30, 'mail');
SELECT is((SELECT status FROM leadroute.decision WHERE lead_id = '30'), 'assigned', 'leads are routed past the broken rules') ;
ROLLBACK TO sound;
SELECT is((SELECT count(*) FROM leadroute.alert), 0::bigint, 'nothing is left of what was rolled back');
ALTER FUNCTION help.worth(numeric) RENAME TO value;
SELECT set_eq('SELECT rule FROM leadroute.alert', ARRAY[21]::bigint[], 'a renamed function');
ALTER SCHEMA help RENAME TO helper;
SELECT set_eq('SELECT rule FROM leadroute.alert', ARRAY[21, 22]::bigint[], 'a renamed schema');
ROLLBACK TO sound;
CREATE OR REPLACE FUNCTION help.worth(numeric) RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT $1 > random()';
SELECT set_eq('SELECT rule FROM leadroute.alert', ARRAY[21]::bigint[], 'a function that became volatile');
ROLLBACK TO sound;
DROP SCHEMA help CASCADE;
SELECT results_eq('SELECT rule FROM leadroute.alert ORDER BY id', ARRAY[21, 22]::bigint[], 'a dropped schema, in the order of the rules');

SELECT is((SELECT count(*) FROM leadroute.verify() v WHERE (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0)),
    1::bigint, 'verify() is all 0 at the end');
SELECT * FROM finish();
ROLLBACK;
