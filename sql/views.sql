-- Views over the record, with present names, and over shared memory. They read with the rights of
-- whoever reads them: which rows, the policies say (access.sql); superusers see all, at no cost.

CREATE VIEW leadroute.decision WITH (security_invoker = true) AS
    SELECT a.tenant,
        coalesce(t.name, format('(detached %s)', a.lead_table)) AS lead_table,
        a.lead_id,
        -- an insert does not look whether the key was used before: the number is settled at the end
        CASE WHEN a.ended_at IS NOT NULL THEN a.episode ELSE greatest(a.episode, 1 + (
            SELECT max(e.episode) FROM leadroute.assignment e
            WHERE e.tenant = a.tenant AND e.lead_table = a.lead_table AND e.lead_id = a.lead_id
              AND e.ended_at IS NOT NULL)) END AS episode,
        a.rep, r.name AS rep_name,
        coalesce(p.name, '(deleted ' || a.pool || ')') AS pool,
        a.rule, u.name AS rule_name, a.method,
        leadroute._status(a.rep, a.method, a.touched_at, a.ended_at, a.end_reason, a.offered_until) AS status,
        a.decided_at, a.due_at, a.ended_at, a.end_reason,
        coalesce(leadroute._missed_words(a.tenant, a.lead_table, a.lead_id COLLATE "default", a.episode, a.method, a.hops) || '; ', '')
            || leadroute._reason(a.rep, a.method, a.explanation, (
                SELECT jsonb_object_agg(n.id, n.name) FROM leadroute.pool n
                WHERE n.tenant = a.tenant AND n.id = ANY (leadroute._tried_pools(a.explanation))),
            CASE WHEN a.explanation IS NOT NULL THEN CASE WHEN a.rule IS NULL THEN 'unmatched' END
                WHEN a.decided_at = t.attached_at THEN 'attached'
                WHEN a.rep IS NULL AND a.method <> 'manual' THEN (
                    SELECT e.end_reason FROM leadroute.assignment e
                    WHERE e.tenant = a.tenant AND e.lead_table = a.lead_table AND e.lead_id = a.lead_id
                      AND e.episode = a.episode - 1 AND e.ended_at IS NOT NULL) END)
            || coalesce(': ' || a.remark, '') AS reason,
        a.rule_version
    FROM (
        -- a half for each of the two indexes that find a lead
        SELECT * FROM leadroute.assignment WHERE ended_at IS NULL
        UNION ALL
        SELECT * FROM leadroute.assignment WHERE ended_at IS NOT NULL) a
        LEFT JOIN leadroute.lead_table t ON t.id = a.lead_table
        LEFT JOIN leadroute.rep r ON r.tenant = a.tenant AND r.id = a.rep
        LEFT JOIN leadroute.rule u ON u.tenant = a.tenant AND u.id = a.rule
        LEFT JOIN leadroute.pool p ON p.tenant = a.tenant AND p.id = a.pool;
COMMENT ON VIEW leadroute.decision IS 'Every episode of every lead: who received it, by which rule and pool, and why in one line.';

CREATE VIEW leadroute.open_assignment WITH (security_invoker = true) AS
    SELECT a.tenant, t.name AS lead_table, a.lead_id,
        greatest(a.episode, 1 + (
            SELECT max(e.episode) FROM leadroute.assignment e
            WHERE e.tenant = a.tenant AND e.lead_table = a.lead_table AND e.lead_id = a.lead_id
              AND e.ended_at IS NOT NULL)) AS episode,
        a.rep, r.name AS rep_name, coalesce(p.name, '(deleted ' || a.pool || ')') AS pool,
        u.name AS rule_name, a.method,
        leadroute._status(a.rep, a.method, a.touched_at, a.ended_at, a.end_reason, a.offered_until) AS status,
        a.decided_at, a.due_at, a.touched_at, a.label
    FROM leadroute.assignment a
        LEFT JOIN leadroute.lead_table t ON t.id = a.lead_table
        LEFT JOIN leadroute.rep r ON r.tenant = a.tenant AND r.id = a.rep
        LEFT JOIN leadroute.rule u ON u.tenant = a.tenant AND u.id = a.rule
        LEFT JOIN leadroute.pool p ON p.tenant = a.tenant AND p.id = a.pool
    WHERE a.ended_at IS NULL;
