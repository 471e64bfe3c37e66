-- A lead that is given up: where it waits, what is known of it there, whom it does not go back to, and
-- whose turn it was. By release(), by an app that takes the owner away, and by a rep who hands it over.
SELECT no_plan();
SET client_min_messages = warning;

CREATE FUNCTION pg_temp.kept(tenant bigint DEFAULT 0) RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify(tenant) v
$$;
CREATE FUNCTION pg_temp.open(lead_id text, lead_table text DEFAULT 'leads') RETURNS leadroute.assignment LANGUAGE sql AS $$
    SELECT a FROM leadroute.assignment a JOIN leadroute.lead_table t ON t.id = a.lead_table
    WHERE t.name = $2 AND a.lead_id = $1 AND a.ended_at IS NULL
$$;
-- what became of SQL run as a role: its one value, or SQLSTATE|message|detail
CREATE FUNCTION pg_temp.as_role(role text, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE sql INTO result;
    RESET ROLE;
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || '|' || message || '|' || detail || CASE WHEN hint = '' THEN '|no hint' ELSE '' END;
END $$;

-- Not back to the same rep ------------------------------------------------------------------------
--
-- Whatever the pool goes by: each of five members has the lead once, then nobody.
CREATE FUNCTION pg_temp.way(lead bigint) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    taken bigint[] := ARRAY[(SELECT owner_id FROM public.leads WHERE id = lead)];
    next bigint;
BEGIN
    LOOP
        PERFORM leadroute.release('leads', lead);
        SELECT r.rep INTO next FROM leadroute.route('leads', lead) r;
        EXIT WHEN next IS NULL OR cardinality(taken) > 50;
        taken := taken || next;
    END LOOP;
    RETURN taken;
END $$;
DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name, location) SELECT 100 + n, 'R' || n, point(n, 0) FROM generate_series(1, 30) n;
INSERT INTO leadroute.pool (name, method) SELECT m, m FROM unnest('{round_robin,weighted,least_open,priority,nearest,performance,value}'::text[]) m;
INSERT INTO leadroute.pool_member (pool, rep, weight, tier) SELECT m, 100 + n, n, 1 + n / 3
    FROM unnest('{round_robin,weighted,least_open,priority,nearest,performance,value}'::text[]) m, generate_series(1, 5) n;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) SELECT 'leads', 100 + row_number() OVER (), name, format('region = %L', name), name FROM leadroute.pool WHERE name = method;
UPDATE leadroute.lead_table SET value_expression = 'deal_value', location_column = 'location';
INSERT INTO public.leads (id, region, location, deal_value) OVERRIDING SYSTEM VALUE SELECT 200 + id, name, '(1, 0)', 100 FROM leadroute.pool WHERE name = method;
SELECT is((SELECT array_agg(r ORDER BY r) FROM unnest(pg_temp.way(id)) r), '{101,102,103,104,105}', 'each once: ' || region)
FROM public.leads WHERE id > 200 ORDER BY id;
SELECT is((SELECT count(*) FROM leadroute.pool_state WHERE pool = 'round_robin' AND received = 1), 5::bigint, 'a turn each');
-- of many members the counts say it
INSERT INTO leadroute.pool (name) VALUES ('many');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'many', 100 + n FROM generate_series(1, 30) n;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 200, 'many', $c$region = 'many'$c$, 'many');
INSERT INTO public.leads (id, region) OVERRIDING SYSTEM VALUE VALUES (300, 'many');
SELECT is(cardinality(pg_temp.way(300)), 30, 'thirty members, one after the other');
SELECT is((SELECT jsonb_path_query_first(leadroute._explanation(a.explanation), '$.tried[0].others') FROM leadroute.assignment a
    WHERE a.lead_id = '300' AND a.rep IS NOT NULL AND cardinality(a.avoid) = 20), '{"turn": 6, "gave_up": 20}', 'those who gave it up are counted');
SELECT matches((SELECT leadroute.why('leads', 300, a.episode) FROM leadroute.assignment a WHERE a.lead_id = '300' AND a.rep IS NOT NULL AND cardinality(a.avoid) = 20),
    '20 who gave this lead up, or lost it', 'in words');
