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

CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    code text; said text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', code, said, detail, hint);
END
$$;
SELECT is(pg_temp.refusal('CALL leadroute.sweep(-1)'),
    'LR005 | max_rows cannot be negative | It is -1, and means the most leads that one sweep does something for. | Leave it out for all that is due: CALL leadroute.sweep();',
    'there are no fewer leads than none');
SELECT is(left(pg_temp.refusal('CALL leadroute.sweep(0)'), 5), '2D000', 'and sweep() commits, so not in a transaction');

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

-- after the clock was set back
UPDATE leadroute.performance SET refreshed_at = now() + interval '1 day';
CALL leadroute.sweep();
SELECT is((SELECT count(*) FROM leadroute.performance f WHERE f.refreshed_at > now()), 0::bigint, 'a time to come, of a clock that was set back, does not count');

-- one pool after the other, each committed, none begun after the budget
INSERT INTO leadroute.pool (name, method) SELECT 'more ' || i, 'performance' FROM generate_series(1, 3) i;
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'more ' || i, 3 FROM generate_series(1, 3) i;
CREATE TABLE public.weighed (pool int, by xid8 DEFAULT pg_current_xact_id());
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.weighed VALUES (NEW.pool);
    PERFORM pg_sleep(0.3);
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT ON leadroute.performance FOR EACH ROW EXECUTE FUNCTION public.note();
CALL leadroute.sweep(budget => '200 milliseconds');
SELECT is((SELECT count(*) FROM public.weighed), 1::bigint, 'no further pool is weighed after the budget');
CALL leadroute.sweep();
SELECT is((SELECT count(*) || ' ' || count(DISTINCT by) FROM public.weighed), '3 3', 'the next sweep weighs the others, each in a transaction of its own');
DROP TRIGGER note ON leadroute.performance;

-- who is no member any more
DELETE FROM leadroute.pool_member WHERE pool LIKE 'more %' AND rep = 3;
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('more 1', 1);
UPDATE leadroute.performance f SET refreshed_at = now() - interval '2 hours' FROM leadroute.pool p
WHERE p.tenant = f.tenant AND p.id = f.pool AND p.name LIKE 'more %';
CALL leadroute.sweep();
SELECT is((SELECT string_agg(p.name || ':' || f.rep, ' ' ORDER BY p.name, f.rep) FROM leadroute.performance f JOIN leadroute.pool p ON p.id = f.pool
    WHERE p.name LIKE 'more %'), 'more 1:1', 'who is no member any more is forgotten, in a pool without members too');

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
SELECT is((SELECT count(*) FROM leadroute.performance f WHERE f.refreshed_at > now() - interval '1 minute'), 3::bigint, 'an error in one pool: the others are weighed');
SELECT is((SELECT count(*) FROM public.leads WHERE owner_id IS NULL), 0::bigint, 'and leads that wait are given out');
SELECT is((SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan)::text FROM leadroute.verify() v), '(0,0,0,0,0)', 'verify() finds nothing');
SELECT * FROM finish();
