-- explain(): decides for a lead that does not exist, and changes nothing.
BEGIN;
SELECT plan(44);
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
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    END;
    RETURN ok(state = code AND message ~ pattern AND detail <> '' AND hint <> '', description)
        || CASE WHEN state = code AND message ~ pattern THEN '' ELSE E'\n' || diag(state, ' ', message) END;
END
$$;
-- one line for each row: kind, rule or pool, rep, outcome, * for the pick
CREATE FUNCTION pg_temp.lines(lead jsonb, kinds text DEFAULT 'rule member result', lead_table text DEFAULT 'leads',
    tenant bigint DEFAULT 0) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', e.kind, e.rule_name, e.pool, e.rep, e.outcome, CASE WHEN e.picked THEN '*' END)
    FROM leadroute.explain($3, $1, $4) e WHERE strpos($2, e.kind) > 0 ORDER BY e.step
$$;
-- all that must not change, but for rows
CREATE FUNCTION pg_temp.state() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' / ', (SELECT jsonb_agg(s ORDER BY s.name) FROM leadroute.stat s WHERE s.name <> 'rebuilds'),
        (SELECT jsonb_agg(m) FROM leadroute._pool_memory(0) m), (SELECT jsonb_agg(m) FROM leadroute._day_memory(0) m),
        (SELECT count(*) FROM leadroute.assignment), (SELECT count(*) FROM leadroute.alert),
        (SELECT coalesce(sum(f.reservations), 0) FROM leadroute.in_flight f))
$$;

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name, daily_cap, paused) VALUES (1, 'Ann', NULL, false), (2, 'Bob', 1, false),
    (3, 'Cy', 0, false), (4, 'Di', NULL, true), (5, 'Eve', NULL, false);
INSERT INTO leadroute.pool (name, overflow_pool) VALUES ('rest', NULL), ('few', 'rest'), ('none', 'few');
INSERT INTO leadroute.pool_member (pool, rep, daily_cap, paused) VALUES ('rest', 1, NULL, false), ('rest', 2, NULL, false),
    ('few', 3, NULL, false), ('few', 4, NULL, false), ('few', 5, 0, false), ('few', 1, NULL, true);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, rep, active, valid) VALUES
    ('leads', 1, 'broken', '1 / length(region) > 1', 'few', NULL, true, NULL),
    ('leads', 2, 'off', 'true', 'few', NULL, false, NULL),
    ('leads', 3, 'past', 'true', 'few', NULL, true, '[2001-01-01, 2002-01-01)'),
    ('leads', 4, 'no one', $c$region = 'x'$c$, 'none', NULL, true, NULL),
    ('leads', 5, 'own', $c$region = 'own'$c$, NULL, 5, true, NULL),
    ('leads', 6, 'away', $c$region = 'away'$c$, NULL, 4, true, NULL),
    ('leads', 7, 'third', 'id % 3 = 0', NULL, 5, true, NULL),
    ('leads', 8, 'else', $c$region <> 'nothing'$c$, 'rest', NULL, true, NULL);

SELECT results_eq($$ SELECT pg_temp.lines('{"region": "x"}') $$, $$ VALUES
    ('rule broken not matched'), ('rule off inactive'), ('rule past not matched'), ('rule no one matched'),
    ('rule own not reached'), ('rule away not reached'), ('rule third not reached'), ('rule else not reached'),
    ('member none empty'), ('member few 1 member_paused'), ('member few 3 rep_cap'), ('member few 4 rep_paused'), ('member few 5 member_cap'),
    ('member rest 1 eligible *'), ('member rest 2 eligible'), ('result no one rest 1 assigned') $$, 'every rule, every member, the pick');
SELECT results_eq($$ SELECT pg_temp.lines('{"region": ""}', 'rule') $$, $$ VALUES
    ('rule broken error'), ('rule off inactive'), ('rule past not matched'), ('rule no one not matched'), ('rule own not matched'),
    ('rule away not matched'), ('rule third not matched'), ('rule else matched') $$, 'a rule that raises an error');
