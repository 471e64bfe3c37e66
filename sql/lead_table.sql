-- Lead tables: finding them, and what attach() checks.
--
-- An attachment is a row of lead_table and the triggers of one table, whose argument is the row's
-- id. Nothing keeps the table's OID, so a dump, a copy or a shard of the table is attached as its
-- triggers say.

CREATE FUNCTION leadroute._lead_relation(lead_table integer) RETURNS regclass
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.tgrelid::regclass FROM pg_trigger t
    WHERE t.tgfoid = 'leadroute.route_lead()'::regprocedure AND t.tgparentid = 0
      AND t.tgargs = convert_to(_lead_relation.lead_table::text, 'SQL_ASCII') || decode('00', 'hex')
    ORDER BY t.oid LIMIT 1
$$;
COMMENT ON FUNCTION leadroute._lead_relation(integer) IS
    'The relation of an attachment, found by its trigger; NULL when there is none.';

CREATE FUNCTION leadroute._attachment(lead regclass) RETURNS integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT split_part(encode(t.tgargs, 'escape'), '\', 1)::integer FROM pg_trigger t
    WHERE t.tgrelid = _attachment.lead AND t.tgfoid = 'leadroute.route_lead()'::regprocedure
    ORDER BY t.oid LIMIT 1
$$;
COMMENT ON FUNCTION leadroute._attachment(regclass) IS
    'lead_table.id of a relation or partition that carries the routing trigger, else NULL.';

CREATE FUNCTION leadroute._require_attached(name text) RETURNS leadroute.lead_table
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_row leadroute.lead_table;
BEGIN
    -- event_salt is for admins alone
    SELECT t.id, t.name, t.key_column, t.owner_column, t.tenant_column, t.fallback_pool, t.manager, t.sticky_on,
        t.sticky_window, t.reroute_on, t.location_column, t.score_column, t.value_expression, t.sla, t.notify_key, NULL, t.attached_at,
        t.version, t.changed_at, t.sticky_author, t.value_author
    INTO found_row FROM leadroute.lead_table t WHERE t.name = _require_attached.name;
    IF found_row.id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR002',
            MESSAGE = format('lead table "%s" is not attached', _require_attached.name),
            DETAIL = coalesce((SELECT 'Attached are: ' || string_agg(t.name, ', ' ORDER BY t.name) || '.'
                               FROM leadroute.lead_table t), 'No lead table is attached.'),
            HINT = 'Attach it with leadroute.attach(), or use the name that leadroute.lead_table shows.';
    END IF;
    RETURN found_row;
END
$$;
COMMENT ON FUNCTION leadroute._require_attached(text) IS
    'The attachment of this name, without its event_salt; raises LR002 when there is none.';

-- What attach() checks ------------------------------------------------------------------------

CREATE FUNCTION leadroute._check_relation(lead regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    class pg_class;
    problem text;
    advice text := 'Attach an ordinary or partitioned table.';
BEGIN
    SELECT c.* INTO class FROM pg_class c WHERE c.oid = lead;
    IF class.relkind IS DISTINCT FROM 'r' AND class.relkind IS DISTINCT FROM 'p' THEN
        problem := CASE class.relkind WHEN 'v' THEN 'it is a view' WHEN 'm' THEN 'it is a materialized view'
            WHEN 'f' THEN 'it is a foreign table' ELSE 'it is not a table' END;
    ELSIF class.relispartition THEN
        problem := 'it is a partition';
        advice := format('Attach the partitioned table %s: its triggers reach every partition.',
                         pg_partition_root(lead));
    ELSIF class.relpersistence = 't' THEN
        problem := 'it is a temporary table';
    ELSIF class.relnamespace IN ('pg_catalog'::regnamespace, 'leadroute'::regnamespace)
        OR class.relnamespace::regnamespace::text IN ('information_schema', 'pg_toast') THEN
        problem := 'it is a system table';
    ELSIF EXISTS (SELECT FROM pg_partition_tree(lead) p JOIN pg_class c ON c.oid = p.relid
                  WHERE c.relkind = 'f') THEN
        problem := 'it has a foreign partition';
        advice := 'Detach the foreign partition: its rows are committed elsewhere, before the record is.';
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR003',
            MESSAGE = format('cannot attach %s: %s', lead, problem),
            DETAIL = 'Leads are routed and recorded by row triggers, in the transaction that inserts them.',
            HINT = advice;
    END IF;
    IF class.relpersistence = 'u' THEN
        RAISE WARNING 'table % is unlogged: a crash empties it, and leaves its record behind', lead;
    END IF;
    IF class.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = lead) THEN
        RAISE WARNING 'table % has inheritance children: rows inserted into them are not routed', lead;
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._check_relation(regclass) IS
    'Refuses (LR003) a relation whose rows cannot be routed.';

CREATE FUNCTION leadroute._key_column(lead regclass, tenant_column name) RETURNS name
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_columns name[];
    key_types oid[];
    advice text := 'A lead table needs a primary key of one column, or of the tenant column and one column.';
BEGIN
    SELECT array_agg(a.attname ORDER BY a.attnum), array_agg(a.atttypid ORDER BY a.attnum)
    INTO key_columns, key_types
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indrelid = lead AND i.indisprimary
      AND (a.attname IS DISTINCT FROM tenant_column OR i.indnkeyatts = 1);
    IF key_columns IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR003',
            MESSAGE = format('cannot attach %s: it has no primary key', lead),
            DETAIL = 'The record refers to a lead by its primary key.', HINT = advice;
    ELSIF cardinality(key_columns) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'LR003',
            MESSAGE = format('cannot attach %s: its primary key has too many columns', lead),
            DETAIL = format('Besides the tenant column it consists of %s.', key_columns),
            HINT = advice || ' Name the tenant column with attach(..., tenant_column => ...).';
    ELSIF key_columns[1] = tenant_column THEN
        RAISE EXCEPTION USING ERRCODE = 'LR003',
            MESSAGE = format('cannot attach %s: its primary key is the tenant column alone', lead),
            DETAIL = 'The record refers to a lead by its primary key.', HINT = advice;
    ELSIF key_types[1] NOT IN ('int4'::regtype, 'int8'::regtype, 'uuid'::regtype, 'text'::regtype) THEN
        RAISE EXCEPTION USING ERRCODE = 'LR003',
            MESSAGE = format('cannot attach %s: its key is of type %s', lead, format_type(key_types[1], NULL)),
            DETAIL = format('The key column is %I.', key_columns[1]),
            HINT = 'The key''s type must be integer, bigint, uuid or text.';
    END IF;
    RETURN key_columns[1];
END
$$;
COMMENT ON FUNCTION leadroute._key_column(regclass, name) IS
    'The primary key''s column besides the tenant''s; raises LR003 when the key is unsuitable.';

CREATE FUNCTION leadroute._check_tenant_column(lead regclass, tenant_column name) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attribute pg_attribute;
    problem text;
BEGIN
    SELECT a.* INTO attribute FROM pg_attribute a
    WHERE a.attrelid = lead AND a.attname = tenant_column AND a.attnum > 0 AND NOT a.attisdropped;
    problem := CASE
        WHEN attribute.attname IS NULL THEN 'there is no such column'
        WHEN attribute.atttypid NOT IN ('int4'::regtype, 'int8'::regtype)
            THEN format('it is of type %s', format_type(attribute.atttypid, attribute.atttypmod))
        WHEN attribute.attgenerated <> '' THEN 'it is a generated column'
        WHEN NOT attribute.attnotnull THEN 'it may be NULL' END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR003',
            MESSAGE = format('cannot attach %s: unsuitable tenant column "%s": %s', lead, tenant_column, problem),
            DETAIL = 'Every lead belongs to one tenant.',
            HINT = 'The tenant column must be integer or bigint and NOT NULL.';
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._check_tenant_column(regclass, name) IS
    'Refuses (LR003) an unsuitable tenant column.';

CREATE FUNCTION leadroute._check_owner_column(lead regclass, owner_column name) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attribute pg_attribute;
    problem text;
BEGIN
    SELECT a.* INTO attribute FROM pg_attribute a
    WHERE a.attrelid = lead AND a.attname = owner_column AND a.attnum > 0 AND NOT a.attisdropped;
    problem := CASE
        WHEN attribute.attname IS NULL THEN 'there is no such column'
        WHEN attribute.atttypid NOT IN ('int4'::regtype, 'int8'::regtype, 'text'::regtype, 'uuid'::regtype)
            THEN format('it is of type %s', format_type(attribute.atttypid, attribute.atttypmod))
        WHEN attribute.attgenerated <> '' THEN 'it is a generated column'
        WHEN attribute.attidentity <> '' THEN 'it is an identity column'
        WHEN EXISTS (SELECT FROM pg_partition_tree(lead) p
                     JOIN pg_attribute l ON l.attrelid = p.relid AND l.attname = owner_column
                     WHERE l.atthasdef) OR attribute.atthasdef THEN 'it has a DEFAULT'
        WHEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = lead AND i.indisprimary
                     AND attribute.attnum = ANY (i.indkey)) THEN 'it is part of the primary key'
        WHEN EXISTS (SELECT FROM pg_partition_tree(lead) p
                     JOIN pg_attribute l ON l.attrelid = p.relid AND l.attname = owner_column
                     JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = l.attrelid
                         AND d.objsubid = l.attnum AND d.refclassid = 'pg_class'::regclass
                         AND d.refobjid = l.attrelid AND d.refobjsubid = 0 AND d.deptype = 'i'
                     WHERE NOT p.isleaf) THEN 'it is part of the partition key'
        WHEN attribute.attnotnull THEN 'it is NOT NULL' END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR003',
            MESSAGE = format('cannot attach %s: unsuitable owner column "%s": %s', lead, owner_column, problem),
            DETAIL = 'The owner column receives the rep''s id or ref, NULL means that the lead waits, and a value that the app gives is kept.',
            HINT = 'Name an integer, bigint, text or uuid column that may be NULL and has no default: attach(..., owner_column => ...).';
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._check_owner_column(regclass, name) IS
    'Refuses (LR003) an owner column that cannot hold an owner, or that would have one without anybody''s doing.';

