-- Are the promises kept? Reads the leads and the record, and compares the record with shared memory.
-- Whole tables are compared, so no nested loops: a table that grew since its last ANALYZE would be
-- taken for a small one, and the comparison would take hours.

CREATE FUNCTION leadroute._lead_keys(relation regclass, key_column name, tenant_column name, tenant bigint)
    RETURNS SETOF text
    LANGUAGE c STABLE ROWS 100000 AS 'MODULE_PATHNAME', 'leadroute_lead_keys';
COMMENT ON FUNCTION leadroute._lead_keys(regclass, name, name, bigint) IS
    'The keys of a tenant''s leads by the snapshot of the statement, in their output form. Scans the table and its partitions without planning a query, which would evaluate functions of the table''s owner.';

CREATE FUNCTION leadroute._verify_leads(tenant bigint, OUT lost bigint, OUT orphan bigint)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off
AS $$
DECLARE
    attachment leadroute.lead_table;
    lead regclass;
    found_lost bigint;
    found_orphan bigint;
BEGIN
    lost := 0;
    orphan := 0;
    FOR attachment IN SELECT t.* FROM leadroute.lead_table t ORDER BY t.id LOOP
        lead := leadroute._lead_relation(attachment.id);
        CONTINUE WHEN lead IS NULL;
        -- One statement, so that a lead and its record are seen by one snapshot.
        WITH key AS MATERIALIZED (
            SELECT k.lead_id COLLATE "C" AS lead_id
            FROM leadroute._lead_keys(lead, attachment.key_column, attachment.tenant_column,
                _verify_leads.tenant) AS k (lead_id))
        SELECT (SELECT count(*) FROM key
                WHERE NOT EXISTS (SELECT FROM leadroute.assignment a
                    WHERE a.tenant = _verify_leads.tenant AND a.lead_table = attachment.id AND a.lead_id = key.lead_id
                    AND (a.ended_at IS NULL OR a.end_reason = 'closed'))
                AND NOT EXISTS (SELECT FROM leadroute.unmanaged_lead u
                    WHERE u.tenant = _verify_leads.tenant AND u.lead_table = attachment.id AND u.lead_id = key.lead_id)),
            (SELECT count(*) FROM leadroute.assignment a
                WHERE a.tenant = _verify_leads.tenant AND a.lead_table = attachment.id AND a.ended_at IS NULL
                AND NOT EXISTS (SELECT FROM key WHERE key.lead_id = a.lead_id))
        INTO found_lost, found_orphan;
        lost := lost + found_lost;
        orphan := orphan + found_orphan;
    END LOOP;
    -- open episodes of attachments that are gone
    orphan := orphan + (SELECT count(*) FROM leadroute.assignment a
        WHERE a.tenant = _verify_leads.tenant AND a.ended_at IS NULL
          AND NOT EXISTS (SELECT FROM leadroute.lead_table t WHERE t.id = a.lead_table));
END
$$;
COMMENT ON FUNCTION leadroute._verify_leads(bigint) IS
    'Leads without any record, and open episodes without a lead.';

CREATE FUNCTION leadroute._verify_caps(tenant bigint) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off
AS $$
    -- Of the engine's leads of one day, at most c may have been given while the cap was c or less.
    -- Caps change: the excess is that of the worst cap of the day.
    WITH decided AS MATERIALIZED (
        SELECT a.rep, a.pool, a.day, a.rep_cap, a.member_cap FROM leadroute.assignment a
        WHERE a.tenant = _verify_caps.tenant AND a.method <> 'manual'
          AND a.rep IS NOT NULL AND a.day IS NOT NULL AND a.credit_day IS NOT TRUE
    ), excess AS (
        SELECT max(below - cap) AS over FROM (
            SELECT d.rep, d.day, d.rep_cap AS cap,
                count(*) OVER (PARTITION BY d.rep, d.day ORDER BY d.rep_cap) AS below
            FROM decided d WHERE d.rep_cap IS NOT NULL) by_rep
        GROUP BY rep, day
        UNION ALL
        SELECT max(below - cap) FROM (
            SELECT d.pool, d.rep, d.day, d.member_cap AS cap,
                count(*) OVER (PARTITION BY d.pool, d.rep, d.day ORDER BY d.member_cap) AS below
            FROM decided d WHERE d.member_cap IS NOT NULL AND d.pool IS NOT NULL) by_member
        GROUP BY pool, rep, day)
    SELECT coalesce(sum(e.over), 0)::bigint FROM excess e WHERE e.over > 0
