-- Each method by each situation: who takes six leads, what why(), why_json(), explain() and pool_state say
-- of those who do not, and that a lead nobody can take waits, with an alert. What is expected was written
-- down from the laws of the methods. Each cell is a tenant of its own.
SELECT plan(16 + 7 * 15 * 7);
SET client_min_messages = warning;

CREATE TABLE public.leads (tenant bigint, id bigint GENERATED ALWAYS AS IDENTITY, place point, owner_id bigint, PRIMARY KEY (tenant, id));
DO $$ BEGIN PERFORM leadroute.attach('public.leads', tenant_column => 'tenant', location_column => 'place', value_expression => '100'); END $$;

-- What the laws say of six leads, one after the other, to four reps; - is nobody. Of them
--   round_robin  takes all for equals
--   value        does so where all leads are worth the same
--   weighted     lets rep 1 weigh four, the others one: its turns end after 1/4, 1/2, 3/4, theirs after 1, and one may
--                take a turn whose start the pool has come to, by a seventh with each lead
--   performance  the same, by a weight that was found
--   least_open   minds that rep 4 has had two leads open from the beginning, given by hand
--   priority     has reps 1 and 2 in its first tier, 3 and 4 in the second
--   nearest      has rep 1 next to the leads, 2 and 3 together further away, 4 at no known place
-- all: everybody can; away: rep 1 cannot; capped: rep 1 can no more after one lead; all_capped: nor can
-- reps 2 and 3, and rep 4 not at all; mixed: rep 2 after one lead, and 4; mixed_none: rep 2 once only.
CREATE TEMP TABLE law (method text, everybody text, away text, capped text, all_capped text, mixed text, mixed_none text);
INSERT INTO law VALUES
    ('round_robin', '1 2 3 4 1 2', '2 3 4 2 3 4', '1 2 3 4 2 3', '1 2 3 - - -', '2 4 4 4 4 4', '2 - - - - -'),
    ('value',       '1 2 3 4 1 2', '2 3 4 2 3 4', '1 2 3 4 2 3', '1 2 3 - - -', '2 4 4 4 4 4', '2 - - - - -'),
    ('weighted',    '1 1 2 1 3 4', '2 3 4 2 3 4', '1 2 3 4 2 3', '1 2 3 - - -', '2 4 4 4 4 4', '2 - - - - -'),
    ('performance', '1 1 2 1 3 4', '2 3 4 2 3 4', '1 2 3 4 2 3', '1 2 3 - - -', '2 4 4 4 4 4', '2 - - - - -'),
    ('least_open',  '1 2 3 1 2 3', '2 3 2 3 4 2', '1 2 3 2 3 4', '1 2 3 - - -', '2 4 4 4 4 4', '2 - - - - -'),
    ('priority',    '1 2 1 2 1 2', '2 2 2 2 2 2', '1 2 2 2 2 2', '1 2 3 - - -', '2 4 4 4 4 4', '2 - - - - -'),
    ('nearest',     '1 1 1 1 1 1', '2 3 2 3 2 3', '1 2 3 2 3 2', '1 2 3 - - -', '2 4 4 4 4 4', '2 - - - - -');

-- Who cannot take the sixth lead, and why.
CREATE TEMP TABLE situation (name text, law text, states text[]);
INSERT INTO situation VALUES
    ('all eligible',      'everybody', '{NULL, NULL, NULL, NULL}'),
    ('one absent',        'away', '{absent, NULL, NULL, NULL}'),
    ('one off shift',     'away', '{off_shift, NULL, NULL, NULL}'),
    ('one signed out',    'away', '{signed_out, NULL, NULL, NULL}'),
    ('one paused',        'away', '{rep_paused, NULL, NULL, NULL}'),
    ('one paused here',   'away', '{member_paused, NULL, NULL, NULL}'),
    ('one unskilled',     'away', '{unskilled, NULL, NULL, NULL}'),
    ('one daily cap',     'capped', '{rep_cap, NULL, NULL, NULL}'),
    ('one member cap',    'capped', '{member_cap, NULL, NULL, NULL}'),
    ('one capacity',      'capped', '{open_cap, NULL, NULL, NULL}'),
    ('all away',          'nobody', '{absent, off_shift, signed_out, rep_paused}'),
    ('all unskilled',     'nobody', '{unskilled, unskilled, unskilled, unskilled}'),
    ('all capped',        'all_capped', '{rep_cap, member_cap, open_cap, rep_cap}'),
    ('mixed',             'mixed', '{absent, open_cap, unskilled, NULL}'),
    ('mixed, and nobody', 'mixed_none', '{absent, open_cap, unskilled, member_paused}');

