-- reassign(), release(), route(): what people do to a lead.
BEGIN;
SELECT plan(72);
SET LOCAL client_min_messages = warning;

CREATE FUNCTION pg_temp.kept(tenant bigint DEFAULT 0) RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify(tenant) v
$$;
CREATE FUNCTION pg_temp.episodes(lead_table text, lead_id text, tenant bigint DEFAULT 0) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s:%s:%s:%s', d.episode, coalesce(d.rep::text, '-'), d.method, coalesce(d.end_reason, 'open')), ' '
        ORDER BY d.episode)
    FROM leadroute.decision d WHERE d.lead_table = $1 AND d.lead_id = $2 AND d.tenant = $3
$$;
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

SELECT ok(pg_temp.kept(), 'verify() is all 0 where there is nothing');
INSERT INTO leadroute.rep (tenant, id, name, ref, daily_cap) VALUES (0, 1, 'Ann', 'ann', NULL), (0, 2, 'Bob', 'bob', 2), (0, 3, 'Cy', NULL, NULL), (5, 1, 'Eve', NULL, NULL);
INSERT INTO leadroute.pool (tenant, name) VALUES (0, 'team'), (0, 'none'), (5, 'team');
INSERT INTO leadroute.pool_member (tenant, pool, rep) VALUES (0, 'team', 1), (5, 'team', 1);
DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, label) VALUES
    ('leads', 1, 'none', $c$region = 'none'$c$, 'none', NULL), ('leads', 2, 'team', $c$region = 'team'$c$, 'team', '{"product": "it''s", "name": null}');
INSERT INTO public.leads (region, name) VALUES ('team', 'a'), ('team', 'b'), ('none', 'c'), ('nowhere', 'd'), ('team', 'e'), ('team', 'f');

-- An app's own triggers run with the app's search_path and as who calls.
CREATE TABLE public.audit (line text);
CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit VALUES (NEW.id || ' ' || coalesce(NEW.owner_id, 0));
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON public.leads FOR EACH ROW EXECUTE FUNCTION public.audit();

-- reassign ------------------------------------------------------------------------------------------

SELECT results_eq($$ SELECT lead_id, episode, rep, method, pool, given_by, remark, ended_at FROM leadroute.reassign('leads', 1, 2, 'knows them') $$,
    $$ VALUES ('1' COLLATE "C", 2, 2::bigint, 'manual', NULL::int, 'postgres', 'knows them', NULL::timestamptz) $$, 'reassign() returns the new episode');
SELECT is((SELECT owner_id FROM public.leads WHERE id = 1), 2::bigint, 'the lead has its owner');
SELECT is(pg_temp.episodes('leads', '1'), '1:1:push:reassigned 2:2:manual:open', 'one episode follows, no second');
SELECT is((SELECT array_agg(line) FROM public.audit), '{1 2}', 'triggers of the table run once, as in an UPDATE');
SELECT is((SELECT used FROM leadroute._day_memory(0) WHERE rep = 2), 1, 'it counts as used');
SELECT is((SELECT reason FROM leadroute.decision WHERE lead_id = '1' AND status = 'assigned'), 'owner given by hand: knows them', 'decision says why');
SELECT matches(leadroute.why('leads', 1), 'postgres gave it this owner by hand: counted.*\n  Remark: knows them', 'why() says who and why');
SELECT is(leadroute.why_json('leads', 1) ->> 'given_by', 'postgres', 'and why_json()');
SELECT is((leadroute.reassign('leads', 2::bigint, 2)).rep, 2::bigint, 'bigint');
SELECT is((leadroute.reassign('leads', '5', 2)).rep, 2::bigint, 'an unknown literal; beyond the cap');
SELECT is((SELECT array_agg(pg_temp.episodes('leads', id)) FROM unnest('{1,2,5}'::text[]) id),
    '{1:1:push:reassigned 2:2:manual:open,1:1:push:reassigned 2:2:manual:open,1:1:push:reassigned 2:2:manual:open}', 'three of a cap of two');
