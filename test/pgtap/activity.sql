-- touch() and close(): what reps do with their leads.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

CREATE FUNCTION pg_temp.kept(tenant bigint DEFAULT 0) RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify(tenant) v
$$;
CREATE FUNCTION pg_temp.episodes(lead_table text, lead_id text, tenant bigint DEFAULT 0) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s:%s:%s:%s', d.episode, coalesce(d.rep::text, '-'), d.status, coalesce(d.end_reason, 'open')), ' '
        ORDER BY d.episode)
    FROM leadroute.decision d WHERE d.lead_table = $1 AND d.lead_id = $2 AND d.tenant = $3
$$;
-- "SQLSTATE message", with a detail and a hint, or what else became of it
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN state || ' ' || message || CASE WHEN detail = '' OR hint = '' THEN ' (without detail or hint)' ELSE '' END;
END
$$;

INSERT INTO leadroute.rep (tenant, id, name) VALUES (0, 1, 'Ann'), (0, 2, 'Bob'), (5, 1, 'Eve');
INSERT INTO leadroute.pool (tenant, name) VALUES (0, 'team'), (0, 'none'), (5, 'team');
INSERT INTO leadroute.pool_member (tenant, pool, rep) VALUES (0, 'team', 1), (5, 'team', 1);
DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
    ('leads', 1, 'none', $c$region = 'none'$c$, 'none'), ('leads', 2, 'team', 'true', 'team');
INSERT INTO public.leads (region) VALUES ('x'), ('x'), ('none'), ('none'), ('x'), ('x');

-- touch ---------------------------------------------------------------------------------------------

SELECT lives_ok($$ SELECT leadroute.touch('leads', 1, 'call', 'no answer', '{"recording": "https://r.example.org/1"}') $$, 'a touch');
SELECT is(pg_temp.episodes('leads', '1'), '1:1:working:open', 'the lead is worked on');
SELECT results_eq($$ SELECT lead_table, lead_id, episode, kind, rep, p.name, channel, disposition, details ->> 'recording', done_by
        FROM leadroute.activity a JOIN leadroute.pool p ON p.id = a.pool $$,
    $$ VALUES ((SELECT id FROM leadroute.lead_table), '1' COLLATE "C", 1, 'touch', 1::bigint, 'team', 'call', 'no answer', 'https://r.example.org/1', 'postgres') $$,
    'activity tells of it');
SELECT is((SELECT touched_at FROM leadroute.open_assignment WHERE lead_id = '1'), (SELECT at FROM leadroute.activity), 'the first touch is on the record');
DO $$ BEGIN PERFORM leadroute.touch('leads', 1::bigint, 'message'), leadroute.touch('leads', '1', 'visit', 'interested'); END $$;
SELECT is((SELECT string_agg(channel, ' ' ORDER BY at) FROM leadroute.activity), 'call message visit', 'each touch is kept');
SELECT is((SELECT touched_at FROM leadroute.open_assignment WHERE lead_id = '1'), (SELECT min(at) FROM leadroute.activity), 'the first one stays the first');
DO $$ BEGIN PERFORM leadroute.reassign('leads', 1, 2), leadroute.touch('leads', 1, 'call'); END $$;
SELECT is(pg_temp.episodes('leads', '1'), '1:1:ended:reassigned 2:2:working:open', 'the next rep''s touch');
SELECT is((SELECT string_agg(episode || ':' || rep, ' ' ORDER BY at) FROM leadroute.activity), '1:1 1:1 1:1 2:2', 'is of the next episode');
UPDATE public.leads SET id = 1001 WHERE id = 1;
SELECT is((SELECT string_agg(DISTINCT lead_id, ' ') FROM leadroute.activity), '1001', 'a changed key takes its activity along');

SELECT is(pg_temp.refusal(statement), refusal, statement) FROM (VALUES
    ($$ SELECT leadroute.touch('leads', 3, 'call') $$, 'LR010 lead 3 of "leads" has nobody to touch it'),
    ($$ SELECT leadroute.touch('leads', 99, 'call') $$, 'LR007 there is no lead 99 in "leads"'),
    ($$ SELECT leadroute.touch('leads', 'x', 'call') $$, 'LR007 there is no lead x in "leads"'),
    ($$ SELECT leadroute.touch('leads', NULL::int, 'call') $$, 'LR007 there is no lead NULL in "leads"'),
    ($$ SELECT leadroute.touch('leads', 2, 'call', tenant => 5) $$, 'LR007 there is no lead 2 in "leads"'),
    ($$ SELECT leadroute.touch('no', 2, 'call') $$, 'LR002 lead table "no" is not attached'),
    ($$ SELECT leadroute.touch('leads', 2, ' ') $$, 'LR005 a touch needs a channel'),
    ($$ SELECT leadroute.touch('leads', 2, NULL) $$, 'LR005 a touch needs a channel')) v (statement, refusal);

