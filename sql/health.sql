-- Is leadroute able to work? Looks at catalogs, settings and small tables; verify() looks at the leads.

CREATE FUNCTION leadroute._memory(OUT preloaded boolean, OUT tenants integer, OUT tenant_limit integer,
    OUT members bigint, OUT member_limit integer)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_memory';
COMMENT ON FUNCTION leadroute._memory() IS
    'What of shared memory is in use, by all databases, and what it has room for; all but preloaded is NULL when leadroute is not.';

CREATE FUNCTION leadroute._health_server() RETURNS TABLE (item text, ok boolean, detail text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    memory record;
    library CONSTANT text := leadroute._library_version();
    extension CONSTANT text := (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'leadroute');
    installed CONSTANT text := (SELECT a.default_version FROM pg_available_extensions() a WHERE a.name = 'leadroute');
    full_alerts bigint;
BEGIN
    SELECT * INTO memory FROM leadroute._memory();
    item := 'preloaded';
    ok := memory.preloaded;
    detail := CASE WHEN ok THEN 'leadroute is in shared_preload_libraries'
        ELSE 'no lead can be routed: add leadroute to shared_preload_libraries and restart the server' END;
    RETURN NEXT;

    item := 'versions';
    ok := library = extension AND extension IS NOT DISTINCT FROM coalesce(installed, extension);
    detail := CASE WHEN ok THEN format('library, extension and installed files are %s', extension)
        ELSE format('library loaded %s, extension %s, installed %s: ', library, extension, coalesce(installed, 'unknown'))
            || CASE WHEN library = installed THEN '' ELSE 'restart the server if it has not been since the files were installed, then ' END
            || 'ALTER EXTENSION leadroute UPDATE' END;
    RETURN NEXT;

    item := 'shared memory';
    SELECT count(*) INTO full_alerts FROM leadroute.alert a WHERE a.kind = 'memory_full' AND a.acknowledged_at IS NULL;
    ok := full_alerts = 0;
    detail := CASE WHEN memory.preloaded THEN format('%s of %s tenants, %s of %s pool members loaded',
            memory.tenants, memory.tenant_limit, memory.members, memory.member_limit) ELSE 'not reserved' END
        || CASE WHEN ok THEN '' ELSE format('; it was full (%s alerts): raise leadroute.max_members and leadroute.max_pools, restart the server, acknowledge the alerts', full_alerts) END;
    RETURN NEXT;

    item := 'pg_cron';
    ok := true;
    detail := CASE
        WHEN current_setting('cron.database_name', true) IS NULL THEN 'not preloaded; another scheduler may call sweep()'
        ELSE format('version %s, in database %s%s', coalesce(
                (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'pg_cron'),
                (SELECT a.default_version || ' (not created here)' FROM pg_available_extensions() a WHERE a.name = 'pg_cron')),
            current_setting('cron.database_name'),
            CASE WHEN current_setting('cron.database_name') = current_database() THEN '' ELSE ', not this one' END) END;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION leadroute._health_server() IS 'health() of what belongs to the server.';

CREATE FUNCTION leadroute._event_worker(OUT running boolean, OUT failures integer, OUT pending bigint, OUT skipped bigint)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_event_worker';
COMMENT ON FUNCTION leadroute._event_worker() IS
    'Whether the worker that sends this database''s events runs, how often in a row it found no place in max_worker_processes, events that wait and that were skipped since the server started; all NULL when leadroute is not preloaded.';

CREATE FUNCTION leadroute._health_events() RETURNS TABLE (item text, ok boolean, detail text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    worker record;
    no_place boolean;
    full_queue CONSTANT boolean := pg_notification_queue_usage() > current_setting('leadroute.notify_queue_limit')::float8;
BEGIN
    SELECT * INTO worker FROM leadroute._event_worker();
    no_place := NOT worker.running AND worker.failures > 0 AND worker.pending > 0;
    item := 'events worker';
    ok := coalesce(NOT no_place AND NOT full_queue, true);
    detail := CASE
        WHEN worker.running IS NULL THEN 'not preloaded: there are no events'
        ELSE CASE WHEN worker.running THEN 'running'
                WHEN no_place THEN format('could not start: no process of max_worker_processes (%s) is free. Raise it and restart the server; the next insert with an event tries again', current_setting('max_worker_processes'))
                ELSE 'idle, starts with the next event' END
            || format('; %s events pending, %s skipped', worker.pending, worker.skipped)
            || CASE WHEN full_queue THEN format('; skips events: the notification queue is %s %% full (leadroute.notify_queue_limit). A session that listens is in a long transaction: end it',
                round(100 * pg_notification_queue_usage()::numeric, 1)) ELSE '' END
            || CASE current_setting('leadroute.notify') WHEN 'off' THEN '; leadroute.notify is off: inserts tell nobody, events_since() has all events'
                WHEN 'transaction' THEN '; leadroute.notify is transaction: inserts send their events themselves' ELSE '' END END;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION leadroute._health_events() IS 'health() of the worker that sends events.';

CREATE FUNCTION leadroute._trigger_problems(attachment integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH relation AS (
        SELECT leadroute._lead_relation(attachment) AS oid
        UNION SELECT p.relid FROM pg_partition_tree(leadroute._lead_relation(attachment)) p
    ), found AS (
        SELECT t.tgrelid, p.proname, t.tgenabled FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid
            JOIN pg_proc p ON p.oid = t.tgfoid AND p.pronamespace = 'leadroute'::regnamespace
    )
    SELECT string_agg(problem, ', ' ORDER BY problem) FROM (
        SELECT format('%s: trigger for %s() is missing', r.oid::regclass, w) AS problem
        FROM relation r, unnest('{route_lead,record_lead,follow_key,follow_owner,follow_delete,follow_truncate}'::text[]) w
        WHERE NOT EXISTS (SELECT FROM found f WHERE f.tgrelid = r.oid AND f.proname = w)
        UNION ALL
        SELECT format('%s: trigger for %s() is disabled', f.tgrelid::regclass, f.proname) FROM found f
        WHERE f.tgenabled NOT IN ('O', 'A')) p
$$;
COMMENT ON FUNCTION leadroute._trigger_problems(integer) IS
    'Triggers of an attachment that are missing or disabled, on the table or a partition; NULL when all is well.';

CREATE FUNCTION leadroute._health_tables() RETURNS TABLE (item text, ok boolean, detail text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment leadroute.lead_table;
    problem text;
BEGIN
    FOR attachment IN SELECT t.* FROM leadroute.lead_table t ORDER BY t.name LOOP
        item := format('lead table "%s"', attachment.name);
        IF leadroute._lead_relation(attachment.id) IS NULL THEN
            ok := false;
            detail := format('no table has its triggers, so that none of its leads is routed: leadroute.detach(%L), and attach the table again',
                attachment.name);
        ELSE
            problem := leadroute._trigger_problems(attachment.id);
            ok := problem IS NULL;
            detail := coalesce(problem || format(': leads there are not routed or not followed. ALTER TABLE ... ENABLE TRIGGER, or leadroute.detach(%L) and attach it again; leadroute.verify() counts the leads that were missed', attachment.name),
                format('triggers of %s are in place', leadroute._lead_relation(attachment.id)));
        END IF;
        RETURN NEXT;
    END LOOP;

    item := 'orphans';
    SELECT string_agg(DISTINCT t.tgrelid::regclass::text, ', ') INTO problem FROM pg_trigger t
    WHERE t.tgfoid = 'leadroute.route_lead()'::regprocedure AND t.tgparentid = 0 AND NOT EXISTS (
        SELECT FROM leadroute.lead_table l WHERE leadroute._lead_relation(l.id) = t.tgrelid);
    ok := problem IS NULL;
    detail := coalesce(problem || ': has triggers of leadroute and is not attached; inserts fail with LR002. Drop the triggers zz_leadroute*, or attach the table',
        'no table has triggers of leadroute without being attached');
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION leadroute._health_tables() IS 'health() of the lead tables.';

CREATE FUNCTION leadroute._health_rules() RETURNS TABLE (item text, ok boolean, detail text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
    many bigint;
BEGIN
    item := 'rule authors';
    SELECT string_agg(format('"%s" by %s', r.name, r.author), ', ' ORDER BY r.tenant, r.position), max(r.total) INTO problem, many
    FROM (SELECT u.*, count(*) OVER () AS total FROM leadroute.rule u
        WHERE u.active AND NOT EXISTS (SELECT FROM pg_roles o WHERE o.rolname = u.author)
        ORDER BY u.tenant, u.position LIMIT 10) r;
    ok := problem IS NULL;
    detail := coalesce(many || ' rule(s) are skipped because their author''s role is missing: ' || problem || '. Create the role, or UPDATE leadroute.rule SET author',
        'every active rule has its author''s role');
    RETURN NEXT;

    item := 'rules';
    SELECT string_agg(DISTINCT format('"%s"', r.name), ', ') INTO problem FROM leadroute.rule r
    WHERE r.active AND EXISTS (SELECT FROM leadroute.alert a WHERE a.tenant = r.tenant AND a.rule = r.id
        AND a.kind = 'rule_error' AND a.acknowledged_at IS NULL);
    ok := problem IS NULL;
    detail := coalesce('rules have raised errors: ' || problem || '. leadroute.alert says which; correct the conditions and acknowledge the alerts',
        'no alert about a rule is open');
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION leadroute._health_rules() IS 'health() of the rules.';

CREATE FUNCTION leadroute._health_for(caller name, OUT item text, OUT ok boolean, OUT detail text) RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leadroute._require_for(caller, 0, '{}');
    RETURN QUERY SELECT * FROM leadroute._health_server();
    RETURN QUERY SELECT * FROM leadroute._health_events();
    RETURN QUERY SELECT * FROM leadroute._health_sweep();
    RETURN QUERY SELECT * FROM leadroute._health_tables();
    RETURN QUERY SELECT * FROM leadroute._health_rules();
END
$$;
COMMENT ON FUNCTION leadroute._health_for(name) IS 'health() of a role.';
CREATE FUNCTION leadroute.health(OUT item text, OUT ok boolean, OUT detail text) RETURNS SETOF record
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.health() IS
    'Whether leadroute can work here, item by item; where ok is false, detail says what to do. For admins; quick at any size.';
