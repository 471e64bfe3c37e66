-- The clock of the first touch: which policy counts, when the touch is due, in which ways of giving a
-- lead to somebody; and business time by hand.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
UPDATE leadroute.lead_table SET sticky_on = 'lower(email)';
INSERT INTO leadroute.sla_policy (id, name, first_touch) VALUES (1, 'by rule', '5 minutes'), (2, 'by rep', '10 minutes'), (3, 'by pool', '15 minutes'), (4, 'by table', '1 day');
INSERT INTO leadroute.sla_step (policy, share, action) VALUES ('by pool', 0.5, 'remind'), ('by pool', 2, 'escalate');
INSERT INTO leadroute.sla_step (policy, after, action) VALUES ('by pool', '6 minutes', 'notify_manager'), ('by table', '2 days', 'recycle');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cho');
INSERT INTO leadroute.rep (id, name, daily_cap) VALUES (4, 'Dan', 0);
INSERT INTO leadroute.pool (name) VALUES ('a'), ('b'), ('c'), ('none');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('a', 1), ('b', 2), ('c', 4), ('none', 3);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, rep) VALUES
    ('leads', 1, 'a', 'source = ''a''', 'a', NULL), ('leads', 2, 'b', 'source = ''b''', 'b', NULL), ('leads', 3, 'rep', 'source = ''rep''', NULL, 3),
    ('leads', 4, 'c', 'source = ''c''', 'c', NULL), ('leads', 5, 'none', 'source = ''none''', 'none', NULL);

-- A lead's clock: policy, time until the touch is due, time until the next step.
CREATE FUNCTION pg_temp.clock(lead bigint) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s %s %s', coalesce(sla::text, '-'), coalesce((due_at - decided_at)::text, '-'), coalesce((next_step_at - decided_at)::text, '-'))
    FROM leadroute.assignment WHERE lead_id = lead::text AND ended_at IS NULL $$;
