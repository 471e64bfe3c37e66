-- What a rep may claim: available_leads() and shark_tank(). They tell what claim() would grant at this
-- moment, by the very terms, caps and allowances that it goes by (src/pg/available.cpp); leads are found
-- along the indexes that claim_next() goes along, and no more of them are read than are told.

CREATE FUNCTION leadroute._claim_pools(tenant bigint, rep bigint)
    RETURNS TABLE (pool integer, pulls boolean, exclusive interval)
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_claim_pools';
COMMENT ON FUNCTION leadroute._claim_pools(bigint, bigint) IS
    'The pools out of which a rep may claim leads that it has seen, now: a member who is not paused, signed in where the pool asks for it, below its caps and allowances. pulls: its mode is another than push; exclusive: how long its leads are for others first. Raises LR001, LR013.';

CREATE FUNCTION leadroute._meets(tenant bigint, rep bigint, needs text[]) RETURNS boolean
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_meets';
COMMENT ON FUNCTION leadroute._meets(bigint, bigint, text[]) IS 'Whether a rep has the skills that a lead needs.';

CREATE FUNCTION leadroute._has_lost(a leadroute.assignment, rep bigint) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM leadroute.assignment e
        WHERE e.tenant = a.tenant AND e.lead_table = a.lead_table AND e.lead_id = a.lead_id AND e.rep = _has_lost.rep
          AND e.ended_at IS NOT NULL AND e.end_reason = 'claimed')
$$;
COMMENT ON FUNCTION leadroute._has_lost(leadroute.assignment, bigint) IS
    'Whether a rep has lost the lead to another out of the shark tank, rather than given it up.';

