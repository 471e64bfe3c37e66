-- check_rules(): each finding, how sure it is, and above all what it must not claim to have proved.
BEGIN;
SELECT plan(86);
SET LOCAL client_min_messages = warning;

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name, paused, daily_cap) VALUES (1, 'Ann', false, NULL), (2, 'Bob', true, NULL), (3, 'Cy', false, 0);
INSERT INTO leadroute.pool (name) VALUES ('sales'), ('other'), ('nobody'), ('paused'), ('alone');
INSERT INTO leadroute.pool (name, overflow_pool) VALUES ('over', 'sales'), ('stuck', 'paused'), ('dry', 'paused');
INSERT INTO leadroute.pool_member (pool, rep, paused) VALUES ('sales', 1, false), ('other', 1, false), ('paused', 2, false),
    ('paused', 3, false), ('paused', 1, true), ('dry', 1, false), ('alone', 1, false);
INSERT INTO leadroute.territory (name, key) VALUES ('map', 'city'), ('blank', 'city'), ('lost', 'city');
INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('map', 'Pune', 'sales'), ('lost', 'Pune', 'paused');
CREATE FUNCTION public.stable_true() RETURNS bool LANGUAGE plpgsql STABLE AS 'BEGIN RETURN true; END';
CREATE FUNCTION public.mine(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 > 0; END';
ALTER TABLE leads ADD COLUMN hot bool, ADD COLUMN kind varchar(20), ADD COLUMN amount numeric, ADD COLUMN since date, ADD COLUMN ci text;

-- rules replaces the rules: conditions in order, named r1, r2, ..., for the pools named sales and other by turns.
CREATE FUNCTION pg_temp.rules(VARIADIC conditions text[]) RETURNS void LANGUAGE sql AS $$
    DELETE FROM leadroute.rule;
    INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
    SELECT 'leads', n, 'r' || n, c, CASE n % 2 WHEN 1 THEN 'sales' ELSE 'other' END
    FROM unnest(conditions) WITH ORDINALITY u (c, n);
$$;
-- found lists what was found, but for what a test has no interest in: rule, finding, certainty < other rules @ witness
CREATE FUNCTION pg_temp.found(findings text DEFAULT 'unreachable contradiction', sample int DEFAULT 10000) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(concat_ws(' ', c.rule_name, c.finding, c.certainty,
        '< ' || nullif((SELECT string_agg(o.name, ',' ORDER BY o.position) FROM leadroute.rule o WHERE o.id = ANY (c.other_rules)), ''),
        '@ ' || c.witness), '; '), 'nothing')
    FROM leadroute.check_rules('leads', sample) c WHERE c.finding = ANY (string_to_array($1, ' '))
$$;
CREATE FUNCTION pg_temp.of(conditions text[]) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.rules(VARIADIC conditions);
    SELECT pg_temp.found();
$$;
CREATE FUNCTION pg_temp.proves(conditions text[], others text DEFAULT 'r1') RETURNS text LANGUAGE sql AS $$
    SELECT is(pg_temp.of(conditions), format('r%s unreachable proved < %s', cardinality(conditions), others), 'proved: ' || left(conditions::text, 90))
$$;
CREATE FUNCTION pg_temp.does_not_prove(conditions text[]) RETURNS text LANGUAGE sql AS $$
    SELECT is(pg_temp.of(conditions), 'nothing', 'not proved: ' || left(conditions::text, 90))
$$;

-- What hides -------------------------------------------------------------------------------------

