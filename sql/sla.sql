-- First-touch policies: what is refused, what follows, who may see them. The tables: tables_sla.sql; what
-- is done when a step is due: sla_sweep.sql.

-- Values ------------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._sla_time_problem(given interval, business_time boolean) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN given <= '0' THEN 'is no time'
        WHEN given > '3660 days' THEN 'is more than ten years'
        WHEN date_part('year', given) <> 0 OR date_part('month', given) <> 0 THEN 'has months, which are of several lengths'
        WHEN business_time AND date_part('day', given) <> 0 THEN 'has days, and a working day is as long as its calendar says'
    END
$$;
COMMENT ON FUNCTION leadroute._sla_time_problem(interval, boolean) IS
    'What is wrong with a time after an assignment; NULL when it will do.';

CREATE FUNCTION leadroute._check_sla_policy() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    on_conflict CONSTANT boolean := leadroute._on_conflict();
    added CONSTANT boolean := TG_OP = 'INSERT';
    actions CONSTANT text := 'remind, escalate, reroute, shark_tank, recycle, notify_manager, set_away';
    time_problem CONSTANT text := leadroute._sla_time_problem(NEW.first_touch, NEW.business_time);
    missing CONSTANT text := (SELECT v.column_name FROM (VALUES ('first_touch', NEW.first_touch IS NULL),
        ('business_time', NEW.business_time IS NULL), ('reroute_to', NEW.reroute_to IS NULL),
        ('returns_turn', NEW.returns_turn IS NULL), ('moves_manual', NEW.moves_manual IS NULL),
        ('digest_over', NEW.digest_over IS NULL)) AS v (column_name, missing) WHERE v.missing LIMIT 1);
    negative CONSTANT text := (SELECT v.column_name FROM (VALUES ('exclude_last', NEW.exclude_last < 1),
        ('max_hops', NEW.max_hops < 0), ('away_after_breaches', NEW.away_after_breaches < 1),
        ('digest_over', NEW.digest_over < 1)) AS v (column_name, negative) WHERE v.negative LIMIT 1);
    problem text[];
