-- Who may call and see what: every function and view with a role of each level, and without one.
-- A new function or view without a line below fails the test; sweep(), which commits, is in test/t/110_backlog.pl.
BEGIN;
SELECT no_plan();

CREATE ROLE lr_none;                              -- no access
CREATE ROLE lr_usage;                             -- none, but somebody opened the schema
CREATE ROLE lr_app; CREATE ROLE lr_admin; CREATE ROLE lr_boss; CREATE ROLE lr_ann; CREATE ROLE lr_bob;
CREATE ROLE lr_reps; GRANT lr_reps TO lr_ann, lr_bob;
CREATE ROLE lr_other;                             -- admin of another tenant
CREATE ROLE lr_insert;                            -- may insert leads, and nothing else
GRANT USAGE ON SCHEMA leadroute TO lr_usage;

DO $$ BEGIN
    PERFORM leadroute.create_lead_table('public.leads');
    PERFORM leadroute.create_lead_table('public.spare');
END $$;
CREATE TABLE public.company_lead (company bigint, id int, owner_id bigint, PRIMARY KEY (company, id));
DO $$ BEGIN PERFORM leadroute.attach('public.company_lead', tenant_column => 'company', fallback_pool => 'team'); END $$;
INSERT INTO leadroute.rep (id, name, db_role) VALUES (1, 'Ann', 'lr_ann'), (2, 'Bob', 'lr_bob'), (3, 'Cho', NULL), (4, 'Boss', 'lr_boss'), (5, 'Top', NULL);
UPDATE leadroute.rep SET manager = 4 WHERE id = 1;
INSERT INTO leadroute.rep (tenant, id, name, db_role) VALUES (7, 1, 'Gil', 'lr_ann');
INSERT INTO leadroute.pool (name, manager) VALUES ('team', NULL), ('bosses', 4);
INSERT INTO leadroute.pool (tenant, name) VALUES (7, 'team');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1), ('team', 2), ('bosses', 3);
INSERT INTO leadroute.pool_member (tenant, pool, rep) VALUES (7, 'team', 1);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
    ('leads', 1, 'web', $$source = 'web'$$, 'team'), ('leads', 2, 'phone', $$source = 'phone'$$, 'bosses');
DO $$ BEGIN
    PERFORM leadroute.grant_access('lr_reps', 'rep'), leadroute.grant_access('lr_app', 'app'),
        leadroute.grant_access('lr_boss', 'manager'), leadroute.grant_access('lr_admin', 'admin', NULL),
        leadroute.grant_access('lr_other', 'admin', 7);
END $$;
-- 1, 3: Ann's; 2: Bob's; 4: Cho's, from the boss's pool; 5: waits, unmatched
INSERT INTO public.leads (source) VALUES ('web'), ('web'), ('web'), ('phone'), ('mail');
INSERT INTO public.company_lead (company, id) VALUES (7, 1);
GRANT INSERT ON public.leads TO lr_insert;
-- what it takes on the lead table itself, also for the one without a level
GRANT SELECT (id, owner_id), UPDATE (owner_id) ON public.leads TO lr_usage, lr_app, lr_admin, lr_boss, lr_reps, lr_other;
GRANT SELECT ON public.spare TO lr_usage, lr_app, lr_admin, lr_boss, lr_reps, lr_other;  -- replay() reads the table
UPDATE leadroute.lead_table SET manager = 4 WHERE name = 'leads';  -- the boss sees 5

INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 4);  -- whom a rep may hand a lead over to
INSERT INTO leadroute.pool (name, mode) VALUES ('pull', 'pull');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('pull', 1);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 3, 'chat', $$source = 'chat'$$, 'pull');
INSERT INTO public.leads (source) VALUES ('chat');  -- 6: to be claimed by Ann

INSERT INTO leadroute.alert (id, kind, rep, manager, message) VALUES (1001, 'sla_breach', 1, 4, 'for the boss, about Ann');