-- The words of why() and of pool_state, where the lead does not matter; %s is for counts.
CREATE TEMP TABLE words (state text, why text, pool_state text);
INSERT INTO words VALUES
    ('absent', 'absent', 'absent'),
    ('off_shift', 'outside working hours', 'outside working hours'),
    ('signed_out', 'not signed in', 'not signed in'),
    ('rep_paused', 'paused', 'paused'),
    ('member_paused', 'paused in this pool', 'paused in this pool'),
    ('unskilled', 'lacks a skill that the lead needs', NULL),
    ('rep_cap', 'daily cap reached, 1 of 1', 'daily cap of 1 reached'),
    ('member_cap', 'daily cap in this pool reached, 1 of 1', 'daily cap of 1 in this pool reached'),
    ('open_cap', 'capacity reached, 1 of 1 leads open', 'capacity of 1 open leads reached'),
    ('lower_tier', 'of a later tier', NULL),
    ('turn', NULL, NULL), ('picked', NULL, NULL);

-- The cells: what is expected of each. Who could, but is not taken: of a later tier, or not due.
CREATE TEMP TABLE cell AS
SELECT 1000 + row_number() OVER (ORDER BY l.method, s.name) AS tenant, l.method, s.name AS situation, o.owners,
    ARRAY(SELECT coalesce(t.state, CASE WHEN o.owners LIKE '%' || t.rep THEN 'picked'
            WHEN l.method = 'priority' AND t.rep > 2 AND right(o.owners, 1) <= '2' THEN 'lower_tier' ELSE 'turn' END)
        FROM unnest(s.states) WITH ORDINALITY t (state, rep) ORDER BY t.rep) AS states
FROM law l, situation s, LATERAL (SELECT CASE s.law WHEN 'everybody' THEN l.everybody WHEN 'away' THEN l.away WHEN 'capped' THEN l.capped
    WHEN 'all_capped' THEN l.all_capped WHEN 'mixed' THEN l.mixed WHEN 'mixed_none' THEN l.mixed_none ELSE '- - - - - -' END AS owners) o;

-- The teams.
INSERT INTO leadroute.calendar (tenant, name, timezone) SELECT tenant, 'never', 'UTC' FROM cell;
INSERT INTO leadroute.rep (tenant, id, name, calendar, skills, daily_cap, open_cap, location, paused)
    SELECT c.tenant, s.rep, 'Rep ' || s.rep, CASE s.state WHEN 'off_shift' THEN 'never' END, CASE WHEN s.state = 'unskilled' THEN '{}' ELSE '{"dance": 2}' END::jsonb,
        CASE s.state WHEN 'rep_cap' THEN CASE s.rep WHEN 4 THEN 0 ELSE 1 END END, CASE s.state WHEN 'open_cap' THEN 1 END,
        CASE WHEN s.rep < 4 THEN point(CASE s.rep WHEN 1 THEN 0 ELSE 10 END, 0) END, s.state = 'rep_paused'
    FROM cell c, unnest(c.states) WITH ORDINALITY s (state, rep);
INSERT INTO leadroute.rep_absence (tenant, rep, during)
    SELECT c.tenant, s.rep, tstzrange(now() - interval '1 day', now() + interval '1 day') FROM cell c, unnest(c.states) WITH ORDINALITY s (state, rep) WHERE s.state = 'absent';
INSERT INTO leadroute.pool (tenant, name, method, performance_bound, presence_required)
    SELECT tenant, 'team', method, 4, 'signed_out' = ANY (states) FROM cell;
