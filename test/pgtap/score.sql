-- score_column: what orders leads that wait with the same priority, and how it is followed.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;
SET LOCAL leadroute.backlog = off;

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
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    END;
    RETURN ok(state = code AND message ~ pattern AND detail <> '' AND hint <> '', description)
        || CASE WHEN state = code AND message ~ pattern THEN '' ELSE E'\n' || diag(state, ' ', message) END;
END
$$;
-- the leads that wait in the pool, in the order in which they are claimed
CREATE FUNCTION pg_temp.queue(pool text DEFAULT 'shelf', lead_table text DEFAULT 'leads') RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(a.lead_id || coalesce(':' || a.score, ''), ' ' ORDER BY leadroute._place(a.label, a.at_front),
        coalesce(-a.score, 'Infinity'), a.decided_at, a.lead_id USING OPERATOR(leadroute.<#))
    FROM leadroute.assignment a JOIN leadroute.pool p ON p.id = a.pool JOIN leadroute.lead_table t ON t.id = a.lead_table
    WHERE p.name = $1 AND t.name = $2 AND a.rep IS NULL AND a.ended_at IS NULL AND a.method <> 'manual'
$$;

INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann');
INSERT INTO leadroute.pool (name, mode) VALUES ('shelf', 'pull');
INSERT INTO leadroute.pool (name) VALUES ('desk');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('shelf', 1), ('desk', 1);
CREATE TABLE public.leads (id bigint PRIMARY KEY, kind text, score numeric, other int, twice numeric GENERATED ALWAYS AS (score * 2) STORED, spot point, owner_id bigint);
SELECT pg_temp.refused(format('SELECT leadroute.attach(''public.leads'', score_column => %L)', c), 'LR003', p, 'refused: ' || c)
FROM (VALUES ('nix', 'no such column'), ('kind', 'of type text'), ('spot', 'of type point'), ('twice', 'a generated column')) AS x (c, p);
DO $$ BEGIN PERFORM leadroute.attach('public.leads', score_column => 'score'); END $$;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, label) VALUES
    ('leads', 1, 'urgent', $c$kind = 'urgent'$c$, 'shelf', '{"priority": 1}'), ('leads', 2, 'pushed', $c$kind = 'pushed'$c$, 'desk', NULL),
    ('leads', 3, 'all', 'true', 'shelf', NULL);

-- what an insert records --------------------------------------------------------------------------

INSERT INTO public.leads (id, score) VALUES (1, 5), (2, NULL), (3, 70.5), (4, 'NaN'), (5, -3);
INSERT INTO public.leads (id, kind, score) VALUES (6, 'urgent', 1);
INSERT INTO public.leads (id, score) VALUES (7, 5);
SELECT is(pg_temp.queue(), '6:1 3:70.5 1:5 7:5 5:-3 2 4', 'by priority, the highest score first, then by age; without one, or with NaN, last');
INSERT INTO public.leads (id, score) VALUES (8, 1e400), (9, '-Infinity');
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE lead_id IN ('8', '9') AND score IS NOT NULL), 0::bigint, 'what is not finite is none');
DELETE FROM public.leads WHERE id IN (4, 8, 9);
INSERT INTO public.leads (id, kind, score) VALUES (10, 'pushed', 8);
SELECT is((SELECT format('%s %s', a.rep, a.score) FROM leadroute.assignment a WHERE a.lead_id = '10'), '1 ', 'a lead that is given out has none on its record');
UPDATE leadroute.rep SET paused = true;
INSERT INTO public.leads (id, kind, score) VALUES (11, 'pushed', 8);
SELECT is(pg_temp.queue('desk'), '11:8', 'one that waits in a push pool has');
COPY public.leads (id, score) FROM stdin;
12	6
13	4
\.
SELECT is(pg_temp.queue(), '6:1 3:70.5 12:6 1:5 7:5 13:4 5:-3 2', 'COPY, too');

-- what a change does ------------------------------------------------------------------------------