$$;
COMMENT ON FUNCTION leadroute._verify_caps(bigint) IS
    'Leads that the engine gave beyond a rep''s or a pool member''s daily cap in force at the pick.';

CREATE FUNCTION leadroute._verify_open_caps(tenant bigint) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off
AS $$
    -- A rep's leads are played through in the order of the clock. decided_at follows the order of the
    -- picks, and ended_at comes before the moment when the end frees anything: so what is open here at
    -- a pick was open then. What is decided at the same moment as a pick is taken as later.
    WITH capped AS MATERIALIZED (
        SELECT DISTINCT a.rep FROM leadroute.assignment a
        WHERE a.tenant = _verify_open_caps.tenant AND a.open_cap IS NOT NULL
    ), lead AS MATERIALIZED (
        SELECT a.rep, a.decided_at, a.ended_at, CASE WHEN a.method <> 'manual' THEN a.open_cap END AS open_cap
        FROM leadroute.assignment a JOIN capped USING (rep)
        WHERE a.tenant = _verify_open_caps.tenant
    ), step AS (
        SELECT l.rep, l.decided_at AS at, 1 AS change, l.open_cap FROM lead l
        UNION ALL
        SELECT l.rep, greatest(l.ended_at, l.decided_at), -1, NULL FROM lead l WHERE l.ended_at IS NOT NULL
    ), played AS (
        SELECT s.open_cap, sum(s.change) OVER (PARTITION BY s.rep ORDER BY s.at, s.change, s.open_cap IS NULL
            ROWS UNBOUNDED PRECEDING) AS open FROM step s)
    SELECT count(*) FROM played p WHERE p.open > p.open_cap
$$;
COMMENT ON FUNCTION leadroute._verify_open_caps(bigint) IS
    'Leads that the engine gave to a rep who had as many open as the capacity in force at the pick.';

