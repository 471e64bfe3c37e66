-- The schema keeps the rules that let tenants spread over machines, and that let nobody in.
BEGIN;
SELECT plan(33);

CREATE TEMP VIEW own_table AS
    SELECT c.oid, c.relname FROM pg_class c
    WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind IN ('r', 'p');
CREATE TEMP VIEW own_function AS
    SELECT p.*, l.lanname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.pronamespace = 'leadroute'::regnamespace;

-- Tenants ---------------------------------------------------------------------------------------

SELECT is_empty($$
    SELECT t.relname FROM own_table t
    WHERE t.relname <> 'lead_table' AND NOT EXISTS (
        SELECT FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = t.oid AND a.attname = 'tenant' AND a.atttypid = 'bigint'::regtype
          AND a.attnotnull AND pg_get_expr(d.adbin, d.adrelid) IN ('0', '''0''::bigint'))
$$, 'every table but lead_table has tenant bigint NOT NULL DEFAULT 0');

SELECT is_empty($$
    SELECT i.indexrelid::regclass FROM pg_index i JOIN own_table t ON t.oid = i.indrelid
    WHERE i.indisunique AND t.relname <> 'lead_table' AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'tenant' AND a.attnum = i.indkey[0])
$$, 'the tenant is first in every primary key and unique index');

SELECT is_empty($$
    SELECT t.relname FROM own_table t WHERE NOT EXISTS (
        SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisunique)
$$, 'every table has a key');

SELECT is_empty($$
    SELECT k.conname FROM pg_constraint k JOIN own_table t ON t.oid = k.conrelid
    WHERE k.contype = 'f' AND k.confrelid <> 'leadroute.lead_table'::regclass AND NOT EXISTS (
        SELECT FROM pg_attribute a JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
        WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1] AND a.attname = 'tenant' AND f.attname = 'tenant')
$$, 'the tenant is first in every foreign key, but to lead_table');

SELECT is_empty($$
    SELECT k.conname FROM pg_constraint k JOIN own_table t ON t.oid = k.conrelid
    WHERE k.contype = 'f' AND (k.confupdtype <> 'a' OR k.confdeltype <> 'a')
$$, 'no foreign key cascades');

SELECT is_empty($$
    SELECT k.conname FROM pg_constraint k JOIN own_table t ON t.oid = k.conrelid
    WHERE k.contype = 'f' AND NOT k.condeferrable
$$, 'every foreign key is deferrable, so that renames can be followed');

SELECT is_empty($$
    SELECT k.conname FROM pg_constraint k JOIN own_table t ON t.oid = k.conrelid WHERE k.contype = 'x'
$$, 'no exclusion constraint');

SELECT is_empty($$
    SELECT t.relname, a.attname FROM own_table t JOIN pg_attribute a ON a.attrelid = t.oid
    JOIN pg_type y ON y.oid = a.atttypid LEFT JOIN pg_type e ON e.oid = y.typelem
    WHERE a.attnum > 0 AND NOT a.attisdropped
      AND (y.typname ~ '^(oid|xid|reg)' OR e.typname ~ '^(oid|xid|reg)')
$$, 'no column stores an OID');

SELECT is_empty($$
    SELECT p.proname FROM own_function p
    WHERE (p.prosrc ~ 'leadroute\._(pool_memory|day_memory|member_day_memory|stat|forget)\M'
           OR p.proname IN ('_pool_memory', '_day_memory', '_member_day_memory', '_stat', '_forget', 'placement'))
      AND NOT 'tenant' = ANY (coalesce(p.proargnames, '{}'))
$$, 'every function that reaches a tenant''s memory has a tenant argument');

SELECT is_empty($$
    SELECT p.proname, p.proargnames FROM own_function p
    WHERE p.proname !~ '^_' AND 'tenant' = ANY (p.proargnames[1:p.pronargs])
      AND (p.proargnames[p.pronargs] <> 'tenant' OR p.pronargdefaults = 0)
$$, 'functions for users take the tenant last, and it may be left out');

-- Names, comments, settings ---------------------------------------------------------------------

SELECT is_empty($$
    SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
      AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'leadroute')
      AND (pg_identify_object(d.classid, d.objid, 0)).schema IS DISTINCT FROM 'leadroute'
      AND NOT (d.classid = 'pg_namespace'::regclass OR d.classid = 'pg_event_trigger'::regclass)
$$, 'everything that the extension owns is in schema leadroute');

SELECT is_empty($$
    SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'leadroute'::regnamespace
      AND c.relkind IN ('r', 'p', 'v', 'm') AND obj_description(c.oid, 'pg_class') IS NULL
    UNION ALL
    SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind = 'i'
      AND obj_description(c.oid, 'pg_class') IS NULL
      AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid)
$$, 'every table, view and index has a comment');

SELECT is_empty($$
    SELECT t.relname, a.attname FROM own_table t JOIN pg_attribute a ON a.attrelid = t.oid
    WHERE a.attnum > 0 AND NOT a.attisdropped AND col_description(t.oid, a.attnum) IS NULL
$$, 'every column of a table has a comment');

SELECT is_empty($$
    SELECT p.oid::regprocedure FROM own_function p WHERE obj_description(p.oid, 'pg_proc') IS NULL
$$, 'every function has a comment');

SELECT is_empty($$
    SELECT e.evtname FROM pg_event_trigger e WHERE e.evtname ~ '^leadroute'
      AND obj_description(e.oid, 'pg_event_trigger') IS NULL
    UNION ALL
    SELECT n.nspname FROM pg_namespace n WHERE n.nspname = 'leadroute'
      AND obj_description(n.oid, 'pg_namespace') IS NULL
$$, 'the schema and the event triggers have a comment');

SELECT is_empty($$
    SELECT o.oid::regoperator::text FROM pg_operator o
    WHERE o.oprnamespace = 'leadroute'::regnamespace AND obj_description(o.oid, 'pg_operator') IS NULL
    UNION ALL
    SELECT c.opcname FROM pg_opclass c
    WHERE c.opcnamespace = 'leadroute'::regnamespace AND obj_description(c.oid, 'pg_opclass') IS NULL
    UNION ALL
    SELECT f.opfname FROM pg_opfamily f
    WHERE f.opfnamespace = 'leadroute'::regnamespace AND obj_description(f.oid, 'pg_opfamily') IS NULL
$$, 'operators and their classes have a comment');

SELECT is_empty($$
    SELECT p.oid::regprocedure FROM own_function p
    WHERE p.lanname IN ('sql', 'plpgsql')
      AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
$$, 'every SQL and PL/pgSQL function pins its search_path');

SELECT is_empty($$
    SELECT p.oid::regprocedure FROM own_function p WHERE p.proparallel = 's' AND p.provolatile <> 'i'
$$, 'no function that looks at anything is parallel safe: a worker does not see this session''s turns');

SELECT set_eq($$
    SELECT p.proname::text FROM own_function p WHERE p.prosecdef
$$, ARRAY['_follow_owner', 'follow_key', 'follow_delete', 'follow_truncate', 'follow_score', '_after_ddl', '_after_drop'],
    'only triggers that follow what others do run with the owner''s rights');

-- Dump ------------------------------------------------------------------------------------------

SELECT is_empty($$
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind IN ('r', 'p', 'S')
      -- which speak of what runs in this cluster
      AND c.relname NOT IN ('event_cursor', 'sweep_run')
      AND NOT c.oid = ANY ((SELECT extconfig FROM pg_extension WHERE extname = 'leadroute')::oid[])
$$, 'a dump contains the rows of every table and the position of every sequence');

-- Rights ----------------------------------------------------------------------------------------

SELECT set_eq($$
    SELECT p.proname::text FROM own_function p WHERE has_function_privilege('public', p.oid, 'EXECUTE')
$$, ARRAY['_after_pending', '_restoring', '_place',
        -- by views and why()
        '_explanation', '_status', '_reason', '_tried_pools', '_tried_words', '_state_counts', '_state_words', '_count_words',
        '_turns', '_measure', '_lead_key', '_pool_name', '_rep_name', '_rule_name', '_pool_names', '_origin', '_require_episode',
        '_why', '_why_json', '_candidate_words', '_missed_words', '_ended_words', '_why_candidate', '_why_tried', '_why_given', '_why_result', '_in_flight',
        -- by configuration triggers
        '_name_problem', '_skill_problem', '_claim_problem', '_territory_users', '_sla_policy_users', '_sla_advice', '_sla_time_problem', '_check_location_column', '_check_value', '_is_time_zone', '_on_conflict', '_lead_relation', '_require_attached', '_missing', '_missing_fallback', '_users_of', '_territory_users', '_skill_problem',
        -- what they give depends on who calls
        '_everywhere', '_my_tenants', '_my_reps', '_my_pools', '_my_claim_pools', '_my_lead_tables', '_require', '_require_rep', '_pool_rows', '_stat_rows',
        '_explain_lead', '_explain', '_explain_words', '_rules_to_restore', '_require_restorable', '_rule_content', '_write_rules', '_rule_version', '_replay',
        '_managed_table', '_check_conditions', '_check_values', '_check_words', 'check_rules',
        -- for roles with a level; test/pgtap/access_matrix.sql calls each
        'why', 'why_json', 'pool_state', 'stat', 'verify', 'health', 'explain', 'rules_as_of', 'restore_rules', 'rule_version', 'replay', 'replay_summary', 'reassign', 'release', 'route', 'credit_back',
        'touch', '_touch', 'close', '_close', 'sweep', 'events_since', 'event_cursor', 'acknowledge', 'schedule_sweep', 'unschedule_sweep', 'sign_in', 'sign_out', 'heartbeat',
        'refresh_performance', 'claim', 'claim_next', 'available_leads', 'shark_tank',
        'import_salesforce_rules', '_refuse_import', '_formula', '_filter', '_expression_type', '_salesforce_document', '_salesforce_children',
        '_salesforce_rule_sets', '_salesforce_rule_set', '_salesforce_kind', '_salesforce_fields', '_salesforce_own_field', '_salesforce_values',
        '_salesforce_literal', '_salesforce_tests', '_salesforce_criterion', '_salesforce_condition', '_salesforce_entries', '_salesforce_options',
        '_salesforce_rep', '_salesforce_pool', '_salesforce_former', '_salesforce_require_fields', '_salesforce_plan',
        'export_rules', 'import_rules', '_document_parts', '_document_defaults', '_document_rep', '_document_section', '_rep_of_document', '_check_document',
        '_document_items', '_document_rows', '_write_rows', '_write_steps', '_write_reps', '_write_document'],
    'PUBLIC may execute the WHEN of the triggers, what runs with the caller''s rights, and what looks at who calls');

SELECT is_empty($$
    SELECT p.oid::regprocedure FROM own_function p
    WHERE has_function_privilege('public', p.oid, 'EXECUTE') AND p.prosecdef
$$, 'none of it with other rights than the caller''s');

SELECT is_empty($$
    SELECT t.relname FROM own_table t JOIN pg_class c ON c.oid = t.oid WHERE NOT c.relrowsecurity
$$, 'every table has row security, so that a right on it alone shows nothing');

SELECT is_empty($$
    SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'leadroute'::regnamespace AND c.relkind = 'v'
      AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)
$$, 'every view reads with its reader''s rights');

SELECT is_empty($$
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'leadroute'::regnamespace AND CASE
        WHEN c.relkind = 'S' THEN has_sequence_privilege('public', c.oid, 'USAGE, SELECT, UPDATE')
        WHEN c.relkind IN ('r', 'p', 'v', 'm') THEN has_table_privilege('public', c.oid,
            'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') END
$$, 'PUBLIC has no right on a table, view or sequence');

SELECT ok(NOT has_schema_privilege('public', 'leadroute', 'USAGE')
    AND NOT has_schema_privilege('public', 'leadroute', 'CREATE'), 'PUBLIC has no right on the schema');

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann');
INSERT INTO leadroute.pool (name) VALUES ('team');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 1, 'web', $$source = 'web'$$, 'team');
INSERT INTO public.leads (source) VALUES ('web'), ('mail');

CREATE ROLE leadroute_test_reader;
SELECT leadroute.grant_access('leadroute_test_reader', 'admin');
SET LOCAL ROLE leadroute_test_reader;
SELECT results_eq('SELECT pool, status, reason FROM leadroute.decision ORDER BY lead_id',
    $$ VALUES ('team', 'assigned', 'first in turn of 1 in pool "team"'), (NULL, 'waiting', 'no rule matched') $$,
    'an admin reads the view decision');
SELECT is((SELECT count(*) FROM leadroute.open_assignment), 2::bigint, 'on open_assignment');
SELECT is((SELECT reason FROM leadroute.queue), 'no rule matched', 'on queue');
SELECT is((SELECT received FROM leadroute.pool_state), 1::bigint, 'on pool_state');
SELECT ok((SELECT count(*) > 0 FROM leadroute.stat), 'on stat');
SELECT ok((SELECT count(*) >= 0 FROM leadroute.in_flight), 'on in_flight');
RESET ROLE;

CREATE ROLE leadroute_test_writer;
SELECT leadroute.grant_access('leadroute_test_writer', 'admin');
GRANT SELECT ON public.leads TO leadroute_test_writer;
SET LOCAL ROLE leadroute_test_writer;
SELECT lives_ok($$
    INSERT INTO leadroute.rep (id, name, timezone) VALUES (2, 'Bob', 'Europe/London');
    INSERT INTO leadroute.pool (name, manager) VALUES ('other', 1);
    INSERT INTO leadroute.pool_member (pool, rep) VALUES ('other', 2);
    INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 2, 'mail', $c$source = 'mail'$c$, 'other');
    UPDATE leadroute.pool SET name = 'another' WHERE name = 'other';
    DELETE FROM leadroute.rule WHERE name = 'mail';
    DELETE FROM leadroute.pool_member WHERE rep = 2;
    DELETE FROM leadroute.pool WHERE name = 'another';
    DELETE FROM leadroute.rep WHERE id = 2;
$$, 'an admin writes configuration');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
