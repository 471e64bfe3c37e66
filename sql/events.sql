-- Events: what listeners are told, gathered from the rows that SQL writes (the library gathers from
-- those it writes itself), and derived again from the record for who was not listening.

CREATE FUNCTION leadroute._gather_event() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_gather_event';
COMMENT ON FUNCTION leadroute._gather_event() IS
    'Notes the event of a row for the end of the transaction; the argument says what the row is: opened, ended, tank, touched, step or alert.';

-- Rows that are restored, or there since attach(), are older than the transaction: no events.
CREATE TRIGGER event_opened AFTER INSERT ON leadroute.assignment
    FOR EACH ROW WHEN (NEW.decided_at > transaction_timestamp() AND NEW.ended_at IS NULL
        AND (NEW.rep IS NULL OR NEW.day IS NOT NULL))
    EXECUTE FUNCTION leadroute._gather_event('opened');
CREATE TRIGGER event_ended AFTER UPDATE ON leadroute.assignment
    FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL
        AND (NEW.end_reason IN ('released', 'closed') OR NEW.end_reason = 'claimed' AND NEW.rep IS NOT NULL))
    EXECUTE FUNCTION leadroute._gather_event('ended');
CREATE TRIGGER event_tank AFTER UPDATE ON leadroute.assignment
    FOR EACH ROW WHEN (OLD.tank_at IS NULL AND NEW.tank_at IS NOT NULL)
    EXECUTE FUNCTION leadroute._gather_event('tank');
CREATE TRIGGER event_touched AFTER INSERT ON leadroute.activity
    FOR EACH ROW WHEN (NEW.kind = 'touch' AND NEW.at > transaction_timestamp())
    EXECUTE FUNCTION leadroute._gather_event('touched');
CREATE TRIGGER event_stepped AFTER INSERT ON leadroute.sla_action
    FOR EACH ROW WHEN (NEW.at > transaction_timestamp())
    EXECUTE FUNCTION leadroute._gather_event('step');
CREATE TRIGGER event_raised AFTER INSERT ON leadroute.alert
    FOR EACH ROW WHEN (NEW.raised_at > transaction_timestamp())
    EXECUTE FUNCTION leadroute._gather_event('alert');

CREATE FUNCTION leadroute._cursor(since timestamptz) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_cursor';
COMMENT ON FUNCTION leadroute._cursor(timestamptz) IS
    'A cursor that has seen what the statement''s snapshot sees; no row that it has not seen was decided before the time given.';

CREATE FUNCTION leadroute._cursor_since(cursor text) RETURNS timestamptz
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_cursor_since';
COMMENT ON FUNCTION leadroute._cursor_since(text) IS
    'No row that the cursor has not seen is older. LR005 for what is no cursor.';

CREATE FUNCTION leadroute._cursor_unseen(cursor text, row_xid xid) RETURNS boolean
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_cursor_unseen';
COMMENT ON FUNCTION leadroute._cursor_unseen(text, xid) IS
    'Whether a row with this xmin is committed and was not seen by the cursor.';