SELECT pg_temp.proves(c, o) FROM (VALUES
    ('{true,region = ''a''}'::text[], 'r1'),
    ('{region = ''a'',region = ''a'' AND score > 5}', 'r1'),
    ('{score > 5,score > 7}', 'r1'),
    ('{score > 5,score = 7}', 'r1'),
    ('{"score BETWEEN 1 AND 9","score IN (2, 3)"}', 'r1'),
    ('{region IS NOT NULL,region = ''a''}', 'r1'),
    ('{hot,hot AND score > 1}', 'r1'),
    ('{"lower(email) = ''a@b''","lower(email) = ''a@b'' AND score > 1"}', 'r1'),
    ('{"kind = ''x''","kind = ''x''"}', 'r1'),
    ('{"city LIKE ''Pu%''","city LIKE ''Pu%'' AND region = ''a''"}', 'r1'),
    ('{"region = ''b''","score > 0","region = ''a'' AND score > 0"}', 'r2'),
    ('{"score < 50","score >= 50","score IS NOT NULL"}', 'r1,r2'),
    ('{"score < 10","score = 10","score > 10","score > 3 AND region = ''a''"}', 'r1,r2,r3'),
    ('{"region = ''a''","region = ''b''","region IN (''a'', ''b'')"}', 'r1,r2'),
    ('{"region = ''a''","region = ''b''","(region = ''a'' OR region = ''b'') AND score > 1"}', 'r1,r2'),
    ('{hot,NOT hot,hot IS NULL,region = ''a''}', 'r1,r2,r3'),
    ('{hot,"hot IS NULL AND score > 0","NOT hot","score = 2 AND region = ''x''"}', 'r1,r2,r3'),
    ('{"score IS NULL","score <> 5","score = 5","region = ''b''"}', 'r1,r2,r3'),
    ('{"amount < 100.5","amount >= 100.5","amount > 1"}', 'r1,r2'),
    ('{"since < ''2020-01-01''","since >= ''2020-01-01''","since > ''2019-01-01''"}', 'r1,r2')) v (c, o);
SELECT pg_temp.rules('score > 5', 'score > 7 AND public.stable_true()');
SELECT is(pg_temp.found(), 'r2 unreachable proved < r1', 'proved: a later rule may be stable');

-- IN lists longer than the server's prover looks into
CREATE FUNCTION pg_temp.list(a int, b int) RETURNS text LANGUAGE sql AS $$
    SELECT format('score IN (%s)', string_agg(i::text, ', ')) FROM generate_series(a, b) i
$$;
SELECT pg_temp.proves(ARRAY[pg_temp.list(1, 250), pg_temp.list(20, 240)]);
SELECT pg_temp.proves(ARRAY[pg_temp.list(1, 250), 'score = 177']);
SELECT pg_temp.proves(ARRAY[pg_temp.list(1, 250), pg_temp.list(251, 500), pg_temp.list(200, 450)], 'r1,r2');
SELECT pg_temp.proves(ARRAY['score > 0', pg_temp.list(1, 250)]);
SELECT pg_temp.proves(ARRAY[pg_temp.list(1, 99), pg_temp.list(100, 300), pg_temp.list(90, 110) || ' AND region = ''a'''], 'r1,r2');
SELECT pg_temp.does_not_prove(ARRAY[pg_temp.list(1, 250), pg_temp.list(20, 251)]);
SELECT pg_temp.does_not_prove(ARRAY[pg_temp.list(1, 250), 'score NOT IN (1, 2)']);
SELECT pg_temp.does_not_prove(ARRAY[pg_temp.list(1, 250), pg_temp.list(251, 499), pg_temp.list(200, 500)]);

-- What does not hide -----------------------------------------------------------------------------

SELECT pg_temp.does_not_prove(c) FROM (VALUES
    -- NULL does not match
    ('{"score < 50","score >= 50","region = ''a''"}'::text[]),
    ('{"hot","NOT hot","region = ''a''"}'),
    ('{"region <> ''b''","region IS DISTINCT FROM ''b''"}'),
    ('{"score = ANY (ARRAY[1, NULL])","score IN (1, 2)"}'),
    ('{"score NOT IN (1, NULL)","score > 2"}'),
    ('{"hot IS NOT FALSE AND hot","hot IS NOT FALSE"}'),
    ('{"NOT (score > 5)","score IS NULL"}'),
    ('{"region = ''a'' AND score > 0","region = ''a''"}'),
    ('{"score > 7","score > 5"}'),
    ('{"region = ''A''","region = ''a''"}'),
    ('{"city LIKE ''Pu%''","city = ''Nashik''"}'),
    -- what may raise an error goes on to the next rule
    ('{"1 / score = 1 OR score = 0","score = 0 OR 1 / score = 1"}'),
    ('{"score / company_size >= 0 OR score > 1","score > 1"}'),
    -- what is decided by more than the lead
    ('{"region = ''a'' AND public.stable_true()","region = ''a'' AND public.stable_true()"}'),
    ('{"created_at < now()","created_at < now()"}'),
    ('{"public.mine(score)","public.mine(score)"}'),
    ('{"created_at > ''2020-01-01''::date","created_at > ''2020-01-01''::date"}')) v (c);

