-- claim_next() and leads that cannot be updated: they keep nobody from the others of their queue.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

CREATE TABLE public.broken_lead (id int PRIMARY KEY, owner bigint, broken boolean NOT NULL DEFAULT false);
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann');
INSERT INTO leadroute.pool (name, mode) VALUES ('desk', 'pull');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('desk', 1);
DO $$ BEGIN PERFORM leadroute.attach('public.broken_lead', owner_column => 'owner', fallback_pool => 'desk'); END $$;
INSERT INTO public.broken_lead (id) SELECT generate_series(1, 9);
UPDATE public.broken_lead SET broken = id <= 3;
ALTER TABLE public.broken_lead ADD CONSTRAINT whole CHECK (owner IS NULL OR NOT broken);

SELECT is((SELECT lead_id FROM leadroute.claim_next(1)), '4', 'the next lead whose update does not fail');
SELECT results_eq($$ SELECT lead_id::text COLLATE "C", kind, message ~ 'violates check constraint "whole"' FROM leadroute.alert WHERE kind <> 'unmatched' ORDER BY 1 $$,
    $$ VALUES ('1' COLLATE "C", 'backlog_error', true), ('2', 'backlog_error', true), ('3', 'backlog_error', true) $$, 'those before it are told of');
SELECT is((SELECT count(*) FROM leadroute.queue WHERE lead_id IN ('1', '2', '3')), 3::bigint, 'and go on waiting');
SELECT results_eq($$ SELECT received FROM leadroute._pool_memory(0) $$, $$ VALUES (1::bigint) $$, 'their turns are returned');
SELECT throws_ok($$ SELECT leadroute.claim('broken_lead', 1, 1) $$, '23514', NULL, 'claim() says what is wrong with the lead');

CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'out of order' USING ERRCODE = 'XX123'; END $$;
CREATE TRIGGER broken BEFORE UPDATE ON public.broken_lead FOR EACH ROW EXECUTE FUNCTION broken();
SELECT throws_ok($$ SELECT leadroute.claim_next(1) $$, 'XX123', 'out of order', 'where one after the other fails, the error is raised');
SELECT is((SELECT count(*) FROM leadroute.queue), 8::bigint, 'and nothing is changed');
DROP TRIGGER broken ON public.broken_lead;
SELECT is((SELECT lead_id FROM leadroute.claim_next(1)), '5', 'nor when it has been mended');
SELECT results_eq('SELECT lost, "double", overshoot, drift, orphan FROM leadroute.verify()', $$ VALUES (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint) $$, 'the record is whole');

SELECT * FROM finish();
ROLLBACK;