CREATE FUNCTION leadroute._event_bound() RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    this_database CONSTANT oid := (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
BEGIN
    PERFORM pg_stat_clear_snapshot();
    -- A transaction decides nothing before it begins. When a prepared one began is not known.
    RETURN least(clock_timestamp(),
        (SELECT min(coalesce(a.xact_start, clock_timestamp() - interval '2 days')) FROM pg_stat_get_activity(NULL) a
         WHERE a.datid = this_database AND a.backend_xid IS NOT NULL),
        (SELECT min(p.prepared) - interval '2 days' FROM pg_prepared_xact() p WHERE p.dbid = this_database))
        - interval '10 seconds';
END
$$;
COMMENT ON FUNCTION leadroute._event_bound() IS
    'A time before which no transaction that runs now, or begins later, has decided anything; call it after the snapshot is taken, with rights that show all sessions.';

CREATE FUNCTION leadroute._event_json(kind text, tenant bigint, lead_table integer, lead_id text,
    rep bigint, pool integer, rule bigint, at timestamptz, due_at timestamptz, alert bigint,
    lead_table_name text, pool_name text, notify_key boolean, salt uuid) RETURNS jsonb
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_event_json';
COMMENT ON FUNCTION leadroute._event_json(text, bigint, integer, text, bigint, integer, bigint, timestamptz, timestamptz, bigint, text, text, boolean, uuid) IS
    'The event as listeners receive it.';

CREATE FUNCTION leadroute._events(cursor text, only_tenant bigint)
    RETURNS TABLE (kind text, tenant bigint, lead_table integer, lead_id text, rep bigint, pool integer,
        rule bigint, at timestamptz, due_at timestamptz, manager bigint, alert bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_sort = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
    -- No index is by time alone, for inserts would pay for it: (tenant, rep, day) is entered once for
    -- each rep; those without one (the last row of `r` of a tenant) have an index of their own. Each
    -- half of the record, open and ended, has its own index of reps, hence everything twice. ORDER BY,
    -- and no sorts, because a planner that holds the record for small takes any index.
    WITH RECURSIVE known AS MATERIALIZED (
        SELECT s.since, (s.since AT TIME ZONE 'UTC')::date - 1 AS day -- a rep's day may be one behind
        FROM leadroute._cursor_since(cursor) AS s (since)
    ), t (tenant) AS (
        SELECT coalesce(only_tenant, least(
            (SELECT a.tenant FROM leadroute.assignment a WHERE a.ended_at IS NULL ORDER BY a.tenant LIMIT 1),
            (SELECT a.tenant FROM leadroute.assignment a WHERE a.ended_at IS NOT NULL ORDER BY a.tenant LIMIT 1)))
        UNION ALL
        SELECT least(
            (SELECT a.tenant FROM leadroute.assignment a
             WHERE a.tenant > t.tenant AND a.ended_at IS NULL ORDER BY a.tenant LIMIT 1),
            (SELECT a.tenant FROM leadroute.assignment a
             WHERE a.tenant > t.tenant AND a.ended_at IS NOT NULL ORDER BY a.tenant LIMIT 1))
        FROM t WHERE t.tenant IS NOT NULL AND only_tenant IS NULL
    ), r (tenant, rep) AS (
        SELECT t.tenant, least(
            (SELECT a.rep FROM leadroute.assignment a
             WHERE a.tenant = t.tenant AND a.rep IS NOT NULL AND a.ended_at IS NULL ORDER BY a.rep LIMIT 1),
            (SELECT a.rep FROM leadroute.assignment a
             WHERE a.tenant = t.tenant AND a.rep IS NOT NULL AND a.ended_at IS NOT NULL ORDER BY a.rep LIMIT 1))
        FROM t WHERE t.tenant IS NOT NULL
        UNION ALL
        SELECT r.tenant, least(
            (SELECT a.rep FROM leadroute.assignment a
             WHERE a.tenant = r.tenant AND a.rep > r.rep AND a.ended_at IS NULL ORDER BY a.rep LIMIT 1),
            (SELECT a.rep FROM leadroute.assignment a
             WHERE a.tenant = r.tenant AND a.rep > r.rep AND a.ended_at IS NOT NULL ORDER BY a.rep LIMIT 1))
        FROM r WHERE r.rep IS NOT NULL
    )
    SELECT CASE WHEN a.method = 'manual' THEN 'manual' WHEN a.offered_to IS NOT NULL THEN 'offered' WHEN a.rep IS NULL THEN 'waiting'
            WHEN a.method = 'reroute' THEN 'rerouted' WHEN a.method = 'claim' THEN 'claimed' ELSE 'assigned' END,
        a.tenant, a.lead_table, a.lead_id, coalesce(a.rep, o.rep), a.pool, a.rule, a.decided_at, a.due_at, NULL::bigint, NULL::bigint
    FROM known CROSS JOIN LATERAL (
        SELECT i.* FROM r CROSS JOIN LATERAL (
            (SELECT o.*, o.xmin AS xid FROM leadroute.assignment o
             WHERE o.tenant = r.tenant AND o.rep = r.rep AND o.day >= known.day AND o.decided_at >= known.since
               AND o.ended_at IS NULL ORDER BY o.day)
            UNION ALL
            (SELECT o.*, o.xmin AS xid FROM leadroute.assignment o
             WHERE o.tenant = r.tenant AND o.rep = r.rep AND o.day >= known.day AND o.decided_at >= known.since
               AND o.ended_at IS NOT NULL ORDER BY o.day)
            UNION ALL
            SELECT o.*, o.xmin AS xid FROM leadroute.assignment o
            WHERE o.tenant = r.tenant AND o.rep IS NULL AND r.rep IS NULL AND o.decided_at >= known.since
              AND o.ended_at IS NULL) i
        UNION ALL
        -- what came into a queue lately and has left it did so later
        SELECT o.*, o.xmin AS xid FROM leadroute.assignment o
        WHERE o.ended_at >= known.since AND o.decided_at >= known.since AND o.rep IS NULL) a
        JOIN leadroute.lead_table l ON l.id = a.lead_table
        LEFT JOIN LATERAL unnest(a.offered_to) AS o (rep) ON true
    WHERE a.tenant = coalesce(only_tenant, a.tenant) AND leadroute._cursor_unseen(cursor, a.xid)
      AND a.decided_at <> l.attached_at
    UNION ALL
    -- who lost a lead in the shark tank was released from it; an episode that ended with its breach tells of it
    SELECT CASE a.end_reason WHEN 'claimed' THEN 'released' ELSE a.end_reason END, a.tenant, a.lead_table, a.lead_id,
        a.rep, a.pool, a.rule, a.ended_at, a.due_at, NULL::bigint, NULL::bigint
    FROM known JOIN leadroute.assignment a ON a.ended_at >= known.since
        JOIN leadroute.lead_table l ON l.id = a.lead_table
    WHERE (a.end_reason IN ('released', 'closed') OR a.end_reason = 'claimed' AND a.rep IS NOT NULL
        OR a.end_reason = 'breached' AND a.breached_at = a.ended_at AND a.tank_at IS NULL)
      AND a.tenant = coalesce(only_tenant, a.tenant) AND leadroute._cursor_unseen(cursor, a.xmin)
    UNION ALL
    -- those that are in the shark tank, have left it by ending, or by a touch: each has an index
    SELECT 'breached', a.tenant, a.lead_table, a.lead_id, a.rep, a.pool, a.rule, a.tank_at, a.due_at,
        NULL::bigint, NULL::bigint
    FROM known CROSS JOIN LATERAL (
        SELECT o.*, o.xmin AS xid FROM leadroute.assignment o
        WHERE o.tank_pool IS NOT NULL AND o.ended_at IS NULL AND o.touched_at IS NULL
        UNION ALL
        SELECT o.*, o.xmin AS xid FROM leadroute.assignment o WHERE o.ended_at >= known.since
        UNION ALL
        SELECT o.*, o.xmin AS xid FROM leadroute.activity t JOIN leadroute.assignment o ON o.tenant = t.tenant
            AND o.lead_table = t.lead_table AND o.lead_id = t.lead_id AND o.ended_at IS NULL AND o.touched_at = t.at
        WHERE t.at >= known.since AND t.kind = 'touch') a
        JOIN leadroute.lead_table l ON l.id = a.lead_table
    WHERE a.tank_at >= known.since AND a.tenant = coalesce(only_tenant, a.tenant)
      AND leadroute._cursor_unseen(cursor, a.xid)
    UNION ALL
    SELECT 'touched', a.tenant, a.lead_table, a.lead_id, a.rep, a.pool, a.rule, a.at, NULL, NULL, NULL
    FROM known JOIN leadroute.activity a ON a.at >= known.since
        JOIN leadroute.lead_table l ON l.id = a.lead_table
    WHERE a.kind = 'touch' AND a.tenant = coalesce(only_tenant, a.tenant) AND leadroute._cursor_unseen(cursor, a.xmin)
    UNION ALL
    SELECT a.kind, a.tenant, a.lead_table, a.lead_id, a.rep, a.pool, a.rule, a.at, a.due_at, NULL, NULL
    FROM known JOIN leadroute.sla_action a ON a.at >= known.since
        JOIN leadroute.lead_table l ON l.id = a.lead_table
    WHERE a.tenant = coalesce(only_tenant, a.tenant) AND leadroute._cursor_unseen(cursor, a.xmin)
    UNION ALL
    SELECT a.kind, a.tenant, a.lead_table, a.lead_id, a.rep, a.pool, a.rule, a.raised_at, NULL, a.manager, a.id
    FROM known JOIN leadroute.alert a ON a.raised_at >= known.since
        LEFT JOIN leadroute.lead_table l ON l.id = a.lead_table
    WHERE a.tenant = coalesce(only_tenant, a.tenant) AND leadroute._cursor_unseen(cursor, a.xmin)
      AND (a.lead_table IS NULL OR l.id IS NOT NULL)
$$;
COMMENT ON FUNCTION leadroute._events(text, bigint) IS
    'The committed events that a cursor has not seen, of one tenant or, with NULL, of all, not in order: assigned, offered (one for each rep), waiting, manual, rerouted and claimed from the opening of an episode (assignment.decided_at), released, closed and the breach that ended it from its end (assignment.ended_at), breached from assignment.tank_at, touched from leadroute.activity, reminder, breached and recycled from leadroute.sla_action, alerts from leadroute.alert.';

CREATE FUNCTION leadroute._require_reader_for(caller name, tenant bigint) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leadroute._require_for(caller,
        coalesce(tenant, (SELECT min(l.tenant) FROM leadroute._levels_for(caller) l), 0), '{app,rep,manager}');
END
$$;
COMMENT ON FUNCTION leadroute._require_reader_for(name, bigint) IS
    'Raises LR012 unless the role has a level in the tenant; NULL: in any.';

-- As the owner, who knows the salts, and since when all sessions have been at work. What the role
-- sees of it is what the policies on assignment and alert, and its right to read alerts, let it see.
CREATE FUNCTION leadroute._events_since_for(caller name, cursor text, tenant bigint)
    RETURNS TABLE (event jsonb, next_cursor text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    all_leads CONSTANT boolean := leadroute._everywhere_for(caller, '{app,admin}');
    all_leads_of CONSTANT bigint[] := leadroute._my_tenants_for(caller, '{app,admin}');
    alerts CONSTANT boolean := has_table_privilege(caller, 'leadroute.alert', 'SELECT');
BEGIN
    PERFORM leadroute._require_reader_for(caller, tenant);
    RETURN QUERY
    WITH now AS MATERIALIZED (SELECT leadroute._cursor(leadroute._event_bound()) AS cursor)
    SELECT leadroute._event_json(e.kind, e.tenant, e.lead_table, e.lead_id, e.rep, e.pool, e.rule, e.at,
            e.due_at, e.alert, l.name, p.name, l.notify_key, l.event_salt), now.cursor
    FROM now CROSS JOIN leadroute._events(_events_since_for.cursor, _events_since_for.tenant) e
        LEFT JOIN leadroute.lead_table l ON l.id = e.lead_table
        LEFT JOIN leadroute.pool p ON p.tenant = e.tenant AND p.id = e.pool
    WHERE (alerts OR e.alert IS NULL) AND (all_leads OR e.tenant = ANY (all_leads_of)
        OR (e.tenant, e.rep) IN (SELECT m.tenant, m.rep FROM leadroute._my_reps_for(caller) m)
        OR (e.tenant, e.pool) IN (SELECT m.tenant, m.pool FROM leadroute._my_pools_for(caller) m)
        OR (e.tenant, e.manager) IN (SELECT m.tenant, m.rep FROM leadroute._my_reps_for(caller) m)
        OR e.alert IS NULL AND e.rep IS NULL
            AND (e.tenant, e.lead_table) IN (SELECT m.tenant, m.lead_table FROM leadroute._my_lead_tables_for(caller) m))
    ORDER BY e.at;
END
$$;
COMMENT ON FUNCTION leadroute._events_since_for(name, text, bigint) IS 'events_since() of a role.';
CREATE FUNCTION leadroute.events_since(cursor text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS TABLE (event jsonb, next_cursor text)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.events_since(text, bigint) IS
    'Committed events after a cursor, in order of time, each at least once and always with the same id; NULL: all there are. next_cursor is the same in every row and has seen all of them: take all rows before it is used; without rows the old cursor stays good. Derived from the record: assigned, offered (one for each rep), waiting, manual, rerouted and claimed from the row that opened the episode (decided_at), released, closed and the breach that ended it from the one that ended (ended_at), breached from the time at which it came into the shark tank (tank_at), touched from leadroute.activity (at), reminder, breached and recycled from leadroute.sla_action (at), alerts from leadroute.alert (raised_at); a row that was changed since, and was opened little before the cursor, may repeat its first event. The cursor holds a snapshot, so that what an earlier transaction commits late is not missed. Leads that were there at attach() and tables that were detached have no events. A role hears of the episodes and alerts that it sees. LR005 for what is no cursor, LR012 without a level.';

CREATE FUNCTION leadroute._event_cursor_for(caller name) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leadroute._require_reader_for(caller, NULL);
    RETURN leadroute._cursor(leadroute._event_bound());
END
$$;
COMMENT ON FUNCTION leadroute._event_cursor_for(name) IS 'event_cursor() of a role.';
CREATE FUNCTION leadroute.event_cursor() RETURNS text
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.event_cursor() IS
    'A cursor for events_since() that has seen all that is committed now: where a listener begins. LR012 without a level.';

-- Whatever a crash interrupts, the worker begins here.
INSERT INTO leadroute.event_cursor (cursor) VALUES (leadroute.event_cursor());