SELECT pg_temp.rules('region = ''a''', 'region = ''a''');
UPDATE leadroute.rule SET valid = '[2001-01-01,)' WHERE name = 'r1';
SELECT is(pg_temp.found(), 'nothing', 'not proved: behind a period of validity');
UPDATE leadroute.rule SET valid = NULL, needs = $$ARRAY[region]$$ WHERE name = 'r1';
SELECT is(pg_temp.found(), 'nothing', 'not proved: behind needs that are computed, and may fail');
UPDATE leadroute.rule SET needs = $$ARRAY['english']$$ WHERE name = 'r1';
SELECT is(pg_temp.found(), 'r2 unreachable proved < r1', 'needs that nobody may meet stop the lead all the same');
UPDATE leadroute.rule SET needs = NULL, pool = NULL, territory = 'map' WHERE name = 'r1';
SELECT is(pg_temp.found(), 'nothing', 'not proved: behind a territory, which may not know the lead');
UPDATE leadroute.rule SET pool = 'sales', territory = NULL, active = false WHERE name = 'r1';
SELECT is(pg_temp.found(), 'nothing', 'not proved: behind an inactive rule');
UPDATE leadroute.rule SET active = true WHERE name = 'r1';
UPDATE leadroute.rule SET valid = '[2001-01-01,)', pool = NULL, territory = 'map' WHERE name = 'r2';
SELECT is(pg_temp.found(), 'r2 unreachable proved < r1', 'but the hidden one may have a period and a territory');

-- A real set of rules, of the Norwegian labour and welfare administration (MIT, (c) 2020 NAV), as it
-- was for three versions, and repaired: entry 16 asked what entry 9 had asked.
CREATE FUNCTION pg_temp.real(VARIADIC ninth text[]) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.of(array_agg(format('lower(product) = lower(%L) AND lower(source) = lower(%L)', c.category, o.origin) ORDER BY o.n, c.n))
    FROM (VALUES (1, 'STO'), (2, 'BTO')) o (n, origin)
        CROSS JOIN LATERAL unnest(CASE o.n WHEN 1 THEN ARRAY['Hjelpemidler'] ELSE ninth END
            || '{Pleiepenger,Arbeid,Familie,Helse,Internasjonal,Pensjon,Ufør}'::text[]) WITH ORDINALITY c (category, n)
$$;
SELECT is(pg_temp.real('Ufør'), 'r16 unreachable proved < r9', 'the real unreachable rule is found');
SELECT is(pg_temp.real('BTO Hjelpemidler'), 'nothing', 'and gone where it was repaired');
SELECT pg_temp.proves('{"lower(city) = ''a''","lower(city) = ''b'' AND score = 1","lower(city) IN (''a'', ''b'') AND score = 1"}', 'r1,r2');

-- Contradictions ---------------------------------------------------------------------------------

SELECT is(pg_temp.of(ARRAY['score > 5 AND score < 3']), 'r1 contradiction proved', 'no number is above 5 and below 3');
SELECT is(pg_temp.of(ARRAY['region = NULL']), 'r1 contradiction proved', '= NULL never holds');
SELECT is(pg_temp.of(ARRAY['false', 'region = ''a'' AND region IS NULL']), 'r1 contradiction proved; r2 contradiction proved', 'false, and a value that is NULL');
SELECT is(pg_temp.of(ARRAY['region = ''a'' AND region = ''b''', 'true']), 'r1 contradiction proved', 'two values at once');

-- What leads show --------------------------------------------------------------------------------

DELETE FROM leadroute.rule;
INSERT INTO leads (id, region, score, product, company_size) OVERRIDING SYSTEM VALUE VALUES
    (1, 'North', 3, 'loan', 0), (2, 'North', 60, 'card', 5), (3, NULL, NULL, 'loan', NULL);
