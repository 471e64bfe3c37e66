-- Who may see and do what. Tables and views are read with the reader's own rights: grant_access()
-- GRANTs what a level needs, and policies on the tables let each role see its rows alone, whatever
-- functions it writes into its queries. What changes things for somebody without rights on the tables
-- is a function by leadroute_for_caller (src/pg/caller.cpp), whose inner function begins with one of
-- the _require functions.
--
--   admin     configuration, and all that is recorded
--   app       all leads of the tenant: its own users are behind it
--   manager   the leads of the reps it manages, directly or not, and of the pools they manage
--   rep       its own leads: those of the reps whose db_role it is; and what waits to be claimed in
--             their pools with the mode pull or broadcast, unless claim_blind

-- What the caller's levels are --------------------------------------------------------------------

CREATE FUNCTION leadroute._levels_for(caller name)
    RETURNS TABLE (tenant bigint, every_tenant boolean, level text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.tenant, a.every_tenant, a.level FROM leadroute.access a JOIN pg_roles r ON r.rolname = a.role
    WHERE pg_has_role(caller, r.oid, 'USAGE')
$$;
COMMENT ON FUNCTION leadroute._levels_for(name) IS
    'The levels of a role, its own and those of the roles whose rights it has.';

CREATE FUNCTION leadroute._everywhere_for(caller name, levels text[]) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = caller), false)
        OR EXISTS (SELECT FROM leadroute._levels_for(caller) l WHERE l.every_tenant AND l.level = ANY (levels))
$$;
COMMENT ON FUNCTION leadroute._everywhere_for(name, text[]) IS '_everywhere() of a role.';
CREATE FUNCTION leadroute._everywhere(levels text[]) RETURNS boolean
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._everywhere(text[]) IS 'Whether the caller has one of these levels in all tenants.';