-- a turn that is returned
INSERT INTO leadroute.pool (name, release_returns_turn) VALUES ('returns', true);
INSERT INTO leadroute.pool_member (pool, rep, daily_cap) SELECT 'returns', 100 + n, 2 FROM generate_series(1, 3) n;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 201, 'returns', $c$region = 'returns'$c$, 'returns');
INSERT INTO public.leads (id, region) OVERRIDING SYSTEM VALUE VALUES (400, 'returns'), (401, 'returns'), (402, 'returns');
DO $$ BEGIN PERFORM leadroute.release('leads', 401); END $$;
SELECT results_eq($$ SELECT rep, received, today FROM leadroute.pool_state WHERE pool = 'returns' ORDER BY rep $$,
    $$ VALUES (101::bigint, 1::bigint, 1), (102, 0, 0), (103, 1, 1) $$, 'a returned turn counts neither as received nor for the day');
INSERT INTO public.leads (id, region) OVERRIDING SYSTEM VALUE VALUES (403, 'returns');
SELECT is((SELECT owner_id FROM public.leads WHERE id = 403), 102::bigint, 'so that the next lead is that rep''s');
SELECT ok(pg_temp.kept(), 'verify()');
TRUNCATE public.leads;

-- In one transaction with its configuration; the roles are the cluster's ---------------------------

BEGIN;
CREATE ROLE lr_ann; CREATE ROLE lr_bob; CREATE ROLE lr_boss; CREATE ROLE lr_app;
INSERT INTO leadroute.rep (id, name, ref, db_role, skills) VALUES (1, 'Ann', 'ann', 'lr_ann', '{"licence:TX": 1}'), (2, 'Bob', 'bob', 'lr_bob', '{}'),
    (3, 'Cy', 'cy', NULL, '{}'), (4, 'Dee', NULL, NULL, '{}'), (9, 'Boss', NULL, 'lr_boss', '{}');
UPDATE leadroute.rep SET manager = 9 WHERE id = 1;
INSERT INTO leadroute.pool (name, release_to, release_returns_turn) VALUES ('team', 'end', false), ('front', 'front', true), ('spare', 'end', false);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1), ('team', 2), ('team', 3), ('front', 1), ('front', 2), ('spare', 3);
DO $$ BEGIN
    PERFORM leadroute.grant_access('lr_ann', 'rep'), leadroute.grant_access('lr_bob', 'rep'),
        leadroute.grant_access('lr_boss', 'manager'), leadroute.grant_access('lr_app', 'app');
END $$;
GRANT SELECT (id, owner_id), UPDATE (owner_id) ON public.leads TO lr_ann, lr_bob, lr_boss, lr_app;
UPDATE leadroute.lead_table SET score_column = 'score', reroute_on = '{region}';
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, label, needs) VALUES
    ('leads', 1, 'team', $c$region = 'team'$c$, 'team', '{"priority": 3}', NULL),
    ('leads', 2, 'front', $c$region = 'front'$c$, 'front', NULL, NULL),
    ('leads', 3, 'licensed', $c$region = 'TX'$c$, 'team', NULL, $n$ARRAY['licence:' || region]$n$),
    ('leads', 4, 'fixed', $c$region = 'fixed'$c$, 'team', NULL, $n$ARRAY['licence:TX>=1']$n$),
    ('leads', 5, 'breaks', $c$region = 'breaks'$c$, 'team', NULL, $n$ARRAY['licence:' || (1 / company_size)]$n$);
INSERT INTO leadroute.rule (lead_table, position, name, condition, rep) VALUES ('leads', 6, 'ann', $c$region = 'ann'$c$, 1);

-- What waits --------------------------------------------------------------------------------------

INSERT INTO public.leads (id, region, score) OVERRIDING SYSTEM VALUE VALUES (1, 'team', 7);
SELECT is((pg_temp.open('1')).rep, 1::bigint, 'the first goes to Ann');
SELECT results_eq($$ SELECT pool, rule, label, remark, avoid, score, needs, at_front FROM leadroute.release('leads', 1, 'on leave') $$,
    $$ SELECT p.id, (SELECT id FROM leadroute.rule WHERE name = 'team'), '{"priority": 3}'::jsonb, 'on leave', '{1}'::bigint[], 7::double precision, NULL::text[], NULL::boolean FROM leadroute.pool p WHERE name = 'team' $$,
    'a released lead waits in its pool with label, reason, score and whom it does not go back to');
SELECT is((SELECT owner_id FROM public.leads WHERE id = 1), NULL, 'without an owner');
INSERT INTO public.leads (id, region, score) OVERRIDING SYSTEM VALUE VALUES (2, 'TX', 1);
SELECT is((pg_temp.open('2')).rep, 1::bigint, 'only Ann has the licence');
UPDATE public.leads SET owner_id = NULL, score = 8.0 WHERE id = 2;
SELECT is(((pg_temp.open('2')).needs, (pg_temp.open('2')).score, (pg_temp.open('2')).avoid)::text, '({licence:TX},8,{1})',
    'an app that takes the owner away releases likewise; what the rule needs is computed anew');
