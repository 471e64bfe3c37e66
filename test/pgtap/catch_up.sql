-- What a joiner, a returner and a member of another weight are owed, by each policy; and the situations in
-- which peers fail: cover for an absent rep, the neighbour of an excluded one, a returner, a lifted cap, a
-- bulk insert.
SELECT plan(45);
SET client_min_messages = warning;
DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;

-- inserts so many leads in one statement, and tells how many each rep got
CREATE FUNCTION pg_temp.give(pool text, leads integer) RETURNS text LANGUAGE sql AS $$
    WITH added AS (INSERT INTO public.leads (source) SELECT pool FROM generate_series(1, leads) RETURNING owner_id)
    SELECT coalesce(string_agg(format('%s:%s', owner_id, many), ' ' ORDER BY owner_id), '')
    FROM (SELECT owner_id, count(*) AS many FROM added GROUP BY owner_id) n
$$;
CREATE FUNCTION pg_temp.even(pool text) RETURNS boolean LANGUAGE sql AS $$
    SELECT bool_and(abs(s.deficit) < 1) FROM leadroute.pool_state s WHERE s.pool = even.pool
$$;
INSERT INTO leadroute.rep (id, name) SELECT i, 'Rep ' || i FROM generate_series(1, 8) i;
INSERT INTO leadroute.pool (name, method, catch_up, catch_up_limit) VALUES
    ('none', 'round_robin', 'none', NULL), ('full', 'round_robin', 'full', NULL), ('bounded', 'round_robin', 'bounded', 3),
    ('weighted', 'weighted', 'full', NULL);
INSERT INTO leadroute.pool_member (pool, rep) SELECT p.name, i FROM leadroute.pool p, generate_series(1, 3) i;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
    SELECT 'leads', p.id, p.name, format('source = %L', p.name), p.name FROM leadroute.pool p;

-- a returner ----------------------------------------------------------------------------------------

SELECT is(pg_temp.give(p, 9), '1:3 2:3 3:3', p || ': all three') FROM unnest('{none,full,bounded}'::text[]) p;
UPDATE leadroute.pool_member SET paused = true WHERE rep = 3;
SELECT is(pg_temp.give(p, 24), '1:12 2:12', p || ': the third is away') FROM unnest('{none,full,bounded}'::text[]) p;
UPDATE leadroute.pool_member SET paused = false WHERE rep = 3;
-- of 24 leads 8 would have been his
SELECT is(pg_temp.give('none', 12), '1:4 2:4 3:4', 'none: a returner is not flooded');
SELECT matches(pg_temp.give('bounded', 12), '3:7$', 'bounded: a returner is owed three turns, at the cost of the others');
SELECT ok(pg_temp.even('bounded'), 'bounded: and then all are level');
SELECT is(pg_temp.give('full', 24), '1:4 2:4 3:16', 'full: a returner is owed all eight turns missed, at the cost of the others');
SELECT ok((SELECT max(received) - min(received) <= 1 FROM leadroute.pool_state WHERE pool = 'full'), 'full: and then all have received the same');

-- a joiner ------------------------------------------------------------------------------------------

INSERT INTO leadroute.pool_member (pool, rep) SELECT p, 4 FROM unnest('{none,full,bounded}'::text[]) p;
SELECT is(pg_temp.give('none', 12), '1:3 2:3 3:3 4:3', 'none: a joiner starts level');
SELECT ok((SELECT received FROM leadroute.pool_state WHERE pool = 'bounded' AND rep = 4) = 0 AND pg_temp.give('bounded', 16) ~ '4:7$', 'bounded: a joiner is owed three turns at most');
SELECT ok(pg_temp.even('bounded'), 'bounded: and then all are level');

-- a change of weight --------------------------------------------------------------------------------

SELECT is(pg_temp.give('weighted', 9), '1:3 2:3 3:3', 'weighted: all three');
UPDATE leadroute.pool_member SET weight = 4 WHERE pool = 'weighted' AND rep = 1;
SELECT is(pg_temp.give('weighted', 12), '1:8 2:2 3:2', 'weighted: another weight counts from now on, whatever was before');
UPDATE leadroute.pool_member SET weight = 1 WHERE pool = 'weighted';
SELECT is(pg_temp.give('weighted', 9), '1:3 2:3 3:3', 'weighted: and back');
SELECT ok(pg_temp.even('weighted'), 'weighted: nothing is owed for it');

-- where peers fail ----------------------------------------------------------------------------------

