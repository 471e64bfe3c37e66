-- sweep(): weights of the method performance, once an hour. Leads that wait are in test/t/110_backlog.pl.
SELECT no_plan();
SET client_min_messages = warning;

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cho');
INSERT INTO leadroute.pool (name, method) VALUES ('team', 'performance'), ('empty', 'performance'), ('others', 'round_robin');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1), ('team', 2), ('others', 3);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'team');
INSERT INTO public.leads (region) SELECT 'x' FROM generate_series(1, 100);
-- Ann wins all, Bob none
DO $$ BEGIN
    PERFORM leadroute.close('leads', id, CASE owner_id WHEN 1 THEN 'won' ELSE 'lost' END) FROM public.leads;
END $$;
CREATE FUNCTION pg_temp.weights() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s:%s', f.rep, CASE WHEN f.weight > 1.1 THEN 'more' WHEN f.weight < 0.9 THEN 'less' ELSE 'even' END), ' ' ORDER BY f.rep)
    FROM leadroute.performance f
$$;

SELECT is(pg_temp.weights(), NULL, 'before the first sweep nobody is weighed');
CALL leadroute.sweep(budget => '0 seconds');
SELECT is(pg_temp.weights(), NULL, 'nor by one without time');
CALL leadroute.sweep();
SELECT is(pg_temp.weights(), '1:more 2:less', 'sweep() weighs the members of pools with the method performance');
SELECT is((SELECT string_agg(round(s.weight::numeric, 3)::text, ' ' ORDER BY s.rep) FROM leadroute.pool_state s WHERE s.pool = 'team'),
    (SELECT string_agg(round(f.weight::numeric, 3)::text, ' ' ORDER BY f.rep) FROM leadroute.performance f), 'and leads go by it');

CREATE TEMP TABLE first AS SELECT rep, refreshed_at, weight FROM leadroute.performance;
CALL leadroute.sweep();
SELECT is((SELECT count(*) FROM first JOIN leadroute.performance f USING (rep, refreshed_at, weight)), 2::bigint, 'not again within the hour');

UPDATE leadroute.performance SET refreshed_at = now() - interval '61 minutes', weight = 1.001 * weight;
INSERT INTO public.leads (region) VALUES ('x');
CREATE TEMP TABLE loads AS SELECT value AS rebuilds FROM leadroute.stat WHERE name = 'rebuilds';
CALL leadroute.sweep();
INSERT INTO public.leads (region) VALUES ('x');
SELECT is((SELECT count(*) FROM leadroute.performance f WHERE f.refreshed_at > now() - interval '1 minute'), 2::bigint, 'after an hour again');
SELECT is((SELECT count(*) FROM first JOIN leadroute.performance f USING (rep) WHERE f.weight = 1.001 * first.weight), 2::bigint,
    'a weight that hardly differs stays');
SELECT is(s.value, l.rebuilds, 'and the pool is not laid out anew') FROM leadroute.stat s, loads l WHERE s.name = 'rebuilds';

-- one that somebody edits is left to the next
UPDATE leadroute.performance SET refreshed_at = now() + interval '1 day';
CALL leadroute.sweep();
SELECT is((SELECT count(*) FROM leadroute.performance f WHERE f.refreshed_at > now()), 0::bigint, 'a time to come, of a clock that was set back, does not count');

-- an error in one pool keeps neither the others nor the leads that wait
ALTER TABLE leadroute.performance ADD CONSTRAINT never CHECK (rep <> 3);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('empty', 3);
UPDATE leadroute.performance SET refreshed_at = now() - interval '2 hours';
UPDATE leadroute.rep SET paused = true WHERE id IN (1, 2);
SET leadroute.backlog = off;
INSERT INTO public.leads (region) VALUES ('waits');
UPDATE leadroute.rep SET paused = false WHERE id IN (1, 2);
SET client_min_messages = error;
CALL leadroute.sweep();
SELECT is((SELECT count(*) FROM leadroute.performance f WHERE f.refreshed_at > now() - interval '1 minute'), 2::bigint, 'an error in one pool: the other is weighed');
SELECT is((SELECT count(*) FROM public.leads WHERE owner_id IS NULL), 0::bigint, 'and leads that wait are given out');
SELECT is((SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan)::text FROM leadroute.verify() v), '(0,0,0,0,0)', 'verify() finds nothing');
SELECT * FROM finish();