SELECT ok(pg_temp.kept(), 'verify() is all 0');
SELECT is((leadroute.reassign('leads', 3, 3)).rep, 3::bigint, 'a lead that waits');
SELECT is(pg_temp.episodes('leads', '3'), '1:-:push:reassigned 2:3:manual:open', 'and does so no more');
SELECT is((leadroute.reassign('leads', 1, 1)).episode, 3, 'and on to another');
UPDATE public.leads SET owner_id = 77 WHERE id = 6;
SELECT is((leadroute.reassign('leads', 6, 1)).rep, 1::bigint, 'from somebody who is no rep');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', 1, 1) $$, 'LR009', 'is rep 1''s already', 'the rep has it already');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('nix', 1, 1) $$, 'LR002', 'not attached', 'an unknown table');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', 99, 1) $$, 'LR007', 'no lead 99', 'an unknown lead');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', 'x', 1) $$, 'LR007', 'no lead x', 'not a key');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', '99999999999999999999', 1) $$, 'LR007', 'no lead 9', 'beyond all keys');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', '00000000-0000-0000-0000-00000000000b'::uuid, 1) $$, 'LR007', 'no lead 0', 'another type''s');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', NULL::integer, 1) $$, 'LR007', 'no lead NULL', 'no lead');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', 1, 99) $$, 'LR008', 'no rep 99', 'an unknown rep');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', 1, NULL) $$, 'LR008', 'no rep NULL', 'no rep');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', 1, 2, NULL, 5) $$, 'LR008', 'no rep 2', 'a rep of another tenant');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', 1, 1, NULL, 5) $$, 'LR007', 'no lead 1', 'a lead of another tenant');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', 1, 1, NULL, NULL) $$, 'LR008', 'no rep', 'no tenant');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- release ---------------------------------------------------------------------------------------------

INSERT INTO public.leads (region) VALUES ('team'), ('team');
SELECT results_eq($$ SELECT episode, rep, pool, rule, given_by, remark FROM leadroute.release('leads', 7, 'on leave') $$,
    $$ SELECT 2, NULL::bigint, p.id, r.id, 'postgres', 'on leave' FROM leadroute.pool p, leadroute.rule r WHERE p.tenant = 0 AND p.name = 'team' AND r.name = 'team' $$,
    'release() returns the episode that waits: in the queue of its pool');
SELECT is((SELECT owner_id FROM public.leads WHERE id = 7), NULL, 'the lead has no owner');
SELECT is((SELECT queue || ', ' || reason FROM leadroute.queue WHERE lead_id = '7'), 'team, released by hand: on leave', 'the queue shows it');
SELECT matches(leadroute.why('leads', 7), 'released by hand: postgres took the owner away.*Remark: on leave', 'and why()');
SELECT is((leadroute.release('leads', 7, 'again')).episode, 2, 'released twice: nothing happens');
SELECT is(pg_temp.episodes('leads', '7'), '1:1:push:released 2:-:push:open', 'one episode each');
SELECT is((leadroute.release('leads', 3::bigint)).pool, (SELECT id FROM leadroute.pool WHERE tenant = 0 AND name = 'none'), 'what was given by hand: to the pool it came from');
SELECT pg_temp.refused($$ SELECT leadroute.release('leads', 99) $$, 'LR007', 'no lead 99', 'an unknown lead');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- route -------------------------------------------------------------------------------------------------

-- as if somebody else had given it up (release.sql)
UPDATE leadroute.assignment SET avoid = '{2}' WHERE lead_id = '7' AND ended_at IS NULL;
SELECT results_eq($$ SELECT episode, rep, method, pool IS NOT NULL, day IS NOT NULL FROM leadroute.route('leads', 7) $$,
    $$ VALUES (3, 1::bigint, 'backlog', true, true) $$, 'route() gives a lead that waits to whose turn it is');
SELECT is((SELECT owner_id || product FROM public.leads WHERE id = 7), '1it''s', 'with its owner and label');
SELECT is(pg_temp.episodes('leads', '7'), '1:1:push:released 2:-:push:routed 3:1:backlog:open', 'one episode, no second');
SELECT matches(leadroute.why('leads', 7), 'Rule "team" .* was the first to match\.\n.*First in turn of 1', 'why() explains it as an insert');
UPDATE public.leads SET region = 'nowhere' WHERE id = 3;
SELECT is((SELECT count(*) FROM leadroute.route('leads', 3)), 1::bigint, 'no rule is its own now');
SELECT is((SELECT queue FROM leadroute.queue WHERE lead_id = '3'), 'unmatched', 'there it waits');
SELECT is((SELECT count(*) FROM leadroute.route('leads', 3)), 0::bigint, 'and goes on waiting');
SELECT is(pg_temp.episodes('leads', '3'), '1:-:push:reassigned 2:3:manual:released 3:-:push:routed 4:-:backlog:open', 'without another episode');
CREATE TEMP TABLE before AS SELECT * FROM leadroute.stat;
SELECT is((SELECT count(*) FROM leadroute.route('leads', 4)), 0::bigint, 'no rule: it goes on waiting');
SELECT results_eq('SELECT * FROM leadroute.stat', 'SELECT * FROM before', 'and nothing is counted');
SELECT pg_temp.refused($$ SELECT leadroute.route('leads', 7) $$, 'LR009', 'does not wait', 'who has an owner does not wait');
SELECT pg_temp.refused($$ SELECT leadroute.route('leads', 99) $$, 'LR007', 'no lead 99', 'an unknown lead');
SELECT ok(pg_temp.kept(), 'verify() is all 0');
SAVEPOINT a;
SELECT count(*) FROM leadroute.reassign('leads', 8, 2), leadroute.release('leads', 8), leadroute.route('leads', 8) \gset
SELECT is((SELECT received FROM leadroute._pool_memory(0)), 8::bigint, 'a turn more');
ROLLBACK TO a;
SELECT is((SELECT received FROM leadroute._pool_memory(0)), 7::bigint, 'goes back with a savepoint');
SELECT is((SELECT owner_id FROM public.leads WHERE id = 8), 1::bigint, 'so does the owner');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- Other tables --------------------------------------------------------------------------------------------