CREATE FUNCTION leadroute._my_tenants_for(caller name, levels text[]) RETURNS bigint[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT array_agg(DISTINCT l.tenant) FROM leadroute._levels_for(caller) l WHERE l.level = ANY (levels) $$;
COMMENT ON FUNCTION leadroute._my_tenants_for(name, text[]) IS '_my_tenants() of a role.';
CREATE FUNCTION leadroute._my_tenants(levels text[]) RETURNS bigint[]
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._my_tenants(text[]) IS 'The tenants in which the caller has one of these levels.';

CREATE FUNCTION leadroute._my_reps_for(caller name) RETURNS TABLE (tenant bigint, rep bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE mine AS (
        SELECT r.tenant, r.id, bool_or(l.level = 'manager') AS manages
        FROM leadroute.rep r JOIN leadroute._levels_for(caller) l
            ON (l.tenant = r.tenant OR l.every_tenant) AND l.level IN ('rep', 'manager')
        WHERE r.db_role = caller GROUP BY r.tenant, r.id
        UNION
        SELECT r.tenant, r.id, true FROM mine m
            JOIN leadroute.rep r ON r.tenant = m.tenant AND r.manager = m.id
        WHERE m.manages)
    SELECT DISTINCT m.tenant, m.id FROM mine m
$$;
COMMENT ON FUNCTION leadroute._my_reps_for(name) IS '_my_reps() of a role.';
CREATE FUNCTION leadroute._my_reps() RETURNS TABLE (tenant bigint, rep bigint)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._my_reps() IS
    'The reps whose db_role the caller is, and with the level manager those whom they manage, directly or not.';

CREATE FUNCTION leadroute._my_pools_for(caller name) RETURNS TABLE (tenant bigint, pool integer, name text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.tenant, p.id, p.name FROM leadroute._my_reps_for(caller) m
        JOIN leadroute.pool p ON p.tenant = m.tenant AND p.manager = m.rep
    WHERE EXISTS (SELECT FROM leadroute._levels_for(caller) l
        WHERE (l.tenant = p.tenant OR l.every_tenant) AND l.level = 'manager')
$$;
COMMENT ON FUNCTION leadroute._my_pools_for(name) IS '_my_pools() of a role.';
CREATE FUNCTION leadroute._my_pools() RETURNS TABLE (tenant bigint, pool integer, name text)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._my_pools() IS 'The pools that the caller''s reps manage, with the level manager.';

CREATE FUNCTION leadroute._my_lead_tables_for(caller name) RETURNS TABLE (tenant bigint, lead_table integer)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m.tenant, t.id FROM leadroute._my_reps_for(caller) m
        JOIN leadroute.lead_table t ON t.manager = m.rep AND (t.tenant_column IS NOT NULL OR m.tenant = 0)
    WHERE EXISTS (SELECT FROM leadroute._levels_for(caller) l
        WHERE (l.tenant = m.tenant OR l.every_tenant) AND l.level = 'manager')
$$;
COMMENT ON FUNCTION leadroute._my_lead_tables_for(name) IS '_my_lead_tables() of a role.';
CREATE FUNCTION leadroute._my_lead_tables() RETURNS TABLE (tenant bigint, lead_table integer)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._my_lead_tables() IS
    'The lead tables whose manager is one of the caller''s reps, with the level manager: their queue unmatched is theirs.';

CREATE FUNCTION leadroute._my_claim_pools_for(caller name) RETURNS TABLE (tenant bigint, pool integer)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT p.tenant, p.id FROM leadroute._my_reps_for(caller) m
        JOIN leadroute.pool_member o ON o.tenant = m.tenant AND o.rep = m.rep
        JOIN leadroute.pool p ON p.tenant = o.tenant AND p.name = o.pool
    WHERE p.mode <> 'push' AND NOT p.claim_blind
$$;
COMMENT ON FUNCTION leadroute._my_claim_pools_for(name) IS '_my_claim_pools() of a role.';
CREATE FUNCTION leadroute._my_claim_pools() RETURNS TABLE (tenant bigint, pool integer)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._my_claim_pools() IS
    'The pools out of which the caller''s reps claim leads that they may see: members of a pool with another mode than push, and without claim_blind.';

-- What a function demands -------------------------------------------------------------------------

CREATE FUNCTION leadroute._require_for(caller name, tenant bigint, levels text[]) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    level text;
BEGIN
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = caller AND r.rolsuper) THEN
        RETURN 'admin';
    END IF;
    SELECT l.level INTO level FROM leadroute._levels_for(caller) l
    WHERE (l.tenant = _require_for.tenant OR l.every_tenant) AND l.level = ANY (levels || 'admin'::text)
    ORDER BY array_position('{admin,app,manager,rep}', l.level) LIMIT 1;
    IF level IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR012',
            MESSAGE = format('access denied for role "%s"', caller),
            DETAIL = format('It needs the level %s%s.',
                (SELECT string_agg(DISTINCT u, ' or ' ORDER BY u) FROM unnest(levels || 'admin'::text) u),
                CASE WHEN _require_for.tenant = 0 THEN '' ELSE format(' in tenant %s', _require_for.tenant) END),
            HINT = format('A superuser may grant it: SELECT leadroute.grant_access(%L, %L%s);', quote_ident(caller),
                coalesce(levels[1], 'admin'), CASE WHEN _require_for.tenant = 0 THEN '' ELSE ', ' || _require_for.tenant END);
    END IF;
    RETURN level;
END
$$;
COMMENT ON FUNCTION leadroute._require_for(name, bigint, text[]) IS '_require() of a role.';
CREATE FUNCTION leadroute._require(tenant bigint, VARIADIC levels text[]) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._require(bigint, text[]) IS
    'The caller''s strongest level of these, or admin, in the tenant; raises LR012 when it has none.';

CREATE FUNCTION leadroute._require_rep_for(caller name, tenant bigint, rep bigint) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    level CONSTANT text := leadroute._require_for(caller, tenant, '{rep,manager,app}');
BEGIN
    IF level IN ('admin', 'app')
        OR EXISTS (SELECT FROM leadroute._my_reps_for(caller) m
            WHERE m.tenant = _require_rep_for.tenant AND m.rep = _require_rep_for.rep)
        OR EXISTS (SELECT FROM leadroute._my_pools_for(caller) m JOIN leadroute.pool_member p
            ON p.tenant = m.tenant AND p.pool = m.name
            WHERE p.tenant = _require_rep_for.tenant AND p.rep = _require_rep_for.rep) THEN
        RETURN level;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LR012',
        MESSAGE = format('role "%s" may not act for rep %s', caller, rep),
        DETAIL = CASE level WHEN 'rep' THEN 'A rep acts for the reps whose db_role the role is.'
            ELSE 'A manager acts for the reps and the members of the pools that it manages.' END,
        HINT = 'Name a rep of your own; an admin may set rep.db_role, rep.manager or pool.manager.';
END
$$;
COMMENT ON FUNCTION leadroute._require_rep_for(name, bigint, bigint) IS '_require_rep() of a role.';
CREATE FUNCTION leadroute._require_rep(tenant bigint, rep bigint) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._require_rep(bigint, bigint) IS
    'The caller''s level if it may act for the rep; raises LR012 otherwise.';

CREATE FUNCTION leadroute._foreign_pools(caller name, tenant bigint, rep bigint) RETURNS SETOF integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.id FROM leadroute.pool_member m JOIN leadroute.pool p ON p.tenant = m.tenant AND p.name = m.pool
    WHERE m.tenant = _foreign_pools.tenant AND m.rep = _foreign_pools.rep
      AND NOT EXISTS (SELECT FROM leadroute._my_reps_for(caller) o WHERE (o.tenant, o.rep) = (m.tenant, m.rep))
      AND NOT EXISTS (SELECT FROM leadroute._my_pools_for(caller) o WHERE (o.tenant, o.pool) = (p.tenant, p.id))
$$;
COMMENT ON FUNCTION leadroute._foreign_pools(name, bigint, bigint) IS
    'Of the pools that a rep is a member of those that are no business of a manager: it manages neither them nor the rep.';

CREATE FUNCTION leadroute._sees_for(caller name, a leadroute.assignment) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT leadroute._everywhere_for(caller, '{app,admin}')
        OR coalesce(a.tenant = ANY (leadroute._my_tenants_for(caller, '{app,admin}')), false)
        OR EXISTS (SELECT FROM leadroute._my_reps_for(caller) m WHERE (m.tenant, m.rep) = (a.tenant, a.rep))
        OR EXISTS (SELECT FROM leadroute._my_pools_for(caller) m WHERE (m.tenant, m.pool) = (a.tenant, a.pool))
        OR a.rep IS NULL AND EXISTS (SELECT FROM leadroute._my_lead_tables_for(caller) m
            WHERE (m.tenant, m.lead_table) = (a.tenant, a.lead_table))
$$;
COMMENT ON FUNCTION leadroute._sees_for(name, leadroute.assignment) IS
    'Whether a role sees an episode as one of its own: the policies on assignment, for functions that run as the owner; without the one for leads that wait to be claimed.';

-- Policies ----------------------------------------------------------------------------------------
--
-- Sub-selects: once for a query, not for each row. What a role may do at all says _level_grants().

CREATE POLICY admin ON leadroute.rep USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.pool USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.pool_member USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.rule USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.assignment USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.unmanaged_lead USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.checkpoint USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.alert USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.access USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.config_change USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.activity USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.event_cursor USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
-- It has no tenant: for admins of tenant 0, or of all.
CREATE POLICY admin ON leadroute.lead_table USING ((SELECT leadroute._everywhere('{admin}'))
    OR 0 = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY names ON leadroute.lead_table FOR SELECT USING (true);
CREATE POLICY names ON leadroute.rep FOR SELECT USING ((SELECT leadroute._everywhere('{app,rep,manager}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{app,rep,manager}'))::bigint[]));
CREATE POLICY names ON leadroute.pool FOR SELECT USING ((SELECT leadroute._everywhere('{app,rep,manager}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{app,rep,manager}'))::bigint[]));
CREATE POLICY names ON leadroute.rule FOR SELECT USING ((SELECT leadroute._everywhere('{app,rep,manager}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{app,rep,manager}'))::bigint[]));
CREATE POLICY app ON leadroute.assignment FOR SELECT USING ((SELECT leadroute._everywhere('{app}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{app}'))::bigint[]));
CREATE POLICY app ON leadroute.unmanaged_lead FOR SELECT USING ((SELECT leadroute._everywhere('{app}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{app}'))::bigint[]));
CREATE POLICY app ON leadroute.alert USING ((SELECT leadroute._everywhere('{app}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{app}'))::bigint[]));
CREATE POLICY own ON leadroute.assignment FOR SELECT USING (
    (tenant, rep) IN (SELECT m.tenant, m.rep FROM leadroute._my_reps() m)
    OR (tenant, pool) IN (SELECT m.tenant, m.pool FROM leadroute._my_pools() m)
    OR rep IS NULL AND (tenant, lead_table) IN (SELECT m.tenant, m.lead_table FROM leadroute._my_lead_tables() m));
