-- Does sweep() run, and in time? It notes when it began and ended; whoever notices that it is late, the
-- next sweep or the background worker on its rounds, alerts.

CREATE POLICY admin ON leadroute.sweep_run USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));

CREATE FUNCTION leadroute._cron_every(schedule text) RETURNS interval
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN leadroute._cron_seconds(schedule) IS NOT NULL THEN make_interval(secs => leadroute._cron_seconds(schedule))
        WHEN f[4] <> '*' THEN interval '366 days'
        WHEN f[3] <> '*' THEN interval '31 days'
        WHEN f[5] <> '*' THEN interval '7 days'
        WHEN f[2] ~ '^\*/\d{1,3}$' THEN make_interval(hours => substr(f[2], 3)::integer)
        WHEN f[2] <> '*' THEN interval '1 day'
        WHEN f[1] ~ '^\*/\d{1,3}$' THEN make_interval(mins => substr(f[1], 3)::integer)
        WHEN f[1] <> '*' THEN interval '1 hour'
        ELSE interval '1 minute' END
    FROM regexp_split_to_array(btrim(schedule), '\s+') f
$$;
COMMENT ON FUNCTION leadroute._cron_every(text) IS 'How long it is from one run to the next at most, by a schedule of pg_cron; by days, hours or minutes, not exactly.';

CREATE FUNCTION leadroute._sweep_state(OUT every interval, OUT lag interval, OUT ran_at timestamptz, OUT seen_at timestamptz,
    OUT took interval, OUT due_since timestamptz)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
BEGIN
    SELECT min(leadroute._cron_every(j.schedule)) INTO every FROM leadroute._sweep_jobs() j WHERE j.active;
    lag := greatest(2 * every, interval '5 minutes');
    SELECT s.ended_at, greatest(s.begun_at, s.ended_at, s.scheduled_at), s.took INTO ran_at, seen_at, took
    FROM leadroute.sweep_run s WHERE s.tenant = 0;
    SELECT a.next_step_at INTO due_since FROM leadroute.assignment a
    WHERE a.next_step_at IS NOT NULL AND a.ended_at IS NULL AND a.touched_at IS NULL ORDER BY a.next_step_at LIMIT 1;
END
$$;
COMMENT ON FUNCTION leadroute._sweep_state() IS
    'By what schedule pg_cron calls sweep() here (every; NULL: it does not), how late it may be (lag), when one last came to its end (ran_at) and there was last a sign of one (seen_at), how long it took, and since when the longest overdue lead waits for its step, or when the next one is due (due_since).';

CREATE FUNCTION leadroute._sweep_watch() RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    state record;
    moment CONSTANT timestamptz := clock_timestamp();
    late boolean;
BEGIN
    SELECT s.* INTO state FROM leadroute._sweep_state() s;
    late := coalesce(state.seen_at < moment - state.lag, true)
        AND (state.every IS NOT NULL AND state.seen_at IS NOT NULL OR coalesce(state.due_since < moment - state.lag, false));
    -- one for as long as none runs, unless it is acknowledged meanwhile
    IF late THEN
        INSERT INTO leadroute.alert (kind, message)
        SELECT 'sweep_late', concat('sweep() has not run', ' since ' || state.seen_at::text,
            CASE WHEN state.every IS NULL THEN ', and is not scheduled here' ELSE format(', which should run every %s', state.every) END,
            CASE WHEN state.due_since < moment THEN format('; leads wait for it since %s', state.due_since) END)
        WHERE NOT EXISTS (SELECT FROM leadroute.alert a WHERE a.tenant = 0 AND a.kind = 'sweep_late'
            AND (a.raised_at > moment - interval '1 minute' OR a.acknowledged_at IS NULL AND a.raised_at > coalesce(state.seen_at, '-infinity')));
    END IF;
    RETURN late;
END
$$;
COMMENT ON FUNCTION leadroute._sweep_watch() IS
    'Alerts (sweep_late) when sweep() should have run and did not: by its schedule, or because leads wait for their steps for over five minutes. Gives whether it is late.';

