-- Lead tables: what can be attached and what cannot, what becomes of leads that are there, detach.
BEGIN;
SELECT plan(111);
SET LOCAL client_min_messages = warning;

CREATE FUNCTION pg_temp.refused(statement text, code text, pattern text, description text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    state text := 'nothing';
    message text;
    detail text;
    hint text;
BEGIN
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    END;
    IF state = code AND message ~ pattern AND hint <> '' AND detail <> '' THEN
        RETURN pass(description);
    END IF;
    RETURN fail(description) || E'\n' || diag(format('%s: %s | %s | %s', state, message, detail, hint));
END
$$;
CREATE FUNCTION pg_temp.kept() RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify() v
$$;

-- refs that a text and a uuid column can hold
INSERT INTO leadroute.rep (id, name, ref) VALUES
    (1, 'Ann', '00000000-0000-0000-0000-00000000000a'), (2, 'Bob', '00000000-0000-0000-0000-00000000000b');
INSERT INTO leadroute.pool (name) VALUES ('team'), ('fallback');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1), ('team', 2);

-- Types of key and owner ------------------------------------------------------------------------

CREATE FUNCTION pg_temp.routes(key_type text, owner_type text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    table_name text := format('k_%s_o_%s', key_type, owner_type);
    owners text;
    wanted text := CASE WHEN owner_type IN ('integer', 'bigint') THEN '1,2' ELSE (
        SELECT string_agg(ref, ',' ORDER BY id) FROM leadroute.rep) END;
BEGIN
    EXECUTE format('CREATE TABLE public.%I (lead %s PRIMARY KEY, seller %s, n integer)', table_name, key_type, owner_type);
    EXECUTE format('SELECT leadroute.attach(%L, owner_column => ''seller'')', 'public.' || table_name);
    EXECUTE format('INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES (%L, 1, ''all'', ''team'')', table_name);
    EXECUTE format('INSERT INTO public.%I (lead, n) SELECT %s, n FROM generate_series(1, 2) n', table_name,
        CASE key_type WHEN 'uuid' THEN 'md5(n::text)::uuid' WHEN 'text' THEN '''lead '' || n' ELSE 'n' END);
    EXECUTE format('SELECT string_agg(seller::text, '','' ORDER BY seller::text) FROM public.%I', table_name) INTO owners;
    RETURN is(owners, wanted, format('key %s, owner %s: both reps receive one', key_type, owner_type))
        || E'\n' || ok((SELECT count(*) = 2 FROM leadroute.decision d WHERE d.lead_table = table_name
            AND leadroute.why(d.lead_table, d.lead_id) ~ 'the first to match'), 'and each says why');
END
$$;
SELECT pg_temp.routes(k, o) FROM unnest(ARRAY['integer', 'bigint', 'uuid', 'text']) k,
    unnest(ARRAY['integer', 'bigint', 'text', 'uuid']) o;
-- an owner given by hand is found by its ref, whatever the form of a uuid
UPDATE leadroute.rep SET ref = upper(replace(ref, '-', '')) WHERE id = 2;
UPDATE public.k_text_o_uuid SET seller = '00000000-0000-0000-0000-00000000000b';
SELECT results_eq($$ SELECT DISTINCT rep FROM leadroute.open_assignment WHERE lead_table = 'k_text_o_uuid' $$, 'VALUES (2::bigint)', 'owner by hand: uuid');
UPDATE leadroute.rep SET ref = '00000000-0000-0000-0000-00000000000b' WHERE id = 2;
UPDATE public.k_text_o_text SET seller = '00000000-0000-0000-0000-00000000000b';
SELECT results_eq($$ SELECT DISTINCT rep FROM leadroute.open_assignment WHERE lead_table = 'k_text_o_text' $$, 'VALUES (2::bigint)', 'owner by hand: text');
UPDATE public.k_text_o_text SET seller = 'somebody';
SELECT results_eq($$ SELECT DISTINCT rep FROM leadroute.open_assignment WHERE lead_table = 'k_text_o_text' $$, 'VALUES (NULL::bigint)', 'owner by hand: no rep');
SELECT matches(leadroute.why('k_text_o_text', 'lead 1'), 'assigned to somebody who is not a rep at [^\n]*\n  postgres gave it this owner by hand\.$', 'and why() says so');
UPDATE public.k_bigint_o_bigint SET seller = 555 WHERE lead = 2;
SELECT matches(leadroute.why('k_bigint_o_bigint', 2), 'assigned to somebody who is not a rep \(555\) at', 'also of a number');
UPDATE public.k_bigint_o_bigint SET seller = 2 WHERE lead = 2;
SELECT matches(leadroute.why('k_bigint_o_bigint', 2), 'Bob \(2\).*by hand: counted as a lead of the rep''s day', 'a rep''s counts');
SELECT matches(leadroute.why('k_uuid_o_bigint', md5('1')::uuid), 'Ann', 'why() takes a uuid');
SELECT matches(leadroute.why('k_bigint_o_bigint', ' 01 '), 'Ann', 'why() casts text to the key''s type');
SELECT matches(leadroute.why('k_text_o_bigint', 'lead 1'), 'Ann', 'why() takes text');
SELECT is(leadroute.why_json('k_bigint_o_bigint', 1) #>> '{rep,name}', 'Ann', 'why_json() takes an integer');
SELECT is(leadroute.why_json('k_bigint_o_bigint', 2::bigint) #>> '{rep,name}', 'Bob', 'why_json() takes a bigint');
SELECT pg_temp.refused('SELECT leadroute.why(''k_bigint_o_bigint'', 77)', 'LR007', 'lead 77', 'why() of an unknown lead');
SELECT pg_temp.refused('SELECT leadroute.why(''k_bigint_o_bigint'', ''x'')', 'LR007', 'lead x', 'why() of what is no key');
SELECT pg_temp.refused('SELECT leadroute.why(''k_bigint_o_bigint'', 1, 2)', 'LR007', 'no episode 2', 'why() of an unknown episode');
SELECT pg_temp.refused('SELECT leadroute.why(''nix'', 1)', 'LR002', '"nix" is not attached', 'why() of an unknown table');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- Names -----------------------------------------------------------------------------------------

CREATE SCHEMA "o'ther";
CREATE TABLE public.names (id bigint PRIMARY KEY, owner_id bigint);
CREATE TABLE "o'ther".names (LIKE public.names INCLUDING ALL);
CREATE TABLE "o'ther"."We ""love"" leads" (LIKE public.names INCLUDING ALL);
SELECT leadroute.attach('public.names');
SELECT leadroute.attach('"o''ther".names');
SELECT leadroute.attach($$"o'ther"."We ""love"" leads"$$);
SELECT set_has('SELECT name FROM leadroute.lead_table',
    $$ VALUES ('names'), ('o''ther.names'), ('We "love" leads') $$, 'the table''s name, with its schema where that is taken');
INSERT INTO "o'ther"."We ""love"" leads" VALUES (1);
SELECT is((SELECT status FROM leadroute.decision WHERE lead_table = 'We "love" leads'), 'waiting', 'odd names work');
CREATE TABLE public.third (LIKE public.names INCLUDING ALL);
SELECT pg_temp.refused('SELECT leadroute.attach(''public.third'', name => ''names'')', 'LR005', 'attached as "names"', 'a name that is taken');
SELECT pg_temp.refused('SELECT leadroute.attach(''public.third'', name => '''')', 'LR005', 'is empty', 'an empty name');

-- create_lead_table -----------------------------------------------------------------------------

CREATE ROLE leadroute_test_owner;
CREATE SCHEMA "Sales" AUTHORIZATION leadroute_test_owner;
SELECT is(leadroute.create_lead_table('"Sales"."New Leads"'), to_regclass('"Sales"."New Leads"'), 'create_lead_table: quoted names');
SELECT columns_are('Sales', 'New Leads', ARRAY['id', 'created_at', 'source', 'name', 'email', 'phone', 'country', 'region', 'city',
    'postal_code', 'location', 'product', 'deal_value', 'industry', 'company', 'company_size', 'language', 'score', 'attrs', 'owner_id'],
    'its columns');
SET LOCAL search_path = "Sales", public;
SELECT is(leadroute.create_lead_table('bare'), to_regclass('"Sales".bare'), 'a bare name goes where the caller''s search_path says');
RESET search_path;
SELECT is((SELECT count(*) FROM pg_depend WHERE objid = '"Sales".bare'::regclass AND deptype = 'e'), 0::bigint, 'the extension does not own it');
SELECT pg_temp.refused('SELECT leadroute.create_lead_table(''a.b.c'')', 'LR005', 'not a table name', 'too many names');
SELECT pg_temp.refused('SELECT leadroute.create_lead_table(''public.third'')', '42P07', 'public.third exists already', 'a name that is taken');
SELECT pg_temp.refused('SELECT leadroute.create_lead_table(''public.names'')', '42P07', 'exists already', 'by a lead table');
DO $$ BEGIN PERFORM leadroute.grant_access('leadroute_test_owner', 'admin'); END $$;
GRANT USAGE ON SCHEMA leadroute TO leadroute_test_owner;
GRANT ALL ON ALL TABLES IN SCHEMA leadroute TO leadroute_test_owner;
GRANT ALL ON ALL SEQUENCES IN SCHEMA leadroute TO leadroute_test_owner;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA leadroute TO leadroute_test_owner;
SET LOCAL ROLE leadroute_test_owner;
SELECT is(leadroute.create_lead_table('"Sales".own'), to_regclass('"Sales".own'), 'with granted rights anybody may');
INSERT INTO "Sales".own (name) VALUES ('x');
RESET ROLE;
SELECT table_owner_is('Sales', 'own', 'leadroute_test_owner', 'and owns the table');

-- What cannot be attached -----------------------------------------------------------------------

CREATE VIEW public.a_view AS SELECT * FROM public.names;
CREATE TEMP TABLE a_temp (id bigint PRIMARY KEY, owner_id bigint);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE public.a_foreign (id bigint, owner_id bigint) SERVER nowhere;
CREATE TABLE public.parted (id bigint PRIMARY KEY, owner_id bigint) PARTITION BY RANGE (id);
CREATE TABLE public.parted_1 PARTITION OF public.parted FOR VALUES FROM (0) TO (100);
CREATE TABLE public.far (id bigint, owner_id bigint) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE public.far_1 PARTITION OF public.far FOR VALUES FROM (0) TO (100) SERVER nowhere;
CREATE TABLE public.by_owner (id bigint, owner_id bigint) PARTITION BY LIST ((owner_id / 2));
CREATE TABLE public.in_key (id bigint, owner_id bigint PRIMARY KEY);
CREATE TABLE public.two (a bigint, b bigint, owner_id bigint, PRIMARY KEY (a, b));
CREATE TABLE public.no_key (id bigint, owner_id bigint);
CREATE TABLE public.date_key (id date PRIMARY KEY, owner_id bigint);
CREATE TABLE public.owners (id bigint PRIMARY KEY, by_default bigint DEFAULT 1, generated bigint GENERATED ALWAYS AS (id) STORED,
    required bigint NOT NULL, owner_id numeric, tenant bigint, org integer NOT NULL);

SELECT pg_temp.refused(format('SELECT leadroute.attach(%L)', r), 'LR003', p, 'refused: ' || p)
FROM (VALUES ('public.a_view', 'it is a view'), ('pg_temp.a_temp', 'temporary'), ('public.a_foreign', 'foreign table'),
    ('public.parted_1', 'it is a partition'), ('public.far', 'has a foreign partition'),
    ('public.names', 'attached already'), ('public.two', 'too many columns'), ('public.no_key', 'no primary key'),
    ('public.date_key', 'key is of type date'), ('pg_catalog.pg_class', 'system table'), ('leadroute.rep', 'system table'),
    ('public.owners', 'of type numeric'), ('public.names_pkey', 'not a table')) AS x (r, p);
SELECT pg_temp.refused(format('SELECT leadroute.attach(''public.owners'', owner_column => %L)', c), 'LR003', p, 'owner column refused: ' || p)
FROM (VALUES ('nix', 'no such column'), ('by_default', 'has a DEFAULT'), ('generated', 'generated column'),
    ('required', 'it is NOT NULL'), ('id', 'part of the primary key')) AS x (c, p);
SELECT pg_temp.refused(format('SELECT leadroute.attach(''public.owners'', owner_column => ''tenant'', tenant_column => %L)', c),
    'LR003', p, 'tenant column refused: ' || p)
FROM (VALUES ('nix', 'no such column'), ('owner_id', 'of type numeric'), ('tenant', 'may be NULL')) AS x (c, p);
ALTER TABLE public.by_owner ADD COLUMN key bigint;
SELECT pg_temp.refused('SELECT leadroute.attach(''public.by_owner'')', 'LR003', 'no primary key|partition key', 'refused: owner in the partition key');
SELECT pg_temp.refused('SELECT leadroute.attach(''public.third'', fallback_pool => ''nix'')', 'LR008', 'no pool "nix"', 'unknown fallback pool');
SELECT pg_temp.refused('SELECT leadroute.attach(''public.third'', manager => 99)', 'LR008', 'no rep "99"', 'unknown manager');
SELECT pg_temp.refused('SELECT leadroute.attach(''public.third'', value_expression => ''nix + 1'')', 'LR004', 'column "nix" does not exist', 'unknown column in value_expression');
SELECT is((SELECT count(*) FROM leadroute.lead_table WHERE name = 'third'), 0::bigint, 'a refused table is not attached');
SELECT hasnt_trigger('public', 'third', 'zz_leadroute', 'and has no trigger');

-- Leads that are there --------------------------------------------------------------------------

CREATE TABLE public.old_leads (id integer PRIMARY KEY, owner_id integer);
INSERT INTO public.old_leads VALUES (1, 1), (2, 2), (3, 99), (4, NULL), (5, NULL);
SELECT pg_temp.refused('SELECT leadroute.attach(''public.old_leads'')', 'LR005', 'is not empty', 'a table with rows asks what becomes of them');
SELECT pg_temp.refused('SELECT leadroute.attach(''public.old_leads'', existing => ''drop'')', 'LR005', 'is not known', 'and not this');

SELECT leadroute.attach('public.old_leads', name => 'keep', existing => 'keep', fallback_pool => 'fallback');
SELECT results_eq($$ SELECT lead_id, rep, pool, method, status FROM leadroute.decision WHERE lead_table = 'keep' ORDER BY lead_id $$,
    $$ VALUES ('1' COLLATE "C", 1::bigint, NULL, 'manual', 'assigned'), ('2', 2, NULL, 'manual', 'assigned'), ('3', 99, NULL, 'manual', 'assigned'),
        ('4', NULL, 'fallback', 'push', 'waiting'), ('5', NULL, 'fallback', 'push', 'waiting') $$,
    'keep: owners are recorded, the others wait in the fallback queue');
SELECT is((SELECT count(*) FROM leadroute.queue WHERE queue = 'fallback' AND reason = 'was there when the table was attached'), 2::bigint,
    'and are in the queue, which says why');
SELECT is((SELECT reason FROM leadroute.decision WHERE lead_table = 'keep' AND lead_id = '1'), 'had this owner when the table was attached', 'as do the others');
SELECT matches(leadroute.why('keep', 4), 'put into the queue "fallback" at [^(]*\.\n  It was there, without an owner', 'why() of one that waits');
SELECT matches(leadroute.why('keep', 3), 'not a rep \(99\).*\n  It had this owner when', 'why() of one with an owner');
UPDATE public.old_leads SET owner_id = 1 WHERE id = 4;
UPDATE public.old_leads SET owner_id = NULL WHERE id = 4;
SELECT is((SELECT reason FROM leadroute.queue WHERE lead_id = '4'), 'released by hand', 'one that was released says that');
SELECT matches(leadroute.why('keep', 4), 'queue "fallback" at [^(]*\.\n  It was released by hand', 'so does why()');
SELECT is((SELECT coalesce(sum(m.used), 0) FROM leadroute._day_memory(0) m),
    (SELECT count(*) FROM leadroute.assignment WHERE day IS NOT NULL), 'kept leads count for no day');
SELECT leadroute.detach('keep');
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE end_reason = 'detached'), 5::bigint, 'detach ends their episodes');