CREATE FUNCTION pg_temp.new_lead(from_source text, from_email text DEFAULT NULL, owner bigint DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    WITH l AS (INSERT INTO public.leads (source, email, owner_id) VALUES (from_source, from_email, owner) RETURNING id) SELECT id::text FROM l $$;
CREATE FUNCTION pg_temp.new_clock(from_source text, from_email text DEFAULT NULL, owner bigint DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN RETURN pg_temp.clock(pg_temp.new_lead(from_source, from_email, owner)::bigint); END $$;

-- Which policy counts -----------------------------------------------------------------------------

SELECT is(pg_temp.new_clock('a'), '- - -', 'no policy, no clock');
UPDATE leadroute.lead_table SET sla = 'by table';
SELECT is(pg_temp.new_clock('a'), '4 1 day 1 day', 'the lead table''s');
UPDATE leadroute.pool SET sla = 'by pool' WHERE name = 'a';
SELECT is(pg_temp.new_clock('a'), '3 00:15:00 00:06:00', 'the pool''s before that; of its steps the first');
SELECT is(pg_temp.new_clock('b'), '4 1 day 1 day', 'not another pool''s');
UPDATE leadroute.rep SET sla = 'by rep' WHERE id IN (1, 3);
SELECT is(pg_temp.new_clock('a'), '2 00:10:00 00:10:00', 'the rep''s before the pool''s');
SELECT is(pg_temp.new_clock('rep'), '2 00:10:00 00:10:00', 'also where a rule names the rep');
UPDATE leadroute.rule SET sla = 'by rule' WHERE name IN ('a', 'c');
SELECT is(pg_temp.new_clock('a'), '1 00:05:00 00:05:00', 'the rule''s before all');
SELECT is(pg_temp.new_clock('c'), '- - -', 'a lead that waits has no clock');
SELECT is(pg_temp.new_clock('nobody'), '- - -', 'nor one that no rule matches');
UPDATE leadroute.sla_policy SET first_touch = '7 minutes' WHERE id = 1;
SELECT is(pg_temp.new_clock('a'), '1 00:07:00 00:07:00', 'a policy that changes counts for the next lead');

-- Which way it came -------------------------------------------------------------------------------

UPDATE leadroute.rep SET sla = NULL WHERE id = 1;
SELECT is(pg_temp.new_clock('b', 'Known@example.com'), '4 1 day 1 day', 'a contact''s first lead');
UPDATE leadroute.rep SET sla = 'by rep' WHERE id = 2;
SELECT is(pg_temp.new_clock('a', 'known@example.com'), '2 00:10:00 00:10:00', 'a known contact''s: the rep''s policy, and no rule''s');
SELECT is(pg_temp.new_clock('a', NULL, 3), '2 00:10:00 00:10:00', 'an owner that the app named');
SELECT is(pg_temp.new_clock('a', NULL, 1), '4 1 day 1 day', 'one without a policy of its own');
SELECT is(pg_temp.new_clock('a', NULL, 99), '- - -', 'one who is no rep');
UPDATE leadroute.pool SET overflow_pool = 'a' WHERE name = 'c';
SELECT is(pg_temp.new_clock('c'), '1 00:07:00 00:07:00', 'overflow: the rule''s');
UPDATE leadroute.rule SET sla = NULL WHERE name = 'c';
SELECT is(pg_temp.new_clock('c'), '3 00:15:00 00:06:00', 'the policy of the pool that gave it out');

CREATE TEMP TABLE moved AS SELECT pg_temp.new_lead('a')::bigint AS id;
DO $$ BEGIN PERFORM leadroute.reassign('leads', (SELECT id FROM moved), 2); END $$;
SELECT is(pg_temp.clock(id), '1 00:07:00 00:07:00', 'reassigned: the rule''s policy goes along, and the clock begins anew') FROM moved;
SELECT ok((SELECT due_at > (SELECT max(due_at) FROM leadroute.assignment e WHERE e.lead_id = a.lead_id AND e.ended_at IS NOT NULL)
    FROM leadroute.assignment a WHERE a.lead_id = (SELECT id::text FROM moved) AND ended_at IS NULL), 'for the new rep');
UPDATE public.leads SET owner_id = 3 WHERE id = (SELECT id FROM moved);
SELECT is(pg_temp.clock(id), '2 00:10:00 00:10:00', 'an UPDATE of the owner: the rep''s') FROM moved;
UPDATE public.leads SET owner_id = 1 WHERE id = (SELECT id FROM moved);
SELECT is(pg_temp.clock(id), '2 00:10:00 00:10:00', 'a rep without one: what the lead had') FROM moved;
DO $$ BEGIN PERFORM leadroute.release('leads', (SELECT id FROM moved)); END $$;
SELECT is(pg_temp.clock(id), '- - -', 'a released lead has no clock') FROM moved;
DELETE FROM public.leads WHERE id = (SELECT id FROM moved);

UPDATE leadroute.rep SET paused = true WHERE id = 3;
UPDATE leadroute.rep SET sla = NULL;
CREATE TEMP TABLE waits AS SELECT pg_temp.new_lead('none')::bigint AS id;
SELECT is(pg_temp.clock(id), '- - -', 'a lead that waits') FROM waits;
UPDATE leadroute.rep SET paused = false WHERE id = 3;
SELECT is((SELECT count(*) FROM leadroute.route('leads', (SELECT id FROM waits))), 1::bigint, 'is given out');
SELECT is(pg_temp.clock(id), '4 1 day 1 day', 'with a clock') FROM waits;

INSERT INTO public.leads (source, name) SELECT 'a', 'bulk' FROM generate_series(1, 1500);
SELECT is((SELECT string_agg(DISTINCT pg_temp.clock(id), ',') FROM public.leads WHERE name = 'bulk'), '1 00:07:00 00:07:00', 'many at once');
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE next_step_at < now() + interval '1 hour' AND ended_at IS NULL AND touched_at IS NULL),
    (SELECT count(*) FROM leadroute.assignment a WHERE a.sla IN (1, 2, 3) AND ended_at IS NULL), 'what is due is in the index');
