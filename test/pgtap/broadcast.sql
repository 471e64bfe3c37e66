-- Pools with the mode broadcast: whom a lead is offered to, what becomes of the offer, and the words for it.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
SET LOCAL statement_timeout = '60s';
SET LOCAL leadroute.backlog = off;
SET LOCAL TIME ZONE 'UTC';

CREATE FUNCTION pg_temp.kept() RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify() v
$$;
-- rep or queue, method, note, whom it is offered to, for how long
CREATE FUNCTION pg_temp.stands(lead_id bigint) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', coalesce(a.rep::text, (SELECT p.name FROM leadroute.pool p WHERE p.id = a.pool), 'unmatched'), a.method,
        coalesce(leadroute._explanation(a.explanation) ->> 'note', '-'), a.offered_to, CASE WHEN isfinite(a.offered_until) THEN (a.offered_until - a.decided_at)::text ELSE a.offered_until::text END)
    FROM leadroute.assignment a WHERE a.lead_id = $1::text AND a.ended_at IS NULL
$$;
CREATE FUNCTION pg_temp.walk() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    work jsonb := leadroute._backlog_start('{0}', false);
    step record;
    given bigint := 0;
BEGIN
    WHILE work IS NOT NULL LOOP
        SELECT * INTO step FROM leadroute._backlog_step(work, 2);
        work := step.next_work;
        given := given + step.given;
    END LOOP;
    RETURN given;
END
$$;
-- the time of all offers is over
CREATE FUNCTION pg_temp.later() RETURNS bigint LANGUAGE sql AS $$
    UPDATE leadroute.assignment SET offered_until = clock_timestamp() - interval '1 second' WHERE offered_until < 'infinity' AND ended_at IS NULL;
    SELECT pg_temp.walk()
$$;

CREATE TABLE public.leads (id bigint PRIMARY KEY, region text, deal_value numeric, owner_id bigint);
DO $$ BEGIN PERFORM leadroute.attach('public.leads', reroute_on => '{region,deal_value}'); END $$;
CREATE FUNCTION pg_temp.put(region text, deal_value numeric DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    INSERT INTO public.leads (id, region, deal_value) SELECT coalesce(max(id), 0) + 1, put.region, put.deal_value FROM public.leads;
    SELECT pg_temp.stands(max(id)) FROM public.leads
$$;
INSERT INTO leadroute.rep (id, name, skills) VALUES (1, 'Ann', '{"big": 2}'), (2, 'Bob', '{}'), (3, 'Cy', '{"big": 1}'), (4, 'Di', '{}'), (5, 'Ed', '{}');
INSERT INTO leadroute.pool (name, mode) VALUES ('shelf', 'pull');
INSERT INTO leadroute.pool (name, mode, offer_window) VALUES ('floor', 'broadcast', '10 minutes'), ('open', 'broadcast', NULL);
INSERT INTO leadroute.pool (name, overflow_pool) VALUES ('desk', 'floor'), ('spare', NULL);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('floor', 1), ('floor', 2), ('floor', 3), ('open', 1), ('open', 2), ('desk', 4), ('shelf', 1), ('spare', 5);
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, needs, pool) VALUES
    (1, 'leads', 1, 'floor', $c$region = 'floor'$c$, $c$CASE WHEN deal_value > 10 THEN ARRAY['big>=' || deal_value / 100] END$c$, 'floor'),
    (2, 'leads', 2, 'open', $c$region = 'open'$c$, NULL, 'open'), (3, 'leads', 3, 'desk', $c$region = 'desk'$c$, NULL, 'desk');

-- whom -------------------------------------------------------------------------------------------