-- The matrix --------------------------------------------------------------------------------------
--
-- object: signature of a function, or name of a view · allowed: the levels, besides the superuser ·
-- call: what they do. Runs in a subtransaction that is rolled back.

CREATE TEMP TABLE matrix (object text PRIMARY KEY, allowed text, call text);
INSERT INTO matrix VALUES
    ('attach(regclass,text,name,name,text,text,bigint,text,interval,name[],name,text,boolean,name)', '', $$SELECT leadroute.attach('public.leads')$$),
    ('create_lead_table(text,name)', '', $$SELECT leadroute.create_lead_table('public.new')$$),
    ('detach(text)', '', $$SELECT leadroute.detach('spare')$$),
    ('grant_access(regrole,text,bigint)', '', $$SELECT leadroute.grant_access(current_user::regrole, 'admin')$$),
    ('revoke_access(regrole,text,bigint)', '', $$SELECT leadroute.revoke_access('lr_app', 'app')$$),
    ('placement(regclass,bigint)', '', $$SELECT leadroute.placement('public.leads')$$),
    ('health()', 'admin', $$SELECT * FROM leadroute.health()$$),
    ('verify(bigint)', 'admin', $$SELECT * FROM leadroute.verify()$$),
    ('stat(bigint)', 'admin', $$SELECT * FROM leadroute.stat()$$),
    ('pool_state(bigint)', 'app rep manager admin', $$SELECT * FROM leadroute.pool_state()$$),
    ('why(text,integer,integer,bigint)', 'app rep manager admin', $$SELECT leadroute.why('leads', 1)$$),
    ('why(text,bigint,integer,bigint)', 'app rep manager admin', $$SELECT leadroute.why('leads', 1::bigint)$$),
    ('why(text,text,integer,bigint)', 'app rep manager admin', $$SELECT leadroute.why('leads', '1')$$),
    ('why(text,uuid,integer,bigint)', '', $$SELECT leadroute.why('leads', gen_random_uuid())$$),
    ('why_json(text,integer,integer,bigint)', 'app rep manager admin', $$SELECT leadroute.why_json('leads', 1)$$),
    ('why_json(text,bigint,integer,bigint)', 'app rep manager admin', $$SELECT leadroute.why_json('leads', 1::bigint)$$),
    ('why_json(text,text,integer,bigint)', 'app rep manager admin', $$SELECT leadroute.why_json('leads', '1')$$),
    ('why_json(text,uuid,integer,bigint)', '', $$SELECT leadroute.why_json('leads', gen_random_uuid())$$),
    ('reassign(text,integer,bigint,text,bigint)', 'app rep manager admin', $$SELECT leadroute.reassign('leads', 1, 4)$$),
    ('reassign(text,bigint,bigint,text,bigint)', 'app rep manager admin', $$SELECT leadroute.reassign('leads', 1::bigint, 4)$$),
    ('reassign(text,text,bigint,text,bigint)', 'app rep manager admin', $$SELECT leadroute.reassign('leads', '1', 4)$$),
    ('reassign(text,uuid,bigint,text,bigint)', '', $$SELECT leadroute.reassign('leads', gen_random_uuid(), 4)$$),
    ('credit_back(text,integer,text,bigint)', 'app manager admin', $$SELECT leadroute.credit_back('leads', 1, 'spam')$$),
    ('credit_back(text,bigint,text,bigint)', 'app manager admin', $$SELECT leadroute.credit_back('leads', 1::bigint, 'spam')$$),
    ('credit_back(text,text,text,bigint)', 'app manager admin', $$SELECT leadroute.credit_back('leads', '1', 'spam')$$),
    ('credit_back(text,uuid,text,bigint)', '', $$SELECT leadroute.credit_back('leads', gen_random_uuid(), 'spam')$$),
    ('release(text,integer,text,bigint)', 'app rep manager admin', $$SELECT leadroute.release('leads', 1)$$),
    ('release(text,bigint,text,bigint)', 'app rep manager admin', $$SELECT leadroute.release('leads', 1::bigint)$$),
    ('release(text,text,text,bigint)', 'app rep manager admin', $$SELECT leadroute.release('leads', '1')$$),
    ('release(text,uuid,text,bigint)', '', $$SELECT leadroute.release('leads', gen_random_uuid())$$),
    ('route(text,integer,bigint)', 'app manager admin', $$SELECT leadroute.route('leads', 5)$$),
    ('route(text,bigint,bigint)', 'app manager admin', $$SELECT leadroute.route('leads', 5::bigint)$$),
    ('route(text,text,bigint)', 'app manager admin', $$SELECT leadroute.route('leads', '5')$$),
    ('route(text,uuid,bigint)', '', $$SELECT leadroute.route('leads', gen_random_uuid())$$),
    ('touch(text,integer,text,text,jsonb,bigint)', 'app rep manager admin', $$SELECT leadroute.touch('leads', 1, 'call')$$),
    ('touch(text,bigint,text,text,jsonb,bigint)', 'app rep manager admin', $$SELECT leadroute.touch('leads', 1::bigint, 'call')$$),
    ('touch(text,text,text,text,jsonb,bigint)', 'app rep manager admin', $$SELECT leadroute.touch('leads', '1', 'call')$$),
    ('touch(text,uuid,text,text,jsonb,bigint)', '', $$SELECT leadroute.touch('leads', gen_random_uuid(), 'call')$$),
    ('close(text,integer,text,numeric,bigint)', 'app rep manager admin', $$SELECT leadroute.close('leads', 1, 'won')$$),
    ('close(text,bigint,text,numeric,bigint)', 'app rep manager admin', $$SELECT leadroute.close('leads', 1::bigint, 'won')$$),
    ('close(text,text,text,numeric,bigint)', 'app rep manager admin', $$SELECT leadroute.close('leads', '1', 'won')$$),
    ('close(text,uuid,text,numeric,bigint)', '', $$SELECT leadroute.close('leads', gen_random_uuid(), 'won')$$),
    ('claim(text,integer,bigint,bigint)', 'app rep manager admin', $$SELECT * FROM leadroute.claim('leads', 6, 1)$$),
    ('claim(text,bigint,bigint,bigint)', 'app rep manager admin', $$SELECT * FROM leadroute.claim('leads', 6::bigint, 1)$$),
    ('claim(text,text,bigint,bigint)', 'app rep manager admin', $$SELECT * FROM leadroute.claim('leads', '6', 1)$$),
    ('claim(text,uuid,bigint,bigint)', '', $$SELECT * FROM leadroute.claim('leads', gen_random_uuid(), 1)$$),
    ('claim_next(bigint,text,boolean,bigint)', 'app rep manager admin', $$SELECT * FROM leadroute.claim_next(1)$$),
    ('available_leads(bigint,text,bigint)', 'app rep manager admin', $$SELECT * FROM leadroute.available_leads(1)$$),
    ('shark_tank(bigint,bigint)', 'app rep manager admin', $$SELECT * FROM leadroute.shark_tank(1)$$),
    ('rules_as_of(text,timestamp with time zone,bigint)', 'admin', $$SELECT * FROM leadroute.rules_as_of('leads', now())$$),
    ('restore_rules(text,timestamp with time zone,bigint)', 'admin', $$SELECT * FROM leadroute.restore_rules('leads', clock_timestamp())$$),
    ('rule_version(text,integer,integer,bigint)', 'admin', $$SELECT * FROM leadroute.rule_version('leads', 1::int)$$),
    ('rule_version(text,bigint,integer,bigint)', 'admin', $$SELECT * FROM leadroute.rule_version('leads', 1::bigint)$$),
    ('rule_version(text,uuid,integer,bigint)', '', $$SELECT * FROM leadroute.rule_version('leads', gen_random_uuid())$$),
    ('rule_version(text,text,integer,bigint)', 'admin', $$SELECT * FROM leadroute.rule_version('leads', '1'::text)$$),
    ('check_rules(text,integer,bigint)', 'manager admin', $$SELECT * FROM leadroute.check_rules('leads')$$),
    ('replay(text,timestamp with time zone,timestamp with time zone,bigint)', 'manager admin', $$SELECT * FROM leadroute.replay('spare')$$),
    ('replay_summary(text,timestamp with time zone,timestamp with time zone,bigint)', 'manager admin', $$SELECT * FROM leadroute.replay_summary('spare')$$),
    ('explain(text,jsonb,bigint)', 'app manager admin', $$SELECT * FROM leadroute.explain('leads', '{"source": "web"}')$$),
    ('export_rules(text,bigint)', 'admin', $$SELECT leadroute.export_rules()$$),
    ('import_rules(jsonb,bigint)', 'admin', $$SELECT * FROM leadroute.import_rules(leadroute.export_rules()::jsonb)$$),
    ('import_salesforce_rules(text,text,jsonb,jsonb,bigint)', 'admin', $$SELECT * FROM leadroute.import_salesforce_rules('leads', '<AssignmentRules><assignmentRule><fullName>a</fullName><active>true</active></assignmentRule></AssignmentRules>')$$),
    ('events_since(text,bigint)', 'app rep manager admin', $$SELECT * FROM leadroute.events_since()$$),
    ('refresh_performance(text,bigint)', 'app admin', $$SELECT leadroute.refresh_performance()$$),
    ('event_cursor()', 'app rep manager admin', $$SELECT leadroute.event_cursor()$$),
    ('sign_in(bigint,bigint)', 'app rep manager admin', $$SELECT leadroute.sign_in(1)$$),
    ('sign_out(bigint,bigint)', 'app rep manager admin', $$SELECT leadroute.sign_out(1)$$),
    ('heartbeat(bigint,bigint)', 'app rep manager admin', $$SELECT leadroute.sign_in(1), leadroute.heartbeat(1)$$),
    ('acknowledge(bigint,bigint)', 'app manager admin', $$SELECT leadroute.acknowledge(1001)$$),
    ('schedule_sweep(text)', 'admin', $$SELECT leadroute.schedule_sweep()$$),
    ('unschedule_sweep()', 'admin', $$SELECT leadroute.unschedule_sweep()$$),
    ('decision', 'app rep manager admin', $$SELECT * FROM leadroute.decision$$),
    ('open_assignment', 'app rep manager admin', $$SELECT * FROM leadroute.open_assignment$$),
    ('queue', 'app rep manager admin', $$SELECT * FROM leadroute.queue$$),
    ('sla', 'app rep manager admin', $$SELECT * FROM leadroute.sla$$),
    ('pool_state', 'app rep manager admin', $$SELECT * FROM leadroute.pool_state$$),
    ('in_flight', 'admin', $$SELECT * FROM leadroute.in_flight$$),
    ('stat', 'admin', $$SELECT * FROM leadroute.stat$$);