SET LOCAL enable_seqscan = off;
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE next_step_at < now() + interval '1 hour' AND ended_at IS NULL AND touched_at IS NULL),
    (SELECT count(*) FROM leadroute.assignment a WHERE a.sla IN (1, 2, 3) AND ended_at IS NULL), 'all of it');
RESET enable_seqscan;

-- Business time by hand ---------------------------------------------------------------------------

SET LOCAL timezone = 'UTC';
INSERT INTO leadroute.calendar (name, timezone) VALUES ('office', NULL), ('berlin', 'Europe/Berlin'), ('club', NULL), ('shut', NULL);
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes)
SELECT c, d, time '09:00', time '17:00' FROM unnest('{office,berlin}'::text[]) c, generate_series(1, 5) d
UNION ALL SELECT 'club', d, time '22:00', time '04:00' FROM generate_series(5, 6) d;
INSERT INTO leadroute.calendar_holiday (calendar, day) VALUES ('office', '2026-12-25'), ('office', '2026-12-28');
INSERT INTO leadroute.rep (id, name, timezone, calendar) VALUES (11, 'Gil', 'UTC', NULL), (12, 'Hal', 'Asia/Kolkata', NULL), (13, 'Ida', 'America/New_York', 'berlin'),
    (14, 'Jan', 'UTC', 'club'), (15, 'Kim', 'UTC', 'shut'), (16, 'Lea', 'Europe/Berlin', 'office');
INSERT INTO leadroute.sla_policy (id, name, first_touch, business_time, calendar) VALUES (11, 'office', '1 hour', true, 'office'), (12, 'bare', '1 hour', true, NULL), (13, 'clock', '1 hour', false, NULL);

SELECT is(leadroute._sla_at(0, policy, rep, start::timestamptz, after::interval), due::timestamptz, what) FROM (VALUES
    (11, 11, '2026-11-20 18:30', '15 min', '2026-11-23 09:15', 'Friday evening'),
    (11, 11, '2026-11-20 16:50', '15 min', '2026-11-23 09:05', 'shortly before the weekend'),
    (11, 11, '2026-12-24 16:30', '1 hour', '2026-12-29 09:30', 'holidays and a weekend'),
    (11, 12, '2026-11-20 13:00', '15 min', '2026-11-23 03:45', 'evening in Kolkata, by the rep''s clock'),
    (11, 13, '2026-11-20 15:30', '1 hour', '2026-11-23 08:30', 'the rep''s own calendar, by its zone and not the rep''s'),
    (11, 14, '2026-11-20 18:00', '8 hours', '2026-11-22 00:00', 'over midnight'),
    (11, 15, '2026-11-20 18:00', '1 min', 'infinity', 'a calendar without hours'),
    (11, 16, '2026-03-27 15:30', '1 hour', '2026-03-30 07:30', 'clocks go forward at the weekend'),
    (11, 16, '2026-10-23 14:30', '1 hour', '2026-10-26 08:30', 'clocks go back at the weekend'),
    (11, 11, '2026-01-05 09:00', '520 hours', '2026-04-03 17:00', 'a quarter of a year'),
    (12, 11, '2026-11-20 18:30', '15 min', '2026-11-20 18:45', 'no calendar: all hours'),
    (12, 16, '2026-11-20 18:30', '15 min', '2026-11-23 08:15', 'but the rep''s'),
    (13, 16, '2026-11-20 18:30', '15 min', '2026-11-20 18:45', 'no business time'),
    (13, 16, '2026-10-24 12:00', '1 day', '2026-10-25 12:00', 'a day is 24 hours'),
    (11, NULL, '2026-11-20 18:30', '15 min', '2026-11-23 09:15', 'no rep: UTC')) AS v (policy, rep, start, after, due, what);

-- Memory and tables agree -------------------------------------------------------------------------