UPDATE public.leads SET score = 100 WHERE id = 2;
SELECT is(pg_temp.queue(), '6:1 2:100 3:70.5 12:6 1:5 7:5 13:4 5:-3', 'a changed score');
UPDATE public.leads SET score = NULL WHERE id = 3;
UPDATE public.leads SET score = score + 1 WHERE id IN (7, 13, 10);
SELECT is(pg_temp.queue(), '6:1 2:100 7:6 12:6 1:5 13:5 5:-3 3', 'several, and one taken away');
SELECT is((SELECT a.score FROM leadroute.assignment a WHERE a.lead_id = '10'), NULL, 'a lead with a rep has none still');
SELECT is((SELECT count(*) FROM leadroute.assignment a WHERE a.ended_at IS NOT NULL AND a.lead_id NOT IN ('4', '8', '9')), 0::bigint, 'no episode ends by it');
CREATE TEMP TABLE versions AS SELECT ctid AS was, lead_id FROM leadroute.assignment;
UPDATE public.leads SET score = score, other = 1;
SELECT is((SELECT count(*) FROM leadroute.assignment a JOIN versions v USING (lead_id) WHERE a.ctid <> v.was), 0::bigint, 'a save without a change writes nothing');
UPDATE public.leads SET id = 20, score = 50 WHERE id = 12;
SELECT is(pg_temp.queue(), '6:1 2:100 20:50 7:6 1:5 13:5 5:-3 3', 'with another key at once');
CREATE ROLE lr_score_app;
GRANT SELECT, UPDATE, INSERT ON public.leads TO lr_score_app;
SET LOCAL ROLE lr_score_app;
UPDATE public.leads SET score = 101 WHERE id = 20;
RESET ROLE;
SELECT is(split_part(pg_temp.queue(), ' ', 2), '20:101', 'who writes leads needs no right on the record');
DELETE FROM public.leads WHERE id = 20;
INSERT INTO leadroute.assignment (tenant, lead_table, lead_id, rep, method, day, pool, tank_pool, tank_at)
    SELECT 0, t.id, '90', 1, 'push', current_date, p.id, p.id, now() FROM leadroute.lead_table t, leadroute.pool p WHERE p.name = 'shelf';
INSERT INTO leadroute.unmanaged_lead (lead_table, lead_id) SELECT id, '90' FROM leadroute.lead_table;
ALTER TABLE public.leads DISABLE TRIGGER zz_leadroute;
INSERT INTO public.leads (id, score, owner_id) VALUES (90, 1, 1);
ALTER TABLE public.leads ENABLE TRIGGER zz_leadroute;
UPDATE public.leads SET score = 9 WHERE id = 90;
SELECT is((SELECT a.score FROM leadroute.assignment a WHERE a.lead_id = '90'), 9::float8, 'one in the shark tank is followed, too');
DELETE FROM public.leads WHERE id = 90;

-- the column itself -------------------------------------------------------------------------------

ALTER TABLE public.leads RENAME score TO grade;
SELECT is((SELECT score_column FROM leadroute.lead_table), 'grade', 'a renamed column is followed');
UPDATE public.leads SET grade = 7 WHERE id = 5;
INSERT INTO public.leads (id, grade) VALUES (30, 6.5);
SELECT is(pg_temp.queue(), '6:1 2:100 5:7 30:6.5 7:6 1:5 13:5 3', 'and goes on');
UPDATE public.leads SET other = 10 - id WHERE id < 10;
UPDATE leadroute.lead_table SET score_column = 'other';
SELECT is(pg_temp.queue(), '6:4 1:9 2:8 3:7 5:5 7:3 13:1 30', 'another column: its values count for what waits');
UPDATE public.leads SET other = 90, grade = 0 WHERE id = 30;
SELECT is(split_part(pg_temp.queue(), ' ', 2), '30:90', 'and are followed from now on');
SELECT pg_temp.refused(format('UPDATE leadroute.lead_table SET score_column = %L', c), 'LR003', p, 'refused: ' || c)
FROM (VALUES ('nix', 'no such column'), ('kind', 'of type text'), ('twice', 'a generated column')) AS x (c, p);
UPDATE leadroute.lead_table SET score_column = NULL;
SELECT is(pg_temp.queue(), '6 1 2 3 5 7 13 30', 'none: the scores go');
SELECT hasnt_trigger('public', 'leads', 'zz_leadroute_score', 'and the trigger');
UPDATE leadroute.lead_table SET score_column = 'other';
SELECT is(pg_temp.queue(), '6:4 30:90 1:9 2:8 3:7 5:5 7:3 13:1', 'and again');
SELECT throws_ok('ALTER TABLE public.leads DROP other', '2BP01', NULL, 'a column that is followed is not dropped unnoticed');
ALTER TABLE public.leads DROP other CASCADE;
SELECT is((SELECT score_column FROM leadroute.lead_table), NULL, 'with CASCADE it is');
INSERT INTO public.leads (id, grade) VALUES (31, 1);
SELECT is((SELECT a.score FROM leadroute.assignment a WHERE a.lead_id = '31'), NULL, 'and inserts go on');

