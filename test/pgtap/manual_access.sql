-- reassign(), release(), route() and explain() by roles with levels: whose leads, to whom, and with
-- whose rights the lead itself is changed.
BEGIN;
SELECT plan(50);
SET LOCAL client_min_messages = warning;

CREATE ROLE lr_app; CREATE ROLE lr_admin; CREATE ROLE lr_boss; CREATE ROLE lr_ann; CREATE ROLE lr_bob; CREATE ROLE lr_poor;
DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name, db_role) VALUES (1, 'Ann', 'lr_ann'), (2, 'Bob', 'lr_bob'), (3, 'Cho', NULL), (4, 'Boss', 'lr_boss'), (5, 'Di', NULL);
UPDATE leadroute.rep SET manager = 4 WHERE id = 1;
INSERT INTO leadroute.pool (name, manager) VALUES ('team', NULL), ('bosses', 4), ('empty', 4);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1), ('team', 2), ('bosses', 3);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, label) VALUES
    ('leads', 1, 'web', $$source = 'web'$$, 'team', NULL), ('leads', 2, 'phone', $$source = 'phone'$$, 'bosses', '{"product": "loan"}'),
    ('leads', 3, 'fax', $$source = 'fax'$$, 'empty', NULL);
DO $$ BEGIN
    PERFORM leadroute.grant_access('lr_app', 'app'), leadroute.grant_access('lr_poor', 'app'), leadroute.grant_access('lr_admin', 'admin'),
        leadroute.grant_access('lr_boss', 'manager'), leadroute.grant_access('lr_ann', 'rep'), leadroute.grant_access('lr_bob', 'rep');
END $$;
-- 1, 3: Ann's; 2: Bob's; 4: Cho's, from the boss's pool; 5: waits, unmatched; 6: waits in the boss's pool
INSERT INTO public.leads (source) VALUES ('web'), ('web'), ('web'), ('phone'), ('mail'), ('fax');
GRANT SELECT (id, owner_id), UPDATE (owner_id) ON public.leads TO lr_app, lr_admin, lr_boss, lr_ann, lr_bob;

-- An app's trigger meets the app's user.
CREATE TABLE public.audit (line text);
GRANT INSERT ON public.audit TO PUBLIC;
CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.audit VALUES (concat_ws(' ', NEW.id, coalesce(NEW.owner_id, 0), current_user, session_user));
    RETURN NEW;
END $$;
CREATE TRIGGER audit BEFORE UPDATE ON public.leads FOR EACH ROW EXECUTE FUNCTION public.audit();