UPDATE leadroute.lead_table SET sla = NULL;
INSERT INTO leadroute.pool (name, sla) SELECT 'p' || p, y.name FROM generate_series(11, 13) p JOIN leadroute.sla_policy y ON y.id = p;
INSERT INTO leadroute.sla_step (policy, after, action) VALUES ('office', '90 min', 'escalate'), ('clock', '90 min', 'escalate'), ('bare', '20 min', 'remind');
INSERT INTO leadroute.rule (lead_table, position, name, condition, rep, sla)
SELECT 'leads', p.id * 100 + r.id, format('%s %s', p.name, r.id), format('source = ''x'' AND company = %L AND score = %s', p.name, r.id), r.id, p.name
FROM leadroute.sla_policy p, leadroute.rep r WHERE p.id BETWEEN 11 AND 13 AND r.id BETWEEN 11 AND 16;
UPDATE leadroute.rep SET calendar = NULL WHERE id IN (14, 15); -- they take no leads out of hours
UPDATE leadroute.rep SET calendar = CASE id WHEN 13 THEN 'berlin' WHEN 16 THEN 'office' END WHERE id IN (13, 16);
INSERT INTO public.leads (source, company, score, owner_id)
SELECT 'x', p.name, r.id, CASE WHEN r.calendar IS NOT NULL THEN r.id END FROM leadroute.sla_policy p, leadroute.rep r WHERE p.id BETWEEN 11 AND 13 AND r.id BETWEEN 11 AND 16;
UPDATE leadroute.rep SET sla = 'office' WHERE id = 16;
INSERT INTO public.leads (source, owner_id) VALUES ('x', 16);
CREATE TEMP VIEW both_ways AS
    SELECT a.*, s.first_touch, leadroute._sla_at(0, a.sla, a.rep, a.decided_at, s.first_touch) AS by_tables,
        leadroute._sla_at(0, a.sla, a.rep, a.decided_at, least(s.first_touch, (SELECT min(t.after) FROM leadroute.sla_step t WHERE t.policy = s.name))) AS step_by_tables
    FROM leadroute.assignment a JOIN leadroute.sla_policy s ON s.id = a.sla WHERE a.sla BETWEEN 11 AND 13;
SELECT ok(count(*) >= 13, 'there are clocks to compare') FROM both_ways;
SELECT is_empty('SELECT rep, sla, decided_at, due_at, by_tables FROM both_ways WHERE due_at IS DISTINCT FROM by_tables', 'memory says when a touch is due as the tables do');
SELECT is_empty('SELECT rep, sla, decided_at, next_step_at, step_by_tables FROM both_ways WHERE next_step_at IS DISTINCT FROM step_by_tables', 'and the first step');

-- beyond the hours that memory knows: two months of working hours
UPDATE leadroute.sla_policy SET first_touch = '320 hours' WHERE name = 'office';
INSERT INTO public.leads (source, company, score) VALUES ('x', 'office', 11);
INSERT INTO public.leads (source, owner_id) VALUES ('x', 16);
SELECT is((SELECT count(*) FROM both_ways WHERE due_at > now() + interval '36 days' AND due_at = by_tables AND next_step_at < now() + interval '30 days'), 2::bigint,
    'what is due later than memory knows is asked of the tables');
UPDATE leadroute.sla_policy SET calendar = 'shut' WHERE name = 'office';
INSERT INTO public.leads (source, company, score) VALUES ('x', 'office', 11);
SELECT is((SELECT format('%s %s', due_at, next_step_at) FROM both_ways ORDER BY decided_at DESC LIMIT 1), 'infinity ', 'never, in a calendar without hours');
SELECT is(leadroute._event_json('assigned', 0, 1, '1', 1, NULL, NULL, now(), 'infinity', NULL, 'leads', NULL, true, gen_random_uuid()) -> 'due_at', 'null', 'which an event leaves out');

SELECT results_eq('SELECT * FROM leadroute.verify()', 'VALUES (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint)', 'verify()');
SELECT * FROM finish();
ROLLBACK;
