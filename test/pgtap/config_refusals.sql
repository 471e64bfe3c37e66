-- What configuration is refused when it is written: each with its SQLSTATE, a detail and a hint, and
-- nothing of it is stored.
BEGIN;
SELECT plan(151);
SET LOCAL client_min_messages = warning;

-- Passes when the statement is refused with the SQLSTATE, a message like the pattern, a detail and a
-- hint; and so again, since damage done by an error shows on the next statement.
CREATE FUNCTION pg_temp.refused(statement text, code text, pattern text, description text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
    hint text;
BEGIN
    FOR attempt IN 1 .. 2 LOOP
        state := 'nothing';
        BEGIN
            EXECUTE statement;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        END;
        -- of a condition the position says where, instead of a detail
        IF state <> code OR message !~ pattern OR hint = '' OR detail = '' AND code <> 'LR004' THEN
            RETURN fail(description) || E'\n' || diag(format('%s: %s | %s | %s', state, message, detail, hint));
        END IF;
    END LOOP;
    RETURN pass(description);
END
$$;

CREATE FUNCTION pg_temp.stored() RETURNS text LANGUAGE sql AS $$
    SELECT md5(concat(
        (SELECT string_agg(r::text, '|' ORDER BY r::text) FROM leadroute.rep r),
        (SELECT string_agg(r::text, '|' ORDER BY r::text) FROM leadroute.pool r),
        (SELECT string_agg(r::text, '|' ORDER BY r::text) FROM leadroute.pool_member r),
        (SELECT string_agg(r::text, '|' ORDER BY r::text) FROM leadroute.rule r),
        (SELECT string_agg(r::text, '|' ORDER BY r::text) FROM leadroute.lead_table r),
        (SELECT string_agg(r::text, '|' ORDER BY r::text) FROM leadroute.assignment r)))
$$;

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name, ref) VALUES (1, 'Ann', 'ann'), (2, 'Bob', 'bob');
INSERT INTO leadroute.rep (tenant, id, name, ref) VALUES (7, 1, 'Ann of seven', 'ann');
INSERT INTO leadroute.pool (id, name) VALUES (1, 'a'), (2, 'b');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('a', 1);
INSERT INTO leadroute.rule (id, lead_table, position, name, pool) VALUES (1, 'leads', 1, 'all', 'a');
CREATE TABLE before AS SELECT pg_temp.stored() AS hash;

-- rep -------------------------------------------------------------------------------------------

SELECT pg_temp.refused(format('INSERT INTO leadroute.rep (id, name) VALUES (10, %L)', v), 'LR005', 'name of rep 10',
    format('rep: name %s', to_json(left(v, 10))))
FROM unnest(ARRAY[NULL, '', '   ', ' Ann', 'Ann ', E'An\nn', E'An\tn', repeat('x', 201)]) v;
SELECT pg_temp.refused(format('INSERT INTO leadroute.rep (id, name, timezone) VALUES (10, ''X'', %L)', v), 'LR005',
    'unknown time zone', format('rep: time zone %s', quote_nullable(v)))
FROM unnest(ARRAY[NULL, '', 'Mars/Phobos', 'Europe/Lodnon', 'PST', 'IST', '5', '+05:30', 'UTC+5', 'Foo/Bar5', '<X>3',
    'Europe/London; DROP', '../../etc/passwd', 'posixrules ']) v;
SELECT pg_temp.refused(format('INSERT INTO leadroute.rep (id, name, daily_cap) VALUES (10, ''X'', %s)', v), 'LR005',
    'daily cap .* is negative', format('rep: daily cap %s', v))
FROM unnest(ARRAY[-1, -2147483648]) v;
SELECT pg_temp.refused(format('INSERT INTO leadroute.rep (id, name, skills) VALUES (10, ''X'', %L)', v), 'LR005',
    'skills of rep 10', format('rep: skills %s', quote_nullable(v)))
FROM unnest(ARRAY[NULL, '[]', '"x"', '3', 'null', '{"a": "high"}', '{"a": null}',
    '{"a>2": 1}', '{" a": 1}', '{"": 1}', '{"a": 1e9}']) v;