SELECT set_eq($$
    SELECT replace(p.oid::regprocedure::text, 'leadroute.', '') FROM pg_proc p
    WHERE p.pronamespace = 'leadroute'::regnamespace AND p.prokind = 'f' AND p.proname !~ '^_' AND p.prorettype <> 'trigger'::regtype
    UNION ALL
    SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind = 'v'
$$, 'SELECT object FROM matrix', 'the matrix has every function and view');

-- What became of SQL run as a role: 'ok' or the SQLSTATE. Leaves no trace.
CREATE FUNCTION pg_temp.outcome(role text, sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE sql;
    RAISE EXCEPTION USING ERRCODE = 'UU000';
EXCEPTION WHEN OTHERS THEN
    -- who gets as far as to hear that there is no pg_cron here may
    RETURN CASE WHEN SQLSTATE = 'UU000' OR SQLSTATE = 'LR005' AND sql ~ 'schedule_sweep' THEN 'ok' ELSE SQLSTATE END;
END $$;
-- The one value of a query run as a role.
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

SELECT is(pg_temp.outcome('postgres', m.call), CASE WHEN m.call ~ 'uuid|public.leads''\)' AND m.object !~ '^placement' THEN 'LR00' || CASE WHEN m.call ~ 'uuid' THEN '7' ELSE '3' END ELSE 'ok' END,
    'superuser: ' || m.object) FROM matrix m ORDER BY m.object;

SELECT CASE WHEN r.level = ANY (string_to_array(m.allowed, ' '))
    THEN is(pg_temp.outcome(r.role, m.call), 'ok', format('%s may: %s', r.role, m.object))
    -- a lead that does not exist, or may not be known to
    ELSE ok(pg_temp.outcome(r.role, m.call) IN ('LR012', '42501') OR m.call ~ 'uuid' AND pg_temp.outcome(r.role, m.call) = 'LR007',
        format('%s may not: %s (%s)', r.role, m.object, pg_temp.outcome(r.role, m.call))) END
FROM matrix m, (VALUES ('lr_app', 'app'), ('lr_ann', 'rep'), ('lr_boss', 'manager'), ('lr_admin', 'admin'),
    ('lr_none', 'none'), ('lr_usage', 'none'), ('lr_insert', 'none')) r (role, level)
ORDER BY m.object, r.role;

SELECT is(pg_temp.outcome('lr_insert', format('INSERT INTO public.leads (source) VALUES (%L)', source)), 'ok', 'the right to insert a lead is enough: ' || source)
FROM unnest('{web,phone,chat,mail}'::text[]) source;

-- Functions behind the views, called directly
SELECT is(pg_temp.outcome('lr_usage', call), 'LR012', 'denied: ' || call) FROM unnest(ARRAY[
    'SELECT * FROM leadroute._pool_rows(0)', 'SELECT * FROM leadroute._stat_rows(0)', 'SELECT * FROM leadroute._in_flight()',
    'SELECT leadroute._require(0, ''rep'')', 'SELECT leadroute._require_rep(0, 1)',
    'SELECT leadroute._touch(''leads'', ''1'', ''call'', NULL, NULL, 0)', 'SELECT leadroute._close(''leads'', ''1'', ''won'', NULL, 0)',
    'SELECT leadroute._explain_lead(''leads'', ''{}'', 0)', 'SELECT * FROM leadroute._explain_words(''leads'', 0, ''[{}]'')',
    'SELECT * FROM leadroute._explain(''public.leads'', 0, ROW(1)::record, ''{}'')',
    'SELECT leadroute._managed_table(''leads'', 0)', 'SELECT * FROM leadroute._check_words(''leads'', 0, ''[]'')',
    'SELECT * FROM leadroute._check_conditions(''public.leads'', 0, 10)']) call;
SELECT is(pg_temp.outcome('lr_other', call), 'LR012', 'denied in another tenant: ' || call) FROM unnest(ARRAY[
    'SELECT * FROM leadroute._pool_rows(0)', 'SELECT * FROM leadroute._stat_rows(0)', 'SELECT leadroute._require(0, ''admin'')',
    'SELECT * FROM leadroute.verify()', 'SELECT * FROM leadroute.health()',
    'SELECT leadroute.reassign(''leads'', 1, 2)', 'SELECT leadroute.release(''leads'', 1)', 'SELECT leadroute.route(''leads'', 5)',
    'SELECT leadroute.touch(''leads'', 1, ''call'')', 'SELECT leadroute.close(''leads'', 1, ''won'')',
    'SELECT leadroute.claim(''leads'', 6, 1)', 'SELECT leadroute.claim_next(1)', 'SELECT leadroute.available_leads(1)', 'SELECT leadroute.shark_tank(1)',
    'SELECT leadroute.acknowledge(1001)', 'SELECT leadroute.schedule_sweep()', 'SELECT leadroute.unschedule_sweep()',
    'SELECT leadroute.explain(''leads'', ''{}'')', 'SELECT * FROM leadroute._explain_words(''leads'', 0, ''[{}]'')']) call;
SELECT is(pg_temp.outcome('lr_ann', call), 'LR012', 'a rep may not: ' || call) FROM unnest(ARRAY[
    'SELECT leadroute.route(''leads'', 1)', 'SELECT leadroute.explain(''leads'', ''{}'')']) call;
SELECT is(pg_temp.outcome('lr_other', 'SELECT * FROM leadroute.verify(7)'), 'ok', 'allowed in its own');
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'leadroute'::regnamespace AND p.proname ~ '_for$'
      AND (has_function_privilege('public', p.oid, 'EXECUTE') OR has_function_privilege('lr_admin', p.oid, 'EXECUTE'))
$$, 'nobody calls in another''s name');