CREATE FUNCTION leadroute._tables_of_rep(of_rep leadroute.rep) RETURNS integer[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(t.id) FROM leadroute.lead_table t, leadroute._lead_relation(t.id) relation
    WHERE relation IS NOT NULL AND leadroute._owner_problem(t, relation, of_rep) IS NULL
$$;
COMMENT ON FUNCTION leadroute._tables_of_rep(leadroute.rep) IS 'The lead tables whose owner column can name a rep.';

CREATE FUNCTION leadroute._listed_pools(caller name, tenant bigint, rep bigint, wanted text)
    RETURNS TABLE (pool integer, pulls boolean, exclusive interval)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    level CONSTANT text := leadroute._require_rep_for(caller, tenant, rep);
    only_pool CONSTANT integer := (SELECT p.id FROM leadroute.pool p WHERE p.tenant = tenant AND p.name = wanted);
    unknown text[];
BEGIN
    IF wanted IS NOT NULL AND only_pool IS NULL THEN
        unknown := ARRAY[format('there is no pool "%s"', wanted), 'leadroute.pool has no such name', 'Give the name of a pool of the rep''s tenant, or NULL for all of them.'];
    ELSIF NOT EXISTS (SELECT FROM leadroute.rep r WHERE r.tenant = tenant AND r.id = rep) THEN
        unknown := ARRAY[format('there is no rep %s', coalesce(rep::text, 'NULL')), 'leadroute.rep has no such id', 'Give the id of a rep, and its tenant where there are several.'];
    END IF;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008', MESSAGE = unknown[1], HINT = unknown[3],
            DETAIL = unknown[2] || CASE WHEN tenant = 0 THEN '.' ELSE format(' in tenant %s.', coalesce(tenant::text, 'NULL')) END;
    END IF;
    RETURN QUERY SELECT c.pool, c.pulls, c.exclusive FROM leadroute._claim_pools(tenant, rep) c
    WHERE (only_pool IS NULL OR c.pool = only_pool)
      AND (level <> 'manager' OR c.pool NOT IN (SELECT leadroute._foreign_pools(caller, tenant, rep)));
END
$$;
COMMENT ON FUNCTION leadroute._listed_pools(name, bigint, bigint, text) IS
    'The pools whose leads a role is told of that asks what a rep may claim; raises LR008, LR012.';

CREATE FUNCTION leadroute._read_leads(attachment leadroute.lead_table, relation regclass, ids text[], tenant bigint,
    OUT keys text[], OUT leads jsonb[])
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_type CONSTANT regtype := (SELECT a.atttypid FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = attachment.key_column);
BEGIN
    SELECT l.keys, l.leads INTO keys, leads FROM leadroute._read_lead(relation,
        format('SELECT pg_catalog.array_agg(l.%1$I::pg_catalog.text), pg_catalog.array_agg(pg_catalog.to_jsonb(l)) FROM %2$s l
            WHERE l.%1$I OPERATOR(pg_catalog.=) ANY (%3$L::pg_catalog.%4$s[])%5$s', attachment.key_column, relation, ids,
            CASE WHEN key_type IN ('int4'::regtype, 'int8'::regtype) THEN 'int8' WHEN key_type = 'uuid'::regtype THEN 'uuid' ELSE 'text' END,
            CASE WHEN attachment.tenant_column IS NULL THEN ''
                ELSE format(' AND l.%I OPERATOR(pg_catalog.=) %s::pg_catalog.int8', attachment.tenant_column, tenant) END))
        AS l (keys text[], leads jsonb[]);
END
$$;
COMMENT ON FUNCTION leadroute._read_leads(leadroute.lead_table, regclass, text[], bigint) IS
    'The rows of leads with these ids, as jsonb, read with the rights of the table''s owner.';

CREATE FUNCTION leadroute._queue_query(tank boolean, pulls boolean) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- $1 tenant, $2 rep, $3 lead tables, $4 how many; then pool and exclusive
    SELECT format('(SELECT a.lead_table, a.lead_id, %1$s AS since, leadroute._place(a.label, a.at_front) AS place,
            coalesce(-a.score, ''Infinity'') AS minus_score, a.label
        FROM leadroute.assignment a
        WHERE a.tenant = $1 AND a.ended_at IS NULL AND %2$s AND a.lead_table = ANY ($3)
          AND (a.needs IS NULL OR leadroute._meets($1, $2, a.needs))
          AND (a.avoid IS NULL OR $2 <> ALL (a.avoid) OR NOT leadroute._has_lost(a, $2))
        ORDER BY leadroute._place(a.label, a.at_front), coalesce(-a.score, ''Infinity''), %1$s, a.lead_id USING OPERATOR(leadroute.<#)
        LIMIT $4)',
        CASE WHEN tank THEN 'a.tank_at' ELSE 'a.decided_at' END,
        CASE WHEN tank THEN 'a.tank_pool = %1$s AND a.touched_at IS NULL AND a.rep <> $2'
            ELSE 'a.pool = %1$s AND a.rep IS NULL AND a.method <> ''manual'' AND (%2$L::interval IS NULL OR a.decided_at + %2$L::interval <= clock_timestamp())'
                || CASE WHEN pulls THEN '' ELSE ' AND a.given_by IS NOT NULL' END END)
$$;
COMMENT ON FUNCTION leadroute._queue_query(boolean, boolean) IS
    'Query for the leads of a pool, or of its shark tank, that a rep may claim, in their order: by index, and no further than needed.';

CREATE FUNCTION leadroute._claimable(tenant bigint, of_rep leadroute.rep, pools integer[], pulls boolean[], exclusive interval[], tank boolean)
    RETURNS TABLE (lead_table text, lead_id text, pool text, waiting_since timestamptz, priority integer, lead jsonb)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    most CONSTANT integer := current_setting('leadroute.list_leads');
    query text;
    tables integer[];
    ids text[];
    of_pools integer[];
    since timestamptz[];
    priorities integer[];
    attachment leadroute.lead_table;
    found_leads record;
    found_tables integer[] := '{}';
    found_keys text[] := '{}';
    found_rows jsonb[] := '{}';
BEGIN
    SELECT string_agg(format('SELECT %s AS pool, q.* FROM %s q', p.pool, format(leadroute._queue_query(tank, p.pulls), p.pool, p.exclusive)), ' UNION ALL ')
    INTO query FROM unnest(pools, pulls, exclusive) p (pool, pulls, exclusive);
    IF query IS NULL THEN
        RETURN;
    END IF;
    EXECUTE 'SELECT array_agg(c.lead_table), array_agg(c.lead_id), array_agg(c.pool), array_agg(c.since),
            array_agg(nullif(leadroute._place(c.label, false), 2147483647))
        FROM (SELECT * FROM (' || query || ') u ORDER BY u.place, u.minus_score, u.since, u.lead_id USING OPERATOR(leadroute.<#) LIMIT $4) c'
    INTO tables, ids, of_pools, since, priorities USING tenant, of_rep.id, leadroute._tables_of_rep(of_rep), most;
    FOR attachment IN SELECT t.* FROM leadroute.lead_table t WHERE t.id = ANY (tables) LOOP
        SELECT l.* INTO found_leads FROM leadroute._read_leads(attachment, leadroute._lead_relation(attachment.id),
            (SELECT array_agg(u.id) FROM unnest(tables, ids) u (lead_table, id) WHERE u.lead_table = attachment.id), tenant) l;
        found_tables := found_tables || array_fill(attachment.id, ARRAY[coalesce(cardinality(found_leads.keys), 0)]);
        found_keys := found_keys || found_leads.keys;
        found_rows := found_rows || found_leads.leads;
    END LOOP;
    SET LOCAL enable_sort = on;
    RETURN QUERY SELECT t.name, c.lead_id, p.name, c.since, c.priority, f.lead
    FROM unnest(tables, ids, of_pools, since, priorities) WITH ORDINALITY AS c (lead_table, lead_id, pool, since, priority, n)
        JOIN unnest(found_tables, found_keys, found_rows) AS f (lead_table, lead_id, lead) USING (lead_table, lead_id)
        JOIN leadroute.lead_table t ON t.id = c.lead_table
        JOIN leadroute.pool p ON p.tenant = _claimable.tenant AND p.id = c.pool
    -- what has an owner that the record does not know of is not claimed
    WHERE tank OR (f.lead ->> t.owner_column) IS NULL
    ORDER BY c.n;
END
$$;
COMMENT ON FUNCTION leadroute._claimable(bigint, leadroute.rep, integer[], boolean[], interval[], boolean) IS
    'The leads in these queues that a rep may claim, at most leadroute.list_leads, in the order in which claim_next() gives them.';

CREATE FUNCTION leadroute._available_leads_for(caller name, rep bigint, OUT lead_table text, OUT lead_id text, INOUT pool text,
    OUT waiting_since timestamptz, OUT priority integer, OUT lead jsonb, tenant bigint)
    RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    RETURN QUERY SELECT c.* FROM (SELECT array_agg(p.pool) AS pools, array_agg(p.pulls) AS pulls, array_agg(p.exclusive) AS exclusive
            FROM leadroute._listed_pools(caller, tenant, rep, pool) p) l,
        leadroute._claimable(tenant, (SELECT r FROM leadroute.rep r WHERE r.tenant = tenant AND r.id = rep), l.pools, l.pulls, l.exclusive, false) c;
END
$$;
COMMENT ON FUNCTION leadroute._available_leads_for(name, bigint, text, bigint) IS 'available_leads() of a role.';
CREATE FUNCTION leadroute.available_leads(rep bigint, OUT lead_table text, OUT lead_id text, INOUT pool text DEFAULT NULL,
    OUT waiting_since timestamptz, OUT priority integer, OUT lead jsonb, tenant bigint DEFAULT 0)
    RETURNS SETOF record
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.available_leads(bigint, text, bigint) IS
    'The leads that claim() would give a rep at this moment, of one pool or of all that the rep is a member of: what waits in a pool with the mode pull or broadcast, and what somebody has released in any; the rep has the skills it needs, it is not for the first tier alone, and its owner column can name the rep. In the order in which claim_next() gives them: by priority (that of the label, lowest first; NULL: none), score and age, those put to the front before all. Empty while the rep may claim nothing: paused, not signed in where the pool asks for it, or at a cap or an allowance, since a list of what one cannot take is of no use. Leaves out pools with claim_blind, and what the rep has lost in the shark tank; what the rep has released itself is there, though claim_next() passes it over. At most leadroute.list_leads rows, found by index. lead is the row, read with the rights of its table''s owner: the level is what allows it, not a right on the table or a policy there. Takes the level app, or rep or manager for a rep of its own (a manager for a member of its pools: of those alone). Locks nothing. Raises LR001, LR008 (no such rep or pool), LR012, LR013.';

CREATE FUNCTION leadroute._shark_tank_for(caller name, rep bigint, tenant bigint)
    RETURNS TABLE (lead_table text, lead_id text, pool text, waiting_since timestamptz, priority integer, lead jsonb)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    RETURN QUERY SELECT c.* FROM (SELECT array_agg(p.pool) AS pools, array_agg(p.pulls) AS pulls, array_agg(p.exclusive) AS exclusive
            FROM leadroute._listed_pools(caller, tenant, rep, NULL) p) l,
        leadroute._claimable(tenant, (SELECT r FROM leadroute.rep r WHERE r.tenant = tenant AND r.id = rep), l.pools, l.pulls, l.exclusive, true) c;
END
$$;
COMMENT ON FUNCTION leadroute._shark_tank_for(name, bigint, bigint) IS 'shark_tank() of a role.';
CREATE FUNCTION leadroute.shark_tank(rep bigint, tenant bigint DEFAULT 0)
    RETURNS TABLE (lead_table text, lead_id text, pool text, waiting_since timestamptz, priority integer, lead jsonb)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.shark_tank(bigint, bigint) IS
    'The leads of others that claim() would give a rep at this moment out of the shark tank: those that their reps have not touched in time, in the pools that the rep is a member of, but for its own and what it has lost there itself. waiting_since: when the lead came into the tank. Else as available_leads(): empty while the rep may claim nothing, without pools with claim_blind, at most leadroute.list_leads rows. In the order in which claim_next() gives them where shark_tank_order is next. Takes the level app, or rep or manager for a rep of its own. Locks nothing. Raises LR001, LR008 (no such rep), LR012, LR013.';