SELECT leadroute.attach('public.old_leads', name => 'queue', existing => 'queue');
SELECT results_eq($$ SELECT lead_id, status, pool FROM leadroute.decision WHERE lead_table = 'queue' ORDER BY lead_id $$,
    $$ VALUES ('4' COLLATE "C", 'waiting', NULL::text), ('5', 'waiting', NULL) $$, 'queue: leads without an owner wait');
SELECT ok(pg_temp.kept(), 'and the others are not missed');
SELECT leadroute.detach('queue');

SELECT leadroute.attach('public.old_leads', name => 'ignore', existing => 'ignore');
SELECT is((SELECT count(*) FROM leadroute.decision WHERE lead_table = 'ignore'), 0::bigint, 'ignore: no lead has a record');
UPDATE public.old_leads SET owner_id = 2 WHERE id = 1;
UPDATE public.old_leads SET id = 50 WHERE id = 2;
DELETE FROM public.old_leads WHERE id = 3;
SELECT is((SELECT count(*) FROM leadroute.decision WHERE lead_table = 'ignore'), 0::bigint, 'whatever is done to it');
SELECT ok(pg_temp.kept(), 'and none is missed');
SELECT pg_temp.refused('SELECT leadroute.why(''ignore'', 1)', 'LR007', 'no record', 'why() says that it was left alone');

-- detach ----------------------------------------------------------------------------------------

INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('ignore', 1, 'all', 'team');
SELECT pg_temp.refused('SELECT leadroute.detach(''ignore'')', 'LR006', 'in use', 'detach is refused while there are rules');
DELETE FROM leadroute.rule WHERE lead_table = 'ignore';
INSERT INTO public.old_leads VALUES (6);
SELECT leadroute.detach('ignore');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.old_leads'::regclass), 0::bigint, 'detach removes the triggers');
INSERT INTO public.old_leads VALUES (7);
SELECT is((SELECT owner_id FROM public.old_leads WHERE id = 7), NULL, 'and leads are no longer routed');
SELECT results_eq($$ SELECT status, end_reason FROM leadroute.decision WHERE lead_id = '6' $$, $$ VALUES ('ended', 'detached') $$,
    'the record stays, ended');
SELECT pg_temp.refused('SELECT leadroute.detach(''ignore'')', 'LR002', 'not attached', 'detach twice');
SELECT ok(pg_temp.kept(), 'verify() is all 0 at the end');

SELECT * FROM finish();
ROLLBACK;