CREATE FUNCTION leadroute._verify_drift(tenant bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off
AS $$
DECLARE
    pools jsonb;
    days jsonb;
    member_days jsonb;
    open_leads jsonb;
    difference bigint;
BEGIN
    -- Settled turns and this transaction's own are in the rows that the next statement sees, those
    -- that other transactions hold are not. Memory is read first, in one go: it is the quick part.
    SELECT (SELECT jsonb_agg(jsonb_build_object('pool', m.pool, 'rep', m.rep,
                'many', m.received - m.in_flight + m.own_in_flight,
                'extra', m.extra - m.in_flight_extra + m.own_extra))
            FROM leadroute._pool_memory(_verify_drift.tenant) m),
        (SELECT jsonb_agg(jsonb_build_object('rep', m.rep, 'day', m.day,
                'many', m.used - m.in_flight + m.own_in_flight))
            FROM leadroute._day_memory(_verify_drift.tenant) m),
        (SELECT jsonb_agg(jsonb_build_object('pool', m.pool, 'rep', m.rep, 'day', m.day,
                'many', m.used - m.in_flight + m.own_in_flight))
            FROM leadroute._member_day_memory(_verify_drift.tenant) m),
        (SELECT jsonb_agg(jsonb_build_object('rep', m.rep, 'many', m.open - m.in_flight + m.own_in_flight - m.own_ending))
            FROM leadroute._open_memory(_verify_drift.tenant) m)
    INTO pools, days, member_days, open_leads;

    WITH pool_memory AS (
        SELECT m.* FROM jsonb_to_recordset(pools) AS m (pool integer, rep bigint, many bigint, extra bigint)
    ), day_memory AS (
        SELECT m.* FROM jsonb_to_recordset(days) AS m (rep bigint, day date, many bigint)
    ), member_memory AS (
        SELECT m.* FROM jsonb_to_recordset(member_days) AS m (pool integer, rep bigint, day date, many bigint)
    ), open_memory AS (
        SELECT m.* FROM jsonb_to_recordset(open_leads) AS m (rep bigint, many bigint)
    ), open_lead AS (
        SELECT a.rep, count(*) AS many FROM leadroute.assignment a
        WHERE a.tenant = _verify_drift.tenant AND a.rep IN (SELECT m.rep FROM open_memory m) AND a.ended_at IS NULL
        GROUP BY a.rep
    ), member AS (
        SELECT p.id AS pool, m.rep FROM leadroute.pool_member m
        JOIN leadroute.pool p ON p.tenant = m.tenant AND p.name = m.pool
        WHERE m.tenant = _verify_drift.tenant
    ), received AS (
        SELECT a.pool, a.rep, count(*) AS many, coalesce(sum(round((a.cost - 1) * 1024)), 0)::bigint AS extra
        FROM leadroute.assignment a
        WHERE a.tenant = _verify_drift.tenant AND a.rep IS NOT NULL AND a.pool IS NOT NULL
          AND a.credit_ticket IS NULL
        GROUP BY a.pool, a.rep
    ), today AS (
        SELECT r.id AS rep, (clock_timestamp() AT TIME ZONE r.timezone)::date AS day FROM leadroute.rep r
        WHERE r.tenant = _verify_drift.tenant
    ), used AS (
        SELECT a.pool, a.rep, a.day, count(*) AS many FROM leadroute.assignment a
        WHERE a.tenant = _verify_drift.tenant AND a.rep IS NOT NULL AND a.credit_day IS NOT TRUE AND a.day IN (
            SELECT m.day FROM day_memory m UNION SELECT m.day FROM member_memory m UNION SELECT t.day FROM today t)
        GROUP BY a.pool, a.rep, a.day
    )
    SELECT coalesce(sum(abs(d.difference)), 0) INTO difference FROM (
        SELECT abs(coalesce(m.many, 0) - coalesce(r.many, 0))
            + ceil(abs(coalesce(m.extra, 0) - coalesce(r.extra, 0)) / 1024.0)::bigint AS difference
        FROM member FULL JOIN pool_memory m USING (pool, rep) LEFT JOIN received r USING (pool, rep)
        UNION ALL
        SELECT m.many - coalesce(o.many, 0) FROM open_memory m LEFT JOIN open_lead o USING (rep)
        UNION ALL
        SELECT m.many - coalesce(sum(u.many), 0)
        FROM day_memory m LEFT JOIN used u USING (rep, day) GROUP BY m.rep, m.day, m.many
        UNION ALL
        SELECT u.many FROM today t JOIN used u USING (rep, day)
        WHERE NOT EXISTS (SELECT FROM day_memory m WHERE m.rep = t.rep AND m.day = t.day)
          -- a day before those that are kept, after the clock was set back, is not known
          AND coalesce(t.day >= (SELECT min(m.day) FROM day_memory m), true)
        UNION ALL
        SELECT m.many - coalesce(sum(u.many), 0)
        FROM member_memory m LEFT JOIN used u USING (pool, rep, day) GROUP BY m.pool, m.rep, m.day, m.many) d;
    RETURN difference;
END
$$;
COMMENT ON FUNCTION leadroute._verify_drift(bigint) IS
    'By how many turns shared memory differs from the record, at this moment.';

CREATE FUNCTION leadroute._verify_for(caller name, tenant bigint,
    OUT lost bigint, OUT "double" bigint, OUT overshoot bigint, OUT drift bigint, OUT orphan bigint)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off
AS $$
DECLARE
    difference bigint;
BEGIN
    PERFORM leadroute._require_for(caller, tenant, '{}');
    SELECT v.lost, v.orphan INTO lost, orphan FROM leadroute._verify_leads(_verify_for.tenant) v;
    SELECT coalesce(sum(d.many - 1), 0) INTO "double" FROM (
        SELECT count(*) AS many FROM leadroute.assignment a
        WHERE a.tenant = _verify_for.tenant AND a.ended_at IS NULL
        GROUP BY a.lead_table, a.lead_id HAVING count(*) > 1) d;
    overshoot := leadroute._verify_caps(_verify_for.tenant) + leadroute._verify_open_caps(_verify_for.tenant);

    -- Transactions settle between the reading of memory and of the record: what is wrong stays wrong.
    FOR attempt IN 1 .. 50 LOOP
        difference := leadroute._verify_drift(_verify_for.tenant);
        drift := least(drift, difference);
        EXIT WHEN drift = 0;
        PERFORM pg_sleep(0.02);
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._verify_for(name, bigint) IS 'verify() of a role.';
CREATE FUNCTION leadroute.verify(tenant bigint DEFAULT 0,
    OUT lost bigint, OUT "double" bigint, OUT overshoot bigint, OUT drift bigint, OUT orphan bigint)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.verify(bigint) IS
    'All 0 when the promises hold. lost: leads without any record; double: open episodes beyond one per lead; overshoot: leads given by the engine beyond a daily cap or a capacity in force then; drift: turns (units of value, with the method value) by which shared memory differs from the record, looked at up to 50 times within a second since transactions settle meanwhile; orphan: open episodes without a lead. Reads whole tables. Run it in READ COMMITTED: a transaction of a higher level has an old snapshot, and may see drift that is none.';