SELECT pg_temp.rules('region = ''North''', 'product = ''loan''', 'score > 50', 'region LIKE ''Nor%''');
SELECT is(pg_temp.found('unreachable overlap'), 'r2 overlap seen < r1 @ 1; r3 unreachable seen < r1 @ 2; r4 unreachable seen < r1 @ 2',
    'rules whose leads go elsewhere, with a lead');
SELECT is(pg_temp.found('unreachable overlap', 0), 'nothing', 'no lead is looked at when none is asked for');
SELECT is(pg_temp.found('unreachable overlap', 1), 'nothing', 'only the latest are');
SELECT is(pg_temp.found('gap'), 'nothing', 'each lead is taken');
SELECT pg_temp.rules('region = ''North''', 'true');
SELECT is(pg_temp.found('overlap gap'), 'nothing', 'a rule for all the rest overlaps with none');
SELECT pg_temp.rules('region = ''North''');
SELECT is(pg_temp.found('gap'), 'gap seen @ 3', 'a lead that no rule takes');
UPDATE leadroute.lead_table SET fallback_pool = 'sales';
SELECT is(pg_temp.found('gap'), 'nothing', 'a fallback pool takes it');
UPDATE leadroute.lead_table SET fallback_pool = 'paused';
SELECT is(pg_temp.found('gap empty_target'), 'empty_target proved', 'unless nobody is in it');
UPDATE leadroute.lead_table SET fallback_pool = NULL;
SELECT pg_temp.rules('false');
SELECT is(pg_temp.found('gap'), 'gap proved @ 3', 'no rule can take any');
SELECT pg_temp.rules('100 / company_size > 10', 'true');
SELECT is(pg_temp.found('error not_indexable'), 'r1 error seen @ 1; r1 not_indexable proved', 'an error of a rule, with the lead, and what it costs');
-- Among many rules: what a lead's values find costs nothing worth a word, whichever way they do.
SELECT pg_temp.rules(VARIADIC array_agg(format('company_size BETWEEN %s AND %s', 1000 * n, 1000 * n + 10))
    || ARRAY['source LIKE ''zz%''', 'lower(city) = ''zz'' OR phone IS NULL AND score = 1', 'city || name = ''zz''']) FROM generate_series(1, 60) n;
SELECT is(pg_temp.found('not_indexable'), 'r63 not_indexable proved', 'ranges, prefixes, lower() and alternatives are found by values');
SELECT pg_temp.rules('region IN (''North'', ''Nroth'')', 'product = ''Loan'' OR score = 3', 'company_size <> 77', 'NOT region = ''gone''');
SELECT results_eq($$ SELECT rule_name, certainty, advice FROM leadroute.check_rules('leads') WHERE finding = 'unknown_value' $$, $$ VALUES
    ('r1', 'seen', 'No lead that you may see has region = ''Nroth''. Look for a misspelling, or for capitals that differ.'),
    ('r2', 'seen', 'No lead that you may see has product = ''Loan''. Look for a misspelling, or for capitals that differ.') $$,
    'values that no lead has, and only those asked for');

-- Targets ----------------------------------------------------------------------------------------

DELETE FROM leadroute.rule;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, rep, territory, overflow_pool) VALUES
    ('leads', 1, 'none', 'score = 1', 'nobody', NULL, NULL, NULL), ('leads', 2, 'paused', 'score = 2', 'paused', NULL, NULL, NULL),
    ('leads', 3, 'over', 'score = 3', 'over', NULL, NULL, NULL), ('leads', 4, 'stuck', 'score = 4', 'stuck', NULL, NULL, NULL),
    ('leads', 5, 'dry', 'score = 5', 'dry', NULL, NULL, NULL), ('leads', 6, 'rep', 'score = 6', NULL, 2, NULL, 'sales'),
    ('leads', 7, 'rep with a pool', 'score = 7', NULL, 1, NULL, 'nobody'), ('leads', 8, 'blank', 'score = 8', NULL, NULL, 'blank', NULL),
    ('leads', 9, 'lost', 'score = 9', NULL, NULL, 'lost', NULL), ('leads', 10, 'fine', 'score = 10', 'sales', NULL, NULL, NULL);