-- Rows --------------------------------------------------------------------------------------------

DELETE FROM leadroute.rule WHERE name = 'chat';
DELETE FROM public.leads WHERE id = 6;
DELETE FROM leadroute.assignment WHERE lead_id = '6';
DELETE FROM leadroute.pool_member WHERE pool = 'team' AND rep = 4 OR pool = 'pull';
DELETE FROM leadroute.pool WHERE name = 'pull';
UPDATE leadroute.lead_table SET manager = NULL WHERE name = 'leads';
SELECT is(pg_temp.as_role(role, 'SELECT string_agg(tenant || ''/'' || lead_id, '' '' ORDER BY tenant, lead_id) FROM leadroute.decision'), leads, role || ' sees in decision')
FROM (VALUES ('lr_ann', '0/1 0/3'), ('lr_bob', '0/2'), ('lr_boss', '0/1 0/3 0/4'), ('lr_app', '0/1 0/2 0/3 0/4 0/5'),
    ('lr_admin', '0/1 0/2 0/3 0/4 0/5 7/1'), ('lr_other', '7/1')) v (role, leads);
SELECT is(pg_temp.as_role(role, 'SELECT string_agg(pool || ''/'' || name, '' '' ORDER BY tenant, pool, rep) FROM leadroute.pool_state'), members, role || ' sees in pool_state')
FROM (VALUES ('lr_ann', 'team/Ann'), ('lr_bob', 'team/Bob'), ('lr_boss', 'bosses/Cho team/Ann'), ('lr_app', 'bosses/Cho team/Ann team/Bob'),
    ('lr_admin', 'bosses/Cho team/Ann team/Bob team/Gil'), ('lr_other', 'team/Gil')) v (role, members);