CREATE TABLE public.by_ref (company bigint, id uuid, "Owner" text, PRIMARY KEY (company, id)) PARTITION BY HASH (id);
CREATE TABLE public.by_ref_0 PARTITION OF public.by_ref FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.by_ref_1 ("Owner" text, gone int, id uuid NOT NULL, company bigint NOT NULL);
ALTER TABLE public.by_ref_1 DROP gone;
ALTER TABLE public.by_ref ATTACH PARTITION public.by_ref_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
DO $$ BEGIN PERFORM leadroute.attach('public.by_ref', owner_column => 'Owner', tenant_column => 'company', fallback_pool => 'team'); END $$;
INSERT INTO public.by_ref SELECT 0, ('00000000-0000-0000-0000-00000000000' || n)::uuid FROM generate_series(1, 6) n;
SELECT is((SELECT count(*) FROM public.by_ref WHERE "Owner" = 'ann'), 6::bigint, 'refs, partitions, tenants');
SELECT is((SELECT string_agg((leadroute.reassign('by_ref', id, 2)).rep::text, '' ORDER BY id) FROM public.by_ref), '222222', 'reassign()');
SELECT is((SELECT count(*) FROM public.by_ref WHERE "Owner" = 'bob'), 6::bigint, 'writes the ref');
SELECT is((SELECT count((leadroute.release('by_ref', id::text)).episode) FROM public.by_ref), 6::bigint, 'release()');
SELECT is((SELECT count(*) FROM public.by_ref l, leadroute.route('by_ref', l.id) r WHERE r.rep = 1), 6::bigint, 'route()');
SELECT is((SELECT count(*) FROM public.by_ref WHERE "Owner" = 'ann'), 6::bigint, 'writes the ref');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('by_ref', '00000000-0000-0000-0000-000000000001', 3) $$, 'LR010', 'cannot be given to rep 3', 'a rep without a ref');
INSERT INTO public.by_ref VALUES (5, '00000000-0000-0000-0000-000000000001', 'x');
SELECT is((leadroute.release('by_ref', '00000000-0000-0000-0000-000000000001'::uuid, NULL, 5)).tenant, 5::bigint, 'another tenant''s lead of the same key');
SELECT is(pg_temp.episodes('by_ref', '00000000-0000-0000-0000-000000000001'), '1:1:push:reassigned 2:2:manual:released 3:-:push:routed 4:1:backlog:open', 'not this one''s');
SELECT ok(pg_temp.kept() AND pg_temp.kept(5), 'verify() is all 0');

-- A table that resists ------------------------------------------------------------------------------------

CREATE FUNCTION public.resist() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.email WHEN 'keep' THEN NEW.owner_id := OLD.owner_id; WHEN 'drop' THEN RETURN NULL; WHEN 'other' THEN NEW.owner_id := 3; ELSE END CASE;
    RETURN NEW;
END $$;
CREATE TRIGGER resist BEFORE UPDATE ON public.leads FOR EACH ROW EXECUTE FUNCTION public.resist();
INSERT INTO public.leads (id, region, email) VALUES (20, 'team', 'keep'), (21, 'team', 'drop'), (22, 'team', 'other');
SELECT pg_temp.refused($$ SELECT leadroute.reassign('leads', 20, 2) $$, 'LR010', 'did not change', 'a trigger that keeps the owner');
SELECT pg_temp.refused($$ SELECT leadroute.release('leads', 21) $$, 'LR010', 'did not change', 'or drops the row');
SELECT is((leadroute.reassign('leads', 22, 2)).rep, 3::bigint, 'one that names another owner is the app''s choice');
SELECT is(pg_temp.episodes('leads', '22'), '1:1:push:reassigned 2:2:manual:manual 3:3:manual:open', 'and recorded');
CREATE TABLE public.old (id int PRIMARY KEY, owner_id bigint);
INSERT INTO public.old VALUES (1, 1);
DO $$ BEGIN PERFORM leadroute.attach('public.old', existing => 'ignore'); END $$;
SELECT pg_temp.refused($$ SELECT leadroute.reassign('old', 1, 2) $$, 'LR007', 'has no record', 'a lead that is left alone');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

SELECT * FROM finish();
ROLLBACK;
