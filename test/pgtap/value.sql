-- The method value: a lead costs what value_expression says that it is worth, and value received follows
-- value due. Leads without a value count as the average; what is given back is what was charged.
SELECT plan(62);
SET client_min_messages = warning;

CREATE TABLE public.leads (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source text, worth numeric, note text, parts int[], owner_id bigint);
CREATE TABLE public.plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner_id bigint);

-- refusals -------------------------------------------------------------------------------------

SELECT throws_ok(format('SELECT leadroute.attach(%L, value_expression => %L)', 'public.leads', x.e), x.code, x.message, x.message)
FROM (VALUES
    ('worth * price', 'LR004', 'value_expression of lead table "leads" refused: column "price" does not exist'),
    ('note', 'LR004', 'value_expression of lead table "leads" refused: it must be of type double precision, not text'),
    ('worth > 1', 'LR004', 'value_expression of lead table "leads" refused: it must be of type double precision, not boolean'),
    ('random()', 'LR004', 'value_expression of lead table "leads" refused: function random() is volatile'),
    ('worth +', 'LR004', 'value_expression of lead table "leads" refused: syntax error at end of input'),
    ('', 'LR004', NULL),
    ('worth, id', 'LR004', NULL),
    ('(SELECT 1)', 'LR004', NULL)) AS x (e, code, message);
DO $$ BEGIN PERFORM leadroute.attach('public.leads', value_expression => 'worth'); END $$;
DO $$ BEGIN PERFORM leadroute.attach('public.plain'); END $$;
SELECT is(value_author, current_user::name, 'who attached is the author') FROM leadroute.lead_table WHERE name = 'leads';
SELECT throws_ok($$UPDATE leadroute.lead_table SET value_expression = 'nothing' WHERE name = 'leads'$$, 'LR004',
    'value_expression of lead table "leads" refused: column "nothing" does not exist', 'a change is checked, too');
SELECT lives_ok($$UPDATE leadroute.lead_table SET value_expression = 'worth::integer' WHERE name = 'leads'$$, 'any type of number');
SELECT lives_ok($$UPDATE leadroute.lead_table SET value_expression = NULL WHERE name = 'leads'$$, 'none');
SELECT is(value_author, NULL, 'and no author') FROM leadroute.lead_table WHERE name = 'leads';
SELECT lives_ok($$UPDATE leadroute.lead_table SET value_expression = 'worth / parts[1]' WHERE name = 'leads'$$, 'a computed one');

-- by value -------------------------------------------------------------------------------------

INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob');
INSERT INTO leadroute.pool (name, method, credit_returns_cap) VALUES ('big', 'value', false);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('big', 1), ('big', 2);
INSERT INTO leadroute.rule (lead_table, position, name, pool) SELECT t.name, 1, 'all', 'big' FROM leadroute.lead_table t;

-- inserts so many leads of one value, and tells who got them
CREATE FUNCTION pg_temp.give(worth numeric, leads integer DEFAULT 1, part integer DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    takers text[];
    taker bigint;
BEGIN
    FOR i IN 1 .. leads LOOP
        INSERT INTO public.leads (worth, parts) VALUES (worth, ARRAY[part]) RETURNING owner_id INTO taker;
        takers := takers || coalesce(taker::text, '-');
    END LOOP;
    RETURN array_to_string(takers, ' ');
END
$$;
CREATE FUNCTION pg_temp.latest() RETURNS bigint LANGUAGE sql AS 'SELECT max(id) FROM public.leads';
CREATE FUNCTION pg_temp.why() RETURNS text LANGUAGE sql AS $$
    SELECT (regexp_match(leadroute.why('leads', pg_temp.latest()), 'to match\.\n(.*)$'))[1]
$$;
CREATE FUNCTION pg_temp.cost() RETURNS double precision LANGUAGE sql AS $$
    SELECT a.cost FROM leadroute.assignment a JOIN leadroute.lead_table t ON t.id = a.lead_table AND t.name = 'leads' WHERE a.lead_id = pg_temp.latest()::text
$$;
CREATE FUNCTION pg_temp.standing() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat(s.received, ':', trim_scale(s.due), ':', trim_scale(s.deficit)), ' ' ORDER BY s.rep) FROM leadroute.pool_state s WHERE s.pool = 'big'
$$;
CREATE FUNCTION pg_temp.trouble() RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', lost, double, overshoot, drift, orphan) FROM leadroute.verify() $$;

