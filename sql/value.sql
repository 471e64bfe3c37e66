-- value_expression: what a lead is worth, for pools with the method value.

CREATE FUNCTION leadroute._check_value(lead regclass, name text, expression text, author name) RETURNS void
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'leadroute_check_value';
COMMENT ON FUNCTION leadroute._check_value(regclass, text, text, name) IS
    'Refuses (LR004, LR012) a value_expression that would not work on the leads of this relation, with the position in it.';

CREATE FUNCTION leadroute._value_author() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    superuser CONSTANT boolean := (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user);
    added CONSTANT boolean := TG_OP = 'INSERT';
BEGIN
    IF NEW.value_expression IS NULL THEN
        NEW.value_author := NULL;
    ELSIF superuser THEN
        NEW.value_author := coalesce(NEW.value_author, current_user);
    ELSIF NEW.value_author <> current_user AND (added OR NEW.value_author IS DISTINCT FROM OLD.value_author) THEN
        RAISE EXCEPTION USING ERRCODE = 'LR012',
            MESSAGE = format('role "%s" cannot name "%s" as a value_expression''s author', current_user, NEW.value_author),
            DETAIL = 'It is evaluated with its author''s rights.',
            HINT = 'Leave the author out; only a superuser may name another.';
    ELSIF added OR NEW.value_author IS NULL OR NEW.value_expression IS DISTINCT FROM OLD.value_expression THEN
        NEW.value_author := current_user;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._value_author() IS
    'Whoever writes a value_expression is its author; only a superuser may name another (LR012).';
CREATE TRIGGER b_value_author BEFORE INSERT OR UPDATE OF value_expression, value_author ON leadroute.lead_table
    FOR EACH ROW EXECUTE FUNCTION leadroute._value_author();

CREATE FUNCTION leadroute._value_changed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leadroute._check_value(leadroute._lead_relation(NEW.id), NEW.name, NEW.value_expression, NEW.value_author);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._value_changed() IS 'Checks a changed value_expression.';
CREATE TRIGGER value_changed AFTER UPDATE OF value_expression, value_author ON leadroute.lead_table
    FOR EACH ROW WHEN ((OLD.value_expression, OLD.value_author) IS DISTINCT FROM (NEW.value_expression, NEW.value_author))
    EXECUTE FUNCTION leadroute._value_changed();
