-- DDL elsewhere that touches lead tables or rules: noticed at once, never made to fail.
--
-- The functions run with the rights of leadroute's owner, since whoever runs the DDL has none on its
-- tables; they run nothing of the user's but the parsing of conditions. Every error of theirs
-- becomes a warning.

CREATE FUNCTION leadroute._words_pattern(words text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '\m(' || string_agg(DISTINCT lower(w), '|') || ')\M' FROM regexp_split_to_table(words, '\W+') w
    WHERE w <> '' AND length(words) < 20000
$$;
COMMENT ON FUNCTION leadroute._words_pattern(text) IS
    'A regular expression for any of the words; NULL when there is none, or too many to be of use.';

CREATE FUNCTION leadroute._alert_broken_rules(attachment integer, pattern text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    suspect record;
    checked text;
    problem text;
BEGIN
    FOR suspect IN
        SELECT r.tenant, r.id, r.name, t.id AS lead_table, leadroute._lead_relation(t.id) AS lead,
            coalesce(p.manager, t.manager) AS manager,
            format('%s %L %L %L', t.id, r.condition, r.author, r.label) AS content
        FROM leadroute.rule r JOIN leadroute.lead_table t ON t.name = r.lead_table
            LEFT JOIN leadroute.pool p ON p.tenant = r.tenant AND p.name = r.pool
        WHERE r.active AND t.id = coalesce(attachment, t.id)
          AND (pattern IS NULL OR lower(concat(r.condition, ' ', r.label)) ~ pattern)
          AND NOT EXISTS (SELECT FROM leadroute.alert a WHERE a.tenant = r.tenant AND a.rule = r.id
              AND a.kind = 'rule_error' AND a.acknowledged_at IS NULL)
        ORDER BY t.id, r.position, content, r.tenant
    LOOP
        CONTINUE WHEN suspect.lead IS NULL;
        -- many tenants may have the same rule at the same position
        IF suspect.content IS DISTINCT FROM checked THEN
            problem := leadroute._rule_error(suspect.lead, suspect.lead_table, suspect.tenant, suspect.id);
            checked := suspect.content;
        END IF;
        CONTINUE WHEN problem IS NULL;
        INSERT INTO leadroute.alert (tenant, kind, lead_table, rule, manager, message)
        VALUES (suspect.tenant, 'rule_error', suspect.lead_table, suspect.id, suspect.manager,
            format('rule "%s" (%s) no longer works and is skipped: %s', suspect.name, suspect.id, problem));
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._alert_broken_rules(integer, text) IS
    'Raises an alert for each active rule, of one attachment or all, that no longer compiles and has no open alert; looks only at those that match the pattern, where one is given.';

CREATE FUNCTION leadroute._follow_columns(attachment leadroute.lead_table, lead regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_name name;
BEGIN
    -- The triggers depend on the key, owner and tenant columns whatever these are called. Only one
    -- can be renamed at a time: it is the one that has no known name.
    SELECT a.attname INTO new_name FROM pg_depend d
        JOIN pg_trigger t ON t.oid = d.objid AND t.tgrelid = lead AND t.tgname IN ('zz_leadroute_key', 'zz_leadroute_owner')
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_trigger'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = lead
      AND d.refobjsubid > 0
      AND a.attname NOT IN (attachment.key_column, attachment.owner_column, coalesce(attachment.tenant_column, ''));
    IF new_name IS NOT NULL THEN
        UPDATE leadroute.lead_table t SET
            key_column = CASE WHEN leadroute._has_column(lead, t.key_column) THEN t.key_column ELSE new_name END,
            owner_column = CASE WHEN leadroute._has_column(lead, t.owner_column) THEN t.owner_column ELSE new_name END,
            tenant_column = CASE WHEN t.tenant_column IS NULL OR leadroute._has_column(lead, t.tenant_column)
                THEN t.tenant_column ELSE new_name END
        WHERE t.id = attachment.id;
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._follow_columns(leadroute.lead_table, regclass) IS
    'Notes the new name of a key, owner or tenant column that was renamed.';

CREATE FUNCTION leadroute._has_column(relation regclass, column_name name) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped)
$$;
COMMENT ON FUNCTION leadroute._has_column(regclass, name) IS 'Whether the relation has a column of this name.';

CREATE FUNCTION leadroute._lead_table_altered(relation regclass, statement text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment leadroute.lead_table;
    lead regclass;
    -- The text is that of the client's statement: not at hand when a function altered the table.
    unknown CONSTANT boolean := statement !~* '\malter\M';
BEGIN
    SELECT t.* INTO attachment FROM leadroute.lead_table t WHERE t.id = leadroute._attachment(relation);
    lead := leadroute._lead_relation(attachment.id);
    IF lead IS NULL THEN
        RETURN;
    END IF;
    PERFORM leadroute._create_truncate_triggers(lead, attachment.id);
    IF unknown OR statement ~* '\mrename\M' THEN
        PERFORM leadroute._follow_columns(attachment, lead);
        PERFORM leadroute._follow_reroute_columns(attachment, lead);
        PERFORM leadroute._follow_score_column(attachment, lead);
    END IF;
    IF EXISTS (SELECT FROM pg_partitioned_table p WHERE p.partrelid = lead)
        AND (unknown OR statement ~* '\mdetach\M') THEN
        PERFORM leadroute._end_orphans(attachment, 'detached');
    END IF;
    -- The statement names the column that it renames or retypes; _after_drop() sees dropped ones.
    IF unknown THEN
        PERFORM leadroute._alert_broken_rules(attachment.id, NULL);
    ELSIF statement ~* '\m(rename|type)\M' THEN
        PERFORM leadroute._alert_broken_rules(attachment.id, leadroute._words_pattern(statement));
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._lead_table_altered(regclass, text) IS
    'What follows from an ALTER TABLE of a lead table, or from a new partition.';

CREATE FUNCTION leadroute._after_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    command record;
BEGIN
    IF TG_TAG = 'ALTER TABLE' AND EXISTS (
        SELECT FROM pg_event_trigger_ddl_commands() c WHERE c.schema_name = 'leadroute' AND NOT c.in_extension) THEN
        PERFORM leadroute._keep_always();
    END IF;
    IF NOT EXISTS (SELECT FROM leadroute.lead_table) THEN
        RETURN;
    END IF;
    BEGIN
        FOR command IN
            SELECT DISTINCT c.classid, c.objid, c.command_tag
            FROM pg_event_trigger_ddl_commands() c WHERE NOT c.in_extension
        LOOP
            IF command.classid = 'pg_class'::regclass THEN
                PERFORM leadroute._lead_table_altered(command.objid::regclass, current_query());
            ELSIF command.command_tag = 'CREATE FUNCTION' THEN
                PERFORM leadroute._alert_broken_rules(NULL, (
                    SELECT leadroute._words_pattern(p.proname) FROM pg_proc p WHERE p.oid = command.objid));
            ELSE
                PERFORM leadroute._alert_broken_rules(NULL, NULL);
            END IF;
        END LOOP;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'leadroute could not look at the effects of this %: %', TG_TAG, SQLERRM
            USING HINT = 'SELECT * FROM leadroute.verify() shows whether the record follows the leads.';
    END;
END
$$;
COMMENT ON FUNCTION leadroute._after_ddl() IS
    'Follows altered lead tables, and raises an alert for each rule that DDL broke.';
CREATE EVENT TRIGGER leadroute_after_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE',
        'ALTER TYPE', 'ALTER DOMAIN', 'ALTER OPERATOR', 'ALTER SCHEMA')
    EXECUTE FUNCTION leadroute._after_ddl();
COMMENT ON EVENT TRIGGER leadroute_after_ddl IS 'Follows altered lead tables; alerts rules that DDL broke.';

CREATE FUNCTION leadroute._remove_dropped() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment leadroute.lead_table;
    rules bigint;
BEGIN
    FOR attachment IN
        SELECT t.* FROM leadroute.lead_table t WHERE leadroute._lead_relation(t.id) IS NULL
    LOOP
        DELETE FROM leadroute.rule r WHERE r.lead_table = attachment.name;
        GET DIAGNOSTICS rules = ROW_COUNT;
        PERFORM leadroute._remove_attachment(attachment.id, 'dropped');
        RAISE NOTICE 'lead table "%" was dropped: its open episodes have ended, and its % rule(s) are deleted',
            attachment.name, rules;
    END LOOP;
    -- a partition takes only its own leads along
    FOR attachment IN
        SELECT t.* FROM leadroute.lead_table t
            JOIN pg_partitioned_table p ON p.partrelid = leadroute._lead_relation(t.id)
    LOOP
        PERFORM leadroute._end_orphans(attachment, 'dropped');
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._remove_dropped() IS
    'Ends the episodes of leads whose table or partition was dropped; removes the attachments that have no table.';

CREATE FUNCTION leadroute._after_drop() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text;
    nameless boolean;
    lead_tables bigint;
    lead_triggers bigint;
    stack text;
BEGIN
    IF NOT EXISTS (SELECT FROM leadroute.lead_table) THEN
        RETURN;
    END IF;
    BEGIN
        SELECT count(*) FILTER (WHERE NOT d.original), count(*) FILTER (WHERE d.original)
        INTO lead_tables, lead_triggers
        FROM pg_event_trigger_dropped_objects() d
        WHERE d.object_type = 'trigger' AND d.address_names[3] = 'zz_leadroute';
        GET DIAGNOSTICS stack = PG_CONTEXT;
        -- a trigger that is dropped itself takes those of the partitions along
        IF lead_triggers > 0 THEN
            IF strpos(stack, 'leadroute.detach(text)') = 0 THEN
                RAISE WARNING 'leads of this table are no longer routed'
                    USING HINT = 'leadroute.detach() stops routing in order.';
            END IF;
        ELSIF lead_tables > 0 THEN
            PERFORM leadroute._remove_dropped();
        END IF;

        PERFORM leadroute._follow_reroute_columns(t, leadroute._lead_relation(t.id)),
            leadroute._follow_score_column(t, leadroute._lead_relation(t.id))
        FROM leadroute.lead_table t
        WHERE (t.reroute_on IS NOT NULL OR t.score_column IS NOT NULL) AND EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d
            WHERE d.object_type = 'table column' AND d.objid = leadroute._lead_relation(t.id));

        SELECT string_agg(d.address_names[cardinality(d.address_names)], ' '), bool_or(d.object_type IN ('operator', 'cast'))
        INTO names, nameless FROM pg_event_trigger_dropped_objects() d
        WHERE d.object_type IN ('function', 'procedure', 'aggregate', 'operator', 'type', 'domain', 'table column',
            'collation', 'cast', 'text search configuration', 'schema');
        IF nameless THEN
            PERFORM leadroute._alert_broken_rules(NULL, NULL);
        ELSIF names <> '' THEN
            PERFORM leadroute._alert_broken_rules(NULL, leadroute._words_pattern(names));
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'leadroute could not look at the effects of this %: %', TG_TAG, SQLERRM
            USING HINT = 'SELECT * FROM leadroute.verify() shows whether the record follows the leads.';
    END;
END
$$;
COMMENT ON FUNCTION leadroute._after_drop() IS
    'Ends the episodes of dropped leads, and raises an alert for each rule that used what was dropped.';
CREATE EVENT TRIGGER leadroute_after_drop ON sql_drop EXECUTE FUNCTION leadroute._after_drop();
COMMENT ON EVENT TRIGGER leadroute_after_drop IS 'Follows dropped lead tables; alerts rules that used what was dropped.';
