-- available_leads() and shark_tank(): what they tell is what claim() would grant, in the order of
-- claim_next(), found by index; by roles, over several lead tables, keys, partitions and tenants.
SELECT no_plan();
SET client_min_messages = warning;

CREATE FUNCTION pg_temp.kept(tenant bigint DEFAULT 0) RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify(tenant) v
$$;
CREATE FUNCTION pg_temp.listed(rep bigint, pool text DEFAULT NULL, tenant bigint DEFAULT 0) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(a.lead_table || ':' || a.lead_id, ' ') FROM leadroute.available_leads($1, $2, tenant => $3) a
$$;
CREATE FUNCTION pg_temp.in_tank(rep bigint, tenant bigint DEFAULT 0) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(a.lead_table || ':' || a.lead_id, ' ') FROM leadroute.shark_tank($1, $2) a
$$;
-- the leads of the tenant that claim() grants the rep, each tried by itself
CREATE FUNCTION pg_temp.granted(rep bigint, tenant bigint DEFAULT 0) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    one record;
    granted text[] := '{}';
BEGIN
    FOR one IN SELECT t.name, a.lead_id FROM leadroute.assignment a JOIN leadroute.lead_table t ON t.id = a.lead_table
        WHERE a.tenant = $2 AND a.ended_at IS NULL AND a.rep IS DISTINCT FROM $1 LOOP
        BEGIN
            PERFORM leadroute.claim(one.name, one.lead_id, $1, $2);
            granted := granted || (one.name || ':' || one.lead_id);
            RAISE EXCEPTION USING ERRCODE = 'UU000';
        EXCEPTION WHEN SQLSTATE 'UU000' OR SQLSTATE 'LR009' OR SQLSTATE 'LR010' OR SQLSTATE 'LR011' THEN
            NULL;
        END;
    END LOOP;
    RETURN (SELECT string_agg(g, ' ' ORDER BY g COLLATE "C") FROM unnest(granted) g);
END $$;
CREATE FUNCTION pg_temp.sorted(list text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(w, ' ' ORDER BY w COLLATE "C") FROM string_to_table(list, ' ') w
$$;
-- what claim_next() gives the rep until there is no more, given back
CREATE FUNCTION pg_temp.drained(rep bigint, tenant bigint DEFAULT 0) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    drained text := '';
    one record;
BEGIN
    BEGIN
        LOOP
            SELECT t.name, a.lead_id INTO one FROM leadroute.claim_next($1, tenant => $2) a JOIN leadroute.lead_table t ON t.id = a.lead_table;
            EXIT WHEN one.name IS NULL;
            drained := drained || ' ' || one.name || ':' || one.lead_id;
        END LOOP;
        RAISE EXCEPTION USING ERRCODE = 'UU000';
    EXCEPTION WHEN SQLSTATE 'UU000' THEN
        RETURN nullif(substr(drained, 2), '');
    END;
END $$;

INSERT INTO leadroute.rep (id, name, ref, skills) VALUES (1, 'Ann', 'ann', '{"french": 2}'), (2, 'Bob', NULL, '{}'), (3, 'Cy', 'cy', '{}'), (4, 'Dee', 'dee', '{}');
INSERT INTO leadroute.pool (name, mode) VALUES ('web', 'pull'), ('phone', 'pull'), ('push', 'push');
INSERT INTO leadroute.pool_member (pool, rep, tier) VALUES ('web', 1, 1), ('web', 2, 2), ('web', 3, 1), ('phone', 1, 1), ('push', 3, 1), ('push', 4, 1);
DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
UPDATE leadroute.lead_table SET score_column = 'score';
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, label, needs) VALUES
    ('leads', 1, 'hot', $c$source = 'hot'$c$, 'web', '{"priority": 1}', NULL),
    ('leads', 2, 'web', $c$source = 'web'$c$, 'web', NULL, $n$CASE WHEN language IS NOT NULL THEN ARRAY[language || '>=2'] END$n$),
    ('leads', 3, 'phone', $c$source = 'phone'$c$, 'phone', '{"priority": 5}', NULL),
    ('leads', 4, 'push', $c$source = 'push'$c$, 'push', NULL, NULL);

-- Order, columns ------------------------------------------------------------------------------------