SELECT results_eq($$ SELECT rule_name, finding, certainty, advice FROM leadroute.check_rules('leads', 0) WHERE finding IN ('empty_target', 'dead_end') $$, $$ VALUES
    ('none', 'empty_target', 'proved', 'Pool "nobody" has no members: its leads wait until somebody can. Add somebody, or change the target.'),
    ('paused', 'empty_target', 'proved', 'Pool "paused" has 3 members, of whom none can receive a lead (paused, a cap of 0, or no ref): its leads wait until somebody can. Add somebody, or change the target.'),
    ('over', 'empty_target', 'proved', 'Pool "over" has no members: its leads go to pool "sales". Add somebody, or change the target.'),
    ('stuck', 'empty_target', 'proved', 'Pool "stuck" has no members: its leads wait until somebody can. Add somebody, or change the target.'),
    ('stuck', 'dead_end', 'proved', 'Pool "stuck" overflows into pool "paused": nobody there, nor where that overflows to, can receive a lead. Add somebody, or name another pool to overflow into.'),
    ('dry', 'dead_end', 'proved', 'Pool "dry" overflows into pool "paused": nobody there, nor where that overflows to, can receive a lead. Add somebody, or name another pool to overflow into.'),
    ('rep', 'empty_target', 'proved', 'Rep "Bob" can receive no lead (paused, a cap of 0, or no ref): the leads go to pool "sales". Add somebody, or change the target.'),
    ('rep with a pool', 'dead_end', 'proved', 'Nobody in pool "nobody", nor where it overflows to, can receive a lead. Add somebody, or name another pool to overflow into.'),
    ('blank', 'empty_target', 'proved', 'Territory "blank" has no entries: every lead goes on to the next rule. Add somebody, or change the target.'),
    ('lost', 'empty_target', 'proved', 'Of the entries of territory "lost" 1, such as "Pune", are for a pool or rep that can receive no lead. Add somebody, or change the target.') $$,
    'targets that can receive nothing');

-- Broken rules, drafts, access -------------------------------------------------------------------

SELECT pg_temp.rules('region = ''North''', 'score = 3', 'ci = ''x''');
ALTER TABLE leads RENAME COLUMN ci TO cj;
SELECT is(pg_temp.found('broken unreachable', 0), 'r3 broken proved', 'a rule that does not compile any more');
ALTER TABLE leadroute.rule DISABLE TRIGGER USER;
UPDATE leadroute.rule SET author = 'lr_gone', condition = 'true' WHERE name = 'r1';
ALTER TABLE leadroute.rule ENABLE TRIGGER USER;
SELECT count(*) AS alerts FROM leadroute.alert \gset
SELECT is(pg_temp.found('broken unreachable', 0), 'r1 broken proved; r3 broken proved', 'a rule without an author, which hides none');
SELECT is((SELECT count(*) FROM leadroute.alert), :alerts::bigint, 'checking alerts nobody');

SAVEPOINT draft;
SELECT pg_temp.rules('score > 0', 'score = 1');
SELECT is(pg_temp.found(), 'r2 unreachable proved < r1', 'a draft is checked as it is');
ROLLBACK TO draft;
SELECT is(pg_temp.found(), 'nothing', 'and is gone with a rollback');

