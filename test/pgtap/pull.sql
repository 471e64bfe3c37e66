-- Pools with the mode pull: what comes to one waits there for a member to claim it, with what a claim
-- needs to know.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
SET LOCAL statement_timeout = '60s';
-- so that the worker does not give anything out meanwhile
SET LOCAL leadroute.backlog = off;

CREATE FUNCTION pg_temp.kept() RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify() v
$$;
-- queue:method:note of a lead's open episode, or rep:method
CREATE FUNCTION pg_temp.stands(lead_id bigint) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s:%s:%s', coalesce(a.rep::text, (SELECT p.name FROM leadroute.pool p WHERE p.id = a.pool), 'unmatched'), a.method,
        coalesce(leadroute._explanation(a.explanation) ->> 'note', '-'))
    FROM leadroute.assignment a WHERE a.lead_id = $1::text AND a.ended_at IS NULL
$$;
CREATE TABLE public.leads (id bigint PRIMARY KEY, region text, deal_value numeric, owner_id bigint);
DO $$ BEGIN PERFORM leadroute.attach('public.leads', reroute_on => '{region,deal_value}'); END $$;
CREATE FUNCTION pg_temp.put(region text) RETURNS text LANGUAGE sql AS $$
    INSERT INTO public.leads (id, region) SELECT coalesce(max(id), 0) + 1, put.region FROM public.leads;
    SELECT pg_temp.stands(max(id)) FROM public.leads
$$;

INSERT INTO leadroute.rep (id, name, skills) VALUES (1, 'Ann', '{"north": 1}'), (2, 'Bob', '{}'), (3, 'Cy', '{}');
INSERT INTO leadroute.pool (name, mode) VALUES ('shelf', 'pull');
INSERT INTO leadroute.pool (name, overflow_pool) VALUES ('desk', 'shelf'), ('plain', NULL);
INSERT INTO leadroute.pool (name, overflow_pool) VALUES ('lobby', 'desk');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('shelf', 1), ('shelf', 2), ('desk', 1), ('plain', 3);
INSERT INTO leadroute.territory (name, key) VALUES ('places', 'region');
INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('places', 'east', 'shelf');
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, pool, label) VALUES
    (1, 'leads', 1, 'pulled', $c$region = 'pull'$c$, 'shelf', '{"priority": 2}'),
    (2, 'leads', 2, 'pushed', $c$region = 'push'$c$, 'desk', NULL),
    (3, 'leads', 3, 'far', $c$region = 'far'$c$, 'lobby', NULL);
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, rep, overflow_pool) VALUES
    (4, 'leads', 4, 'his', $c$region = 'his'$c$, 3, 'shelf');
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, territory) VALUES
    (5, 'leads', 5, 'by place', $c$region = 'east'$c$, 'places');
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, needs, pool) VALUES
    (6, 'leads', 6, 'skilled', $c$region = 'north'$c$,
     $c$CASE WHEN deal_value > 10 THEN ARRAY['north>=2.5', ' big '] WHEN deal_value > 0 THEN ARRAY['north'] END$c$, 'shelf'),
    (7, 'leads', 7, 'skilled desk', $c$region = 'skilled desk'$c$, $c$ARRAY['nobody has this']$c$, 'desk');

-- where it stops ----------------------------------------------------------------------------------