SELECT is(pg_temp.listed(1), NULL, 'nothing waits');
INSERT INTO public.leads (id, source, score, language) OVERRIDING SYSTEM VALUE VALUES (1, 'web', NULL, NULL), (2, 'web', 5, NULL), (3, 'web', 9, NULL), (4, 'hot', 1, NULL),
    (5, 'phone', NULL, NULL), (6, 'web', 5, NULL), (10, 'web', 9, 'french'), (9, 'web', NULL, NULL);
SELECT is(pg_temp.listed(1), 'leads:4 leads:5 leads:3 leads:10 leads:2 leads:6 leads:1 leads:9', 'by priority, score and age, those of one moment by key');
SELECT is(pg_temp.listed(1), pg_temp.drained(1), 'as claim_next() gives them');
SELECT is(pg_temp.listed(2), 'leads:4 leads:3 leads:2 leads:6 leads:1 leads:9', 'without what takes a skill');
SELECT is(pg_temp.listed(2), pg_temp.drained(2), 'as claim_next() gives them');
SELECT is(pg_temp.listed(1, 'phone'), 'leads:5', 'of one pool');
SELECT is(pg_temp.listed(2, 'phone'), NULL, 'of which one is no member: none');
SELECT results_eq($$ SELECT lead_table, lead_id, pool, waiting_since, priority, lead FROM leadroute.available_leads(1, tenant => 0) LIMIT 2 $$,
    $$ SELECT 'leads', l.id::text, CASE id WHEN 4 THEN 'web' ELSE 'phone' END, (SELECT a.decided_at FROM leadroute.assignment a WHERE a.lead_id = l.id::text),
        CASE id WHEN 4 THEN 1 ELSE 5 END, to_jsonb(l) FROM public.leads l WHERE l.id IN (4, 5) ORDER BY id $$, 'with pool, since when, priority and row');
SELECT is((SELECT priority FROM leadroute.available_leads(1) WHERE lead_id = '3'), NULL, 'no priority');
SELECT is(pg_get_function_result('leadroute.shark_tank(bigint,bigint)'::regprocedure),
    'TABLE(lead_table text, lead_id text, pool text, waiting_since timestamp with time zone, priority integer, lead jsonb)', 'of both');
SELECT is((SELECT string_agg(n, ' ') FROM pg_proc p, unnest(p.proargnames, p.proargmodes) u (n, m) WHERE p.oid = 'leadroute.available_leads(bigint,text,bigint)'::regprocedure AND m <> 'i'),
    'lead_table lead_id pool waiting_since priority lead', 'the same columns');
UPDATE public.leads SET score = 100 WHERE id = 9;
SELECT is(split_part(pg_temp.listed(1, 'web'), ' ', 2), 'leads:9', 'a changed score moves it');
SET leadroute.list_leads = 3;
SELECT is(pg_temp.listed(1), 'leads:4 leads:5 leads:9', 'leadroute.list_leads of them');
RESET leadroute.list_leads;
SELECT throws_ok('SELECT * FROM leadroute.available_leads(99)', 'LR008', NULL, 'no such rep');
SELECT throws_ok($$ SELECT * FROM leadroute.available_leads(1, 'nix') $$, 'LR008', NULL, 'no such pool');
SELECT throws_ok('SELECT * FROM leadroute.available_leads(NULL)', 'LR008', NULL, 'no rep');
SELECT throws_ok('SELECT * FROM leadroute.available_leads(1, tenant => 7)', 'LR008', NULL, 'no such rep in that tenant');
SELECT throws_ok('SELECT * FROM leadroute.shark_tank(99)', 'LR008', NULL, 'no such rep');

-- What cannot be taken is not listed ------------------------------------------------------------------