-- close ---------------------------------------------------------------------------------------------

SELECT lives_ok($$ SELECT leadroute.close('leads', 2, 'won', 1200.50) $$, 'close');
SELECT is(pg_temp.episodes('leads', '2'), '1:1:closed:closed', 'the episode ends as closed');
SELECT results_eq($$ SELECT outcome, value, ended_at IS NOT NULL FROM leadroute.assignment WHERE lead_id = '2' $$, $$ VALUES ('won', 1200.50, true) $$, 'with outcome and value');
SELECT results_eq($$ SELECT episode, kind, channel, disposition, details FROM leadroute.activity WHERE lead_id = '2' $$, $$ VALUES (1, 'close', NULL, 'won', '{"value": 1200.50}'::jsonb) $$, 'activity tells of it');
SELECT is((SELECT owner_id FROM public.leads WHERE id = 2), 1::bigint, 'the lead keeps its owner');
SELECT is((SELECT open FROM leadroute.pool_state WHERE tenant = 0 AND rep = 1 AND pool = 'team'), 2::bigint, 'who has one lead less open');
SELECT matches(leadroute.why('leads', 2), 'Ended at .*: closed, won, value 1200.50', 'why() says so');
SELECT is(leadroute.why_json('leads', 2) ->> 'outcome', 'won', 'and why_json()');
SELECT is(pg_temp.refusal(statement), refusal, statement) FROM (VALUES
    ($$ SELECT leadroute.close('leads', 2, 'lost') $$, 'LR007 lead 2 of "leads" is closed'),
    ($$ SELECT leadroute.touch('leads', 2, 'call') $$, 'LR007 lead 2 of "leads" is closed'),
    ($$ SELECT leadroute.reassign('leads', 2, 2) $$, 'LR007 lead 2 of "leads" is closed'),
    ($$ SELECT leadroute.close('leads', 99, 'lost') $$, 'LR007 there is no lead 99 in "leads"'),
    ($$ SELECT leadroute.close('leads', 5, '') $$, 'LR005 a closed lead needs an outcome'),
    ($$ SELECT leadroute.close('leads', 5, NULL) $$, 'LR005 a closed lead needs an outcome'),
    ($$ SELECT leadroute.close('leads', 5, 'won', 'NaN') $$, 'LR005 NaN is not the value of a lead')) v (statement, refusal);
SELECT is(pg_temp.episodes('leads', '5'), '1:1:assigned:open', 'what is refused leaves no trace');
SELECT lives_ok($$ SELECT leadroute.close('leads', 3, 'spam') $$, 'a lead that waits can be closed');
SELECT is((SELECT count(*) FROM leadroute.queue), 1::bigint, 'and leaves its queue');

UPDATE public.leads SET owner_id = 2 WHERE id = 2;
SELECT is(pg_temp.episodes('leads', '2'), '1:1:closed:closed 2:2:assigned:open', 'another owner opens a closed lead again');
DO $$ BEGIN PERFORM leadroute.close('leads', 2, 'lost'); END $$;
UPDATE public.leads SET owner_id = NULL WHERE id = 2;
SELECT is(pg_temp.episodes('leads', '2'), '1:1:closed:closed 2:2:closed:closed 3:-:waiting:open', 'so does none');
DO $$ BEGIN PERFORM leadroute.close('leads', 5, 'lost'); END $$;
UPDATE public.leads SET region = 'other' WHERE id = 5;
DELETE FROM public.leads WHERE id = 5;
SELECT is(pg_temp.episodes('leads', '5'), '1:1:closed:closed', 'a closed lead that is deleted stays closed on the record');
SELECT ok(pg_temp.kept(), 'verify() is all 0');
INSERT INTO public.leads (id, region) VALUES (5, 'x');
DO $$ BEGIN PERFORM leadroute.touch('leads', 5, 'call'), leadroute.close('leads', 5, 'won'); END $$;
SELECT is((SELECT string_agg(episode || ':' || kind, ' ' ORDER BY at) FROM leadroute.activity WHERE lead_id = '5'), '1:close 2:touch 2:close', 'a key that was used before counts on');

-- Partitions: a row that moves is not a new lead ----------------------------------------------------

