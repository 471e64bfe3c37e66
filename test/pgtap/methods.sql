-- Each method by all eligible, one away, all away, capped, and mixed: who takes the lead, and what
-- why() says of those who do not.
SELECT plan(20);
SET client_min_messages = warning;

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
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
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cy'), (4, 'Di');
INSERT INTO leadroute.pool (name, method) VALUES ('priority', 'priority'), ('least', 'least_open');
INSERT INTO leadroute.pool_member (pool, rep, tier) VALUES ('priority', 1, 10), ('priority', 2, 1), ('priority', 3, 10), ('priority', 4, 1),
    ('least', 1, 1), ('least', 2, 1), ('least', 3, 1);
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

SELECT is(pg_temp.give('least', 3), '1 2 3', 'least_open: equal loads, the longest waiting');
UPDATE leadroute.rep SET paused = true WHERE id = 1;
SELECT is(pg_temp.give('least', 2), '2 3', 'least_open: one away');
UPDATE leadroute.rep SET paused = true WHERE id IN (2, 3);
SELECT is(pg_temp.give('least'), '-', 'least_open: all away');
UPDATE leadroute.rep SET paused = false;
SELECT is(pg_temp.give('least'), '1', 'least_open: back');

-- a change of method -----------------------------------------------------------------------------

UPDATE leadroute.pool SET method = 'round_robin' WHERE name = 'priority';
SELECT is((SELECT sum(received) FROM leadroute.pool_state WHERE pool = 'priority'), 17::numeric, 'counts go along with a change of method');
SELECT ok((SELECT abs(sum(deficit)) < 0.001 FROM leadroute.pool_state WHERE pool = 'priority'), 'and deficits');
SELECT isnt(pg_temp.give('priority', 4), NULL, 'and it goes on');
UPDATE leadroute.pool SET method = 'priority' WHERE name = 'priority';
SELECT is(pg_temp.give('priority', 1) ~ '^[124]$', true, 'and back');
SELECT is((SELECT concat_ws(' ', lost, double, overshoot, drift, orphan) FROM leadroute.verify()), '0 0 0 0 0', 'verify');
SELECT * FROM finish();