CREATE TEMP TABLE change (what text, change text, back text);
INSERT INTO change VALUES
    ('paused', 'UPDATE leadroute.rep SET paused = true WHERE id = 1', 'UPDATE leadroute.rep SET paused = false WHERE id = 1'),
    ('paused in a pool', $$UPDATE leadroute.pool_member SET paused = true WHERE rep = 1 AND pool = 'web'$$, 'UPDATE leadroute.pool_member SET paused = false'),
    ('not signed in', $$UPDATE leadroute.pool SET presence_required = true WHERE name = 'web'$$, 'UPDATE leadroute.pool SET presence_required = false'),
    ('no daily cap left', 'UPDATE leadroute.rep SET daily_cap = 0 WHERE id = 1', 'UPDATE leadroute.rep SET daily_cap = NULL'),
    ('no capacity left', 'UPDATE leadroute.rep SET open_cap = 0 WHERE id = 1', 'UPDATE leadroute.rep SET open_cap = NULL'),
    ('no cap of the pool left', $$UPDATE leadroute.pool_member SET daily_cap = 0 WHERE rep = 1 AND pool = 'web'$$, 'UPDATE leadroute.pool_member SET daily_cap = NULL'),
    ('claim_daily', $$UPDATE leadroute.pool SET claim_daily = 0 WHERE name = 'web'$$, 'UPDATE leadroute.pool SET claim_daily = NULL'),
    ('claim_open of the member', $$UPDATE leadroute.pool_member SET claim_open = 0 WHERE rep = 1 AND pool = 'phone'$$, 'UPDATE leadroute.pool_member SET claim_open = NULL'),
    ('blind', $$UPDATE leadroute.pool SET claim_blind = true WHERE name = 'web'$$, 'UPDATE leadroute.pool SET claim_blind = false'),
    ('for the first tier', $$UPDATE leadroute.pool SET claim_exclusive = '1 hour' WHERE name = 'web'$$, 'UPDATE leadroute.pool SET claim_exclusive = NULL'),
    ('for the first tier, a while ago', $$UPDATE leadroute.pool SET claim_exclusive = '1 us' WHERE name = 'web'$$, 'UPDATE leadroute.pool SET claim_exclusive = NULL'),
    ('absent', $$INSERT INTO leadroute.rep_absence (rep, during) VALUES (1, '(,)')$$, 'DELETE FROM leadroute.rep_absence'),
    ('skills gone', $$UPDATE leadroute.rep SET skills = '{"french": 1}' WHERE id = 1$$, $$UPDATE leadroute.rep SET skills = '{"french": 2}' WHERE id = 1$$),
    ('nothing', 'SELECT', 'SELECT');