-- The answer of a query run as a role, or how it is refused; `keep` what it did, or not.
CREATE FUNCTION pg_temp.as_role(role text, sql text, keep boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    message text;
    detail text;
    hint text;
BEGIN
    BEGIN
        EXECUTE format('SET LOCAL ROLE %I', role);
        EXECUTE sql INTO result;
        RESET ROLE;
        IF NOT keep THEN
            RAISE EXCEPTION USING ERRCODE = 'UU000';
        END IF;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        IF SQLSTATE <> 'UU000' THEN
            result := concat_ws('|', SQLSTATE, message, detail, hint);
        END IF;
    END;
    RETURN result;
END $$;
CREATE FUNCTION pg_temp.kept() RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify() v
$$;

-- reassign ------------------------------------------------------------------------------------------

SELECT is(pg_temp.as_role('lr_boss', 'SELECT rep || given_by FROM leadroute.reassign(''leads'', 1, 4)'), '4lr_boss', 'a manager: a rep''s lead to himself');
SELECT is(pg_temp.as_role('lr_boss', 'SELECT rep || given_by FROM leadroute.reassign(''leads'', 4, 1)'), '1lr_boss', 'a lead of his pool');
SELECT is(pg_temp.as_role('lr_boss', 'SELECT rep || given_by FROM leadroute.reassign(''leads'', 6, 3)'), '3lr_boss', 'one that waits there, to a member');
SELECT matches(pg_temp.as_role('lr_boss', 'SELECT leadroute.reassign(''leads'', 2, 1)'), '^LR007\|there is no lead 2', 'not another''s lead');
SELECT matches(pg_temp.as_role('lr_boss', 'SELECT leadroute.reassign(''leads'', 5, 1)'), '^LR007\|there is no lead 5', 'not one that waits elsewhere');
SELECT is(replace(pg_temp.as_role('lr_boss', 'SELECT leadroute.' || call || '(''leads'', 2' || rest || ')'), 'lead 2', 'lead N'),
    replace(pg_temp.as_role('lr_boss', 'SELECT leadroute.' || call || '(''leads'', 99' || rest || ')'), 'lead 99', 'lead N'), call || '(): as if it did not exist')
FROM (VALUES ('reassign', ', 1'), ('release', ''), ('route', '')) v (call, rest);
SELECT matches(pg_temp.as_role('lr_boss', 'SELECT leadroute.reassign(''leads'', 1, 2)'), '^LR012\|role "lr_boss" may not act for rep 2\|.+\|.+', 'not to another''s rep');
SELECT matches(pg_temp.as_role('lr_boss', 'SELECT leadroute.reassign(''leads'', 1, 99)'), '^LR012', 'nor to nobody');
SELECT matches(pg_temp.as_role('lr_app', 'SELECT leadroute.reassign(''leads'', 1, 99)'), '^LR008', 'which is told who may act for all');
SELECT is(pg_temp.as_role(role, 'SELECT rep || given_by FROM leadroute.reassign(''leads'', 2, 5)'), '5' || role, role || ': any lead to any rep')
FROM unnest('{lr_app,lr_admin}'::text[]) role;
SELECT matches(pg_temp.as_role('lr_ann', 'SELECT leadroute.reassign(''leads'', 2, 1)'), '^LR007\|there is no lead 2', 'a rep: not another''s (its own are in release.sql)');
SELECT is(pg_temp.as_role('lr_app', 'SELECT given_by FROM leadroute.reassign(''leads'', 1, 5)', true), 'lr_app', 'who did it');
SELECT is((SELECT d.rep_name || ' ' || a.given_by FROM leadroute.decision d JOIN leadroute.assignment a USING (tenant, lead_id, episode)
    WHERE d.lead_id = '1' AND d.status = 'assigned'), 'Di lr_app', 'is on the record');
SELECT is((SELECT array_agg(line) FROM public.audit), ARRAY['1 5 lr_app ' || session_user], 'the lead''s triggers meet the caller');

-- release -------------------------------------------------------------------------------------------

SELECT matches(pg_temp.as_role('lr_ann', 'SELECT leadroute.release(''leads'', 2)'), '^LR007\|there is no lead 2', 'a rep: not another''s lead');
SELECT matches(pg_temp.as_role('lr_ann', 'SELECT leadroute.release(''leads'', 1)'), '^LR007', 'nor one that was its own');
SELECT matches(pg_temp.as_role('lr_ann', 'SELECT leadroute.release(''leads'', 6)'), '^LR007', 'nor one that waits');
SELECT is(replace(pg_temp.as_role('lr_ann', 'SELECT leadroute.release(''leads'', 2)'), 'lead 2', 'lead N'),
    replace(pg_temp.as_role('lr_ann', 'SELECT leadroute.release(''leads'', 99)'), 'lead 99', 'lead N'), 'as if it did not exist');
SELECT is(pg_temp.as_role('lr_boss', 'SELECT given_by FROM leadroute.release(''leads'', 3)'), 'lr_boss', 'a manager: a rep''s');
SELECT matches(pg_temp.as_role('lr_boss', 'SELECT leadroute.release(''leads'', 2)'), '^LR007', 'not another''s');
SELECT is(pg_temp.as_role('lr_app', 'SELECT given_by FROM leadroute.release(''leads'', 2)'), 'lr_app', 'the app: any');
SELECT is(pg_temp.as_role('lr_ann', 'SELECT given_by || remark FROM leadroute.release(''leads'', 3, ''!'')', true), 'lr_ann!', 'a rep: its own');
SELECT is((SELECT owner_id FROM public.leads WHERE id = 3), NULL, 'which waits');
SELECT is((SELECT line FROM public.audit OFFSET 1), '3 0 lr_ann ' || session_user, 'the lead''s triggers meet the caller');
SELECT matches(pg_temp.as_role('lr_ann', 'SELECT leadroute.release(''leads'', 3)'), '^LR007', 'and is its own no more');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- route ---------------------------------------------------------------------------------------------

UPDATE leadroute.rule SET pool = 'bosses' WHERE name = 'fax';
SELECT is(pg_temp.as_role('lr_boss', 'SELECT rep || method FROM leadroute.route(''leads'', 6)'), '3backlog', 'a manager: one that waits in his pool');
SELECT matches(pg_temp.as_role('lr_boss', 'SELECT leadroute.route(''leads'', 3)'), '^LR007', 'not another''s');
SELECT matches(pg_temp.as_role('lr_boss', 'SELECT leadroute.route(''leads'', 4)'), '^LR009', 'one of his that does not wait');
SELECT is(pg_temp.as_role('lr_app', 'SELECT rep IS NOT NULL FROM leadroute.route(''leads'', 3)'), 'true', 'the app: any');
UPDATE leadroute.rule SET label = '{"product": "loan"}' WHERE name = 'fax';
SELECT matches(pg_temp.as_role('lr_boss', 'SELECT leadroute.route(''leads'', 6)'), '^42501', 'a label takes the right on its column');
GRANT UPDATE (product) ON public.leads TO lr_boss;
SELECT is(pg_temp.as_role('lr_boss', 'SELECT rep FROM leadroute.route(''leads'', 6)', true), '3', 'which is given');
SELECT is((SELECT owner_id || product FROM public.leads WHERE id = 6), '3loan', 'and written');

-- The lead table's own rights and policies ----------------------------------------------------------

SELECT is(pg_temp.as_role('lr_poor', 'SELECT leadroute.release(''leads'', 2)'), 'LR012|role "lr_poor" may not change the owner of leads in "leads"'
    || '|A lead is updated with the rights of whoever calls, so that its triggers and policies meet him.'
    || '|GRANT SELECT (id, owner_id), UPDATE (owner_id) ON public.leads TO lr_poor;', 'it takes the right to change the owner');
GRANT SELECT (id, owner_id), UPDATE (owner_id) ON public.leads TO lr_poor;
SELECT is(pg_temp.as_role('lr_poor', 'SELECT given_by FROM leadroute.release(''leads'', 2)'), 'lr_poor', 'the hint helps');
ALTER TABLE public.leads ENABLE ROW LEVEL SECURITY;
SELECT matches(pg_temp.as_role('lr_app', 'SELECT leadroute.release(''leads'', 2)'), '^LR010', 'a policy of the lead table counts');
SELECT is((SELECT rep FROM leadroute.open_assignment WHERE lead_id = '2'), 2::bigint, 'and nothing is recorded');
ALTER TABLE public.leads DISABLE ROW LEVEL SECURITY;

-- explain -------------------------------------------------------------------------------------------

CREATE FUNCTION public.me() RETURNS text LANGUAGE sql STABLE AS 'SELECT current_user::text';
ALTER TABLE public.leads ADD who text DEFAULT public.me();
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 9, 'own', $$who = 'lr_boss'$$, 'bosses');
SELECT is(pg_temp.as_role(role, 'SELECT concat(rule_name, rep) FROM leadroute.explain(''leads'', ''{"source": "x"}'') WHERE kind = ''result'''), answer, role || ': defaults are the caller''s')
FROM (VALUES ('lr_boss', 'own3'), ('lr_app', ''), ('lr_admin', '')) v (role, answer);
SELECT matches(pg_temp.as_role('lr_bob', 'SELECT leadroute.explain(''leads'', ''{}'')'), '^LR012\|access denied for role "lr_bob"\|.+\|.+', 'a rep may not ask: it shows others');
SELECT matches(pg_temp.as_role('lr_bob', 'SELECT leadroute.explain(''nix'', ''{}'')'), '^LR012', 'nor learns what is attached');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- What a lead table's owner plants in it runs in his own name ---------------------------------------