INSERT INTO leadroute.pool_member (tenant, pool, rep, weight, tier, daily_cap, paused)
    SELECT c.tenant, 'team', s.rep, CASE WHEN c.method = 'weighted' AND s.rep = 1 THEN 4 ELSE 1 END, CASE WHEN s.rep > 2 THEN 2 ELSE 1 END,
        CASE s.state WHEN 'member_cap' THEN 1 END, s.state = 'member_paused'
    FROM cell c, unnest(c.states) WITH ORDINALITY s (state, rep);
INSERT INTO leadroute.performance (tenant, pool, rep, weight, closes, won, touches)
    SELECT c.tenant, p.id, r, CASE r WHEN 1 THEN 4 ELSE 1 END, 0, 0, 0 FROM cell c JOIN leadroute.pool p USING (tenant), generate_series(1, 4) r
    WHERE c.method = 'performance';
INSERT INTO leadroute.rule (tenant, lead_table, position, name, pool, needs)
    SELECT tenant, 'leads', 1, 'everything', 'team', CASE WHEN 'unskilled' = ANY (states) THEN 'ARRAY[''dance>=2'']' END FROM cell;
DO $$ BEGIN
    PERFORM leadroute.sign_in(s.rep, c.tenant) FROM cell c, unnest(c.states) WITH ORDINALITY s (state, rep)
    WHERE 'signed_out' = ANY (c.states) AND s.state <> 'signed_out';
END $$;
INSERT INTO public.leads (tenant, place, owner_id) SELECT tenant, '(1, 0)', 4 FROM cell, generate_series(1, 2) WHERE method = 'least_open';

