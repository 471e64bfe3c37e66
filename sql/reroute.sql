-- reroute_on: columns of a lead whose change routes it again. The triggers stand on the columns
-- themselves, so that a renamed one is followed and none can be dropped unnoticed.

CREATE FUNCTION leadroute.reroute_lead() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_reroute_lead';
COMMENT ON FUNCTION leadroute.reroute_lead() IS
    'Routes a lead again, whose columns of reroute_on changed: one that waits, or that another rule matches now; never one whose owner a person gave. attach() makes the trigger.';

CREATE FUNCTION leadroute._change_expression(lead regclass, column_name name) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    column_type CONSTANT text := (SELECT format_type(a.atttypid, NULL) FROM pg_attribute a
        WHERE a.attrelid = lead AND a.attname = column_name);
BEGIN
    EXECUTE format('SELECT NULL::%1$s IS DISTINCT FROM NULL::%1$s', column_type);
    RETURN format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', column_name);
EXCEPTION WHEN undefined_function THEN
    -- json, point: nothing says when two are equal
    RETURN format('OLD.%1$I::text IS DISTINCT FROM NEW.%1$I::text', column_name);
END
$$;
COMMENT ON FUNCTION leadroute._change_expression(regclass, name) IS 'SQL that is true when an UPDATE really changes the column.';

CREATE FUNCTION leadroute._check_reroute_columns(attachment leadroute.lead_table, lead regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    column_name name;
    attribute pg_attribute;
    problem text[];
BEGIN
    FOREACH column_name IN ARRAY coalesce(attachment.reroute_on, '{}') LOOP
        SELECT a.* INTO attribute FROM pg_attribute a
        WHERE a.attrelid = lead AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped;
        problem := CASE
            WHEN attribute.attname IS NULL THEN ARRAY['there is no such column', 'Name columns of the lead table.']
            WHEN column_name = attachment.owner_column THEN ARRAY['it is the owner column',
                'A changed owner is a person''s choice, and stays.']
            WHEN column_name IN (attachment.key_column, attachment.tenant_column) THEN ARRAY[
                format('it is the %s column', CASE column_name WHEN attachment.key_column THEN 'key' ELSE 'tenant' END),
                'A lead takes its record along to another key; name columns that rules go by.']
            WHEN attribute.attgenerated <> '' THEN ARRAY['it is a generated column',
                'Name the columns that it is generated from.'] END;
        IF problem IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'LR005',
                MESSAGE = format('reroute_on cannot name "%s": %s', coalesce(column_name::text, 'NULL'), problem[1]),
                DETAIL = format('It was given for "%s".', attachment.name), HINT = problem[2];
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._check_reroute_columns(leadroute.lead_table, regclass) IS
    'Refuses (LR005) columns whose change cannot route a lead again.';

CREATE FUNCTION leadroute._followed_columns(lead regclass, follower regprocedure) RETURNS name[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(DISTINCT a.attname ORDER BY a.attname) FROM pg_trigger t
        JOIN pg_depend d ON d.classid = 'pg_trigger'::regclass AND d.objid = t.oid
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE t.tgrelid = lead AND t.tgfoid = follower
      AND d.refclassid = 'pg_class'::regclass AND d.refobjid = lead AND d.refobjsubid > 0
$$;
COMMENT ON FUNCTION leadroute._followed_columns(regclass, regprocedure) IS
    'The columns whose change the triggers with this function see, by their present names; NULL: there is no such trigger.';

CREATE FUNCTION leadroute._create_reroute_triggers(attachment leadroute.lead_table, lead regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed text;
    old_trigger record;
BEGIN
    PERFORM leadroute._check_reroute_columns(attachment, lead);
    IF leadroute._followed_columns(lead, 'leadroute.reroute_lead()') IS NOT DISTINCT FROM (
        SELECT array_agg(DISTINCT c ORDER BY c) FROM unnest(attachment.reroute_on) c) THEN
        RETURN;
    END IF;
    FOR old_trigger IN
        SELECT t.tgname FROM pg_trigger t WHERE t.tgrelid = lead AND t.tgparentid = 0
          AND t.tgname IN ('zz_leadroute_reroute', 'zz_leadroute_decided')
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', old_trigger.tgname, lead);
    END LOOP;
    SELECT string_agg(leadroute._change_expression(lead, c), ' OR ') INTO changed
    FROM (SELECT DISTINCT u FROM unnest(attachment.reroute_on) u) d (c);
    IF changed IS NULL THEN
        RETURN;
    END IF;
    -- by name after zz_leadroute_key, which takes the record along, and before zz_leadroute_owner
    EXECUTE format('CREATE TRIGGER zz_leadroute_reroute BEFORE UPDATE ON %s FOR EACH ROW
        WHEN (%s) EXECUTE FUNCTION leadroute.reroute_lead(%L)', lead, changed, attachment.id);
    EXECUTE format('CREATE TRIGGER zz_leadroute_decided AFTER UPDATE ON %1$s FOR EACH ROW
        WHEN ((%2$s OR OLD.%3$I IS DISTINCT FROM NEW.%3$I) AND leadroute._after_pending())
        EXECUTE FUNCTION leadroute.record_lead(%4$L)', lead, changed, attachment.owner_column, attachment.id);
END
$$;
COMMENT ON FUNCTION leadroute._create_reroute_triggers(leadroute.lead_table, regclass) IS
    'Makes the triggers on the columns of reroute_on anew, if they stand on others.';

CREATE FUNCTION leadroute._reroute_changed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lead CONSTANT regclass := leadroute._lead_relation(NEW.id);
BEGIN
    IF lead IS NOT NULL THEN
        PERFORM leadroute._create_reroute_triggers(NEW, lead);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._reroute_changed() IS
    'Puts the triggers of a lead table onto other columns; takes a SHARE ROW EXCLUSIVE lock on the table, where it drops triggers an ACCESS EXCLUSIVE one.';
CREATE TRIGGER reroute_changed AFTER UPDATE OF reroute_on ON leadroute.lead_table
    FOR EACH ROW WHEN (OLD.reroute_on IS DISTINCT FROM NEW.reroute_on)
    EXECUTE FUNCTION leadroute._reroute_changed();

CREATE FUNCTION leadroute._follow_reroute_columns(attachment leadroute.lead_table, lead regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    present CONSTANT name[] := leadroute._followed_columns(lead, 'leadroute.reroute_lead()');
    left_over CONSTANT name[] := (SELECT array_agg(c) FROM unnest(attachment.reroute_on) c
        WHERE leadroute._has_column(lead, c));
BEGIN
    IF attachment.reroute_on IS NULL THEN
        RETURN;
    END IF;
    -- dropped with CASCADE, a column takes the triggers along
    UPDATE leadroute.lead_table t SET reroute_on = coalesce(present, left_over)
    WHERE t.id = attachment.id AND NOT (t.reroute_on <@ coalesce(present, '{}') AND present <@ t.reroute_on);
    IF present IS NULL THEN
        attachment.reroute_on := left_over;
        PERFORM leadroute._create_reroute_triggers(attachment, lead);
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._follow_reroute_columns(leadroute.lead_table, regclass) IS
    'Notes the new names of columns of reroute_on that were renamed, and goes on without those that were dropped.';