BEGIN
    problem := CASE
        WHEN NOT added AND (NEW.tenant, NEW.id) IS DISTINCT FROM (OLD.tenant, OLD.id) THEN ARRAY[
            format('policy "%s" cannot change its id or tenant', OLD.name), 'The record refers to it.',
            'A policy may change its name: what refers to it follows.']
        WHEN NEW.id <= 0 THEN ARRAY[format('policy id %s is not positive', NEW.id), 'Ids start at 1.', 'Leave it out.']
        WHEN leadroute._name_problem(NEW.name, 63) IS NOT NULL THEN ARRAY[
            format('the name of the policy %s', leadroute._name_problem(NEW.name, 63)),
            'Rules, reps and pools refer to a policy by its name.', 'Give a name of 1 to 63 characters.']
        WHEN missing IS NOT NULL THEN ARRAY[
            format('policy "%s" has no %s', NEW.name, missing), 'It was given as NULL.',
            CASE missing WHEN 'first_touch' THEN 'Give an interval such as ''15 minutes''.' ELSE 'Leave it out for its default.' END]
        WHEN time_problem IS NOT NULL THEN ARRAY[
            format('first_touch %s %s', NEW.first_touch, time_problem), format('It was given for policy "%s".', NEW.name),
            'Give hours and minutes, such as ''8 hours''' || CASE WHEN NEW.business_time THEN '.' ELSE ', or days.' END]
        WHEN NEW.calendar IS NOT NULL AND NOT NEW.business_time THEN ARRAY[
            format('policy "%s" has a calendar that counts for nothing', NEW.name), 'Without business_time all hours count.',
            'Set business_time, or leave the calendar out.']
        WHEN NEW.on_breach NOT IN ('remind', 'escalate', 'reroute', 'shark_tank', 'recycle', 'notify_manager', 'set_away') THEN ARRAY[
            format('unknown action "%s"', NEW.on_breach), format('Policy "%s" was to take it at a breach.', NEW.name),
            format('Use %s, or NULL.', actions)]
        WHEN NEW.reroute_to NOT IN ('pool', 'rules') THEN ARRAY[
            format('unknown reroute_to "%s"', NEW.reroute_to), 'It says where a lead goes that is taken from its rep.', 'Use pool or rules.']
        WHEN negative IS NOT NULL THEN ARRAY[
            format('%s of policy "%s" is too small', negative, NEW.name), 'It is a number of reps, leads or breaches.',
            CASE negative WHEN 'max_hops' THEN 'Give 0 or more, or NULL.' ELSE 'Give 1 or more.' END]
        WHEN NEW.away_for <= '0' THEN ARRAY[
            format('away_for %s is no time', NEW.away_for), format('It was given for policy "%s".', NEW.name),
            'Give an interval such as ''1 hour'', or NULL for until a person lifts it.']
        WHEN NOT on_conflict AND EXISTS (SELECT FROM leadroute.sla_policy s WHERE s.tenant = NEW.tenant
            AND s.name = NEW.name AND (added OR s.id <> NEW.id)) THEN ARRAY[
            format('policy "%s" exists already', NEW.name), 'Names are unique within a tenant.', 'Give another name.']
        WHEN NOT on_conflict AND added AND EXISTS (SELECT FROM leadroute.sla_policy s
            WHERE s.tenant = NEW.tenant AND s.id = NEW.id) THEN ARRAY[
            format('another policy has the id %s', NEW.id), 'Ids are unique within a tenant.',
            'Where the id was made, the sequence is behind ids given by hand: SELECT setval(''leadroute.sla_policy_id_seq'', max(id)) FROM leadroute.sla_policy.']
        WHEN NOT added AND NEW.business_time AND NOT OLD.business_time AND EXISTS (SELECT FROM leadroute.sla_step s
            WHERE s.tenant = NEW.tenant AND s.policy IN (OLD.name, NEW.name) AND date_part('day', s.after) <> 0) THEN ARRAY[
            format('a step of policy "%s" is given in days', NEW.name), 'A working day is as long as its calendar says.',
            'Give the step in hours first.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_sla_policy() IS 'Refuses (LR005) a policy with a wrong value.';
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.sla_policy
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_sla_policy();

CREATE FUNCTION leadroute._check_sla_step() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    on_conflict CONSTANT boolean := leadroute._on_conflict();
    added CONSTANT boolean := TG_OP = 'INSERT';
    time_problem CONSTANT text := leadroute._sla_time_problem(NEW.after, (SELECT s.business_time FROM leadroute.sla_policy s
        WHERE s.tenant = NEW.tenant AND s.name = NEW.policy));
    problem text[];
BEGIN
    problem := CASE
        WHEN NOT added AND (NEW.tenant, NEW.id) IS DISTINCT FROM (OLD.tenant, OLD.id) THEN ARRAY[
            format('step %s cannot change its id or tenant', OLD.id), 'The history refers to it.', 'Insert another step.']
        WHEN NEW.id <= 0 THEN ARRAY[format('step id %s is not positive', NEW.id), 'Ids start at 1.', 'Leave it out.']
        WHEN NEW.policy IS NULL THEN ARRAY['a step needs a policy', 'It says what is done when a lead of the policy is not touched.', 'Give the policy by name.']
        WHEN num_nonnulls(NEW.after, NEW.share) <> 1 THEN ARRAY[
            format('a step of policy "%s" has %s', NEW.policy, CASE WHEN NEW.after IS NULL THEN 'no time' ELSE 'two times' END),
            'It is done so long after the assignment, or at a share of first_touch.', 'Give either after or share.']
        WHEN time_problem IS NOT NULL THEN ARRAY[
            format('after %s %s', NEW.after, time_problem), format('It was given for a step of policy "%s".', NEW.policy),
            'Give hours and minutes, such as ''8 hours'', or a share of first_touch.']
        WHEN NOT (NEW.share > 0 AND NEW.share <= 100) THEN ARRAY[
            format('share %s is out of range', NEW.share), format('It was given for a step of policy "%s".', NEW.policy),
            'Give a number such as 0.5, half way to the breach, or 2, as long again after it; at most 100.']
        WHEN NEW.action IS NULL OR NEW.action NOT IN ('remind', 'escalate', 'reroute', 'shark_tank', 'recycle', 'notify_manager', 'set_away') THEN ARRAY[
            format('unknown action %s', coalesce('"' || NEW.action || '"', 'NULL')), format('It was given for a step of policy "%s".', NEW.policy),
            'Use remind, escalate, reroute, shark_tank, recycle, notify_manager or set_away.']
        WHEN NEW.pool IS NOT NULL AND NEW.action NOT IN ('reroute', 'recycle') THEN ARRAY[
            format('the action %s takes no pool', NEW.action), format('It was given for a step of policy "%s".', NEW.policy),
            'Leave it out.']
        WHEN NOT on_conflict AND added AND EXISTS (SELECT FROM leadroute.sla_step s
            WHERE s.tenant = NEW.tenant AND s.id = NEW.id) THEN ARRAY[
            format('another step has the id %s', NEW.id), 'Ids are unique within a tenant.',
            'Where the id was made, the sequence is behind ids given by hand: SELECT setval(''leadroute.sla_step_id_seq'', max(id)) FROM leadroute.sla_step.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_sla_step() IS 'Refuses (LR005) a step with a wrong value.';
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.sla_step
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_sla_step();

-- References ----------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._check_sla_references() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text[];
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'sla_policy' THEN
        problem := coalesce(
            leadroute._missing('calendar', NEW.tenant, NEW.calendar, format('Policy "%s" names it', NEW.name)),
            leadroute._missing('pool', NEW.tenant, NEW.recycle_pool, format('Policy "%s" names it', NEW.name)));
    WHEN 'sla_step' THEN
        problem := coalesce(
            leadroute._missing('sla_policy', NEW.tenant, NEW.policy, 'A step names it'),
            leadroute._missing('pool', NEW.tenant, NEW.pool, format('A step of policy "%s" names it', NEW.policy)));
    WHEN 'rep' THEN
        problem := leadroute._missing('sla_policy', NEW.tenant, NEW.sla, format('Rep %s names it', NEW.id));
    ELSE
        problem := leadroute._missing('sla_policy', NEW.tenant, NEW.sla, format('The %s "%s" names it', TG_TABLE_NAME, NEW.name));
    END CASE;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._check_sla_references() IS
    'Refuses (LR008) a policy, or what a policy names, that does not exist.';
CREATE TRIGGER "0_references" AFTER INSERT OR UPDATE ON leadroute.sla_policy
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_sla_references();
CREATE TRIGGER "0_references" AFTER INSERT OR UPDATE ON leadroute.sla_step
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_sla_references();
CREATE TRIGGER "0_references_sla" AFTER INSERT OR UPDATE OF sla ON leadroute.rep
    FOR EACH ROW WHEN (NEW.sla IS NOT NULL) EXECUTE FUNCTION leadroute._check_sla_references();
CREATE TRIGGER "0_references_sla" AFTER INSERT OR UPDATE OF sla ON leadroute.pool
    FOR EACH ROW WHEN (NEW.sla IS NOT NULL) EXECUTE FUNCTION leadroute._check_sla_references();
CREATE TRIGGER "0_references_sla" AFTER INSERT OR UPDATE OF sla ON leadroute.rule
    FOR EACH ROW WHEN (NEW.sla IS NOT NULL) EXECUTE FUNCTION leadroute._check_sla_references();

CREATE FUNCTION leadroute._sla_policy_users(policy leadroute.sla_policy) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(u.user_name, ', ') FROM (
        SELECT format('rule "%s" (%s)', r.name, r.id) FROM leadroute.rule r
        WHERE r.tenant = policy.tenant AND r.sla = policy.name
        UNION ALL SELECT format('rep %s', r.id) FROM leadroute.rep r WHERE r.tenant = policy.tenant AND r.sla = policy.name
        UNION ALL SELECT format('pool "%s"', p.name) FROM leadroute.pool p WHERE p.tenant = policy.tenant AND p.sla = policy.name
        UNION ALL SELECT format('lead table "%s"', t.name) FROM leadroute.lead_table t
        WHERE t.tenant_column IS NULL AND policy.tenant = 0 AND t.sla = policy.name
        UNION ALL (SELECT format('the open clock of lead %s', a.lead_id) FROM leadroute.assignment a
        WHERE a.tenant = policy.tenant AND a.sla = policy.id AND a.next_step_at IS NOT NULL
          AND a.ended_at IS NULL AND a.touched_at IS NULL LIMIT 1)
        LIMIT 10) u (user_name)
$$;
COMMENT ON FUNCTION leadroute._sla_policy_users(leadroute.sla_policy) IS
    'What stands in the way of deleting a policy, in words; NULL when nothing does.';

CREATE FUNCTION leadroute._check_sla_unused() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    users CONSTANT text := leadroute._sla_policy_users(OLD);
BEGIN
    IF users IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR006',
            MESSAGE = format('policy "%s" is in use', OLD.name), DETAIL = format('By %s.', users),
            HINT = 'Give those another policy, or none; open clocks end with a touch.';
    END IF;
    DELETE FROM leadroute.sla_step s WHERE s.tenant = OLD.tenant AND s.policy = OLD.name;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._check_sla_unused() IS
    'Refuses (LR006) to delete a policy in use, naming by whom; takes its steps along.';
CREATE TRIGGER "0_unused" AFTER DELETE ON leadroute.sla_policy
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_sla_unused();

CREATE FUNCTION leadroute._follow_sla_policy() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leadroute.sla_step s SET policy = NEW.name WHERE s.tenant = NEW.tenant AND s.policy = OLD.name;
    UPDATE leadroute.rep r SET sla = NEW.name WHERE r.tenant = NEW.tenant AND r.sla = OLD.name;
    UPDATE leadroute.pool p SET sla = NEW.name WHERE p.tenant = NEW.tenant AND p.sla = OLD.name;
    UPDATE leadroute.rule r SET sla = NEW.name WHERE r.tenant = NEW.tenant AND r.sla = OLD.name;
    -- asked first: who may rename a policy need not have the right to change lead tables
    IF EXISTS (SELECT FROM leadroute.lead_table t
        WHERE NEW.tenant = 0 AND t.tenant_column IS NULL AND t.sla = OLD.name) THEN
        UPDATE leadroute.lead_table t SET sla = NEW.name WHERE t.tenant_column IS NULL AND t.sla = OLD.name;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._follow_sla_policy() IS
    'Rewrites the references to a renamed policy, before the foreign keys look.';
CREATE TRIGGER "0_rename" AFTER UPDATE ON leadroute.sla_policy
    FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION leadroute._follow_sla_policy();

CREATE FUNCTION leadroute._follow_pool_sla() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leadroute.sla_policy s SET recycle_pool = NEW.name WHERE s.tenant = NEW.tenant AND s.recycle_pool = OLD.name;
    UPDATE leadroute.sla_step s SET pool = NEW.name WHERE s.tenant = NEW.tenant AND s.pool = OLD.name;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._follow_pool_sla() IS
    'Rewrites the policies and steps that name a renamed pool, before the foreign keys look.';
CREATE TRIGGER "0_rename_sla" AFTER UPDATE ON leadroute.pool
    FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION leadroute._follow_pool_sla();

-- The clock ---------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._sla_at(tenant bigint, policy integer, rep bigint, start timestamptz, after interval)
    RETURNS timestamptz
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_sla_at';
COMMENT ON FUNCTION leadroute._sla_at(bigint, integer, bigint, timestamptz, interval) IS
    'When so much time has passed since the start under a policy (its id) for a rep: business time where the policy counts that, by the calendars as they are now; infinity in a calendar without hours.';

-- Access ----------------------------------------------------------------------------------------

CREATE POLICY admin ON leadroute.sla_policy USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.sla_step USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.sla_action USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
