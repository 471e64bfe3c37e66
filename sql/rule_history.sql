-- Rules as they were: rules_as_of(), restore_rules() and rule_version(). All from the present rows and
-- config_change, backwards: what a row was at a time is what its first change after it found.

CREATE FUNCTION leadroute._names_now(of_table text, at timestamptz, tenant bigint) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    renamed record;
    names jsonb := '{}';
BEGIN
    FOR renamed IN
        SELECT c.old ->> 'name' AS was, c.new ->> 'name' AS now FROM leadroute.config_change c
        WHERE c.tenant = _names_now.tenant AND c.table_name = of_table AND c.changed_at > at
          AND c.old ->> 'name' <> c.new ->> 'name' ORDER BY c.id
    LOOP
        names := (SELECT coalesce(jsonb_object_agg(n.key, CASE n.value WHEN renamed.was THEN renamed.now ELSE n.value END), '{}')
            FROM jsonb_each_text(names) n)
            || CASE WHEN names ? renamed.was THEN '{}' ELSE jsonb_build_object(renamed.was, renamed.now) END;
    END LOOP;
    RETURN names;
END
$$;
COMMENT ON FUNCTION leadroute._names_now(text, timestamptz, bigint) IS
    'What rows that have been renamed since are called now, by their names at the time.';

CREATE FUNCTION leadroute._rules_at(at timestamptz, tenant bigint) RETURNS SETOF leadroute.rule
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH changed AS (
        SELECT DISTINCT ON (c.key) (c.key ->> 'id')::bigint AS id, c.old FROM leadroute.config_change c
        WHERE c.tenant = _rules_at.tenant AND c.table_name = 'rule' AND c.changed_at > at
        ORDER BY c.key, c.id)
    SELECT r.* FROM leadroute.rule r
    WHERE r.tenant = _rules_at.tenant AND NOT EXISTS (SELECT FROM changed c WHERE c.id = r.id)
    UNION ALL
    SELECT r.* FROM changed c CROSS JOIN LATERAL jsonb_populate_record(NULL::leadroute.rule, c.old) r
    WHERE c.old IS NOT NULL
$$;
COMMENT ON FUNCTION leadroute._rules_at(timestamptz, bigint) IS 'A tenant''s rules of all lead tables as they were.';

CREATE FUNCTION leadroute._rules_as_of_for(caller name, lead_table text, at timestamptz, tenant bigint)
    RETURNS SETOF leadroute.rule
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    attachment CONSTANT leadroute.lead_table := leadroute._require_attached(lead_table);
    then_called text := attachment.name;
BEGIN
    PERFORM leadroute._require_for(caller, tenant, '{}');
    IF at IS NULL OR tenant IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = CASE WHEN at IS NULL THEN 'no time is given' ELSE 'no tenant is given' END,
            DETAIL = 'Rules are shown, or restored, as they were at a time.', HINT = 'Give a timestamp such as now() - interval ''1 day''.';
    END IF;
    SELECT c.old ->> 'name' INTO then_called FROM leadroute.config_change c
    WHERE c.tenant = 0 AND c.table_name = 'lead_table' AND c.key = jsonb_build_object('id', attachment.id) AND c.changed_at > at
    ORDER BY c.id LIMIT 1;
    then_called := CASE WHEN FOUND THEN then_called ELSE attachment.name END;
    RETURN QUERY SELECT r.* FROM leadroute._rules_at(at, tenant) r WHERE r.lead_table = then_called ORDER BY r.position, r.id;
END
$$;
COMMENT ON FUNCTION leadroute._rules_as_of_for(name, text, timestamptz, bigint) IS 'rules_as_of() of a role.';
CREATE FUNCTION leadroute.rules_as_of(lead_table text, at timestamptz, tenant bigint DEFAULT 0) RETURNS SETOF leadroute.rule
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.rules_as_of(text, timestamptz, bigint) IS
    'The rules of a lead table as they were at a time, by position: rows as they stood, with the names of pools and others of then and the versions that the record knows. A change counts from the clock at which it was made (config_change.changed_at), not from its commit; a time after the present gives the rules as this transaction sees them. As far back as config_change was kept; what was done without its triggers is not known. Takes the level admin. Raises LR002 for a table that is not attached, LR005 without a time, LR012.';

-- restore_rules -----------------------------------------------------------------------------------