CREATE TABLE public.parts (id bigint PRIMARY KEY, owner_id bigint) PARTITION BY RANGE (id);
CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM (0) TO (100);
CREATE TABLE public.parts_2 PARTITION OF public.parts FOR VALUES FROM (100) TO (200);
INSERT INTO public.parts VALUES (1, 7), (2, NULL);
DO $$ BEGIN PERFORM leadroute.attach('public.parts', existing => 'ignore'); END $$;
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('parts', 1, 'all', 'team');
INSERT INTO public.parts (id) VALUES (3);
DO $$ BEGIN PERFORM leadroute.touch('parts', 3, 'call'), leadroute.close('parts', 3, 'won'); END $$;
UPDATE public.parts SET id = id + 100;
SELECT is(pg_temp.episodes('parts', '103'), '1:1:closed:closed', 'a closed lead stays closed');
SELECT is(pg_temp.episodes('parts', '101'), NULL, 'one that was left alone at attach() stays so');
SELECT is((SELECT owner_id FROM public.parts WHERE id = 102), NULL, 'also without an owner');
DELETE FROM public.parts WHERE id = 103;
MERGE INTO public.parts p USING (VALUES (103), (104)) n (id) ON p.id = n.id
    WHEN NOT MATCHED THEN INSERT (id) VALUES (n.id) WHEN MATCHED THEN UPDATE SET owner_id = p.owner_id;
SELECT is((SELECT count(*) FROM public.parts WHERE owner_id = 1), 1::bigint, 'MERGE of new leads routes them');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- Tenants and roles ---------------------------------------------------------------------------------

CREATE TABLE public.company_lead (company bigint, id uuid, owner_id bigint, PRIMARY KEY (company, id));
DO $$ BEGIN PERFORM leadroute.attach('public.company_lead', tenant_column => 'company', fallback_pool => 'team'); END $$;
INSERT INTO public.company_lead VALUES (5, '00000000-0000-0000-0000-000000000001', NULL), (0, '00000000-0000-0000-0000-000000000001', NULL);
DO $$ BEGIN
    PERFORM leadroute.touch('company_lead', '00000000-0000-0000-0000-000000000001'::uuid, 'call', tenant => 5);
    PERFORM leadroute.close('company_lead', '00000000-0000-0000-0000-000000000001', 'won', tenant => 5);
END $$;
SELECT is((SELECT string_agg(tenant || kind, ' ' ORDER BY at) FROM leadroute.activity WHERE lead_id ~ '^0{8}-'), '5touch 5close', 'the tenant''s lead alone');
SELECT ok(pg_temp.kept(5), 'verify() is all 0');

CREATE ROLE lr_ann; CREATE ROLE lr_bob; CREATE ROLE lr_boss; CREATE ROLE lr_app;
DO $$ BEGIN PERFORM leadroute.grant_access('lr_ann', 'rep'), leadroute.grant_access('lr_bob', 'rep'),
    leadroute.grant_access('lr_boss', 'manager'), leadroute.grant_access('lr_app', 'app'); END $$;
INSERT INTO leadroute.rep (id, name, db_role) VALUES (3, 'Boss', 'lr_boss'), (4, 'Ann', 'lr_ann'), (6, 'Bob', 'lr_bob');
UPDATE leadroute.rep SET manager = 3 WHERE id = 4;
INSERT INTO public.leads (id, owner_id) VALUES (501, 4), (502, 6), (503, 4), (504, 6);
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
SELECT is(pg_temp.as_role(role, format('SELECT leadroute.touch(''leads'', %s, ''call'')', lead)), answer, format('%s touches %s', role, lead))
FROM (VALUES ('lr_ann', 501, NULL), ('lr_ann', 502, 'LR007'), ('lr_ann', 3, 'LR007'), ('lr_boss', 501, NULL), ('lr_boss', 502, 'LR007'), ('lr_app', 502, NULL), ('lr_app', 999, 'LR007')) v (role, lead, answer);
SELECT is((SELECT string_agg(done_by, ' ' ORDER BY at) FROM leadroute.activity WHERE lead_id IN ('501', '502')), 'lr_ann lr_boss lr_app', 'who did it is kept');
SELECT is(pg_temp.as_role(role, format('SELECT leadroute.close(''leads'', %s, ''won'')', lead)), answer, format('%s closes %s', role, lead))
FROM (VALUES ('lr_bob', 503, 'LR007'), ('lr_boss', 504, 'LR007'), ('lr_boss', 503, NULL), ('lr_bob', 504, NULL), ('lr_bob', 504, 'LR007')) v (role, lead, answer);
UPDATE public.leads SET owner_id = 6 WHERE id = 501;
SELECT is(pg_temp.as_role(role, 'SELECT string_agg(lead_id || kind, '' '' ORDER BY at) FROM leadroute.activity WHERE lead_id ~ ''^50''') , sees, role || ' sees')
FROM (VALUES ('lr_ann', '501touch 501touch 503close'), ('lr_bob', '501touch 501touch 502touch 504close'), ('lr_boss', '501touch 501touch 503close'),
    ('lr_app', '501touch 501touch 502touch 503close 504close')) v (role, sees);
SELECT ok(pg_temp.kept(), 'verify() is all 0');

SELECT * FROM finish();
ROLLBACK;
