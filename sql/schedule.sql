-- sweep() by pg_cron, where it is there. pg_cron is looked up when asked for: leadroute does not need it.

CREATE FUNCTION leadroute._require_everywhere_for(caller name, doing text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT leadroute._everywhere_for(caller, '{admin}') THEN
        RAISE EXCEPTION USING ERRCODE = 'LR012', MESSAGE = format('role "%s" cannot %s', caller, doing),
            DETAIL = 'It is done for all tenants, and needs the level admin in all of them.',
            HINT = format('A superuser may grant it: SELECT leadroute.grant_access(%L, ''admin'', NULL);', quote_ident(caller));
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._require_everywhere_for(name, text) IS 'Raises LR012 for a role that is not admin of all tenants.';

CREATE FUNCTION leadroute._sweep_job_name() RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT 'leadroute sweep ' || current_database() $$;
COMMENT ON FUNCTION leadroute._sweep_job_name() IS 'What this database''s job is called in pg_cron.';

CREATE FUNCTION leadroute._cron_version() RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT e.extversion FROM pg_extension e WHERE e.extname = 'pg_cron'),
        (SELECT a.default_version FROM pg_available_extensions() a WHERE a.name = 'pg_cron'))
$$;
COMMENT ON FUNCTION leadroute._cron_version() IS 'pg_cron''s version: created here, else what would be; NULL where its files are missing.';

CREATE FUNCTION leadroute._cron_seconds(schedule text) RETURNS integer
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT (regexp_match(schedule, '^\s*(\d{1,6})\s+seconds?\s*$', 'i'))[1]::integer $$;
COMMENT ON FUNCTION leadroute._cron_seconds(text) IS 'How many seconds a schedule such as ''30 seconds'' names; NULL for any other.';

CREATE FUNCTION leadroute._require_cron(elsewhere text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cron_database CONSTANT text := current_setting('cron.database_name', true);
BEGIN
    IF cron_database IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = 'pg_cron does not run in this server',
            DETAIL = CASE WHEN leadroute._cron_version() IS NULL THEN 'It is not installed.' ELSE 'It is installed, but not in shared_preload_libraries.' END,
            HINT = format('Install it (Debian: postgresql-%s-cron), set shared_preload_libraries = ''pg_cron,leadroute'' and cron.database_name = %L, restart the server, CREATE EXTENSION pg_cron. Or let any other scheduler call every minute: psql -d %I -c ''CALL leadroute.sweep()''',
                current_setting('server_version_num')::integer / 10000, current_database(), current_database());
    ELSIF cron_database <> current_database() THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = format('pg_cron keeps its jobs in database "%s"', cron_database),
            DETAIL = 'Only there can they be changed.',
            HINT = format('In database "%s", as a superuser: %s', cron_database, elsewhere);
    ELSIF NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = 'the extension pg_cron is not created in this database',
            DETAIL = 'Its library is loaded, and its jobs belong here.', HINT = 'CREATE EXTENSION pg_cron;';
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._require_cron(text) IS
    'Raises LR005 where pg_cron has no jobs in this database, with what to do, or to run in its own database.';

CREATE FUNCTION leadroute._sweep_jobs() RETURNS TABLE (job bigint, owner text, schedule text, active boolean, stale boolean)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('cron.database_name', true) IS NOT DISTINCT FROM current_database()
        AND EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') THEN
        -- libpq mode: a job keeps the host and port of the day it was made
        RETURN QUERY EXECUTE 'SELECT j.jobid, j.username::text, j.schedule::text, j.active,
                (j.nodename, j.nodeport) IS DISTINCT FROM (coalesce(current_setting(''cron.host'', true), ''localhost''), current_setting(''port'')::integer)
            FROM cron.job j WHERE j.jobname::text = $1 AND j.database = current_database() ORDER BY j.jobid'
        USING leadroute._sweep_job_name();
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._sweep_jobs() IS
    'pg_cron''s jobs for sweep() here; stale: it would connect to another host or port than the server has now. None where pg_cron is not in this database.';

CREATE FUNCTION leadroute._schedule_sweep_for(caller name, schedule text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted CONSTANT text := coalesce(schedule, '* * * * *');
    version CONSTANT integer[] := regexp_match(leadroute._cron_version(), '^(\d+)\.(\d+)');
    job bigint;
BEGIN
    PERFORM leadroute._require_everywhere_for(caller, 'schedule sweep()');
    PERFORM leadroute._require_cron(format('SELECT cron.schedule_in_database(%L, %L, %L, %L);',
        leadroute._sweep_job_name(), wanted, 'CALL leadroute.sweep()', current_database()));
    IF leadroute._cron_seconds(wanted) IS NOT NULL AND version < '{1,5}' THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = format('pg_cron %s has no schedules in seconds: "%s"', leadroute._cron_version(), wanted),
            DETAIL = 'They came with pg_cron 1.5; before it a minute is the shortest.',
            HINT = 'Use ''* * * * *'', or a newer pg_cron.';
    END IF;
    EXECUTE 'SELECT count(cron.unschedule(j.job)) FROM leadroute._sweep_jobs() j WHERE j.stale OR j.owner <> current_user';
    -- same name and owner: changes the one there is
    EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job USING leadroute._sweep_job_name(), wanted, 'CALL leadroute.sweep()';
    EXECUTE 'SELECT cron.alter_job($1, active := true)' USING job;
    INSERT INTO leadroute.sweep_run AS s (scheduled_at) VALUES (clock_timestamp())
    ON CONFLICT (tenant) DO UPDATE SET scheduled_at = excluded.scheduled_at;
    RETURN job;
END
$$;
COMMENT ON FUNCTION leadroute._schedule_sweep_for(name, text) IS 'schedule_sweep() of a role.';
CREATE FUNCTION leadroute.schedule_sweep(schedule text DEFAULT '* * * * *') RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.schedule_sweep(text) IS
    'Lets pg_cron call sweep() on a schedule: five fields as of cron, in pg_cron''s time zone, or ''30 seconds'' where pg_cron is 1.5 or newer. Gives the job''s id. One job for the database, called ''leadroute sweep <database>'', which runs as leadroute''s owner; again: changes its schedule, switches it on. Takes the level admin in all tenants. Raises LR005 where pg_cron is missing, or keeps its jobs in another database (the hint says what to run there), or has no seconds; LR012; what pg_cron says of a schedule that it refuses.';

CREATE FUNCTION leadroute._unschedule_sweep_for(caller name) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    many bigint;
BEGIN
    PERFORM leadroute._require_everywhere_for(caller, 'unschedule sweep()');
    PERFORM leadroute._require_cron(format('SELECT cron.unschedule(%L);', leadroute._sweep_job_name()));
    EXECUTE 'SELECT count(cron.unschedule(j.job)) FROM leadroute._sweep_jobs() j' INTO many;
    UPDATE leadroute.sweep_run s SET scheduled_at = NULL WHERE s.tenant = 0;
    RETURN many > 0;
END
$$;
COMMENT ON FUNCTION leadroute._unschedule_sweep_for(name) IS 'unschedule_sweep() of a role.';
CREATE FUNCTION leadroute.unschedule_sweep() RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.unschedule_sweep() IS
    'Removes the job of schedule_sweep(); false where there was none. A sweep that runs goes on to its end. Takes the level admin in all tenants. Raises LR005 as schedule_sweep() does, LR012.';