SELECT is(pg_temp.as_role(role, 'SELECT count(*) FROM leadroute.queue'), many, role || ' sees in queue')
FROM (VALUES ('lr_ann', '0'), ('lr_boss', '0'), ('lr_app', '1'), ('lr_admin', '1')) v (role, many);
UPDATE leadroute.lead_table SET manager = 4 WHERE name = 'leads';
SELECT is(pg_temp.as_role('lr_boss', 'SELECT lead_id FROM leadroute.queue'), '5', 'a lead table''s manager sees its queue unmatched');
SELECT is(pg_temp.as_role('lr_ann', 'SELECT leadroute.why(''leads'', 2)'), 'LR007', 'of another''s lead a rep learns nothing');
SELECT is(pg_temp.as_role('lr_ann', 'SELECT rep_name || '' '' || pool || '' '' || rule_name || '' '' || lead_table FROM leadroute.decision LIMIT 1'), 'Ann team web leads', 'names are shown');
SELECT is(pg_temp.as_role('lr_ann', 'SELECT daily_cap FROM leadroute.rep'), '42501', 'of reps names alone');
SELECT is(pg_temp.as_role('lr_ann', 'SELECT condition FROM leadroute.rule'), '42501', 'of rules names alone');
SELECT is(pg_temp.as_role('lr_usage', 'SELECT count(*) FROM leadroute.lead_table'), '42501', 'without a level nothing');
SELECT set_eq(format($$SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = 'leadroute.lead_table'::regclass AND a.attnum > 0
    AND NOT a.attisdropped AND NOT has_column_privilege(%L, a.attrelid, a.attname, 'SELECT')$$, role), ARRAY['event_salt'], role || ' sees of lead tables all but the salt')