-- that they wait, while they do; their rows, and which of them a rep may claim, tells available_leads()
CREATE POLICY claimable ON leadroute.assignment FOR SELECT USING (
    rep IS NULL AND ended_at IS NULL AND method <> 'manual'
    AND (tenant, pool) IN (SELECT m.tenant, m.pool FROM leadroute._my_claim_pools() m));
CREATE POLICY app ON leadroute.activity FOR SELECT USING ((SELECT leadroute._everywhere('{app}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{app}'))::bigint[]));
-- also what others did before with a lead that is the reader's now
CREATE POLICY own ON leadroute.activity FOR SELECT USING (
    (tenant, rep) IN (SELECT m.tenant, m.rep FROM leadroute._my_reps() m)
    OR (tenant, pool) IN (SELECT m.tenant, m.pool FROM leadroute._my_pools() m)
    OR EXISTS (SELECT FROM leadroute.assignment a WHERE a.tenant = activity.tenant
        AND a.lead_table = activity.lead_table AND a.lead_id = activity.lead_id AND a.ended_at IS NULL));
CREATE POLICY own ON leadroute.alert USING (
    (tenant, manager) IN (SELECT m.tenant, m.rep FROM leadroute._my_reps() m)
    OR (tenant, rep) IN (SELECT m.tenant, m.rep FROM leadroute._my_reps() m)
    OR (tenant, pool) IN (SELECT m.tenant, m.pool FROM leadroute._my_pools() m));

