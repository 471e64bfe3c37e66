-- score_column: how good a lead is. A trigger on the column itself follows what changes of a lead that
-- waits, so that a renamed column is followed and none can be dropped unnoticed.

CREATE FUNCTION leadroute._score_of(value anyelement) RETURNS double precision
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'leadroute_score_of';
COMMENT ON FUNCTION leadroute._score_of(anyelement) IS
    'A number as a score; NULL for what is none, not a number or not finite.';

CREATE FUNCTION leadroute._score_expression(attachment leadroute.lead_table, row_name text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN attachment.score_column IS NULL THEN 'NULL::double precision'
        ELSE format('leadroute._score_of(%s.%I)', row_name, attachment.score_column) END
$$;
COMMENT ON FUNCTION leadroute._score_expression(leadroute.lead_table, text) IS 'SQL for the score of a lead.';

-- With the rights of leadroute's owner, as the other triggers that tell the record (route.sql).
CREATE FUNCTION leadroute.follow_score() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment CONSTANT leadroute.lead_table := leadroute._followed(TG_RELID, TG_ARGV[0]);
    of_tenant bigint;
    of_lead text;
    new_score double precision;
BEGIN
    IF attachment.score_column IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT %s, ($1).%I::text, %s', leadroute._tenant_expression(attachment, '($1)'),
        attachment.key_column, leadroute._score_expression(attachment, '($1)'))
    INTO of_tenant, of_lead, new_score USING NEW;
    UPDATE leadroute.assignment a SET score = new_score
    WHERE a.tenant = of_tenant AND a.lead_table = attachment.id AND a.lead_id = of_lead AND a.ended_at IS NULL
      AND (a.rep IS NULL AND a.method <> 'manual' OR a.tank_pool IS NOT NULL) AND a.score IS DISTINCT FROM new_score;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute.follow_score() IS
    'Tells the record the new score of a lead that waits, or is in the shark tank. attach() makes the trigger.';

CREATE FUNCTION leadroute._check_score_column(attachment leadroute.lead_table, lead regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attribute pg_attribute;
    problem text;
BEGIN
    SELECT a.* INTO attribute FROM pg_attribute a
    WHERE a.attrelid = lead AND a.attname = attachment.score_column AND a.attnum > 0 AND NOT a.attisdropped;
    problem := CASE
        WHEN attachment.score_column IS NULL THEN NULL
        WHEN attribute.attname IS NULL THEN 'there is no such column'
        WHEN attribute.attgenerated <> '' THEN 'it is a generated column'
        WHEN (SELECT coalesce(nullif(t.typbasetype, 0), t.oid) FROM pg_type t WHERE t.oid = attribute.atttypid) NOT IN (
            'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype, 'float8'::regtype, 'numeric'::regtype)
            THEN format('it is of type %s', format_type(attribute.atttypid, attribute.atttypmod)) END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR003',
            MESSAGE = format('unsuitable score column "%s": %s', attachment.score_column, problem),
            DETAIL = format('Of the leads of "%s" that wait with the same priority the one with the highest score comes first.', attachment.name),
            HINT = 'Name an ordinary column of type smallint, integer, bigint, numeric, real or double precision.';
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._check_score_column(leadroute.lead_table, regclass) IS
    'Refuses (LR003) a score column that is not of a number type, or generated.';

CREATE FUNCTION leadroute._followed_score_column(lead regclass) RETURNS name
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT (leadroute._followed_columns(lead, 'leadroute.follow_score()'))[1] $$;
COMMENT ON FUNCTION leadroute._followed_score_column(regclass) IS
    'The column whose change the trigger sees, by its present name; NULL: there is no trigger.';

CREATE FUNCTION leadroute._create_score_trigger(attachment leadroute.lead_table, lead regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leadroute._check_score_column(attachment, lead);
    IF leadroute._followed_score_column(lead) IS NOT DISTINCT FROM attachment.score_column THEN
        RETURN;
    END IF;
    IF leadroute._followed_score_column(lead) IS NOT NULL THEN
        EXECUTE format('DROP TRIGGER zz_leadroute_score ON %s', lead);
    END IF;
    IF attachment.score_column IS NOT NULL THEN
        -- by name after zz_leadroute_decided and zz_leadroute_owner, which open episodes
        EXECUTE format('CREATE TRIGGER zz_leadroute_score AFTER UPDATE ON %s FOR EACH ROW
            WHEN (OLD.%2$I IS DISTINCT FROM NEW.%2$I) EXECUTE FUNCTION leadroute.follow_score(%3$L)',
            lead, attachment.score_column, attachment.id);
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._create_score_trigger(leadroute.lead_table, regclass) IS
    'Makes the trigger on the score column anew, if it stands on another.';

CREATE FUNCTION leadroute._score_changed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lead CONSTANT regclass := leadroute._lead_relation(NEW.id);
BEGIN
    -- a column that was renamed, or dropped with the trigger, is known already
    IF lead IS NULL OR leadroute._followed_score_column(lead) IS NOT DISTINCT FROM NEW.score_column THEN
        RETURN NULL;
    END IF;
    PERFORM leadroute._create_score_trigger(NEW, lead);
    EXECUTE format('UPDATE leadroute.assignment a SET score = %1$s FROM %2$s l
        WHERE a.tenant = %3$s AND a.lead_table = $1 AND a.lead_id = l.%4$I::text COLLATE "C" AND a.ended_at IS NULL
          AND (a.rep IS NULL AND a.method <> ''manual'' OR a.tank_pool IS NOT NULL) AND a.score IS DISTINCT FROM %1$s',
        leadroute._score_expression(NEW, 'l'), lead, leadroute._tenant_expression(NEW, 'l'), NEW.key_column)
    USING NEW.id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._score_changed() IS
    'Puts the trigger of a lead table onto another score column, and tells the record the scores of the leads that wait; takes a SHARE ROW EXCLUSIVE lock on the table, where it drops a trigger an ACCESS EXCLUSIVE one.';
CREATE TRIGGER score_changed AFTER UPDATE OF score_column ON leadroute.lead_table
    FOR EACH ROW WHEN (OLD.score_column IS DISTINCT FROM NEW.score_column)
    EXECUTE FUNCTION leadroute._score_changed();

CREATE FUNCTION leadroute._follow_score_column(attachment leadroute.lead_table, lead regclass) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE leadroute.lead_table t SET score_column = leadroute._followed_score_column(lead)
    WHERE t.id = attachment.id AND t.score_column <> coalesce(leadroute._followed_score_column(lead), '')
$$;
COMMENT ON FUNCTION leadroute._follow_score_column(leadroute.lead_table, regclass) IS
    'Notes the new name of a score column that was renamed, and goes on without one that was dropped.';