CREATE FUNCTION leadroute._sweep_begins(tenants bigint[]) RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    IF tenants IS NOT NULL THEN
        RETURN NULL;
    END IF;
    PERFORM leadroute._sweep_watch();
    INSERT INTO leadroute.sweep_run AS s (begun_at) VALUES (moment)
    ON CONFLICT (tenant) DO UPDATE SET begun_at = moment;
    RETURN moment;
END
$$;
COMMENT ON FUNCTION leadroute._sweep_begins(bigint[]) IS
    'Notes that a sweep of all tenants (NULL) begins, alerts where it is late; gives the time, NULL for a sweep of some.';

CREATE FUNCTION leadroute._sweep_ends(begun timestamptz) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leadroute.sweep_run s SET ended_at = clock_timestamp(), took = clock_timestamp() - begun WHERE s.tenant = 0;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION leadroute._sweep_ends(timestamptz) IS 'Notes that a sweep of all tenants that began then has come to its end.';

CREATE FUNCTION leadroute._health_sweep() RETURNS TABLE (item text, ok boolean, detail text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    state record;
    job record;
    moment CONSTANT timestamptz := clock_timestamp();
    recent boolean;
BEGIN
    SELECT s.* INTO state FROM leadroute._sweep_state() s;
    SELECT j.* INTO job FROM leadroute._sweep_jobs() j ORDER BY j.active DESC, j.job LIMIT 1;
    recent := coalesce(greatest(state.ran_at, CASE WHEN state.every IS NOT NULL THEN (SELECT s.scheduled_at FROM leadroute.sweep_run s WHERE s.tenant = 0) END)
        >= moment - state.lag, false);
    item := 'sweep';
    ok := recent OR state.every IS NULL AND state.due_since IS NULL;
    detail := CASE WHEN state.every IS NULL THEN 'not scheduled by pg_cron here; ' ELSE format('every %s; ', state.every) END
        || CASE WHEN state.ran_at IS NULL THEN 'has not run to its end yet'
            ELSE format('ran to its end at %s, in %s', state.ran_at, state.took) END
        || CASE WHEN ok THEN '' WHEN state.every IS NULL THEN '; leads have clocks that only it looks at. SELECT leadroute.schedule_sweep(), or let another scheduler call it every minute'
            ELSE '; it is late. cron.job_run_details and the server''s log say why; CALL leadroute.sweep() catches up' END;
    RETURN NEXT;

    item := 'sweep job';
    ok := job.job IS NULL OR job.active AND NOT job.stale;
    detail := CASE WHEN job.job IS NULL THEN 'none of pg_cron in this database'
        WHEN NOT job.active THEN format('pg_cron job %s is switched off: SELECT leadroute.schedule_sweep(%L)', job.job, job.schedule)
        WHEN job.stale THEN format('pg_cron job %s would connect to another host or port than the server''s: SELECT leadroute.schedule_sweep(%L)', job.job, job.schedule)
        ELSE format('pg_cron job %s, "%s", as %s', job.job, job.schedule, job.owner) END;
    IF job.job IS NOT NULL AND current_setting('cron.use_background_workers', true)::boolean
        AND regexp_match(leadroute._cron_version(), '^(\d+)\.(\d+)')::integer[] < '{1,5}' THEN
        ok := false;
        detail := detail || format('; with cron.use_background_workers pg_cron %s lets one long job hold up all others: switch it off', leadroute._cron_version());
    END IF;
    RETURN NEXT;

    item := 'overdue leads';
    ok := coalesce(state.due_since >= moment - state.lag, true);
    detail := CASE WHEN coalesce(state.due_since > moment, true) THEN 'none waits for a step of its policy'
        ELSE format('the longest overdue waits for a step of its policy since %s', state.due_since) END
        || CASE WHEN ok THEN '' ELSE ': CALL leadroute.sweep(); alerts sla_error say what it could not do' END;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION leadroute._health_sweep() IS 'health() of sweep().';