-- Partitions, tenants, dropped columns, names that need quotes
CREATE TABLE "Lead's" (tenant int, "the id" uuid DEFAULT gen_random_uuid(), gone int, "Region" text, score int, owner_id bigint, PRIMARY KEY (tenant, "the id")) PARTITION BY LIST (tenant);
CREATE TABLE part_7 (score int, tenant int, "the id" uuid DEFAULT gen_random_uuid(), owner_id bigint, gone int, "Region" text);
ALTER TABLE "Lead's" DROP COLUMN gone;
ALTER TABLE part_7 DROP COLUMN gone;
ALTER TABLE part_7 ALTER tenant SET NOT NULL, ALTER "the id" SET NOT NULL;
ALTER TABLE "Lead's" ATTACH PARTITION part_7 FOR VALUES IN (7);
CREATE TABLE part_8 PARTITION OF "Lead's" FOR VALUES IN (8);
SELECT leadroute.attach('"Lead''s"', tenant_column => 'tenant');
INSERT INTO leadroute.rep (tenant, id, name) VALUES (7, 1, 'Ann');
INSERT INTO leadroute.pool (tenant, name) VALUES (7, 'a'), (7, 'b');
INSERT INTO leadroute.pool_member (tenant, pool, rep) VALUES (7, 'a', 1), (7, 'b', 1);
INSERT INTO leadroute.rule (tenant, id, lead_table, position, name, condition, pool) VALUES
    (7, 1, 'Lead''s', 1, 'north', '"Region" = ''North''', 'a'), (7, 2, 'Lead''s', 2, 'high', 'score > 5', 'b'),
    (7, 3, 'Lead''s', 3, 'higher', 'score > 6', 'a'), (7, 4, 'Lead''s', 4, 'south', '"Region" = ''South''', 'a');
INSERT INTO "Lead's" (tenant, "the id", "Region", score) VALUES (7, '00000000-0000-0000-0000-000000000001', 'North', 9), (7, '00000000-0000-0000-0000-000000000002', 'West', 1),
    (8, '00000000-0000-0000-0000-000000000003', 'South', 7);
SELECT results_eq($$ SELECT rule_name, finding, certainty, other_rules, witness FROM leadroute.check_rules('Lead''s', tenant => 7) $$, $$ VALUES
    ('high', 'unreachable', 'seen', '{1}'::bigint[], '00000000-0000-0000-0000-000000000001'),
    ('higher', 'unreachable', 'proved', '{2}', NULL), ('south', 'unknown_value', 'seen', '{}', NULL),
    (NULL, 'gap', 'seen', '{}', '00000000-0000-0000-0000-000000000002') $$, 'leads and rules of one tenant in a partitioned table');
SELECT is_empty($$ SELECT * FROM leadroute.check_rules('Lead''s', tenant => 8) WHERE finding <> 'gap' OR certainty <> 'proved' $$, 'a tenant without rules has a gap alone');

SELECT throws_ok($$ SELECT * FROM leadroute.check_rules('nowhere') $$, 'LR002');
SELECT throws_ok($$ SELECT * FROM leadroute.check_rules('leads', -1) $$, 'LR005');
SELECT throws_like($$ SELECT * FROM leadroute.check_rules('leads', tenant => 7) $$, '%has no leads of tenant 7%', 'a table without a tenant column');
CREATE ROLE lr_manager;
CREATE ROLE lr_app;
DO $$ BEGIN PERFORM leadroute.grant_access('lr_app', 'app'); PERFORM leadroute.grant_access('lr_manager', 'manager'); END $$;
DELETE FROM leadroute.rule;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
    ('leads', 1, 'r1', 'region = ''North''', 'sales'), ('leads', 2, 'r2', 'product = ''loan'' AND score > 1', 'other');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_temp TO lr_manager, lr_app;
SET LOCAL ROLE lr_app;
SELECT throws_ok($$ SELECT * FROM leadroute.check_rules('leads') $$, 'LR012', NULL, 'not for apps');
SELECT throws_ok($$ SELECT * FROM leadroute._check_conditions('leads', 0, 10) $$, 'LR012', NULL, 'nor by the inner function');
RESET ROLE;
SET LOCAL ROLE lr_manager;
SELECT results_eq($$ SELECT finding, certainty, witness FROM leadroute.check_rules('leads') $$, $$ VALUES ('not_checked', 'proved', NULL) $$,
    'who may not read the leads is told so, and sees none');
RESET ROLE;
GRANT SELECT ON leads TO lr_manager;
ALTER TABLE leads ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON leads TO lr_manager USING (id <> 1);
SET LOCAL ROLE lr_manager;
SELECT results_eq($$ SELECT finding, certainty, witness FROM leadroute.check_rules('leads') $$, $$ VALUES ('gap', 'seen', '3') $$,
    'who may read some sees nothing of the others');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
