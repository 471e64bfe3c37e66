-- Claims of leads in tables of many kinds: what the table does on an UPDATE of the owner happens, whether
-- the lead is told its owner by a statement or without one.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
SET LOCAL leadroute.backlog = off;

INSERT INTO leadroute.rep (id, name, ref) VALUES (1, 'Ann', 'ann'), (2, 'Bob', 'a6ed2a6c-21f1-4d0c-8d3a-5b1c3a9f0001');
INSERT INTO leadroute.pool (name, mode) VALUES ('shelf', 'pull');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('shelf', 1), ('shelf', 2);
CREATE TABLE public.heard (what text);
CREATE FUNCTION public.hear() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.heard VALUES (TG_ARGV[0]);
    RETURN NEW;
END
$$;

-- A table of these columns, with something of its own, and one lead that waits.
CREATE FUNCTION pg_temp.table_with(columns text, extra text DEFAULT NULL, row_values text DEFAULT '(id) VALUES (1)') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DROP TABLE IF EXISTS public.leads CASCADE;
    DELETE FROM public.heard;
    EXECUTE format('CREATE TABLE public.leads (%s)', columns);
    PERFORM leadroute.attach('public.leads', fallback_pool => 'shelf');
    EXECUTE coalesce(extra, 'SELECT');
    EXECUTE 'INSERT INTO public.leads ' || row_values;
