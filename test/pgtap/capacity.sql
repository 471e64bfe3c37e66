-- Capacity: every way to end an episode frees it, hand-given leads count, each loser has its reason.
BEGIN;
SELECT plan(24);

SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, open_cap) VALUES (1, 'Ada', 2), (2, 'Bob', 0), (3, 'Cy', NULL);
INSERT INTO leadroute.pool (name) VALUES ('p');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p', 1), ('p', 2);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, rep) VALUES
    ('leads', 1, 'own', $$source = 'o'$$, NULL, 1), ('leads', 2, 'all', 'true', 'p', NULL);
COMMIT;

CREATE SEQUENCE pg_temp.next_lead START 100;
-- Which of these many new leads Ada receives.
CREATE FUNCTION pg_temp.given(many integer) RETURNS bigint LANGUAGE sql AS $$
    WITH i AS (INSERT INTO public.leads (id) SELECT nextval('pg_temp.next_lead') FROM generate_series(1, many) RETURNING owner_id)
    SELECT count(owner_id) FROM i
$$;
CREATE FUNCTION pg_temp.kept() RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify() v
$$;

SELECT is(pg_temp.given(4), 2::bigint, 'two, and no more');
SELECT matches(leadroute.why('leads', 102), 'Ada \(1\): capacity reached, 2 of 2 leads open', 'why() says so');
SELECT matches(leadroute.why('leads', 102), 'Bob \(2\): capacity reached, 0 of 0 leads open', 'of a capacity of none, too');
SELECT results_eq($$SELECT unavailable_reason FROM leadroute.pool_state ORDER BY rep$$, ARRAY['capacity of 2 open leads reached', 'capacity of 0 open leads reached'], 'and pool_state');
SELECT is(outcome, 'open_cap', 'and explain()') FROM leadroute.explain('leads', '{"source": "x"}') WHERE kind = 'member' AND rep = 1;
SELECT is(outcome, 'open_cap', 'of a rule''s own rep') FROM leadroute.explain('leads', '{"source": "o"}') WHERE kind = 'member' AND rep = 1;
INSERT INTO leads (id, source) VALUES (1, 'o');
SELECT is((SELECT owner_id FROM leads WHERE id = 1), NULL, 'who does not receive it');
SELECT is((SELECT open_cap FROM leadroute.assignment WHERE lead_id = '100'), 2, 'the record has the capacity in force');

DELETE FROM leads WHERE id = 100;
SELECT is(pg_temp.given(2), 1::bigint, 'a deleted lead makes room');
UPDATE leads SET owner_id = NULL WHERE id = 101;
SELECT is(pg_temp.given(2), 1::bigint, 'one that is released');
SELECT leadroute.reassign('leads', (SELECT min(id) FROM leads WHERE owner_id = 1), 3);
SELECT is(pg_temp.given(2), 1::bigint, 'one that is given to another');
UPDATE leads SET id = 5000 WHERE id = (SELECT min(id) FROM leads WHERE owner_id = 1);
SELECT is(pg_temp.given(2), 0::bigint, 'not one with another key');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

UPDATE leads SET owner_id = 1 WHERE id = 102;
SELECT is((SELECT open_used FROM leadroute._pool_memory(0) WHERE rep = 1), 3, 'by hand beyond it');
DELETE FROM leads WHERE id = 102;
SELECT is(pg_temp.given(2), 0::bigint, 'full again');

BEGIN;
DELETE FROM leads WHERE owner_id = 1;
SELECT is(pg_temp.given(2), 0::bigint, 'within the transaction what has ended counts still');
SELECT ok(pg_temp.kept(), 'verify() within it');
ROLLBACK;
SELECT is(pg_temp.given(2), 0::bigint, 'a rollback frees nothing');
BEGIN;
UPDATE leadroute.rep SET open_cap = 3 WHERE id = 1;
SELECT is(pg_temp.given(3), 1::bigint, 'a draft goes by its own capacity');
UPDATE leadroute.rep SET open_cap = 2 WHERE id = 3;
INSERT INTO leadroute.rule (lead_table, position, name, condition, rep) VALUES ('leads', 0, 'Cy', $$source = 'c'$$, 3);
INSERT INTO leads (id, source) VALUES (10, 'c'), (11, 'c');
SELECT results_eq('SELECT owner_id FROM leads WHERE id IN (10, 11) ORDER BY id', ARRAY[3, NULL]::bigint[], 'also of one who had none: what is open counts');
ROLLBACK;
SELECT ok(pg_temp.kept(), 'verify() after it');
TRUNCATE leads;
SELECT is(pg_temp.given(3), 2::bigint, 'TRUNCATE makes room');
DELETE FROM leadroute.assignment WHERE lead_id = (SELECT min(lead_id) FROM leadroute.open_assignment WHERE rep = 1);
DELETE FROM leads WHERE owner_id = 1 AND NOT EXISTS (SELECT FROM leadroute.open_assignment o WHERE o.lead_id = id::text);
SELECT is(pg_temp.given(2), 1::bigint, 'so does an edit of the record');
SELECT ok(pg_temp.kept(), 'verify() at the end');
SELECT * FROM finish();