CREATE FUNCTION leadroute._rules_to_restore_for(caller name, lead_table text, at timestamptz, tenant bigint)
    RETURNS SETOF leadroute.rule
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    -- checks its arguments and the caller's level
    ids CONSTANT bigint[] := ARRAY(SELECT r.id FROM leadroute._rules_as_of_for(caller, lead_table, at, tenant) r);
    pools CONSTANT jsonb := leadroute._names_now('pool', at, tenant);
    territories CONSTANT jsonb := leadroute._names_now('territory', at, tenant);
    policies CONSTANT jsonb := leadroute._names_now('sla_policy', at, tenant);
    tables CONSTANT jsonb := leadroute._names_now('lead_table', at, 0);
    one leadroute.rule;
BEGIN
    FOR one IN SELECT r.* FROM leadroute._rules_at(at, tenant) r
        WHERE r.id IN (SELECT unnest(ids) UNION SELECT p.id FROM leadroute.rule p WHERE p.tenant = tenant AND p.lead_table = lead_table)
    LOOP
        one.lead_table := coalesce(tables ->> one.lead_table, one.lead_table);
        one.pool := coalesce(pools ->> one.pool, one.pool);
        one.overflow_pool := coalesce(pools ->> one.overflow_pool, one.overflow_pool);
        one.territory := coalesce(territories ->> one.territory, one.territory);
        one.sla := coalesce(policies ->> one.sla, one.sla);
        RETURN NEXT one;
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._rules_to_restore_for(name, text, timestamptz, bigint) IS '_rules_to_restore() of a role.';
CREATE FUNCTION leadroute._rules_to_restore(lead_table text, at timestamptz, tenant bigint) RETURNS SETOF leadroute.rule
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._rules_to_restore(text, timestamptz, bigint) IS
    'The rules that a lead table had at a time, and as they were those that it has now, with the present names of what they refer to.';

CREATE FUNCTION leadroute._require_restorable(wanted leadroute.rule[], at timestamptz) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing record;
BEGIN
    SELECT count(*) AS number, string_agg(format('Rule "%s" (%s) names %s "%s".', m.rule_name, m.rule, m.kind, m.name), E'\n'
        ORDER BY m.rule, m.kind) FILTER (WHERE m.n <= 20) AS list INTO missing
    FROM (SELECT r.id AS rule, r.name AS rule_name, x.kind, x.name, row_number() OVER (ORDER BY r.id, x.kind) AS n
        FROM unnest(wanted) r CROSS JOIN LATERAL (VALUES
            ('pool', r.pool, EXISTS (SELECT FROM leadroute.pool p WHERE p.tenant = r.tenant AND p.name = r.pool)),
            ('overflow pool', r.overflow_pool, EXISTS (SELECT FROM leadroute.pool p WHERE p.tenant = r.tenant AND p.name = r.overflow_pool)),
            ('rep', r.rep::text, EXISTS (SELECT FROM leadroute.rep p WHERE p.tenant = r.tenant AND p.id = r.rep)),
            ('territory', r.territory, EXISTS (SELECT FROM leadroute.territory t WHERE t.tenant = r.tenant AND t.name = r.territory)),
            ('policy', r.sla, EXISTS (SELECT FROM leadroute.sla_policy s WHERE s.tenant = r.tenant AND s.name = r.sla)),
            ('lead table', r.lead_table, EXISTS (SELECT FROM leadroute.lead_table t WHERE t.name = r.lead_table))) x (kind, name, known)
        WHERE x.name IS NOT NULL AND NOT x.known) m;
    IF missing.number > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008',
            MESSAGE = format('what %s reference(s) of the rules as of %s name is gone', missing.number, at),
            DETAIL = missing.list, HINT = 'Insert it again, then restore the rules.';
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._require_restorable(leadroute.rule[], timestamptz) IS
    'Raises LR008 when what rules refer to does not exist, with up to 20 of the references.';

CREATE FUNCTION leadroute._rule_content(r leadroute.rule, with_author boolean) RETURNS jsonb
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT to_jsonb(r) - '{version,changed_at}'::text[] - CASE WHEN with_author THEN '{}'::text[] ELSE '{author}' END $$;
COMMENT ON FUNCTION leadroute._rule_content(leadroute.rule, boolean) IS 'A rule without what leadroute sets.';