CREATE FUNCTION pg_temp.agree(what text, change text, back text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    r bigint;
BEGIN
    EXECUTE change;
    FOR r IN SELECT id FROM leadroute.rep WHERE tenant = 0 ORDER BY id LOOP
        RETURN NEXT is(pg_temp.sorted(pg_temp.listed(r)), pg_temp.granted(r), format('%s: rep %s is told of what claim() grants', what, r));
    END LOOP;
    RETURN NEXT pass(format('%s: %s, %s', what, coalesce(cardinality(string_to_array(pg_temp.listed(1), ' ')), 0), coalesce(cardinality(string_to_array(pg_temp.listed(2), ' ')), 0)));
    EXECUTE back;
END $$;
SELECT a FROM change c, pg_temp.agree(c.what, c.change, c.back) a;
UPDATE leadroute.pool SET claim_blind = true, claim_exclusive = '1 hour' WHERE name = 'web';
SELECT is((SELECT a.lead_id FROM leadroute.claim_next(1, 'web') a), '4', 'a blind pool: claimed unseen');
SELECT is(pg_temp.listed(1), 'leads:5', 'and not listed');
UPDATE leadroute.pool SET claim_blind = false WHERE name = 'web';
SELECT is(pg_temp.listed(2), NULL, 'all for the first tier');
UPDATE leadroute.pool SET claim_exclusive = NULL, claim_open = 1 WHERE name = 'web';
SELECT is(pg_temp.listed(1), 'leads:5', 'an allowance used up');
DO $$ BEGIN PERFORM leadroute.release('leads', 4); END $$;
SELECT is(pg_temp.listed(1), 'leads:4 leads:5 leads:9 leads:3 leads:10 leads:2 leads:6 leads:1', 'and free again; what the rep has given up it may claim');
UPDATE leadroute.pool SET claim_open = NULL WHERE name = 'web';
SELECT ok(pg_temp.drained(1) !~ 'leads:4\M', 'though claim_next() passes it over');
SELECT is(pg_temp.listed(3), pg_temp.drained(3), 'for others it is one as any');
-- released in a push pool
INSERT INTO public.leads (id, source) OVERRIDING SYSTEM VALUE VALUES (20, 'push'), (21, 'push');
SELECT is(pg_temp.listed(4), NULL, 'what a push pool gives out is not to be claimed');
DO $$ BEGIN PERFORM leadroute.release('leads', 20); END $$;
SELECT is(pg_temp.listed(4), 'leads:20', 'what somebody released there is');
SET leadroute.backlog = off;
UPDATE leadroute.rep SET paused = true WHERE id IN (3, 4);
INSERT INTO public.leads (id, source) OVERRIDING SYSTEM VALUE VALUES (22, 'push');
UPDATE leadroute.rep SET paused = false WHERE id IN (3, 4);
SELECT is(pg_temp.listed(4), 'leads:20', 'not what waits there for the backlog');
SELECT is(pg_temp.sorted(pg_temp.listed(r)), pg_temp.granted(r), 'as claim() says for ' || r) FROM generate_series(1, 4) r;
SELECT is((SELECT count(*) FROM leadroute.route('leads', 22)), 1::bigint, 'which gives it out');
RESET leadroute.backlog;
-- an owner that the record does not know of
SET session_replication_role = replica;
UPDATE public.leads SET owner_id = 3 WHERE id = 5;
RESET session_replication_role;
SELECT is(pg_temp.listed(1, 'phone'), NULL, 'an owner that was given behind leadroute''s back');
SET session_replication_role = replica;
UPDATE public.leads SET owner_id = NULL WHERE id = 5;
DELETE FROM public.leads WHERE id = 6;
RESET session_replication_role;
SELECT is(pg_temp.listed(1, 'web') LIKE '%leads:6%', false, 'a lead that is not there');
UPDATE leadroute.assignment SET ended_at = clock_timestamp(), end_reason = 'deleted' WHERE lead_id = '6' AND ended_at IS NULL;

-- in front
UPDATE leadroute.pool SET release_to = 'front' WHERE name = 'web';
DO $$ BEGIN PERFORM leadroute.claim('leads', 1, 3), leadroute.release('leads', 1); END $$;
SELECT is(split_part(pg_temp.listed(2), ' ', 1), 'leads:1', 'a lead that was put to the front, before those with a priority');
SELECT is((SELECT a.lead_id FROM leadroute.claim_next(2) a), '1', 'which claim_next() gives first');
DO $$ BEGIN PERFORM leadroute.release('leads', 1); END $$;
-- offered
INSERT INTO leadroute.pool (name, mode) VALUES ('race', 'broadcast');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('race', 2), ('race', 3), ('race', 4);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 8, 'race', $c$source = 'race'$c$, 'race');
INSERT INTO public.leads (id, source) OVERRIDING SYSTEM VALUE VALUES (25, 'race');
SELECT is((SELECT status FROM leadroute.open_assignment WHERE lead_id = '25'), 'offered', 'a pool with the mode broadcast offers');
SELECT is(pg_temp.listed(r, 'race'), CASE WHEN r > 1 THEN 'leads:25' END, 'what each of its members is told: ' || r) FROM generate_series(1, 4) r;
SELECT is(pg_temp.sorted(pg_temp.listed(r)), pg_temp.granted(r), 'as claim() says for ' || r) FROM generate_series(1, 4) r;
DO $$ BEGIN PERFORM leadroute.claim('leads', 25, 3), leadroute.release('leads', 25), leadroute.route('leads', 25); END $$;
SELECT is((SELECT offered_to FROM leadroute.assignment WHERE lead_id = '25' AND ended_at IS NULL), '{2,4}', 'offered again, but not to who has released it');
DO $$ BEGIN PERFORM leadroute.claim('leads', 25, 2); END $$;

-- Shark tank ------------------------------------------------------------------------------------------

INSERT INTO public.leads (id, source) OVERRIDING SYSTEM VALUE VALUES (30, 'push'), (31, 'push'), (32, 'push'), (33, 'push');
DO $$ BEGIN
    UPDATE leadroute.assignment a SET tank_pool = (SELECT id FROM leadroute.pool WHERE name = 'web'), tank_at = now()
    WHERE a.lead_id::int BETWEEN 30 AND 33 AND a.ended_at IS NULL;
END $$;
SELECT is(pg_temp.in_tank(1), 'leads:30 leads:31 leads:32 leads:33', 'a member of the tank''s pool');
SELECT is(pg_temp.in_tank(4), NULL, 'nobody else');
SELECT is(pg_temp.in_tank(3), (SELECT string_agg('leads:' || id, ' ' ORDER BY id) FROM public.leads WHERE id BETWEEN 30 AND 33 AND owner_id <> 3), 'without its own');
SELECT results_eq('SELECT lead_table, lead_id, pool, waiting_since FROM leadroute.shark_tank(1) LIMIT 1',
    $$ SELECT 'leads', '30', 'web', tank_at FROM leadroute.assignment WHERE lead_id = '30' AND ended_at IS NULL $$, 'since it is there');
