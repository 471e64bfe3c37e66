-- What configuration refers to, and who refers to it: what foreign keys would refuse is refused here
-- first, with a SQLSTATE of class LR and a hint, by AFTER triggers named so that they sort before the
-- foreign keys' own. A rename is followed here too, hence no ON UPDATE CASCADE. Custom plans as in
-- checks.sql.

-- What is referred to -------------------------------------------------------------------------

CREATE FUNCTION leadroute._missing(kind text, tenant bigint, name text, used_by text) RETURNS text[]
    LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF _missing.name IS NULL THEN
        RETURN NULL;
    ELSIF kind = 'rep' THEN
        PERFORM FROM leadroute.rep r WHERE r.tenant = _missing.tenant AND r.id = _missing.name::bigint;
    ELSIF kind = 'territory' THEN
        PERFORM FROM leadroute.territory t WHERE t.tenant = _missing.tenant AND t.name = _missing.name;
    ELSIF kind = 'sla_policy' THEN
        PERFORM FROM leadroute.sla_policy s WHERE s.tenant = _missing.tenant AND s.name = _missing.name;
    ELSIF kind = 'calendar' THEN
        PERFORM FROM leadroute.calendar c WHERE c.tenant = _missing.tenant AND c.name = _missing.name;
    ELSE
        PERFORM FROM leadroute.pool p WHERE p.tenant = _missing.tenant AND p.name = _missing.name;
    END IF;
    RETURN CASE WHEN NOT FOUND THEN ARRAY[
        format('no %s "%s"', kind, _missing.name),
        used_by || CASE WHEN tenant = 0 THEN '.' ELSE format(', in tenant %s.', tenant) END,
        format('Insert it into leadroute.%s first, or correct the name.', kind)] END;
END
$$;
COMMENT ON FUNCTION leadroute._missing(text, bigint, text, text) IS
    'Message, detail and hint when there is no such rep, pool, territory, calendar or sla_policy; NULL when there is, or none is named.';

