-- Each method by all eligible, one away, all away, capped, and mixed: who takes the lead, and what
-- why() says of those who do not.
SELECT plan(58);
SET client_min_messages = warning;

CREATE TABLE public.leads (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source text, place point, owner_id bigint);
DO $$ BEGIN PERFORM leadroute.attach('public.leads', location_column => 'place'); END $$;
-- inserts so many leads, one after the other, and tells who got them
CREATE FUNCTION pg_temp.give(pool text, leads integer DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    takers text[];
    taker bigint;
BEGIN
    FOR i IN 1 .. leads LOOP
        INSERT INTO public.leads (source) VALUES (pool) RETURNING owner_id INTO taker;
        takers := takers || coalesce(taker::text, '-');
    END LOOP;
    RETURN array_to_string(takers, ' ');
END
$$;
CREATE FUNCTION pg_temp.why() RETURNS text LANGUAGE sql AS $$
    SELECT (regexp_match(leadroute.why('leads', max(l.id)), 'to match\.\n(.*)$'))[1] FROM public.leads l
$$;
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cy'), (4, 'Di'), (21, 'Eve'), (22, 'Fay'), (23, 'Gus');
INSERT INTO leadroute.pool (name, method) VALUES ('priority', 'priority'), ('least', 'least_open');
INSERT INTO leadroute.pool_member (pool, rep, tier) VALUES ('priority', 1, 10), ('priority', 2, 1), ('priority', 3, 10), ('priority', 4, 1),
    ('least', 21, 1), ('least', 22, 1), ('least', 23, 1);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
    SELECT 'leads', p.id, p.name, format('source = %L', p.name), p.name FROM leadroute.pool p;

-- priority --------------------------------------------------------------------------------------

SELECT is(pg_temp.give('priority', 5), '2 4 2 4 2', 'priority: the first tier in turn');
SELECT is(pg_temp.why(), '  First in turn of 4 in pool "priority" (2 of a later tier).
    Ann (1): of a later tier
    Bob (2): picked, now 0.5 turns ahead
    Cy (3): of a later tier
    Di (4): others were due first, 0.5 turns due', 'priority: why');
SELECT results_eq($$ SELECT e.rep, e.outcome, e.picked FROM leadroute.explain('leads', '{"source": "priority"}') e WHERE e.kind = 'member' $$,
    $$ VALUES (1::bigint, 'lower_tier', false), (2, 'eligible', false), (3, 'lower_tier', false), (4, 'eligible', true) $$, 'priority: explain');
UPDATE leadroute.rep SET paused = true WHERE id = 2;
SELECT is(pg_temp.give('priority', 2), '4 4', 'priority: one away');
UPDATE leadroute.rep SET daily_cap = 4 WHERE id = 4;
SELECT is(pg_temp.give('priority', 3), '1 3 1', 'priority: the first tier away and capped, the next one in turn');
SELECT is(pg_temp.why(), '  First in turn of 4 in pool "priority" (1 at the daily cap, 1 paused).
    Ann (1): picked, now 0.5 turns ahead
    Bob (2): paused
    Cy (3): others were due first, 0.5 turns due
    Di (4): daily cap reached, 4 of 4', 'priority: why it was the second tier');
UPDATE leadroute.rep SET paused = false, daily_cap = NULL WHERE id IN (2, 4);
SELECT is(pg_temp.give('priority', 4), '4 2 4 2', 'priority: back, with nothing owed for what the second tier took');
UPDATE leadroute.rep SET paused = true;
SELECT is(pg_temp.give('priority'), '-', 'priority: all away');
SELECT is(pg_temp.why(), '  Nobody available in pool "priority" (4 paused).
    Ann (1): paused
    Bob (2): paused
    Cy (3): paused
    Di (4): paused
  It waits there.', 'priority: why nobody');
SELECT is((SELECT a.kind FROM leadroute.alert a ORDER BY a.id DESC LIMIT 1), 'nobody_available', 'priority: the alert');
UPDATE leadroute.rep SET paused = false;
UPDATE leadroute.pool_member SET tier = 1 WHERE pool = 'priority' AND rep = 1;
SELECT is(pg_temp.give('priority', 3), '4 1 2', 'priority: a member who came up into the first tier');

-- least_open -------------------------------------------------------------------------------------

SELECT is(pg_temp.give('least', 3), '21 22 23', 'least_open: equal loads, the longest waiting');
UPDATE leadroute.rep SET paused = true WHERE id = 21;
SELECT is(pg_temp.give('least', 2), '22 23', 'least_open: one away');
UPDATE leadroute.rep SET paused = true WHERE id IN (22, 23);
SELECT is(pg_temp.give('least'), '-', 'least_open: all away');
UPDATE leadroute.rep SET paused = false;
SELECT is(pg_temp.give('least'), '21', 'least_open: back');

-- nearest ---------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.near(pool text, VARIADIC places point[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    spot point;
    takers text[];
    taker bigint;
BEGIN
    FOREACH spot IN ARRAY places LOOP
        INSERT INTO public.leads (source, place) VALUES (pool, spot) RETURNING owner_id INTO taker;
        takers := takers || coalesce(taker::text, '-');
    END LOOP;
    RETURN array_to_string(takers, ' ');
END
$$;
-- two reps in Munich, one in Berlin, one in Auckland, one nowhere known
INSERT INTO leadroute.rep (id, name, location) VALUES (11, 'Max', '(11.58, 48.14)'), (12, 'Mia', '(11.58, 48.14)'),
    (13, 'Ben', '(13.40, 52.52)'), (14, 'Aki', '(174.76, -36.85)'), (15, 'Noa', NULL);
INSERT INTO leadroute.pool (name, method) VALUES ('near', 'nearest');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'near', r FROM generate_series(11, 15) r;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
    VALUES ('leads', 100, 'near', $$source = 'near'$$, 'near');
SELECT is(pg_temp.near('near', '(13.4, 52.5)', '(13, 52)', '(-178, -40)', '(11, 48)', '(12, 48)', '(11.58, 48.14)'), '13 13 14 11 12 11',
    'nearest: over the date line, and in turn at one place');
SELECT is(pg_temp.why(), '  Nearest, 0.0 km, of 5 in pool "near".
    Max (11): picked, 0.0 km
    Mia (12): others are nearer or were due first, 0.0 km
    Ben (13): others are nearer or were due first, 503.8 km
    Aki (14): others are nearer or were due first, 18157.7 km
    Noa (15): others are nearer or were due first, at no known place', 'nearest: why');
SELECT is((SELECT d.reason FROM leadroute.decision d ORDER BY d.lead_id::bigint DESC LIMIT 1), 'nearest, 0.0 km, of 5 in pool "near"', 'nearest: the reason in the view');
SELECT results_eq($$ SELECT e.rep, e.reason, e.picked FROM leadroute.explain('leads', '{"source": "near", "place": "(13.4, 52.5)"}') e WHERE e.kind = 'member' $$,
    $$ VALUES (11::bigint, 'others are nearer or were due first, 501.7 km', false), (12, 'others are nearer or were due first, 501.7 km', false), (13, 'picked, 2.2 km', true),
        (14, 'others are nearer or were due first, 17748.4 km', false), (15, 'others are nearer or were due first, at no known place', false) $$, 'nearest: explain');
SELECT is(pg_temp.near('near', NULL, '(200, 10)', NULL), '15 13 14', 'nearest: a lead of no place goes to who waits longest');
UPDATE leadroute.rep SET paused = true WHERE id = 13;
SELECT is(pg_temp.near('near', '(13.4, 52.5)', '(13.4, 52.5)'), '12 11', 'nearest: one away');
UPDATE leadroute.rep SET daily_cap = 0 WHERE id IN (11, 12);
SELECT is(pg_temp.near('near', '(13.4, 52.5)'), '14', 'nearest: capped');
UPDATE leadroute.rep SET paused = true WHERE id = 14;
SELECT is(pg_temp.near('near', '(13.4, 52.5)'), '15', 'nearest: only one of no known place is left');
UPDATE leadroute.rep SET paused = true WHERE id = 15;
SELECT is(pg_temp.near('near', '(13.4, 52.5)', NULL), '- -', 'nearest: all away');
SELECT is((SELECT a.kind FROM leadroute.alert a ORDER BY a.id DESC LIMIT 1), 'nobody_available', 'nearest: the alert');
UPDATE leadroute.rep SET paused = false, daily_cap = NULL;
SELECT is(pg_temp.near('near', '(13.4, 52.5)', '(0, 50)'), '13 12', 'nearest: back');
UPDATE leadroute.rep SET location = '(0, 50)' WHERE id = 14;
SELECT is(pg_temp.near('near', '(0, 50)'), '14', 'nearest: one who moved');
-- as far from the one as from the other
UPDATE leadroute.rep SET location = CASE id WHEN 11 THEN point(1, 0) ELSE point(-1, 0) END WHERE id IN (11, 12);
SELECT is(pg_temp.near('near', '(0, 0)', '(0, 0)', '(0, 0)', '(0, 0)'), '11 12 11 12', 'nearest: between places equally far the longest waiting');
SELECT is(pg_temp.near('near', '(0.1, 0)', '(0.1, 0)'), '11 11', 'nearest: not equally far');
-- with an owner column that cannot name everybody
CREATE TABLE public.by_ref (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, place point, owner_id text);
DO $$ BEGIN PERFORM leadroute.attach('public.by_ref', location_column => 'place'); END $$;
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('by_ref', 1, 'all', 'near');
UPDATE leadroute.rep SET ref = 'r' || id WHERE id IN (11, 13, 15);
INSERT INTO public.by_ref (place) VALUES ('(-1, 0)'), ('(13, 52)'), (NULL), ('(0, 50)');
SELECT is((SELECT string_agg(owner_id, ' ' ORDER BY id) FROM public.by_ref), 'r11 r13 r15 r13', 'nearest: among those whom the owner column can name');
SELECT results_eq($$ SELECT a.attname FROM unnest('{source,nothing}'::name[]) a (attname) ORDER BY 1 $$, $$ VALUES ('nothing'::name), ('source') $$, 'two columns that are no place');
SELECT throws_ok($$ UPDATE leadroute.lead_table SET location_column = 'source' WHERE name = 'leads' $$, 'LR003', NULL, 'a location column of another type');
SELECT throws_ok($$ UPDATE leadroute.lead_table SET location_column = 'nothing' WHERE name = 'leads' $$, 'LR003', NULL, 'no such location column');
CREATE TABLE public.other (id bigint PRIMARY KEY, owner_id bigint);
SELECT throws_ok($$ SELECT leadroute.attach('public.other', location_column => 'id') $$, 'LR003', NULL, 'attach() with a location column of another type');
UPDATE leadroute.lead_table SET location_column = NULL WHERE name = 'leads';
SELECT isnt(pg_temp.near('near', '(0.1, 0)', '(0.1, 0)'), '11 11', 'nearest: without a location column');
UPDATE leadroute.lead_table SET location_column = 'place' WHERE name = 'leads';
SELECT is(pg_temp.near('near', '(0.1, 0)', '(0.1, 0)'), '11 11', 'nearest: and with it again');
ALTER TABLE public.leads DROP COLUMN place;
SELECT is(split_part(pg_temp.give('near', 5), ' ', 6), '', 'nearest: a location column that was dropped');
-- rebuilt from the record
SELECT ok(leadroute._forget(0) AND pg_temp.give('near') <> '-', 'nearest: rebuilt');

-- performance -----------------------------------------------------------------------------------

INSERT INTO leadroute.pool (name, method) VALUES ('best', 'performance');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('best', 1), ('best', 2), ('best', 3), ('best', 4);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
    VALUES ('leads', 101, 'best', $$source = 'best'$$, 'best');
SELECT is(pg_temp.give('best', 4), '1 2 3 4', 'performance: without history equal turns');
SELECT is(leadroute.refresh_performance(), 4::bigint, 'the weights are found');
SELECT is(leadroute.refresh_performance('best'), 0::bigint, 'and stay');
SELECT results_eq($$ SELECT rep, round(weight::numeric, 6), closes, won, touches, median_speed FROM leadroute.performance ORDER BY rep $$,
    $$ SELECT r::bigint, 1::numeric, 0::bigint, 0::bigint, 0::bigint, NULL::interval FROM generate_series(1, 4) r $$, 'without history all weigh 1');
SELECT pg_temp.give('best', 396) <> '' AS given \gset
-- 1 wins half, 2 a tenth, 3 none, 4 half as slowly as nobody
UPDATE leadroute.assignment a SET ended_at = a.decided_at + interval '2 h', end_reason = 'closed',
    outcome = CASE WHEN a.rep IN (1, 4) AND n.n % 2 = 0 OR a.rep = 2 AND n.n % 10 = 0 THEN 'won' ELSE 'lost' END,
    touched_at = a.decided_at + CASE a.rep WHEN 4 THEN interval '59 min' ELSE interval '4 min' END
FROM (SELECT lead_id, row_number() OVER (PARTITION BY rep ORDER BY ticket, decided_at) AS n FROM leadroute.assignment
      WHERE pool = (SELECT id FROM leadroute.pool WHERE name = 'best')) n
WHERE a.lead_id = n.lead_id AND a.pool = (SELECT id FROM leadroute.pool WHERE name = 'best') AND a.ended_at IS NULL;
SELECT is(leadroute.refresh_performance('best'), 4::bigint, 'outcomes and speed change the weights');
SELECT results_eq($$ SELECT rep, closes, won, touches, median_speed FROM leadroute.performance ORDER BY rep $$,
    $$ VALUES (1::bigint, 100::bigint, 50::bigint, 100::bigint, interval '4 min'), (2, 100, 10, 100, interval '4 min'),
        (3, 100, 0, 100, interval '4 min'), (4, 100, 50, 100, interval '59 min') $$, 'by what happened');
-- conversion (50 + 20 c) / 120 / c with c = 111 / 402, and so on; speed by hand
SELECT ok((SELECT bool_and(abs(f.weight - w.weight) < 0.001) FROM leadroute.performance f JOIN leadroute._performance(
    (SELECT p FROM leadroute.pool p WHERE p.name = 'best')) w USING (rep)), 'the table has what the formula says');
SELECT ok((SELECT max(weight) FILTER (WHERE rep = 1) > max(weight) FILTER (WHERE rep = 4)
    AND max(weight) FILTER (WHERE rep = 4) > max(weight) FILTER (WHERE rep = 2)
    AND max(weight) FILTER (WHERE rep = 2) >= max(weight) FILTER (WHERE rep = 3) AND min(weight) >= 0.5 AND max(weight) <= 2
    FROM leadroute.performance), 'who wins more and is faster weighs more, within the bounds');
SELECT is((SELECT weight FROM leadroute.performance WHERE rep = 3), 0.5::double precision, 'bounded below');
SELECT results_eq($$ SELECT rep, weight FROM leadroute.pool_state WHERE pool = 'best' ORDER BY rep $$,
    $$ SELECT rep, weight FROM leadroute.performance ORDER BY rep $$, 'pool_state shows the weights');
SELECT ok(pg_temp.give('best', 200) <> '' AND (SELECT bool_and(abs(deficit) < 1) FROM leadroute.pool_state WHERE pool = 'best'), 'turns by the new weights, to less than one');
SELECT ok((SELECT bool_and(abs(received - 100 - 200 * weight / total) < 1) FROM (SELECT s.*, sum(s.weight) OVER () AS total
    FROM leadroute.pool_state s WHERE s.pool = 'best') s), 'from where they stood');
UPDATE leadroute.pool SET performance_window = '1 us' WHERE name = 'best';
SELECT is(leadroute.refresh_performance('best'), 4::bigint, 'what lies before the window does not count');
DELETE FROM leadroute.pool_member WHERE pool = 'best' AND rep = 4;
DO $$ BEGIN PERFORM leadroute.refresh_performance(); END $$;
SELECT is((SELECT string_agg(rep::text, ' ' ORDER BY rep) FROM leadroute.performance), '1 2 3', 'one who left is weighed no more');
SELECT throws_ok($$ SELECT leadroute.refresh_performance('nix') $$, 'LR008', NULL, 'no such pool');

-- a change of method -----------------------------------------------------------------------------

UPDATE leadroute.pool SET method = 'round_robin' WHERE name = 'priority';
SELECT is((SELECT sum(received) FROM leadroute.pool_state WHERE pool = 'priority'), 17::numeric, 'counts go along with a change of method');
SELECT ok((SELECT abs(sum(deficit)) < 0.001 FROM leadroute.pool_state WHERE pool = 'priority'), 'and deficits');
SELECT isnt(pg_temp.give('priority', 4), NULL, 'and it goes on');
UPDATE leadroute.pool SET method = 'priority' WHERE name = 'priority';
SELECT is(pg_temp.give('priority', 1) ~ '^[124]$', true, 'and back');
SELECT is((SELECT concat_ws(' ', lost, double, overshoot, drift, orphan) FROM leadroute.verify()), '0 0 0 0 0', 'verify');
SELECT * FROM finish();