CREATE FUNCTION leadroute._write_rules(wanted leadroute.rule[], as_author boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- names are unique at any moment: those that others are to receive are given up first
    UPDATE leadroute.rule r SET name = format('(restored %s)', r.id)
    FROM unnest(wanted) w, unnest(wanted) o
    WHERE (r.tenant, r.id) = (w.tenant, w.id) AND r.name <> w.name AND o.id <> r.id
      AND (o.tenant, o.lead_table, o.name) = (r.tenant, r.lead_table, r.name);
    UPDATE leadroute.rule r SET lead_table = w.lead_table, position = w.position, name = w.name, condition = w.condition,
        needs = w.needs, pool = w.pool, rep = w.rep, territory = w.territory, overflow_pool = w.overflow_pool, sla = w.sla,
        label = w.label, active = w.active, valid = w.valid,
        author = CASE WHEN as_author THEN w.author
            WHEN (r.lead_table, r.condition, r.needs) IS DISTINCT FROM (w.lead_table, w.condition, w.needs) THEN current_user
            ELSE r.author END
    FROM unnest(wanted) w WHERE (r.tenant, r.id) = (w.tenant, w.id)
      AND leadroute._rule_content(r, as_author) <> leadroute._rule_content(w, as_author);
    INSERT INTO leadroute.rule (tenant, id, lead_table, position, name, condition, needs, pool, rep, territory, overflow_pool,
        sla, label, active, valid, author)
    SELECT w.tenant, w.id, w.lead_table, w.position, w.name, w.condition, w.needs, w.pool, w.rep, w.territory, w.overflow_pool,
        w.sla, w.label, w.active, w.valid, CASE WHEN as_author THEN w.author ELSE current_user END
    FROM unnest(wanted) w WHERE NOT EXISTS (SELECT FROM leadroute.rule r WHERE (r.tenant, r.id) = (w.tenant, w.id))
    ORDER BY w.position, w.id;
END
$$;
COMMENT ON FUNCTION leadroute._write_rules(leadroute.rule[], boolean) IS
    'Makes rules equal these, as the caller; with their authors, or else as whoever runs it where it writes what runs as the author.';

CREATE FUNCTION leadroute.restore_rules(lead_table text, at timestamptz, tenant bigint DEFAULT 0)
    RETURNS TABLE (rule bigint, rule_name text, change text, old jsonb, new jsonb)
    LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    superuser CONSTANT boolean := (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user);
    before leadroute.rule[];
    wanted leadroute.rule[];
BEGIN
    PERFORM leadroute._require(tenant, VARIADIC '{}'::text[]);
    LOCK TABLE leadroute.rule IN SHARE ROW EXCLUSIVE MODE;
    wanted := ARRAY(SELECT w FROM leadroute._rules_to_restore(lead_table, at, tenant) w);
    before := ARRAY(SELECT r FROM leadroute.rule r
        WHERE r.tenant = tenant AND (r.lead_table = lead_table OR r.id IN (SELECT w.id FROM unnest(wanted) w)));
    PERFORM leadroute._require_restorable(wanted, at);
    DELETE FROM leadroute.rule r
    WHERE r.tenant = tenant AND r.lead_table = lead_table AND r.id NOT IN (SELECT w.id FROM unnest(wanted) w);
    PERFORM leadroute._write_rules(wanted, superuser);

    RETURN QUERY
    SELECT coalesce(n.id, b.id), coalesce(n.name, b.name),
        CASE WHEN b.id IS NULL THEN 'inserted' WHEN n.id IS NULL THEN 'deleted' ELSE 'updated' END, was.row, is_now.row
    FROM unnest(before) b
        FULL JOIN (SELECT r.* FROM leadroute.rule r WHERE r.tenant = tenant AND r.id IN (
            SELECT w.id FROM unnest(wanted) w UNION SELECT b.id FROM unnest(before) b)) n ON n.id = b.id
        CROSS JOIN LATERAL (SELECT CASE WHEN b.id IS NOT NULL THEN leadroute._rule_content(b, true) END AS row) whole_old
        CROSS JOIN LATERAL (SELECT CASE WHEN n.id IS NOT NULL THEN leadroute._rule_content(n, true) END AS row) whole_new
        -- of an update the columns that differ
        CROSS JOIN LATERAL (SELECT CASE WHEN whole_new.row IS NULL THEN whole_old.row ELSE (SELECT jsonb_object_agg(o.key, o.value)
            FROM jsonb_each(whole_old.row) o WHERE o.value <> whole_new.row -> o.key) END AS row) was
        CROSS JOIN LATERAL (SELECT CASE WHEN whole_old.row IS NULL THEN whole_new.row ELSE (SELECT jsonb_object_agg(o.key, o.value)
            FROM jsonb_each(whole_new.row) o WHERE o.value <> whole_old.row -> o.key) END AS row) is_now
    WHERE whole_old.row IS DISTINCT FROM whole_new.row
    ORDER BY 1;
END
$$;
COMMENT ON FUNCTION leadroute.restore_rules(text, timestamptz, bigint) IS
    'Makes the rules of a lead table what rules_as_of() gives, in this transaction, and tells what it changed: inserted, updated (the columns that differ, before and after) or deleted. Rules keep their ids; a rule that was another table''s then goes back there. What has been renamed since is named as it is now; what is gone is refused, naming the rules (LR008). A superuser restores the authors too. Of anybody else what is written runs as the caller, who becomes the author where the condition, needs or lead table change and of rules that come back; other rules keep their present author. Other sessions wait to write rules until the transaction ends; leads are routed by the old rules until it commits. Takes the level admin. Raises LR002, LR005, LR008, LR012, and what writing the rules raises.';

-- The version behind a decision -----------------------------------------------------------------------

CREATE FUNCTION leadroute._rule_version(a leadroute.assignment)
    RETURNS TABLE (rule bigint, rule_name text, version integer, changed_at timestamptz, changed_by name, login name,
        latest boolean, definition jsonb)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    made leadroute.config_change;
    present leadroute.rule;
BEGIN
    PERFORM leadroute._require(a.tenant, VARIADIC '{}'::text[]);
    IF a.rule IS NULL OR a.rule_version IS NULL THEN
        RETURN;
    END IF;
    SELECT c.* INTO made FROM leadroute.config_change c
    WHERE c.tenant = a.tenant AND c.table_name = 'rule' AND c.key = jsonb_build_object('id', a.rule)
      AND c.version = a.rule_version AND c.new IS NOT NULL
    ORDER BY c.id DESC LIMIT 1;
    SELECT r.* INTO present FROM leadroute.rule r WHERE r.tenant = a.tenant AND r.id = a.rule;
    definition := coalesce(made.new,
        CASE WHEN present.version = a.rule_version THEN to_jsonb(present) END,
        -- what came before the version was deleted from the history: the next change says what it found
        (SELECT c.old FROM leadroute.config_change c
         WHERE c.tenant = a.tenant AND c.table_name = 'rule' AND c.key = jsonb_build_object('id', a.rule)
           AND (c.old ->> 'version')::integer = a.rule_version ORDER BY c.id LIMIT 1)) - '{version,changed_at}'::text[];
    rule := a.rule;
    rule_name := definition ->> 'name';
    version := a.rule_version;
    changed_at := made.changed_at;
    changed_by := made.changed_by;
    login := made.login;
    latest := coalesce(present.version = a.rule_version, false);
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION leadroute._rule_version(leadroute.assignment) IS 'rule_version() of an episode.';

CREATE FUNCTION leadroute.rule_version(lead_table text, lead_id integer, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS TABLE (rule bigint, rule_name text, version integer, changed_at timestamptz, changed_by name, login name,
        latest boolean, definition jsonb)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT v.* FROM leadroute._rule_version(leadroute._require_episode(lead_table, lead_id::text, episode, tenant)) v $$;
COMMENT ON FUNCTION leadroute.rule_version(text, integer, integer, bigint) IS
    'The rule as it was when it decided about a lead: which version of its row, who made it and when (NULL: that is deleted from config_change, or came by a restore), whether it is still the present one, and the row itself. No row where no rule decided. Exact: the record keeps the version that the deciding session saw, also in a transaction that edits rules. Takes the level admin. Raises LR002, LR007, LR012.';
CREATE FUNCTION leadroute.rule_version(lead_table text, lead_id bigint, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS TABLE (rule bigint, rule_name text, version integer, changed_at timestamptz, changed_by name, login name,
        latest boolean, definition jsonb)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT v.* FROM leadroute._rule_version(leadroute._require_episode(lead_table, lead_id::text, episode, tenant)) v $$;
COMMENT ON FUNCTION leadroute.rule_version(text, bigint, integer, bigint) IS 'rule_version() for a bigint key.';
CREATE FUNCTION leadroute.rule_version(lead_table text, lead_id uuid, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS TABLE (rule bigint, rule_name text, version integer, changed_at timestamptz, changed_by name, login name,
        latest boolean, definition jsonb)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT v.* FROM leadroute._rule_version(leadroute._require_episode(lead_table, lead_id::text, episode, tenant)) v $$;
COMMENT ON FUNCTION leadroute.rule_version(text, uuid, integer, bigint) IS 'rule_version() for a uuid key.';
CREATE FUNCTION leadroute.rule_version(lead_table text, lead_id text, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS TABLE (rule bigint, rule_name text, version integer, changed_at timestamptz, changed_by name, login name,
        latest boolean, definition jsonb)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT v.* FROM leadroute._rule_version(leadroute._require_episode(lead_table, lead_id, episode, tenant)) v $$;
COMMENT ON FUNCTION leadroute.rule_version(text, text, integer, bigint) IS 'rule_version() for a text key, or any key in its output form.';
