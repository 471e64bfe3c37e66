-- credit_back(): the turn of a bad lead returns, once, with the day's cap where the pool says so.
BEGIN;
SELECT plan(25);

SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, daily_cap) VALUES (1, 'Ada', 3), (2, 'Bob', 3), (3, 'Cy', NULL), (9, 'Mo', NULL);
INSERT INTO leadroute.pool (name, credit_returns_cap) VALUES ('p', true), ('strict', false);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p', 1), ('p', 2), ('strict', 1), ('strict', 2);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, rep) VALUES
    ('leads', 1, 'strict', $$source = 's'$$, 'strict', NULL), ('leads', 2, 'own', $$source = 'o'$$, NULL, 3), ('leads', 3, 'all', 'true', 'p', NULL);
-- what follows is no draft
COMMIT;
BEGIN;

CREATE FUNCTION pg_temp.owner_of(lead bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT owner_id FROM leads WHERE id = lead $$;
INSERT INTO leads (id) SELECT i FROM generate_series(1, 4) i;
COMMIT;
SELECT results_eq('SELECT owner_id FROM leads ORDER BY id', ARRAY[1, 2, 1, 2]::bigint[], 'turn by turn');
SELECT throws_ok($$SELECT leadroute.credit_back('leads', 99, 'spam')$$, 'LR007', NULL, 'no such lead');
SELECT throws_ok($$SELECT leadroute.credit_back('leads', 1, ' ')$$, 'LR010', NULL, 'a reason is asked for');
SELECT throws_ok($$SELECT leadroute.credit_back('nothing', 1, 'spam')$$, 'LR002', NULL, 'no such table');
SELECT lives_ok($$SELECT leadroute.credit_back('leads', 2, 'spam')$$, 'a lead of Bob''s');
SELECT throws_ok($$SELECT leadroute.credit_back('leads', 2::bigint, 'spam')$$, 'LR009', NULL, 'once');
SELECT results_eq($$SELECT rep, received::int, today::int FROM leadroute.pool_state WHERE pool = 'p' ORDER BY rep$$, $$VALUES (1::bigint, 2, 2), (2, 1, 1)$$,
    'the turn and the day are returned');
SELECT ok(abs(deficit - 0.5) < 0.001, 'he is due half a turn') FROM leadroute.pool_state WHERE pool = 'p' AND rep = 2;
INSERT INTO leads (id) VALUES (5);
SELECT is(pg_temp.owner_of(5), 2::bigint, 'the next lead goes to him');
SELECT is(pg_temp.owner_of(2), 2::bigint, 'the bad one stays his');
SELECT matches(leadroute.why('leads', 2), '^Lead 2 of "leads".*credited back with the day''s cap at .* by .*: spam', 'why() says so');
SELECT is(leadroute.why_json('leads', 2) ->> 'credit_reason', 'spam', 'and why_json()');
SELECT is(v, row(0, 0, 0, 0, 0)::text, 'verify() is content') FROM (SELECT verify::text AS v FROM leadroute.verify()) v;

-- the day's cap: three each; one was returned
INSERT INTO leads (id) SELECT i FROM generate_series(6, 9) i;
SELECT is((SELECT array_agg(owner_id ORDER BY id) FROM leads WHERE id >= 6), ARRAY[1, 2, NULL, NULL]::bigint[], 'both are at their cap');
SELECT leadroute.credit_back('leads', '6', 'no such number');
INSERT INTO leads (id) VALUES (10);
SELECT is(pg_temp.owner_of(10), 1::bigint, 'the day has one more');
DELETE FROM leads WHERE id = 10;
SELECT lives_ok($$SELECT leadroute.credit_back('leads', 10, 'test lead')$$, 'one that is deleted already');
INSERT INTO leads (id) VALUES (11);
SELECT is(pg_temp.owner_of(11), 1::bigint, 'again');

-- a pool that keeps the cap used
UPDATE leadroute.rep SET daily_cap = 4 WHERE id = 1;
INSERT INTO leads (id, source) VALUES (20, 's');
SELECT is(pg_temp.owner_of(20), 1::bigint, 'the one who has a lead left');
SELECT leadroute.credit_back('leads', 20, 'spam');
INSERT INTO leads (id, source) VALUES (21, 's');
SELECT is(pg_temp.owner_of(21), NULL, 'the day stays used');
SELECT is((SELECT received::int FROM leadroute.pool_state WHERE pool = 'strict' AND rep = 1), 0, 'the turn is returned');

-- a rule's own rep, and by hand
INSERT INTO leads (id, source) VALUES (30, 'o');
SELECT lives_ok($$SELECT leadroute.credit_back('leads', 30, 'spam')$$, 'a lead of a rule''s own rep');
INSERT INTO leads (id, owner_id) VALUES (31, 3);
SELECT throws_ok($$SELECT leadroute.credit_back('leads', 31, 'spam')$$, 'LR010', NULL, 'by hand no turn was used');

BEGIN;
SELECT leadroute.credit_back('leads', 4, 'a mistake');
SAVEPOINT a;
SELECT leadroute.credit_back('leads', 5, 'another');
ROLLBACK TO a;
SELECT is(v, row(0, 0, 0, 0, 0)::text, 'verify() within the transaction') FROM (SELECT verify::text AS v FROM leadroute.verify()) v;
ROLLBACK;
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE credited_at IS NOT NULL), 5::bigint, 'rolled back');
SELECT leadroute._forget(0);
SELECT is(v, row(0, 0, 0, 0, 0)::text, 'counted anew') FROM (SELECT verify::text AS v FROM leadroute.verify()) v;
SELECT * FROM finish();