SELECT is(pg_temp.put('floor'), 'floor push offered {1,2,3} 00:10:00', 'to all members who may take it, for as long as the pool says');
SELECT is(pg_temp.put('open'), 'open push offered {1,2} infinity', 'or until somebody claims it');
SELECT is(pg_temp.put('floor', 200), 'floor push offered {1} 00:10:00', 'those who have the skills');
SELECT is((SELECT a.needs FROM leadroute.assignment a WHERE a.lead_id = '3'), '{big>=2}', 'which are kept');
SELECT is(pg_temp.put('desk'), '4 push -', 'a push pool before it gives its lead out');
UPDATE leadroute.rep SET paused = true WHERE id = 4;
SELECT is(pg_temp.put('desk'), 'floor overflow offered {1,2,3} 00:10:00', 'or overflows into one');
UPDATE leadroute.rep SET paused = true WHERE id = 1;
UPDATE leadroute.pool_member SET paused = true WHERE pool = 'floor' AND rep = 2;
SELECT is(pg_temp.put('floor'), 'floor push offered {3} 00:10:00', 'not to those who are paused');
UPDATE leadroute.rep SET daily_cap = 0 WHERE id = 3;
UPDATE leadroute.pool_member SET paused = false, daily_cap = 0 WHERE pool = 'floor' AND rep = 2;
UPDATE leadroute.rep SET paused = false WHERE id = 1;
SELECT is(pg_temp.put('floor'), 'floor push offered {1} 00:10:00', 'nor to those at a daily cap');
UPDATE leadroute.rep SET open_cap = 0 WHERE id = 1;
UPDATE leadroute.rep SET daily_cap = NULL WHERE id = 3;
INSERT INTO leadroute.rep_absence (rep, during) VALUES (3, tstzrange(now() - interval '1 day', now() + interval '1 day'));
SELECT is(pg_temp.put('floor'), 'floor push nobody', 'at the capacity, or absent: nobody is left, and it waits there');
SELECT is((SELECT array_agg(DISTINCT a.kind) FROM leadroute.alert a), '{nobody_available}', 'which somebody must see');
SELECT is((SELECT d.reason FROM leadroute.decision d WHERE d.lead_id = '8'),
    'nobody available in pool "floor" (1 absent, 1 at the daily cap of this pool, 1 at their capacity)', 'and why');
DELETE FROM leadroute.rep_absence;
UPDATE leadroute.rep SET open_cap = NULL, daily_cap = NULL;
UPDATE leadroute.pool_member SET daily_cap = NULL;
SELECT is((SELECT sum(s.received) FROM leadroute.pool_state s WHERE s.pool = 'floor'), 0::numeric, 'an offer takes no turn');
SELECT ok(pg_temp.kept(), 'verify() is all 0');
SELECT is(pg_temp.walk(), 0::bigint, 'a walk through the backlog gives nothing out');
SELECT is(pg_temp.stands(8), 'floor backlog offered {1,2,3} 00:10:00', 'but offers what waits, once somebody may take it');
SELECT is((SELECT count(*) FROM leadroute.assignment a WHERE a.end_reason = 'routed'), 1::bigint, 'and nothing twice');
SELECT is((SELECT count(*) FROM leadroute.route('leads', 1)), 0::bigint, 'route() leaves an offer as it is');
UPDATE public.leads SET deal_value = 5 WHERE id = 1;
SELECT is((SELECT count(*) FROM leadroute.assignment a WHERE a.lead_id = '1'), 1::bigint, 'so does a change without effect');
UPDATE public.leads SET deal_value = 100 WHERE id = 1;
SELECT is(pg_temp.stands(1), 'floor reroute offered {1,3} 00:10:00', 'one that makes it need something is another offer');

-- in words ----------------------------------------------------------------------------------------

SELECT is((SELECT string_agg(DISTINCT d.status, ' ') FROM leadroute.decision d WHERE d.ended_at IS NULL AND d.rep IS NULL), 'offered', 'the status');
SELECT is((SELECT o.status FROM leadroute.open_assignment o WHERE o.lead_id = '2'), 'offered', 'in open_assignment, too');
SELECT is((SELECT q.queue || ': ' || q.reason FROM leadroute.queue q WHERE q.lead_id = '3'),
    'floor: offered to 1 of 3 in pool "floor" (2 without the skills that the lead needs)', 'the queue has it with its reason');
SELECT is((SELECT d.reason FROM leadroute.decision d WHERE d.lead_id = '5'),
    'nobody available in pool "desk" (paused); offered to 3 of 3 in pool "floor"', 'one that came by overflow');