SELECT is((SELECT reason FROM leadroute.explain('leads', '{"region": ""}') WHERE outcome = 'error'),
    'division by zero (SQLSTATE 22012)', 'which');
SELECT is((SELECT reason FROM leadroute.explain('leads', '{"region": "x"}') WHERE rule_name = 'past' AND kind = 'rule'),
    'outside its period of validity', 'a rule outside its period');
SELECT results_eq($$ SELECT pg_temp.lines('{"region": "own"}', 'member result') $$,
    $$ VALUES ('member 5 eligible *'), ('result own 5 assigned') $$, 'a rule''s own rep');
SELECT results_eq($$ SELECT pg_temp.lines('{"region": "away"}', 'member result') $$,
    $$ VALUES ('member 4 rep_paused'), ('result away waiting') $$, 'who is away');
SELECT results_eq($$ SELECT pg_temp.lines('{"region": "nothing"}', 'member result') $$,
    $$ VALUES ('result waiting') $$, 'no rule matches');
SELECT is((SELECT reason FROM leadroute.explain('leads', '{"region": "nothing"}') WHERE kind = 'result'), 'no rule matched', 'and says so');
SELECT results_eq($$ SELECT pg_temp.lines('{"owner_id": 2}') $$, $$ VALUES ('result 2 manual') $$, 'an owner that is given stays');
SELECT is((SELECT count(*) FROM leadroute.explain('leads', '{"region": "x"}') WHERE picked), 1::bigint, 'one is picked');

-- The same as the insert --------------------------------------------------------------------------

