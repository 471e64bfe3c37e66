-- Taking note of alerts.

CREATE FUNCTION leadroute._acknowledge_for(caller name, alert bigint, tenant bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    all_alerts CONSTANT boolean := leadroute._require_for(caller, tenant, '{app,manager}') IN ('admin', 'app');
BEGIN
    -- the policies on alert, for a function that runs as the owner
    IF NOT EXISTS (SELECT FROM leadroute.alert a WHERE a.tenant = tenant AND a.id = alert AND (all_alerts
            OR EXISTS (SELECT FROM leadroute._my_reps_for(caller) m WHERE m.tenant = tenant AND m.rep IN (a.manager, a.rep))
            OR EXISTS (SELECT FROM leadroute._my_pools_for(caller) m WHERE m.tenant = tenant AND m.pool = a.pool))) THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008', MESSAGE = format('no alert %s', coalesce(alert::text, 'NULL')),
            DETAIL = format('There is none of that number%s that role "%s" may see.',
                CASE WHEN tenant = 0 THEN '' ELSE format(' in tenant %s', tenant) END, caller),
            HINT = 'SELECT id, kind, message FROM leadroute.alert WHERE acknowledged_at IS NULL shows those that are open.';
    END IF;
    UPDATE leadroute.alert a SET acknowledged_at = clock_timestamp(), acknowledged_by = caller
    WHERE a.tenant = tenant AND a.id = alert AND a.acknowledged_at IS NULL;
END
$$;
COMMENT ON FUNCTION leadroute._acknowledge_for(name, bigint, bigint) IS 'acknowledge() of a role.';
CREATE FUNCTION leadroute.acknowledge(alert bigint, tenant bigint DEFAULT 0) RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.acknowledge(bigint, bigint) IS
    'Takes note of an alert: who (the role whose rights are in force) and when. One that was acknowledged before stays as it is. Levels app and admin any of the tenant; manager those that are for him, or about his reps or the pools he manages. A rep none: what is about him is for others to see. Locks the alert''s row. Raises LR008 when there is no such alert, or it may not be seen, LR012 without a level.';