SELECT is(pg_temp.put('pull'), 'shelf:push:pull', 'a rule''s pull pool: the lead waits there');
SELECT is(pg_temp.put('push'), '1:push:-', 'a push pool gives its lead out');
SELECT is(pg_temp.put('his'), '3:push:-', 'and so does a rule''s rep');
SELECT is(pg_temp.put('east'), 'shelf:push:pull', 'a territory''s entry that is a pull pool');
UPDATE leadroute.rep SET paused = true WHERE id IN (1, 3);
SELECT is(pg_temp.put('push'), 'shelf:overflow:pull', 'hybrid: what nobody in the push pool can take waits in its pull pool');
SELECT is(pg_temp.put('far'), 'shelf:overflow:pull', 'at the end of a chain of overflow pools, too');
SELECT is(pg_temp.put('his'), 'shelf:overflow:pull', 'a rule''s rep who is away: the rule''s overflow pool');
SELECT is(pg_temp.put('other'), 'unmatched:push:unmatched', 'what no rule matches waits in unmatched');
UPDATE leadroute.lead_table SET fallback_pool = 'shelf';
SELECT is(pg_temp.put('other'), 'shelf:push:pull', 'or in the fallback pool');
SELECT is((SELECT count(*) FROM leadroute.alert WHERE kind = 'nobody_available'), 0::bigint, 'nobody is alarmed');
SELECT ok(pg_temp.kept(), 'verify() is all 0');
SELECT is((SELECT sum(s.received) FROM leadroute.pool_state s WHERE s.pool = 'shelf'), 0::numeric, 'no turn is taken');
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE day IS NOT NULL AND rep IS NULL), 0::bigint, 'and no day');
SELECT is((SELECT array_agg(DISTINCT d.status) FROM leadroute.decision d WHERE d.pool = 'shelf'), '{waiting}', 'status waiting');
SELECT is((SELECT label FROM leadroute.assignment WHERE lead_id = '1'), '{"priority": 2}', 'the label is kept');

-- what it needs -----------------------------------------------------------------------------------

INSERT INTO public.leads (id, region, deal_value) VALUES (101, 'north', 11), (102, 'north', 1), (103, 'north', NULL);
SELECT is((SELECT string_agg(coalesce(a.needs::text, '-'), ' ' ORDER BY a.lead_id) FROM leadroute.assignment a WHERE a.rule = 6),
    '{north>=2.5,big} {north} -', 'what the rule''s needs said, as levels of skills');
INSERT INTO public.leads (id, region) VALUES (104, 'skilled desk');
SELECT is((SELECT format('%s %s', pg_temp.stands(104), a.needs) FROM leadroute.assignment a WHERE a.lead_id = '104'),
    'shelf:overflow:pull {"nobody has this"}', 'and of a lead that came by overflow');
UPDATE public.leads SET deal_value = 2 WHERE id = 102;
SELECT is((SELECT count(*) FROM leadroute.assignment a WHERE a.lead_id = '102'), 1::bigint, 'a change without effect leaves it where it is');
UPDATE public.leads SET deal_value = 12 WHERE id = 102;
SELECT is((SELECT string_agg(format('%s:%s:%s', coalesce(a.end_reason, 'open'), a.method, a.needs), ' ' ORDER BY a.episode) FROM leadroute.assignment a WHERE a.lead_id = '102'),
    'rerouted:push:{north} open:reroute:{north>=2.5,big}', 'a lead whose change makes it need something else');
UPDATE leadroute.rep SET paused = false WHERE id = 1;
UPDATE public.leads SET region = 'push' WHERE id = 102;
SELECT is(pg_temp.stands(102), '1:reroute:-', 'rerouted to a push pool it is given out');
UPDATE public.leads SET region = 'pull' WHERE id = 102;
SELECT is(pg_temp.stands(102), 'shelf:reroute:pull', 'and back into the pull pool');
SELECT is((SELECT owner_id FROM public.leads WHERE id = 102), NULL, 'it has no owner then');
SELECT is((SELECT s.open FROM leadroute.pool_state s WHERE s.pool = 'desk' AND s.rep = 1), 1::bigint, 'and takes nobody''s capacity');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- in words ----------------------------------------------------------------------------------------

UPDATE leadroute.rep SET paused = true WHERE id = 1;
SELECT is((SELECT q.reason FROM leadroute.queue q WHERE q.lead_id = '1'), 'waits for a member to claim it', 'the queue says so');
SELECT is((SELECT d.reason FROM leadroute.decision d WHERE d.lead_id = '5'),
    'nobody available in pool "desk" (paused); waits for a member to claim it', 'decision tells who was asked before');
