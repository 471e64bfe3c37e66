-- events_since(): how much of the record it reads. What it returns is tested with listeners (test/t).
SELECT no_plan();
SET client_min_messages = warning;

SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) SELECT i, 'Rep ' || i FROM generate_series(1, 1000) i;
INSERT INTO leadroute.pool (name) VALUES ('team');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'team', i FROM generate_series(1, 1000) i;
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'team', 'team');
-- While the record is empty: its indexes are held for empty from now on, so that the planner takes any.
ANALYZE leadroute.assignment;
CREATE TEMP TABLE start AS SELECT leadroute.event_cursor() AS cursor;
INSERT INTO public.leads (region) SELECT 'x' FROM generate_series(1, 1000);
-- two reps have no open lead, two an open and an ended one
DO $$ BEGIN PERFORM leadroute.close('leads', i::text, 'won') FROM generate_series(1, 4) i; END $$;
INSERT INTO public.leads (region) SELECT 'x' FROM generate_series(1, 1000);
DO $$ BEGIN PERFORM leadroute.close('leads', i::text, 'won') FROM generate_series(1001, 1002) i; END $$;

-- Rows and index entries of the record that the session has read since its last report.
CREATE FUNCTION pg_temp.read_of_record() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT pg_stat_get_xact_tuples_returned('leadroute.assignment'::regclass)
        + (SELECT sum(pg_stat_get_xact_tuples_returned(i.indexrelid))::bigint FROM pg_index i
           WHERE i.indrelid = 'leadroute.assignment'::regclass)
$$;
BEGIN;
CREATE TEMP TABLE before ON COMMIT DROP AS SELECT pg_temp.read_of_record() AS tuples;
SELECT is(string_agg(e.kind || ' ' || e.many, ', ' ORDER BY e.kind), 'assigned 2000, closed 6', 'what a cursor has not seen')
FROM (SELECT e.event ->> 'event' AS kind, count(*) AS many
      FROM start, leadroute.events_since(start.cursor) e GROUP BY 1) e;
SELECT cmp_ok(pg_temp.read_of_record() - before.tuples, '<', 20000::bigint,
    'events_since() reads the record once, not once for each rep')
FROM before;
COMMIT;
SELECT * FROM finish();
