-- Restores of data alone, into tables that are attached already; see src/pg/restore.cpp.

CREATE FUNCTION leadroute._restoring() RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_restoring';
COMMENT ON FUNCTION leadroute._restoring() IS
    'Whether this session restores a dump: it has the two settings with which the script of a dump begins.';

CREATE FUNCTION leadroute._replace_provisional() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM leadroute.assignment a
    WHERE a.tenant = NEW.tenant AND a.lead_table = NEW.lead_table AND a.lead_id = NEW.lead_id AND a.ended_at IS NULL;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._replace_provisional() IS
    'Takes away the record that a lead received when it was restored before this one.';
-- A lead whose last episode was closed has no open one.
CREATE TRIGGER restored BEFORE INSERT ON leadroute.assignment
    FOR EACH ROW WHEN ((NEW.ended_at IS NULL OR NEW.end_reason = 'closed') AND leadroute._restoring())
    EXECUTE FUNCTION leadroute._replace_provisional();
CREATE TRIGGER restored BEFORE INSERT ON leadroute.unmanaged_lead
    FOR EACH ROW WHEN (leadroute._restoring()) EXECUTE FUNCTION leadroute._replace_provisional();

-- pg_restore -j knows no order among the tables of an extension: what a row refers to may arrive after
-- it. Rows of a dump have been checked, so these tables' triggers and foreign keys rest while it is
-- read; but for those by which memory follows (route.sql).
CREATE FUNCTION leadroute._rest_triggers() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_rest_triggers';
COMMENT ON FUNCTION leadroute._rest_triggers() IS
    'Lets triggers and foreign keys rest from before to after a statement of a restore.';

CREATE FUNCTION leadroute._keep_always() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lost record;
BEGIN
    FOR lost IN
        SELECT t.tgrelid::regclass AS relation, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = 'leadroute'::regnamespace AND t.tgenabled = 'O'
          AND t.tgname IN ('access_changed', 'config_changed', 'config_weighed', 'config_truncated', 'a_restore', 'z_restore',
              'record_inserted', 'record_updated', 'record_ending', 'record_credited', 'record_deleted', 'record_truncated')
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', lost.relation, lost.tgname);
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._keep_always() IS
    'Makes triggers ALWAYS again that pg_restore --disable-triggers has left merely enabled.';