CREATE ROLE lr_owner;
DO $$ BEGIN PERFORM leadroute.grant_access('lr_owner', 'app'); END $$;
GRANT CREATE ON SCHEMA public TO lr_owner;
SET LOCAL ROLE lr_owner;
CREATE TABLE public.planted (id int PRIMARY KEY, owner_id bigint, n bigint);
CREATE FUNCTION public.who_runs(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'lr_owner' AND current_setting('lr.trap', true) = 'set' THEN
        RAISE EXCEPTION 'run as %', current_user;
    END IF;
    RETURN $1;
END $$;
RESET ROLE;
DO $$ BEGIN PERFORM leadroute.attach('public.planted'); END $$;
INSERT INTO public.planted (id) VALUES (1);
SET LOCAL lr.trap = 'set';
SET LOCAL ROLE lr_owner;
ALTER TABLE public.planted ADD CHECK (public.who_runs(1) = 1);
RESET ROLE;
SET LOCAL constraint_exclusion = on;               -- whoever plans evaluates it
SELECT is(pg_temp.as_role('lr_owner', 'SELECT rep FROM leadroute.reassign(''planted'', 1, 5)'), '5', 'a constraint, in reassign()');
SELECT is(pg_temp.as_role('lr_owner', 'SELECT count(*) FROM leadroute.route(''planted'', 1)'), '0', 'and in route()');
DO $$ BEGIN PERFORM leadroute.grant_access('lr_owner', 'admin'); END $$;
SELECT is(pg_temp.as_role('lr_owner', 'SELECT lost || '' '' || orphan FROM leadroute.verify()'), '0 0', 'and in verify()');
SET LOCAL ROLE lr_owner;
CREATE VIEW public.no_sequence AS SELECT 1::bigint AS last_value, true AS is_called WHERE public.who_runs(length(now()::text)) > 0;
ALTER TABLE public.planted ALTER n SET DEFAULT nextval('public.no_sequence');
RESET ROLE;
SELECT matches(pg_temp.as_role('lr_owner', 'SELECT leadroute.explain(''planted'', ''{}'')'), '^LR005.*"no_sequence" is not a sequence', 'a default''s sequence that is a view');

SELECT * FROM finish();
ROLLBACK;