CREATE FUNCTION leadroute._missing_fallback(attachment leadroute.lead_table) RETURNS text[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- With a tenant column each tenant has, or has not, a pool and a rep of its own.
    SELECT coalesce(
        leadroute._missing('rep', 0, attachment.manager::text, format('Lead table "%s" names it', attachment.name)),
        leadroute._missing('pool', 0, attachment.fallback_pool, format('Lead table "%s" names it', attachment.name)),
        leadroute._missing('sla_policy', 0, attachment.sla, format('Lead table "%s" names it', attachment.name)))
    WHERE attachment.tenant_column IS NULL
$$;
COMMENT ON FUNCTION leadroute._missing_fallback(leadroute.lead_table) IS
    '_missing() for a lead table''s fallback pool, manager and policy.';

CREATE FUNCTION leadroute._check_references() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text[];
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'rep' THEN
        problem := leadroute._missing('rep', NEW.tenant, NEW.manager::text, format('Rep %s names it', NEW.id));
    WHEN 'pool' THEN
        problem := coalesce(
            leadroute._missing('rep', NEW.tenant, NEW.manager::text, format('Pool "%s" names it', NEW.name)),
            leadroute._missing('pool', NEW.tenant, NEW.overflow_pool, format('Pool "%s" names it', NEW.name)));
    WHEN 'pool_member' THEN
        problem := coalesce(
            leadroute._missing('pool', NEW.tenant, NEW.pool, format('Rep %s''s membership names it', NEW.rep)),
            leadroute._missing('rep', NEW.tenant, NEW.rep::text, format('A membership of pool "%s" names it', NEW.pool)));
        IF NEW.weight <> 1 AND NEW.weight IS DISTINCT FROM OLD.weight AND EXISTS (SELECT FROM leadroute.pool p
            WHERE p.tenant = NEW.tenant AND p.name = NEW.pool AND p.method <> 'weighted') THEN
            RAISE NOTICE 'the weight of rep % has no effect in pool "%": its method is not weighted', NEW.rep, NEW.pool
                USING HINT = 'Weights count with the method weighted.';
        END IF;
    WHEN 'lead_table' THEN
        problem := leadroute._missing_fallback(NEW);
    WHEN 'rule' THEN
        PERFORM leadroute._require_attached(NEW.lead_table);
        problem := coalesce(
            CASE WHEN NEW.pool IS NOT NULL THEN leadroute._missing('pool', NEW.tenant, NEW.pool, format('Rule "%s" names it', NEW.name)) END,
            CASE WHEN NEW.rep IS NOT NULL THEN leadroute._missing('rep', NEW.tenant, NEW.rep::text, format('Rule "%s" names it', NEW.name)) END,
            CASE WHEN NEW.territory IS NOT NULL THEN leadroute._missing('territory', NEW.tenant, NEW.territory, format('Rule "%s" names it', NEW.name)) END,
            CASE WHEN NEW.overflow_pool IS NOT NULL THEN leadroute._missing('pool', NEW.tenant, NEW.overflow_pool, format('Rule "%s" names it', NEW.name)) END);
    END CASE;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._check_references() IS
    'Refuses a reference to what does not exist: LR008, for a lead table LR002.';
CREATE TRIGGER "0_references" AFTER INSERT OR UPDATE ON leadroute.rep
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_references();
CREATE TRIGGER "0_references" AFTER INSERT OR UPDATE ON leadroute.pool
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_references();
CREATE TRIGGER "0_references" AFTER INSERT OR UPDATE ON leadroute.pool_member
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_references();
-- attach() looks by itself: a restore may load this table before the pools it names
CREATE TRIGGER "0_references" AFTER UPDATE ON leadroute.lead_table
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_references();
CREATE TRIGGER "0_references" AFTER INSERT OR UPDATE ON leadroute.rule
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_references();

-- Who refers to it ----------------------------------------------------------------------------

CREATE FUNCTION leadroute._users_of(kind text, tenant bigint, id bigint, name text)
    RETURNS TABLE (user_name text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('pool "%s" as a member', m.pool) FROM leadroute.pool_member m
    WHERE kind = 'rep' AND m.tenant = _users_of.tenant AND m.rep = _users_of.id
    UNION ALL SELECT format('%s member(s)', count(*)) FROM leadroute.pool_member m
    WHERE kind = 'pool' AND m.tenant = _users_of.tenant AND m.pool = _users_of.name HAVING count(*) > 0
    UNION ALL SELECT format('territory "%s" in %s', e.territory, CASE count(*) WHEN 1 THEN 'one entry' ELSE count(*) || ' entries' END)
    FROM leadroute.territory_entry e
    WHERE kind IN ('rep', 'pool') AND e.tenant = _users_of.tenant AND CASE kind
        WHEN 'rep' THEN e.rep = _users_of.id WHEN 'pool' THEN e.pool = _users_of.name END
    GROUP BY e.territory
    UNION ALL SELECT format('rule "%s" (%s)', r.name, r.id) FROM leadroute.rule r
    WHERE kind = 'rep' AND r.tenant = _users_of.tenant AND r.rep = _users_of.id
       OR kind = 'pool' AND r.tenant = _users_of.tenant AND _users_of.name IN (r.pool, r.overflow_pool)
       OR kind = 'lead table' AND r.lead_table = _users_of.name
    UNION ALL SELECT format('pool "%s"', p.name) FROM leadroute.pool p
    WHERE p.tenant = _users_of.tenant AND CASE kind WHEN 'rep' THEN p.manager = _users_of.id
        WHEN 'pool' THEN p.overflow_pool = _users_of.name END
    UNION ALL SELECT format('policy "%s"', s.name) FROM leadroute.sla_policy s
    WHERE kind = 'pool' AND s.tenant = _users_of.tenant AND s.recycle_pool = _users_of.name
    UNION ALL SELECT format('a step of policy "%s"', s.policy) FROM leadroute.sla_step s
    WHERE kind = 'pool' AND s.tenant = _users_of.tenant AND s.pool = _users_of.name
    UNION ALL SELECT format('rep %s as the manager', s.id) FROM leadroute.rep s
    WHERE kind = 'rep' AND s.tenant = _users_of.tenant AND s.manager = _users_of.id
    UNION ALL SELECT format('lead table "%s"', t.name) FROM leadroute.lead_table t
    WHERE t.tenant_column IS NULL AND _users_of.tenant = 0 AND CASE kind
        WHEN 'rep' THEN t.manager = _users_of.id WHEN 'pool' THEN t.fallback_pool = _users_of.name END
    UNION ALL (SELECT format('the open assignment of lead %s', a.lead_id) FROM leadroute.assignment a
    WHERE kind = 'rep' AND a.tenant = _users_of.tenant AND a.rep = _users_of.id AND a.ended_at IS NULL LIMIT 1)
    UNION ALL (SELECT format('the open assignment of lead %s', a.lead_id) FROM leadroute.assignment a
    WHERE kind = 'pool' AND a.tenant = _users_of.tenant AND a.pool = _users_of.id AND a.ended_at IS NULL
       OR kind = 'lead table' AND a.lead_table = _users_of.id AND a.ended_at IS NULL LIMIT 1)
    UNION ALL SELECT format('the triggers of %s', leadroute._lead_relation(_users_of.id::integer))
    WHERE kind = 'lead table' AND leadroute._lead_relation(_users_of.id::integer) IS NOT NULL
    LIMIT 10
$$;
COMMENT ON FUNCTION leadroute._users_of(text, bigint, bigint, text) IS
    'What stands in the way of deleting a rep, pool or lead table: at most ten, in words.';

CREATE FUNCTION leadroute._check_unused() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind CONSTANT text := replace(TG_TABLE_NAME, '_', ' ');
    tenant bigint := 0;
    users text;
BEGIN
    IF TG_TABLE_NAME <> 'lead_table' THEN
        tenant := OLD.tenant;
    END IF;
    SELECT string_agg(u.user_name, ', ') INTO users FROM leadroute._users_of(kind, tenant, OLD.id, OLD.name) u;
    IF users IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR006',
            MESSAGE = format('%s "%s" is in use', kind, OLD.name), DETAIL = format('By %s.', users),
            HINT = CASE TG_TABLE_NAME
                WHEN 'rep' THEN 'Set paused, so that the rep receives no more leads; or remove those first.'
                WHEN 'pool' THEN 'Remove those first, or take the pool out of the rules.'
                ELSE 'Use leadroute.detach().' END;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._check_unused() IS 'Refuses (LR006) to delete what is in use, naming by whom.';
CREATE TRIGGER "0_unused" AFTER DELETE ON leadroute.rep
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_unused();
CREATE TRIGGER "0_unused" AFTER DELETE ON leadroute.pool
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_unused();
CREATE TRIGGER "0_unused" AFTER DELETE ON leadroute.lead_table
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_unused();

-- Renames and positions -----------------------------------------------------------------------

CREATE FUNCTION leadroute._follow_rename() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_TABLE_NAME = 'lead_table' THEN
        UPDATE leadroute.rule r SET lead_table = NEW.name WHERE r.lead_table = OLD.name;
        RETURN NULL;
    END IF;
    UPDATE leadroute.pool_member m SET pool = NEW.name WHERE m.tenant = NEW.tenant AND m.pool = OLD.name;
    UPDATE leadroute.pool p SET overflow_pool = NEW.name
    WHERE p.tenant = NEW.tenant AND p.overflow_pool = OLD.name;
    UPDATE leadroute.rule r SET
        pool = CASE r.pool WHEN OLD.name THEN NEW.name ELSE r.pool END,
        overflow_pool = CASE r.overflow_pool WHEN OLD.name THEN NEW.name ELSE r.overflow_pool END
    WHERE r.tenant = NEW.tenant AND OLD.name IN (r.pool, r.overflow_pool);
    -- asked first: who may rename a pool need not have the right to change lead tables
    IF EXISTS (SELECT FROM leadroute.lead_table t
        WHERE NEW.tenant = 0 AND t.tenant_column IS NULL AND t.fallback_pool = OLD.name) THEN
        UPDATE leadroute.lead_table t SET fallback_pool = NEW.name
        WHERE t.tenant_column IS NULL AND t.fallback_pool = OLD.name;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._follow_rename() IS
    'Rewrites the references to a renamed pool or lead table, before the foreign keys look.';
CREATE TRIGGER "0_rename" AFTER UPDATE ON leadroute.pool
    FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION leadroute._follow_rename();
CREATE TRIGGER "0_rename" AFTER UPDATE ON leadroute.lead_table
    FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION leadroute._follow_rename();

-- Planned once, as in _check_rule_values().
CREATE FUNCTION leadroute._check_position() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    other text;
BEGIN
    SELECT o.name INTO other FROM (
        SELECT r.* FROM leadroute.rule r
        WHERE (r.tenant, r.lead_table, r.position) >= (NEW.tenant, NEW.lead_table, NEW.position)
        ORDER BY r.tenant, r.lead_table, r.position LIMIT 2) o
    WHERE (o.tenant, o.lead_table, o.position) = (NEW.tenant, NEW.lead_table, NEW.position) AND o.id <> NEW.id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- Deferrable, as the unique constraint is: looks at the rule as it is now.
    PERFORM FROM leadroute.rule r WHERE r.tenant = NEW.tenant AND r.id = NEW.id
        AND r.lead_table = NEW.lead_table AND r.position = NEW.position;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005',
            MESSAGE = format('rule "%s" has the position %s of rule "%s"', NEW.name, NEW.position, other),
            DETAIL = 'The first rule that matches decides, so that their order must be clear.',
            HINT = 'Give another position; two rules may swap theirs in one UPDATE.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._check_position() IS 'Refuses (LR005) two rules at one position.';
CREATE CONSTRAINT TRIGGER "0_position" AFTER INSERT OR UPDATE ON leadroute.rule
    DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW EXECUTE FUNCTION leadroute._check_position();