FROM unnest('{lr_ann,lr_boss,lr_app}'::text[]) role;
SELECT is(to_jsonb(leadroute._require_attached('leads')), (SELECT to_jsonb(t) || '{"event_salt": null}' FROM leadroute.lead_table t WHERE t.name = 'leads'), 'nor does _require_attached() tell it');
SELECT is(pg_temp.as_role('lr_ann', 'SELECT count(*) FROM leadroute.event_cursor'), '42501', 'how far events are sent is for admins');
SELECT is(pg_temp.as_role('lr_admin', 'SELECT count(*) FROM leadroute.event_cursor'), '1', 'to see');
SELECT is(pg_temp.outcome('lr_other', call), 'LR012', 'denied in another tenant: ' || call) FROM unnest(ARRAY['SELECT * FROM leadroute.events_since()']) call;
SELECT is(pg_temp.outcome('lr_other', call), 'ok', 'allowed in its own: ' || call) FROM unnest(ARRAY[
    'SELECT * FROM leadroute.events_since(NULL, 7)', 'SELECT * FROM leadroute.events_since(NULL, NULL)', 'SELECT leadroute.event_cursor()']) call;
GRANT SELECT ON ALL TABLES IN SCHEMA leadroute TO lr_usage;
SELECT is(pg_temp.as_role('lr_usage', 'SELECT count(*) FROM leadroute.decision'), '0', 'a GRANT by hand shows no row');
SELECT is(pg_temp.as_role('lr_usage', 'SELECT count(*) FROM leadroute.' || relname), '0', 'nor of ' || relname)
FROM pg_class WHERE relnamespace = 'leadroute'::regnamespace AND relkind = 'r' AND relname <> 'lead_table' ORDER BY relname;
REVOKE ALL ON ALL TABLES IN SCHEMA leadroute FROM lr_usage;