END
$$;
-- rep:owner:what was heard, after a claim
CREATE FUNCTION pg_temp.claimed(rep bigint DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found_row leadroute.assignment;
BEGIN
    found_row := leadroute.claim_next(rep, 'shelf');
    RETURN concat_ws(':', found_row.rep, (SELECT l.owner_id FROM public.leads l), (SELECT string_agg(what, ',' ORDER BY what) FROM public.heard),
        (SELECT nullif(count(*), 1) FROM leadroute.assignment a WHERE a.rep = claimed.rep AND a.ended_at IS NULL AND a.lead_id = found_row.lead_id));
END
$$;

SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint');
SELECT is(pg_temp.claimed(), '1:1', 'a plain table');
SELECT pg_temp.table_with('id uuid PRIMARY KEY, owner_id integer', NULL, $$(id) VALUES ('a6ed2a6c-21f1-4d0c-8d3a-5b1c3a9f0002')$$);
SELECT is(pg_temp.claimed(), '1:1', 'a key of type uuid');
SELECT pg_temp.table_with('owner_id text, id text PRIMARY KEY', NULL, $$(id) VALUES ('x y')$$);
SELECT is(pg_temp.claimed(), '1:ann', 'a key and an owner of type text');
SELECT pg_temp.table_with('id integer PRIMARY KEY, owner_id uuid');
SELECT is(pg_temp.claimed(2), '2:a6ed2a6c-21f1-4d0c-8d3a-5b1c3a9f0001', 'an owner of type uuid');
SELECT pg_temp.table_with('id bigint PRIMARY KEY, gone text, owner_id bigint', 'ALTER TABLE public.leads DROP gone; ALTER TABLE public.leads ADD late integer DEFAULT 7');
SELECT is(pg_temp.claimed(), '1:1', 'a column that was dropped, and one that came later');
SELECT is(late, 7, 'it keeps its value') FROM public.leads;
SELECT pg_temp.table_with('id bigint PRIMARY KEY, note text, owner_id bigint', NULL, $$SELECT 1, string_agg(md5(i::text), '') FROM generate_series(1, 2000) i$$);
SELECT is(pg_temp.claimed(), '1:1', 'a long value beside it');
SELECT is(length(note), 64000, 'stays whole') FROM public.leads;

-- indexes
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint', 'CREATE INDEX ON public.leads (owner_id); CREATE INDEX ON public.leads ((owner_id + 1)); CREATE INDEX ON public.leads (id) WHERE owner_id IS NULL');
SELECT is(pg_temp.claimed(), '1:1', 'indexes on the owner');
SET LOCAL enable_seqscan = off;
SELECT results_eq('SELECT id FROM public.leads WHERE owner_id = 1', 'VALUES (1::bigint)', 'find it by its owner');
SELECT results_eq('SELECT id FROM public.leads WHERE owner_id + 1 = 2', 'VALUES (1::bigint)', 'by an expression');
SELECT is_empty('SELECT id FROM public.leads WHERE owner_id IS NULL', 'and not among those without one');
RESET enable_seqscan;
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint UNIQUE', NULL, '(id, owner_id) VALUES (9, 1), (1, NULL)');
SELECT throws_ok('SELECT leadroute.claim_next(1, ''shelf'')', '23505', NULL, 'a unique index on the owner');

-- constraints
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint CONSTRAINT not_ann CHECK (owner_id <> 1)');
SELECT throws_ok('SELECT leadroute.claim_next(1, ''shelf'')', '23514', NULL, 'a CHECK on the owner');
SELECT is(pg_temp.claimed(2), '2:2', 'that another rep satisfies');
CREATE TABLE public.users (id bigint PRIMARY KEY);
INSERT INTO public.users VALUES (2);
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint REFERENCES public.users');
SELECT throws_ok('SELECT leadroute.claim_next(1, ''shelf'')', '23503', NULL, 'a foreign key on the owner');
SELECT is(pg_temp.claimed(2), '2:2', 'that another rep satisfies');
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint, twice bigint GENERATED ALWAYS AS (owner_id * 2) STORED');
SELECT is(pg_temp.claimed(), '1:1', 'a generated column');
SELECT is(twice, 2::bigint, 'follows the owner') FROM public.leads;

-- triggers
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint', 'CREATE TRIGGER a BEFORE UPDATE ON public.leads FOR EACH ROW EXECUTE FUNCTION public.hear(''before'')');
SELECT is(pg_temp.claimed(), '1:1:before', 'a trigger before an UPDATE');
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint', 'CREATE TRIGGER a AFTER UPDATE ON public.leads FOR EACH ROW WHEN (NEW.owner_id IS NOT NULL) EXECUTE FUNCTION public.hear(''after'')');
SELECT is(pg_temp.claimed(), '1:1:after', 'a trigger with a condition after it');
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint', 'CREATE TRIGGER a AFTER UPDATE ON public.leads EXECUTE FUNCTION public.hear(''statement'')');
SELECT is(pg_temp.claimed(), '1:1:statement', 'a trigger of the statement');
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint', 'CREATE TRIGGER a AFTER UPDATE OF owner_id ON public.leads FOR EACH ROW EXECUTE FUNCTION public.hear(''of owner'');
    CREATE TRIGGER b AFTER UPDATE OF id ON public.leads FOR EACH ROW EXECUTE FUNCTION public.hear(''of id'')');
SELECT is(pg_temp.claimed(), '1:1:of owner', 'triggers of columns');
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint, other int', 'CREATE TRIGGER b AFTER UPDATE OF other ON public.leads FOR EACH ROW EXECUTE FUNCTION public.hear(''of other'');
    CREATE TRIGGER c BEFORE UPDATE ON public.leads FOR EACH ROW EXECUTE FUNCTION public.hear(''disabled''); ALTER TABLE public.leads DISABLE TRIGGER c');
SELECT is(pg_temp.claimed(), '1:1', 'a trigger of another column, and one that is disabled');
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint, score int', 'UPDATE leadroute.lead_table SET score_column = ''score''');
SELECT is(pg_temp.claimed(), '1:1', 'a score');
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint', 'CREATE TRIGGER a BEFORE UPDATE ON public.leads FOR EACH ROW EXECUTE FUNCTION public.hear(''first'')');
SELECT is(pg_temp.claimed(), '1:1:first', 'a trigger');
DELETE FROM public.heard;
DROP TRIGGER a ON public.leads;
SELECT leadroute.release('leads', 1);
SELECT is(pg_temp.claimed(2), '2:2', 'is gone for the next claim');
CREATE TRIGGER a BEFORE UPDATE ON public.leads FOR EACH ROW EXECUTE FUNCTION public.hear('again');
SELECT leadroute.release('leads', 1);
DELETE FROM public.heard;
INSERT INTO leadroute.rep (id, name) VALUES (3, 'Cy');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('shelf', 3);
SELECT is(pg_temp.claimed(3), '3:3:again', 'and is back for the one after');

-- rules, policies, partitions and children
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint', 'CREATE RULE r AS ON UPDATE TO public.leads DO ALSO INSERT INTO public.heard VALUES (''rule'')');
SELECT is(pg_temp.claimed(), '1:1:rule', 'a rule');
CREATE ROLE lead_owner;
GRANT ALL ON SCHEMA public TO lead_owner;
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint', 'CREATE POLICY p ON public.leads USING (true) WITH CHECK (owner_id <> 1 OR owner_id IS NULL);
    ALTER TABLE public.leads ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; ALTER TABLE public.leads OWNER TO lead_owner');
SELECT throws_ok('SELECT leadroute.claim_next(1, ''shelf'')', '42501', NULL, 'a policy that is forced on the owner of the table');
SELECT is(pg_temp.claimed(2), '2:2', 'and lets another rep have it');
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint', 'CREATE TABLE public.more (CHECK (id > 10)) INHERITS (public.leads)');
SELECT is(pg_temp.claimed(), '1:1', 'a table with children');
-- the last, since the table cannot be dropped with it pending
SELECT pg_temp.table_with('id bigint PRIMARY KEY, owner_id bigint, campaign bigint CONSTRAINT of_campaign REFERENCES public.users DEFERRABLE INITIALLY DEFERRED', NULL, '(id, campaign) VALUES (1, 77)');
SELECT throws_ok('SELECT leadroute.claim_next(1, ''shelf''); SET CONSTRAINTS ALL IMMEDIATE', '23503', NULL, 'a foreign key of another column that is checked later');
SELECT * FROM finish();
ROLLBACK;