SELECT is(pg_temp.sorted(concat_ws(' ', pg_temp.listed(r), pg_temp.in_tank(r))), pg_temp.granted(r), 'as claim() says for ' || r) FROM generate_series(1, 4) r;
SELECT is((SELECT rep FROM leadroute.claim('leads', 30, 1)), 1::bigint, 'one is taken');
DO $$ BEGIN PERFORM leadroute.touch('leads', 31, 'call'); END $$;
SELECT is(pg_temp.in_tank(2), 'leads:32 leads:33', 'a touched one is out');
DO $$ BEGIN
    UPDATE leadroute.assignment a SET tank_pool = (SELECT id FROM leadroute.pool WHERE name = 'push'), tank_at = now()
    WHERE a.lead_id = '30' AND a.ended_at IS NULL;
END $$;
SELECT is((SELECT count(*) FROM unnest('{3,4}'::bigint[]) r WHERE pg_temp.in_tank(r) LIKE '%leads:30%'), 1::bigint, 'who lost it does not get it back');
SELECT is(pg_temp.sorted(concat_ws(' ', pg_temp.listed(r), pg_temp.in_tank(r))), pg_temp.granted(r), 'as claim() says for ' || r) FROM generate_series(1, 4) r;
UPDATE leadroute.pool SET claim_blind = true WHERE name = 'web';
SELECT is(pg_temp.in_tank(2), NULL, 'a blind pool''s tank');
UPDATE leadroute.pool SET claim_blind = false WHERE name = 'web';

-- Other lead tables -------------------------------------------------------------------------------------

CREATE TABLE public.branch (company bigint, code text, rank numeric, owner text, PRIMARY KEY (company, code)) PARTITION BY LIST (company);
CREATE TABLE public.branch_0 PARTITION OF public.branch FOR VALUES IN (0);
CREATE TABLE public.branch_5 (rank numeric, code text NOT NULL, owner text, company bigint NOT NULL);
ALTER TABLE public.branch ATTACH PARTITION public.branch_5 FOR VALUES IN (5);
CREATE TABLE public.by_uuid (id uuid PRIMARY KEY, owner_id uuid);
CREATE TABLE public.small (id int PRIMARY KEY, owner_id int);
DO $$ BEGIN PERFORM leadroute.attach('public.branch', owner_column => 'owner', tenant_column => 'company'), leadroute.attach('public.by_uuid'), leadroute.attach('public.small'); END $$;
UPDATE leadroute.lead_table SET score_column = 'rank' WHERE name = 'branch';
INSERT INTO leadroute.rep (tenant, id, name, ref) VALUES (5, 1, 'Eve', 'eve'), (5, 2, 'Flo', NULL), (0, 3000000000, 'Big', gen_random_uuid());
INSERT INTO leadroute.pool (tenant, name, mode) VALUES (5, 'web', 'pull'), (0, 'all', 'pull');
INSERT INTO leadroute.pool_member (tenant, pool, rep) SELECT tenant, CASE tenant WHEN 0 THEN 'all' ELSE 'web' END, id FROM leadroute.rep;
INSERT INTO leadroute.rule (tenant, lead_table, position, name, pool) VALUES (0, 'branch', 1, 'all', 'all'), (5, 'branch', 1, 'all', 'web'), (0, 'by_uuid', 1, 'all', 'all'), (0, 'small', 1, 'all', 'all');
INSERT INTO public.branch VALUES (0, 'it''s, "{a}', 1), (0, 'z', 3), (0, 'b', 2), (5, 'z', 1);
INSERT INTO public.by_uuid SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid FROM generate_series(1, 2) n;
INSERT INTO public.small VALUES (1), (-2);
SELECT is(pg_temp.listed(1, 'all'), 'branch:z branch:b branch:it''s, "{a} small:1 small:-2', 'text keys, partitions, another table');
SELECT is(pg_temp.listed(2, 'all'), 'small:1 small:-2', 'without a ref: what takes none');
SELECT is(pg_temp.listed(3000000000), 'branch:z branch:b branch:it''s, "{a} by_uuid:00000000-0000-0000-0000-000000000001 by_uuid:00000000-0000-0000-0000-000000000002',
    'an id beyond integer, and a uuid for ref');
