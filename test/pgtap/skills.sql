-- Skills: who may take a lead that needs some, why not the others, what is refused, what fails.
BEGIN;
SELECT no_plan();

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name, skills) VALUES
    (1, 'Ann', '{"enterprise": 3, "licence:TX": 1}'), (2, 'Bob', '{"enterprise": 1, "licence:TX": 1}'),
    (3, 'Cho', '{"enterprise": 2.5, "licence:CA": 1}'), (4, 'Dan', '{}'), (5, 'Eve', '{"Enterprise": 9, "straße, 7%": 0.5}');
INSERT INTO leadroute.pool (name) VALUES ('sales'), ('spare');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'sales', g FROM generate_series(1, 4) g;
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('spare', 5), ('spare', 3);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'sales');

-- taken gives who received each of some leads: a list of reps, - for none.
CREATE FUNCTION pg_temp.taken(needs text, leads int DEFAULT 1, region text DEFAULT 'TX') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    owners text;
BEGIN
    UPDATE leadroute.rule r SET needs = taken.needs WHERE name = 'all' AND r.needs IS DISTINCT FROM taken.needs;
    WITH n AS (INSERT INTO leads (region, name) SELECT taken.region, 'x' FROM generate_series(1, leads) RETURNING id, owner_id)
    SELECT string_agg(coalesce(owner_id::text, '-'), ' ' ORDER BY id) INTO owners FROM n;
    RETURN owners;