SELECT matches(leadroute.why('leads', 3), '^Lead 3 of "leads", episode 1: put into the queue "floor" at [^\n]+\.
  Rule "floor" \(1\) was the first to match\.
  Offered to 1 of 3 in pool "floor" \(2 without the skills that the lead needs\)\.
    Ann \(1\): offered
    Bob \(2\): lacks a skill that the lead needs
    Cy \(3\): lacks a skill that the lead needs
  The first of them to claim it has it; at [^\n]+ it is given out\.$', 'why()');
SELECT matches(leadroute.why('leads', 2), 'The first of them to claim it has it\.$', 'why() of an offer without an end');
SELECT is(w ->> 'status' || ' ' || (w ->> 'note') || ' ' || (w ->> 'offered_to') || ' ' || (w ->> 'needs'), 'offered offered [1] ["big>=2"]', 'why_json()')
FROM leadroute.why_json('leads', 3) w;
SELECT results_eq($$ SELECT kind, pool, rep, outcome, reason, picked FROM leadroute.explain('leads', '{"id": 999, "region": "floor", "deal_value": 200}') WHERE kind <> 'rule' $$,
    $$ VALUES ('member', 'floor', 1::bigint, 'eligible', 'offered', false),
              ('member', 'floor', 2, 'unskilled', 'lacks a skill that the lead needs', false),
              ('member', 'floor', 3, 'unskilled', 'lacks a skill that the lead needs', false),
              ('result', 'floor', NULL, 'offered', 'offered to 1 of 3 in pool "floor" (2 without the skills that the lead needs)', false) $$,
    'explain()');

-- the end of an offer -----------------------------------------------------------------------------

SELECT is(pg_temp.walk(), 0::bigint, 'nothing is due yet');
DELETE FROM public.leads WHERE id > 3;
SELECT is(pg_temp.later(), 2::bigint, 'when their time is over, leads are given out');
SELECT is((SELECT array_agg(pg_temp.stands(i) ORDER BY i) FROM generate_series(1, 3) i),
    ARRAY['3 backlog -', 'open push offered {1,2} infinity', '1 backlog -'], 'by the pool''s method, to who has the skills');
SELECT is((SELECT string_agg(s.received::text, ' ' ORDER BY s.rep) FROM leadroute.pool_state s WHERE s.pool = 'floor'), '1 0 1', 'who has a turn taken');
SELECT is((SELECT array_agg(owner_id ORDER BY id) FROM public.leads), '{3,NULL,1}', 'and owns the lead');
SELECT is((SELECT d.status || ' ' || d.end_reason FROM leadroute.decision d WHERE d.lead_id = '3' AND d.episode = 1), 'ended routed', 'the offer has ended');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

DELETE FROM leadroute.alert;
SELECT is(pg_temp.put('floor'), 'floor push offered {1,2,3} 00:10:00', 'another one');
UPDATE leadroute.rep SET paused = true WHERE id <= 3;
SELECT is(pg_temp.later(), 0::bigint, 'whom nobody may take any more when its time is over');
SELECT is(pg_temp.stands(4), 'floor push offered {1,2,3}', 'stays, to be claimed');
SELECT is((SELECT d.status FROM leadroute.decision d WHERE d.lead_id = '4' AND d.ended_at IS NULL), 'waiting', 'status waiting');
SELECT matches(leadroute.why('leads', 4), 'The offer is over, and nobody could be given it\. It waits there for a member to claim it\.$', 'why() tells');
SELECT is(pg_temp.later(), 0::bigint, 'and once more');
SELECT is((SELECT count(*) FROM leadroute.assignment a WHERE a.lead_id = '4' AND a.ended_at IS NULL AND a.rep IS NULL), 1::bigint, 'it stays');
UPDATE leadroute.rep SET paused = false WHERE id = 2;
SELECT is(pg_temp.walk(), 1::bigint, 'until somebody may take it');
SELECT is(pg_temp.stands(4), '2 backlog -', 'who is given it');

UPDATE leadroute.pool SET overflow_pool = 'spare' WHERE name = 'floor';
SELECT is(pg_temp.put('floor'), 'floor push offered {2} 00:10:00', 'with an overflow pool');
UPDATE leadroute.rep SET paused = true WHERE id = 2;
SELECT is(pg_temp.later(), 1::bigint, 'and nobody there any more');
SELECT is(pg_temp.stands(5), '5 backlog -', 'it overflows');
SELECT is(pg_temp.put('floor'), '5 overflow -', 'as does one that can be offered to nobody');
UPDATE leadroute.pool SET overflow_pool = 'shelf' WHERE name = 'floor';
SELECT is(pg_temp.put('floor'), 'shelf overflow pull', 'or waits to be claimed in a pull pool');
UPDATE leadroute.rep SET paused = false;
UPDATE public.leads SET region = 'desk' WHERE id = 7;
SELECT is(pg_temp.stands(7), '4 reroute -', 'rerouted to a push pool it is given out');
UPDATE leadroute.pool SET overflow_pool = NULL WHERE name = 'floor';

-- one that came by overflow and that nobody can be given stays where it was offered
UPDATE leadroute.rep SET paused = true WHERE id = 4;
SELECT is(pg_temp.put('desk'), 'floor overflow offered {1,2,3} 00:10:00', 'one more by overflow');
UPDATE leadroute.rep SET paused = true;
SELECT is(pg_temp.later(), 0::bigint, 'nobody is there');
SELECT is(pg_temp.stands(8), 'floor overflow offered {1,2,3}', 'it stays to be claimed where it was offered');
UPDATE leadroute.rep SET paused = false WHERE id = 3;
SELECT is(pg_temp.walk(), 1::bigint, 'until somebody is there');
SELECT is(pg_temp.stands(8), '3 backlog -', 'who has it');
UPDATE leadroute.rep SET paused = false;

INSERT INTO leadroute.pool (name, mode, offer_window) VALUES ('lone', 'broadcast', '1 second');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('lone', 5);
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, pool) VALUES (4, 'leads', 4, 'lone', $c$region = 'lone'$c$, 'lone');
DELETE FROM leadroute.alert;
INSERT INTO public.leads (id, region) VALUES (-1, 'lone');
SELECT is((SELECT count(*) FROM leadroute.alert), 0::bigint, 'an offer alarms nobody');
UPDATE leadroute.rep SET paused = true WHERE id = 5;
SELECT is(pg_temp.later(), 0::bigint, 'nobody has taken it up');
SELECT is((SELECT string_agg(a.kind || ' ' || a.lead_id, ',') FROM leadroute.alert a), 'nobody_available -1', 'which somebody must see');
UPDATE leadroute.rep SET paused = false;
DELETE FROM public.leads WHERE id = -1;

