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