SELECT is(pg_temp.sorted(pg_temp.listed(r, 'all')), pg_temp.sorted(regexp_replace(pg_temp.granted(r), 'leads:\d+ ?', '', 'g')), 'as claim() says for ' || r)
FROM unnest('{1,2,4,3000000000}'::bigint[]) r;
SELECT throws_ok($$ SELECT leadroute.claim('small', 1, 3000000000) $$, 'LR010', NULL, 'an id that an integer cannot hold');
SELECT is(pg_temp.listed(1, tenant => 5), 'branch:z', 'another tenant''s');
SELECT is((SELECT lead ->> 'rank' FROM leadroute.available_leads(1, tenant => 5)), '1', 'its row');
SELECT is(pg_temp.listed(2, tenant => 5), NULL, 'nothing that the owner column cannot name');
-- as long as names may be
INSERT INTO leadroute.pool (name, mode) VALUES (repeat('ö', 63), 'pull');
INSERT INTO leadroute.rep (id, name, ref) VALUES (50, 'Long', repeat('ü', 200));
INSERT INTO leadroute.pool_member (pool, rep) VALUES (repeat('ö', 63), 50);
UPDATE leadroute.rule SET pool = repeat('ö', 63) WHERE tenant = 0 AND lead_table = 'branch';
INSERT INTO public.branch VALUES (0, 'long', 7), (0, 'longer', 6);
SELECT is(pg_temp.listed(50, repeat('ö', 63)), 'branch:long branch:longer', 'a long name, and ref');
SELECT is((SELECT lead_id FROM leadroute.claim_next(50, repeat('ö', 63))), 'long', 'claim_next() knows them');
SELECT is((SELECT owner FROM public.branch WHERE code = 'long'), repeat('ü', 200), 'whole');
SELECT ok(pg_temp.kept() AND pg_temp.kept(5), 'verify()');

-- By index ----------------------------------------------------------------------------------------------

INSERT INTO leadroute.pool (name, mode) VALUES ('big', 'pull');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('big', 2);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 9, 'big', $c$source = 'big'$c$, 'big');
INSERT INTO public.leads (id, source, score) OVERRIDING SYSTEM VALUE SELECT 1000 + n, 'big', n % 100 FROM generate_series(1, 5000) n;
ANALYZE leadroute.assignment;
-- entries of all indexes of the record, and rows of sequential scans
CREATE FUNCTION pg_temp.reads() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT sum(pg_stat_get_xact_tuples_returned(i.indexrelid)) + pg_stat_get_xact_tuples_returned('leadroute.assignment'::regclass)
    FROM pg_index i WHERE i.indrelid = 'leadroute.assignment'::regclass