-- an error of the lead table's own ----------------------------------------------------------------

SELECT is(pg_temp.put('floor'), 'floor push offered {1,2,3} 00:10:00', 'an offer');
CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never'; END $$;
CREATE TRIGGER never BEFORE UPDATE ON public.leads FOR EACH ROW WHEN (NEW.id = 9) EXECUTE FUNCTION public.never();
SELECT is(pg_temp.put('floor'), 'floor push offered {1,2,3} 00:10:00', 'and one after it');
SELECT is(pg_temp.later(), 1::bigint, 'a lead that fails is set aside, the others are given out');
SELECT matches(pg_temp.stands(9), '^floor push offered \{1,2,3\} ', 'it stays as it was');
SELECT is((SELECT count(*) FROM leadroute.alert a WHERE a.kind = 'backlog_error' AND a.lead_id = '9'), 1::bigint, 'with an alert');
DROP TRIGGER never ON public.leads;
SELECT is(pg_temp.walk(), 0::bigint, 'it rests');
UPDATE leadroute.alert SET acknowledged_at = now() WHERE kind = 'backlog_error';
SELECT is(pg_temp.walk(), 1::bigint, 'until somebody has seen to it');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- another mode, and many --------------------------------------------------------------------------

SELECT is(pg_temp.put('floor'), 'floor push offered {1,2,3} 00:10:00', 'an offer');
UPDATE leadroute.pool SET mode = 'push' WHERE name IN ('floor', 'open');
SELECT is(pg_temp.walk(), 0::bigint, 'of a pool that becomes push stands');
SELECT is(pg_temp.later(), 1::bigint, 'until its time is over');
SELECT is(pg_temp.stands(2), 'open push offered {1,2} infinity', 'one without an end until it is claimed');
UPDATE leadroute.pool SET mode = 'broadcast' WHERE name = 'floor';
SET LOCAL leadroute.explain = off;
SELECT is(pg_temp.put('floor'), 'floor push - {1,2,3} 00:10:00', 'without explanations');
SELECT is((SELECT d.status || ': ' || d.reason FROM leadroute.decision d WHERE d.lead_id = '12'), 'offered: put into the queue', 'it is offered as well');
RESET leadroute.explain;
INSERT INTO leadroute.rep (id, name, skills) SELECT i, 'Rep ' || i, CASE WHEN i % 2 = 0 THEN '{"even": 1}'::jsonb ELSE '{}' END FROM generate_series(101, 3100) i;
INSERT INTO leadroute.pool (name, mode) VALUES ('crowd', 'broadcast');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'crowd', i FROM generate_series(101, 3100) i;
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, needs, pool) VALUES
    (5, 'leads', 5, 'crowd', $c$region = 'crowd'$c$, $c$CASE WHEN deal_value > 0 THEN ARRAY['even'] END$c$, 'crowd');
INSERT INTO public.leads (id, region, deal_value) VALUES (20, 'crowd', NULL), (21, 'crowd', 1);
SELECT is((SELECT array_agg(cardinality(a.offered_to) ORDER BY a.lead_id) FROM leadroute.assignment a WHERE a.rule = 5), '{1000,1000}', 'of many members 1,000 are told');
SELECT is((SELECT count(DISTINCT r) FROM leadroute.assignment a, unnest(a.offered_to) r WHERE a.lead_id = '21' AND r % 2 = 0), 1000::bigint, 'each once, and only those who may');
SELECT is((SELECT d.reason FROM leadroute.decision d WHERE d.lead_id = '21'),
    'offered to 1000 of 3000 in pool "crowd" (1500 without the skills that the lead needs)', 'the reason counts them');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

SELECT * FROM finish();
ROLLBACK;