COMMENT ON VIEW leadroute.open_assignment IS 'Episodes that have not ended, one per lead: with their rep, or waiting.';

CREATE VIEW leadroute.queue WITH (security_invoker = true) AS
    SELECT coalesce(p.name, '(deleted ' || a.pool || ')', 'unmatched') AS queue,
        t.name AS lead_table, a.lead_id, a.decided_at AS waiting_since,
        coalesce(leadroute._missed_words(a.tenant, a.lead_table, a.lead_id COLLATE "default", a.episode, a.method, a.hops) || '; ', '')
            || leadroute._reason(a.rep, a.method, a.explanation, (
                SELECT jsonb_object_agg(n.id, n.name) FROM leadroute.pool n
                WHERE n.tenant = a.tenant AND n.id = ANY (leadroute._tried_pools(a.explanation))),
            CASE WHEN a.explanation IS NOT NULL THEN CASE WHEN a.rule IS NULL THEN 'unmatched' END
                WHEN a.decided_at = t.attached_at THEN 'attached'
                ELSE (SELECT e.end_reason FROM leadroute.assignment e
                    WHERE e.tenant = a.tenant AND e.lead_table = a.lead_table AND e.lead_id = a.lead_id
                      AND e.episode = a.episode - 1 AND e.ended_at IS NOT NULL) END)
            || coalesce(': ' || a.remark, '') AS reason, a.tenant
    FROM leadroute.assignment a
        LEFT JOIN leadroute.lead_table t ON t.id = a.lead_table
        LEFT JOIN leadroute.pool p ON p.tenant = a.tenant AND p.id = a.pool
    WHERE a.ended_at IS NULL AND a.rep IS NULL AND a.method <> 'manual';
COMMENT ON VIEW leadroute.queue IS 'Leads that wait: in the queue of a pool, or in the queue unmatched.';

CREATE FUNCTION leadroute._pool_rows_for(caller name, tenant bigint,
    OUT pool integer, OUT rep bigint, OUT weight double precision, OUT received bigint,
    OUT deficit double precision, OUT active boolean, OUT reason text,
    OUT member_used integer, OUT member_cap integer, OUT rep_used integer, OUT rep_cap integer,
    OUT open_used integer, OUT open_cap integer, OUT cost double precision)
    RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    all_rows CONSTANT boolean := leadroute._require_for(caller, tenant, '{app,manager,rep}') IN ('admin', 'app');
BEGIN
    RETURN QUERY SELECT m.pool, m.rep, m.weight, m.received, m.deficit, m.active, m.reason,
        m.member_used, m.member_cap, m.rep_used, m.rep_cap, m.open_used, m.open_cap,
        m.received + m.extra / 1024::double precision
    FROM leadroute._pool_memory(_pool_rows_for.tenant) m
    WHERE all_rows
       OR m.rep IN (SELECT o.rep FROM leadroute._my_reps_for(caller) o WHERE o.tenant = _pool_rows_for.tenant)
       OR m.pool IN (SELECT o.pool FROM leadroute._my_pools_for(caller) o WHERE o.tenant = _pool_rows_for.tenant);
END
$$;
COMMENT ON FUNCTION leadroute._pool_rows_for(name, bigint) IS '_pool_rows() of a role.';
CREATE FUNCTION leadroute._pool_rows(tenant bigint,
    OUT pool integer, OUT rep bigint, OUT weight double precision, OUT received bigint,
    OUT deficit double precision, OUT active boolean, OUT reason text,
    OUT member_used integer, OUT member_cap integer, OUT rep_used integer, OUT rep_cap integer,
    OUT open_used integer, OUT open_cap integer, OUT cost double precision)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._pool_rows(bigint) IS
    'Of _pool_memory() what the caller may see: a rep itself, a manager its reps and pools. LR012 without a level in the tenant.';