SELECT is((pg_temp.open('2')).credited_at, NULL, 'no turn is returned where the pool does not say so');
INSERT INTO public.leads (id, region) OVERRIDING SYSTEM VALUE VALUES (3, 'fixed');
SELECT is((leadroute.release('leads', 3)).needs, '{licence:TX>=1}', 'needs that are the same for all');
INSERT INTO public.leads (id, region, company_size) OVERRIDING SYSTEM VALUE VALUES (4, 'breaks', 1);
SELECT is((pg_temp.open('4')).pool, (SELECT id FROM leadroute.pool WHERE name = 'team'), 'nobody has licence:1: it waits');
DO $$ BEGIN PERFORM leadroute.reassign('leads', 4, 2); END $$;
UPDATE public.leads SET company_size = 0 WHERE id = 4;
SELECT is(((leadroute.release('leads', 4)).pool, (pg_temp.open('4')).needs)::text, '(,)', 'needs that raise an error: it waits where a person sees it');
SELECT matches((SELECT message FROM leadroute.alert WHERE kind = 'rule_error' AND lead_id = '4'), 'what the lead needs cannot be told: division by zero', 'with an alert');
INSERT INTO public.leads (id, region) OVERRIDING SYSTEM VALUE VALUES (5, 'TX');
UPDATE leadroute.assignment SET needs = '{dance}' WHERE lead_id = '5';
UPDATE leadroute.rule SET active = false WHERE name = 'licensed';
SELECT is((leadroute.release('leads', 5)).needs, '{dance}', 'of a rule that is gone, what was needed before');
UPDATE leadroute.rule SET active = true WHERE name = 'licensed';
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE at_front), 0::bigint, 'none of them in front');

-- In front, and with the turn returned ------------------------------------------------------------

INSERT INTO public.leads (id, region) OVERRIDING SYSTEM VALUE VALUES (10, 'front'), (11, 'front');
SELECT is((pg_temp.open('10')).rep, 1::bigint, 'Ann''s turn');
SELECT is((leadroute.release('leads', 10, 'not mine')).at_front, true, 'in front');
SELECT is((SELECT (credited_by, credit_reason, credit_day)::text FROM leadroute.assignment WHERE lead_id = '10' AND rep = 1), '(postgres,"not mine",t)', 'the turn is returned');
SELECT is((pg_temp.open('10')).avoid, '{1}', 'and the lead does not come back');
UPDATE public.leads SET owner_id = NULL WHERE id = 11;
SELECT is(((pg_temp.open('11')).at_front, (SELECT credit_reason FROM leadroute.assignment WHERE lead_id = '11' AND rep = 2))::text, '(t,released)', 'the app''s way alike');
UPDATE leadroute.pool SET credit_returns_cap = false WHERE name = 'front';
INSERT INTO public.leads (id, region) OVERRIDING SYSTEM VALUE VALUES (12, 'front');
DO $$ BEGIN PERFORM leadroute.release('leads', 12); END $$;
SELECT is((SELECT credit_day FROM leadroute.assignment WHERE lead_id = '12' AND episode = 1), false, 'the day''s cap, where the pool says so');
SELECT throws_ok($$ SELECT leadroute.credit_back('leads', 12, 'spam') $$, 'LR009', NULL, 'a turn is returned once');
SELECT ok(pg_temp.kept(), 'verify()');

-- To others --------------------------------------------------------------------------------------

SELECT is((SELECT rep FROM leadroute.route('leads', 1)), 2::bigint, 'route(): to another');
SELECT is((pg_temp.open('1')).avoid, '{1}', 'which is remembered');
SELECT matches(leadroute.why('leads', 1), 'Ann .*has given this lead up', 'why() says so');
SELECT is((leadroute.release('leads', 1)).avoid, '{1,2}', 'who gives it up comes to the others');
SELECT is((SELECT rep FROM leadroute.route('leads', 1)), 3::bigint, 'the third');
DO $$ BEGIN PERFORM leadroute.release('leads', 1); END $$;
SELECT is_empty($$ SELECT * FROM leadroute.route('leads', 1) $$, 'then nobody is left, and it goes on waiting');
SELECT is(leadroute._backlog_lead((SELECT id FROM leadroute.lead_table), '1', 0), 'stays', 'for the backlog, too');
SELECT is((leadroute.reassign('leads', 1, 2)).avoid, '{1,3}', 'a person may give it to one of them');
SELECT is((leadroute.release('leads', 1)).avoid, '{1,3,2}', 'who may give it up again');
SELECT is((pg_temp.open('1')).pool, (SELECT id FROM leadroute.pool WHERE name = 'team'), 'it waits in the pool it came from, by whatever hands');
SELECT is((pg_temp.open('1')).label, '{"priority": 3}', 'with its label');
UPDATE public.leads SET region = 'front' WHERE id = 1;
SELECT is(((pg_temp.open('1')).rep, (pg_temp.open('1')).pool, (pg_temp.open('1')).avoid)::text,
    format('(,%s,"{1,3,2}")', (SELECT id FROM leadroute.pool WHERE name = 'front')), 'routed again to another pool: to none of them there either');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('front', 4);