CREATE FUNCTION pg_temp.same(lead jsonb, columns text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    said record;
    got record;
    id bigint;
BEGIN
    SELECT * INTO said FROM leadroute.explain('leads', lead) WHERE kind = 'result';
    EXECUTE format('INSERT INTO public.leads (%1$s) SELECT %1$s FROM jsonb_populate_record(NULL::public.leads, $1) RETURNING id', columns) INTO id USING lead;
    SELECT * INTO got FROM leadroute.decision WHERE lead_id = id::text;
    RETURN (said.rule, said.rule_name, said.pool, said.rep, said.outcome, said.reason)
        IS NOT DISTINCT FROM (got.rule, got.rule_name, got.pool, got.rep, got.status, got.reason);
END
$$;
SELECT ok(bool_and(pg_temp.same(jsonb_build_object('region', r), 'region')), 'twenty leads: rule, pool, rep and words are those of the insert')
FROM generate_series(1, 4), unnest('{x,own,away,nothing,else}'::text[]) r;
SELECT ok(EXISTS (SELECT FROM leadroute.decision WHERE rule_name = 'third'), 'the number that the sequence gives next is known');

-- Nothing changes -----------------------------------------------------------------------------------

CREATE TEMP TABLE before AS SELECT pg_temp.state() AS state, (SELECT last_value FROM public.leads_id_seq) AS number;
SELECT count(*) FROM generate_series(1, 5), unnest('{x,own,away,nothing,"",else}'::text[]) r, leadroute.explain('leads', jsonb_build_object('region', r)) \gset
SELECT is(pg_temp.state(), (SELECT state FROM before), 'no turn, no count, no alert, no record');
SELECT is((SELECT last_value FROM public.leads_id_seq), (SELECT number FROM before), 'no number of a sequence');

-- Rows ------------------------------------------------------------------------------------------------

CREATE SEQUENCE public.taken;
CREATE DOMAIN public.short AS text CHECK (length(VALUE) < 5);
CREATE FUNCTION public.takes() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('public.taken') $$;
CREATE TABLE public.wide (gone int, id serial PRIMARY KEY, code text DEFAULT 'L-' || nextval('public.taken'), kind text DEFAULT 'web',
    word public.short, doubled int GENERATED ALWAYS AS (n * 2) STORED, n int, "Odd name" text, tags text[], via bigint DEFAULT public.takes(), owner_id bigint);
ALTER TABLE public.wide DROP gone;
DO $$ BEGIN PERFORM leadroute.attach('public.wide', fallback_pool => 'rest'); END $$;
INSERT INTO leadroute.rule (lead_table, position, name, condition, rep) VALUES
    ('wide', 1, 'code', $c$code = 'L-1' AND id = 1$c$, 1), ('wide', 2, 'null', 'kind IS NULL', 2), ('wide', 3, 'odd', $c$"Odd name" = 'a' AND 'x' = ANY (tags)$c$, 5),
    ('wide', 4, 'web', $c$kind = 'web' AND n = 7$c$, 1);
SELECT results_eq($$ SELECT pg_temp.lines('{"via": 1}', 'result', 'wide') $$, $$ VALUES ('result code 1 assigned') $$, 'defaults are applied');
SELECT is((SELECT rule_name FROM leadroute.explain('wide', '{"via": 1, "code": "x", "kind": null}') WHERE kind = 'result'), 'null', 'null is not left out');
SELECT is((SELECT rule_name FROM leadroute.explain('wide', '{"via": 1, "code": "x", "Odd name": "a", "tags": ["x", "y"]}') WHERE kind = 'result'), 'odd', 'any name, any type');
SELECT is((SELECT rule_name FROM leadroute.explain('wide', '{"via": 1, "code": "x", "n": 7, "doubled": 1, "id": 12}') WHERE kind = 'result'), 'web', 'what a row of the table says of itself');
SELECT results_eq($$ SELECT pg_temp.lines('{"via": 1, "code": "x"}', 'member result', 'wide') $$,
    $$ VALUES ('member rest 1 eligible *'), ('member rest 2 rep_cap'), ('result rest 1 assigned') $$, 'the fallback pool');
SELECT is((SELECT last_value FROM public.taken), 1::bigint, 'no number is taken');
SELECT is((SELECT is_called FROM public.taken), false, 'not even the first');

-- Refusals ----------------------------------------------------------------------------------------------

SELECT pg_temp.refused($$ SELECT leadroute.explain('nix', '{}') $$, 'LR002', 'not attached', 'an unknown table');
SELECT pg_temp.refused($$ SELECT leadroute.explain(NULL, '{}') $$, 'LR002', 'not attached', 'none');
SELECT pg_temp.refused($$ SELECT leadroute.explain('leads', NULL) $$, 'LR005', 'not a JSON object', 'no lead');
SELECT pg_temp.refused($$ SELECT leadroute.explain('leads', '[1]') $$, 'LR005', 'not a JSON object', 'an array');
SELECT pg_temp.refused($$ SELECT leadroute.explain('leads', '{"regoin": 1, "x": 2, "region": "x"}') $$, 'LR005', 'no column "regoin", "x"$', 'unknown columns, by name');
SELECT pg_temp.refused($$ SELECT leadroute.explain('leads', '{"ctid": "(0,1)"}') $$, 'LR005', 'no column', 'a system column');
SELECT pg_temp.refused($$ SELECT leadroute.explain('wide', '{"gone": 1}') $$, 'LR005', 'no column', 'a dropped column');
SELECT pg_temp.refused($$ SELECT leadroute.explain('leads', '{"deal_value": "much"}') $$, 'LR005', 'does not fit', 'a value that the type refuses');
SELECT pg_temp.refused($$ SELECT leadroute.explain('wide', '{"via": 1, "word": "too long"}') $$, 'LR005', 'does not fit', 'or a domain');
SELECT pg_temp.refused($$ SELECT leadroute.explain('wide', '{}') $$, 'LR005', 'default of column "via"', 'a default that takes a number by a function');
SELECT pg_temp.refused($$ SELECT leadroute.explain('leads', '{}', 3) $$, 'LR005', 'no leads of tenant 3', 'a tenant where there are none');
SELECT pg_temp.refused($$ SELECT leadroute.explain('leads', '{}', NULL) $$, 'LR005', 'tenant is NULL', 'no tenant');

SELECT pg_temp.refused($$ SELECT leadroute._explain('leads', 0, ROW(1, 'x'), '{}') $$, '42804', 'not one of "leads"', 'a row of another type, twice') FROM generate_series(1, 2);
SELECT pg_temp.refused($$ SELECT leadroute._explain('leads', 0, l, '[1]') FROM (SELECT (NULL::public.leads).*) l $$, '42804', 'not a JSON object', 'columns that are given, but not by name');

-- Tenants -------------------------------------------------------------------------------------------------

INSERT INTO leadroute.rep (tenant, id, name) VALUES (7, 1, 'Zoe'), (8, 1, 'Yan');
CREATE TABLE public.shared (company int NOT NULL DEFAULT 7, id int, region text, owner_id int, PRIMARY KEY (company, id));
DO $$ BEGIN PERFORM leadroute.attach('public.shared', tenant_column => 'company'); END $$;
INSERT INTO leadroute.rule (tenant, lead_table, position, name, condition, rep) VALUES (7, 'shared', 1, 'seven', 'company = 7', 1), (8, 'shared', 1, 'eight', 'company = 8', 1);
SELECT is((SELECT rule_name FROM leadroute.explain('shared', '{"id": 1}', 7) WHERE kind = 'result'), 'seven', 'a tenant');
SELECT is((SELECT rule_name FROM leadroute.explain('shared', '{"id": 1, "company": 8}') WHERE kind = 'result'), 'eight', 'as the lead itself says');
SELECT pg_temp.refused($$ SELECT leadroute.explain('shared', '{"company": 8}', 7) $$, 'LR005', 'is of tenant 8', 'not two');
SELECT pg_temp.refused($$ SELECT leadroute.explain('shared', '{"company": "x"}') $$, 'LR005', 'not a tenant', 'not a word');

-- Rights, settings -------------------------------------------------------------------------------------------

SET LOCAL leadroute.on_rule_error = 'error';
SELECT results_eq($$ SELECT pg_temp.lines('{"id": 1, "region": ""}', 'member result') $$, $$ VALUES ('result else error') $$, 'where a rule''s error is the insert''s');
RESET leadroute.on_rule_error;
CREATE ROLE leadroute_test_author;
CREATE ROLE leadroute_test_gone;
CREATE FUNCTION public.who() RETURNS text LANGUAGE sql STABLE AS 'SELECT current_user::text';
CREATE TABLE public.secret (id int PRIMARY KEY, region text, owner_id bigint);
GRANT USAGE ON SCHEMA public TO leadroute_test_author;
GRANT SELECT (id, region) ON public.secret TO leadroute_test_author, leadroute_test_gone;
DO $$ BEGIN PERFORM leadroute.attach('public.secret'); END $$;
INSERT INTO leadroute.rule (lead_table, position, name, condition, rep, author) VALUES
    ('secret', 1, 'gone', 'true', 1, 'leadroute_test_gone'), ('secret', 2, 'author', $c$public.who() = 'leadroute_test_author'$c$, 1, 'leadroute_test_author');
REVOKE SELECT (id, region) ON public.secret FROM leadroute_test_gone;
DROP ROLE leadroute_test_gone;
SELECT results_eq($$ SELECT pg_temp.lines('{"id": 1}', 'rule', 'secret') $$, $$ VALUES ('rule gone inactive'), ('rule author matched') $$, 'a rule runs as its author, not without');
SELECT is((SELECT count(*) FROM leadroute.alert WHERE rule = (SELECT id FROM leadroute.rule WHERE name = 'gone')), 0::bigint, 'and nobody is alerted of what was only asked');
SELECT is((SELECT v::text FROM leadroute.verify() v), '(0,0,0,0,0)', 'verify() is all 0');

SELECT * FROM finish();
ROLLBACK;
