-- attach(), detach() and create_lead_table(). The triggers of a lead table are made by SQL text, as a
-- DBA would.

CREATE FUNCTION leadroute._attachment_name(lead regclass, wanted text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    short_name text;
    long_name text;
BEGIN
    SELECT coalesce(wanted, c.relname), coalesce(wanted, n.nspname || '.' || c.relname)
    INTO short_name, long_name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = lead;
    IF NOT EXISTS (SELECT FROM leadroute.lead_table t WHERE t.name = short_name) THEN
        RETURN short_name;
    ELSIF NOT EXISTS (SELECT FROM leadroute.lead_table t WHERE t.name = long_name) THEN
        RETURN long_name;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LR005',
        MESSAGE = format('another lead table is attached as "%s"', long_name),
        DETAIL = 'Rules, functions and views tell lead tables apart by this name.',
        HINT = 'Give another one: attach(..., name => ...).';
END
$$;
COMMENT ON FUNCTION leadroute._attachment_name(regclass, text) IS
    'The name of a new attachment: the table''s, with its schema where that is taken.';

CREATE FUNCTION leadroute._create_triggers(lead regclass, attachment leadroute.lead_table) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- The columns stand in the WHENs, so that they cannot be dropped or change type unnoticed.
    key_changed text := format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', attachment.key_column)
        || CASE WHEN attachment.tenant_column IS NULL THEN ''
                ELSE format(' OR OLD.%1$I IS DISTINCT FROM NEW.%1$I', attachment.tenant_column) END;
    owner_changed text := format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', attachment.owner_column);
BEGIN
    -- Row triggers fire in the order of their names: ours see the row as it is stored.
    EXECUTE format('CREATE TRIGGER zz_leadroute BEFORE INSERT ON %s FOR EACH ROW
        EXECUTE FUNCTION leadroute.route_lead(%L)', lead, attachment.id);
    EXECUTE format('CREATE TRIGGER zz_leadroute_record AFTER INSERT ON %s FOR EACH ROW
        WHEN (leadroute._after_pending()) EXECUTE FUNCTION leadroute.record_lead(%L)', lead, attachment.id);
    EXECUTE format('CREATE TRIGGER zz_leadroute_key BEFORE UPDATE ON %s FOR EACH ROW
        WHEN (%s) EXECUTE FUNCTION leadroute.follow_key(%L)', lead, key_changed, attachment.id);
    EXECUTE format('CREATE TRIGGER zz_leadroute_owner AFTER UPDATE ON %s FOR EACH ROW
        WHEN ((%s) AND NOT (%s)) EXECUTE FUNCTION leadroute.follow_owner(%L)',
        lead, owner_changed, key_changed, attachment.id);
    EXECUTE format('CREATE TRIGGER zz_leadroute_delete AFTER DELETE ON %s FOR EACH ROW
        EXECUTE FUNCTION leadroute.follow_delete(%L)', lead, attachment.id);
    PERFORM leadroute._create_truncate_triggers(lead, attachment.id);
    PERFORM leadroute._create_reroute_triggers(attachment, lead);
    PERFORM leadroute._create_score_trigger(attachment, lead);
END
$$;
COMMENT ON FUNCTION leadroute._create_triggers(regclass, leadroute.lead_table) IS
    'Makes the triggers of an attachment.';

CREATE FUNCTION leadroute._create_truncate_triggers(lead regclass, attachment integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation regclass;
BEGIN
    FOR relation IN
        SELECT c.oid FROM pg_class c
        WHERE (c.oid = lead OR c.oid IN (SELECT p.relid FROM pg_partition_tree(lead) p))
          AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid
                          AND t.tgfoid = 'leadroute.follow_truncate()'::regprocedure)
        ORDER BY c.oid
    LOOP
        EXECUTE format('CREATE TRIGGER zz_leadroute_truncate AFTER TRUNCATE ON %s
            FOR EACH STATEMENT EXECUTE FUNCTION leadroute.follow_truncate(%L)', relation, attachment);
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._create_truncate_triggers(regclass, integer) IS
    'Makes the TRUNCATE trigger of the table and of each partition that has none: statement triggers are not inherited.';

CREATE FUNCTION leadroute._tenant_expression(attachment leadroute.lead_table, row_name text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN attachment.tenant_column IS NULL THEN '0::bigint'
        ELSE format('%s.%I::bigint', row_name, attachment.tenant_column) END
$$;
COMMENT ON FUNCTION leadroute._tenant_expression(leadroute.lead_table, text) IS
    'SQL for the tenant of a lead.';

CREATE FUNCTION leadroute._rep_expression(lead regclass, attachment leadroute.lead_table, row_name text)
    RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(CASE
            WHEN a.atttypid IN ('int4'::regtype, 'int8'::regtype) THEN '%2$s::bigint'
            WHEN a.atttypid = 'uuid'::regtype THEN '(SELECT min(r.id) FROM leadroute.rep r WHERE r.tenant = %1$s
                AND lower(translate(r.ref, ''{}-'', '''')) = replace(%2$s::text, ''-'', ''''))'
            ELSE '(SELECT r.id FROM leadroute.rep r WHERE r.tenant = %1$s AND r.ref = %2$s)' END,
        leadroute._tenant_expression(attachment, row_name), format('%s.%I', row_name, attachment.owner_column))
    FROM pg_attribute a WHERE a.attrelid = lead AND a.attname = attachment.owner_column
$$;
COMMENT ON FUNCTION leadroute._rep_expression(regclass, leadroute.lead_table, text) IS
    'SQL for the rep who owns a lead: an integer owner is the rep''s id, any other its ref.';

CREATE FUNCTION leadroute._adopt_leads(lead regclass, attachment leadroute.lead_table, existing text)
    RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lead_key CONSTANT text := format('%s, $1, l.%I::text',
        leadroute._tenant_expression(attachment, 'l'), attachment.key_column);
    from_leads CONSTANT text := format(' FROM %s l ', lead);
    has_owner CONSTANT text := format('l.%I IS NOT NULL', attachment.owner_column);
    contact CONSTANT text := CASE WHEN attachment.sticky_on IS NULL THEN ', NULL'
        ELSE format(', leadroute._contact(%L::regclass, l)', lead) END;
BEGIN
    IF existing = 'keep' THEN
        EXECUTE 'INSERT INTO leadroute.assignment (tenant, lead_table, lead_id, decided_at, rep, method, contact) SELECT '
            || lead_key || ', $2, ' || leadroute._rep_expression(lead, attachment, 'l') || ', ''manual''' || contact
            || from_leads || 'WHERE ' || has_owner USING attachment.id, attachment.attached_at;
    ELSE
        EXECUTE 'INSERT INTO leadroute.unmanaged_lead (tenant, lead_table, lead_id) SELECT ' || lead_key
            || from_leads || 'WHERE $2 = ''ignore'' OR ' || has_owner USING attachment.id, existing;
    END IF;
    IF existing <> 'ignore' THEN
        EXECUTE 'INSERT INTO leadroute.assignment (tenant, lead_table, lead_id, decided_at, pool, contact, score) SELECT ' || lead_key
            || ', $2, p.id' || contact || ', ' || leadroute._score_expression(attachment, 'l') || from_leads || 'LEFT JOIN leadroute.pool p ON p.name = $3 AND p.tenant = '
            || leadroute._tenant_expression(attachment, 'l') || ' WHERE NOT ' || has_owner
            USING attachment.id, attachment.attached_at, attachment.fallback_pool;
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._adopt_leads(regclass, leadroute.lead_table, text) IS
    'Gives the leads that are there their record: keep, queue or ignore. Kept owners count for no day. decided_at is attached_at, by which why() knows these leads.';

CREATE FUNCTION leadroute.attach(lead_table regclass, name text DEFAULT NULL,
    owner_column name DEFAULT 'owner_id', tenant_column name DEFAULT NULL,
    existing text DEFAULT NULL, fallback_pool text DEFAULT NULL, manager bigint DEFAULT NULL,
    sticky_on text DEFAULT NULL, sticky_window interval DEFAULT '90 days',
    reroute_on name[] DEFAULT NULL, location_column name DEFAULT NULL,
    value_expression text DEFAULT NULL, notify_key boolean DEFAULT true,
    score_column name DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    lead CONSTANT regclass := lead_table;
    has_rows boolean;
    attachment leadroute.lead_table;
    problem text[];
BEGIN
    IF existing NOT IN ('keep', 'queue', 'ignore') THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005',
            MESSAGE = format('existing => ''%s'' is not known', existing),
            DETAIL = 'It says what becomes of the leads that are in the table.',
            HINT = 'Use ''keep'', ''queue'' or ''ignore''.';
    END IF;
    PERFORM leadroute._check_relation(lead);
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', lead);
    IF leadroute._attachment(lead) IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR003',
            MESSAGE = format('cannot attach %s: it is attached already', lead),
            DETAIL = format('Its name is "%s".', (SELECT t.name FROM leadroute.lead_table t
                                                  WHERE t.id = leadroute._attachment(lead))),
            HINT = 'To change how, leadroute.detach() it first.';
    END IF;
    IF tenant_column IS NOT NULL THEN
        PERFORM leadroute._check_tenant_column(lead, tenant_column);
    END IF;
    PERFORM leadroute._key_column(lead, tenant_column);
    PERFORM leadroute._check_owner_column(lead, owner_column);
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', lead) INTO has_rows;
    IF has_rows AND existing IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005',
            MESSAGE = format('table %s is not empty: say what becomes of its rows', lead),
            DETAIL = 'attach() holds a SHARE ROW EXCLUSIVE lock on the table until the end of the transaction: reads go on, writes wait.',
            HINT = 'Give existing => ''keep'' (owners are recorded, the others wait in the fallback queue), ''queue'' (those without an owner wait) or ''ignore'' (all are left alone).';
    END IF;
    PERFORM leadroute._report_owner_column(lead, owner_column);

    INSERT INTO leadroute.lead_table AS t (name, key_column, owner_column, tenant_column, fallback_pool,
        manager, sticky_on, sticky_window, reroute_on, location_column, value_expression, notify_key, score_column)
    VALUES (leadroute._attachment_name(lead, name), leadroute._key_column(lead, tenant_column),
        owner_column, tenant_column, fallback_pool, manager, sticky_on, sticky_window, reroute_on,
        location_column, value_expression, notify_key, score_column)
    RETURNING t.* INTO attachment;
    PERFORM leadroute._check_reroute_columns(attachment, lead);
    PERFORM leadroute._check_location_column(attachment, lead);
    PERFORM leadroute._check_score_column(attachment, lead);
    IF sticky_on IS NOT NULL THEN
        PERFORM leadroute._check_sticky(lead, attachment.name, sticky_on, attachment.sticky_author);
    END IF;
    PERFORM leadroute._check_value(lead, attachment.name, attachment.value_expression, attachment.value_author);
    problem := leadroute._missing_fallback(attachment);
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    PERFORM leadroute._create_triggers(lead, attachment);
    IF has_rows THEN
        RAISE NOTICE 'reading the rows of % under a SHARE ROW EXCLUSIVE lock', lead
            USING DETAIL = 'Until the end of the transaction reads of the table go on and writes wait.';
        PERFORM leadroute._adopt_leads(lead, attachment, existing);
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute.attach(regclass, text, name, name, text, text, bigint, text, interval, name[], name, text, boolean, name) IS
    'From now on every lead inserted into the table gets its owner. Holds a SHARE ROW EXCLUSIVE lock on the table until the end of the transaction: reads go on, writes wait; with existing => keep, queue or ignore while it reads all rows.';

CREATE FUNCTION leadroute.detach(lead_table text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment CONSTANT leadroute.lead_table := leadroute._require_attached(detach.lead_table);
    lead CONSTANT regclass := leadroute._lead_relation(attachment.id);
    using_rules text;
    leadroute_trigger record;
BEGIN
    SELECT string_agg(format('"%s" (%s)', r.name, r.id), ', ' ORDER BY r.tenant, r.position) INTO using_rules
    FROM (SELECT * FROM leadroute.rule u WHERE u.lead_table = attachment.name LIMIT 10) r;
    IF using_rules IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR006',
            MESSAGE = format('lead table "%s" is in use', attachment.name),
            DETAIL = format('By rules %s.', using_rules),
            HINT = format('DELETE FROM leadroute.rule WHERE lead_table = %L first.', attachment.name);
    END IF;
    IF lead IS NOT NULL THEN
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', lead);
        FOR leadroute_trigger IN
            SELECT t.tgname, t.tgrelid::regclass AS relation FROM pg_trigger t
            JOIN pg_proc p ON p.oid = t.tgfoid
            WHERE (t.tgrelid = lead OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(lead) p))
              AND t.tgparentid = 0 AND p.pronamespace = 'leadroute'::regnamespace
        LOOP
            EXECUTE format('DROP TRIGGER %I ON %s', leadroute_trigger.tgname, leadroute_trigger.relation);
        END LOOP;
    END IF;
    PERFORM leadroute._remove_attachment(attachment.id, 'detached');
END
$$;
COMMENT ON FUNCTION leadroute.detach(text) IS
    'Stops routing the table''s leads: ends their open episodes with reason detached and removes the triggers, under an ACCESS EXCLUSIVE lock. The record stays. Refused while rules are for the table.';

CREATE FUNCTION leadroute._remove_attachment(attachment integer, reason text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leadroute.assignment a SET ended_at = clock_timestamp(), end_reason = reason,
        episode = greatest(a.episode, 1 + (SELECT max(e.episode) FROM leadroute.assignment e
            WHERE e.tenant = a.tenant AND e.lead_table = a.lead_table AND e.lead_id = a.lead_id
              AND e.ended_at IS NOT NULL))
    WHERE a.lead_table = attachment AND a.ended_at IS NULL;
    DELETE FROM leadroute.unmanaged_lead u WHERE u.lead_table = attachment;
    DELETE FROM leadroute.lead_table t WHERE t.id = attachment;
END
$$;
COMMENT ON FUNCTION leadroute._remove_attachment(integer, text) IS
    'Ends the open episodes of an attachment and deletes its row.';

CREATE FUNCTION leadroute.create_lead_table(name text, default_schema name DEFAULT current_schema())
    RETURNS regclass
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts CONSTANT text[] := parse_ident(create_lead_table.name);
    relation text;
BEGIN
    IF cardinality(parts) > 2 THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005',
            MESSAGE = format('"%s" is not a table name', create_lead_table.name),
            DETAIL = 'It has more than a schema and a name.',
            HINT = 'Give a name such as ''leads'' or ''public.leads''.';
    END IF;
    relation := CASE cardinality(parts)
        WHEN 2 THEN format('%I.%I', parts[1], parts[2])
        ELSE format('%I.%I', coalesce(default_schema, 'public'), parts[1]) END;
    IF to_regclass(relation) IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_table',
            MESSAGE = format('table %s exists already', create_lead_table.name),
            DETAIL = CASE WHEN leadroute._attachment(to_regclass(relation)) IS NULL THEN 'It is not a lead table.'
                ELSE 'It is attached: leads inserted into it are routed.' END,
            HINT = CASE WHEN leadroute._attachment(to_regclass(relation)) IS NULL
                THEN format('leadroute.attach(%L) attaches it; or give another name.', create_lead_table.name)
                ELSE 'Use it, or give another name.' END;
    END IF;
    EXECUTE format('CREATE TABLE %s (
        id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
        created_at timestamptz NOT NULL DEFAULT now(),
        source text, name text, email text, phone text,
        country text, region text, city text, postal_code text, location point,
        product text, deal_value numeric,
        industry text, company text, company_size integer, language text, score integer,
        attrs jsonb,
        owner_id bigint)', relation);
    PERFORM leadroute.attach(relation::regclass, score_column => 'score');
    RETURN relation::regclass;
END
$$;
COMMENT ON FUNCTION leadroute.create_lead_table(text, name) IS
    'Creates a table of leads, owned by the caller, and attaches it. A name without a schema is created where the caller''s search_path says.';