-- Granting ----------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._level_grants(level text) RETURNS text[]
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ARRAY['USAGE ON SCHEMA leadroute'] || CASE WHEN level = 'admin' THEN ARRAY[
        'SELECT ON ALL TABLES IN SCHEMA leadroute',
        'INSERT, UPDATE, DELETE ON leadroute.rep, leadroute.pool, leadroute.pool_member, leadroute.rule',
        'INSERT, UPDATE, DELETE ON leadroute.territory, leadroute.territory_entry',
        'INSERT, UPDATE, DELETE ON leadroute.calendar, leadroute.calendar_hours, leadroute.calendar_holiday, leadroute.rep_absence',
        'INSERT, UPDATE, DELETE ON leadroute.sla_policy, leadroute.sla_step',
        'DELETE ON leadroute.presence',
        'UPDATE ON leadroute.lead_table',
        'UPDATE (acknowledged_at, acknowledged_by) ON leadroute.alert']
    ELSE ARRAY[
        'SELECT ON leadroute.decision, leadroute.open_assignment, leadroute.queue, leadroute.sla, leadroute.pool_state',
        'SELECT ON leadroute.assignment, leadroute.unmanaged_lead, leadroute.activity',
        -- without event_salt
        'SELECT (id, name, key_column, owner_column, tenant_column, fallback_pool, manager, sticky_on, sticky_window, reroute_on, location_column, score_column, value_expression, sla, notify_key, attached_at, version, changed_at, sticky_author, value_author) ON leadroute.lead_table',
        'SELECT (tenant, id, name) ON leadroute.rep, leadroute.pool, leadroute.rule']
        || CASE WHEN level <> 'rep' THEN ARRAY['SELECT ON leadroute.alert',
            'UPDATE (acknowledged_at, acknowledged_by) ON leadroute.alert'] END
    END
$$;
COMMENT ON FUNCTION leadroute._level_grants(text) IS
    'What is GRANTed to a role of this level; which rows it sees the policies say.';