SELECT is(leadroute._backlog_lead((SELECT id FROM leadroute.lead_table), '1', 0), 'given', 'the backlog gives it to somebody');
SELECT is((pg_temp.open('1')).rep, 4::bigint, 'who has not had it');
INSERT INTO public.leads (id, region) OVERRIDING SYSTEM VALUE VALUES (20, 'ann');
SELECT is((leadroute.release('leads', 20)).avoid, '{1}', 'a rule''s own rep');
SELECT is_empty($$ SELECT * FROM leadroute.route('leads', 20) $$, 'is passed over, too');
UPDATE leadroute.rule SET overflow_pool = 'front' WHERE name = 'ann';
SELECT is((SELECT (rep <> 1, method)::text FROM leadroute.route('leads', 20)), '(t,backlog)', 'and the overflow pool asked');
UPDATE leadroute.assignment SET avoid = '{NULL,1,NULL,2,4}' WHERE lead_id = '20' AND ended_at IS NULL;
DO $$ BEGIN PERFORM leadroute.release('leads', 20); END $$;
SELECT is((SELECT rep FROM leadroute.route('leads', 20)), NULL, 'an odd list counts, and does no harm');
SELECT ok(pg_temp.kept(), 'verify()');

-- Handing over ------------------------------------------------------------------------------------

INSERT INTO public.leads (id, region, owner_id) OVERRIDING SYSTEM VALUE VALUES (30, 'team', NULL), (31, 'team', NULL), (32, 'team', NULL), (33, 'team', 1);
SELECT is((SELECT array_agg(owner_id ORDER BY id) FROM public.leads WHERE id BETWEEN 30 AND 33) @> '{1,2,3}', true, 'one each');
SELECT id AS anns FROM public.leads WHERE id BETWEEN 30 AND 32 AND owner_id = 1 \gset
SELECT id AS bobs FROM public.leads WHERE id BETWEEN 30 AND 32 AND owner_id = 2 \gset
SELECT matches(pg_temp.as_role('lr_ann', format('SELECT leadroute.reassign(''leads'', %s, 3)', :bobs)), '^LR007\|there is no lead', 'a rep: not another''s lead');
SELECT matches(pg_temp.as_role('lr_ann', format('SELECT leadroute.reassign(''leads'', %s, 4)', :anns)), '^LR010\|lead .* cannot be handed over to rep 4\|.*"team", of which the rep is no member\.$', 'not to who is no member');
SELECT matches(pg_temp.as_role('lr_ann', format('SELECT leadroute.reassign(''leads'', %s, 77)', :anns)), '^LR008', 'nor to nobody');
SELECT matches(pg_temp.as_role('lr_ann', 'SELECT leadroute.reassign(''leads'', 33, 2)'), '^LR010.*The lead is of no pool\.$', 'nor one that never was of a pool');
UPDATE leadroute.pool_member SET paused = true WHERE pool = 'team' AND rep = 2;
SELECT matches(pg_temp.as_role('lr_ann', format('SELECT leadroute.reassign(''leads'', %s, 2)', :anns)), '^LR010.*paused in pool "team"\.$', 'nor to who is paused there');
UPDATE leadroute.pool_member SET paused = false WHERE pool = 'team' AND rep = 2;
UPDATE leadroute.rep SET paused = true WHERE id = 2;
SELECT matches(pg_temp.as_role('lr_ann', format('SELECT leadroute.reassign(''leads'', %s, 2)', :anns)), '^LR010.*paused\.$', 'or at all');
UPDATE leadroute.rep SET paused = false WHERE id = 2;
SELECT is(pg_temp.as_role('lr_ann', format('SELECT (rep, method, given_by, remark, avoid)::text FROM leadroute.reassign(''leads'', %s, 2, ''speaks French'')', :anns)),
    '(2,manual,lr_ann,"speaks French",{1})', 'to a member of the pool: with reason, and the rep does not get it again');
