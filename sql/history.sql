-- The history of configuration: each row counts its changes, and config_change keeps them.

CREATE FUNCTION leadroute._stamp() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_stamp';
COMMENT ON FUNCTION leadroute._stamp() IS
    'Numbers a row''s changes: sets version and changed_at. What a superuser inserts with a version, as a restore does, keeps both.';

CREATE FUNCTION leadroute._log_change() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_log_change';
COMMENT ON FUNCTION leadroute._log_change() IS
    'Writes a change to config_change; the arguments are the columns that tell which row.';

-- z_version comes after the triggers that change or refuse the row. A row that brought its version
-- was not changed in this transaction: not logged.
CREATE TRIGGER z_version BEFORE INSERT OR UPDATE ON leadroute.rep
    FOR EACH ROW EXECUTE FUNCTION leadroute._stamp();
CREATE TRIGGER history_inserted AFTER INSERT ON leadroute.rep
    FOR EACH ROW WHEN (NEW.changed_at = now()) EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_updated AFTER UPDATE ON leadroute.rep
    FOR EACH ROW WHEN (NEW.version IS DISTINCT FROM OLD.version) EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_deleted AFTER DELETE ON leadroute.rep
    FOR EACH ROW EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_truncated BEFORE TRUNCATE ON leadroute.rep
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._log_change('id');

CREATE TRIGGER z_version BEFORE INSERT OR UPDATE ON leadroute.pool
    FOR EACH ROW EXECUTE FUNCTION leadroute._stamp();
CREATE TRIGGER history_inserted AFTER INSERT ON leadroute.pool
    FOR EACH ROW WHEN (NEW.changed_at = now()) EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_updated AFTER UPDATE ON leadroute.pool
    FOR EACH ROW WHEN (NEW.version IS DISTINCT FROM OLD.version) EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_deleted AFTER DELETE ON leadroute.pool
    FOR EACH ROW EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_truncated BEFORE TRUNCATE ON leadroute.pool
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._log_change('id');

CREATE TRIGGER z_version BEFORE INSERT OR UPDATE ON leadroute.pool_member
    FOR EACH ROW EXECUTE FUNCTION leadroute._stamp();
CREATE TRIGGER history_inserted AFTER INSERT ON leadroute.pool_member
    FOR EACH ROW WHEN (NEW.changed_at = now()) EXECUTE FUNCTION leadroute._log_change('pool', 'rep');
CREATE TRIGGER history_updated AFTER UPDATE ON leadroute.pool_member
    FOR EACH ROW WHEN (NEW.version IS DISTINCT FROM OLD.version) EXECUTE FUNCTION leadroute._log_change('pool', 'rep');
CREATE TRIGGER history_deleted AFTER DELETE ON leadroute.pool_member
    FOR EACH ROW EXECUTE FUNCTION leadroute._log_change('pool', 'rep');
CREATE TRIGGER history_truncated BEFORE TRUNCATE ON leadroute.pool_member
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._log_change('pool', 'rep');

CREATE TRIGGER z_version BEFORE INSERT OR UPDATE ON leadroute.lead_table
    FOR EACH ROW EXECUTE FUNCTION leadroute._stamp();
CREATE TRIGGER history_inserted AFTER INSERT ON leadroute.lead_table
    FOR EACH ROW WHEN (NEW.changed_at = now()) EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_updated AFTER UPDATE ON leadroute.lead_table
    FOR EACH ROW WHEN (NEW.version IS DISTINCT FROM OLD.version) EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_deleted AFTER DELETE ON leadroute.lead_table
    FOR EACH ROW EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_truncated BEFORE TRUNCATE ON leadroute.lead_table
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._log_change('id');

CREATE TRIGGER z_version BEFORE INSERT OR UPDATE ON leadroute.rule
    FOR EACH ROW EXECUTE FUNCTION leadroute._stamp();
CREATE TRIGGER history_inserted AFTER INSERT ON leadroute.rule
    FOR EACH ROW WHEN (NEW.changed_at = now()) EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_updated AFTER UPDATE ON leadroute.rule
    FOR EACH ROW WHEN (NEW.version IS DISTINCT FROM OLD.version) EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_deleted AFTER DELETE ON leadroute.rule
    FOR EACH ROW EXECUTE FUNCTION leadroute._log_change('id');
CREATE TRIGGER history_truncated BEFORE TRUNCATE ON leadroute.rule
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._log_change('id');

CREATE TRIGGER z_version BEFORE INSERT OR UPDATE ON leadroute.access
    FOR EACH ROW EXECUTE FUNCTION leadroute._stamp();
CREATE TRIGGER history_inserted AFTER INSERT ON leadroute.access
    FOR EACH ROW WHEN (NEW.changed_at = now()) EXECUTE FUNCTION leadroute._log_change('role');
CREATE TRIGGER history_updated AFTER UPDATE ON leadroute.access
    FOR EACH ROW WHEN (NEW.version IS DISTINCT FROM OLD.version) EXECUTE FUNCTION leadroute._log_change('role');
CREATE TRIGGER history_deleted AFTER DELETE ON leadroute.access
    FOR EACH ROW EXECUTE FUNCTION leadroute._log_change('role');
CREATE TRIGGER history_truncated BEFORE TRUNCATE ON leadroute.access
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._log_change('role');