-- who covers for an absent rep has not had that rep's turns: they come back level
UPDATE leadroute.rep SET paused = true WHERE id = 1;
SELECT is(pg_temp.give('none', 9), '2:3 3:3 4:3', 'cover for an absent rep is shared: its neighbour is not favoured');
UPDATE leadroute.rep SET paused = false WHERE id = 1;
SELECT is(pg_temp.give('none', 12), '1:3 2:3 3:3 4:3', 'and nobody is owed, or owes, anything for it');
-- a cap that lifts
UPDATE leadroute.pool_member SET daily_cap = (SELECT received FROM leadroute.pool_state s WHERE s.pool = 'none' AND s.rep = 1) WHERE pool = 'none' AND rep = 1;
SELECT is(pg_temp.give('none', 9), '2:3 3:3 4:3', 'one is capped');
UPDATE leadroute.pool_member SET daily_cap = NULL WHERE pool = 'none' AND rep = 1;
SELECT is(pg_temp.give('none', 12), '1:3 2:3 3:3 4:3', 'none: when the cap lifts the turns missed stay missed, and no more');
UPDATE leadroute.pool_member SET daily_cap = (SELECT received FROM leadroute.pool_state s WHERE s.pool = 'bounded' AND s.rep = 1) WHERE pool = 'bounded' AND rep = 1;
SELECT is(pg_temp.give('bounded', 24), '2:8 3:8 4:8', 'bounded: one is capped');
UPDATE leadroute.pool_member SET daily_cap = NULL WHERE pool = 'bounded' AND rep = 1;
SELECT ok(pg_temp.give('bounded', 20) ~ '1:8 ', 'bounded: when the cap lifts three turns are owed');
-- within one statement
SELECT is(pg_temp.give('none', 400), '1:100 2:100 3:100 4:100', 'a bulk insert is spread within the statement');
SELECT ok((SELECT max(gap) <= 7 FROM (SELECT id - lag(id) OVER (PARTITION BY owner_id ORDER BY id) AS gap
    FROM (SELECT id, owner_id FROM public.leads ORDER BY id DESC LIMIT 400) l) g), 'from the first row to the last');
-- By each method: equal reps have equal shares of one statement.
INSERT INTO leadroute.pool (name, method) SELECT 'bulk ' || m, m FROM unnest('{round_robin,weighted,least_open,priority,nearest,performance}'::text[]) m;
INSERT INTO leadroute.rep (id, name) SELECT i, 'Rep ' || i FROM generate_series(21, 24) i;
INSERT INTO leadroute.pool_member (pool, rep) SELECT p.name, i FROM leadroute.pool p, generate_series(21, 24) i WHERE p.name LIKE 'bulk%';
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
    SELECT 'leads', p.id, p.name, format('source = %L', p.name), p.name FROM leadroute.pool p WHERE p.name LIKE 'bulk%';
SELECT is(pg_temp.give(p.name, 200), '21:50 22:50 23:50 24:50', p.name || ': spread within the statement') FROM leadroute.pool p WHERE p.name LIKE 'bulk%' ORDER BY p.name;
INSERT INTO leadroute.rep_absence (rep, during) VALUES (22, '(,)');
SELECT is(pg_temp.give(p.name, 150), '21:50 23:50 24:50', p.name || ': the neighbours of one who is on leave have no more than the others') FROM leadroute.pool p WHERE p.name LIKE 'bulk%' ORDER BY p.name;

-- Excluded from every other lead by a skill: what it cannot have is shared by the others alike.
INSERT INTO leadroute.pool (name) VALUES ('skilled'), ('main'), ('cover');
UPDATE leadroute.rep SET skills = '{"dance": 1}' WHERE id IN (6, 7, 8);
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'skilled', i FROM generate_series(5, 8) i;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, needs)
    VALUES ('leads', 1001, 'skilled', $$source = 'skilled'$$, 'skilled', $$CASE WHEN score % 2 = 0 THEN ARRAY['dance'] END$$);
INSERT INTO public.leads (source, score) SELECT 'skilled', i FROM generate_series(1, 120) i;
-- 5 is due a quarter of sixty, each other one that and a third of sixty
SELECT is((SELECT string_agg(rep || ':' || received, ' ' ORDER BY rep) FROM leadroute.pool_state WHERE pool = 'skilled'), '5:15 6:35 7:35 8:35', 'one who lacks a skill: its neighbour is not favoured');
SELECT ok(NOT EXISTS (SELECT FROM public.leads WHERE source = 'skilled' AND score % 2 = 0 AND owner_id = 5), 'and it has none of those leads');

-- Who covers for a rule's own rep has neither that rep's turns nor fewer of its own.
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('main', 5), ('main', 6), ('cover', 6), ('cover', 7);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, rep, overflow_pool) VALUES
    ('leads', 1002, 'main', $$source = 'main'$$, 'main', NULL, NULL), ('leads', 1003, 'own', $$source = 'own'$$, NULL, 8, 'cover');
SELECT is(pg_temp.give('main', 1) || pg_temp.give('own', 2), '5:18:2', 'a rule''s own rep');
INSERT INTO leadroute.rep_absence (rep, during) VALUES (8, '(,)');
SELECT is(pg_temp.give('own', 10), '6:5 7:5', 'its cover');
SELECT is(pg_temp.give('main', 5), '5:2 6:3', 'and the turns of those in another pool are what they were');
DELETE FROM leadroute.rep_absence WHERE rep = 8;
SELECT is(pg_temp.give('own', 4), '8:4', 'back, all its leads are its own again');
SELECT is((SELECT concat_ws(' ', lost, double, overshoot, drift, orphan) FROM leadroute.verify()), '0 0 0 0 0', 'verify');
SELECT * FROM finish();
