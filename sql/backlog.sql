-- The backlog: waiting leads are given out when somebody may take them, oldest first; by the worker
-- (src/pg/backlog_worker.cpp) and by sweep(), which walk on in the same steps, each a transaction.
--
-- A walk goes queue by queue (a pool's, then unmatched), through the leads of all rules there together,
-- by the label's priority and age. A rule whose lead nobody takes is done with, unless its leads have
-- needs of their own. Nothing waits for a lock on a lead: one that is locked is left to the next walk.
-- The lead's row is locked before its record is looked at, as everywhere.

CREATE FUNCTION leadroute._takers(tenant bigint, pool integer, rep bigint, overflow_pool integer) RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_takers';
COMMENT ON FUNCTION leadroute._takers(bigint, integer, bigint, integer) IS
    'Whether a lead for this pool or rep (NULL: none), with this overflow pool, would find somebody now, or a pool where it is claimed, whatever it needs itself. Takes no turn.';

CREATE FUNCTION leadroute._update_lead(relation regclass, statement text, was text, wanted text, search_path text)
    RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_update_lead';
COMMENT ON FUNCTION leadroute._update_lead(regclass, text, text, text, text) IS
    'Runs _owner_update()''s statement, for nobody in particular, with the rights of the lead table''s owner and this search_path; raises LR010 where the owner was and stays another.';

CREATE FUNCTION leadroute._search_path_of(role oid) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((
        SELECT substr(c, length('search_path=') + 1) FROM pg_db_role_setting s, unnest(s.setconfig) c
        WHERE s.setrole IN (_search_path_of.role, 0) AND c LIKE 'search\_path=%'
          AND s.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
        ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1), '"$user", public')
$$;
COMMENT ON FUNCTION leadroute._search_path_of(oid) IS
    'The search_path that a session of the role begins with here, as ALTER ROLE and ALTER DATABASE set it; else the server''s own default.';

CREATE FUNCTION leadroute._backlog_level(tenant bigint) RETURNS integer
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_backlog_level';
COMMENT ON FUNCTION leadroute._backlog_level(bigint) IS
    'Takes note of what is wanted of a tenant: 0 nothing, 1 reps may take leads, 2 rules have changed too; 0 where it is not in memory.';

CREATE FUNCTION leadroute._backlog_level_of_all(OUT level integer, OUT everywhere boolean)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_backlog_level_of_all';
COMMENT ON FUNCTION leadroute._backlog_level_of_all() IS
    'The same of the database; everywhere: of tenants that are not in memory too.';

CREATE FUNCTION leadroute._backlog_wanted() RETURNS SETOF bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_backlog_wanted';
COMMENT ON FUNCTION leadroute._backlog_wanted() IS 'Tenants in memory of which something is wanted.';

CREATE FUNCTION leadroute._backlog_walking() RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_backlog_walking';
COMMENT ON FUNCTION leadroute._backlog_walking() IS
    'This transaction is a step of a walk: what it does makes nobody eligible, so that no walk follows from its failures.';

-- What waits --------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._waiting(tenant bigint, pool integer) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('a.tenant = %s AND a.pool %s AND a.rep IS NULL AND a.ended_at IS NULL AND a.method <> ''manual'' AND a.given_by IS NULL AND a.offered_until IS NULL',
        tenant, coalesce('= ' || pool, 'IS NULL'))
$$;
COMMENT ON FUNCTION leadroute._waiting(bigint, integer) IS
    'SQL that holds for the episodes a that wait in a queue (pool NULL: unmatched): the index assignment_queue, without leads that a person took from their reps, which wait for a person, and without those that are offered.';

CREATE FUNCTION leadroute._backlog_tenants() RETURNS SETOF bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_sort = off SET jit = off
AS $$
    -- ORDER BY, and no sorts: by the index, however small the planner holds the record for.
    WITH RECURSIVE t (tenant) AS (
        (SELECT a.tenant FROM leadroute.assignment a
         WHERE a.rep IS NULL AND a.ended_at IS NULL AND a.method <> 'manual' ORDER BY a.tenant LIMIT 1)
        UNION ALL
        SELECT (SELECT a.tenant FROM leadroute.assignment a
                WHERE a.tenant > t.tenant AND a.rep IS NULL AND a.ended_at IS NULL AND a.method <> 'manual'
                ORDER BY a.tenant LIMIT 1)
        FROM t WHERE t.tenant IS NOT NULL)
    SELECT t.tenant FROM t WHERE t.tenant IS NOT NULL
$$;
COMMENT ON FUNCTION leadroute._backlog_tenants() IS 'Tenants with leads that wait. Reads one entry of the index for each.';

CREATE FUNCTION leadroute._backlog_queues(tenant bigint) RETURNS SETOF integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_sort = off SET jit = off
AS $$
    WITH RECURSIVE q (pool) AS (
        SELECT (SELECT a.pool FROM leadroute.assignment a WHERE a.tenant = _backlog_queues.tenant
                  AND a.rep IS NULL AND a.ended_at IS NULL AND a.method <> 'manual' ORDER BY a.pool LIMIT 1)
        UNION ALL
        SELECT (SELECT a.pool FROM leadroute.assignment a WHERE a.tenant = _backlog_queues.tenant
                  AND a.pool > q.pool AND a.rep IS NULL AND a.ended_at IS NULL AND a.method <> 'manual'
                ORDER BY a.pool LIMIT 1)
        FROM q WHERE q.pool IS NOT NULL)
    -- NULL, the last one, is the queue unmatched; leads of a pull pool wait for who takes them
    SELECT q.pool FROM q WHERE q.pool IS NULL OR NOT EXISTS (SELECT FROM leadroute.pool p
        WHERE p.tenant = _backlog_queues.tenant AND p.id = q.pool AND p.mode = 'pull')
$$;
COMMENT ON FUNCTION leadroute._backlog_queues(bigint) IS 'Pools in whose queues leads of the tenant may wait, and NULL for unmatched.';

CREATE FUNCTION leadroute._backlog_rules(tenant bigint, pool integer, each boolean, done bigint[])
    RETURNS TABLE (rule bigint, alone boolean)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_sort = off SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    waiting CONSTANT text := leadroute._waiting(tenant, pool);
    present leadroute.rule;
BEGIN
    rule := 0;
    LOOP
        EXECUTE 'SELECT a.rule FROM leadroute.assignment a WHERE a.rule > $1 AND ' || waiting
            || ' ORDER BY a.tenant, a.pool, a.rule LIMIT 1' INTO rule USING rule;
        present := NULL;
        SELECT r.* INTO present FROM leadroute.rule r WHERE r.tenant = tenant AND r.id = rule;
        alone := each OR present.needs IS NOT NULL OR present.territory IS NOT NULL;
        -- what no rule matches, or a rule that is gone, may have another one when rules have changed
        IF coalesce(rule, 0) <> ALL (done) AND (each OR CASE WHEN rule IS NULL THEN pool IS NOT NULL
                ELSE present.id IS NOT NULL END AND (pool IS NULL AND present.territory IS NOT NULL
            OR leadroute._takers(tenant, pool, present.rep, (SELECT p.id FROM leadroute.pool p
                WHERE p.tenant = tenant AND p.name = present.overflow_pool)))) THEN
            RETURN NEXT;
        END IF;
        EXIT WHEN rule IS NULL;
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._backlog_rules(bigint, integer, boolean, bigint[]) IS
    'The rules (NULL: none) of leads in a queue that somebody may take now, without those that are done with (0: none); with each all of them. alone: each lead has to be tried.';

-- One lead ----------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._backlog_lead(attachment integer, lead_id text, tenant bigint) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    lead CONSTANT leadroute.lead_table := (SELECT t FROM leadroute.lead_table t WHERE t.id = attachment);
    relation CONSTANT regclass := leadroute._lead_relation(attachment);
    condition text;
    locked record;
    episode leadroute.assignment;
    decided record;
BEGIN
    IF relation IS NULL THEN
        RETURN 'skipped';
    END IF;
    -- whoever changes or drops the table may be about to lock the record
    EXECUTE format('LOCK TABLE %s IN ROW EXCLUSIVE MODE NOWAIT', relation);
    condition := leadroute._lead_condition(lead, relation, lead_id, tenant);
    SELECT l.key, l.was INTO locked FROM leadroute._read_lead(relation,
        format('SELECT l.%I::text, l.%I::text FROM %s l WHERE %s FOR NO KEY UPDATE SKIP LOCKED', lead.key_column,
            lead.owner_column, relation, condition)) AS l (key text, was text);
    episode := leadroute._open_episode(attachment, locked.key, tenant);
    -- an owner that the record does not know of is not overwritten
    IF locked.key IS NULL OR locked.was IS NOT NULL OR episode.lead_id IS NULL OR episode.rep IS NOT NULL
        OR episode.method = 'manual' OR episode.offered_until > clock_timestamp() THEN
        RETURN 'skipped';
    END IF;
    EXECUTE format('SELECT r.assignments, r.wanted FROM leadroute._read_lead($1, $3) AS o (l %s),
            leadroute._route_lead($1, $2, o.l) r', relation)
        INTO decided USING relation, tenant, format('SELECT l FROM %s l WHERE %s', relation, condition);
    IF decided.assignments IS NULL THEN
        -- an offer that is over, and nobody to give the lead to
        UPDATE leadroute.assignment a SET offered_until = NULL
        WHERE episode.offered_until IS NOT NULL AND a.tenant = tenant AND a.lead_table = attachment
          AND a.lead_id = locked.key AND a.ended_at IS NULL;
        RETURN 'stays';
    END IF;
    PERFORM leadroute._update_lead(relation,
        leadroute._owner_update(lead, relation, locked.key, tenant, decided.assignments), locked.was, decided.wanted,
        leadroute._search_path_of((SELECT c.relowner FROM pg_class c WHERE c.oid = relation)));
    RETURN CASE WHEN decided.wanted IS NULL THEN 'moved' ELSE 'given' END;
END
$$;
COMMENT ON FUNCTION leadroute._backlog_lead(integer, text, bigint) IS
    'Routes a lead that waits, or whose offer is over: given, moved (to another queue, or offered), stays, or skipped, where it is locked or does not wait any more. Never waits for the lead.';

CREATE FUNCTION leadroute._backlog_failed(attachment integer, lead_id text, tenant bigint, rule bigint, pool integer,
    message text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    UPDATE leadroute.alert a SET raised_at = clock_timestamp()
    WHERE a.tenant = tenant AND a.kind = 'backlog_error' AND a.acknowledged_at IS NULL
      AND a.lead_table = attachment AND a.lead_id = lead_id;
    IF NOT FOUND THEN
        INSERT INTO leadroute.alert (tenant, kind, lead_table, lead_id, pool, rule, manager, message)
        SELECT tenant, 'backlog_error', attachment, lead_id, pool, rule,
            coalesce((SELECT p.manager FROM leadroute.pool p WHERE p.tenant = tenant AND p.id = pool), t.manager),
            format('lead %s of "%s" cannot be given out, and waits: %s', lead_id, t.name, message)
        FROM leadroute.lead_table t WHERE t.id = attachment;
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._backlog_failed(integer, text, bigint, bigint, integer, text) IS
    'Sets a lead aside that could not be given out: alerts, and lets it rest for ten minutes.';

-- A walk ------------------------------------------------------------------------------------------
--
-- What is left of one is an object: offers that are over (offers.sql); tenants, each with whether its rules have changed; of the first
-- one the pools, and in the first of these the rules that are done with, how far it has come and how
-- many leads have failed.

CREATE FUNCTION leadroute._backlog_start(of_tenants bigint[], wanted boolean) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    of_all record;
    tenants jsonb;
BEGIN
    SELECT 0 AS level, false AS everywhere INTO of_all;
    IF of_tenants IS NULL THEN
        SELECT l.* INTO of_all FROM leadroute._backlog_level_of_all() l;
    END IF;
    SELECT jsonb_agg(jsonb_build_array(t, of_all.everywhere AND of_all.level = 2)) INTO tenants
    FROM leadroute._backlog_tenants() t
    WHERE CASE WHEN of_tenants IS NOT NULL THEN t = ANY (of_tenants)
        ELSE NOT wanted OR of_all.everywhere OR t IN (SELECT leadroute._backlog_wanted()) END;
    RETURN jsonb_build_object('tenants', tenants,
        'offers', jsonb_build_object('until', clock_timestamp(), 'tenants', to_jsonb(of_tenants)));
END
$$;
COMMENT ON FUNCTION leadroute._backlog_start(bigint[], boolean) IS
    'A walk over these tenants, or with NULL over all; with wanted, apart from offers that are over, only over those of which something is wanted.';

CREATE FUNCTION leadroute._backlog_candidates(tenant bigint, pool integer, rules bigint[], at jsonb, most integer)
    RETURNS TABLE (lead_table integer, lead_id text, rule bigint, priority jsonb, decided_at timestamptz, avoids boolean)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
    waiting CONSTANT text := leadroute._waiting(tenant, pool);
    -- by index up to the moment, then by key among those of one moment
    rest CONSTANT text := CASE WHEN at IS NULL THEN '' ELSE
        ' AND (coalesce(a.label -> ''priority'', ''{}''), a.decided_at) >= ($1, $2)
          AND ((coalesce(a.label -> ''priority'', ''{}''), a.decided_at) > ($1, $2) OR a.lead_id OPERATOR(leadroute.>#) $3)' END;
    places CONSTANT text := 'coalesce(a.label -> ''priority'', ''{}''), a.decided_at, a.lead_id USING OPERATOR(leadroute.<#)';
BEGIN
    RETURN QUERY EXECUTE (SELECT format('SELECT * FROM (%s) a ORDER BY a.priority, a.decided_at, a.lead_id USING OPERATOR(leadroute.<#) LIMIT $4',
        string_agg(format('(SELECT a.lead_table, a.lead_id, a.rule, coalesce(a.label -> ''priority'', ''{}'') AS priority, a.decided_at, a.avoid IS NOT NULL
            FROM leadroute.assignment a WHERE a.rule %s AND %s%s ORDER BY %s LIMIT $4)',
            coalesce('= ' || r, 'IS NULL'), waiting, rest, places), ' UNION ALL '))
        FROM unnest(rules) r)
    USING at -> 0, (at ->> 1)::timestamptz, at ->> 2, most;
END
$$;
COMMENT ON FUNCTION leadroute._backlog_candidates(bigint, integer, bigint[], jsonb, integer) IS
    'The next leads in a queue, of these rules, after a place (priority, decided_at, lead_id).';

CREATE FUNCTION leadroute._backlog_step(work jsonb, most integer, OUT next_work jsonb, OUT given integer)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    tenant CONSTANT bigint := (work #>> '{tenants,0,0}')::bigint;
    pool integer;
    each boolean;
    rules bigint[];
    alone bigint[];
    done bigint[] := ARRAY(SELECT jsonb_array_elements_text(work -> 'done'))::bigint[];
    at jsonb := work -> 'at';
    failed integer := coalesce((work -> 'failed')::integer, 0);
    candidate record;
    outcome text;
    tried integer := 0;
BEGIN
    given := 0;
    IF work ? 'offers' THEN
        PERFORM leadroute._backlog_walking();
        SET CONSTRAINTS ALL IMMEDIATE;
        SELECT CASE WHEN s.rest IS NULL THEN work - 'offers' ELSE work || jsonb_build_object('offers', s.rest) END, s.given INTO next_work, given
        FROM leadroute._offers_step(work -> 'offers', most) s;
        RETURN;
    ELSIF tenant IS NULL THEN
        RETURN;
    ELSIF work -> 'pools' IS NULL THEN
        next_work := work || jsonb_build_object('pools', (SELECT coalesce(jsonb_agg(q ORDER BY q), '[]') FROM leadroute._backlog_queues(tenant) q),
            'each', (work #> '{tenants,0,1}')::boolean OR leadroute._backlog_level(tenant) = 2);
        RETURN;
    ELSIF work -> 'pools' = '[]' THEN
        next_work := jsonb_build_object('tenants', (work -> 'tenants') - 0);
        RETURN;
    END IF;
    pool := (work #>> '{pools,0}')::integer;
    each := (work -> 'each')::boolean;
    PERFORM leadroute._backlog_walking();
    -- triggers of lead tables run here, with their owners' rights, and not at the end with ours
    SET CONSTRAINTS ALL IMMEDIATE;

    SELECT array_agg(r.rule), array_agg(coalesce(r.rule, 0)) FILTER (WHERE r.alone) INTO rules, alone
    FROM leadroute._backlog_rules(tenant, pool, each, done) r;
    IF rules IS NOT NULL AND failed < 100 THEN
        FOR candidate IN SELECT c.* FROM leadroute._backlog_candidates(tenant, pool, rules, at, most) c LOOP
            tried := tried + 1;
            at := jsonb_build_array(candidate.priority, candidate.decided_at, candidate.lead_id);
            outcome := leadroute._backlog_try(candidate.lead_table, candidate.lead_id, tenant, candidate.rule, pool);
            failed := failed + (outcome = 'failed')::integer;
            given := given + (outcome = 'given')::integer;
            -- one that its former reps do not get again says nothing of those behind it
            IF outcome = 'stays' AND NOT candidate.avoids AND coalesce(coalesce(candidate.rule, 0) <> ALL (alone), true) THEN
                done := done || coalesce(candidate.rule, 0);
                EXIT;
            END IF;
        END LOOP;
    END IF;
    IF tried = 0 THEN
        next_work := jsonb_build_object('tenants', work -> 'tenants', 'each', each, 'pools', (work -> 'pools') - 0);
    ELSE
        next_work := work || jsonb_build_object('done', to_jsonb(done), 'at', at, 'failed', failed);
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._backlog_step(jsonb, integer) IS
    'Walks on by at most so many leads, to be committed; tells what is left to walk (NULL: nothing) and how many were given out.';

CREATE FUNCTION leadroute._sweep_tenants(caller name) RETURNS bigint[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mine bigint[] := leadroute._my_tenants_for(caller, '{admin}');
BEGIN
    IF leadroute._everywhere_for(caller, '{admin}') THEN
        RETURN NULL;
    ELSIF mine IS NULL THEN
        PERFORM leadroute._require_for(caller, 0, '{admin}');
    END IF;
    RETURN mine;
END
$$;
COMMENT ON FUNCTION leadroute._sweep_tenants(name) IS
    'The tenants that a role may sweep, NULL for all; raises LR012 where it is none.';

CREATE PROCEDURE leadroute.sweep(max_rows integer DEFAULT NULL, budget interval DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_sweep';
COMMENT ON PROCEDURE leadroute.sweep(integer, interval) IS
    'Does what is due: weighs the members of pools with the method performance, once an hour, does the steps of first-touch policies that are due, the longest due first, and gives out leads whose offer is over, and those waiting that somebody may take now. max_rows: the most leads to do something for (NULL: all). budget: once so much time is over, nothing more is begun (NULL: no end). Notes in sweep_run when it ran for all tenants, and alerts (sweep_late) where it should have before. Commits pool by pool and lead batch by lead batch, so it cannot be called in a transaction block (2D000). Waits for no lock on a lead or a pool; may run twice at once. A lead that fails is set aside with an alert (backlog_error, of a step sla_error), a pool with a warning. Takes the level admin, for its tenants. Raises LR001, LR005, LR012.';
