-- Territories: what is refused, what follows, and how other sessions learn of new entries. Tables of
-- 60,000 entries are loaded at once, so what happens to each entry is done in C (src/pg/territory_edit.cpp)
-- and the rest once for a statement.

CREATE FUNCTION leadroute._check_territory() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    on_conflict CONSTANT boolean := leadroute._on_conflict();
    added CONSTANT boolean := TG_OP = 'INSERT';
    superuser CONSTANT boolean := (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user);
    problem text[];
BEGIN
    problem := CASE
        WHEN NOT added AND NEW.tenant IS DISTINCT FROM OLD.tenant THEN ARRAY[
            format('territory "%s" cannot change its tenant', OLD.name), 'Its entries and rules are of that tenant.',
            'Insert another territory, and delete this one.']
        WHEN leadroute._name_problem(NEW.name, 63) IS NOT NULL THEN ARRAY[
            format('the name of the territory %s', leadroute._name_problem(NEW.name, 63)),
            'Rules and entries refer to a territory by its name.', 'Give a name of 1 to 63 characters.']
        WHEN NEW.key IS NULL THEN ARRAY[
            format('territory "%s" has no key', NEW.name), 'It is what a lead is looked for by.',
            'Give an SQL expression over the lead''s columns, such as ''postal_code''.']
        WHEN NEW.match IS NULL OR NEW.match NOT IN ('exact', 'prefix') THEN ARRAY[
            format('unknown match %s', coalesce('"' || NEW.match || '"', 'NULL')),
            format('It says how territory "%s" finds the entry of a key.', NEW.name), 'Use exact or prefix.']
        WHEN NOT on_conflict AND (added OR NEW.name <> OLD.name) AND EXISTS (SELECT FROM leadroute.territory t
            WHERE t.tenant = NEW.tenant AND t.name = NEW.name) THEN ARRAY[
            format('territory "%s" exists already', NEW.name), 'Names are unique within a tenant.', 'Give another name.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    -- As of a rule's condition: whoever writes the key is its author.
    IF superuser THEN
        NEW.author := coalesce(NEW.author, current_user);
    ELSIF NEW.author <> current_user AND (added OR NEW.author <> OLD.author) THEN
        RAISE EXCEPTION USING ERRCODE = 'LR012',
            MESSAGE = format('role "%s" cannot name "%s" as a territory''s author', current_user, NEW.author),
            DETAIL = 'The key is evaluated with its author''s rights.',
            HINT = 'Leave the author out; only a superuser may name another.';
    ELSIF added OR NEW.author IS NULL OR NEW.key <> OLD.key THEN
        NEW.author := current_user;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_territory() IS
    'Refuses (LR005) a territory with a wrong value; whoever writes the key is its author, and only a superuser may name another (LR012).';
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.territory
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_territory();

CREATE FUNCTION leadroute._check_territory_key() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_check_territory_key';
COMMENT ON FUNCTION leadroute._check_territory_key() IS
    'Refuses (LR004) a key that would not work on a lead table whose rules use the territory, with the position in it.';
CREATE TRIGGER b_key BEFORE INSERT OR UPDATE ON leadroute.territory
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_territory_key();

CREATE FUNCTION leadroute._territory_users(territory leadroute.territory) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(u.user_name, ', ') FROM (
        SELECT format('rule "%s" (%s)', r.name, r.id) FROM leadroute.rule r
        WHERE r.tenant = territory.tenant AND r.territory = territory.name
        UNION ALL SELECT CASE count(*) WHEN 1 THEN 'one entry' ELSE count(*) || ' entries' END FROM leadroute.territory_entry e
        WHERE e.tenant = territory.tenant AND e.territory = territory.name HAVING count(*) > 0
        LIMIT 10) u (user_name)
$$;
COMMENT ON FUNCTION leadroute._territory_users(leadroute.territory) IS
    'What stands in the way of deleting a territory, in words; NULL when nothing does.';

CREATE FUNCTION leadroute._check_territory_unused() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    users CONSTANT text := leadroute._territory_users(OLD);
BEGIN
    IF users IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR006',
            MESSAGE = format('territory "%s" is in use', OLD.name), DETAIL = format('By %s.', users),
            HINT = 'Remove those first, or take the territory out of the rules.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._check_territory_unused() IS 'Refuses (LR006) to delete a territory in use, naming by whom.';
CREATE TRIGGER "0_unused" AFTER DELETE ON leadroute.territory
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_territory_unused();

CREATE FUNCTION leadroute._follow_territory() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leadroute.territory_entry e SET territory = NEW.name
    WHERE e.tenant = NEW.tenant AND e.territory = OLD.name;
    UPDATE leadroute.rule r SET territory = NEW.name WHERE r.tenant = NEW.tenant AND r.territory = OLD.name;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._follow_territory() IS
    'Rewrites the references to a renamed territory, before the foreign keys look.';
CREATE TRIGGER "0_rename" AFTER UPDATE ON leadroute.territory
    FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION leadroute._follow_territory();

CREATE FUNCTION leadroute._follow_pool_entries() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leadroute.territory_entry e SET pool = NEW.name WHERE e.tenant = NEW.tenant AND e.pool = OLD.name;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._follow_pool_entries() IS
    'Rewrites the entries that name a renamed pool, before the foreign key looks.';
CREATE TRIGGER "0_rename_entries" AFTER UPDATE ON leadroute.pool
    FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION leadroute._follow_pool_entries();

-- Entries ------------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._check_entry() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_check_entry';
COMMENT ON FUNCTION leadroute._check_entry() IS
    'Refuses (LR005) an entry without a key or without just one target, (LR008) of a territory, pool or rep that does not exist.';
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.territory_entry
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_entry();

CREATE FUNCTION leadroute._entries_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_entries_changed';
COMMENT ON FUNCTION leadroute._entries_changed() IS
    'Makes sessions forget the keys that they have looked up: this one now, the others when it commits. Pools and rules stay as they are in memory.';
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON leadroute.territory_entry
    FOR EACH ROW EXECUTE FUNCTION leadroute._entries_changed();
CREATE TRIGGER config_truncated AFTER TRUNCATE ON leadroute.territory_entry
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._entries_changed();
ALTER TABLE leadroute.territory_entry ENABLE ALWAYS TRIGGER config_changed;
ALTER TABLE leadroute.territory_entry ENABLE ALWAYS TRIGGER config_truncated;

CREATE FUNCTION leadroute._log_entries() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_log_entries';
COMMENT ON FUNCTION leadroute._log_entries() IS
    'Writes what a statement did to entries to config_change: each entry of a statement that touched up to 200 rows, of others how many entries of each territory.';
CREATE TRIGGER history_inserted AFTER INSERT ON leadroute.territory_entry REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._log_entries();
CREATE TRIGGER history_updated AFTER UPDATE ON leadroute.territory_entry
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._log_entries();
CREATE TRIGGER history_deleted AFTER DELETE ON leadroute.territory_entry REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._log_entries();
CREATE TRIGGER history_truncated BEFORE TRUNCATE ON leadroute.territory_entry
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._log_entries();

-- Who may see and write them: as other configuration (access.sql).
CREATE POLICY admin ON leadroute.territory USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.territory_entry USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