SELECT is((SELECT owner_id FROM public.leads WHERE id = :anns), 2::bigint, 'the lead has its owner');
SELECT matches(pg_temp.as_role('lr_ann', format('SELECT leadroute.reassign(''leads'', %s, 3)', :anns)), '^LR007', 'it is no more Ann''s');
SELECT is(pg_temp.as_role('lr_bob', format('SELECT (rep, avoid)::text FROM leadroute.reassign(''leads'', %s, 3)', :anns)), '(3,"{1,2}")', 'Bob hands it on within the same pool');
SELECT is(pg_temp.as_role('lr_app', format('SELECT (rep, avoid)::text FROM leadroute.reassign(''leads'', %s, 4)', :anns)), '(4,"{1,2}")', 'the app: to anybody, and nobody has given it up');
SELECT is((leadroute.release('leads', :anns)).pool, (SELECT id FROM leadroute.pool WHERE name = 'team'), 'released, it is back in its pool');
SELECT is((SELECT rep FROM leadroute.route('leads', :anns)), 3::bigint, 'and goes to the one of its members who has not given it up');
SELECT is((SELECT array_agg(DISTINCT owner_id) FROM public.leads WHERE id = :anns), '{3}', 'as the lead says');
REVOKE UPDATE (owner_id) ON public.leads FROM lr_bob;
SELECT matches(pg_temp.as_role('lr_bob', format('SELECT leadroute.reassign(''leads'', %s, 3)', :bobs)), '^LR012.*may not change the owner', 'it takes the right to update the lead''s owner');
SELECT ok(pg_temp.kept(), 'verify()');

-- Other lead tables: a text key, partitions, tenants ----------------------------------------------

CREATE TABLE public.branch (company bigint, code text, area text, owner text, rank numeric, PRIMARY KEY (company, code)) PARTITION BY LIST (company);
CREATE TABLE public.branch_5 PARTITION OF public.branch FOR VALUES IN (5);
CREATE TABLE public.branch_6 (rank numeric, code text NOT NULL, company bigint NOT NULL, owner text, area text);
ALTER TABLE public.branch ATTACH PARTITION public.branch_6 FOR VALUES IN (6);
DO $$ BEGIN PERFORM leadroute.attach('public.branch', owner_column => 'owner', tenant_column => 'company'); END $$;
UPDATE leadroute.lead_table SET score_column = 'rank' WHERE name = 'branch';
INSERT INTO leadroute.rep (tenant, id, name, ref, skills) SELECT t, r, 'R', 'r' || r, '{"a": 1}' FROM generate_series(5, 6) t, generate_series(1, 2) r;
INSERT INTO leadroute.pool (tenant, name, release_to) VALUES (5, 'team', 'front'), (6, 'team', 'end');
INSERT INTO leadroute.pool_member (tenant, pool, rep) SELECT t, 'team', r FROM generate_series(5, 6) t, generate_series(1, 2) r;
INSERT INTO leadroute.rule (tenant, lead_table, position, name, pool, needs) SELECT t, 'branch', 1, 'all', 'team', 'ARRAY[area]' FROM generate_series(5, 6) t;
INSERT INTO public.branch (company, code, area, rank) SELECT t, 'it''s', 'a', 10 * t FROM generate_series(5, 6) t;
SELECT is((SELECT array_agg(owner ORDER BY company) FROM public.branch), '{r1,r1}', 'one each');
SELECT is((SELECT (avoid, needs, score, at_front)::text FROM leadroute.release('branch', 'it''s', NULL, 6)), '({1},{a},60,)', 'a partition with its columns in another order');
SELECT is((SELECT (avoid, needs, score, at_front)::text FROM leadroute.release('branch', 'it''s', NULL, 5)), '({1},{a},50,t)', 'each tenant''s policy');
SELECT is((SELECT rep FROM leadroute.route('branch', 'it''s', 6)), 2::bigint, 'to the other one');
UPDATE public.branch SET rank = '1e400' WHERE company = 6;
SELECT is((SELECT score FROM leadroute.release('branch', 'it''s', NULL, 6)), NULL, 'a score that no double precision holds is none');
UPDATE public.branch SET company = 5, code = 'moved' WHERE company = 6;
SELECT is(((pg_temp.open('moved', 'branch')).avoid IS NULL, (pg_temp.open('moved', 'branch')).tenant)::text, '(t,5)', 'in another company nobody has given it up');
SELECT ok(pg_temp.kept(5) AND pg_temp.kept(6), 'verify()');
SELECT * FROM finish();
ROLLBACK;