CREATE FUNCTION leadroute._check_location_column(attachment leadroute.lead_table, lead regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attribute pg_attribute;
BEGIN
    SELECT a.* INTO attribute FROM pg_attribute a
    WHERE a.attrelid = lead AND a.attname = attachment.location_column AND a.attnum > 0 AND NOT a.attisdropped;
    IF attachment.location_column IS NOT NULL
        AND attribute.atttypid IS DISTINCT FROM 'point'::regtype THEN
        RAISE EXCEPTION USING ERRCODE = 'LR003',
            MESSAGE = format('unsuitable location column "%s": %s', attachment.location_column,
                CASE WHEN attribute.attname IS NULL THEN 'there is no such column'
                    ELSE format('it is of type %s', format_type(attribute.atttypid, attribute.atttypmod)) END),
            DETAIL = format('It says where a lead of "%s" is, for the method nearest.', attachment.name),
            HINT = 'Name a column of type point that holds (longitude, latitude) in degrees.';
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._check_location_column(leadroute.lead_table, regclass) IS
    'Refuses (LR003) a location column that is not of type point.';

CREATE FUNCTION leadroute._location_changed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lead CONSTANT regclass := leadroute._lead_relation(NEW.id);
BEGIN
    IF lead IS NOT NULL THEN
        PERFORM leadroute._check_location_column(NEW, lead);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._location_changed() IS 'Checks a changed location column.';
CREATE TRIGGER location_changed AFTER UPDATE OF location_column ON leadroute.lead_table
    FOR EACH ROW WHEN (OLD.location_column IS DISTINCT FROM NEW.location_column)
    EXECUTE FUNCTION leadroute._location_changed();

CREATE FUNCTION leadroute._report_owner_column(lead regclass, owner_column name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    finding record;
BEGIN
    FOR finding IN
        SELECT c.conname, pg_get_constraintdef(c.oid) AS definition
        FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
        WHERE c.conrelid = lead AND a.attname = owner_column AND c.contype IN ('f', 'c')
        ORDER BY c.conname
    LOOP
        RAISE NOTICE 'constraint "%" is on the owner column: %', finding.conname, finding.definition
            USING DETAIL = 'A rep that the constraint does not allow makes the insert of the lead fail.';
    END LOOP;
    FOR finding IN
        SELECT i.indexrelid::regclass AS index
        FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = lead AND a.attname = owner_column AND i.indisunique
    LOOP
        RAISE WARNING 'unique index % contains the owner column', finding.index
            USING DETAIL = 'A rep''s second lead may make the insert fail.';
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._report_owner_column(regclass, name) IS
    'Tells of constraints on the owner column that could make an insert fail.';
