-- Known contacts: sticky_on of a lead table (src/pg/sticky.cpp). What is refused, and whose rights it runs
-- with: as a rule's condition.

CREATE FUNCTION leadroute._check_sticky_values() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    added CONSTANT boolean := TG_OP = 'INSERT';
    superuser CONSTANT boolean := (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user);
BEGIN
    IF (NEW.sticky_window > '0' AND NEW.sticky_window <= '1000 years') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005',
            MESSAGE = format('sticky_window %s is no time', coalesce(NEW.sticky_window::text, 'NULL')),
            DETAIL = format('It says how long the rep who had a contact of "%s" is known.', NEW.name),
            HINT = 'Give an interval such as ''90 days'', up to ''1000 years''.';
    END IF;
    IF NEW.sticky_on IS NULL THEN
        NEW.sticky_author := NULL;
    ELSIF superuser THEN
        NEW.sticky_author := coalesce(NEW.sticky_author, current_user);
    ELSIF NEW.sticky_author <> current_user AND (added OR NEW.sticky_author IS DISTINCT FROM OLD.sticky_author) THEN
        RAISE EXCEPTION USING ERRCODE = 'LR012',
            MESSAGE = format('role "%s" cannot name "%s" as the author of sticky_on', current_user, NEW.sticky_author),
            DETAIL = 'The expression is evaluated with its author''s rights.',
            HINT = 'Leave the author out; only a superuser may name another.';
    ELSIF added OR NEW.sticky_author IS NULL OR NEW.sticky_on IS DISTINCT FROM OLD.sticky_on THEN
        NEW.sticky_author := current_user;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_sticky_values() IS
    'Refuses (LR005) a window that is no time; whoever writes sticky_on is its author, and only a superuser may name another (LR012).';
CREATE TRIGGER a_sticky BEFORE INSERT OR UPDATE ON leadroute.lead_table
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_sticky_values();

CREATE FUNCTION leadroute._check_sticky(lead regclass, name text, sticky_on text, author name) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_check_sticky';
COMMENT ON FUNCTION leadroute._check_sticky(regclass, text, text, name) IS
    'Refuses (LR004) a sticky_on that would not work on the lead table, with the position in it; (LR012) one in the name of another role, or without the right to what it uses.';

CREATE FUNCTION leadroute._contact(lead regclass, lead_row record) RETURNS bigint
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_contact';
COMMENT ON FUNCTION leadroute._contact(regclass, record) IS
    'The contact of a lead of an attached table, as the record keeps it; NULL: it has none.';

-- attach() asks itself: the lead table has no trigger yet
CREATE FUNCTION leadroute._check_sticky_on() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_check_sticky_on';
COMMENT ON FUNCTION leadroute._check_sticky_on() IS '_check_sticky() for a changed sticky_on.';
CREATE TRIGGER b_sticky BEFORE UPDATE ON leadroute.lead_table
    FOR EACH ROW WHEN (OLD.sticky_on IS DISTINCT FROM NEW.sticky_on OR OLD.sticky_author IS DISTINCT FROM NEW.sticky_author)
    EXECUTE FUNCTION leadroute._check_sticky_on();