$$;
CREATE FUNCTION pg_temp.rows_read(work text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    before CONSTANT bigint := pg_temp.reads();
BEGIN
    EXECUTE work;
    RETURN pg_temp.reads() - before;
END $$;
SET leadroute.list_leads = 50;
SELECT is(pg_temp.rows_read($$ SELECT count(*) FROM leadroute.available_leads(2, 'big') $$), 50::bigint, 'of 5,000 leads 50 are read');
SELECT is((SELECT count(*) FROM leadroute.available_leads(2, 'big')), 50::bigint, 'and told');
RESET leadroute.list_leads;
SELECT is((SELECT count(*) FROM leadroute.available_leads(2, 'big')), 1000::bigint, 'a thousand at most');

-- Roles -------------------------------------------------------------------------------------------------

BEGIN;
CREATE FUNCTION pg_temp.as_role(role text, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE sql INTO result;
    RESET ROLE;
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
CREATE ROLE lr_ann; CREATE ROLE lr_bob; CREATE ROLE lr_boss; CREATE ROLE lr_app; CREATE ROLE lr_none; CREATE ROLE lr_owner;
UPDATE leadroute.rep SET db_role = 'lr_' || lower(name) WHERE tenant = 0 AND id IN (1, 2);
INSERT INTO leadroute.rep (id, name, db_role) VALUES (9, 'Boss', 'lr_boss');
UPDATE leadroute.pool SET manager = 9 WHERE tenant = 0 AND name = 'phone';
UPDATE leadroute.pool SET claim_blind = true WHERE tenant = 0 AND name = 'all';
DELETE FROM public.leads WHERE source = 'big';
DO $$ BEGIN
    PERFORM leadroute.grant_access('lr_ann', 'rep'), leadroute.grant_access('lr_bob', 'rep'),
        leadroute.grant_access('lr_boss', 'manager'), leadroute.grant_access('lr_app', 'app');
END $$;
GRANT CREATE ON SCHEMA public TO lr_owner;
ALTER TABLE public.leads OWNER TO lr_owner;
ALTER TABLE public.leads ENABLE ROW LEVEL SECURITY;
SELECT is(pg_temp.as_role(role, format('SELECT string_agg(lead_id, '' '') FROM leadroute.available_leads(%s)', rep)), leads, format('%s for %s', role, rep))
FROM (VALUES ('lr_ann', 1, '1 4 5 9 3 10 2'), ('lr_ann', 2, 'LR012'), ('lr_bob', 2, '1 4 9 3 2'), ('lr_bob', 1, 'LR012'), ('lr_app', 1, '1 4 5 9 3 10 2'), ('lr_app', 2, '1 4 9 3 2'),
    ('lr_boss', 1, '5'), ('lr_boss', 2, 'LR012'), ('lr_none', 1, '42501')) v (role, rep, leads);
SELECT is(pg_temp.as_role(role, sql), answer, format('%s: %s', role, sql))
FROM (VALUES ('lr_boss', 'SELECT lead_id FROM leadroute.claim(''leads'', 5, 1)', '5'), ('lr_boss', 'SELECT leadroute.claim(''leads'', 9, 1)', 'LR012'),
    ('lr_boss', 'SELECT lead_id FROM leadroute.claim_next(1)', NULL), ('lr_boss', 'SELECT leadroute.claim_next(1, ''web'')', 'LR012'),
    ('lr_ann', 'SELECT lead_id FROM leadroute.release(''leads'', 5)', 'LR012')) v (role, sql, answer);
DO $$ BEGIN PERFORM leadroute.release('leads', 5); END $$;
UPDATE leadroute.assignment SET avoid = NULL WHERE lead_id = '5';
SELECT is(pg_temp.as_role(role, format('SELECT count(*) FROM leadroute.shark_tank(%s)', rep)), leads, format('%s for %s: tank', role, rep))
FROM (VALUES ('lr_ann', 1, '2'), ('lr_ann', 2, 'LR012'), ('lr_app', 1, '2'), ('lr_boss', 1, '0')) v (role, rep, leads);
SELECT is(pg_temp.as_role('lr_ann', 'SELECT lead ->> ''source'' FROM leadroute.available_leads(1, ''phone'')'), 'phone', 'the row, without a right on the table or its policies');
SELECT is(pg_temp.as_role('lr_ann', 'SELECT count(*) FROM public.leads'), '42501', 'of which there is none');
SELECT is(pg_temp.as_role('lr_ann', 'SELECT leadroute._claimable(0, NULL, NULL, NULL, NULL, false)'), '42501', 'nothing behind it is called');
SELECT is(pg_temp.as_role('lr_ann', 'SELECT string_agg(lead_id, '' '' ORDER BY lead_id::int) FROM leadroute.queue WHERE lead_table = ''leads'''), '1 2 3 4 5 9 10', 'a rep sees what waits in its pools, of other modes than push');
SELECT is(pg_temp.as_role('lr_bob', 'SELECT string_agg(lead_id, '' '' ORDER BY lead_id::int) FROM leadroute.queue WHERE lead_table = ''leads'''), '1 2 3 4 9 10', 'of its own alone');
SELECT is(pg_temp.as_role('lr_ann', 'SELECT count(*) FROM leadroute.queue WHERE lead_table <> ''leads'''), '0', 'and not of blind ones');
SELECT is(pg_temp.as_role('lr_ann', 'SELECT leadroute.why(''leads'', 5) ~ ''phone'''), 'true', 'why() tells of them');
SELECT is(pg_temp.as_role('lr_ann', call), 'LR007', 'what waits is not one''s own: ' || call)
FROM unnest('{SELECT leadroute.touch(''leads''\, 5\, ''call''),SELECT leadroute.close(''leads''\, 5\, ''won'')}'::text[]) call;
SELECT * FROM finish();
ROLLBACK;