-- Nothing leaks through functions in a query, or errors
CREATE TABLE public.seen (lead_id text);
GRANT INSERT ON public.seen TO PUBLIC;
CREATE FUNCTION public.leak(lead_id text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN INSERT INTO public.seen VALUES (lead_id); RETURN true; END $$;
SELECT is(pg_temp.as_role('lr_bob', 'SELECT count(*) FROM leadroute.' || relation || ' WHERE public.leak(lead_id)'), '1', 'a cheap function on ' || relation)
FROM unnest('{assignment,decision,open_assignment}'::text[]) relation;
SELECT set_eq('SELECT DISTINCT lead_id FROM public.seen', ARRAY['2'], 'meets the rows of the role alone');
SELECT is(pg_temp.as_role('lr_bob', 'SELECT count(*) FROM leadroute.assignment WHERE 1 / (lead_id::int - 1) IS NOT NULL'), '1', 'an error tells of no other row');
SELECT is(pg_temp.as_role('lr_bob', 'UPDATE leadroute.assignment SET rep = 2 RETURNING 1'), '42501', 'the record is not written by hand');
SELECT is(pg_temp.as_role('lr_bob', 'UPDATE leadroute.rep SET db_role = ''lr_bob'' WHERE id = 1 RETURNING 1'), '42501', 'nor who one is');
SELECT is(pg_temp.as_role('lr_bob', 'INSERT INTO leadroute.access (role, level) VALUES (''lr_bob'', ''admin'') RETURNING 1'), '42501', 'nor what one may');

-- Who acts for whom
SELECT is(pg_temp.as_role(role, format('SELECT leadroute._require_rep(0, %s)', rep)), answer, format('%s for rep %s', role, rep))
FROM (VALUES ('lr_ann', 1, 'rep'), ('lr_ann', 2, 'LR012'), ('lr_boss', 4, 'manager'), ('lr_boss', 1, 'manager'), ('lr_boss', 3, 'manager'),
    ('lr_boss', 2, 'LR012'), ('lr_app', 5, 'app'), ('lr_admin', 5, 'admin'), ('lr_other', 1, 'LR012')) v (role, rep, answer);
SELECT is(pg_temp.as_role('lr_ann', 'SELECT leadroute._require_rep(7, 1)'), 'LR012', 'nor in a tenant where the role has no level');

-- Rights are those in force where the function is called, not of whoever logged in
SET LOCAL ROLE lr_app;
CREATE FUNCTION pg_temp.trap() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT lost::text FROM leadroute.verify() $$;
RESET ROLE;
SELECT throws_ok('SELECT pg_temp.trap()', 'LR012', NULL, 'a superuser in somebody''s function has his rights');

-- An admin writes configuration of its tenant
SELECT is(pg_temp.outcome('lr_other', $$INSERT INTO leadroute.rep (tenant, id, name) VALUES (7, 9, 'New')$$), 'ok', 'in its own tenant');
SELECT is(pg_temp.outcome('lr_other', $$INSERT INTO leadroute.rep (id, name) VALUES (9, 'New')$$), '42501', 'not in another');
SELECT is(pg_temp.as_role('lr_other', $$WITH u AS (UPDATE leadroute.rep SET paused = true WHERE tenant = 0 RETURNING 1) SELECT count(*) FROM u$$), '0', 'nor is another''s to be changed');
SELECT is(pg_temp.outcome('lr_other', $$UPDATE leadroute.lead_table SET fallback_pool = NULL$$), 'ok', 'a lead table');
SELECT is((SELECT fallback_pool FROM leadroute.lead_table WHERE name = 'company_lead'), 'team', 'is for admins of tenant 0');
SELECT is(pg_temp.as_role('lr_boss', $$WITH u AS (UPDATE leadroute.alert SET acknowledged_at = now() WHERE id <> 1001 RETURNING 1) SELECT count(*) FROM u$$), '0', 'a manager acknowledges no alert of others');

-- Inserting takes INSERT
SELECT is(pg_temp.outcome('lr_insert', $$INSERT INTO public.leads (source) VALUES ('web')$$), 'ok', 'an inserter needs INSERT on its table and nothing else');

-- Taken back
SELECT throws_ok($$SELECT leadroute.revoke_access('lr_app', 'admin')$$, 'LR008', NULL, 'what was not granted cannot be revoked');
SELECT lives_ok($$SELECT leadroute.revoke_access('lr_app', 'app')$$, 'what was, can');
SELECT is(pg_temp.outcome('lr_app', 'SELECT * FROM leadroute.decision'), '42501', 'and is gone');
SELECT throws_ok($$SELECT leadroute.grant_access('lr_app', 'king')$$, 'LR005', NULL, 'an unknown level');
DROP FUNCTION pg_temp.trap();
REVOKE ALL ON public.leads, public.spare FROM lr_app;
SELECT lives_ok('DROP ROLE lr_app', 'a role without access can be dropped');
SELECT lives_ok($$SELECT leadroute.grant_access('lr_boss', 'admin'), leadroute.grant_access('lr_boss', 'rep')$$, 'a level replaces the one before');
SELECT is(pg_temp.outcome('lr_boss', 'SELECT * FROM leadroute.stat'), '42501', 'with its rights');

SELECT * FROM finish();
ROLLBACK;
