-- Offers (pool mode broadcast) whose time is over: the lead is given out by its pool's method, else by
-- its overflow pools, else it waits to be claimed. Seen to by whoever walks through the backlog
-- (backlog.sql), before all else.

CREATE FUNCTION leadroute._offers_forget() RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_offers_forget';
COMMENT ON FUNCTION leadroute._offers_forget() IS
    'The time at which the next offer of this database ends is looked up anew: _offers_note() tells it.';

CREATE FUNCTION leadroute._offers_note(until timestamptz) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_offers_note';
COMMENT ON FUNCTION leadroute._offers_note(timestamptz) IS
    'An offer of this database ends at this time: the worker, if it runs, wakes then.';

CREATE FUNCTION leadroute._backlog_try(attachment integer, lead_id text, tenant bigint, rule bigint, pool integer) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM leadroute.alert a WHERE a.tenant = _backlog_try.tenant AND a.kind = 'backlog_error'
        AND a.acknowledged_at IS NULL AND a.lead_table = attachment AND a.lead_id = _backlog_try.lead_id
        AND a.raised_at > clock_timestamp() - interval '10 minutes') THEN
        RETURN 'rests';
    END IF;
    RETURN leadroute._backlog_lead(attachment, lead_id, tenant);
EXCEPTION WHEN OTHERS THEN
    -- those will pass
    IF left(SQLSTATE, 2) IN ('40', '53', '55', '57') THEN
        RETURN 'skipped';
    END IF;
    PERFORM leadroute._backlog_failed(attachment, lead_id, tenant, rule, pool, SQLERRM);
    RETURN 'failed';
END
$$;
COMMENT ON FUNCTION leadroute._backlog_try(integer, text, bigint, bigint, integer) IS
    '_backlog_lead() of a lead that may fail: then it is failed and set aside, and rests meanwhile.';

CREATE FUNCTION leadroute._offers_step(offers jsonb, most integer, OUT rest jsonb, OUT given integer)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    until CONSTANT timestamptz := (offers ->> 'until')::timestamptz;
    of_tenants CONSTANT bigint[] := (SELECT array_agg(t::bigint) FROM jsonb_array_elements_text(nullif(offers -> 'tenants', 'null')) t);
    at CONSTANT jsonb := offers -> 'at';
    candidate record;
    tried integer := 0;
BEGIN
    given := 0;
    FOR candidate IN
        SELECT a.offered_until, a.tenant, a.lead_table, a.lead_id, a.rule, a.pool FROM leadroute.assignment a
        WHERE a.offered_until BETWEEN coalesce((at ->> 0)::timestamptz, '-infinity') AND until AND a.ended_at IS NULL
          AND (of_tenants IS NULL OR a.tenant = ANY (of_tenants))
          AND (at IS NULL OR (a.offered_until, a.tenant, a.lead_table, a.lead_id)
              > ((at ->> 0)::timestamptz, (at ->> 1)::bigint, (at ->> 2)::integer, at ->> 3))
        ORDER BY a.offered_until, a.tenant, a.lead_table, a.lead_id LIMIT most
    LOOP
        tried := tried + 1;
        rest := offers || jsonb_build_object('at', jsonb_build_array(candidate.offered_until, candidate.tenant,
            candidate.lead_table, candidate.lead_id));
        given := given + (leadroute._backlog_try(candidate.lead_table, candidate.lead_id, candidate.tenant,
            candidate.rule, candidate.pool) = 'given')::integer;
    END LOOP;
    IF tried < most THEN
        rest := NULL;
        PERFORM leadroute._offers_forget();
        -- what is left of those that are over is tried again a little later
        PERFORM leadroute._offers_note(greatest(a.offered_until, clock_timestamp() + interval '10 seconds'))
        FROM (SELECT o.offered_until FROM leadroute.assignment o
              WHERE o.offered_until < 'infinity' AND o.ended_at IS NULL ORDER BY o.offered_until LIMIT 1) a;
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._offers_step(jsonb, integer) IS
    'Ends at most so many offers whose time is over: offers has until (a time), tenants (NULL: all) and at (how far it has come). Tells what is left (NULL: nothing) and how many leads were given out.';