CREATE FUNCTION leadroute._regrant(role name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    right_granted text;
BEGIN
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA leadroute FROM %I', role);
    EXECUTE format('REVOKE ALL ON SCHEMA leadroute FROM %I', role);
    FOR right_granted IN
        SELECT DISTINCT g FROM leadroute.access a, unnest(leadroute._level_grants(a.level)) g
        WHERE a.role = _regrant.role ORDER BY g
    LOOP
        EXECUTE format('GRANT %s TO %I', right_granted, role);
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._regrant(name) IS
    'Gives the role the rights of its levels in all tenants together, and takes all others on leadroute''s tables.';

CREATE FUNCTION leadroute._require_superuser() RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION USING ERRCODE = 'LR012',
            MESSAGE = format('role "%s" cannot grant or revoke access', current_user),
            DETAIL = 'It takes a superuser.', HINT = 'Ask one to do it.';
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._require_superuser() IS 'Raises LR012 for whom is not superuser.';

CREATE FUNCTION leadroute.grant_access(role regrole, level text, tenant bigint DEFAULT 0) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    role_name CONSTANT name := (SELECT r.rolname FROM pg_roles r WHERE r.oid = role);
BEGIN
    PERFORM leadroute._require_superuser();
    IF role_name IS NULL OR level IS NULL OR level NOT IN ('app', 'rep', 'manager', 'admin') THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005',
            MESSAGE = CASE WHEN role_name IS NULL THEN 'no such role' ELSE format('unknown level %s', coalesce('"' || level || '"', 'NULL')) END,
            DETAIL = 'A level says what a database role may see and do.', HINT = 'Use app, rep, manager or admin.';
    END IF;
    INSERT INTO leadroute.access AS a (tenant, role, level, every_tenant)
    VALUES (coalesce(tenant, 0), role_name, level, tenant IS NULL)
    ON CONFLICT ON CONSTRAINT access_pkey DO UPDATE SET level = excluded.level, every_tenant = excluded.every_tenant;
    PERFORM leadroute._regrant(role_name);
    IF level IN ('rep', 'manager') AND NOT EXISTS (
        SELECT FROM leadroute.rep r JOIN pg_roles d ON d.rolname = r.db_role
        WHERE (r.tenant = tenant OR tenant IS NULL) AND pg_has_role(d.oid, role, 'MEMBER')) THEN
        RAISE NOTICE 'no rep works as role "%" yet', role_name
            USING HINT = format('UPDATE leadroute.rep SET db_role = %L WHERE id = ...', role_name);
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute.grant_access(regrole, text, bigint) IS
    'Lets a database role, and its members, see and do what the level allows in the tenant (NULL: in all): app, rep, manager or admin. Replaces its level there. Takes a superuser.';

CREATE FUNCTION leadroute.revoke_access(role regrole, level text, tenant bigint DEFAULT 0) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    role_name CONSTANT name := (SELECT r.rolname FROM pg_roles r WHERE r.oid = role);
BEGIN
    PERFORM leadroute._require_superuser();
    DELETE FROM leadroute.access a
    WHERE a.role = role_name AND a.level = level AND a.tenant = coalesce(tenant, 0) AND a.every_tenant = (tenant IS NULL);
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008',
            MESSAGE = format('role "%s" has no access of level %s%s', coalesce(role_name, role::text), coalesce('"' || level || '"', 'NULL'),
                CASE WHEN tenant IS NULL THEN ' in all tenants' WHEN tenant <> 0 THEN format(' in tenant %s', tenant) ELSE '' END),
            DETAIL = coalesce((SELECT 'It has: ' || string_agg(format('%s in %s', a.level,
                CASE WHEN a.every_tenant THEN 'all tenants' ELSE format('tenant %s', a.tenant) END), ', ') || '.'
                FROM leadroute.access a WHERE a.role = role_name), 'It has none.'),
            HINT = 'leadroute.access shows what was granted.';
    END IF;
    PERFORM leadroute._regrant(role_name);
END
$$;
COMMENT ON FUNCTION leadroute.revoke_access(regrole, text, bigint) IS
    'Takes back what grant_access() gave. Takes a superuser. A role that is to be dropped must lose its access first.';