END $$;
CREATE FUNCTION pg_temp.states() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat(c ->> 'rep', ' ', c ->> 'state'), ', ' ORDER BY c ->> 'rep')
    FROM leadroute.assignment a, jsonb_array_elements(leadroute._explanation(a.explanation) #> '{tried,0,candidates}') c
    WHERE a.lead_id = (SELECT max(id)::text FROM leads)
$$;
-- errors of the lead inserted last, and the latest alert about rules
CREATE FUNCTION pg_temp.failed() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(e.value ->> 'sqlstate', ' ') || ': ' || (SELECT message FROM leadroute.alert WHERE kind = 'rule_error' ORDER BY id DESC LIMIT 1)
    FROM leadroute.assignment a, jsonb_array_elements(leadroute._explanation(a.explanation) -> 'rule_errors') e
    WHERE a.lead_id = (SELECT max(id)::text FROM leads)
$$;
CREATE FUNCTION pg_temp.refusal(needs text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    code text; message text; hint text;
BEGIN
    UPDATE leadroute.rule r SET needs = refusal.needs WHERE name = 'all';
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws('|', code, message, CASE WHEN hint <> '' THEN 'hint' END);
END $$;

-- Who qualifies ---------------------------------------------------------------------------------

SELECT is(pg_temp.taken($$ARRAY['enterprise']$$, 6), '1 2 3 1 2 3', 'a skill: level 1 or more; those who have it take turns');
SELECT is(pg_temp.states(), '1 turn, 2 turn, 3 picked, 4 unskilled', 'and the record says who lacks it');
SELECT is(pg_temp.taken($$ARRAY['enterprise>=2']$$, 4), '1 3 1 3', 'a level');
SELECT is(pg_temp.taken($$ARRAY['enterprise>=2.6']$$, 2), '1 1', 'a level that is not whole');
SELECT is(pg_temp.taken($$ARRAY['enterprise >= 2.5']$$, 2), '3 1', 'blanks are of no account; an equal level is enough; who was left out is due');
SELECT is(pg_temp.taken($$ARRAY['enterprise>=4']$$), '-', 'a level that nobody has');
SELECT is(pg_temp.states(), '1 unskilled, 2 unskilled, 3 unskilled, 4 unskilled', 'said of each');
SELECT is((SELECT queue FROM leadroute.queue WHERE lead_id = (SELECT max(id)::text FROM leads)), 'sales', 'the lead waits in the pool''s queue');
SELECT is((SELECT max(message) FROM leadroute.alert WHERE kind = 'nobody_available'),
    'nobody available for rule "all" of "leads" in pool "sales": leads wait in its queue. All who have the skills that the lead needs, there and in overflow pools, are away or capped, or nobody has them.',
    'and a person is told');
SELECT matches(leadroute.why('leads', (SELECT max(id) FROM leads)), 'Nobody available in pool "sales" \(4 without the skills that the lead needs\)\.\n    Ann \(1\): lacks a skill that the lead needs\n', 'why() says so');
SELECT is(pg_temp.taken($$ARRAY['enterprise', 'licence:' || region]$$, 4), '2 1 2 1', 'two needs, one computed from the lead');
SELECT is(pg_temp.taken($$ARRAY['enterprise', 'licence:' || region]$$, 2, 'CA'), '3 3', 'for another lead others');
SELECT is(pg_temp.taken($$ARRAY['enterprise', 'licence:' || region]$$, 1, 'NY'), '-', 'a skill that nobody has');
SELECT is(pg_temp.taken($$ARRAY['enterprise', 'enterprise>=2', 'enterprise>=3']$$), '1', 'all of them count');
SELECT is(pg_temp.taken($$ARRAY['Enterprise']$$), '-', 'names are told apart by case');
SELECT is(pg_temp.taken($$ARRAY['enterpris']$$), '-', 'and are compared whole');
SELECT is(pg_temp.taken($$'{}'$$, 4) ~ '4', true, 'no needs: all share');
SELECT is(pg_temp.taken($$NULL::text[]$$), '4', 'NULL: none either');
SELECT is(pg_temp.taken($$CASE WHEN region = 'TX' THEN ARRAY['licence:TX'] END$$, 1, 'CA') IN ('1', '2', '3', '4'), true, 'nor for the lead at hand');

-- Overflow, a rule's own rep, pauses and caps ------------------------------------------------------

UPDATE leadroute.rule SET overflow_pool = 'spare' WHERE name = 'all';
SELECT is(pg_temp.taken($$ARRAY['straße, 7%>=0.5']$$, 2), '5 5', 'the overflow pool is asked with the same needs');
SELECT is((SELECT reason FROM leadroute.decision ORDER BY lead_id::bigint DESC LIMIT 1),
    'nobody available in pool "sales" (4 without the skills that the lead needs); first in turn of 2 in pool "spare" (1 without the skills that the lead needs)',
    'in one line');
SELECT is(pg_temp.taken($$ARRAY['straße, 7%>=0.51']$$, 2), '- -', 'and may not qualify either');
UPDATE leadroute.rule SET pool = NULL, rep = 1, overflow_pool = NULL WHERE name = 'all';
SELECT is(pg_temp.taken($$ARRAY['enterprise>=3']$$), '1', 'a rule''s own rep who has the skill');
SELECT is(pg_temp.taken($$ARRAY['licence:CA']$$), '-', 'and who lacks it');
SELECT is(pg_temp.states(), '1 unskilled', 'which is the reason');
SELECT matches((SELECT reason FROM leadroute.queue ORDER BY lead_id::bigint DESC LIMIT 1), 'the rule''s rep is not available: lacks a skill that the lead needs', 'in words');
UPDATE leadroute.rule SET pool = 'sales', rep = NULL WHERE name = 'all';
UPDATE leadroute.rep SET paused = true WHERE id = 1;
SELECT is(pg_temp.taken($$ARRAY['enterprise>=2']$$), '3', 'one of those who qualify is paused');
SELECT is(pg_temp.states(), '1 rep_paused, 2 unskilled, 3 picked, 4 unskilled', 'each with its own reason');
UPDATE leadroute.rep SET paused = false, daily_cap = 0 WHERE id = 1;
SELECT is(pg_temp.taken($$ARRAY['enterprise>=2']$$), '3', 'or capped');
SELECT is(pg_temp.states(), '1 rep_cap, 2 unskilled, 3 picked, 4 unskilled', 'and said to be');
UPDATE leadroute.rep SET daily_cap = NULL WHERE id = 1;

INSERT INTO leadroute.rep (id, name, skills, daily_cap, open_cap) VALUES (6, 'Fay', '{"fast": 1}', 2, NULL),
    (7, 'Gus', '{"fast": 1}', NULL, NULL), (8, 'Hal', '{}', NULL, NULL), (9, 'Ida', '{"fast": 1}', NULL, 3);
INSERT INTO leadroute.pool (name) VALUES ('narrow');
INSERT INTO leadroute.pool_member (pool, rep, daily_cap) VALUES ('narrow', 6, NULL), ('narrow', 7, 1), ('narrow', 8, NULL), ('narrow', 9, NULL);
UPDATE leadroute.rule SET pool = 'narrow' WHERE name = 'all';
SELECT is(pg_temp.taken($$ARRAY['fast']$$, 8), '6 7 9 6 9 9 - -', 'leads with needs fill the daily caps and the capacity, and no more');
SELECT is(pg_temp.states(), '6 rep_cap, 7 member_cap, 8 unskilled, 9 open_cap', 'and the record says so');
SELECT is(pg_temp.taken($$'{}'$$, 3), '8 8 8', 'they count for leads without needs, too');
UPDATE leadroute.rule SET pool = 'sales' WHERE name = 'all';

-- Skills change -----------------------------------------------------------------------------------

UPDATE leadroute.rep SET skills = '{"french": 1}' WHERE id = 4;
SELECT is(pg_temp.taken($$ARRAY['french']$$, 2), '4 4', 'a skill that was learnt');
UPDATE leadroute.rep SET skills = skills - 'enterprise' WHERE id IN (1, 2);
SELECT is(pg_temp.taken($$ARRAY['enterprise']$$, 2), '3 3', 'ones that were lost');
SAVEPOINT a;
UPDATE leadroute.rep SET skills = '{"french": 3}' WHERE id = 1;
SELECT is(pg_temp.taken($$ARRAY['french>=2']$$), '1', 'a draft counts');
ROLLBACK TO a;
SELECT is(pg_temp.taken($$ARRAY['french>=2']$$), '-', 'until it is rolled back');

-- What is refused, and what fails -------------------------------------------------------------------

SELECT is(pg_temp.refusal(v.needs), v.expected, 'refused: ' || v.needs)
FROM (VALUES ('region', 'LR004|needs of rule "all" refused: it must be of type text[], not text|hint'),
    ('42', 'LR004|needs of rule "all" refused: it must be of type text[], not integer|hint'),
    ('ARRAY[1, 2]', 'accepted'),
    ('', 'LR004|needs of rule "all" refused: it is not one plain expression|hint'),
    ('ARRAY[regio]', 'LR004|needs of rule "all" refused: column "regio" does not exist|hint'),
    ('ARRAY[random()::text]', 'LR004|needs of rule "all" refused: function random() is volatile|hint'),
    ('ARRAY(SELECT ''a'')', 'LR004|needs of rule "all" refused: cannot use subquery in trigger WHEN condition|hint'),
    ('ARRAY[''a>2'']', 'LR004|the need "a>2" is not a skill|hint'), ('ARRAY[''a=2'']', 'LR004|the need "a=2" is not a skill|hint'),
    ('ARRAY[''a>=''] || ARRAY[''b'']', 'LR004|the need "a>=" is not a skill|hint'), ('ARRAY[''a>=high'']', 'LR004|the need "a>=high" is not a skill|hint'),
    ('ARRAY[''a>=1e3'']', 'LR004|the need "a>=1e3" is not a skill|hint'), ('ARRAY[''a>=-1'']', 'LR004|the need "a>=-1" is not a skill|hint'),
    ('ARRAY['''']', 'LR004|the need "" is not a skill|hint'), ('ARRAY[''>=2'']', 'LR004|the need ">=2" is not a skill|hint'),
    ('ARRAY[''a'', NULL]', 'LR004|a need is NULL|hint'), ('ARRAY[ARRAY[''a''], ARRAY[''b'']]', 'LR004|needs are a list of skills, not an array of arrays'),
    ('array_fill(''a''::text, ARRAY[17])', 'LR004|17 needs are too many'),
    ('string_to_array(industry, '','')', 'accepted')) v (needs, expected);
SELECT matches(pg_temp.taken($$ARRAY['licence:' || city]$$), '-', 'a need that cannot be computed: the rule is skipped');
SELECT matches(pg_temp.failed(), '^LR004: rule "all" \(1\) raised an error and is skipped for such leads: a need is NULL$', 'recorded, and alerted');
SELECT is((SELECT queue FROM leadroute.queue WHERE lead_id = (SELECT max(id)::text FROM leads)), 'unmatched', 'no rule is left');
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 2, 'next', 'spare');
SELECT is(pg_temp.taken($$ARRAY[region]$$, 1, 'a>2') IN ('3', '5'), true, 'the next rule takes it');
SELECT matches(pg_temp.failed(), '^LR004: ', 'the failure is on its record');
SELECT is(pg_temp.taken($$ARRAY[(1 / (length(region) - 2))::text]$$) IN ('3', '5'), true, 'an error in the expression');
SELECT matches(pg_temp.failed(), '^22012: ', 'alike');
DELETE FROM leadroute.rule WHERE name = 'next';
SET LOCAL leadroute.on_rule_error = 'error';
SELECT throws_ok($$SELECT pg_temp.taken($n$ARRAY['licence:' || city]$n$)$$, 'LR004', 'a need is NULL', 'with on_rule_error = error the insert fails');
RESET leadroute.on_rule_error;

-- Whose rights ---------------------------------------------------------------------------------------

CREATE ROLE lr_author;
DO $$ BEGIN PERFORM leadroute.grant_access('lr_author', 'admin'); END $$;
GRANT SELECT (id, region) ON leads TO lr_author;
SET LOCAL ROLE lr_author;
SELECT is(pg_temp.refusal('ARRAY[region]'), 'accepted', 'who may read the column may write the needs');
SELECT is((SELECT author FROM leadroute.rule WHERE name = 'all'), 'lr_author', 'and is the author then');
SELECT is(pg_temp.refusal('ARRAY[email]'), 'LR012|needs of rule "all" refused: permission denied for column "email" of table leads|hint', 'who may not, may not');
RESET ROLE;
CREATE FUNCTION public.who_runs() RETURNS text[] STABLE LANGUAGE sql AS $$ SELECT ARRAY[current_user::text] $$;
UPDATE leadroute.rule SET author = 'lr_author', needs = 'public.who_runs()' WHERE name = 'all';
UPDATE leadroute.rep SET skills = '{"lr_author": 1}' WHERE id = 2;
SELECT is(pg_temp.taken('public.who_runs()'), '2', 'needs are computed with the author''s rights');

-- A rehearsal, rerouting ---------------------------------------------------------------------------------

UPDATE leadroute.rep SET skills = '{"licence:TX": 1}' WHERE id IN (1, 2);
UPDATE leadroute.rep SET skills = '{"licence:CA": 1}' WHERE id = 3;
UPDATE leadroute.rule SET author = DEFAULT, needs = $$ARRAY['licence:' || region]$$ WHERE name = 'all';
SELECT results_eq($$SELECT rep, outcome, picked FROM leadroute.explain('leads', '{"region": "CA"}') WHERE kind = 'member' ORDER BY rep$$,
    $$VALUES (1::bigint, 'unskilled', false), (2, 'unskilled', false), (3, 'eligible', true), (4, 'unskilled', false)$$, 'explain() says the same');
UPDATE leadroute.lead_table SET reroute_on = '{region}';
INSERT INTO leads (region, name) VALUES ('CA', 'mover');
SELECT is((SELECT owner_id FROM leads WHERE name = 'mover'), 3::bigint, 'a lead of the licensed rep');
UPDATE leads SET region = 'TX' WHERE name = 'mover';
SELECT is((SELECT owner_id IN (1, 2) FROM leads WHERE name = 'mover'), true, 'moves to one with the licence that it needs now');
SELECT is((SELECT count(*) FROM leadroute.decision d JOIN leads l ON l.id::text = d.lead_id WHERE l.name = 'mover'), 2::bigint, 'in a second episode');
UPDATE leads SET region = 'TX' WHERE name = 'mover';
SELECT is((SELECT count(*) FROM leadroute.decision d JOIN leads l ON l.id::text = d.lead_id WHERE l.name = 'mover'), 2::bigint, 'and stays while its rep has what it needs');

SELECT results_eq('SELECT lost, double, overshoot, drift, orphan FROM leadroute.verify()', 'VALUES (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint)', 'nothing is amiss');
SELECT * FROM finish();
ROLLBACK;
