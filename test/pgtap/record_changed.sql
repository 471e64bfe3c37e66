-- A record that somebody has changed by hand: what the library cannot write or read is refused, with what
-- to do; once that is put right, leads are routed, in the same session.
SELECT plan(9);
SET client_min_messages = warning;

-- Passes when an insert is refused with the SQLSTATE, a message like the pattern, a detail and a hint.
CREATE FUNCTION pg_temp.refused(code text, pattern text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text := 'nothing'; message text; detail text; hint text;
BEGIN
    BEGIN
        INSERT INTO public.leads (region) VALUES ('x');
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    END;
    RETURN ok(state = code AND message ~ pattern AND detail <> '' AND hint <> '', pattern)
        || CASE WHEN state = code AND message ~ pattern THEN '' ELSE E'\n' || diag(state, ' ', message) END;
END
$$;

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann');
INSERT INTO leadroute.rule (lead_table, position, name, rep) VALUES ('leads', 1, 'all', 1);
CREATE FUNCTION pg_temp.routed() RETURNS text LANGUAGE sql AS
    $$ INSERT INTO public.leads (region) VALUES ('x') RETURNING is(owner_id, 1::bigint, 'a lead is routed') $$;

ALTER TABLE leadroute.assignment RENAME COLUMN offered_until TO offered;
SELECT pg_temp.refused('LR014', 'no column "offered_until"');
SELECT pg_temp.refused('LR014', 'no column "offered_until"');
ALTER TABLE leadroute.assignment RENAME COLUMN offered TO offered_until;
SELECT pg_temp.routed();

DO $$ BEGIN
    FOR i IN 1 .. 25 LOOP
        EXECUTE format('CREATE INDEX more_%s ON leadroute.assignment (decided_at)', i);
    END LOOP;
END $$;
SELECT pg_temp.refused('LR005', 'more than 24 indexes');
SELECT pg_temp.refused('LR005', 'more than 24 indexes');
DO $$ BEGIN
    FOR i IN 1 .. 25 LOOP
        EXECUTE format('DROP INDEX leadroute.more_%s', i);
    END LOOP;
END $$;
SELECT pg_temp.routed();

DROP INDEX leadroute.assignment_credited;
SELECT FROM leadroute._forget(0);
SELECT pg_temp.refused('LR005', 'no index on \(tenant, credit_ticket\)');
SELECT pg_temp.refused('LR005', 'no index on \(tenant, credit_ticket\)');
CREATE INDEX assignment_credited ON leadroute.assignment (tenant, credit_ticket) WHERE credit_ticket IS NOT NULL;
SELECT pg_temp.routed();
SELECT * FROM finish();