-- Stands on a function that takes the tenant: a filter on it reads that tenant's memory alone.
CREATE VIEW leadroute.pool_state WITH (security_invoker = true) AS
    SELECT p.tenant, p.name AS pool, m.rep, r.name, m.weight, m.received,
        round((m.cost + m.deficit)::numeric, 6) AS due, round(m.deficit::numeric, 6) AS deficit,
        m.member_used AS today, coalesce(o.open, 0) AS open, m.active AS available,
        leadroute._state_words(m.reason,
            CASE m.reason WHEN 'rep_cap' THEN m.rep_used WHEN 'member_cap' THEN m.member_used WHEN 'open_cap' THEN m.open_used END,
            CASE m.reason WHEN 'rep_cap' THEN m.rep_cap WHEN 'member_cap' THEN m.member_cap WHEN 'open_cap' THEN m.open_cap END)
            AS unavailable_reason
    FROM (SELECT DISTINCT tenant FROM leadroute.pool) tenants
        CROSS JOIN LATERAL leadroute._pool_rows(tenants.tenant) m
        JOIN leadroute.pool p ON p.tenant = tenants.tenant AND p.id = m.pool
        JOIN leadroute.rep r ON r.tenant = tenants.tenant AND r.id = m.rep
        LEFT JOIN (
            SELECT a.tenant, a.pool, a.rep, count(*) AS open FROM leadroute.assignment a
            WHERE a.ended_at IS NULL GROUP BY a.tenant, a.pool, a.rep) o
            ON o.tenant = tenants.tenant AND o.pool = m.pool AND o.rep = m.rep;
COMMENT ON VIEW leadroute.pool_state IS
    'Each pool member''s turns received and due, leads of today and open ones from the pool, and whether it is available now. What transactions hold that have not ended counts as received. deficit is due minus received; with the method value, due and deficit are in units of value, and due minus deficit is the value received. A member that is not available for a lead is due nothing for it.';

CREATE FUNCTION leadroute.pool_state(tenant bigint DEFAULT 0) RETURNS SETOF leadroute.pool_state
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT s.* FROM leadroute.pool_state s WHERE s.tenant = pool_state.tenant $$;
COMMENT ON FUNCTION leadroute.pool_state(bigint) IS 'The view pool_state for one tenant.';

CREATE VIEW leadroute.in_flight WITH (security_invoker = true) AS
    SELECT f.pid, clock_timestamp() - f.since AS age, f.reservations FROM leadroute._in_flight() f;
COMMENT ON VIEW leadroute.in_flight IS
    'Transactions of this database that hold turns, of all tenants; pid is NULL for a prepared one. Their turns count as used until they end.';

CREATE FUNCTION leadroute._stat_rows_for(caller name, tenant bigint, OUT name text, OUT value bigint)
    RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leadroute._require_for(caller, tenant, '{}');
    RETURN QUERY SELECT s.name, s.value FROM leadroute._stat(_stat_rows_for.tenant) s;
END
$$;
COMMENT ON FUNCTION leadroute._stat_rows_for(name, bigint) IS '_stat_rows() of a role.';
CREATE FUNCTION leadroute._stat_rows(tenant bigint, OUT name text, OUT value bigint)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._stat_rows(bigint) IS '_stat() for an admin of the tenant; LR012 for others.';

CREATE VIEW leadroute.stat WITH (security_invoker = true) AS
    SELECT s.name, s.value FROM leadroute._stat_rows(0) s;
COMMENT ON VIEW leadroute.stat IS 'Counters of tenant 0 since the server started; leadroute.stat(tenant) for others.';

CREATE FUNCTION leadroute.stat(tenant bigint DEFAULT 0) RETURNS SETOF leadroute.stat
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT s.name, s.value FROM leadroute._stat_rows(stat.tenant) s $$;
COMMENT ON FUNCTION leadroute.stat(bigint) IS 'The view stat for one tenant.';