SELECT pg_temp.refused(format('INSERT INTO leadroute.rep (id, name, location) VALUES (10, ''X'', %L)', v), 'LR005',
    'not on the globe', format('rep: location %s', v))
FROM unnest(ARRAY['(181,0)', '(0,-90.5)', '(NaN,0)', '(0,Infinity)']) v;
SELECT pg_temp.refused('INSERT INTO leadroute.rep (id, name) VALUES (0, ''X'')', 'LR005', 'not positive', 'rep: id 0');
SELECT pg_temp.refused('INSERT INTO leadroute.rep (id, name) VALUES (1, ''X'')', 'LR005', 'exists already', 'rep: id twice');
SELECT pg_temp.refused('INSERT INTO leadroute.rep (id, name) VALUES (10, ''X''), (10, ''Y'')', 'LR005', 'exists already',
    'rep: id twice in one statement');
SELECT pg_temp.refused('INSERT INTO leadroute.rep (id, name, ref) VALUES (10, ''X'', ''ann'')', 'LR005', 'has the ref "ann"',
    'rep: ref twice');
SELECT pg_temp.refused('UPDATE leadroute.rep SET ref = ''ann'' WHERE tenant = 0 AND id = 2', 'LR005', 'has the ref "ann"',
    'rep: ref twice by UPDATE');
SELECT pg_temp.refused('INSERT INTO leadroute.rep (id, name, ref) VALUES (10, ''X'', '''')', 'LR005', 'ref of rep 10', 'rep: empty ref');
SELECT pg_temp.refused('INSERT INTO leadroute.rep (id, name, manager) VALUES (10, ''X'', 99)', 'LR008', 'no rep "99"',
    'rep: unknown manager');
SELECT pg_temp.refused('INSERT INTO leadroute.rep (tenant, id, name, manager) VALUES (7, 10, ''X'', 2)', 'LR008', 'no rep "2"',
    'rep: manager of another tenant');
SELECT pg_temp.refused('INSERT INTO leadroute.rep (id, name, manager) VALUES (10, ''X'', 10)', 'LR005', 'own manager',
    'rep: own manager');
SELECT pg_temp.refused('INSERT INTO leadroute.rep (id, name, open_cap) VALUES (10, ''X'', -5)', 'LR005', 'open cap -5 is negative',
    'rep: open_cap');
SELECT pg_temp.refused('INSERT INTO leadroute.rep (id, name, calendar) VALUES (10, ''X'', ''c'')', 'LR008', 'no calendar "c"',
    'rep: unknown calendar');
SELECT pg_temp.refused('UPDATE leadroute.rep SET id = 20 WHERE id = 2', 'LR005', 'cannot change its id', 'rep: other id');
SELECT pg_temp.refused('UPDATE leadroute.rep SET tenant = 3 WHERE id = 2', 'LR005', 'cannot change its id', 'rep: other tenant');
SELECT pg_temp.refused('UPDATE leadroute.rep SET timezone = ''Nowhere/Else''', 'LR005', 'unknown time zone',
    'rep: time zone by UPDATE');

-- pool ------------------------------------------------------------------------------------------

SELECT pg_temp.refused(format('INSERT INTO leadroute.pool (name) VALUES (%L)', v), 'LR005', '.',
    format('pool: name %s', to_json(left(v, 10))))
FROM unnest(ARRAY[NULL, '', ' x', E'x\x01', repeat('x', 64), 'unmatched', 'a']) v;
SELECT pg_temp.refused(format('INSERT INTO leadroute.pool (name, method) VALUES (''x'', %L)', v), 'LR005', 'method',
    format('pool: method %s', quote_nullable(v)))
FROM unnest(ARRAY[NULL, '', 'random', 'ROUND_ROBIN', 'Value']) v;
SELECT pg_temp.refused(format('INSERT INTO leadroute.pool (name, mode) VALUES (''x'', %L)', v), 'LR005', 'mode',
    format('pool: mode %s', quote_nullable(v)))
