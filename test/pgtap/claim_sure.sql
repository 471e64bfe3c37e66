-- claim_next() has a subtransaction, which costs an id of its own, where the update of a lead may fail
-- for that lead alone, and none in other tables.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

CREATE TABLE public.sure_lead (id int PRIMARY KEY, note text, other int, owner bigint);
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann');
INSERT INTO leadroute.pool (name, mode) VALUES ('desk', 'pull');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('desk', 1);
DO $$ BEGIN PERFORM leadroute.attach('public.sure_lead', owner_column => 'owner', fallback_pool => 'desk'); END $$;
INSERT INTO public.sure_lead (id) SELECT generate_series(1, 100);

-- Is the next claim written under the same id as what is written beside it?
CREATE TABLE public.beside (lead text);
CREATE FUNCTION public.claims_alone() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE claimed text;
BEGIN
    SELECT c.lead_id INTO STRICT claimed FROM leadroute.claim_next(1) c;
    INSERT INTO public.beside VALUES (claimed);
    RETURN (SELECT l.xmin = b.xmin FROM public.sure_lead l, public.beside b
        WHERE b.lead = claimed AND l.id = claimed::int AND l.owner = 1);
END $$;

SELECT ok(lead_id = '1', 'the table is read with the first claim') FROM leadroute.claim_next(1);
SELECT ok(claims_alone(), 'a plain table');
CREATE INDEX by_owner ON public.sure_lead (owner);
CREATE INDEX waiting ON public.sure_lead (id) WHERE owner IS NULL;
SELECT ok(claims_alone() IS NOT NULL, 'which is read anew when it changes');
SELECT ok(claims_alone(), 'an index on the owner, and one of what has none');

-- Each of these may fail for one lead alone.
CREATE FUNCTION public.unsure(change text, undo text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE change;
    PERFORM public.claims_alone();
    RETURN NEXT ok(NOT public.claims_alone(), change);
    EXECUTE undo;
    PERFORM public.claims_alone();
    RETURN NEXT ok(public.claims_alone(), undo);
END $$;
SELECT unsure('CREATE INDEX i ON sure_lead ((100 / (id + 1)))', 'DROP INDEX i');
SELECT unsure('CREATE INDEX i ON sure_lead (id) WHERE 100 / (id + 1) > 0', 'DROP INDEX i');
SELECT unsure('CREATE INDEX i ON sure_lead (note, owner)', 'DROP INDEX i');
SELECT unsure('CREATE INDEX i ON sure_lead (note) INCLUDE (owner)', 'DROP INDEX i');
SELECT unsure('ALTER TABLE sure_lead ADD CONSTRAINT c UNIQUE (note) DEFERRABLE', 'ALTER TABLE sure_lead DROP CONSTRAINT c');
SELECT unsure('ALTER TABLE sure_lead ADD CONSTRAINT c EXCLUDE USING hash (note WITH =)', 'ALTER TABLE sure_lead DROP CONSTRAINT c');
SELECT unsure('ALTER TABLE sure_lead ADD CONSTRAINT c CHECK (id > 0)', 'ALTER TABLE sure_lead DROP CONSTRAINT c');
SELECT unsure('ALTER TABLE sure_lead ALTER note SET STORAGE plain', 'ALTER TABLE sure_lead ALTER note SET STORAGE extended');
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
SELECT unsure('CREATE TRIGGER t BEFORE UPDATE ON sure_lead FOR EACH ROW EXECUTE FUNCTION noted()', 'DROP TRIGGER t ON sure_lead');

-- A lead whose entry would become too long keeps nobody from the others.
UPDATE public.sure_lead l SET note = (SELECT left(string_agg(md5(i::text), ''), 2684) FROM generate_series(1, 84) i)
    WHERE l.id = (SELECT min(id) FROM public.sure_lead WHERE owner IS NULL);
CREATE INDEX long ON public.sure_lead (note, other, owner);
SELECT is(lead_id::int, (SELECT min(id) FROM public.sure_lead WHERE owner IS NULL AND note IS NULL), 'the lead after it')
    FROM leadroute.claim_next(1);
SELECT is((SELECT count(*) FROM leadroute.alert WHERE kind = 'backlog_error' AND message ~ 'index row size'), 1::bigint, 'it is told of');
SELECT results_eq('SELECT lost, "double", overshoot, drift, orphan FROM leadroute.verify()', $$ VALUES (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint) $$, 'the record is whole');

SELECT * FROM finish();
ROLLBACK;