SELECT is((SELECT d.reason FROM leadroute.decision d WHERE d.lead_id = '9'), 'no rule matched; waits for a member to claim it', 'of the fallback pool');
SELECT is(regexp_replace(leadroute.why('leads', 1), ' at \S+ [^.]+\.\S+', '.'), 'Lead 1 of "leads", episode 1: put into the queue "shelf".
  Rule "pulled" (1) was the first to match.
  It waits there for a member to claim it.', 'why()');
SELECT is(regexp_replace(leadroute.why('leads', 5), ' at \S+ [^.]+\.\S+', '.'), 'Lead 5 of "leads", episode 1: put into the queue "shelf".
  Rule "pushed" (2) was the first to match.
  Nobody available in pool "desk" (paused).
    Ann (1): paused
  It waits there for a member to claim it.', 'why() of one that came by overflow');
SELECT is(split_part(leadroute.why('leads', 9), E'\n', 2), '  No rule matched.', 'why() of the fallback pool');
SELECT is(w ->> 'status' || ' ' || (w ->> 'queue') || ' ' || (w ->> 'note') || ' ' || (w ->> 'reason'),
    'waiting shelf pull waits for a member to claim it', 'why_json()') FROM leadroute.why_json('leads', 1) w;
SELECT results_eq($$ SELECT kind, pool, rep, outcome, reason, picked FROM leadroute.explain('leads', '{"id": 999, "region": "push"}') WHERE kind <> 'rule' $$,
    $$ VALUES ('member', 'desk', 1::bigint, 'rep_paused', 'paused', false),
              ('result', 'shelf', NULL, 'waiting', 'nobody available in pool "desk" (paused); waits for a member to claim it', false) $$,
    'explain() shows the same');

-- the backlog leaves it alone ---------------------------------------------------------------------

UPDATE leadroute.rep SET paused = false;
SELECT is((SELECT count(*) FROM leadroute.route('leads', 1)), 0::bigint, 'route() leaves it where it is');
CREATE FUNCTION pg_temp.walk() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    work jsonb := leadroute._backlog_start('{0}', false);
    step record;
    given bigint := 0;
BEGIN
    WHILE work IS NOT NULL LOOP
        SELECT * INTO step FROM leadroute._backlog_step(work, 20);
        work := step.next_work;
        given := given + step.given;
    END LOOP;
    RETURN given;
END
$$;
INSERT INTO public.leads (id, region) VALUES (201, 'pull');
SELECT is(pg_temp.walk(), 0::bigint, 'a walk through the backlog gives none of it out');
SELECT is((SELECT count(*) FROM leadroute.queue q WHERE q.queue = 'shelf'), 11::bigint, 'all are there');

-- another mode ------------------------------------------------------------------------------------

UPDATE leadroute.pool SET mode = 'push' WHERE name = 'shelf';
SELECT cmp_ok(pg_temp.walk(), '>=', 7::bigint, 'a pool that becomes push gives out what waits there');
SELECT is((SELECT array_agg(DISTINCT q.lead_id ORDER BY q.lead_id) FROM leadroute.queue q WHERE q.queue = 'shelf'), '{101}', 'but for what nobody has the skills for');
SELECT matches(pg_temp.put('pull'), '^[12]:push:-$', 'and what comes now');
SELECT ok(pg_temp.kept(), 'verify() is all 0');
UPDATE leadroute.rep SET paused = true;
SELECT is(pg_temp.put('pull'), 'shelf:push:nobody', 'with nobody there it waits');
UPDATE leadroute.pool SET mode = 'pull' WHERE name = 'shelf';
UPDATE leadroute.rep SET paused = false;
SELECT is(pg_temp.walk(), 0::bigint, 'once the pool is pull it waits to be claimed');
-- what waits in a push pool goes on to a pull pool that becomes its overflow
UPDATE leadroute.rep SET paused = true WHERE id = 3;
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, pool) VALUES (8, 'leads', 8, 'plain', $c$region = 'plain'$c$, 'plain');
INSERT INTO public.leads (id, region) VALUES (301, 'plain');
SELECT is(pg_temp.stands(301), 'plain:push:nobody', 'a lead waits in a push pool');
UPDATE leadroute.pool SET overflow_pool = 'shelf' WHERE name = 'plain';
SELECT is(pg_temp.walk(), 0::bigint, 'a new overflow pool is a pull pool');
SELECT is(pg_temp.stands(301), 'shelf:backlog:pull', 'it goes on there');
SELECT is((SELECT array_agg(h.new ->> 'mode' ORDER BY h.id) FROM leadroute.config_change h
    WHERE h.table_name = 'pool' AND h.new ->> 'name' = 'shelf' AND h.old IS NOT NULL), '{push,pull}', 'the history has the changes of the mode');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

SELECT * FROM finish();
ROLLBACK;