-- types, tenants, partitions, tables with leads ---------------------------------------------------

CREATE DOMAIN public.points AS real;
CREATE TABLE public.many (company int NOT NULL, id text, a smallint, b int, c bigint, d real, e double precision, f numeric, g public.points, owner_id bigint,
    PRIMARY KEY (company, id)) PARTITION BY HASH (id);
CREATE TABLE public.many_0 PARTITION OF public.many FOR VALUES WITH (MODULUS 2, REMAINDER 0);
-- its columns stand elsewhere
CREATE TABLE public.many_1 (owner_id bigint, id text NOT NULL, gone int, g public.points, f numeric, e double precision, d real, c bigint, b int, a smallint, company int NOT NULL);
ALTER TABLE public.many_1 DROP gone;
ALTER TABLE public.many ATTACH PARTITION public.many_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO leadroute.pool (tenant, name, mode) VALUES (7, 'shelf', 'pull');
INSERT INTO public.many (company, id, b) VALUES (7, 'old', 5), (7, 'older', NULL);
DO $$ BEGIN PERFORM leadroute.attach('public.many', tenant_column => 'company', score_column => 'b', existing => 'queue', fallback_pool => 'shelf'); END $$;
SELECT is(pg_temp.queue(lead_table => 'many'), 'old:5 older', 'leads that are there when the table is attached');
CREATE TEMP TABLE outcome (type text, scores text);
DO $$
DECLARE
    c name;
BEGIN
    FOREACH c IN ARRAY '{a,b,c,d,e,f,g}'::name[] LOOP
        UPDATE leadroute.lead_table SET score_column = c WHERE name = 'many';
        EXECUTE format('INSERT INTO public.many (company, id, %1$I) SELECT 7, %1$L || i, 10 * i FROM generate_series(1, 4) i', c);
        EXECUTE format('UPDATE public.many SET %1$I = 50 WHERE id = %1$L || 2', c);
        INSERT INTO outcome SELECT c, string_agg(a.score::text, ' ' ORDER BY a.lead_id) FROM leadroute.assignment a WHERE a.tenant = 7 AND a.lead_id LIKE c || '_';
    END LOOP;
END $$;
SELECT is((SELECT array_agg(DISTINCT o.scores) FROM outcome o), '{10 50 30 40}', 'every number type, in every partition');
SELECT is((SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan)::text FROM leadroute.verify(7) v), '(0,0,0,0,0)', 'verify() finds nothing');
SELECT leadroute.detach('many');
SELECT hasnt_trigger('public', 'many', 'zz_leadroute_score', 'detach() takes the trigger away');

SELECT leadroute.create_lead_table('public.standard');
SELECT is((SELECT score_column FROM leadroute.lead_table WHERE name = 'standard'), 'score', 'create_lead_table() names its score');
SELECT has_trigger('public', 'standard', 'zz_leadroute_score', 'and follows it');

SELECT * FROM finish();
ROLLBACK;