-- Six leads for each, one statement a lead, each foretold by explain().
CREATE TEMP TABLE given (tenant bigint, n integer, id bigint, owner bigint, foretold bigint, explained text[]);
CREATE FUNCTION pg_temp.give(for_tenant bigint, n integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    told text[];
    foretold bigint;
    lead record;
BEGIN
    SELECT array_agg(e.outcome ORDER BY e.rep) FILTER (WHERE e.kind = 'member'), max(e.rep) FILTER (WHERE e.picked) INTO told, foretold
    FROM leadroute.explain('leads', '{"place": "(1, 0)"}'::jsonb || jsonb_build_object('tenant', for_tenant), tenant => for_tenant) e;
    INSERT INTO public.leads (tenant, place) VALUES (for_tenant, '(1, 0)') RETURNING id, owner_id INTO lead;
    INSERT INTO given VALUES (for_tenant, n, lead.id, lead.owner_id, foretold, told);
END
$$;
SELECT lives_ok($$ SELECT pg_temp.give(c.tenant, n) FROM cell c, generate_series(1, 6) n ORDER BY c.tenant, n $$, 'the leads come');

SELECT is((SELECT string_agg(coalesce(g.owner::text, '-'), ' ' ORDER BY g.n) FROM given g WHERE g.tenant = c.tenant),
    c.owners, format('%s, %s: who takes them', c.method, c.situation)) FROM cell c ORDER BY c.tenant;

-- The sixth lead.
SELECT is((SELECT array_agg(m ->> 'state' ORDER BY (m ->> 'rep')::bigint)
        FROM jsonb_array_elements(leadroute.why_json('leads', g.id, tenant => c.tenant) #> '{tried,0,candidates}') m),
    c.states, format('%s, %s: why_json()', c.method, c.situation))
FROM cell c JOIN given g ON g.tenant = c.tenant AND g.n = 6 ORDER BY c.tenant;

SELECT is((SELECT coalesce(string_agg(s.rep::text, ' '), '') FROM unnest(c.states) WITH ORDINALITY s (state, rep) JOIN words w USING (state)
        WHERE position(format(E'\n    Rep %s (%s): %s', s.rep, s.rep, CASE WHEN s.rep = 4 AND s.state = 'rep_cap'
            THEN format('daily cap reached, %s of 0', CASE c.method WHEN 'least_open' THEN 2 ELSE 0 END) ELSE w.why END)
            || E'\n' IN leadroute.why('leads', g.id, tenant => c.tenant) || E'\n') = 0 AND w.why IS NOT NULL),
    '', format('%s, %s: why() gives each loser''s reason', c.method, c.situation))
FROM cell c JOIN given g ON g.tenant = c.tenant AND g.n = 6 ORDER BY c.tenant;

SELECT is(g.explained, ARRAY(SELECT CASE WHEN s IN ('turn', 'picked') THEN 'eligible' ELSE s END FROM unnest(c.states) WITH ORDINALITY t (s, n) ORDER BY t.n),
    format('%s, %s: explain()', c.method, c.situation))
FROM cell c JOIN given g ON g.tenant = c.tenant AND g.n = 6 ORDER BY c.tenant;

SELECT ok((SELECT bool_and(g.foretold IS NOT DISTINCT FROM g.owner) FROM given g WHERE g.tenant = c.tenant),
    format('%s, %s: explain() foretold each of them', c.method, c.situation)) FROM cell c ORDER BY c.tenant;

-- Who waits, where, and whether somebody is told.
SELECT is((SELECT concat_ws(' ', count(*) FILTER (WHERE d.status = 'assigned' AND d.method = 'push' AND d.rep IS NOT NULL),
            count(*) FILTER (WHERE d.status = 'waiting' AND d.rep IS NULL AND d.pool = 'team' AND d.reason LIKE 'nobody available in pool "team" (%)'),
            (SELECT count(*) FROM leadroute.queue q WHERE q.tenant = c.tenant AND q.queue = 'team' AND q.reason LIKE 'nobody available in pool "team" (%)'),
            (SELECT string_agg(DISTINCT a.kind, ' ') FROM leadroute.alert a WHERE a.tenant = c.tenant))
        FROM leadroute.decision d WHERE d.tenant = c.tenant AND d.method <> 'manual'),
    CASE length(translate(c.owners, '1234 ', '')) WHEN 0 THEN '6 0 0' ELSE format('%s %s %s nobody_available', length(translate(c.owners, '- ', '')),
        length(translate(c.owners, '1234 ', '')), length(translate(c.owners, '1234 ', ''))) END,
    format('%s, %s: record, queue and alert', c.method, c.situation)) FROM cell c ORDER BY c.tenant;

SELECT is((SELECT string_agg(format('%s %s', p.rep, p.unavailable_reason), ', ' ORDER BY p.rep) FROM leadroute.pool_state(c.tenant) p WHERE NOT p.available),
    (SELECT string_agg(format('%s %s', s.rep, CASE WHEN s.rep = 4 AND s.state = 'rep_cap' THEN CASE c.method WHEN 'least_open'
            THEN 'daily cap of 0 reached (2 used)' ELSE 'daily cap of 0 reached' END ELSE w.pool_state END), ', ' ORDER BY s.rep)
        FROM unnest(c.states) WITH ORDINALITY s (state, rep) JOIN words w USING (state) WHERE w.pool_state IS NOT NULL),
    format('%s, %s: pool_state', c.method, c.situation)) FROM cell c ORDER BY c.tenant;

-- In one line, where everybody is away, each for another reason.
SELECT is((SELECT DISTINCT d.reason FROM leadroute.decision d WHERE d.tenant = c.tenant AND d.status = 'waiting'),
    'nobody available in pool "team" (1 absent, 1 outside working hours, 1 paused, 1 not signed in)', format('%s: the reason of those that wait', c.method))
FROM cell c WHERE c.situation = 'all away' ORDER BY c.tenant;
SELECT is((SELECT concat_ws(' ', sum(v.lost), sum(v.double), sum(v.overshoot), sum(v.drift), sum(v.orphan)) FROM cell c, leadroute.verify(c.tenant) v
    WHERE c.method = l.method), '0 0 0 0 0', format('%s: verify', l.method)) FROM law l ORDER BY l.method;
SELECT is((SELECT count(*) FROM cell), 105::bigint, 'all cells');
SELECT * FROM finish();