SELECT is(pg_temp.give(100), '1', 'the first lead');
SELECT is(pg_temp.cost(), 100::double precision, 'its cost is in the record');
SELECT is(pg_temp.standing(), '1:50:-50 0:50:50', 'due and deficit in units of value');
SELECT is(pg_temp.why(), '  Most value due of 2 in pool "big".
    Ann (1): picked, now 50 of value ahead
    Bob (2): others were due first, 50 of value due', 'why() speaks of value');
SELECT is((SELECT string_agg(e.outcome || ': ' || e.reason, '; ' ORDER BY e.step) FROM leadroute.explain('leads', '{"worth": 10, "parts": [1]}') e WHERE e.kind = 'member'),
    'eligible: others were due first, 45 of value ahead; eligible: picked, now 45 of value due', 'explain() does, too');
SELECT is(pg_temp.give(10, 10), '2 2 2 2 2 2 2 2 2 2', 'ten small ones outweigh it');
SELECT is(pg_temp.standing(), '1:100:0 10:100:0', 'both have what is due to them');
SELECT is(pg_temp.give(0.5, 4), '1 2 1 2', 'small values, in turn');
SELECT is(pg_temp.give(1), '1', 'of value 1');
SELECT is(pg_temp.cost(), NULL, 'it costs one turn, which is not written down');
SELECT is(pg_temp.give(1), '2', 'the other one');

-- no value -------------------------------------------------------------------------------------

CREATE TEMP TABLE mean AS SELECT avg(coalesce(a.cost, 1)) AS cost FROM leadroute.assignment a;
SELECT ok(pg_temp.give(NULL) = '1' AND abs(pg_temp.cost() - (SELECT cost FROM mean)) < 0.01, 'NULL counts as the average so far');
SELECT ok(pg_temp.give(v, 1) IS NOT NULL AND abs(pg_temp.cost() - (SELECT cost FROM mean)) < 0.01, v || ', too')
FROM unnest('{0,-5,NaN,Infinity}'::numeric[]) v;
SELECT is((SELECT count(*) FROM leadroute.alert WHERE kind = 'rule_error'), 0::bigint, 'that is no error');
SELECT isnt(pg_temp.give(7, 1, 0), '-', 'an error blocks nothing');
SELECT ok(abs(pg_temp.cost() - (SELECT cost FROM mean)) < 0.01, 'and counts as the average');
SELECT is((SELECT a.message FROM leadroute.alert a WHERE a.kind = 'rule_error'),
    'value_expression of "leads" raised an error, such leads count as the pool''s average: division by zero', 'somebody is told');
SELECT matches(leadroute.why('leads', pg_temp.latest()), 'value_expression failed: the lead counts as the average one \(SQLSTATE 22012\)', 'and why() tells');
SELECT is(leadroute.why_json('leads', pg_temp.latest()) #>> '{rule_errors,0,sqlstate}', '22012', 'why_json() as well');
SELECT matches((SELECT reason FROM leadroute.explain('leads', '{"worth": 10, "parts": [0]}') e WHERE e.kind = 'result'),
    'value_expression failed', 'and explain()');
SET leadroute.on_rule_error = error;
SELECT throws_ok($$SELECT pg_temp.give(7, 1, 0)$$, '22012', NULL, 'unless errors of rules are to be raised');
RESET leadroute.on_rule_error;
SELECT is(pg_temp.trouble(), '0 0 0 0 0', 'verify() finds nothing');

-- an administrator who is no superuser -----------------------------------------------------------

ALTER TABLE public.leads ADD place point;
DO $$ BEGIN
    CREATE ROLE lr_value_admin;
    GRANT SELECT ON public.leads TO lr_value_admin;
    PERFORM leadroute.grant_access('lr_value_admin', 'admin', NULL);
END $$;
SET ROLE lr_value_admin;
SELECT lives_ok($$ UPDATE leadroute.lead_table SET value_expression = 'worth * 2' WHERE name = 'leads' $$, 'an admin writes an expression');
SELECT is(value_author, 'lr_value_admin', 'and is its author') FROM leadroute.lead_table WHERE name = 'leads';
SELECT lives_ok($$ UPDATE leadroute.lead_table SET location_column = 'place' WHERE name = 'leads' $$, 'and names a location column');
SELECT throws_ok($$ SELECT leadroute._check_value('public.leads', 'leads', 'worth', 'postgres') $$, 'LR012', NULL, 'but not in the name of another');
RESET ROLE;
DROP OWNED BY lr_value_admin;
DROP ROLE lr_value_admin;

-- what is given back ---------------------------------------------------------------------------

CREATE TEMP TABLE before AS SELECT pg_temp.standing() AS standing;
BEGIN;
SELECT pg_temp.give(30, 3);
SAVEPOINT s;
SELECT pg_temp.give(17.25, 20);
ROLLBACK TO s;
SELECT pg_temp.give(3.125, 2);
ROLLBACK;
SELECT is(pg_temp.standing(), (SELECT standing FROM before), 'a rollback returns all that was charged');
BEGIN;
SELECT pg_temp.give(30, 2);
SAVEPOINT s;
SELECT pg_temp.give(1000, 1);
ROLLBACK TO s;
COMMIT;
SELECT is(pg_temp.trouble(), '0 0 0 0 0', 'of a savepoint its own alone');
TRUNCATE before;
INSERT INTO before SELECT pg_temp.standing();
SELECT isnt(pg_temp.give(777), '-', 'a bad lead');
SELECT leadroute.credit_back('leads', pg_temp.latest(), 'spam');
SELECT is(pg_temp.standing(), (SELECT standing FROM before), 'credit_back() returns its value');
SELECT is(pg_temp.trouble(), '0 0 0 0 0', 'and the record agrees');
SELECT ok(leadroute._forget(0), 'memory is dropped');
SELECT is(pg_temp.standing(), (SELECT standing FROM before), 'and rebuilt as it was');

-- a draft --------------------------------------------------------------------------------------

BEGIN;
UPDATE leadroute.pool SET credit_returns_cap = true WHERE name = 'big';
SELECT pg_temp.give(250.5, 3);
SELECT is(pg_temp.trouble(), '0 0 0 0 0', 'in a draft');
ROLLBACK;
SELECT is(pg_temp.standing(), (SELECT standing FROM before), 'which leaves nothing');
BEGIN;
UPDATE leadroute.pool SET credit_returns_cap = true WHERE name = 'big';
SELECT pg_temp.give(250.5, 3);
COMMIT;
SELECT is(pg_temp.trouble(), '0 0 0 0 0', 'or all, when committed');

-- by hand, without an expression, another method -------------------------------------------------

UPDATE leadroute.assignment SET cost = 12 WHERE lead_id = pg_temp.latest()::text;
SELECT is(pg_temp.trouble(), '0 0 0 0 0', 'an edited record is followed');
SELECT isnt(pg_temp.give(900), '-', 'much is due to the other one');
UPDATE leadroute.pool SET method = 'round_robin' WHERE name = 'big';
SELECT ok(leadroute._forget(0), 'memory is dropped');
SELECT is((SELECT string_agg(deficit::text, ' ') FROM leadroute.pool_state), '0.000000 0.000000', 'value due is no turns due');
SELECT ok(pg_temp.give(500, 4) IN ('1 2 1 2', '2 1 2 1'), 'turn by turn again');
SELECT isnt(pg_temp.give(500, 1), '-', 'one is due half a turn');
UPDATE leadroute.pool SET method = 'value' WHERE name = 'big';
SELECT is((SELECT string_agg(deficit::text, ' ') FROM leadroute.pool_state), '0.000000 0.000000', 'turns due are no value due');
SELECT ok(leadroute._forget(0) AND (SELECT bool_and(deficit = 0) FROM leadroute.pool_state), 'nor in a memory that is rebuilt');
SELECT is(pg_temp.trouble(), '0 0 0 0 0', 'verify() finds nothing');
SELECT * FROM finish();