FROM unnest(ARRAY[NULL, 'PULL', 'shove']) v;
SELECT pg_temp.refused(format('INSERT INTO leadroute.pool (name, catch_up, catch_up_limit) VALUES (''x'', %s)', v), 'LR005',
    'catch_up', format('pool: catch_up, catch_up_limit %s', v))
FROM unnest(ARRAY['NULL, NULL', '''some'', NULL', '''bounded'', NULL', '''bounded'', -1', '''bounded'', ''NaN''',
    '''bounded'', ''Infinity''', '''none'', 3', '''full'', 3']) v;
SELECT pg_temp.refused(format('INSERT INTO leadroute.pool (name, %s) VALUES (''x'', %s)', k, v), 'LR005',
    '(' || k || ' .* (is negative|is out of range|is NULL)|unknown ' || k || ')', format('pool: %s %s', k, v))
FROM (VALUES ('claim_daily', '-1'), ('claim_open', '-1'), ('claim_delay', '''-1 second'''), ('claim_exclusive', '''-1 second'''),
    ('offer_window', '''0'''), ('offer_window', '''-1 second'''), ('offer_window', '''11 years'''), ('claim_blind', 'NULL'),
    ('release_returns_turn', 'NULL'), ('shark_tank_order', 'NULL'), ('shark_tank_order', '''last'''), ('release_to', 'NULL'),
    ('release_to', '''middle''')) AS x (k, v);
SELECT pg_temp.refused('INSERT INTO leadroute.pool (name, presence_required) VALUES (''x'', NULL)', 'LR005', 'needs presence_required',
    'pool: presence_required NULL');
SELECT pg_temp.refused('INSERT INTO leadroute.pool (name, overflow_pool) VALUES (''x'', ''nix'')', 'LR008', 'no pool "nix"',
    'pool: unknown overflow pool');
SELECT pg_temp.refused('INSERT INTO leadroute.pool (name, overflow_pool) VALUES (''x'', ''x'')', 'LR005', 'into itself',
    'pool: overflows into itself');
SELECT pg_temp.refused('INSERT INTO leadroute.pool (tenant, name, overflow_pool) VALUES (7, ''x'', ''a'')', 'LR008', 'no pool "a"',
    'pool: overflow pool of another tenant');
SELECT pg_temp.refused('INSERT INTO leadroute.pool (name, manager) VALUES (''x'', 99)', 'LR008', 'no rep "99"',
    'pool: unknown manager');
SELECT pg_temp.refused('UPDATE leadroute.pool SET id = 9 WHERE name = ''a''', 'LR005', 'cannot change its id', 'pool: other id');
SELECT pg_temp.refused('INSERT INTO leadroute.pool (id, name) VALUES (1, ''x'')', 'LR005', 'has the id 1', 'pool: id twice');
SELECT pg_temp.refused('UPDATE leadroute.pool SET name = ''b'' WHERE name = ''a''', 'LR005', 'exists already',
    'pool: renamed to a name that is taken');

-- pool_member -----------------------------------------------------------------------------------

SELECT pg_temp.refused(format('INSERT INTO leadroute.pool_member (pool, rep, weight) VALUES (''a'', 2, %s)', v), 'LR005',
    'weight .* is out of range', format('member: weight %s', v))
FROM unnest(ARRAY['NULL', '0', '-1', '0.0000009', '1000001', '''NaN''', '''Infinity''', '''-Infinity''', '1e300']) v;
SELECT pg_temp.refused(format('INSERT INTO leadroute.pool_member (pool, rep, paused) VALUES (%s)', v), 'LR005', 'a pool member needs ',
    format('member: %s', v))
FROM unnest(ARRAY['NULL, 2, false', '''a'', NULL, false', '''a'', 2, NULL']) v;
SELECT pg_temp.refused('INSERT INTO leadroute.pool_member (pool, rep, daily_cap) VALUES (''a'', 2, -1)', 'LR005',
    'daily cap -1 is negative', 'member: daily cap -1');
SELECT pg_temp.refused('INSERT INTO leadroute.pool_member (pool, rep, tier) VALUES (''a'', 2, 0)', 'LR005', 'tier 0 is out of range',
    'member: tier');
SELECT pg_temp.refused(format('INSERT INTO leadroute.pool_member (pool, rep, %s) VALUES (''a'', 2, %s)', k, v), 'LR005',
    k || ' .* is negative', 'member: ' || k)
FROM (VALUES ('claim_daily', '-1'), ('claim_open', '-1'), ('claim_delay', '''-1 second''')) AS x (k, v);
SELECT pg_temp.refused('INSERT INTO leadroute.pool_member (pool, rep) VALUES (''nix'', 2)', 'LR008', 'no pool "nix"',
    'member: unknown pool');
SELECT pg_temp.refused('INSERT INTO leadroute.pool_member (pool, rep) VALUES (''a'', 99)', 'LR008', 'no rep "99"',
    'member: unknown rep');
SELECT pg_temp.refused('INSERT INTO leadroute.pool_member (pool, rep) VALUES (''a'', 1)', 'LR005', 'in pool "a" already',
    'member: twice');

-- rule ------------------------------------------------------------------------------------------

SELECT pg_temp.refused(format('INSERT INTO leadroute.rule (lead_table, position, name, %s) VALUES (''leads'', 2, ''x'', %s)', k, v),
    'LR005', p, 'rule: ' || d)
FROM (VALUES ('active', 'true', 'no target', 'no target'), ('pool, rep', '''a'', 1', 'two targets', 'two targets'),
    ('pool, territory', '''a'', ''t''', 'two targets', 'pool and territory'),
    ('pool, overflow_pool', '''a'', ''a''', 'into its own pool', 'overflows into its own pool'),
    ('pool, label', '''a'', ''[1]''', 'not a JSON object', 'label is an array'),
    ('pool, label', '''a'', ''null''', 'not a JSON object', 'label is null'),
    ('pool, valid', '''a'', ''empty''', 'never valid', 'empty period'),
    ('pool, valid', '''a'', ''[infinity,)''', 'never valid', 'period that never begins'),
    ('pool, valid', '''a'', ''(,-infinity]''', 'never valid', 'period that is over for ever')) AS x (k, v, p, d);
SELECT pg_temp.refused('INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES (''nix'', 2, ''x'', ''a'')', 'LR002',
    '"nix" is not attached', 'rule: lead table that is not attached');
SELECT pg_temp.refused('INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES (''leads'', 2, ''x'', ''nix'')', 'LR008',
    'no pool "nix"', 'rule: unknown pool');
SELECT pg_temp.refused('INSERT INTO leadroute.rule (lead_table, position, name, rep) VALUES (''leads'', 2, ''x'', 99)', 'LR008',
    'no rep "99"', 'rule: unknown rep');
SELECT pg_temp.refused('INSERT INTO leadroute.rule (lead_table, position, name, territory) VALUES (''leads'', 2, ''x'', ''t'')', 'LR008',
    'no territory "t"', 'rule: unknown territory');
SELECT pg_temp.refused('INSERT INTO leadroute.rule (lead_table, position, name, pool, overflow_pool) VALUES (''leads'', 2, ''x'', ''a'', ''nix'')',
    'LR008', 'no pool "nix"', 'rule: unknown overflow pool');
SELECT pg_temp.refused('INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES (''leads'', 2, ''all'', ''a'')', 'LR005',
    'has a rule "all" already', 'rule: name twice');
SELECT pg_temp.refused('INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES (''leads'', 1, ''x'', ''a'')', 'LR005',
    'has the position 1 of rule "all"', 'rule: position twice');
SELECT pg_temp.refused('INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES (''leads'', NULL, ''x'', ''a'')', 'LR005',
    'has no position', 'rule: no position');
SELECT pg_temp.refused('INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES (''leads'', 2, '''', ''a'')', 'LR005',
    'name of the rule', 'rule: empty name');
SELECT pg_temp.refused(format('UPDATE leadroute.rule SET %s = NULL', v), 'LR005', 'rule "all" has no ', format('rule: no %s', v))
FROM unnest(ARRAY['lead_table', 'condition', 'active', 'position']) v;
SELECT pg_temp.refused('UPDATE leadroute.rule SET id = 5', 'LR005', 'cannot change its id', 'rule: other id');
SELECT pg_temp.refused(format('INSERT INTO leadroute.rule (lead_table, position, name, pool, condition) VALUES (''leads'', 2, ''x'', ''a'', %L)', v),
    'LR004', '.', format('rule: condition %s', v))
FROM unnest(ARRAY['colour = ''red''', 'score', 'random() < 0.5', 'score >', '(SELECT true)']) v;

-- What the messages say: nothing empty, and of tenants only where there are some.
CREATE FUNCTION pg_temp.said(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    detail text;
    context text;
BEGIN
    EXECUTE statement;
    RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, context = PG_EXCEPTION_CONTEXT;
    RETURN concat_ws(' | ', message, detail, split_part(context, E'\n', 2));
END
$$;
SELECT is(pg_temp.said('INSERT INTO leadroute.pool_member (pool, rep) VALUES (''north'', 1)'),
    'no pool "north" | Rep 1''s membership names it. | SQL statement "INSERT INTO leadroute.pool_member (pool, rep) VALUES (''north'', 1)"',
    'who names what is missing, in one line of context');
SELECT is(split_part(pg_temp.said('INSERT INTO leadroute.pool (tenant, name, manager) VALUES (7, ''x'', 5)'), ' | ', 2),
    'Pool "x" names it, in tenant 7.', 'and in which tenant');
SELECT is(split_part(pg_temp.said('UPDATE leadroute.pool SET method = NULL'), ' | ', 1), 'unknown method NULL', 'NULL is called NULL');

-- Nothing was stored -----------------------------------------------------------------------------

SELECT is(pg_temp.stored(), hash, 'nothing of it was stored') FROM before;
INSERT INTO leadroute.rep (id, name, timezone, daily_cap, location, skills)
    VALUES (10, 'Zoë O''Neil', 'Etc/GMT+5', 0, '(-180,90)', '{"enterprise": 3, "licence:TX": 1}');
INSERT INTO leadroute.pool (name, catch_up, catch_up_limit) VALUES ('x', 'bounded', 0);
INSERT INTO leadroute.pool (name, mode, claim_daily, claim_open, claim_delay, claim_exclusive, offer_window, claim_blind, shark_tank_order, release_to, release_returns_turn)
    VALUES ('pulled', 'pull', 0, 0, '0', '0', '1 month', true, 'next', 'front', true);
INSERT INTO leadroute.pool (name, mode, offer_window) VALUES ('offered', 'broadcast', '10 years'), ('pushed', 'push', '1 second');
INSERT INTO leadroute.pool_member (pool, rep, weight) VALUES ('x', 10, 0.000001), ('x', 1, 1000000);
INSERT INTO leadroute.pool_member (pool, rep, claim_daily, claim_open, claim_delay) VALUES ('pulled', 10, 0, 3, '1 hour');
INSERT INTO leadroute.rule (lead_table, position, name, pool, valid)
    VALUES ('leads', -5, 'x', 'x', '[2020-01-01,)');
SELECT pass('and what is right still is');

-- Statements that deal with duplicates themselves may do so.
INSERT INTO leadroute.pool (name) VALUES ('a') ON CONFLICT DO NOTHING;
INSERT INTO leadroute.rep (id, name, daily_cap) VALUES (1, 'Ann', 5)
    ON CONFLICT (tenant, id) DO UPDATE SET daily_cap = excluded.daily_cap;
INSERT INTO leadroute.pool_member (pool, rep, weight) VALUES ('a', 1, 4)
    ON CONFLICT (tenant, pool, rep) DO UPDATE SET weight = excluded.weight;
SELECT results_eq(
    $$ SELECT r.daily_cap, m.weight FROM leadroute.rep r, leadroute.pool_member m
       WHERE r.tenant = 0 AND r.id = 1 AND m.pool = 'a' AND m.rep = 1 $$,
    $$ VALUES (5, 4::numeric) $$, 'ON CONFLICT DO NOTHING and DO UPDATE work');

SELECT * FROM finish();
ROLLBACK;
